//! Lists, a page at a time.

use firebackup_control::{
    AuditFilter, Code, Kind, NewInvite, Page, Paged, Project, ProjectFilter, Role, ScheduleFilter, Webhook,
};
use firebackup_model::port::{Item, ItemKey, ItemStore, ItemWrite, MAX_TRANSACTION_WRITES, NewItem};
use firebackup_testkit::memory_issuer::identity;

use crate::world::{World, code, new_project};

async fn list(world: &World, search: Option<&str>, page: Page) -> firebackup_control::Result<Paged<Project>> {
    let filter = ProjectFilter { search: search.map(str::to_owned), status: None };
    world.control.projects(&world.owner().await, &filter, &page).await
}

async fn names(world: &World, search: Option<&str>, limit: u32) -> Vec<String> {
    let (mut names, mut cursor) = (Vec::new(), None);
    loop {
        let page = list(world, search, Page { page: 1, limit, cursor }).await.unwrap();
        assert!(page.items.len() <= limit as usize);
        names.extend(page.items.into_iter().map(|project| project.name));
        cursor = page.next;
        if cursor.is_none() {
            return names;
        }
    }
}

#[tokio::test]
async fn cursors_and_numbers_lead_through_everything_once() {
    let world = World::new().await;
    let mut expected = Vec::new();
    for index in 0..11 {
        world.clock.advance(1);
        let name = format!("{} {index:02}", if index % 3 == 0 { "even" } else { "odd" });
        world.control.connect_project(&world.owner().await, new_project(&name)).await.unwrap();
        expected.push(name);
    }
    for limit in 1..=12 {
        assert_eq!(names(&world, None, limit).await, expected, "by cursor, {limit} a page");
        let picked = names(&world, Some("even"), limit).await;
        assert_eq!(picked, ["even 00", "even 03", "even 06", "even 09"], "filtered, {limit} a page");
        let mut numbered = Vec::new();
        for number in 1..=12 {
            let page = list(&world, None, Page::number(number, limit)).await.unwrap();
            assert_eq!((page.page, page.limit, page.total), (number, limit, Some(11)));
            numbered.extend(page.items.into_iter().map(|project| project.name));
        }
        assert_eq!(numbered, expected, "by number, {limit} a page");
    }
    let second = list(&world, Some("even"), Page::number(2, 3)).await.unwrap();
    assert_eq!((second.items[0].name.as_str(), second.items.len(), second.total), ("even 09", 1, Some(4)));
}

#[tokio::test]
async fn pages_that_cannot_be_are_refused() {
    let world = World::new().await;
    for page in [
        Page { limit: 0, ..Page::default() },
        Page { limit: 101, ..Page::default() },
        Page { page: 0, ..Page::default() },
        Page::number(101, 100),
        Page::number(u32::MAX, 100),
    ] {
        assert_eq!(code(list(&world, None, page.clone()).await), Code::ValidationFailed, "{page:?}");
    }
    assert!(list(&world, None, Page::number(100, 100)).await.unwrap().items.is_empty());
    for cursor in ["", "x", "[]"] {
        let error = list(&world, None, Page { cursor: Some(cursor.to_owned()), ..Page::default() }).await.unwrap_err();
        assert_eq!((error.kind, error.code), (Kind::Invalid, Code::InvalidCursor), "{cursor}");
    }
}

#[tokio::test]
async fn backups_and_restores_come_newest_first() {
    let world = World::new().await;
    let (project, _) = world.set_up().await;
    let other = world.project().await;
    let mut expected = Vec::new();
    for index in 0..6 {
        world.clock.advance(1);
        let of = if index % 2 == 0 { &project } else { &other };
        expected.insert(0, world.backup(of).await.job.id);
    }
    let owner = world.owner().await;
    let ids = async |project| {
        let page = world.control.backups(&owner, project, &Page::default()).await.unwrap();
        page.items.into_iter().map(|backup| backup.job.id).collect::<Vec<_>>()
    };
    assert_eq!(ids(None).await, expected);
    let every_other: Vec<_> = expected.iter().skip(1).step_by(2).cloned().collect();
    assert_eq!(ids(Some(&project.id)).await, every_other);
}

/// Fills a list up to `count` records, all like the first one that is there, under ids that follow one another.
async fn fill(world: &World, partition: &str, prefix: &str, count: usize) {
    let items = world.items.all();
    let is_of_list = |item: &&Item| item.key.partition.ends_with(partition) && item.key.sort.starts_with(prefix);
    let listed: Vec<_> = items.iter().filter(is_of_list).collect();
    let (first, there) = (listed[0], listed.len());
    let project = first.body.get("projectId").and_then(|id| id.as_str()).unwrap_or_default();
    let stem = &first.key.sort[..first.key.sort.len() - 8];
    let copies: Vec<_> = (there..count)
        .map(|number| {
            let key = ItemKey::new(first.key.partition.clone(), format!("{stem}{number:08}"));
            let index = ItemKey::new(format!("{}#PROJECT#{project}", key.partition), key.sort.clone());
            let index = prefix.starts_with("JOB#bkp").then_some(index);
            ItemWrite::Create(NewItem { index, ..NewItem::new(key, first.body.clone()) })
        })
        .collect();
    for some in copies.chunks(MAX_TRANSACTION_WRITES) {
        world.items.write(some.to_vec()).await.unwrap();
    }
}

/// What DynamoDB is paid for is what a query reads, shown or not: of a page that is the same however long the list is.
#[tokio::test]
async fn a_page_of_any_list_costs_the_same_at_a_hundred_records_and_at_many_more() {
    let world = World::new().await;
    let (owner, control) = (world.owner().await, &world.control);
    let (project, _) = world.set_up().await;
    world.schedule(&project).await;
    let backup = world.completed(&project).await;
    control.create_restore(&owner, crate::world::new_restore(&backup), &crate::world::NoMoments, None).await.unwrap();
    let (webhook, _) = world.webhook().await;
    control.test_webhook(&owner, &webhook.id).await.unwrap();
    let invite = NewInvite { email: "bob@example.com".to_owned(), role: Role::Member };
    let (_, token) = control.invite(&owner, invite.clone()).await.unwrap();
    let bob = world.person(identity("Bob", "bob@example.com")).await;
    control.accept_invite(&bob, &token).await.unwrap();
    control.invite(&owner, NewInvite { email: "eve@example.com".to_owned(), ..invite }).await.unwrap();
    let (organization, deliveries) = (owner.organization().to_string(), format!("#WEBHOOK#{}", webhook.id));
    let month = world.items.all().into_iter().map(|item| item.key.partition).find(|name| name.contains("#AUDIT#"));
    let lists = [
        ("projects", organization.as_str(), "PROJECT#", 1_500),
        ("destinations", &organization, "STORAGE#", 1_500),
        ("schedules", &organization, "SCHEDULE#", 1_500),
        ("restores", &organization, "JOB#restore_", 1_500),
        ("webhooks", &organization, "WEBHOOK#", 1_500),
        ("deliveries", &deliveries, "dlv_", 1_500),
        ("members", &organization, "MEMBER#", 1_500),
        ("invites", &organization, "INVITE#", 1_500),
        ("keys", &organization, "KEY#", 1_500),
        ("audit", month.as_deref().unwrap(), "evt_", 1_500),
        ("backups", &organization, "JOB#bkp_", 20_000),
        ("backups of a project", &organization, "JOB#bkp_", 20_000),
    ];
    for (list, partition, prefix, many) in lists {
        let mut costs = Vec::new();
        for count in [101, many] {
            fill(&world, partition, prefix, count).await;
            for number in [1, 3] {
                let shown = shown(&world, list, &project, &webhook, &Page::number(number, 20)).await;
                assert_eq!(shown, (20, None), "{list} of {count}, page {number}");
                costs.push(world.items.take_read());
            }
        }
        assert_eq!(costs[..2], costs[2..], "{list}: queries and items of pages 1 and 3, of 101 and of {many}");
        assert!(costs[0].items <= 20 + 101 + 25, "{list}: {costs:?}");
    }
}

/// How many entries a page of a list shows, and the total.
async fn shown(world: &World, list: &str, project: &Project, webhook: &Webhook, page: &Page) -> (usize, Option<u64>) {
    const fn told<T>(page: &Paged<T>) -> (usize, Option<u64>) {
        (page.items.len(), page.total)
    }
    let (owner, control) = (world.owner().await, &world.control);
    // what it took to find out who asks is no part of the page
    let _before = world.items.take_read();
    match list {
        "projects" => told(&control.projects(&owner, &ProjectFilter::default(), page).await.unwrap()),
        "destinations" => told(&control.destinations(&owner, page).await.unwrap()),
        "schedules" => told(&control.schedules(&owner, &ScheduleFilter::default(), page).await.unwrap()),
        "backups" => told(&control.backups(&owner, None, page).await.unwrap()),
        "backups of a project" => told(&control.backups(&owner, Some(&project.id), page).await.unwrap()),
        "restores" => told(&control.restores(&owner, page).await.unwrap()),
        "webhooks" => told(&control.webhooks(&owner, page).await.unwrap()),
        "deliveries" => told(&control.deliveries(&owner, &webhook.id, page).await.unwrap()),
        "members" => told(&control.members(&owner, page).await.unwrap()),
        "invites" => told(&control.invites(&owner, page).await.unwrap()),
        "keys" => told(&control.api_keys(&owner, page).await.unwrap()),
        "audit" => told(&control.audit(&owner, &AuditFilter::default(), page).await.unwrap()),
        other => panic!("there is no list of {other}"),
    }
}
