//! The suites of the ports, each on what it needs of AWS.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_dynamodb::types::{
    AttributeDefinition, BillingMode, GlobalSecondaryIndex, KeySchemaElement, KeyType, Projection, ProjectionType,
    ScalarAttributeType,
};
use aws_sdk_eventbridge::types::Target;
use aws_sdk_sqs::types::QueueAttributeName;
use firebackup_aws::{
    DynamoItemStore, EventBridgeBus, EventBridgeScheduler, KmsKeyService, SchedulerSettings, SqsJobQueue, StepFunctions,
};
use firebackup_model::port::{DomainEvent, JobQueue, Turn, Workflow};
use firebackup_testkit::event_bus_suite::{self, ArrivedEvents};
use firebackup_testkit::job_queue_suite::{self, QueueUnderTest};
use firebackup_testkit::scheduler_suite::{self, KeptSchedules};
use firebackup_testkit::workflows_suite::{self, WorkflowsUnderTest};
use firebackup_testkit::{HandClock, item_store_suite, key_service_suite};
use serde_json::{Value, json};

use crate::stage::Stage;

const MOST_DELIVERIES: u32 = 3;

pub async fn a_table_conforms(stage: &Stage) {
    let table = "records";
    make_table(&aws_sdk_dynamodb::Client::new(&stage.config), table).await;
    let clock = Arc::new(HandClock::default());
    let store = DynamoItemStore::new(&stage.clients, table, Arc::clone(&clock) as _);
    item_store_suite::conforms(Arc::new(store), &clock).await;
}

/// As the stack's template makes it.
async fn make_table(client: &aws_sdk_dynamodb::Client, table: &str) {
    let attribute = |name| {
        let attribute = AttributeDefinition::builder().attribute_name(name);
        attribute.attribute_type(ScalarAttributeType::S).build().unwrap()
    };
    let key = |partition, sort| {
        let part = |name, kind| KeySchemaElement::builder().attribute_name(name).key_type(kind).build().unwrap();
        vec![part(partition, KeyType::Hash), part(sort, KeyType::Range)]
    };
    let projection = Projection::builder().projection_type(ProjectionType::All).build();
    let index = GlobalSecondaryIndex::builder().index_name("index1").projection(projection);
    let index = index.set_key_schema(Some(key("g1pk", "g1sk"))).build().unwrap();
    let request = client.create_table().table_name(table).billing_mode(BillingMode::PayPerRequest);
    let request = request.set_attribute_definitions(Some(["pk", "sk", "g1pk", "g1sk"].map(attribute).into()));
    let request = request.set_key_schema(Some(key("pk", "sk"))).global_secondary_indexes(index);
    request.send().await.unwrap();
}

/// Makes a queue; its URL.
async fn make_queue(client: &aws_sdk_sqs::Client, name: &str, attributes: &[(QueueAttributeName, String)]) -> String {
    let attributes: HashMap<_, _> = attributes.iter().cloned().collect();
    let made = client.create_queue().queue_name(name).set_attributes(Some(attributes)).send().await.unwrap();
    made.queue_url.unwrap()
}

pub async fn a_queue_conforms(stage: &Stage) {
    let client = aws_sdk_sqs::Client::new(&stage.config);
    let dead_letters = make_queue(&client, "jobs-dead", &[]).await;
    let policy = json!({"deadLetterTargetArn": queue_arn(stage, "jobs-dead"), "maxReceiveCount": MOST_DELIVERIES});
    let url = make_queue(&client, "jobs", &[(QueueAttributeName::RedrivePolicy, policy.to_string())]).await;
    let test = QueueUnderTest {
        queue: Arc::new(SqsJobQueue::new(&stage.clients, url, dead_letters)),
        unit: Duration::from_secs(1),
        most_deliveries: MOST_DELIVERIES,
    };
    job_queue_suite::conforms(&test).await;
}

/// A queue of kind FIFO: what is sent twice comes once, of a group one at a time, and a dead letter that is moved back is
/// taken, though a message of its id was just there.
pub async fn a_queue_with_groups_keeps_their_order(stage: &Stage) {
    let client = aws_sdk_sqs::Client::new(&stage.config);
    let fifo = (QueueAttributeName::FifoQueue, "true".to_owned());
    let dead_letters = make_queue(&client, "windows-dead.fifo", std::slice::from_ref(&fifo)).await;
    let policy = json!({"deadLetterTargetArn": queue_arn(stage, "windows-dead.fifo"), "maxReceiveCount": 1});
    let redriven = (QueueAttributeName::RedrivePolicy, policy.to_string());
    let url = make_queue(&client, "windows.fifo", &[fifo, redriven]).await;
    let queue = SqsJobQueue::new(&stage.clients, url, dead_letters);
    let (wait, hidden) = (Duration::from_secs(5), Duration::from_secs(60));
    for (body, group, id) in [("a1", "a", "1"), ("a1", "a", "1"), ("a2", "a", "2"), ("b1", "b", "3")] {
        queue.send_in_turn(body, Turn { group, id }).await.unwrap();
    }
    let mut taken = queue.receive(1, wait, hidden).await.unwrap();
    // of the first one's group nothing comes while somebody works on it
    taken.extend(queue.receive(10, wait, hidden).await.unwrap());
    assert_eq!(taken.iter().map(|message| message.body.as_str()).collect::<Vec<_>>(), ["a1", "b1"]);
    for message in &taken {
        queue.delete(&message.receipt).await.unwrap();
    }
    let second = queue.receive(10, wait, Duration::ZERO).await.unwrap();
    assert_eq!(second.iter().map(|message| message.body.as_str()).collect::<Vec<_>>(), ["a2"]);
    assert!(
        queue.receive(10, Duration::from_secs(1), hidden).await.unwrap().is_empty(),
        "it was delivered once too often"
    );
    assert_eq!(queue.dead_letters().await.unwrap(), 1);
    assert_eq!(queue.redrive().await.unwrap(), 1);
    let again = queue.receive(10, wait, hidden).await.unwrap();
    assert_eq!(again.iter().map(|message| message.body.as_str()).collect::<Vec<_>>(), ["a2"]);
    assert_eq!(queue.dead_letters().await.unwrap(), 0);
}

fn queue_arn(stage: &Stage, name: &str) -> String {
    format!("arn:aws:sqs:{}:{}:{name}", stage.ministack.region(), stage.ministack.account())
}

pub async fn state_machines_conform(stage: &Stage) {
    let client = aws_sdk_sfn::Client::new(&stage.config);
    let mut machines = Vec::new();
    for workflow in Workflow::ALL {
        let request = client.create_state_machine().name(workflow.name()).definition(machine().to_string());
        let role = format!("arn:aws:iam::{}:role/runs-state-machines", stage.ministack.account());
        machines.push((workflow, request.role_arn(role).send().await.unwrap().state_machine_arn));
    }
    let test = WorkflowsUnderTest {
        workflows: Arc::new(StepFunctions::new(&stage.clients, machines).unwrap()),
        endless: json!({"way": "wait"}),
        succeeding: json!({"way": "succeed"}),
        failing: json!({"way": "fail"}),
    };
    workflows_suite::conforms(&test).await;
}

/// Goes the way that its input names.
fn machine() -> Value {
    let way = |way: &str, next: &str| json!({"Variable": "$.way", "StringEquals": way, "Next": next});
    json!({
        "StartAt": "Which",
        "States": {
            "Which": {"Type": "Choice", "Choices": [way("wait", "Long"), way("fail", "Bad")], "Default": "Good"},
            "Long": {"Type": "Wait", "Seconds": 3600, "Next": "Good"},
            "Bad": {"Type": "Fail", "Error": "Fatal", "Cause": "it was asked for"},
            "Good": {"Type": "Succeed"},
        },
    })
}

/// Reads schedules as EventBridge Scheduler keeps them.
struct Schedules(aws_sdk_scheduler::Client);

#[async_trait]
impl KeptSchedules for Schedules {
    async fn kept(&self, name: &str) -> Option<(String, Value)> {
        let found = self.0.get_schedule().group_name("firebackup").name(name).send().await.ok()?;
        let target = found.target.unwrap();
        assert_eq!(target.arn, settings().target_arn);
        assert_eq!(target.dead_letter_config.unwrap().arn.unwrap(), settings().dead_letter_arn);
        let input: Value = serde_json::from_str(&target.input.unwrap()).unwrap();
        assert_eq!(input["scheduled"], "<aws.scheduler.scheduled-time>");
        Some((found.schedule_expression_timezone.unwrap(), input["payload"].clone()))
    }
}

fn settings() -> SchedulerSettings {
    SchedulerSettings {
        group: "firebackup".to_owned(),
        target_arn: "arn:aws:lambda:us-east-1:000000000000:function:schedule-trigger".to_owned(),
        role_arn: "arn:aws:iam::000000000000:role/calls-schedule-trigger".to_owned(),
        dead_letter_arn: "arn:aws:sqs:us-east-1:000000000000:schedules-dead".to_owned(),
    }
}

pub async fn a_schedule_group_conforms(stage: &Stage) {
    let client = aws_sdk_scheduler::Client::new(&stage.config);
    client.create_schedule_group().name("firebackup").send().await.unwrap();
    let scheduler = EventBridgeScheduler::new(&stage.clients, settings());
    scheduler_suite::conforms(Arc::new(scheduler), &Schedules(client.clone())).await;
    let nightly = client.get_schedule().group_name("firebackup").name("nightly").send().await.unwrap();
    assert_eq!(nightly.schedule_expression.unwrap(), "cron(30 2 * * ? *)");
}

/// A queue behind the bus, and what was read from it.
struct Arrived {
    client: aws_sdk_sqs::Client,
    url: String,
    events: Mutex<Vec<DomainEvent>>,
}

#[async_trait]
impl ArrivedEvents for Arrived {
    async fn arrived(&self) -> Vec<DomainEvent> {
        loop {
            let request = self.client.receive_message().queue_url(&self.url).max_number_of_messages(10);
            let messages = request.send().await.unwrap().messages.unwrap_or_default();
            if messages.is_empty() {
                return self.events.lock().unwrap_or_else(PoisonError::into_inner).clone();
            }
            for message in messages {
                let receipt = message.receipt_handle.unwrap();
                self.client.delete_message().queue_url(&self.url).receipt_handle(receipt).send().await.unwrap();
                let event = event_of(&message.body.unwrap());
                self.events.lock().unwrap_or_else(PoisonError::into_inner).push(event);
            }
        }
    }
}

/// What a rule's target gets.
fn event_of(body: &str) -> DomainEvent {
    let envelope: Value = serde_json::from_str(body).unwrap();
    let event: DomainEvent = serde_json::from_value(envelope["detail"].clone()).unwrap();
    assert!(["firebackup", "firebackup.live"].iter().any(|source| envelope["source"] == *source), "{envelope:#}");
    assert_eq!(envelope["detail-type"].as_str(), Some(&*event.kind));
    event
}

/// A queue that a rule of the bus sends to what has one of these sources.
async fn behind(stage: &Stage, client: &aws_sdk_eventbridge::Client, rule: &str, sources: &[&str]) -> Arrived {
    let queues = aws_sdk_sqs::Client::new(&stage.config);
    let url = make_queue(&queues, rule, &[]).await;
    let pattern = json!({ "source": sources }).to_string();
    client.put_rule().event_bus_name("firebackup").name(rule).event_pattern(pattern).send().await.unwrap();
    let target = Target::builder().id("queue").arn(queue_arn(stage, rule)).build().unwrap();
    let put = client.put_targets().event_bus_name("firebackup").rule(rule).targets(target).send().await.unwrap();
    assert_eq!(put.failed_entry_count, 0);
    Arrived { client: queues, url, events: Mutex::default() }
}

pub async fn a_bus_conforms(stage: &Stage) {
    let client = aws_sdk_eventbridge::Client::new(&stage.config);
    client.create_event_bus().name("firebackup").send().await.unwrap();
    let kept = behind(stage, &client, "events", &["firebackup"]).await;
    let live = behind(stage, &client, "live", &["firebackup", "firebackup.live"]).await;
    let bus = Arc::new(EventBridgeBus::new(&stage.clients, "firebackup"));
    event_bus_suite::conforms(bus.clone(), &kept).await;
    event_bus_suite::tells_live_clients(bus.as_ref(), &live, &kept).await;
}

pub async fn master_keys_conform(stage: &Stage) {
    let client = aws_sdk_kms::Client::new(&stage.config);
    let mut arns = Vec::new();
    for name in ["own", "another"] {
        let made = client.create_key().description(name).send().await.unwrap().key_metadata.unwrap();
        arns.push(made.arn.unwrap());
    }
    key_service_suite::conforms_but_for_the_cipher(&KmsKeyService::new(&stage.clients, &arns[0]), &arns[1]).await;
}
