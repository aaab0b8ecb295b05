//! A month of the audit log that is over leaves the table for the bucket, and is told from there.

use firebackup_model::Timestamp;
use serde_json::{Value, json};

use super::deployed::Deployed;

const MONTH: &str = "2026-01";

/// The first ten letters of a ULID: its time in milliseconds, five bits a letter.
fn time_of_ulid(time: Timestamp) -> String {
    const LETTERS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
    (0..10).rev().map(|place| char::from(LETTERS[(time.millis() >> (place * 5)) as usize & 31])).collect()
}

/// Plants an entry of a month that is long over, in an organization that is as old.
async fn plant(stack: &Deployed) -> String {
    let table = stack.output("TableName");
    let items: Vec<Value> =
        stack.aws.items(table).await.iter().map(|item| serde_json::from_str(item).unwrap()).collect();
    let organization = format!("ORG#{}", stack.organization);
    let time: Timestamp = format!("{MONTH}-15T12:00:00Z").parse().unwrap();
    let is_entry = |item: &&Value| item["pk"]["S"].as_str().unwrap().starts_with(&format!("{organization}#AUDIT#"));
    let mut entry = items.iter().find(is_entry).unwrap().clone();
    let id = format!("evt_{}{}", time_of_ulid(time), &entry["sk"]["S"].as_str().unwrap()[14..]);
    entry["pk"] = json!({ "S": format!("{organization}#AUDIT#{MONTH}") });
    entry["sk"] = json!({ "S": id });
    entry["body"]["M"]["id"] = json!({ "S": id });
    entry["body"]["M"]["timestamp"] = json!({ "S": time.to_string() });
    stack.aws.put_item(table, &entry).await;
    let is_record = |item: &&Value| item["pk"]["S"] == organization.as_str() && item["sk"]["S"] == "ORGANIZATION";
    let mut record = items.iter().find(is_record).unwrap().clone();
    record["body"]["M"]["createdAt"] = json!({ "S": format!("{MONTH}-01T00:00:00Z") });
    stack.aws.put_item(table, &record).await;
    id
}

pub async fn is_sealed(stack: &Deployed) {
    let destinations = stack.api.get("/storage/destinations").await;
    let own = destinations
        .as_array()
        .unwrap()
        .iter()
        .find(|one| one["url"].as_str().unwrap().starts_with(&stack.bucket_url()));
    let own = own.unwrap()["id"].as_str().unwrap();
    stack.api.ask("PUT", &format!("/storage/destinations/{own}"), &json!({ "isDefault": true })).await;
    let id = plant(stack).await;
    let sealed = stack.aws.invoke("firebackup-maintenance", json!({ "task": "audit" })).await;
    assert_eq!((&sealed["entries"], &sealed["failed"]), (&json!(1), &json!(0)), "{sealed:#}");
    let items = stack.aws.items(stack.output("TableName")).await;
    assert!(!items.iter().any(|item| item.contains(&format!("#AUDIT#{MONTH}"))), "it has left the table");
    let objects = stack.aws.objects(stack.output("BucketName"), "").await;
    let part = objects.iter().find(|key| key.contains(&format!("audit/{}/{MONTH}/{id}-", stack.organization)));
    assert!(part.is_some(), "{objects:?}");
    let found = stack.api.get(&format!("/audit?from={MONTH}-01T00:00:00Z&to={MONTH}-31T00:00:00Z")).await;
    assert_eq!((found.as_array().map(Vec::len), &found[0]["id"]), (Some(1), &json!(id)), "{found:#}");
}
