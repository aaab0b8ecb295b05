//! What of the versions that events told of is kept: those of the days whose moments are kept.

use std::collections::BTreeMap;

use firebackup_model::Timestamp;
use firebackup_model::id::CaptureId;
use firebackup_model::reported::ReportedManifest;
use object_store::path::Path;

use crate::error::Result;
use crate::reported::{Reported, name_of, path_in};

/// Manifests of reported versions of all databases, parted by whether they are kept.
#[derive(Debug, Default)]
pub(crate) struct ReportedKept {
    pub(crate) kept: Vec<ReportedManifest>,
    /// Those whose last version is older, and those that another one is read in place of.
    pub(crate) dropped: Vec<Path>,
}

impl ReportedKept {
    /// Decides for all databases; what holds a version that came about at or behind `since` is kept, all of it.
    pub(crate) fn decide(all: BTreeMap<CaptureId, Reported>, since: Timestamp) -> Result<Self> {
        let mut decided = Self::default();
        for (capture, Reported { manifests, covered }) in all {
            decided.dropped.extend(covered);
            for manifest in manifests {
                match manifest.last < since {
                    true => decided.dropped.push(path_in(capture, &name_of(&manifest))?),
                    false => decided.kept.push(manifest),
                }
            }
        }
        Ok(decided)
    }
}
