//! What a stream of changes has said and no segment holds yet.

use std::collections::BTreeMap;

use bytes::Bytes;
use firebackup_codec::record::{Origin, RecordRef};
use firebackup_model::{DocumentPath, Timestamp, document};

use crate::error::{EngineError, Result};
use crate::run_upload::RunUpload;

/// What a document was from a point on; nothing when it was gone.
#[derive(Debug, Clone)]
struct Version {
    point: Timestamp,
    body: Option<Bytes>,
}

/// Changes that belong to points, and those since the last one that do not yet.
#[derive(Debug, Default)]
pub(crate) struct Buffer {
    /// By path, and of each path by point.
    versions: BTreeMap<DocumentPath, Vec<Version>>,
    /// Since the last point.
    pending: BTreeMap<DocumentPath, Option<Bytes>>,
    points: Vec<Timestamp>,
    /// The last point, when nothing had changed at it.
    quiet: Option<Timestamp>,
    /// What to go on from behind the last point.
    token: Option<Bytes>,
    /// How many documents of a group the server counts at the next point.
    filters: BTreeMap<String, u64>,
    bytes: usize,
    pending_bytes: usize,
}

impl Buffer {
    /// Takes a change; nothing for a document that is gone. The bytes are copied: they may pin a receive buffer.
    pub(crate) fn take(&mut self, path: DocumentPath, body: Option<&[u8]>) {
        self.pending_bytes += path.as_str().len() + body.map_or(0, <[u8]>::len);
        self.pending.insert(path, body.map(Bytes::copy_from_slice));
    }

    /// Whatever was taken belongs to this point. Returns what changed at it.
    pub(crate) fn point(&mut self, point: Timestamp, token: Option<Bytes>) -> Vec<(DocumentPath, Option<Bytes>)> {
        self.token = token;
        let pending = std::mem::take(&mut self.pending);
        let mut changes = Vec::new();
        for (path, body) in pending {
            let versions = self.versions.entry(path.clone()).or_default();
            // said again after a stream broke
            if versions.last().is_none_or(|version| version.body != body) {
                versions.push(Version { point, body: body.clone() });
                changes.push((path, body));
            }
        }
        self.bytes += std::mem::take(&mut self.pending_bytes);
        match changes.is_empty() {
            true => self.quiet = Some(point),
            false => {
                self.points.extend(self.quiet.take());
                self.points.push(point);
            }
        }
        changes
    }

    /// What a document was found to have been at points, ascending: of a group that was not listened to.
    pub(crate) fn add(&mut self, path: DocumentPath, found: impl IntoIterator<Item = (Timestamp, Option<Bytes>)>) {
        let found = found.into_iter().map(|(point, body)| Version { point, body });
        self.versions.entry(path).or_default().extend(found);
    }

    /// Takes what the server counts of a group at the next point.
    pub(crate) fn filter(&mut self, group: String, documents: u64) {
        self.filters.insert(group, documents);
    }

    /// What the server counted at the last point.
    pub(crate) fn take_filters(&mut self) -> BTreeMap<String, u64> {
        std::mem::take(&mut self.filters)
    }

    /// Forgets what belongs to no point yet: the stream that said it says it again when it is resumed.
    pub(crate) fn forget_pending(&mut self) {
        self.pending.clear();
        self.filters.clear();
        self.pending_bytes = 0;
    }

    /// The points, ascending; the last is where the next segment begins.
    pub(crate) fn points(&self) -> Vec<Timestamp> {
        self.points.iter().copied().chain(self.quiet).collect()
    }

    pub(crate) fn last_point(&self) -> Option<Timestamp> {
        self.quiet.or_else(|| self.points.last().copied())
    }

    pub(crate) const fn token(&self) -> Option<&Bytes> {
        self.token.as_ref()
    }

    /// Whether any change belongs to a point.
    pub(crate) fn has_changes(&self) -> bool {
        !self.versions.is_empty()
    }

    /// Bytes of what belongs to points.
    pub(crate) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Bytes of what belongs to no point yet.
    pub(crate) const fn pending_bytes(&self) -> usize {
        self.pending_bytes
    }

    /// Writes all changes into a run, in order.
    pub(crate) async fn write(&self, run: &mut RunUpload) -> Result<()> {
        for (path, versions) in &self.versions {
            for version in versions {
                run.push(&record(path, version)?).await?;
            }
        }
        Ok(())
    }

    /// Leaves out what a segment holds now.
    pub(crate) fn sealed(&mut self) {
        self.versions.clear();
        self.points.clear();
        (self.quiet, self.bytes) = (None, 0);
    }
}

fn record<'v>(path: &'v DocumentPath, version: &'v Version) -> Result<RecordRef<'v>> {
    let update_time = match &version.body {
        None => None,
        Some(body) => {
            let head = document::head(body);
            let named = |source| EngineError::Document { path: Some(path.to_string()), source };
            head.map_err(named)?.update_time
        }
    };
    Ok(RecordRef {
        path: path.as_str(),
        body: version.body.as_deref(),
        origin: Origin::Pull,
        update_time,
        commit_time: None,
        point: Some(version.point),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> DocumentPath {
        DocumentPath::new(text).unwrap()
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::new(second, 0)
    }

    #[test]
    fn what_changed_between_two_points_belongs_to_the_second() {
        let mut buffer = Buffer::default();
        buffer.take(path("a/1"), Some(b"x"));
        buffer.take(path("a/1"), Some(b"y"));
        assert!(!buffer.has_changes() && buffer.last_point().is_none());
        assert_eq!(buffer.point(at(1), None), [(path("a/1"), Some(Bytes::from("y")))]);
        assert_eq!(buffer.versions[&path("a/1")].len(), 1);
        assert_eq!(buffer.points(), [at(1)]);
    }

    #[test]
    fn of_quiet_points_the_last_before_a_change_and_the_last_of_all_are_kept() {
        let mut buffer = Buffer::default();
        for second in 1..4 {
            assert!(buffer.point(at(second), None).is_empty());
        }
        assert_eq!(buffer.points(), [at(3)]);
        buffer.take(path("a/1"), None);
        buffer.point(at(4), None);
        buffer.point(at(5), Some(Bytes::from("t")));
        buffer.point(at(6), Some(Bytes::from("u")));
        assert_eq!((buffer.points(), buffer.token()), (vec![at(3), at(4), at(6)], Some(&Bytes::from("u"))));
    }

    #[test]
    fn what_is_said_again_is_no_change_and_what_belongs_to_no_point_can_be_forgotten() {
        let mut buffer = Buffer::default();
        buffer.take(path("a/1"), Some(b"x"));
        buffer.point(at(1), None);
        buffer.take(path("a/1"), Some(b"x"));
        buffer.take(path("a/2"), Some(b"x"));
        buffer.forget_pending();
        assert_eq!(buffer.pending_bytes(), 0);
        buffer.take(path("a/1"), Some(b"x"));
        assert!(buffer.point(at(2), None).is_empty());
        assert_eq!(buffer.points(), [at(1), at(2)]);
        buffer.sealed();
        assert!(buffer.points().is_empty() && !buffer.has_changes());
    }
}
