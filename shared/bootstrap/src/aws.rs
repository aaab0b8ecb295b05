//! The stack: every port on AWS, and functions of Lambda around the verbs.

use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use firebackup_aws::{AwsClients, AwsSettings, DynamoItemStore, EventBridgeBus};
use firebackup_control::{Control, ControlSettings, ItemEventBuffer, Ports, SignUp};
use firebackup_embedded::{SystemClock, SystemRandom};
use firebackup_engine::World;
use firebackup_http::{ClientAddress, HttpState, SignInPages};
use firebackup_model::port::{ItemStore, JobQueue, StepError};
use firebackup_model::{PortError, Timestamp};
use futures::FutureExt;
use lambda_http::RequestExt;
use lambda_http::request::RequestContext;
use lambda_runtime::{Diagnostic, LambdaEvent};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tower::ServiceExt;

use crate::aws_environment::AwsEnvironment;
use crate::ingest::Ingest;
use crate::maintenance::Maintenance;
use crate::metrics::{Emf, Metrics};
use crate::places::{MasterKeys, Places};
use crate::roles::{Api, Parts, Role};
use crate::sealed_issuer::allows_private_addresses;
use crate::sign_in::PublicUrl;
use crate::stack_bucket::StackBucket;
use crate::steps::{AppSteps, StepSettings};
use crate::tracing_setup;

/// What is left of a function's time when a step hands over: to finish the upload, put the receipt and answer.
const MARGIN: Duration = Duration::from_secs(60);

/// How much of a minute's window is given away, so that a tick that comes a little early finds it due.
const AHEAD_SECONDS: u32 = 20;

/// The type of an error that is a mistake of ours. State machines try again, as they do with all but two kinds.
const PANIC: &str = "Panic";

/// Everything that a function may need, built once a process. Cheap to clone.
#[derive(Clone)]
pub struct AwsApp {
    /// The verbs of the control plane.
    pub control: Control,
    /// The steps of jobs.
    pub steps: AppSteps,
    places: Places,
    bucket: Option<StackBucket>,
    captures: Arc<dyn JobQueue>,
    app_url: Option<String>,
    metrics: Arc<dyn Metrics>,
}

impl AwsApp {
    /// Builds what a function of this role needs from what the environment says. Nobody is spoken to.
    ///
    /// # Errors
    /// When a variable that every function needs is missing or of no use.
    pub async fn build<R: Role>(environment: &AwsEnvironment) -> Result<Self, PortError> {
        let clients = AwsClients::load(&AwsSettings::default()).await?;
        let parts = Parts { environment, clients, clock: Arc::new(SystemClock), random: Arc::new(SystemRandom) };
        let own_key = parts.text("FIREBACKUP_KMS_KEY_ARN");
        let keys = R::keys(&parts);
        let masters = MasterKeys::Service { service: Arc::clone(&keys), own: own_key.clone() };
        let world = World { clock: Arc::clone(&parts.clock), random: Arc::clone(&parts.random) };
        let lock_days = environment.number("FIREBACKUP_OBJECT_LOCK_DAYS", 0)?;
        // more than fits is still a lock: none would be worse
        let lock_days = u32::try_from(lock_days).unwrap_or(u32::MAX);
        let places = Places::new(masters, world, environment.ambient());
        let allow_private_addresses = allows_private_addresses(environment);
        let places = places.reaching(allow_private_addresses).locking(environment.get("FIREBACKUP_BUCKET"), lock_days);
        let projects = R::projects(&parts)?;
        let table = environment.need("FIREBACKUP_TABLE")?;
        let items: Arc<dyn ItemStore> = Arc::new(DynamoItemStore::new(&parts.clients, table, Arc::clone(&parts.clock)));
        let captures = R::captures(&parts);
        let buffer = ItemEventBuffer::new(Arc::clone(&items), Arc::clone(&parts.clock)).waking(Arc::clone(&captures));
        let control = Control::new(Ports {
            items,
            queue: R::queue(&parts),
            workflows: R::workflows(&parts)?,
            scheduler: R::scheduler(&parts),
            events: Arc::new(EventBridgeBus::new(&parts.clients, parts.text("FIREBACKUP_EVENT_BUS"))),
            keys,
            probes: R::probes(&places, &projects),
            archive: R::archive(&places),
            identity: R::identity(&parts)?,
            consents: R::consents(&parts)?,
            webhooks: R::webhooks(&parts)?,
            notify: R::notify(&parts),
            push: R::push(&parts),
            buffer: Some(Arc::new(buffer)),
            accounts: R::accounts(&parts)?,
            settings: ControlSettings {
                allow_emulators: environment.get("FIRESTORE_EMULATOR_HOST").is_some(),
                allow_private_addresses,
                // a function always has the identity of its role
                allow_federation: true,
                captures_changes: true,
                captures_ahead_seconds: AHEAD_SECONDS,
                events_url: events_url(environment),
                master_key: Some(own_key).filter(|arn| !arn.is_empty()),
                sign_up: SignUp::read(environment.get("FIREBACKUP_SIGN_UP").unwrap_or_default()),
                ..ControlSettings::default()
            },
            clock: Arc::clone(&parts.clock),
            random: Arc::clone(&parts.random),
        });
        let metrics: Arc<dyn Metrics> = Arc::new(Emf::new(environment.get("FIREBACKUP_STACK")));
        let steps = AppSteps::new(
            control.clone(),
            places.clone(),
            projects,
            step_settings(environment)?,
            R::chunks(&parts),
            Arc::clone(&metrics),
        );
        let app_url = environment.get("FIREBACKUP_APP_URL").map(str::to_owned);
        let bucket = StackBucket::of(environment);
        Ok(Self { control, steps, places, bucket, captures, app_url, metrics })
    }

    /// What the router stands on.
    #[must_use]
    pub fn http_state(&self) -> HttpState {
        HttpState {
            // DynamoDB does not say whether anything has changed
            remembered: None,
            control: self.control.clone(),
            repositories: Arc::new(self.places.clone()),
            random: Arc::clone(&self.places.world().random),
            version: env!("CARGO_PKG_VERSION"),
            sign_in: SignInPages { app_url: self.app_url.clone(), is_secure: true },
            observer: self.metrics.clone(),
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
        let maintenance = Maintenance::new(self.steps.clone()).with_captures(Arc::clone(&self.captures));
        maintenance.with_bucket(self.bucket.clone()).making_up_for_missed()
    }

    /// The same, handing over migrations before the deadline of this invocation.
    #[must_use]
    pub fn maintenance_until(&self, deadline: SystemTime) -> Maintenance {
        let left = deadline.duration_since(SystemTime::now()).unwrap_or_default();
        self.maintenance().migrating_in_sweeps(step_time(left, Duration::MAX))
    }

    /// What the queue of captures brings, done before the deadline of this invocation.
    #[must_use]
    pub fn ingest_until(&self, deadline: SystemTime) -> Ingest {
        let left = deadline.duration_since(SystemTime::now()).unwrap_or_default();
        Ingest::new(self.steps.clone(), Arc::clone(&self.captures), step_time(left, Duration::MAX))
    }

    /// The steps, handing over before the deadline of this invocation.
    #[must_use]
    pub fn steps_until(&self, deadline: SystemTime) -> AppSteps {
        let left = deadline.duration_since(SystemTime::now()).unwrap_or_default();
        self.steps.within(step_time(left, self.steps.settings.step_time))
    }
}

/// How long a step works that has `left` until its deadline, and may work for `most`. Of a short time a half is kept for the
/// end.
fn step_time(left: Duration, most: Duration) -> Duration {
    left.saturating_sub(MARGIN.min(left / 2)).min(most)
}

/// Where events are posted to, where the stack knows how it is reached.
fn events_url(environment: &AwsEnvironment) -> Option<String> {
    let url: PublicUrl = environment.get("FIREBACKUP_PUBLIC_URL")?.parse().ok()?;
    Some(url.events())
}

fn step_settings(environment: &AwsEnvironment) -> Result<StepSettings, PortError> {
    let default = StepSettings::default();
    Ok(StepSettings {
        chunk_documents: environment.number("FIREBACKUP_CHUNK_DOCUMENTS", default.chunk_documents)?,
        part_documents: environment.number("FIREBACKUP_PART_DOCUMENTS", default.part_documents)?,
        step_time: environment.seconds("FIREBACKUP_STEP_SECONDS", default.step_time)?,
        parallel: environment.number("FIREBACKUP_MAP_CONCURRENCY", default.parallel)?,
    })
}

/// Begins to log, and builds the app: what every function does before its first event.
///
/// # Errors
/// As [`AwsApp::build`].
pub async fn start<R: Role>() -> Result<AwsApp, PortError> {
    let environment = AwsEnvironment::from_system();
    tracing_setup::start_json(environment.get("FIREBACKUP_LOG"));
    AwsApp::build::<R>(&environment).await
}

/// Runs a function whose events are JSON: each is decoded, handled and answered; a failure is told with its kind, a panic
/// as one.
///
/// # Errors
/// When the app cannot be built, or the runtime of Lambda fails.
pub async fn run<R, E, A, H>(handle: H) -> Result<(), lambda_runtime::Error>
where
    R: Role,
    E: DeserializeOwned + Send + 'static,
    A: Serialize + Send + 'static,
    H: AsyncFn(AwsApp, LambdaEvent<E>) -> Result<A, StepError>,
{
    let app = start::<R>().await?;
    let (app, handle) = (&app, &handle);
    lambda_runtime::run(lambda_runtime::service_fn(async move |event: LambdaEvent<E>| {
        // boxed: the layout of all steps in one future is more than the compiler computes
        let handled: Pin<Box<dyn Future<Output = _>>> = Box::pin(handle(app.clone(), event));
        answer(handled).await
    }))
    .await
}

/// Runs the function that answers requests of API Gateway.
///
/// # Errors
/// As [`run`].
pub async fn run_http() -> Result<(), lambda_runtime::Error> {
    let app = start::<Api>().await?;
    let router = firebackup_http::router(app.http_state());
    lambda_http::run(lambda_http::service_fn(move |mut request: lambda_http::Request| {
        if let Some(address) = client_address(&request) {
            request.extensions_mut().insert(address);
        }
        router.clone().oneshot(request)
    }))
    .await
}

/// The client's address, as API Gateway saw it: what a client says of itself is not looked at.
fn client_address(request: &lambda_http::Request) -> Option<ClientAddress> {
    match request.request_context_ref()? {
        RequestContext::ApiGatewayV2(context) => context.http.source_ip.as_deref()?.parse().ok().map(ClientAddress),
        _ => None,
    }
}

/// What a function answers. A panic ends this invocation and nothing else; what it says stays in the log, for it may hold
/// anything, and a state machine keeps and shows what a step says. (So in programs that unwind. Those that are packed for
/// Lambda end with a panic, which Lambda tells without its words.)
async fn answer<A>(handled: impl Future<Output = Result<A, StepError>>) -> Result<A, Diagnostic> {
    match AssertUnwindSafe(handled).catch_unwind().await {
        Ok(answer) => answer.map_err(|error| diagnostic(&error)),
        Err(_) => Err(Diagnostic {
            error_type: PANIC.to_owned(),
            error_message: "the step failed unexpectedly; the log says more".to_owned(),
        }),
    }
}

/// A failure as the runtime reports it: the state machine matches its type.
fn diagnostic(error: &StepError) -> Diagnostic {
    Diagnostic { error_type: error.kind.name().to_owned(), error_message: error.message.clone() }
}

#[cfg(test)]
mod tests {
    use firebackup_model::port::StepErrorKind;

    use super::*;

    #[test]
    fn a_step_ends_before_the_deadline_of_its_function() {
        let seconds = |left, most| step_time(Duration::from_secs(left), Duration::from_secs(most)).as_secs();
        assert_eq!(seconds(900, 600), 600, "what was set");
        assert_eq!(seconds(500, 600), 440, "a minute before the deadline");
        assert_eq!(seconds(120, 600), 60);
        assert_eq!(seconds(40, 600), 20, "half of it");
        assert_eq!(seconds(0, 600), 0, "it is past: the step puts down how far it is, and goes");
    }

    #[tokio::test]
    async fn a_panic_is_a_failure_that_does_not_say_what_it_said() {
        let secret = "planted-token";
        let told = answer::<()>(async { panic!("no header in {secret}") }).await.unwrap_err();
        assert_eq!(told.error_type, PANIC);
        assert!(!told.error_message.contains(secret), "{}", told.error_message);
        let failed = StepError::new(StepErrorKind::Fatal, "it is so".to_owned());
        let told = answer::<()>(async { Err(failed) }).await.unwrap_err();
        assert_eq!((told.error_type.as_str(), told.error_message.as_str()), ("Fatal", "it is so"));
        assert_eq!(answer(async { Ok::<_, StepError>(7) }).await.ok(), Some(7));
    }
}
