//! The stack: every port on AWS, and functions of Lambda around the verbs.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use firebackup_aws::{
    AwsClients, AwsSettings, DynamoItemStore, EventBridgeBus, EventBridgeScheduler, KmsKeyService, SchedulerSettings,
    SqsJobQueue, StepFunctions, WorkBucket,
};
use firebackup_control::{Control, ControlSettings, Ports};
use firebackup_embedded::{SystemClock, SystemRandom};
use firebackup_engine::World;
use firebackup_http::HttpState;
use firebackup_model::{PortError, Timestamp};
use firebackup_model::port::{Clock, KeyService, Random, StepError, Workflow};
use lambda_runtime::{Diagnostic, LambdaEvent};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::aws_environment::AwsEnvironment;
use crate::maintenance::Maintenance;
use crate::places::{MasterKeys, Places};
use crate::probes::WorldProbes;
use crate::projects::Projects;
use crate::steps::{AppSteps, StepSettings};
use crate::{metrics, tracing_setup};

/// What is left of a function's time when a step hands over: to finish the upload, put the receipt and answer.
const MARGIN: Duration = Duration::from_secs(60);

/// Everything that a function may need, built once a process. Cheap to clone.
#[derive(Clone)]
pub struct AwsApp {
    /// The verbs of the control plane.
    pub control: Control,
    /// The steps of jobs.
    pub steps: AppSteps,
    places: Places,
}

impl AwsApp {
    /// Builds it from what the environment says. Nobody is spoken to.
    ///
    /// # Errors
    /// When a variable that every function needs is missing or of no use.
    pub async fn build(environment: &AwsEnvironment) -> Result<Self, PortError> {
        let clients = AwsClients::load(&AwsSettings::default()).await?;
        let (clock, random): (Arc<dyn Clock>, Arc<dyn Random>) = (Arc::new(SystemClock), Arc::new(SystemRandom));
        let text = |name: &str| environment.get(name).unwrap_or_default().to_owned();
        let own_key = text("FIREBACKUP_KMS_KEY_ARN");
        let keys: Arc<dyn KeyService> = Arc::new(KmsKeyService::new(&clients, own_key.clone()));
        let masters = MasterKeys::Service { service: Arc::clone(&keys), own: own_key.clone() };
        let world = World { clock: Arc::clone(&clock), random: Arc::clone(&random) };
        let places = Places::new(masters, world, environment.ambient());
        let has_emulator = environment.get("FIRESTORE_EMULATOR_HOST").is_some();
        let control = Control::new(Ports {
            items: Arc::new(DynamoItemStore::new(&clients, environment.need("FIREBACKUP_TABLE")?, Arc::clone(&clock))),
            queue: Arc::new(SqsJobQueue::new(
                &clients,
                text("FIREBACKUP_JOBS_QUEUE_URL"),
                text("FIREBACKUP_JOBS_DEAD_LETTER_URL"),
            )),
            workflows: Arc::new(StepFunctions::new(&clients, machines(environment))?),
            scheduler: Arc::new(EventBridgeScheduler::new(
                &clients,
                SchedulerSettings {
                    group: text("FIREBACKUP_SCHEDULE_GROUP"),
                    target_arn: text("FIREBACKUP_SCHEDULE_TARGET_ARN"),
                    role_arn: text("FIREBACKUP_SCHEDULE_ROLE_ARN"),
                    dead_letter_arn: text("FIREBACKUP_SCHEDULE_DEAD_LETTER_ARN"),
                },
            )),
            events: Arc::new(EventBridgeBus::new(&clients, text("FIREBACKUP_EVENT_BUS"))),
            keys,
            clock,
            random,
            probes: Arc::new(WorldProbes::new(places.clone(), Projects)),
            settings: ControlSettings {
                allow_emulators: has_emulator,
                master_key: Some(own_key).filter(|arn| !arn.is_empty()),
                ..ControlSettings::default()
            },
        });
        let work_bucket = environment.get("FIREBACKUP_WORK_BUCKET").map(|bucket| Arc::new(WorkBucket::new(&clients, bucket)));
        let steps = AppSteps::new(control.clone(), places.clone(), Projects, step_settings(environment)?, work_bucket);
        Ok(Self { control, steps, places })
    }

    /// What the router stands on.
    #[must_use]
    pub fn http_state(&self) -> HttpState {
        HttpState {
            control: self.control.clone(),
            repositories: Arc::new(self.places.clone()),
            random: Arc::clone(&self.places.world().random),
            version: env!("CARGO_PKG_VERSION"),
        }
    }

    /// The time.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.places.world().now()
    }

    /// What is looked after from time to time.
    #[must_use]
    pub fn maintenance(&self) -> Maintenance {
        Maintenance::new(self.steps.clone())
    }

    /// The steps, handing over before the deadline of this invocation.
    #[must_use]
    pub fn steps_until(&self, deadline: SystemTime) -> AppSteps {
        let left = deadline.duration_since(SystemTime::now()).unwrap_or_default();
        // of a short time a half is kept for the end
        let step_time = left.saturating_sub(MARGIN.min(left / 2));
        self.steps.within(step_time.min(self.steps.settings.step_time))
    }
}

fn machines(environment: &AwsEnvironment) -> Vec<(Workflow, String)> {
    let variables = [
        (Workflow::Backup, "FIREBACKUP_BACKUP_STATE_MACHINE_ARN"),
        (Workflow::Restore, "FIREBACKUP_RESTORE_STATE_MACHINE_ARN"),
    ];
    let machine = |(workflow, name): (Workflow, &str)| Some((workflow, environment.get(name)?.to_owned()));
    variables.into_iter().filter_map(machine).collect()
}

fn step_settings(environment: &AwsEnvironment) -> Result<StepSettings, PortError> {
    let default = StepSettings::default();
    Ok(StepSettings {
        chunk_documents: environment.number("FIREBACKUP_CHUNK_DOCUMENTS", default.chunk_documents)?,
        part_documents: environment.number("FIREBACKUP_PART_DOCUMENTS", default.part_documents)?,
        step_time: environment.seconds("FIREBACKUP_STEP_SECONDS", default.step_time)?,
    })
}

/// Begins to log and to count, and builds the app: what every function does before its first event.
///
/// # Errors
/// As [`AwsApp::build`].
pub async fn start() -> Result<AwsApp, PortError> {
    let environment = AwsEnvironment::from_system();
    tracing_setup::start_json(environment.get("FIREBACKUP_LOG"));
    if let Some(stack) = environment.get("FIREBACKUP_STACK") {
        metrics::start(stack);
    }
    AwsApp::build(&environment).await
}

/// Runs a function whose events are JSON: each is decoded, handled and answered; a failure is told with its kind, a panic
/// as one.
///
/// # Errors
/// When the app cannot be built, or the runtime of Lambda fails.
pub async fn run<E, A, H>(handle: H) -> Result<(), lambda_runtime::Error>
where
    E: DeserializeOwned + Send + 'static,
    A: Serialize + Send + 'static,
    H: AsyncFn(AwsApp, LambdaEvent<E>) -> Result<A, StepError>,
{
    let app = start().await?;
    let (app, handle) = (&app, &handle);
    lambda_runtime::run(lambda_runtime::service_fn(async move |event: LambdaEvent<E>| {
        handle(app.clone(), event).await.map_err(|error| diagnostic(&error))
    }))
    .await
}

/// Runs the function that answers requests of API Gateway.
///
/// # Errors
/// As [`run`].
pub async fn run_http() -> Result<(), lambda_runtime::Error> {
    let app = start().await?;
    lambda_http::run(firebackup_http::router(app.http_state())).await
}

/// A failure as the runtime reports it: the state machine matches its type.
fn diagnostic(error: &StepError) -> Diagnostic {
    Diagnostic { error_type: error.kind.name().to_owned(), error_message: error.message.clone() }
}
