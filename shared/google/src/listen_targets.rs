//! What a server says while it is listened to, as changes. Pure: a message and what is known of the targets.

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
            Ok(TargetChangeType::Current) => {
                self.each(&change.target_ids, |target| target.is_current = true)?;
                Ok(vec![Change::Alive])
            }
            Ok(TargetChangeType::NoChange) => Ok(vec![self.point(change)?]),
            Ok(TargetChangeType::Add) | Err(_) => Ok(vec![Change::Alive]),
        }
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
        if self.point.is_some_and(|last| read_time <= last) {
            return Err(LISTEN.corrupt("the server did not go forward in time"));
        }
        self.point = Some(read_time);
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
