//! A look at projects and destinations before records are made of them.

use std::time::Duration;

use async_trait::async_trait;
use firebackup_aws::BucketReport;
use firebackup_control::{
    CollectionFacts, CollectionFindings, ControlError, DELETE_DOCUMENTS, DatabaseEdition, DatabaseFacts, DatabaseType,
    DestinationAccess, DestinationFindings, Probes, ProjectAccess, ProjectFindings, READ_DOCUMENTS, asked_permissions,
};
use firebackup_google::{self as google, Collection, Firestore};
use firebackup_model::database::DEFAULT_DATABASE;
use firebackup_model::path::PROBE_COLLECTION;
use firebackup_model::port::DocumentSource;
use firebackup_model::{ErrorKind, PathRange, PortError, Timestamp};
use firebackup_storage::{Destination, DestinationKind};

use crate::absent::Absent;
use crate::buckets::bucket_of;
use crate::places::Places;
use crate::projects::Projects;

/// For how long documents are counted: API Gateway gives a request 29 seconds in all.
const COUNTING: Duration = Duration::from_secs(15);

/// For how long IAM is asked.
const ASKING: Duration = Duration::from_secs(10);

/// Looks at the real world.
#[derive(Clone)]
pub struct WorldProbes {
    destinations: DestinationProbes,
    projects: Projects,
}

/// Looks at destinations only: for those who never connect a project, and so need no client of Google's.
#[derive(Clone)]
pub struct DestinationProbes {
    places: Places,
}

impl WorldProbes {
    /// Looks with these.
    #[must_use]
    pub const fn new(places: Places, projects: Projects) -> Self {
        Self { destinations: DestinationProbes::new(places), projects }
    }
}

impl DestinationProbes {
    /// Looks with these.
    #[must_use]
    pub const fn new(places: Places) -> Self {
        Self { places }
    }
}

/// Says in the log where a database does not count documents of all collections together, which proofs of captured changes
/// would: they read names instead.
async fn note_counts(source: &dyn DocumentSource, now: Timestamp) {
    let Ok(little) = PathRange::collection(PROBE_COLLECTION) else { return };
    if let Ok(Err(error)) = tokio::time::timeout(ASKING, source.count(&little, now)).await
        && error.kind.is_refusal_of_query()
    {
        tracing::warn!(
            database = %source.database(), error = %error,
            "a database does not count all collections together: proofs of captured changes will read names"
        );
    }
}

/// The databases of a project. Those of an emulator nobody lists, nor does whoever may not: then there is the first one, if it
/// answers.
async fn listed(firestore: &Firestore) -> Result<ProjectFindings, ControlError> {
    let mut findings = ProjectFindings::default();
    match firestore.databases().await {
        Ok(found) => {
            findings.facts = found.into_iter().map(facts).collect();
            findings.databases = findings.facts.iter().map(|facts| facts.id.clone()).collect();
        }
        // no job needs to list them
        Err(error) if matches!(error.kind, ErrorKind::Unimplemented | ErrorKind::PermissionDenied) => {
            tracing::info!(error = %error, "the databases of a project cannot be listed");
        }
        Err(error) => return Err(refused(error)),
    }
    Ok(findings)
}

fn facts(facts: google::DatabaseFacts) -> DatabaseFacts {
    DatabaseFacts {
        id: facts.id,
        location: facts.location,
        database_type: facts.database_type.map(|kind| match kind {
            google::DatabaseType::Native => DatabaseType::Native,
            google::DatabaseType::Datastore => DatabaseType::Datastore,
        }),
        edition: facts.edition.map(|edition| match edition {
            google::DatabaseEdition::Standard => DatabaseEdition::Standard,
            google::DatabaseEdition::Enterprise => DatabaseEdition::Enterprise,
        }),
        point_in_time_recovery: facts.point_in_time_recovery,
        delete_protection: facts.delete_protection,
        kms_key: facts.kms_key,
        firestore_access: facts.firestore_access,
        realtime_updates: facts.realtime_updates,
        mongodb_access: facts.mongodb_access,
    }
}

impl WorldProbes {
    /// What of a database the credentials may not do. One that answers and was not listed is found by this.
    async fn try_out(
        &self,
        access: &ProjectAccess,
        database: &str,
        findings: &mut ProjectFindings,
    ) -> Result<(), ControlError> {
        let target = self.projects.target(access, database).await.map_err(refused)?;
        match target.source.snapshot_time().await {
            Ok(now) => {
                findings.allowed.push(READ_DOCUMENTS.to_owned());
                note_counts(&*target.source, now).await;
            }
            // a project may have named databases only
            Err(error) if error.kind == ErrorKind::NotFound => return Ok(()),
            Err(error) if error.kind == ErrorKind::PermissionDenied => {
                findings.refused.push(READ_DOCUMENTS.to_owned());
                return Ok(());
            }
            Err(error) => return Err(refused(error)),
        }
        if findings.databases.is_empty() {
            findings.databases.push(database.to_owned());
        }
        match target.sink.can_write().await {
            Ok(()) => findings.allowed.push(DELETE_DOCUMENTS.to_owned()),
            Err(error) if error.kind == ErrorKind::PermissionDenied => {
                findings.refused.push(DELETE_DOCUMENTS.to_owned());
            }
            Err(error) => return Err(refused(error)),
        }
        Ok(())
    }

    /// The databases of a project, and what a trial says of the first that is open.
    async fn tried(&self, access: &ProjectAccess) -> Result<ProjectFindings, ControlError> {
        let firestore = self.projects.firestore(access, DEFAULT_DATABASE).await.map_err(refused)?;
        let mut findings = listed(&firestore).await?;
        // what is switched off says nothing of what the credentials may
        let is_open =
            |id: &&String| findings.facts.iter().find(|facts| facts.id == **id).is_none_or(DatabaseFacts::is_open);
        let tried = match findings.databases.iter().find(is_open) {
            Some(database) => database.clone(),
            None if findings.facts.is_empty() => DEFAULT_DATABASE.to_owned(),
            None => return Ok(findings),
        };
        self.try_out(access, &tried, &mut findings).await?;
        Ok(findings)
    }

    /// What IAM grants, where it can be asked: a consent does not cover that, the API may be switched off, and no job needs it.
    async fn granted(&self, access: &ProjectAccess) -> Option<Vec<String>> {
        match tokio::time::timeout(ASKING, self.projects.granted(access, &asked_permissions())).await {
            Ok(Ok(granted)) => granted,
            Ok(Err(error)) => {
                tracing::info!(error = %error, "IAM cannot be asked for the permissions of a project");
                None
            }
            Err(_) => {
                tracing::info!("IAM does not say in time which permissions a project's credentials have");
                None
            }
        }
    }
}

#[async_trait]
impl Probes for WorldProbes {
    async fn project(&self, access: &ProjectAccess) -> Result<ProjectFindings, ControlError> {
        let (tried, granted) = tokio::join!(self.tried(access), self.granted(access));
        Ok(ProjectFindings { granted, ..tried? })
    }

    async fn collections(&self, access: &ProjectAccess, database: &str) -> Result<CollectionFindings, ControlError> {
        let firestore = self.projects.firestore(access, database).await.map_err(refused)?;
        let at = firestore.snapshot_time().await.map_err(refused)?;
        let found = firestore.collections(at, COUNTING).await.map_err(refused)?;
        let facts = |Collection { id, documents, at_least }| CollectionFacts { id, documents, at_least };
        Ok(CollectionFindings {
            collections: found.collections.into_iter().map(facts).collect(),
            partial: found.is_cut,
        })
    }

    async fn destination(&self, place: &DestinationAccess) -> Result<DestinationFindings, ControlError> {
        self.destinations.destination(place).await
    }
}

#[async_trait]
impl Probes for DestinationProbes {
    async fn project(&self, access: &ProjectAccess) -> Result<ProjectFindings, ControlError> {
        Absent.project(access).await
    }

    async fn collections(&self, access: &ProjectAccess, database: &str) -> Result<CollectionFindings, ControlError> {
        Absent.collections(access, database).await
    }

    async fn destination(&self, place: &DestinationAccess) -> Result<DestinationFindings, ControlError> {
        let destination = self.places.destination(&place.url, place).map_err(destination_failed)?;
        let report = destination.probe().await.map_err(destination_failed)?;
        let abilities = [
            (report.write, "write"),
            (report.conditional_put, "create-only"),
            (report.multipart, "multipart"),
            (report.read && report.read_range, "read"),
            (report.list, "list"),
            (report.delete, "delete"),
        ];
        let missing = abilities.iter().filter(|(can, _)| !can).map(|(_, name)| (*name).to_owned()).collect();
        let kind = kind_of(destination.kind());
        let problems = report.problems.iter().map(ToString::to_string).collect();
        let advice = self.advice(&destination, place).await;
        Ok(DestinationFindings { kind: kind.to_owned(), missing, problems, advice })
    }
}

impl DestinationProbes {
    /// What a bucket of S3 lacks for sure. What may not be looked at is no fault of the bucket.
    async fn advice(&self, destination: &Destination, place: &DestinationAccess) -> Vec<String> {
        let report = async {
            match bucket_of(destination, &self.places.settings(place)).await? {
                Some((bucket, _)) => bucket.report().await.map(Some),
                None => Ok(None),
            }
        };
        match report.await {
            Ok(report) => report.iter().flat_map(BucketReport::missing).map(ToOwned::to_owned).collect(),
            Err(error) => {
                tracing::warn!(error = %error, "how the bucket is guarded could not be found out");
                Vec::new()
            }
        }
    }
}

/// What a client calls a kind of destination.
pub(crate) const fn kind_of(kind: DestinationKind) -> &'static str {
    match kind {
        DestinationKind::Folder => "folder",
        DestinationKind::S3 => "s3",
        DestinationKind::Gcs => "gcs",
        DestinationKind::Azure => "azure",
    }
}

fn refused(error: PortError) -> ControlError {
    ControlError::google(format!("Google refused or cannot be reached: {error}")).with_source(error)
}

/// What a client is told of a place that could not be looked at.
pub(crate) fn destination_failed(error: PortError) -> ControlError {
    ControlError::destination(format!("the destination refused or cannot be reached: {error}")).with_source(error)
}
