//! A look at projects and destinations before records are made of them.

use async_trait::async_trait;
use firebackup_aws::BucketReport;
use firebackup_control::{
    ControlError, DestinationAccess, DestinationFindings, MissingPermission, Probes, ProjectAccess, ProjectFindings,
};
use firebackup_model::{ErrorKind, PortError};
use firebackup_storage::Destination;

use crate::absent::Absent;
use crate::buckets::bucket_of;
use crate::places::Places;
use crate::projects::Projects;

const DEFAULT_DATABASE: &str = "(default)";

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

#[async_trait]
impl Probes for WorldProbes {
    async fn project(&self, access: &ProjectAccess) -> Result<ProjectFindings, ControlError> {
        let target = self.projects.target(access, DEFAULT_DATABASE).await.map_err(google)?;
        let mut findings = ProjectFindings::default();
        match target.source.snapshot_time().await {
            Ok(_) => findings.databases.push(DEFAULT_DATABASE.to_owned()),
            // a project may have named databases only
            Err(error) if error.kind == ErrorKind::NotFound => return Ok(findings),
            Err(error) if error.kind == ErrorKind::PermissionDenied => {
                findings.missing.push(missing("datastore.entities.get", "roles/datastore.viewer", "to back up"));
                return Ok(findings);
            }
            Err(error) => return Err(google(error)),
        }
        match target.sink.can_write().await {
            Ok(()) => {}
            Err(error) if error.kind == ErrorKind::PermissionDenied => {
                findings.missing.push(missing("datastore.entities.update", "roles/datastore.user", "to restore"));
            }
            Err(error) => return Err(google(error)),
        }
        Ok(findings)
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
        let kind = match destination.kind().scheme() {
            "file" => "folder",
            "gs" => "gcs",
            "az" => "azure",
            scheme => scheme,
        };
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

fn missing(permission: &str, role: &str, purpose: &str) -> MissingPermission {
    let remedy = format!("grant {role} to the service account in Google Cloud IAM {purpose}");
    MissingPermission { permission: permission.to_owned(), remedy }
}

fn google(error: PortError) -> ControlError {
    ControlError::google(format!("Google refused or cannot be reached: {error}")).with_source(error)
}

/// What a client is told of a place that could not be looked at.
pub(crate) fn destination_failed(error: PortError) -> ControlError {
    ControlError::destination(format!("the destination refused or cannot be reached: {error}")).with_source(error)
}
