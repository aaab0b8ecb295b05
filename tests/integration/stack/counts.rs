//! What a backup and an idle stack ask of AWS: the numbers that the cost model reckons with are those that are counted here.
//!
//! By hand, with the zips that are deployed and a larger database, it also tells how long functions take and what memory:
//! `FIREBACKUP_STACK_ZIPS=target/lambda FIREBACKUP_STACK_DOCUMENTS=200000 cargo nextest run … --no-capture stack::counts`.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use firebackup_testkit::AwsCall;
use serde_json::{Value, json};

use super::api::id_of;
use super::deployed::{BOUND, Connected, Deployed};
use super::root;

/// So many documents more for `FIREBACKUP_STACK_DOCUMENTS`.
const DOCUMENTS: usize = 1000;

/// What a step notes each second while it works, besides the chunks that are done.
const WORK: [&str; 5] = ["documents", "bytes", "stored", "reads", "writes"];

/// What was asked of AWS, in the units of its bills.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Asked {
    table_reads: f64,
    table_writes: f64,
    puts: f64,
    gets: f64,
    key_calls: f64,
}

/// Counts until it is dropped.
struct Counting(Arc<Mutex<Asked>>);

impl Counting {
    fn of(stack: &Deployed) -> Self {
        let asked = Arc::new(Mutex::new(Asked::default()));
        let counter = Arc::clone(&asked);
        stack.aws_proxy.faults().strike(move |call| {
            let mut asked = counter.lock().unwrap();
            match (call.service.as_str(), call.operation.as_str()) {
                ("dynamodb", "GetItem" | "Query") => asked.table_reads += 1.0,
                // a transaction costs twice
                ("dynamodb", "TransactWriteItems") => asked.table_writes += 2.0 * call.items as f64,
                ("dynamodb", "UpdateItem") if is_noted_on_the_way(call) => {}
                ("dynamodb", _) => asked.table_writes += 1.0,
                ("s3", "PUT" | "POST") => asked.puts += 1.0,
                ("s3", "GET" | "HEAD") => asked.gets += 1.0,
                ("kms", _) => asked.key_calls += 1.0,
                _ => {}
            }
            None
        });
        Self(asked)
    }

    fn end(self, stack: &Deployed) -> Asked {
        stack.aws_proxy.faults().clear();
        *self.0.lock().unwrap()
    }
}

/// Whether an update only says how far a step is, and not that it is done: the model reckons by the second with these.
fn is_noted_on_the_way(update: &AwsCall) -> bool {
    let mut counters = update.attributes.iter().filter_map(|name| name.strip_prefix("n:")).peekable();
    counters.peek().is_some() && counters.all(|counter| WORK.contains(&counter))
}

/// A backup of the project, and what its functions asked for; the API's own requests are few and not counted in.
async fn backed_up(stack: &Deployed, project: &Connected) -> (f64, Asked) {
    let counting = Counting::of(stack);
    let path = stack.api.backup(&project.id).await;
    // not asked how it stands: the answer would count
    stack.execution_ends(id_of(&path), "SUCCEEDED").await;
    let asked = counting.end(stack);
    let job = stack.api.reaches(&path, &["completed"], BOUND).await;
    (job["chunks"].as_u64().unwrap() as f64, asked)
}

fn documents() -> usize {
    std::env::var("FIREBACKUP_STACK_DOCUMENTS").ok().and_then(|text| text.parse().ok()).unwrap_or(DOCUMENTS)
}

fn inputs() -> Value {
    serde_json::from_str(&std::fs::read_to_string(root().join("docs/cost-inputs.json")).unwrap()).unwrap()
}

/// The inputs of the model, and what is wrong with them.
struct Reckoned {
    inputs: Value,
    wrong: Vec<String>,
}

impl Reckoned {
    /// What the model reckons with is not less than what is counted, and not much more.
    fn compare(&mut self, of: &str, name: &str, counted: f64) {
        let reckoned = self.inputs["measured"][of][name]["value"].as_f64();
        println!("{of}.{name}: {counted:.2} counted, {reckoned:?} reckoned with");
        // what takes longer asks more often whether it was cancelled, which the model reckons by the second
        let slack = match name {
            "table_reads_a_chunk" => 4.0,
            "table_reads_a_job" => 2.0,
            // the scheduler's own tick may fall into the count
            "sweep_table_reads" | "tick_table_reads" => 1.0,
            _ => 0.01,
        };
        let is_right = |reckoned: f64| counted <= reckoned + slack && reckoned <= 2.0 * counted + 2.0;
        if !reckoned.is_some_and(is_right) {
            self.wrong.push(format!("{of}.{name}: {counted:.2} counted, {reckoned:?} reckoned with"));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_job_and_a_sweep_ask_of_aws_is_what_the_cost_model_reckons_with() {
    let documents = documents();
    let stack = Deployed::with(&format!("ChunkDocuments={}", documents / 20)).await;
    stack.api.add_destination(&stack.bucket_url()).await;
    let (small, large) = (stack.project("demo-few", documents / 5).await, stack.project("demo-many", documents).await);
    let (stack, mut reckoned) = (&stack, Reckoned { inputs: inputs(), wrong: Vec::new() });
    stack
        .explaining("counting", async {
            for project in [&small, &large] {
                // the first backup makes the repository
                backed_up(stack, project).await;
            }
            let (few_chunks, few) = backed_up(stack, &small).await;
            let (many_chunks, many) = backed_up(stack, &large).await;
            assert!(many_chunks >= few_chunks + 10.0, "{few_chunks} and {many_chunks} chunks");
            let more = many_chunks - few_chunks;
            let a_chunk = |of: fn(&Asked) -> f64| (of(&many) - of(&few)) / more;
            let a_job = |of: fn(&Asked) -> f64| (of(&few) - a_chunk(of) * few_chunks).max(0.0);
            for (name, of) in [
                ("table_writes", (|asked: &Asked| asked.table_writes) as fn(&Asked) -> f64),
                ("table_reads", |asked| asked.table_reads),
                ("puts", |asked| asked.puts),
                ("gets", |asked| asked.gets),
                ("key_calls", |asked| asked.key_calls),
            ] {
                reckoned.compare("backup", &format!("{name}_a_chunk"), a_chunk(of));
                reckoned.compare("backup", &format!("{name}_a_job"), a_job(of));
            }
            let counting = Counting::of(stack);
            stack.aws.invoke(stack.output("MaintenanceFunctionName"), json!({"task": "sweep"})).await;
            let swept = counting.end(stack);
            reckoned.compare("idle", "sweep_table_reads", swept.table_reads);
            reckoned.compare("idle", "sweep_table_writes", swept.table_writes);
            let counting = Counting::of(stack);
            let tick = json!({"Records": [{"messageId": "tick", "body": r#"{"tick":"now"}"#}]});
            let ticked = stack.aws.invoke("firebackup-pitr-ingest", tick).await;
            assert_eq!(ticked["batchItemFailures"], json!([]), "{ticked:#}");
            reckoned.compare("idle", "tick_table_reads", counting.end(stack).table_reads);
            tell_times(stack).await;
            assert!(reckoned.wrong.is_empty(), "edit docs/cost-inputs.json: {:#?}", reckoned.wrong);
        })
        .await;
}

/// How long each function took and what memory it had, as the service reports: the middle and the most.
async fn tell_times(stack: &Deployed) {
    for function in ["job-start", "backup-plan", "backup-chunk", "backup-finalize", "maintenance"] {
        let lines = stack.aws.logs(&format!("{}-{function}", stack.output("TableName"))).await;
        let mut found = BTreeMap::<&str, Vec<f64>>::new();
        for line in lines.iter().filter(|line| line.starts_with("REPORT")) {
            for name in ["Duration: ", "Max Memory Used: "] {
                let number =
                    line.split(name).nth(1).and_then(|rest| rest.split_whitespace().next()?.parse::<f64>().ok());
                found.entry(name).or_default().extend(number);
            }
        }
        for (name, mut numbers) in found {
            numbers.sort_by(f64::total_cmp);
            let (middle, most) = (numbers.get(numbers.len() / 2), numbers.last());
            println!("{function}: {name}{middle:?}, at most {most:?}, of {}", numbers.len());
        }
    }
}
