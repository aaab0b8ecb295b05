//! Months of the audit log that are over leave the table, sealed, and are read as before.

use firebackup_control::{
    AuditEntry, AuditFilter, Code, Kind, NewDestination, OrganizationChange, Outcome, Page, Refused, SealedAudit,
};

use crate::world::{World, code, new_destination};

const DAY: i64 = 86_400;

async fn told(world: &World, filter: &AuditFilter, limit: u32) -> Vec<AuditEntry> {
    let (mut found, mut cursor) = (Vec::new(), None);
    loop {
        let page = Page { page: 1, limit, cursor };
        let page = world.control.audit(&world.owner().await, filter, &page).await.unwrap();
        assert!(page.items.len() <= limit as usize);
        found.extend(page.items);
        cursor = page.next;
        if cursor.is_none() {
            return found;
        }
    }
}

/// All that is told but of sealing itself.
async fn history(world: &World, limit: u32) -> Vec<AuditEntry> {
    let all = told(world, &AuditFilter::default(), limit).await;
    all.into_iter().filter(|entry| entry.action != "audit.sealed").collect()
}

async fn change(world: &World) {
    world.control.update_organization(&world.owner().await, OrganizationChange::default()).await.unwrap();
    world.clock.advance(1);
}

async fn refuse(world: &World) {
    let refused = Refused { method: "DELETE", route: "/projects/{projectId}", code: Code::Forbidden };
    world.control.note_refused(&world.owner().await, &refused).await;
}

/// A world with a bucket and three months of changes and refusals, the last of them under way for eight days.
async fn three_months() -> World {
    let world = World::new().await;
    world.set_up().await;
    world.clock.set("2100-02-20T00:00:00Z".parse().unwrap());
    for _ in 0..3 {
        for _ in 0..5 {
            change(&world).await;
            refuse(&world).await;
        }
        refuse(&world).await;
        world.clock.advance(31 * DAY);
    }
    world.clock.set("2100-05-09T00:00:00Z".parse().unwrap());
    change(&world).await;
    world
}

async fn seal(world: &World) -> SealedAudit {
    world.control.seal_audit(&world.worker().await).await.unwrap()
}

/// How many entries the table still holds of months but this one.
fn left(world: &World) -> usize {
    let items = world.items.all();
    items
        .iter()
        .filter(|item| item.key.partition.contains("#AUDIT#") && !item.key.partition.ends_with("2100-05"))
        .count()
}

/// How many entries all parts hold that are remembered.
fn in_parts(world: &World) -> u64 {
    let items = world.items.all();
    let parts = items.iter().filter(|item| item.key.partition.contains("#SEALED#"));
    parts.map(|item| item.body["entries"].as_u64().unwrap()).sum()
}

#[tokio::test]
async fn a_month_that_is_over_leaves_the_table_and_is_told_as_before() {
    let world = three_months().await;
    let before = history(&world, 7).await;
    let was_there = left(&world);
    assert!(before.iter().any(|entry| entry.outcome == Outcome::Refused && entry.count.unwrap() > 1), "{before:?}");
    let sealed = seal(&world).await;
    assert_eq!((sealed.entries, left(&world), in_parts(&world)), (was_there as u64, 0, was_there as u64));
    for limit in [1, 7, 100] {
        assert_eq!(history(&world, limit).await, before, "{limit} a page");
    }
    let told_of_it =
        told(&world, &AuditFilter { action: Some("audit.".to_owned()), ..AuditFilter::default() }, 9).await;
    assert_eq!(told_of_it.len() as u64, sealed.parts);
    assert_eq!(told_of_it[0].actor, "system");
    assert_eq!(seal(&world).await, SealedAudit::default(), "there is nothing more to do");
}

#[tokio::test]
async fn every_filter_finds_in_sealed_months_what_it_found_before() {
    let world = three_months().await;
    let owner = world.owner().await;
    let time = |text: &str| Some(text.parse().unwrap());
    let filters = [
        AuditFilter { actor: Some(owner.actor().to_string()), ..AuditFilter::default() },
        AuditFilter { action: Some("organization.".to_owned()), ..AuditFilter::default() },
        AuditFilter { resource: Some(owner.organization().to_string()), ..AuditFilter::default() },
        AuditFilter { outcome: Some(Outcome::Refused), ..AuditFilter::default() },
        AuditFilter { from: time("2100-02-20T00:00:02Z"), ..AuditFilter::default() },
        AuditFilter { to: time("2100-03-23T00:00:03Z"), ..AuditFilter::default() },
        AuditFilter { from: time("2100-02-20T00:00:04Z"), to: time("2100-03-23T00:00:02Z"), ..AuditFilter::default() },
        AuditFilter { from: time("2100-03-01T00:00:00Z"), to: time("2100-03-20T00:00:00Z"), ..AuditFilter::default() },
    ];
    let mut before = Vec::new();
    for filter in &filters {
        before.push(told(&world, filter, 3).await);
    }
    assert_eq!(before.iter().filter(|found| found.is_empty()).count(), 1, "the last one only");
    seal(&world).await;
    for (filter, before) in filters.iter().zip(before) {
        let mut after = told(&world, filter, 3).await;
        after.retain(|entry| entry.action != "audit.sealed");
        assert_eq!(after, before, "{filter:?}");
    }
}

#[tokio::test]
async fn a_month_stays_while_somebody_may_still_write_into_it_and_where_there_is_no_destination() {
    let world = three_months().await;
    world.clock.set("2100-05-07T23:59:59Z".parse().unwrap());
    seal(&world).await;
    let partitions = |world: &World| {
        let mut found: Vec<_> = world.items.all().into_iter().map(|item| item.key.partition).collect();
        found.retain(|partition| partition.contains("#AUDIT#"));
        found.dedup();
        found.iter().map(|partition| partition[partition.len() - 7..].to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(partitions(&world), ["2100-04", "2100-05"], "April ended less than seven days ago");
    let bare = World::new().await;
    change(&bare).await;
    bare.clock.advance(400 * DAY);
    assert_eq!(seal(&bare).await, SealedAudit::default());
    assert!(!history(&bare, 10).await.is_empty());
}

#[tokio::test]
async fn what_is_sealed_shows_nothing_and_opens_with_the_master_key_alone() {
    let world = three_months().await;
    let before = left(&world);
    seal(&world).await;
    let objects = world.archive.objects.lock().unwrap().clone();
    let organization = world.owner().await.organization();
    let mut entries = 0;
    for (name, bytes) in &objects {
        assert!(name.starts_with(&format!("audit/{organization}/2100-0")), "{name}");
        let text = String::from_utf8_lossy(bytes);
        assert!(!text.contains("organization.updated") && !text.contains("planted"), "{name}");
        if let Some(folder) = name.strip_suffix("/key") {
            entries += opened_by_hand(&world, &objects, folder).await;
        }
    }
    assert_eq!(entries, before, "all of it, without the table");
}

/// How many entries the parts of a month hold, as docs/format.md says how to read them.
async fn opened_by_hand(world: &World, objects: &std::collections::BTreeMap<String, Vec<u8>>, folder: &str) -> usize {
    use base64::Engine;
    use firebackup_codec::object::{ObjectType, open};
    use firebackup_codec::{Sealing, SecretKey};
    use firebackup_model::id::{KeyId, RepositoryId};
    use firebackup_model::port::{KeyService, WrappedKey};
    use sha2::Digest;
    let key: serde_json::Value = serde_json::from_slice(&objects[&format!("{folder}/key")]).unwrap();
    let bytes = base64::engine::general_purpose::STANDARD.decode(key["wrapped"].as_str().unwrap()).unwrap();
    let id = KeyId(sha2::Sha256::digest(&bytes)[..16].try_into().unwrap());
    let wrapped = WrappedKey { master: key["master"].as_str().unwrap().to_owned(), bytes };
    let context = serde_json::from_value(key["context"].clone()).unwrap();
    let opened = world.keys.unwrap(&wrapped, &context).await.unwrap();
    let sealing = Sealing::Key { id, key: SecretKey::from_bytes(*opened.expose()) };
    let repository = RepositoryId(world.owner().await.organization().ulid().to_bytes());
    let parts = objects.iter().filter(|(name, _)| name.starts_with(&format!("{folder}/evt_")));
    parts
        .map(|(name, bytes)| {
            let opened = open(ObjectType::AuditPart, repository, name, &sealing, bytes).unwrap();
            let contents: serde_json::Value = serde_json::from_slice(&opened.json).unwrap();
            contents["entries"].as_array().unwrap().len()
        })
        .sum()
}

#[tokio::test]
async fn whoever_dies_after_any_write_loses_nothing_and_tells_nothing_twice() {
    let whole = three_months().await;
    let before = history(&whole, 9).await;
    let expected = left(&whole) as u64;
    for writes in 0.. {
        let world = three_months().await;
        world.items.stop_after(Some(writes));
        let died = world.control.seal_audit(&world.worker().await).await.is_err();
        let told: Vec<_> = history(&world, 4).await.into_iter().map(|entry| (entry.action, entry.timestamp)).collect();
        let known: Vec<_> = before.iter().map(|entry| (entry.action.clone(), entry.timestamp)).collect();
        assert_eq!(told, known, "dead after {writes} writes");
        world.items.stop_after(None);
        seal(&world).await;
        assert_eq!((left(&world), in_parts(&world)), (0, expected), "dead after {writes} writes");
        if !died {
            assert!(writes > 4, "there are more writes than that");
            return;
        }
    }
}

#[tokio::test]
async fn two_at_once_seal_each_entry_once() {
    for seed in 0..20 {
        let world = three_months().await;
        world.items.vary(seed * 1000);
        let (expected, worker) = (left(&world) as u64, world.worker().await);
        let (one, two) = tokio::join!(world.control.seal_audit(&worker), world.control.seal_audit(&worker));
        one.unwrap();
        two.unwrap();
        seal(&world).await;
        assert_eq!((left(&world), in_parts(&world)), (0, expected), "seed {seed}");
    }
}

#[tokio::test]
async fn a_destination_that_does_not_give_back_what_was_put_gets_nothing() {
    let world = three_months().await;
    let (before, was_there) = (history(&world, 9).await, left(&world));
    *world.archive.fails.lock().unwrap() = true;
    let error = world.control.seal_audit(&world.worker().await).await.unwrap_err();
    assert_eq!(error.kind, Kind::Upstream);
    assert_eq!((left(&world), history(&world, 9).await), (was_there, before.clone()));
    *world.archive.fails.lock().unwrap() = false;
    // whoever holds the bucket has put something else under the names
    let probe = three_months().await;
    seal(&probe).await;
    let names: Vec<_> = probe.archive.objects.lock().unwrap().keys().cloned().collect();
    for name in names.iter().filter(|name| !name.ends_with("/key")) {
        world.archive.objects.lock().unwrap().insert(name.clone(), b"something else".to_vec());
    }
    let error = world.control.seal_audit(&world.worker().await).await.unwrap_err();
    assert_eq!(error.kind, Kind::Upstream, "{error}");
    assert_eq!((left(&world), in_parts(&world)), (was_there, 0));
    assert_eq!(history(&world, 9).await, before);
}

#[tokio::test]
async fn months_that_are_out_of_reach_keep_nobody_from_this_one() {
    let world = three_months().await;
    seal(&world).await;
    *world.archive.fails.lock().unwrap() = true;
    let this_month = AuditFilter { from: Some("2100-05-01T00:00:00Z".parse().unwrap()), ..AuditFilter::default() };
    assert!(!told(&world, &this_month, 9).await.is_empty());
    let page = Page { limit: 100, ..Page::default() };
    let all = world.control.audit(&world.owner().await, &AuditFilter::default(), &page).await;
    assert_eq!(code(all), Code::DestinationFailed);
}

#[tokio::test]
async fn a_cursor_stays_good_when_its_month_is_sealed_meanwhile() {
    let world = three_months().await;
    let before = history(&world, 9).await;
    let page = world.control.audit(&world.owner().await, &AuditFilter::default(), &Page::number(1, 9)).await.unwrap();
    seal(&world).await;
    let mut found = page.items;
    let mut cursor = page.next;
    while cursor.is_some() {
        let page = Page { page: 1, limit: 2, cursor };
        let page = world.control.audit(&world.owner().await, &AuditFilter::default(), &page).await.unwrap();
        found.extend(page.items);
        cursor = page.next;
    }
    assert_eq!(found, before);
}

#[tokio::test]
async fn what_comes_late_into_a_sealed_month_is_told_and_sealed_too() {
    let world = three_months().await;
    seal(&world).await;
    let now = world.now();
    world.clock.set("2100-03-23T00:00:01.500Z".parse().unwrap());
    change(&world).await;
    world.clock.set(now);
    let late = AuditFilter {
        from: Some("2100-03-23T00:00:01.400Z".parse().unwrap()),
        to: Some("2100-03-23T00:00:01.600Z".parse().unwrap()),
        ..AuditFilter::default()
    };
    assert_eq!(told(&world, &late, 9).await.len(), 1);
    let all = history(&world, 3).await;
    assert!(all.is_sorted_by(|a, b| a.id > b.id), "in its place, and each once");
    assert_eq!(seal(&world).await, SealedAudit { parts: 1, entries: 1 });
    assert_eq!((told(&world, &late, 9).await.len(), history(&world, 3).await), (1, all));
}

#[tokio::test]
async fn a_destination_with_sealed_months_is_in_use() {
    let world = World::new().await;
    let kept = world.destination().await;
    let spare: NewDestination = NewDestination { is_default: false, ..new_destination("Spare") };
    let spare = world.control.add_destination(&world.owner().await, spare).await.unwrap();
    world.clock.advance(60 * DAY);
    seal(&world).await;
    assert!(in_parts(&world) > 0);
    let owner = world.owner().await;
    let refused = world.control.remove_destination(&owner, &kept.id).await.unwrap_err();
    assert_eq!(refused.code, Code::InUse);
    assert_eq!(refused.details.unwrap()["usedBy"][0], "the audit log");
    world.control.remove_destination(&owner, &spare.id).await.unwrap();
    assert!(!history(&world, 9).await.is_empty());
}

#[tokio::test]
async fn a_month_of_many_entries_is_cut_into_parts_of_which_a_page_reads_few() {
    let world = World::new().await;
    world.set_up().await;
    world.clock.set("2100-02-01T00:00:00Z".parse().unwrap());
    for _ in 0..2300 {
        change(&world).await;
    }
    world.clock.set("2100-03-09T00:00:00Z".parse().unwrap());
    let sealed = seal(&world).await;
    assert_eq!(sealed.parts, 3 + 1, "of February, and one of January or before");
    *world.archive.reads.lock().unwrap() = 0;
    let filter = AuditFilter { to: Some("2100-02-01T00:30:00Z".parse().unwrap()), ..AuditFilter::default() };
    let page = world.control.audit(&world.owner().await, &filter, &Page::number(1, 50)).await.unwrap();
    assert_eq!((page.items.len(), page.items[0].timestamp), (50, "2100-02-01T00:29:59Z".parse().unwrap()));
    assert_eq!(*world.archive.reads.lock().unwrap(), 1);
    assert_eq!(told(&world, &filter, 100).await.len(), 1800 + 3);
}

/// Parts were looked for once and the table read later: what was sealed and removed in between was told by neither.
#[tokio::test]
async fn a_search_while_months_are_sealed_finds_each_entry_once() {
    for seed in 0..60 {
        let world = three_months().await;
        let before = history(&world, 9).await;
        world.items.vary(seed * 1000);
        let worker = world.worker().await;
        let (found, sealed) = tokio::join!(history(&world, 2), world.control.seal_audit(&worker));
        sealed.unwrap();
        assert_eq!(found, before, "seed {seed}");
    }
}
