//! Where things stand in a repository. Every object name in the product is made here.

use firebackup_model::Timestamp;
use firebackup_model::id::{CaptureId, JobId, KeyId, ReportId, RunId, SnapshotId, WrapId};
use object_store::path::Path;

/// The folders of a repository.
pub const FOLDERS: &[&str] =
    &["keys", "runs", "snapshots", "segments", "reported", "receipts", "intents", "prunes", "drills", "probes"];

/// The repository's own description, in the clear.
#[must_use]
pub fn config() -> Path {
    Path::from("firebackup.json")
}

/// All wraps of a key.
#[must_use]
pub fn key(key: KeyId) -> Path {
    Path::from(format!("keys/{key}"))
}

/// One wrap of a key.
#[must_use]
pub fn wrap(key: KeyId, wrap: WrapId) -> Path {
    Path::from(format!("keys/{key}/{wrap}.json"))
}

/// A run.
#[must_use]
pub fn run(run: RunId) -> Path {
    let id = run.to_string();
    Path::from(format!("runs/{}/{id}.run", &id[..2]))
}

/// The run's id, when the name is a run's.
#[must_use]
pub fn run_of(path: &Path) -> Option<RunId> {
    path.filename()?.strip_suffix(".run")?.parse().ok()
}

/// A snapshot's manifest.
#[must_use]
pub fn manifest(snapshot: &SnapshotId) -> Path {
    Path::from(format!("snapshots/{snapshot}.manifest"))
}

/// The snapshot's id, when the name is a manifest's.
#[must_use]
pub fn snapshot_of(path: &Path) -> Option<SnapshotId> {
    path.filename()?.strip_suffix(".manifest")?.parse().ok()
}

/// All segments of what is captured.
#[must_use]
pub fn segments(capture: CaptureId) -> Path {
    Path::from(format!("segments/{capture}"))
}

/// The segment that begins at `after`; nothing for a moment that Firestore does not have.
#[must_use]
pub fn segment(capture: CaptureId, after: Timestamp) -> Option<Path> {
    Some(Path::from(format!("segments/{capture}/{}.manifest", after.as_name()?)))
}

/// The segment that is read in the place of all from `after` to `end`.
#[must_use]
pub fn compacted(capture: CaptureId, after: Timestamp, end: Timestamp) -> Option<Path> {
    Some(Path::from(format!("segments/{capture}/{}_{}.manifest", after.as_name()?, end.as_name()?)))
}

/// What is captured, where the segment begins, and where a compacted one ends, when the name is a segment's.
#[must_use]
pub fn segment_of(path: &Path) -> Option<(CaptureId, Timestamp, Option<Timestamp>)> {
    let mut parts = path.parts().skip(1);
    let capture = parts.next()?.as_ref().parse().ok()?;
    let name = parts.next()?;
    let name = name.as_ref().strip_suffix(".manifest")?;
    match name.split_once('_') {
        None => Some((capture, Timestamp::from_name(name)?, None)),
        Some((after, end)) => Some((capture, Timestamp::from_name(after)?, Some(Timestamp::from_name(end)?))),
    }
}

/// All versions of a database that events told of.
#[must_use]
pub fn all_reported(capture: CaptureId) -> Path {
    Path::from(format!("reported/{capture}"))
}

/// Versions that events told of, from the first of them to the last; nothing for moments that Firestore does not have.
#[must_use]
pub fn reported(capture: CaptureId, name: &ReportName) -> Option<Path> {
    let ReportName { first, last, level, id } = name;
    let (first, last) = (first.as_name()?, last.as_name()?);
    Some(Path::from(format!("reported/{capture}/{first}_{last}_{level}_{id}.manifest")))
}

/// Of which database versions are, and what else their manifest's name says, when it is such a name.
#[must_use]
pub fn reported_of(path: &Path) -> Option<(CaptureId, ReportName)> {
    let mut parts = path.parts().skip(1);
    let capture = parts.next()?.as_ref().parse().ok()?;
    let name = parts.next()?;
    let mut fields = name.as_ref().strip_suffix(".manifest")?.split('_');
    let (first, last) = (Timestamp::from_name(fields.next()?)?, Timestamp::from_name(fields.next()?)?);
    let name = ReportName { first, last, level: fields.next()?.parse().ok()?, id: fields.next()?.parse().ok()? };
    (reported(capture, &name).as_ref() == Some(path)).then_some((capture, name))
}

/// What the name of a manifest of reported versions says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ReportName {
    /// When the first of its versions came about.
    pub first: Timestamp,
    /// When the last did.
    pub last: Timestamp,
    /// How often they were merged.
    pub level: u32,
    /// What they were made from.
    pub id: ReportId,
}

/// That a drill began.
#[must_use]
pub fn drill_begun(drill: &JobId) -> Path {
    Path::from(format!("drills/{drill}/begun"))
}

/// What a drill found.
#[must_use]
pub fn drill_report(drill: &JobId) -> Path {
    Path::from(format!("drills/{drill}/report"))
}

/// All receipts of a job.
#[must_use]
pub fn receipts(job: &JobId) -> Path {
    Path::from(format!("receipts/{job}"))
}

/// A job's plan.
#[must_use]
pub fn plan(job: &JobId) -> Path {
    Path::from(format!("receipts/{job}/plan"))
}

/// All receipts of a chunk.
#[must_use]
pub fn chunk_receipts(job: &JobId, chunk: u32) -> Path {
    Path::from(format!("receipts/{job}/{chunk}"))
}

/// A receipt of a chunk's step.
#[must_use]
pub fn receipt(job: &JobId, chunk: u32, sequence: u32) -> Path {
    Path::from(format!("receipts/{job}/{chunk}/{sequence}"))
}

/// The receipt of a backup's Auth users.
#[must_use]
pub fn users_receipt(job: &JobId) -> Path {
    Path::from(format!("receipts/{job}/users/0"))
}

/// All undo receipts of a restore.
#[must_use]
pub fn undo_receipts(job: &JobId) -> Path {
    Path::from(format!("receipts/{job}/undo"))
}

/// An undo receipt of a restore.
#[must_use]
pub fn undo_receipt(job: &JobId, sequence: u32) -> Path {
    Path::from(format!("receipts/{job}/undo/{sequence:08}"))
}

/// All marks of how far a restore came.
#[must_use]
pub fn restore_marks(job: &JobId) -> Path {
    Path::from(format!("receipts/{job}/progress"))
}

/// A mark of how far a restore came.
#[must_use]
pub fn restore_mark(job: &JobId, sequence: u32) -> Path {
    Path::from(format!("receipts/{job}/progress/{sequence:08}"))
}

/// A receipt of a step of a part of a restore.
#[must_use]
pub fn part_receipt(job: &JobId, part: u32, sequence: u32) -> Path {
    Path::from(format!("receipts/{job}/parts/{part}/{sequence}"))
}

/// What a running job relies on.
#[must_use]
pub fn intent(job: &JobId) -> Path {
    Path::from(format!("intents/{job}"))
}

/// What a prune has marked.
#[must_use]
pub fn prune_mark(prune: &JobId) -> Path {
    Path::from(format!("prunes/{prune}"))
}

/// The job that a receipt, intent or prune mark belongs to.
#[must_use]
pub fn job_of(path: &Path) -> Option<JobId> {
    path.parts().nth(1)?.as_ref().parse().ok()
}

/// The key that a wrap belongs to.
#[must_use]
pub fn key_of(path: &Path) -> Option<KeyId> {
    path.parts().nth(1)?.as_ref().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use firebackup_model::id::JobKind;

    #[test]
    fn names_and_what_they_name_are_inverse() {
        let job = JobId::new(JobKind::Backup, 1, [7; 10]);
        let id = RunId([0xab; 16]);
        assert_eq!(run(id).as_ref(), format!("runs/ab/{id}.run"));
        assert_eq!(run_of(&run(id)), Some(id));
        assert_eq!(snapshot_of(&manifest(&job)), Some(job.clone()));
        assert_eq!(job_of(&receipt(&job, 3, 4)), Some(job.clone()));
        assert_eq!(job_of(&intent(&job)), Some(job.clone()));
        assert_eq!(key_of(&wrap(KeyId([1; 16]), WrapId([2; 16]))), Some(KeyId([1; 16])));
        assert_eq!(run_of(&config()), None);
        let (capture, point) = (CaptureId([3; 16]), Timestamp::new(1_795_976_453, 178_853_000));
        let path = segment(capture, point).unwrap();
        assert_eq!(path.as_ref(), format!("segments/{capture}/2026-11-29T18-20-53.178853000Z.manifest"));
        assert_eq!(segment_of(&path), Some((capture, point, None)));
        let end = point.plus_seconds(60);
        let path = compacted(capture, point, end).unwrap();
        assert_eq!(segment_of(&path), Some((capture, point, Some(end))));
        assert_eq!(segment_of(&manifest(&job)), None);
        let name = ReportName { first: point, last: end, level: 3, id: ReportId([4; 16]) };
        let path = reported(capture, &name).unwrap();
        assert!(path.as_ref().ends_with(&format!("_2026-11-29T18-21-53.178853000Z_3_{}.manifest", name.id)), "{path}");
        assert_eq!(reported_of(&path), Some((capture, name)));
        assert_eq!(reported_of(&segment(capture, point).unwrap()), None);
        let longer = Path::from(path.as_ref().replace(".manifest", "_1.manifest"));
        assert_eq!(reported_of(&longer), None);
    }
}
