//! Lists, a page at a time.

use firebackup_control::{Code, Kind, Page, Paged, Project, ProjectFilter};

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
