//! Finding out what can be done at a destination, before anything depends on it.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;

use bytes::Bytes;
use firebackup_model::{ErrorKind, PortError};
use futures::TryStreamExt;
use futures::future::join_all;
use object_store::path::Path;
use object_store::{Error, ObjectStore, ObjectStoreExt, PutMode};

use crate::error::port_error;

const CONTENT: &[u8] = b"a probe of firebackup; it can be deleted";
const RACERS: usize = 4;
/// What a service that knows uploads in parts may not know.
const NO_CONDITION: &str = "where it refuses to complete an upload only if there is no such object, set \
    AWS_CONDITIONAL_COMPLETE=none";

/// What can be done at a destination.
#[derive(Debug, Default)]
pub struct ProbeReport {
    /// Objects can be put.
    pub write: bool,
    /// A put that must not replace an object is refused when there is one, and of several at once one wins. Without it
    /// two jobs could overwrite each other's commit: a caller refuses such a destination.
    pub conditional_put: bool,
    /// Objects can be put in parts.
    pub multipart: bool,
    /// A completed upload in parts does not replace an object. Not needed, for what is put in parts has names of 128 random
    /// bits; it is what the policy of a bucket can demand.
    pub conditional_multipart: bool,
    /// Objects can be read, and are what was put.
    pub read: bool,
    /// A range of an object can be read.
    pub read_range: bool,
    /// Objects can be listed.
    pub list: bool,
    /// Objects can be deleted.
    pub delete: bool,
    /// Why something cannot be done, in the order in which it was found out.
    pub problems: Vec<PortError>,
}

impl ProbeReport {
    /// Names what is missing, as verb phrases; nothing when all is well.
    #[must_use]
    pub fn missing(&self) -> Vec<&'static str> {
        let abilities = [
            (self.write, "put objects"),
            (self.conditional_put, "put an object only if there is none (conditional put)"),
            (self.multipart, "put objects in parts (multipart upload)"),
            (self.read, "read objects"),
            (self.read_range, "read a range of an object"),
            (self.list, "list objects"),
            (self.delete, "delete objects under probes/, receipts/ and intents/"),
        ];
        abilities.iter().filter(|(can, _)| !can).map(|(_, what)| *what).collect()
    }

    /// Whether nothing is missing.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.missing().is_empty()
    }
}

/// Probes `store`, shown to people as `name`.
///
/// # Errors
/// As [`crate::Destination::probe`].
pub(crate) async fn run(store: &dyn ObjectStore, name: &str) -> Result<ProbeReport, PortError> {
    let folder = Path::from_iter(["probes", &fresh_name()]);
    let mut probe = Probe { store, name, folder, report: ProbeReport::default() };
    probe.write().await?;
    if probe.report.write {
        probe.conditional_put().await;
        probe.multipart().await;
        probe.read().await;
    }
    probe.list().await;
    if probe.report.write {
        probe.delete().await;
    }
    Ok(probe.report)
}

/// The name need only be new, and nothing secret rests on it: the keys of a hash map are random enough.
fn fresh_name() -> String {
    let half = || RandomState::new().hash_one(CONTENT);
    format!("{:016x}{:016x}", half(), half())
}

struct Probe<'a> {
    store: &'a dyn ObjectStore,
    name: &'a str,
    folder: Path,
    report: ProbeReport,
}

impl Probe<'_> {
    fn object(&self, name: &'static str) -> Path {
        self.folder.clone().join(name)
    }

    fn failure(&self, verb: &str, error: Error) -> PortError {
        port_error(format!("{verb} at {}", self.name), error)
    }

    /// Takes note of a failure; gives what there is otherwise.
    fn note<T>(&mut self, verb: &str, result: Result<T, Error>) -> Option<T> {
        result.map_err(|error| self.report.problems.push(self.failure(verb, error))).ok()
    }

    fn note_lie(&mut self, verb: &str, what: &str) {
        self.report.problems.push(PortError::new(ErrorKind::Corrupt, format!("{verb} at {}", self.name), what));
    }

    async fn write(&mut self) -> Result<(), PortError> {
        const VERB: &str = "put an object";
        let object = self.object("object");
        let mut result = self.create(&object).await;
        if let Err(error) = result {
            let error = self.failure("put an object only if there is none", error);
            if error.kind != ErrorKind::Unimplemented {
                return self.refuse(error);
            }
            self.report.problems.push(error);
            result = self.store.put(&object, Bytes::from_static(CONTENT).into()).await.map(|_| ());
        }
        match result {
            Ok(()) => self.report.write = true,
            Err(error) => return self.refuse(self.failure(VERB, error)),
        }
        Ok(())
    }

    /// A right that is missing belongs in the report; after most other failures there is nothing to report on.
    fn refuse(&mut self, error: PortError) -> Result<(), PortError> {
        if error.kind != ErrorKind::PermissionDenied {
            return Err(error);
        }
        self.report.problems.push(error);
        Ok(())
    }

    async fn create(&self, object: &Path) -> Result<(), Error> {
        let payload = Bytes::from_static(CONTENT).into();
        self.store.put_opts(object, payload, PutMode::Create.into()).await.map(|_| ())
    }

    async fn conditional_put(&mut self) {
        const VERB: &str = "put an object only if there is none";
        // the same bytes again, so that a store that does write them can still be read from
        match self.create(&self.object("object")).await {
            Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => {}
            Ok(()) => return self.note_lie(VERB, "the object was there, and was replaced"),
            Err(error) => return self.report.problems.push(self.failure(VERB, error)),
        }
        let race = self.object("race");
        let results = join_all((0..RACERS).map(|_| self.create(&race))).await;
        let winners = results.iter().filter(|result| result.is_ok()).count();
        for result in results {
            match result {
                Ok(()) | Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => {}
                Err(error) => return self.report.problems.push(self.failure(VERB, error)),
            }
        }
        match winners {
            1 => self.report.conditional_put = true,
            _ => self.note_lie(VERB, "of several writers at once, not exactly one was let through"),
        }
    }

    async fn multipart(&mut self) {
        const VERB: &str = "put an object in parts";
        let object = self.object("parts");
        let uploaded = self.upload(&object).await;
        if let Err(error) = uploaded {
            let mut failure = self.failure(VERB, error);
            if failure.kind == ErrorKind::Unimplemented {
                let message = format!("{}; {NO_CONDITION}", failure.message());
                failure = PortError::new(failure.kind, format!("{VERB} at {}", self.name), message);
            }
            return self.report.problems.push(failure);
        }
        match self.store.head(&object).await {
            Ok(meta) if meta.size == CONTENT.len() as u64 => {
                self.report.multipart = true;
                // the same bytes again, so that a store that does write them can still be read from
                let again = self.upload(&object).await;
                self.report.conditional_multipart = matches!(again, Err(Error::AlreadyExists { .. }));
            }
            Ok(_) => self.note_lie(VERB, "the object does not have the size of its parts"),
            Err(error) => self.report.problems.push(self.failure(VERB, error)),
        }
    }

    async fn upload(&self, object: &Path) -> Result<(), Error> {
        let mut upload = self.store.put_multipart(object).await?;
        let put = upload.put_part(Bytes::from_static(CONTENT).into()).await;
        let result = match put {
            Ok(()) => upload.complete().await.map(|_| ()),
            Err(error) => Err(error),
        };
        if result.is_err() {
            // best effort: what failed is told by the result
            let _ = upload.abort().await;
        }
        result
    }

    async fn read(&mut self) {
        let object = self.object("object");
        let whole = async { self.store.get(&object).await?.bytes().await }.await;
        if let Some(bytes) = self.note("read an object", whole) {
            self.report.read = bytes == CONTENT;
            if !self.report.read {
                self.note_lie("read an object", "it is not what was put");
            }
        }
        let range = self.store.get_range(&object, 2..7).await;
        if let Some(bytes) = self.note("read a range of an object", range) {
            self.report.read_range = bytes == CONTENT[2..7];
            if !self.report.read_range {
                self.note_lie("read a range of an object", "it is not what was put there");
            }
        }
    }

    async fn list(&mut self) {
        let listed = self.store.list(Some(&self.folder)).try_collect::<Vec<_>>().await;
        let Some(listed) = self.note("list objects", listed) else { return };
        let object = self.object("object");
        let found = listed.iter().any(|meta| meta.location == object && meta.size == CONTENT.len() as u64);
        self.report.list = found || !self.report.write;
        if !self.report.list {
            self.note_lie("list objects", "an object that was put is not listed");
        }
    }

    async fn delete(&mut self) {
        const VERB: &str = "delete an object";
        for name in ["race", "parts", "object"] {
            match self.store.delete(&self.object(name)).await {
                Ok(()) | Err(Error::NotFound { .. }) => {}
                Err(error) => return self.report.problems.push(self.failure(VERB, error)),
            }
        }
        match self.store.head(&self.object("object")).await {
            Err(Error::NotFound { .. }) => self.report.delete = true,
            Ok(_) => self.note_lie(VERB, "it is still there"),
            // without the right to read there is no way to see it, and the store said that it is gone
            Err(Error::PermissionDenied { .. }) => self.report.delete = true,
            Err(error) => self.report.problems.push(self.failure(VERB, error)),
        }
    }
}
