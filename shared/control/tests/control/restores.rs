//! Restores that are asked for.

use firebackup_control::{Code, JobEnd, JobStatus, Kind, NewRestore, Rename, RestoreModeName};

use crate::world::{NoMoments, World, code, completed, new_backup, new_restore};

#[tokio::test]
async fn a_restore_goes_where_the_backup_came_from() {
    let world = World::new().await;
    let (project, destination) = world.set_up().await;
    let owner = world.owner().await;
    let mut new = new_backup(&project);
    new.database = Some("orders".to_owned());
    let backup = world.control.create_backup(&owner, new, None).await.unwrap();
    assert_eq!(
        code(world.control.create_restore(&owner, new_restore(&backup), &NoMoments, None).await),
        Code::JobState
    );
    world.control.finish_job(&world.worker().await, &backup.job.id, completed()).await.unwrap();
    let restore = world.control.create_restore(&owner, new_restore(&backup), &NoMoments, None).await.unwrap();
    assert_eq!((restore.database.as_str(), restore.storage_destination_id), ("orders", destination.id));
    assert_eq!((restore.mode, restore.undo, restore.dry_run), (RestoreModeName::Overwrite, true, false));
    assert_eq!(restore.target_project_id, project.id);
}

#[tokio::test]
async fn a_restore_goes_to_another_project_and_database() {
    let world = World::new().await;
    let (project, _) = world.set_up().await;
    let other = world.project().await;
    let owner = world.owner().await;
    let backup = world.completed(&project).await;
    let new = NewRestore { target_project_id: Some(other.id), ..new_restore(&backup) };
    let restore = world.control.create_restore(&owner, new.clone(), &NoMoments, None).await.unwrap();
    assert_eq!((restore.project_id, restore.target_project_id), (project.id, other.id));
    assert_eq!(restore.database, "(default)");
    let named = NewRestore { database: Some("orders".to_owned()), ..new.clone() };
    assert_eq!(world.control.create_restore(&owner, named, &NoMoments, None).await.unwrap().database, "orders");
    let unknown = NewRestore { database: Some("nothing".to_owned()), ..new };
    assert_eq!(code(world.control.create_restore(&owner, unknown, &NoMoments, None).await), Code::ValidationFailed);
    let work = world.control.work(&world.worker().await, &restore.job.id).await.unwrap();
    assert_eq!((work.project.id, work.database.as_str()), (other.id, "(default)"));
}

#[tokio::test]
async fn what_may_not_be_is_refused() {
    let world = World::new().await;
    let (project, _) = world.set_up().await;
    let owner = world.owner().await;
    let backup = world.completed(&project).await;
    let new = || new_restore(&backup);
    let rename = |from: &str, to: &str| Rename { from: from.to_owned(), to: to.to_owned() };
    for new in [
        NewRestore { include_auth: true, ..new() },
        NewRestore { collections: vec!["users/a".to_owned()], ..new() },
        NewRestore { paths: vec!["users//a".to_owned()], ..new() },
        NewRestore { exclude: vec!["[".to_owned()], ..new() },
        NewRestore { renames: vec![rename("users", "users/a")], ..new() },
        NewRestore { renames: vec![rename("a", "b"), rename("a", "c")], ..new() },
        NewRestore { paths: vec!["users/a".to_owned(); 101], ..new() },
    ] {
        let error = world.control.create_restore(&owner, new, &NoMoments, None).await.unwrap_err();
        assert_eq!((error.kind, error.code), (Kind::Unprocessable, Code::ValidationFailed), "{error}");
    }
    let fine = NewRestore { paths: vec!["users/*".to_owned()], renames: vec![rename("a", "b")], ..new() };
    assert!(world.control.create_restore(&owner, fine, &NoMoments, None).await.is_ok());
}

#[tokio::test]
async fn a_restore_that_kept_what_it_replaced_can_be_taken_back() {
    let world = World::new().await;
    let (project, _) = world.set_up().await;
    let other = world.project().await;
    let (owner, worker) = (world.owner().await, world.worker().await);
    let backup = world.completed(&project).await;
    let new = NewRestore { target_project_id: Some(other.id), ..new_restore(&backup) };
    let restore = world.control.create_restore(&owner, new, &NoMoments, None).await.unwrap();
    world.control.finish_job(&worker, &restore.job.id, completed()).await.unwrap();
    let undo = NewRestore { backup_id: Some(restore.job.id.clone()), ..new_restore(&backup) };
    let undone = world.control.create_restore(&owner, undo.clone(), &NoMoments, None).await.unwrap();
    assert_eq!((undone.project_id, undone.target_project_id), (other.id, other.id));
    let none = JobEnd::Completed(Box::default());
    world.control.finish_job(&worker, &undone.job.id, none).await.unwrap();
    let again = NewRestore { backup_id: Some(undone.job.id), ..undo };
    assert_eq!(code(world.control.create_restore(&owner, again, &NoMoments, None).await), Code::JobState);
}

#[tokio::test]
async fn the_same_request_twice_makes_one_restore() {
    let world = World::new().await;
    let (project, _) = world.set_up().await;
    let owner = world.owner().await;
    let backup = world.completed(&project).await;
    let ask = |new| world.control.create_restore(&owner, new, &NoMoments, Some("key"));
    let first = ask(new_restore(&backup)).await.unwrap();
    assert_eq!(ask(new_restore(&backup)).await.unwrap(), first);
    let dry = NewRestore { dry_run: true, ..new_restore(&backup) };
    assert_eq!(code(ask(dry).await), Code::IdempotencyKeyReused);
    let other_verb = world.control.create_backup(&owner, new_backup(&project), Some("key")).await;
    assert_eq!(code(other_verb), Code::IdempotencyKeyReused);
    let cancelled = world.control.cancel_restore(&owner, &first.job.id).await.unwrap();
    assert_eq!(cancelled.job.status, JobStatus::Cancelled);
}
