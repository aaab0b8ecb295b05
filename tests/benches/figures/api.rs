//! What a server answers in a second, and what a page of a list takes with few and with many records: `wrk` asks it over
//! the loopback interface.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use firebackup_embedded::{Database, SqliteItemStore, SystemClock, SystemRandom};
use firebackup_model::id::{JobId, JobKind};
use firebackup_model::port::{ItemKey, ItemQuery, ItemStore, ItemWrite, NewItem, Random};
use serde_json::Value;

use crate::serve::{end, start, told};
use crate::stage::{Result, firebackup};

/// What a demonstration tells when it has taken its backup.
struct Demo {
    key: String,
    project: String,
}

const ROUNDS: usize = 11;
/// Records that one transaction makes.
const BATCH: usize = 100;

pub async fn run() -> Result<()> {
    println!("\n# the API of firebackup serve, asked by wrk (1 thread, 8 connections, 5 s a figure)");
    let program = firebackup()?;
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let data = folder.path().join("data");
    let demo = demonstrate(&program, &data)?;
    let list = format!("/api/v1/backups/project/{}?limit=20", demo.project);
    let mut records = 1;
    for wanted in [100, 10_000, 100_000] {
        make_backups(&data, wanted - records).await?;
        records = wanted;
        if wanted == 10_000 {
            print_starts(&program, &data)?;
        }
        let (server, _, address) = start(&program, &data)?;
        let (first, key) = (format!("http://{address}{list}"), Some(demo.key.as_str()));
        let next = format!("{first}&cursor={}", cursor_of(&first, &demo.key).await?);
        let health = asked(&format!("http://{address}/health"), None, false)?;
        print!("{wanted:>7} backups: /health {health:.0}/s");
        for (name, url) in [("first page", first), ("next page", next)] {
            let (kept, anew) = (asked(&url, key, false)?, asked(&url, key, true)?);
            print!(", {name} {kept:.0}/s ({:.2}), made anew {anew:.0}/s ({:.2})", kept / health, anew / health);
        }
        println!();
        end(server)?;
    }
    Ok(())
}

fn print_starts(program: &Path, data: &Path) -> Result<()> {
    let mut times = Vec::new();
    for _ in 0..ROUNDS {
        let (server, took, _) = start(program, data)?;
        end(server)?;
        times.push(took);
    }
    println!("start to the first answer with 10,000 backups on record: {}", told(times));
    Ok(())
}

/// Takes a first backup on the emulator, and ends.
fn demonstrate(program: &Path, data: &Path) -> Result<Demo> {
    let mut command = Command::new(program);
    command.args(["serve", "--demo", "--json", "--quiet", "--listen", "127.0.0.1:0", "--data"]).arg(data);
    let mut server = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
    let output = server.stdout.take().ok_or("its output is piped")?;
    let shown = serde_json::Deserializer::from_reader(output).into_iter::<Value>().next();
    let shown = shown.ok_or("the demonstration says nothing")??;
    end(server)?;
    let text = |value: &Value| value.as_str().map(str::to_owned).ok_or("the demonstration says something else");
    Ok(Demo { key: text(&shown["apiKey"])?, project: text(&shown["demo"]["projectId"])? })
}

/// Puts more records of the same backup into the database of a server that has ended.
async fn make_backups(data: &Path, more: usize) -> Result<()> {
    let database = Database::open(data.join("firebackup.db")).await?;
    let items = SqliteItemStore::new(database, Arc::new(SystemClock));
    let organizations = items.query(&ItemQuery::prefix("ORGANIZATIONS", "ORG#")).await?;
    let partition = organizations.items.first().ok_or("there is no organization")?.key.sort.clone();
    let known = items.query(&ItemQuery { limit: 1, ..ItemQuery::prefix(&partition, "JOB#bkp_") }).await?;
    let known = known.items.into_iter().next().ok_or("there is no backup")?;
    let project = known.body["projectId"].as_str().ok_or("the backup has no project")?;
    let index = format!("{partition}#PROJECT#{project}");
    let ids: Vec<_> = (0..more).map(new_id).collect();
    for ids in ids.chunks(BATCH) {
        let writes = ids.iter().map(|id| {
            let mut body = known.body.clone();
            body.insert("id".to_owned(), id.to_string().into());
            let index = Some(ItemKey::new(&index, format!("JOB#{id}")));
            ItemWrite::Create(NewItem { index, ..NewItem::new(ItemKey::new(&partition, format!("JOB#{id}")), body) })
        });
        items.write(writes.collect()).await?;
    }
    Ok(())
}

/// Different in each call of a run, too: times are random enough.
fn new_id(number: usize) -> JobId {
    let mut tail = [0; 10];
    SystemRandom.fill(&mut tail);
    JobId::new(JobKind::Backup, 1_700_000_000_000 + number as u64, tail)
}

/// Answers a second; `anew` asks for none from memory.
fn asked(url: &str, key: Option<&str>, anew: bool) -> Result<f64> {
    let mut command = Command::new("wrk");
    command.args(["-t1", "-c8", "-d5s"]);
    if let Some(key) = key {
        command.args(["-H", &format!("Authorization: Bearer {key}")]);
    }
    if anew {
        command.args(["-H", "Cache-Control: no-cache"]);
    }
    let output = command.arg(url).output().map_err(|error| format!("wrk is needed (package `wrk`): {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    if text.contains("Non-2xx") {
        return Err(format!("not everything was answered: {text}").into());
    }
    let rate = text.lines().find_map(|line| line.strip_prefix("Requests/sec:")).ok_or("wrk says nothing")?;
    Ok(rate.trim().parse()?)
}

async fn cursor_of(url: &str, key: &str) -> Result<String> {
    let answer = reqwest::Client::builder().no_proxy().build()?.get(url).bearer_auth(key).send().await?;
    let answer: Value = answer.json().await?;
    let cursor = answer["meta"]["cursor"].as_str();
    let cursor = cursor.ok_or_else(|| format!("there is no next page: {}", answer["meta"]))?;
    Ok(cursor.bytes().map(|byte| format!("%{byte:02x}")).collect())
}
