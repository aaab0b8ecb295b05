//! What a server says while it is listened to, as changes. Pure: a message and what is known of the targets.

use std::cmp::Ordering;

use bytes::Bytes;
use firebackup_model::database::DatabaseName;
use firebackup_model::document::RawDocument;
use firebackup_model::error::{ErrorKind, PortError};
use firebackup_model::port::Change;
use firebackup_model::timestamp::Timestamp;
use gcloud_sdk::google::firestore::v1::target_change::TargetChangeType;
use tonic::{Code, Status};

use crate::listen::LISTEN;
use crate::proto::{self, DocumentChange, ExistenceFilter, ListenResponse, TargetChange, Told, from_proto};

/// The targets of a stream: one a collection group, numbered from 1.
#[derive(Debug)]
pub(crate) struct Targets {
    database: DatabaseName,
    targets: Vec<Target>,
    /// The last point that was said.
    point: Option<Timestamp>,
}

#[derive(Debug)]
struct Target {
    group: String,
    /// Whether it was complete once since the stream began, or since the server began it anew.
    is_current: bool,
}

impl Targets {
    /// Targets of which nothing was said yet.
    pub(crate) fn new(database: DatabaseName, groups: Vec<String>) -> Self {
        let targets = groups.into_iter().map(|group| Target { group, is_current: false }).collect();
        Self { database, targets, point: None }
    }

    /// What a response says: one change, or one for each group that it is about. An error ends the stream.
    pub(crate) fn told(&mut self, response: ListenResponse) -> Result<Vec<Change>, PortError> {
        let change = match response.told {
            Some(Told::TargetChange(change)) => return self.target_change(change),
            Some(Told::DocumentChange(change)) => put(change)?,
            Some(Told::DocumentDelete(delete)) => self.gone(&delete.document)?,
            Some(Told::DocumentRemove(remove)) => self.gone(&remove.document)?,
            Some(Told::Filter(filter)) => self.filter(&filter)?,
            None => Change::Alive,
        };
        Ok(vec![change])
    }

    fn target_change(&mut self, change: TargetChange) -> Result<Vec<Change>, PortError> {
        match TargetChangeType::try_from(change.target_change_type) {
            Ok(TargetChangeType::Remove) => Err(removed(change.cause)),
            Ok(TargetChangeType::Reset) => self.reset(&change.target_ids),
            Ok(TargetChangeType::Current) => self.current(&change.target_ids),
            Ok(TargetChangeType::NoChange) => Ok(vec![self.point(change)?]),
            Ok(TargetChangeType::Add) | Err(_) => Ok(vec![Change::Alive]),
        }
    }

    fn current(&mut self, ids: &[i32]) -> Result<Vec<Change>, PortError> {
        self.each(ids, |target| target.is_current = true)?;
        Ok(vec![Change::Alive])
    }

    fn reset(&mut self, ids: &[i32]) -> Result<Vec<Change>, PortError> {
        self.each(ids, |target| {
            target.is_current = false;
            Change::Reset { group: target.group.clone() }
        })
    }

    /// A read time without targets is one of the whole stream, and worth something once each target is complete.
    fn point(&mut self, change: TargetChange) -> Result<Change, PortError> {
        let of_all = change.read_time.filter(|_| change.target_ids.is_empty());
        let Some(read_time) = of_all.map(|time| from_proto(&time)).filter(|_| self.are_current()) else {
            return Ok(Change::Alive);
        };
        match self.point.map(|last| read_time.cmp(&last)) {
            Some(Ordering::Less) => return Err(LISTEN.corrupt("the server went back in time")),
            // it says nothing new; what came in between is of the next point
            Some(Ordering::Equal) => return Ok(Change::Alive),
            Some(Ordering::Greater) | None => self.point = Some(read_time),
        }
        let token = Some(change.resume_token).filter(|token| !token.is_empty()).map(Bytes::from);
        Ok(Change::Point { read_time, token })
    }

    fn are_current(&self) -> bool {
        self.targets.iter().all(|target| target.is_current)
    }

    fn gone(&self, name: &str) -> Result<Change, PortError> {
        let foreign = |source| LISTEN.corrupt("the server named no document of this database").with_source(source);
        self.database.path_of(name).map(Change::Gone).map_err(foreign)
    }

    fn filter(&mut self, filter: &ExistenceFilter) -> Result<Change, PortError> {
        let group = self.target(filter.target_id)?.group.clone();
        let documents =
            u64::try_from(filter.count).map_err(|_| LISTEN.corrupt("the server counted less than nothing"))?;
        Ok(Change::Filter { group, documents })
    }

    /// Of each target that the ids name; none named is all of them.
    fn each<A>(&mut self, ids: &[i32], mut of: impl FnMut(&mut Target) -> A) -> Result<Vec<A>, PortError> {
        if ids.is_empty() {
            return Ok(self.targets.iter_mut().map(of).collect());
        }
        ids.iter().map(|id| self.target(*id).map(&mut of)).collect()
    }

    fn target(&mut self, id: i32) -> Result<&mut Target, PortError> {
        let index = usize::try_from(id).ok().and_then(|id| id.checked_sub(1));
        index
            .and_then(|index| self.targets.get_mut(index))
            .ok_or_else(|| LISTEN.corrupt("the server spoke of a target that was not asked for"))
    }
}

/// The document as it was sent, whatever targets it is one of.
fn put(change: DocumentChange) -> Result<Change, PortError> {
    let document = change.document.ok_or_else(|| LISTEN.corrupt("the server told of a change without a document"))?;
    Ok(Change::Put(RawDocument(document)))
}

/// A target that the server removed, which nobody asked it to.
fn removed(cause: Option<proto::Status>) -> PortError {
    match cause {
        Some(cause) if cause.code != Code::Ok as i32 => {
            LISTEN.failed(Status::new(Code::from(cause.code), cause.message))
        }
        _ => PortError::new(ErrorKind::Unavailable, LISTEN.name, "the server removed a target without a reason"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::{DocumentDelete, DocumentRemove};

    fn targets() -> Targets {
        Targets::new(DatabaseName::new("p", "d"), ["orders", "users"].map(str::to_owned).into())
    }

    fn current() -> Targets {
        let mut targets = targets();
        check(&mut targets, change(TargetChangeType::Current, &[]), &[Change::Alive]);
        targets
    }

    fn change(of: TargetChangeType, target_ids: &[i32]) -> Told {
        let target_ids = target_ids.to_vec();
        Told::TargetChange(TargetChange { target_change_type: of as i32, target_ids, ..TargetChange::default() })
    }

    fn consistent(target_ids: &[i32], seconds: i64, token: &[u8]) -> Told {
        Told::TargetChange(TargetChange {
            target_ids: target_ids.to_vec(),
            resume_token: token.to_vec(),
            read_time: Some(prost_types::Timestamp { seconds, nanos: 0 }),
            ..TargetChange::default()
        })
    }

    fn point(seconds: i64, token: Option<&'static [u8]>) -> Change {
        Change::Point { read_time: Timestamp::new(seconds, 0), token: token.map(Bytes::from_static) }
    }

    fn reset(group: &str) -> Change {
        Change::Reset { group: group.to_owned() }
    }

    fn tell(targets: &mut Targets, told: Told) -> Result<Vec<Change>, PortError> {
        targets.told(ListenResponse { told: Some(told) })
    }

    #[track_caller]
    fn check(targets: &mut Targets, told: Told, expected: &[Change]) {
        assert_eq!(tell(targets, told).unwrap(), expected);
    }

    #[track_caller]
    fn check_corrupt(told: Told) {
        let shown = format!("{told:?}");
        assert_eq!(tell(&mut current(), told).unwrap_err().kind, ErrorKind::Corrupt, "{shown}");
    }

    #[test]
    fn a_read_time_is_a_point_only_for_all_targets_and_once_all_are_current() {
        let mut targets = targets();
        let early = consistent(&[], 1, b"t");
        check(&mut targets, early.clone(), &[Change::Alive]);
        check(&mut targets, change(TargetChangeType::Current, &[2]), &[Change::Alive]);
        check(&mut targets, early, &[Change::Alive]);
        check(&mut targets, change(TargetChangeType::Current, &[1]), &[Change::Alive]);
        check(&mut targets, consistent(&[1], 2, b"t"), &[Change::Alive]);
        check(&mut targets, change(TargetChangeType::NoChange, &[]), &[Change::Alive]);
        check(&mut targets, consistent(&[], 2, b"t"), &[point(2, Some(b"t"))]);
        check(&mut targets, consistent(&[], 3, b""), &[point(3, None)]);
    }

    #[test]
    fn several_may_become_current_by_one_message() {
        let mut targets = targets();
        check(&mut targets, change(TargetChangeType::Current, &[1, 2]), &[Change::Alive]);
        check(&mut targets, consistent(&[], 2, b""), &[point(2, None)]);
    }

    #[test]
    fn a_group_that_was_reset_is_not_current() {
        let mut targets = current();
        check(&mut targets, change(TargetChangeType::Reset, &[2]), &[reset("users")]);
        check(&mut targets, consistent(&[], 2, b"t"), &[Change::Alive]);
        check(&mut targets, change(TargetChangeType::Current, &[2]), &[Change::Alive]);
        check(&mut targets, consistent(&[], 3, b"t"), &[point(3, Some(b"t"))]);
        check(&mut targets, change(TargetChangeType::Reset, &[2, 1]), &[reset("users"), reset("orders")]);
        check(&mut targets, change(TargetChangeType::Reset, &[]), &[reset("orders"), reset("users")]);
    }

    #[test]
    fn points_grow_and_one_that_is_said_again_is_none() {
        let mut targets = current();
        check(&mut targets, consistent(&[], 2, b"t"), &[point(2, Some(b"t"))]);
        check(&mut targets, consistent(&[], 2, b"u"), &[Change::Alive]);
        assert_eq!(tell(&mut targets, consistent(&[], 1, b"t")).unwrap_err().kind, ErrorKind::Corrupt);
        check(&mut targets, consistent(&[], 3, b"t"), &[point(3, Some(b"t"))]);
    }

    #[test]
    fn whatever_removes_a_document_says_that_it_is_gone() {
        let document = "projects/p/databases/d/documents/users/a/orders/__id-7__".to_owned();
        let gone = [Change::Gone("users/a/orders/__id-7__".parse().unwrap())];
        check(&mut targets(), Told::DocumentDelete(DocumentDelete { document: document.clone() }), &gone);
        check(&mut targets(), Told::DocumentRemove(DocumentRemove { document }), &gone);
    }

    #[test]
    fn names_of_elsewhere_and_of_no_document_are_corrupt() {
        for name in
            ["", "projects/q/databases/d/documents/users/a", "projects/p/databases/d/documents/users", "users/a"]
        {
            check_corrupt(Told::DocumentDelete(DocumentDelete { document: name.to_owned() }));
            check_corrupt(Told::DocumentRemove(DocumentRemove { document: name.to_owned() }));
        }
        check_corrupt(Told::DocumentChange(DocumentChange { document: None }));
    }

    #[test]
    fn a_filter_is_of_its_group() {
        let filter = |target_id, count| Told::Filter(ExistenceFilter { target_id, count });
        let expected = |group: &str, documents| Change::Filter { group: group.to_owned(), documents };
        check(&mut targets(), filter(1, 0), &[expected("orders", 0)]);
        check(&mut targets(), filter(2, i32::MAX), &[expected("users", 2_147_483_647)]);
        check_corrupt(filter(1, -1));
    }

    #[test]
    fn targets_that_nobody_asked_for_are_corrupt() {
        for id in [0, 3, -1, i32::MIN, i32::MAX] {
            check_corrupt(Told::Filter(ExistenceFilter { target_id: id, count: 1 }));
            check_corrupt(change(TargetChangeType::Reset, &[1, id]));
            check_corrupt(change(TargetChangeType::Current, &[id]));
        }
    }

    #[test]
    fn a_removed_target_is_an_error_with_its_cause() {
        let removed = |cause| {
            let target_change_type = TargetChangeType::Remove as i32;
            let change = TargetChange { target_change_type, target_ids: vec![1], cause, ..TargetChange::default() };
            tell(&mut current(), Told::TargetChange(change)).unwrap_err()
        };
        let cause = |code| Some(proto::Status { code, message: "the snapshot is too old".to_owned() });
        assert_eq!(removed(cause(8)).kind, ErrorKind::ResourceExhausted);
        assert_eq!(removed(cause(9)).kind, ErrorKind::ReadTimeTooOld);
        assert_eq!(removed(cause(0)).kind, ErrorKind::Unavailable);
        assert_eq!(removed(cause(4711)).kind, ErrorKind::Unavailable);
        assert_eq!(removed(None).kind, ErrorKind::Unavailable);
        assert!(removed(cause(8)).to_string().contains("too old"));
    }

    #[test]
    fn everything_else_says_that_the_stream_lives() {
        assert_eq!(targets().told(ListenResponse::default()).unwrap(), [Change::Alive]);
        check(&mut targets(), change(TargetChangeType::Add, &[1, 99]), &[Change::Alive]);
        let unknown = TargetChange { target_change_type: 99, ..TargetChange::default() };
        check(&mut targets(), Told::TargetChange(unknown), &[Change::Alive]);
    }
}
