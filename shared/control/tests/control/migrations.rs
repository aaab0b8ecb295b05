//! Everything in a destination is moved to another: records only, for what is copied is not control's.

use firebackup_control::{
    BackupJob, BegunMigration, Code, Destination, DestinationChange, DestinationId, Kind, Migration, MigrationPosition,
    MigrationStatus, NewDestination, NewMigration, Page, Project, RestoreJob, Schedule, ScheduleFilter,
};
use firebackup_model::id::JobId;
use firebackup_testkit::memory_issuer::identity;

use crate::world::{World, code, completed, new_backup, new_destination, new_restore, new_schedule};

const MINUTE: i64 = 60;

/// A world with a source that is used by everything that can use one, and a target.
struct Moved {
    world: World,
    project: Project,
    source: DestinationId,
    target: DestinationId,
    backup: BackupJob,
    restore: RestoreJob,
    schedule: Schedule,
}

fn elsewhere(name: &str) -> NewDestination {
    NewDestination { url: format!("s3://bucket/{name}"), ..new_destination(name) }
}

fn to(target: DestinationId) -> NewMigration {
    NewMigration { target_destination_id: target, dry_run: false }
}

impl Moved {
    async fn new() -> Self {
        let world = World::new().await;
        let (project, source) = world.set_up().await;
        let owner = world.owner().await;
        let target = world.control.add_destination(&owner, elsewhere("target")).await.unwrap();
        let backup = world.completed(&project).await;
        let restore =
            world.control.create_restore(&owner, new_restore(&backup), &crate::world::NoMoments, None).await.unwrap();
        world.control.start_job(&world.worker().await, &restore.job.id).await.unwrap();
        world.control.finish_job(&world.worker().await, &restore.job.id, completed()).await.unwrap();
        let mut schedule = new_schedule(&project);
        schedule.storage_destination_id = Some(source.id);
        let schedule = world.control.create_schedule(&owner, schedule).await.unwrap();
        // a month of the audit log
        world.clock.advance(60 * 24 * 3600);
        assert!(world.control.seal_audit(&world.worker().await).await.unwrap().parts > 0);
        Self { world, project, source: source.id, target: target.id, backup, restore, schedule }
    }

    async fn request(&self) -> firebackup_control::Result<Migration> {
        let owner = self.world.owner().await;
        self.world.control.request_migration(&owner, &self.source, &to(self.target), None).await
    }

    async fn begin(&self) -> Option<BegunMigration> {
        self.world.control.begin_migration(&self.world.worker().await, &self.source).await.unwrap()
    }

    async fn shown(&self, id: DestinationId) -> Destination {
        self.world.control.destination(&self.world.owner().await, &id).await.unwrap()
    }

    async fn migration(&self) -> Migration {
        self.shown(self.source).await.migration.unwrap()
    }

    /// Does what maintenance does, as far as it goes now; says whether that was the end.
    async fn go_on(&self) -> firebackup_control::Result<bool> {
        let (control, worker) = (&self.world.control, self.world.worker().await);
        let Some(mut begun) = control.begin_migration(&worker, &self.source).await? else { return Ok(true) };
        begun.count(2, 10);
        begun.done(position("runs/a"), Some(5));
        let is_switching = begun.status() == MigrationStatus::Switching;
        if !is_switching && !control.switch_migration(&worker, &mut begun).await? {
            return Ok(false);
        }
        if control.migration_waits(&worker, &begun).await? {
            control.leave_migration(&worker, &mut begun, true).await?;
            return Ok(false);
        }
        control.complete_migration(&worker, &mut begun).await?;
        Ok(true)
    }

    /// Which destination everything names, and which is the default.
    async fn named(&self) -> Vec<DestinationId> {
        let (control, owner) = (&self.world.control, self.world.owner().await);
        let backup = control.backup(&owner, &self.project.id, &self.backup.job.id).await.unwrap();
        let restore = control.restore(&owner, &self.restore.job.id).await.unwrap();
        let schedules = control.schedules(&owner, &ScheduleFilter::default(), &Page::default()).await.unwrap().items;
        let destinations = control.destinations(&owner, &Page::default()).await.unwrap().items;
        let default = destinations.into_iter().find(|one| one.is_default).unwrap().id;
        let parts = self.world.items.all().into_iter().filter(|item| item.key.partition.contains("#SEALED#"));
        let parts = parts.map(|item| item.body["destination"].as_str().unwrap().parse::<DestinationId>().unwrap());
        let mut named = vec![backup.storage_destination_id, restore.storage_destination_id, default];
        named.extend(schedules.iter().filter_map(|one| one.storage_destination_id));
        named.extend(parts);
        assert!(named.len() > 4);
        named
    }

    async fn start(&self, backup: &JobId) {
        self.world.control.start_job(&self.world.worker().await, backup).await.unwrap();
    }

    async fn finish(&self, backup: &JobId) {
        self.world.control.finish_job(&self.world.worker().await, backup, completed()).await.unwrap();
    }
}

fn position(name: &str) -> MigrationPosition {
    MigrationPosition { part: "3/a".to_owned(), name: name.to_owned() }
}

async fn acts(world: &World) -> Vec<String> {
    let filter = firebackup_control::AuditFilter { action: Some("storage.".to_owned()), ..Default::default() };
    let entries = world.control.audit(&world.owner().await, &filter, &Page { limit: 100, ..Page::default() }).await;
    let actions = entries.unwrap().items.into_iter().map(|entry| entry.action);
    actions.filter(|action| action.starts_with("storage.migration_")).collect()
}

#[tokio::test]
async fn everything_that_names_the_source_names_the_target_in_the_end() {
    let moved = Moved::new().await;
    let (control, owner) = (&moved.world.control, moved.world.owner().await);
    let plan = control.plan_migration(&owner, &moved.source, &to(moved.target)).await.unwrap();
    let uses = plan.uses;
    assert_eq!((uses.backups, uses.restores, uses.schedules, uses.is_default), (1, 1, 1, true));
    assert!(uses.audit_parts > 0 && plan.obstacles.is_empty() && plan.waits_for.is_empty());
    assert_eq!(plan.places.repositories.len(), 1);
    assert_eq!(plan.places.audit.2, format!("audit/{}", owner.organization()));
    assert!(moved.shown(moved.source).await.migration.is_none(), "nothing is stored by looking");
    assert!(moved.named().await.iter().all(|one| *one == moved.source));

    let asked = moved.request().await.unwrap();
    assert_eq!((asked.status, asked.target_destination_id), (MigrationStatus::Copying, moved.target));
    assert_eq!(moved.migration().await, asked);
    assert!(moved.go_on().await.unwrap());
    let done = moved.migration().await;
    assert_eq!((done.status, done.objects_done, done.bytes_done), (MigrationStatus::Completed, 1, 5));
    assert!(done.ended_at.is_some() && done.error.is_none());
    assert!(moved.named().await.iter().all(|one| *one == moved.target));
    let told = acts(&moved.world).await;
    for act in ["started", "switching", "switched", "completed"] {
        assert!(told.contains(&format!("storage.migration_{act}")), "{act}: {told:?}");
    }

    assert!(moved.begin().await.is_none() && control.migrations(&moved.world.worker().await).await.unwrap().is_empty());
    assert_eq!(code(control.remove_destination(&owner, &moved.target).await), Code::InUse);
    control.remove_destination(&owner, &moved.source).await.unwrap();
    assert!(moved.world.items.all().iter().all(|item| !item.key.sort.starts_with("MIGRATION#")));
    let page = Page { limit: 100, ..Page::default() };
    control.audit(&owner, &Default::default(), &page).await.expect("sealed months are read from the target");
}

/// Whoever dies after any write, and whatever comes next, leaves every record where it can be read, and the next brings it to
/// its end.
#[tokio::test]
async fn whatever_write_it_dies_behind_the_next_round_goes_on() {
    for writes in 0.. {
        let moved = Moved::new().await;
        moved.request().await.unwrap();
        moved.world.items.stop_after(Some(writes));
        let died = moved.go_on().await;
        moved.world.items.stop_after(None);
        assert!(moved.named().await.iter().all(|one| [moved.source, moved.target].contains(one)));
        let was_done = died.is_ok_and(|done| done) && moved.migration().await.status == MigrationStatus::Completed;
        moved.world.clock.advance(2 * MINUTE);
        while !moved.go_on().await.unwrap() {}
        assert_eq!(moved.migration().await.status, MigrationStatus::Completed, "{writes}");
        assert!(moved.named().await.iter().all(|one| *one == moved.target), "{writes}");
        assert_eq!(acts(&moved.world).await.iter().filter(|act| act.ends_with("_completed")).count(), 1);
        if was_done {
            assert!(writes > 6, "{writes}");
            return;
        }
    }
}

#[tokio::test]
async fn what_is_asked_for_twice_is_done_once_and_by_one() {
    let moved = Moved::new().await;
    let (control, owner, worker) = (&moved.world.control, moved.world.owner().await, moved.world.worker().await);
    let asked = moved.request().await.unwrap();
    assert_eq!(moved.request().await.unwrap(), asked);
    assert_eq!(acts(&moved.world).await.len(), 1);
    assert_eq!(control.migrations(&worker).await.unwrap(), [moved.source]);
    let mut first = moved.begin().await.unwrap();
    assert!(moved.begin().await.is_none() && control.migrations(&worker).await.unwrap().is_empty());
    moved.world.clock.advance(50);
    assert!(control.note_migration(&worker, &mut first).await.unwrap());
    moved.world.clock.advance(50);
    assert!(moved.begin().await.is_none(), "it was heard of in the last minute");
    moved.world.clock.advance(11);
    let mut second = moved.begin().await.unwrap();
    assert!(!control.note_migration(&worker, &mut first).await.unwrap(), "it was given up");
    assert!(!control.switch_migration(&worker, &mut first).await.unwrap());
    control.complete_migration(&worker, &mut first).await.unwrap();
    control.fail_migration(&worker, &mut first, "it was slow", None).await.unwrap();
    assert_eq!(moved.migration().await.status, MigrationStatus::Copying, "whoever was given up says nothing");
    assert!(control.note_migration(&worker, &mut second).await.unwrap());
    let other = control.add_destination(&owner, elsewhere("other")).await.unwrap();
    let refused = control.request_migration(&owner, &moved.source, &to(other.id), None).await;
    assert_eq!(code(refused), Code::Conflict);
}

#[tokio::test]
async fn a_key_of_idempotency_is_one_of_requests() {
    let moved = Moved::new().await;
    let (control, owner) = (&moved.world.control, moved.world.owner().await);
    let ask = async |target: DestinationId| {
        control.request_migration(&owner, &moved.source, &to(target), Some("key-1")).await
    };
    ask(moved.target).await.unwrap();
    assert!(moved.go_on().await.unwrap());
    assert_eq!(ask(moved.target).await.unwrap().status, MigrationStatus::Completed, "it is not begun anew");
    let other = control.add_destination(&owner, elsewhere("other")).await.unwrap();
    assert_eq!(code(ask(other.id).await), Code::IdempotencyKeyReused);
}

#[tokio::test]
async fn nothing_is_deleted_while_it_goes_on() {
    let moved = Moved::new().await;
    let (control, owner, worker) = (&moved.world.control, moved.world.owner().await, moved.world.worker().await);
    let at_target = serde_json::json!({ "projectId": moved.project.id, "storageDestinationId": moved.target });
    let at_target = control.create_backup(&owner, serde_json::from_value(at_target).unwrap(), None).await.unwrap();
    control.cancel_backup(&owner, &moved.project.id, &at_target.job.id).await.unwrap();
    control.request_cleanup(&owner, &moved.source).await.unwrap();
    moved.request().await.unwrap();
    let place = control.open_repository(&owner, &moved.source, &moved.project.id, true).await.unwrap();
    assert!(place.is_moving);
    for id in [&moved.backup.job.id, &at_target.job.id] {
        let error = control.delete_backup(&owner, &moved.project.id, id).await.unwrap_err();
        assert_eq!((error.kind, error.code), (Kind::Conflict, Code::Conflict));
        assert!(error.details.unwrap()["remedy"].as_str().unwrap().contains("wait"));
        control.drop_backup(&worker, id).await.expect("retention leaves it for the next time");
    }
    let names = ["runs/a".to_owned()].into();
    assert_eq!(code(control.request_cleanup(&owner, &moved.source).await), Code::Conflict);
    assert_eq!(code(control.request_cleanup(&owner, &moved.target).await), Code::Conflict);
    assert_eq!(code(control.request_file_deletion(&owner, &place, &names).await), Code::Conflict);
    assert!(control.cleanups(&worker).await.unwrap().is_empty(), "what was asked for before waits");
    for id in [&moved.source, &moved.target] {
        assert_eq!(code(control.remove_destination(&owner, id).await), Code::InUse);
    }
    assert!(control.marked_backups(&worker).await.unwrap().is_empty());
    assert!(moved.go_on().await.unwrap());
    control.delete_backup(&owner, &moved.project.id, &moved.backup.job.id).await.unwrap();
    assert_eq!(control.cleanups(&worker).await.unwrap(), [moved.source]);
}

#[tokio::test]
async fn jobs_in_the_source_are_waited_for_and_new_ones_go_to_the_target() {
    let moved = Moved::new().await;
    let (control, owner, worker) = (&moved.world.control, moved.world.owner().await, moved.world.worker().await);
    moved.request().await.unwrap();
    let running = moved.world.backup(&moved.project).await;
    assert_eq!(running.storage_destination_id, moved.source, "it is used as ever");
    moved.start(&running.job.id).await;
    let plan = control.plan_migration(&owner, &moved.source, &to(moved.target)).await.unwrap();
    assert_eq!((plan.waits_for, plan.obstacles.len()), (vec![running.job.id.clone()], 1));
    for _ in 0..20 {
        assert!(!moved.go_on().await.unwrap(), "waiting is no failure, however often it is looked at");
    }
    assert_eq!(moved.migration().await.status, MigrationStatus::Switching);
    assert_eq!(code(control.cancel_migration(&owner, &moved.source).await), Code::JobState);

    let error = control.create_backup(&owner, new_backup(&moved.project), None).await.unwrap_err();
    assert_eq!(error.code, Code::Conflict, "one of the project is on its way in the source");
    let other = control.connect_project(&owner, crate::world::new_project("Other")).await.unwrap();
    let backup = control.create_backup(&owner, new_backup(&other), None).await.unwrap();
    assert_eq!(backup.storage_destination_id, moved.target);
    let mut named = new_backup(&other);
    named.storage_destination_id = Some(moved.source);
    let error = control.create_backup(&owner, named, None).await.unwrap_err();
    assert!(error.to_string().contains(&moved.target.to_string()), "{error}");
    assert_eq!(
        code(control.create_restore(&owner, new_restore(&moved.backup), &crate::world::NoMoments, None).await),
        Code::Conflict
    );
    let mut schedule = new_schedule(&other);
    schedule.storage_destination_id = Some(moved.source);
    assert_eq!(code(control.create_schedule(&owner, schedule).await), Code::Conflict);
    let make_default = DestinationChange { is_default: Some(true), ..DestinationChange::default() };
    assert_eq!(code(control.update_destination(&owner, &moved.source, make_default).await), Code::Conflict);

    moved.finish(&running.job.id).await;
    let due = control.trigger_schedule(&owner, &moved.schedule.id, None).await.unwrap();
    assert_eq!(due.storage_destination_id, moved.target, "though its schedule names the source still");
    assert!(moved.go_on().await.unwrap());
    let found = control.backup(&owner, &moved.project.id, &running.job.id).await.unwrap();
    assert_eq!(found.storage_destination_id, moved.target);
    assert!(control.destination_links(&owner, &moved.source).await.unwrap().projects.is_empty());
    control.remove_destination(&owner, &moved.source).await.unwrap();
    assert!(control.running_jobs(&worker).await.unwrap().len() == 2);
}

#[tokio::test]
async fn one_that_is_stopped_leaves_the_source_as_it_was_and_goes_on_when_asked_again() {
    let moved = Moved::new().await;
    let (control, owner, worker) = (&moved.world.control, moved.world.owner().await, moved.world.worker().await);
    assert_eq!(code(control.cancel_migration(&owner, &moved.source).await), Code::JobState);
    moved.request().await.unwrap();
    let mut begun = moved.begin().await.unwrap();
    begun.count(7, 70);
    begun.done(position("runs/b"), Some(10));
    assert!(control.note_migration(&worker, &mut begun).await.unwrap());
    let stopped = control.cancel_migration(&owner, &moved.source).await.unwrap();
    assert_eq!((stopped.status, stopped.objects_done), (MigrationStatus::Cancelled, 1));
    assert_eq!(control.cancel_migration(&owner, &moved.source).await.unwrap(), stopped);
    assert!(!control.note_migration(&worker, &mut begun).await.unwrap(), "whoever is at it stops");
    assert!(moved.begin().await.is_none());
    control.delete_backup(&owner, &moved.project.id, &moved.backup.job.id).await.unwrap();
    assert!(moved.named().await.iter().all(|one| *one == moved.source));

    let again = moved.request().await.unwrap();
    assert_eq!((again.status, again.objects, again.objects_done), (MigrationStatus::Copying, 7, 1));
    let mut begun = moved.begin().await.unwrap();
    assert_eq!(begun.position(), Some(&position("runs/b")));
    assert!(control.marked_backups(&worker).await.unwrap().contains(&moved.backup.job.id), "it is not copied");
    assert!(!control.switch_migration(&worker, &mut begun).await.unwrap(), "a prune of before may be at it");
    control.leave_migration(&worker, &mut begun, true).await.unwrap();
    moved.world.clock.advance(20 * MINUTE);
    assert!(moved.go_on().await.unwrap());
    assert!(moved.named().await.iter().all(|one| *one == moved.target));
}

#[tokio::test]
async fn what_does_not_pass_fails_at_last_and_says_what_to_do() {
    let moved = Moved::new().await;
    let (control, worker) = (&moved.world.control, moved.world.worker().await);
    moved.request().await.unwrap();
    for _ in 0..10 {
        let mut begun = moved.begin().await.unwrap();
        control.note_migration_trouble(&worker, &mut begun, "no answer").await.unwrap();
        let shown = moved.migration().await;
        assert_eq!((shown.status, shown.error.unwrap().message.as_str()), (MigrationStatus::Copying, "no answer"));
    }
    assert!(moved.begin().await.is_none());
    let failed = moved.migration().await;
    let error = failed.error.unwrap();
    assert_eq!((failed.status, error.message.as_str()), (MigrationStatus::Failed, "no answer"));
    assert!(error.remedy.contains("ask for the same migration again"));
    assert!(acts(&moved.world).await.contains(&"storage.migration_failed".to_owned()));
    assert!(moved.named().await.iter().all(|one| *one == moved.source));
    assert!(
        !moved
            .world
            .control
            .open_repository(&moved.world.owner().await, &moved.source, &moved.project.id, true)
            .await
            .unwrap()
            .is_moving
    );

    // whoever comes further is not given up, and one that dies without a word is
    moved.request().await.unwrap();
    for step in 0..20 {
        let mut begun = moved.begin().await.unwrap();
        begun.done(position(&format!("runs/{step:02}")), Some(1));
        control.leave_migration(&worker, &mut begun, false).await.unwrap();
    }
    for _ in 0..10 {
        moved.begin().await.unwrap();
        moved.world.clock.advance(2 * MINUTE);
    }
    assert!(moved.begin().await.is_none());
    assert!(moved.migration().await.error.unwrap().message.contains("came no further"));
}

#[tokio::test]
async fn what_cannot_be_a_target_is_refused() {
    let moved = Moved::new().await;
    let (control, owner) = (&moved.world.control, moved.world.owner().await);
    let ask = async |source: DestinationId, target: DestinationId| {
        control.request_migration(&owner, &source, &to(target), None).await
    };
    assert_eq!(code(ask(moved.source, moved.source).await), Code::ValidationFailed);
    for url in ["s3://bucket/prefix/", "s3://bucket/prefix/below", "s3://bucket", "s3://bucket//prefix"] {
        let same = NewDestination { url: url.to_owned(), ..new_destination("Same") };
        let same = control.add_destination(&owner, same).await.unwrap();
        assert_eq!(code(ask(moved.source, same.id).await), Code::ValidationFailed, "{url}");
        assert_eq!(code(control.plan_migration(&owner, &moved.source, &to(same.id)).await), Code::ValidationFailed);
        control.remove_destination(&owner, &same.id).await.unwrap();
    }
    let tokens = moved.world.sign_in(identity("rival", "rival@example.com")).await.unwrap();
    let rival = control.authenticate(&tokens.access, None).await.unwrap();
    let foreign = control.add_destination(&rival, elsewhere("foreign")).await.unwrap();
    assert_eq!(code(ask(moved.source, foreign.id).await), Code::NotFound);
    assert_eq!(code(control.request_migration(&rival, &moved.source, &to(foreign.id), None).await), Code::NotFound);

    moved.world.probes.destination.lock().unwrap().missing = vec!["write".to_owned()];
    let error = ask(moved.source, moved.target).await.unwrap_err();
    assert!(error.code == Code::Conflict && error.to_string().contains("write"), "{error}");
    let plan = control.plan_migration(&owner, &moved.source, &to(moved.target)).await.unwrap();
    assert_eq!(plan.obstacles.len(), 1);
    moved.world.probes.destination.lock().unwrap().missing.clear();
    *moved.world.probes.fails.lock().unwrap() = true;
    assert_eq!(code(ask(moved.source, moved.target).await), Code::DestinationFailed);
    *moved.world.probes.fails.lock().unwrap() = false;

    moved.request().await.unwrap();
    let third = control.add_destination(&owner, elsewhere("third")).await.unwrap();
    assert_eq!(code(ask(moved.target, third.id).await), Code::Conflict, "it takes part in one");
    assert_eq!(code(ask(third.id, moved.target).await), Code::Conflict);
}

/// Whoever asks for a deletion, or begins a job, at the same moment at which a migration begins or switches: one is seen by the
/// other.
#[tokio::test]
async fn of_a_deletion_and_a_migration_at_one_time_one_knows_of_the_other() {
    for seed in 0..24 {
        let moved = Moved::new().await;
        moved.world.items.vary(seed);
        let (control, owner, worker) = (&moved.world.control, moved.world.owner().await, moved.world.worker().await);
        let deleting = control.delete_backup(&owner, &moved.project.id, &moved.backup.job.id);
        let (deleted, asked) = tokio::join!(deleting, moved.request());
        asked.unwrap();
        let marked = control.marked_backups(&worker).await.unwrap();
        assert_eq!(deleted.is_ok(), marked.contains(&moved.backup.job.id), "{seed}");
        let (made, switched) = tokio::join!(control.create_backup(&owner, new_backup(&moved.project), None), async {
            moved.go_on().await.unwrap()
        },);
        let is_in_source = made.is_ok_and(|backup| backup.storage_destination_id == moved.source);
        assert!(!(is_in_source && switched), "{seed}: it is waited for");
    }
}
