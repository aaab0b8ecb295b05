//! What the tests ask the local AWS themselves: what somebody with the AWS tools would ask.

use std::collections::BTreeSet;

use firebackup_testkit::HttpClient;
use serde_json::{Value, json};

/// The local AWS.
pub struct Aws {
    client: HttpClient,
    endpoint: String,
}

/// What is said to the services that take JSON: the name in signatures, and the prefix of operations.
const SQS: (&str, &str) = ("sqs", "AmazonSQS");
const STATES: (&str, &str) = ("states", "AWSStepFunctions");
const TABLE: (&str, &str) = ("dynamodb", "DynamoDB_20120810");
const LOGS: (&str, &str) = ("logs", "Logs_20140328");

impl Aws {
    pub fn new(endpoint: &str) -> Self {
        Self { client: HttpClient::new(), endpoint: endpoint.to_owned() }
    }

    async fn ask(&self, (service, prefix): (&str, &str), operation: &str, body: Value) -> Value {
        let answer = self.try_to_ask((service, prefix), operation, &body).await;
        answer.unwrap_or_else(|error| panic!("{service} {operation} {body}: {error}"))
    }

    async fn try_to_ask(
        &self,
        (service, prefix): (&str, &str),
        operation: &str,
        body: &Value,
    ) -> Result<Value, String> {
        let target = format!("{prefix}.{operation}");
        let signature = signature(service);
        let headers = [
            ("x-amz-target", target.as_str()),
            ("content-type", "application/x-amz-json-1.0"),
            ("authorization", &signature),
        ];
        let answer = self.client.send("POST", &format!("{}/", self.endpoint), &headers, body.to_string()).await;
        match answer.status {
            200 => Ok(answer.json()),
            _ => Err(answer.text()),
        }
    }

    /// Sends a message.
    pub async fn send(&self, queue: &str, body: &str) {
        self.ask(SQS, "SendMessage", json!({"QueueUrl": queue, "MessageBody": body})).await;
    }

    /// Sends a message to a queue that keeps the order of a group's, and takes one of an id once.
    pub async fn send_in_turn(&self, queue: &str, body: &str, (group, id): (&str, &str)) {
        let turn = json!({
            "QueueUrl": queue, "MessageBody": body, "MessageGroupId": group, "MessageDeduplicationId": id,
        });
        self.ask(SQS, "SendMessage", turn).await;
    }

    /// For how long a message that was received stays hidden.
    pub async fn hide_messages_for(&self, queue: &str, seconds: u32) {
        let attributes = json!({"VisibilityTimeout": seconds.to_string()});
        self.ask(SQS, "SetQueueAttributes", json!({"QueueUrl": queue, "Attributes": attributes})).await;
    }

    /// How many messages wait in a queue, those that are being worked on included.
    pub async fn waiting(&self, queue: &str) -> u64 {
        let names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"];
        let answer = self.ask(SQS, "GetQueueAttributes", json!({"QueueUrl": queue, "AttributeNames": names})).await;
        let number = |name: &&str| answer["Attributes"][*name].as_str().and_then(|text| text.parse::<u64>().ok());
        names.iter().filter_map(number).sum()
    }

    /// The bodies of messages that wait in a queue; they stay there.
    pub async fn peek(&self, queue: &str) -> BTreeSet<String> {
        let request = json!({"QueueUrl": queue, "MaxNumberOfMessages": 10, "VisibilityTimeout": 0});
        let answer = self.ask(SQS, "ReceiveMessage", request).await;
        let messages = answer["Messages"].as_array().cloned().unwrap_or_default();
        messages.iter().filter_map(|message| Some(message["Body"].as_str()?.to_owned())).collect()
    }

    /// The executions of a state machine whose name is `name`.
    pub async fn executions(&self, machine: &str, name: &str) -> Vec<Value> {
        let answer = self.ask(STATES, "ListExecutions", json!({"stateMachineArn": machine})).await;
        let mut executions = answer["executions"].as_array().cloned().unwrap_or_default();
        executions.retain(|execution| execution["name"] == name);
        executions
    }

    /// Stops an execution, as somebody in the console would.
    pub async fn stop(&self, execution: &str) {
        self.ask(STATES, "StopExecution", json!({"executionArn": execution, "error": "Somebody"})).await;
    }

    /// Calls a function and gives its answer; panics where that is a failure.
    pub async fn invoke(&self, function: &str, input: Value) -> Value {
        let url = format!("{}/2015-03-31/functions/{function}/invocations", self.endpoint);
        let answer =
            self.client.send("POST", &url, &[("authorization", &signature("lambda"))], input.to_string()).await;
        let body = answer.json();
        assert!(answer.status == 200 && body.get("errorType").is_none(), "{function}: {}", answer.text());
        body
    }

    /// How a function is set up, environment included.
    pub async fn function(&self, function: &str) -> Value {
        let url = format!("{}/2015-03-31/functions/{function}/configuration", self.endpoint);
        let answer = self.client.send("GET", &url, &[("authorization", &signature("lambda"))], "").await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()
    }

    /// What a function has logged, a line an entry; nothing where it has not run.
    pub async fn logs(&self, function: &str) -> Vec<String> {
        let group = json!({"logGroupName": format!("/aws/lambda/{function}"), "limit": 10000});
        let Ok(answer) = self.try_to_ask(LOGS, "FilterLogEvents", &group).await else { return Vec::new() };
        let events = answer["events"].as_array().cloned().unwrap_or_default();
        events.iter().filter_map(|event| Some(event["message"].as_str()?.to_owned())).collect()
    }

    /// Every item of a table, as DynamoDB writes it.
    pub async fn items(&self, table: &str) -> Vec<String> {
        let (mut items, mut after) = (Vec::new(), Value::Null);
        loop {
            let mut request = json!({"TableName": table});
            if !after.is_null() {
                request["ExclusiveStartKey"] = after;
            }
            let mut page = self.ask(TABLE, "Scan", request).await;
            items.extend(page["Items"].as_array().unwrap().iter().map(Value::to_string));
            after = page["LastEvaluatedKey"].take();
            if after.is_null() {
                return items;
            }
        }
    }

    /// Stores an item as it is, whatever stands in its place.
    pub async fn put_item(&self, table: &str, item: &Value) {
        self.ask(TABLE, "PutItem", json!({"TableName": table, "Item": item})).await;
    }

    /// An object.
    pub async fn object(&self, bucket: &str, key: &str) -> Vec<u8> {
        let url = format!("{}/{bucket}/{key}", self.endpoint);
        let answer = self.client.send("GET", &url, &[("authorization", &signature("s3"))], "").await;
        assert_eq!(answer.status, 200, "{key}: {}", answer.text());
        answer.body.to_vec()
    }

    /// The keys of objects in a bucket, below a prefix.
    pub async fn objects(&self, bucket: &str, prefix: &str) -> Vec<String> {
        let url = format!("{}/{bucket}?list-type=2&max-keys=1000&prefix={prefix}", self.endpoint);
        let answer = self.client.send("GET", &url, &[("authorization", &signature("s3"))], "").await;
        let text = answer.text();
        assert!(answer.status == 200 && text.contains("<IsTruncated>false"), "{text}");
        let keys = text.split("<Key>").skip(1).filter_map(|rest| rest.split_once("</Key>"));
        keys.map(|(key, _)| key.to_owned()).collect()
    }

    /// Deletes an object.
    pub async fn delete_object(&self, bucket: &str, key: &str) {
        let url = format!("{}/{bucket}/{key}", self.endpoint);
        let answer = self.client.send("DELETE", &url, &[("authorization", &signature("s3"))], "").await;
        assert!(matches!(answer.status, 200 | 204), "{key}: {}", answer.text());
    }

    /// Whether there is a bucket of this name.
    pub async fn has_bucket(&self, bucket: &str) -> bool {
        let url = format!("{}/{bucket}?list-type=2", self.endpoint);
        self.client.send("GET", &url, &[("authorization", &signature("s3"))], "").await.status == 200
    }

    /// Until when an object is locked, as S3 says it; nothing where it is not.
    pub async fn locked_until(&self, bucket: &str, key: &str) -> Option<String> {
        let url = format!("{}/{bucket}/{key}?retention", self.endpoint);
        let answer = self.client.send("GET", &url, &[("authorization", &signature("s3"))], "").await;
        let text = answer.text();
        let (_, rest) = text.split_once("<RetainUntilDate>")?;
        rest.split_once("</RetainUntilDate>").map(|(until, _)| until.to_owned())
    }
}

/// Who asks is not checked, but for which service is read from it.
fn signature(service: &str) -> String {
    let scope = format!("test/20260101/us-east-1/{service}/aws4_request");
    format!("AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature=0")
}
