//! What a restore costs at Firestore, counted in what Firestore bills. Prices differ by region and contract: they are for
//! whoever reads the bill.

use firebackup_model::job::RestoreMode;

use crate::restore::DryRun;

/// Operations of a restore that Firestore bills, as a dry run foresees them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub struct RestoreBill {
    /// Document reads. A look at a document that is not there is one, too.
    pub reads: u64,
    /// Document writes.
    pub writes: u64,
    /// Document deletes.
    pub deletes: u64,
}

impl DryRun {
    /// What the restore costs that is given this dry run's guard, if nothing is edited until then and no request has to be
    /// sent again. It reads each document before it writes it, to keep it for undo and to see what was edited; those that
    /// are not there once more, as of the guard; and for a mirror all that the target holds of the selection.
    #[must_use]
    pub fn bill(&self, mode: RestoreMode) -> RestoreBill {
        let totals = self.difference.totals;
        let there = totals.updated + totals.deleted + totals.same;
        let mirrored = if mode == RestoreMode::Mirror { there } else { 0 };
        RestoreBill {
            reads: there + 2 * totals.created + mirrored,
            writes: totals.created + totals.updated,
            deletes: totals.deleted,
        }
    }
}
