//! What each function is for, and so which ports it has.
//!
//! A role is a type, so that what one does not have is not linked into its program: a function that starts jobs carries
//! neither the clients of Google nor those of buckets.

use std::sync::Arc;

use firebackup_aws::{
    AwsClients, EventBridgeScheduler, GatewayPush, KmsKeyService, SchedulerSettings, SqsJobQueue, StepFunctions,
    WorkBucket,
};
use firebackup_control::{Archive, Probes};
use firebackup_model::PortError;
use firebackup_model::port::{
    AccountTokens, Clock, ConsentIssuer, IdentityProvider, JobQueue, KeyService, Push, Random, Scheduler,
    WebhookSender, Workflow, Workflows,
};

use crate::absent::Absent;
use crate::aws_environment::AwsEnvironment;
use crate::oauth_client::{OauthClient, opens_projects};
use crate::places::Places;
use crate::probes::{DestinationProbes, WorldProbes};
use crate::projects::Projects;
use crate::sealed_issuer::{SealedClient, SealedIssuer, allows_private_addresses};
use crate::sign_in::{GOOGLE, accounts_of};
use crate::webhooks::webhooks;

/// What ports are made from.
pub struct Parts<'e> {
    pub(crate) environment: &'e AwsEnvironment,
    pub(crate) clients: AwsClients,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) random: Arc<dyn Random>,
}

impl Parts<'_> {
    pub(crate) fn text(&self, name: &str) -> String {
        self.environment.get(name).unwrap_or_default().to_owned()
    }

    fn queue(&self) -> Arc<dyn JobQueue> {
        self.queue_at("FIREBACKUP_JOBS_QUEUE_URL", "FIREBACKUP_JOBS_DEAD_LETTER_URL")
    }

    fn notify(&self) -> Arc<dyn JobQueue> {
        self.queue_at("FIREBACKUP_NOTIFY_QUEUE_URL", "FIREBACKUP_NOTIFY_DEAD_LETTER_URL")
    }

    fn queue_at(&self, url: &str, dead_letters: &str) -> Arc<dyn JobQueue> {
        Arc::new(SqsJobQueue::new(&self.clients, self.text(url), self.text(dead_letters)))
    }

    fn captures(&self) -> Arc<dyn JobQueue> {
        self.queue_at("FIREBACKUP_PITR_QUEUE_URL", "FIREBACKUP_PITR_DEAD_LETTER_URL")
    }

    fn webhooks(&self) -> Result<Option<Arc<dyn WebhookSender>>, PortError> {
        webhooks(allows_private_addresses(self.environment)).map(Some)
    }

    fn workflows(&self) -> Result<Arc<dyn Workflows>, PortError> {
        let variables = [
            (Workflow::Backup, "FIREBACKUP_BACKUP_STATE_MACHINE_ARN"),
            (Workflow::Restore, "FIREBACKUP_RESTORE_STATE_MACHINE_ARN"),
        ];
        let machine = |(workflow, name): (Workflow, &str)| Some((workflow, self.environment.get(name)?.to_owned()));
        Ok(Arc::new(StepFunctions::new(&self.clients, variables.into_iter().filter_map(machine))?))
    }

    fn scheduler(&self) -> Arc<dyn Scheduler> {
        let settings = SchedulerSettings {
            group: self.text("FIREBACKUP_SCHEDULE_GROUP"),
            target_arn: self.text("FIREBACKUP_SCHEDULE_TARGET_ARN"),
            role_arn: self.text("FIREBACKUP_SCHEDULE_ROLE_ARN"),
            dead_letter_arn: self.text("FIREBACKUP_SCHEDULE_DEAD_LETTER_ARN"),
        };
        Arc::new(EventBridgeScheduler::new(&self.clients, settings))
    }

    fn kms(&self) -> KmsKeyService {
        KmsKeyService::new(&self.clients, self.text("FIREBACKUP_KMS_KEY_ARN"))
    }

    fn keys(&self) -> Arc<dyn KeyService> {
        Arc::new(self.kms())
    }

    fn identity(&self) -> Result<Option<Arc<dyn IdentityProvider>>, PortError> {
        let issuer = SealedIssuer::of(self.environment, self.kms(), Arc::clone(&self.clock))?;
        Ok(issuer.map(|issuer| Arc::new(issuer) as Arc<dyn IdentityProvider>))
    }

    /// An emulator of Firestore in Google's place.
    fn emulator(&self) -> Option<String> {
        self.environment.get("FIRESTORE_EMULATOR_HOST").map(str::to_owned)
    }

    fn consents(&self) -> Result<Option<Arc<dyn ConsentIssuer>>, PortError> {
        let issuer = SealedIssuer::of(self.environment, self.kms(), Arc::clone(&self.clock))?;
        let issuer = issuer.filter(|issuer| opens_projects(issuer.name(), self.emulator().as_deref()));
        Ok(issuer.map(|issuer| Arc::new(issuer.for_consents()) as Arc<dyn ConsentIssuer>))
    }

    fn accounts(&self) -> Result<Option<Arc<dyn AccountTokens>>, PortError> {
        let issuer = self.environment.get("FIREBACKUP_EVENTS_ISSUER").unwrap_or(GOOGLE).to_owned();
        accounts_of(issuer, allows_private_addresses(self.environment), &self.clock).map(Some)
    }

    fn projects(&self) -> Result<Projects, PortError> {
        let client = SealedClient::of(self.environment, self.kms())?;
        Ok(Projects::new(client.and_then(|client| OauthClient::sealed(client, self.emulator()))))
    }

    fn chunks(&self) -> Option<Arc<WorkBucket>> {
        let bucket = self.environment.get("FIREBACKUP_WORK_BUCKET")?;
        Some(Arc::new(WorkBucket::new(&self.clients, bucket)))
    }
}

/// Which ports a function has, besides the table and the event bus, which all have.
pub trait Role {
    /// The queue of jobs.
    fn queue(parts: &Parts<'_>) -> Arc<dyn JobQueue> {
        parts.queue()
    }

    /// The state machines.
    ///
    /// # Errors
    /// When the environment names something else.
    fn workflows(_: &Parts<'_>) -> Result<Arc<dyn Workflows>, PortError> {
        Ok(Arc::new(Absent))
    }

    /// The schedules.
    fn scheduler(_: &Parts<'_>) -> Arc<dyn Scheduler> {
        Arc::new(Absent)
    }

    /// The master keys.
    fn keys(_: &Parts<'_>) -> Arc<dyn KeyService> {
        Arc::new(Absent)
    }

    /// What looks at projects and destinations.
    fn probes(_: &Places, _: &Projects) -> Arc<dyn Probes> {
        Arc::new(Absent)
    }

    /// Where months of the audit log lie.
    fn archive(_: &Places) -> Arc<dyn Archive> {
        Arc::new(Absent)
    }

    /// What opens projects.
    ///
    /// # Errors
    /// When the environment names a client that is none.
    fn projects(_: &Parts<'_>) -> Result<Projects, PortError> {
        Ok(Projects::default())
    }

    /// The connections of live clients.
    fn push(_: &Parts<'_>) -> Arc<dyn Push> {
        Arc::new(Absent)
    }

    /// Whom people sign in with.
    ///
    /// # Errors
    /// When the environment names nobody who can be.
    fn identity(_: &Parts<'_>) -> Result<Option<Arc<dyn IdentityProvider>>, PortError> {
        Ok(None)
    }

    /// Who asks people whether we may into their projects.
    ///
    /// # Errors
    /// As [`Self::identity`].
    fn consents(_: &Parts<'_>) -> Result<Option<Arc<dyn ConsentIssuer>>, PortError> {
        Ok(None)
    }

    /// Who proves tokens of those who post events of changes.
    ///
    /// # Errors
    /// As [`Self::identity`].
    fn accounts(_: &Parts<'_>) -> Result<Option<Arc<dyn AccountTokens>>, PortError> {
        Ok(None)
    }

    /// The queue of events and deliveries.
    fn notify(_: &Parts<'_>) -> Arc<dyn JobQueue> {
        Arc::new(Absent)
    }

    /// The queue of captures.
    fn captures(_: &Parts<'_>) -> Arc<dyn JobQueue> {
        Arc::new(Absent)
    }

    /// What posts to webhooks.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    fn webhooks(_: &Parts<'_>) -> Result<Option<Arc<dyn WebhookSender>>, PortError> {
        Ok(None)
    }

    /// Where the list of chunks lies.
    fn chunks(_: &Parts<'_>) -> Option<Arc<WorkBucket>> {
        None
    }
}

/// Answers requests.
#[derive(Debug)]
pub enum Api {}

impl Role for Api {
    fn scheduler(parts: &Parts<'_>) -> Arc<dyn Scheduler> {
        parts.scheduler()
    }

    fn keys(parts: &Parts<'_>) -> Arc<dyn KeyService> {
        parts.keys()
    }

    fn probes(places: &Places, projects: &Projects) -> Arc<dyn Probes> {
        Arc::new(WorldProbes::new(places.clone(), projects.clone()))
    }

    fn projects(parts: &Parts<'_>) -> Result<Projects, PortError> {
        parts.projects()
    }

    fn consents(parts: &Parts<'_>) -> Result<Option<Arc<dyn ConsentIssuer>>, PortError> {
        parts.consents()
    }

    fn accounts(parts: &Parts<'_>) -> Result<Option<Arc<dyn AccountTokens>>, PortError> {
        parts.accounts()
    }

    fn captures(parts: &Parts<'_>) -> Arc<dyn JobQueue> {
        parts.captures()
    }

    fn archive(places: &Places) -> Arc<dyn Archive> {
        Arc::new(places.clone())
    }

    fn identity(parts: &Parts<'_>) -> Result<Option<Arc<dyn IdentityProvider>>, PortError> {
        parts.identity()
    }

    fn notify(parts: &Parts<'_>) -> Arc<dyn JobQueue> {
        parts.notify()
    }

    fn webhooks(parts: &Parts<'_>) -> Result<Option<Arc<dyn WebhookSender>>, PortError> {
        parts.webhooks()
    }
}

/// Tells live clients what happens.
#[derive(Debug)]
pub enum Live {}

impl Role for Live {
    fn queue(_: &Parts<'_>) -> Arc<dyn JobQueue> {
        Arc::new(Absent)
    }

    fn push(parts: &Parts<'_>) -> Arc<dyn Push> {
        Arc::new(GatewayPush::new(&parts.clients, &parts.text("FIREBACKUP_LIVE_ENDPOINT")))
    }
}

/// Tells webhooks.
#[derive(Debug)]
pub enum Notify {}

impl Role for Notify {
    fn queue(_: &Parts<'_>) -> Arc<dyn JobQueue> {
        Arc::new(Absent)
    }

    fn keys(parts: &Parts<'_>) -> Arc<dyn KeyService> {
        parts.keys()
    }

    fn notify(parts: &Parts<'_>) -> Arc<dyn JobQueue> {
        parts.notify()
    }

    fn webhooks(parts: &Parts<'_>) -> Result<Option<Arc<dyn WebhookSender>>, PortError> {
        parts.webhooks()
    }
}

/// Makes the backups of due times.
#[derive(Debug)]
pub enum Trigger {}

impl Role for Trigger {}

/// Starts jobs.
#[derive(Debug)]
pub enum Start {}

impl Role for Start {
    fn workflows(parts: &Parts<'_>) -> Result<Arc<dyn Workflows>, PortError> {
        parts.workflows()
    }
}

/// Does steps of chunks.
#[derive(Debug)]
pub enum Chunk {}

impl Role for Chunk {
    fn projects(parts: &Parts<'_>) -> Result<Projects, PortError> {
        parts.projects()
    }

    fn queue(_: &Parts<'_>) -> Arc<dyn JobQueue> {
        Arc::new(Absent)
    }

    fn keys(parts: &Parts<'_>) -> Arc<dyn KeyService> {
        parts.keys()
    }
}

/// Captures changes, and asks for the backups that captures begin from.
#[derive(Debug)]
pub enum Capture {}

impl Role for Capture {
    fn projects(parts: &Parts<'_>) -> Result<Projects, PortError> {
        parts.projects()
    }

    fn keys(parts: &Parts<'_>) -> Arc<dyn KeyService> {
        parts.keys()
    }

    fn captures(parts: &Parts<'_>) -> Arc<dyn JobQueue> {
        parts.captures()
    }
}

/// Plans jobs and ends them.
#[derive(Debug)]
pub enum Ends {}

impl Role for Ends {
    fn projects(parts: &Parts<'_>) -> Result<Projects, PortError> {
        parts.projects()
    }

    fn keys(parts: &Parts<'_>) -> Arc<dyn KeyService> {
        parts.keys()
    }

    fn chunks(parts: &Parts<'_>) -> Option<Arc<WorkBucket>> {
        parts.chunks()
    }
}

/// Looks after everything.
#[derive(Debug)]
pub enum Care {}

impl Role for Care {
    fn projects(parts: &Parts<'_>) -> Result<Projects, PortError> {
        parts.projects()
    }

    fn workflows(parts: &Parts<'_>) -> Result<Arc<dyn Workflows>, PortError> {
        parts.workflows()
    }

    fn scheduler(parts: &Parts<'_>) -> Arc<dyn Scheduler> {
        parts.scheduler()
    }

    fn keys(parts: &Parts<'_>) -> Arc<dyn KeyService> {
        parts.keys()
    }

    fn probes(places: &Places, _: &Projects) -> Arc<dyn Probes> {
        Arc::new(DestinationProbes::new(places.clone()))
    }

    fn archive(places: &Places) -> Arc<dyn Archive> {
        Arc::new(places.clone())
    }

    fn captures(parts: &Parts<'_>) -> Arc<dyn JobQueue> {
        parts.captures()
    }

    fn notify(parts: &Parts<'_>) -> Arc<dyn JobQueue> {
        parts.notify()
    }

    fn chunks(parts: &Parts<'_>) -> Option<Arc<WorkBucket>> {
        parts.chunks()
    }
}
