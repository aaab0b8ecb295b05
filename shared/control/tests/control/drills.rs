//! Drills: what is stored of them, who drills when, and what others are told.

use firebackup_control::{
    BackupJob, ClaimedDrill, Code, ControlSettings, DrillEnd, DrillOutcome, DrillScratch, Drills, HeldDrill, NewDrills,
    Project, ProjectId, ScratchWork,
};
use serde_json::json;

use crate::pitr::new_pitr;
use crate::world::{World, code, completed, new_backup, new_destination, new_schedule};

const LEASE: u32 = 60;

/// Each Sunday at 4, into an emulator.
pub(crate) fn new_drills() -> NewDrills {
    serde_json::from_value(json!({ "cronExpression": "0 4 * * 0", "scratch": { "kind": "emulator" } })).unwrap()
}

fn into_database(project: &ProjectId, database: &str) -> NewDrills {
    let scratch = DrillScratch::Database { project_id: *project, database: database.to_owned() };
    NewDrills { scratch, ..new_drills() }
}

/// A world with a project that has a backup, whose drills restore it into another database of it.
async fn drilling() -> (World, Project, BackupJob) {
    let world = World::new().await;
    let (project, _) = world.set_up().await;
    let backup = world.completed(&project).await;
    world.control.put_drills(&world.owner().await, &project.id, into_database(&project.id, "orders")).await.unwrap();
    (world, project, backup)
}

async fn drills(world: &World, project: &Project) -> Drills {
    world.control.drills(&world.owner().await, &project.id).await.unwrap()
}

async fn due(world: &World) -> Vec<ProjectId> {
    world.control.due_drills(10).await.unwrap().into_iter().map(|due| due.project).collect()
}

async fn claim(world: &World, project: &Project) -> Option<ClaimedDrill> {
    world.control.claim_drill(&world.worker().await, &project.id, LEASE).await.unwrap()
}

async fn end(world: &World, claimed: &ClaimedDrill, end: &DrillEnd) -> bool {
    world.control.end_drill(&world.worker().await, claimed, end).await.unwrap()
}

async fn hold(world: &World, claimed: &ClaimedDrill) -> HeldDrill {
    world.control.hold_drill(&world.worker().await, claimed).await.unwrap()
}

async fn ask(world: &World, project: &Project) {
    world.control.ask_for_drill(&world.owner().await, &project.id, None).await.unwrap();
}

fn run(outcome: DrillOutcome) -> DrillEnd {
    let report = Some("drill_01JZ8Q6V7C9X2M4T5B8K1N3R6W".parse().unwrap());
    let message = (outcome != DrillOutcome::Passed).then(|| "users/planted@example.com differs".to_owned());
    DrillEnd::Run { outcome, documents: 1000, moments: 1, report, message }
}

fn not_run(may_pass: bool) -> DrillEnd {
    DrillEnd::NotRun { message: "no answer".to_owned(), may_pass }
}

/// Goes on to a minute behind the next due time.
async fn next_due(world: &World, project: &Project) {
    let at = drills(world, project).await.next_runs[0];
    world.clock.advance(at.seconds_since(world.now()) as i64 + 60);
}

#[tokio::test]
async fn a_drill_is_due_when_its_cron_says_and_done_once() {
    let (world, project, backup) = drilling().await;
    let shown = drills(&world, &project).await;
    assert_eq!((shown.next_runs.len(), shown.running), (5, false));
    assert_eq!(shown.config.database.as_deref(), Some("(default)"));
    assert!(due(&world).await.is_empty() && claim(&world, &project).await.is_none());
    next_due(&world, &project).await;
    assert_eq!(due(&world).await, [project.id]);
    let claimed = claim(&world, &project).await.unwrap();
    assert_eq!(claimed.backup, Some(backup.job.id.clone()));
    assert!(due(&world).await.is_empty() && claim(&world, &project).await.is_none());
    assert!(drills(&world, &project).await.running);
    assert!(end(&world, &claimed, &run(DrillOutcome::Passed)).await);
    assert!(!end(&world, &claimed, &run(DrillOutcome::Failed)).await, "twice is once");
    assert!(due(&world).await.is_empty() && claim(&world, &project).await.is_none());
    let shown = drills(&world, &project).await;
    let last = shown.last_run.unwrap();
    assert_eq!((shown.running, last.drill.outcome, last.backup_id), (false, DrillOutcome::Passed, Some(backup.job.id)));
}

#[tokio::test]
async fn the_backup_says_how_its_last_drill_went_and_others_are_told() {
    let (world, project, backup) = drilling().await;
    let owner = world.owner().await;
    for (outcome, event) in [
        (DrillOutcome::Passed, "verification.completed"),
        (DrillOutcome::Failed, "verification.failed"),
        (DrillOutcome::OutOfTime, "verification.failed"),
    ] {
        let before = world.events_of(event).len();
        ask(&world, &project).await;
        assert!(end(&world, &claim(&world, &project).await.unwrap(), &run(outcome)).await);
        let shown = world.control.backup(&owner, &project.id, &backup.job.id).await.unwrap().last_drill.unwrap();
        assert_eq!((shown.outcome, shown.documents, shown.moments, shown.at), (outcome, 1000, 1, world.now()));
        let told = world.events_of(event);
        assert_eq!(told.len(), before + 1);
        let data = &told.last().unwrap().data;
        assert_eq!((&data["kind"], &data["id"]), (&json!("drill"), &json!(backup.job.id)));
        assert_eq!((&data["outcome"], &data["result"]["documents"]), (&json!(outcome.name()), &json!(1000)));
        assert!(!data.to_string().contains("planted"), "{data}");
    }
    let listed = world.control.backups(&owner, Some(&project.id), &Default::default()).await.unwrap().items;
    assert_eq!(listed[0].last_drill.as_ref().unwrap().outcome, DrillOutcome::OutOfTime);
}

#[tokio::test]
async fn whoever_dies_is_followed_and_whoever_follows_is_believed() {
    let (world, project, _) = drilling().await;
    ask(&world, &project).await;
    let dead = claim(&world, &project).await.unwrap();
    world.clock.advance(30);
    assert_eq!(hold(&world, &dead).await, HeldDrill::GoesOn);
    world.clock.advance(59);
    assert!(due(&world).await.is_empty() && claim(&world, &project).await.is_none());
    world.clock.advance(2);
    assert_eq!(due(&world).await, [project.id]);
    let next = claim(&world, &project).await.unwrap();
    assert_eq!((hold(&world, &dead).await, hold(&world, &next).await), (HeldDrill::Lost, HeldDrill::GoesOn));
    assert!(!end(&world, &dead, &run(DrillOutcome::Failed)).await);
    assert!(world.events_of("verification.").is_empty());
    assert!(end(&world, &next, &run(DrillOutcome::Passed)).await);
    assert_eq!(world.events_of("verification.").len(), 1);
}

#[tokio::test]
async fn of_many_who_claim_one_gets_it() {
    let (world, project, _) = drilling().await;
    ask(&world, &project).await;
    let worker = world.worker().await;
    let claims = (0..8).map(|_| world.control.claim_drill(&worker, &project.id, LEASE));
    let claimed = futures::future::join_all(claims).await;
    assert_eq!(claimed.into_iter().filter(|claim| claim.as_ref().unwrap().is_some()).count(), 1);
}

#[tokio::test]
async fn what_dies_behind_any_write_is_made_up_for() {
    for writes in 0..6 {
        let (world, project, backup) = drilling().await;
        world.webhook().await;
        ask(&world, &project).await;
        let worker = world.worker().await;
        world.control.tell_untold(&worker).await.unwrap();
        world.items.stop_after(Some(writes));
        let died = async {
            let claimed = world.control.claim_drill(&worker, &project.id, LEASE).await?;
            if let Some(claimed) = claimed {
                world.control.hold_drill(&worker, &claimed).await?;
                world.control.end_drill(&worker, &claimed, &run(DrillOutcome::Passed)).await?;
            }
            Ok::<_, firebackup_control::ControlError>(())
        };
        let died = died.await.is_err();
        world.items.stop_after(None);
        world.clock.advance(600);
        let has_ended = drills(&world, &project).await.last_run.is_some();
        if let Some(again) = claim(&world, &project).await {
            assert!(!has_ended && died, "{writes}");
            assert!(end(&world, &again, &run(DrillOutcome::Passed)).await);
        }
        let owner = world.owner().await;
        let backup = world.control.backup(&owner, &project.id, &backup.job.id).await.unwrap();
        assert_eq!(backup.last_drill.unwrap().outcome, DrillOutcome::Passed, "{writes}");
        assert_eq!(world.events_of("verification.completed").len(), 1, "{writes}");
        assert!(claim(&world, &project).await.is_none(), "{writes}");
    }
}

#[tokio::test]
async fn one_that_cannot_be_run_is_tried_again_and_then_told() {
    let (world, project, backup) = drilling().await;
    next_due(&world, &project).await;
    for _ in 0..2 {
        assert!(!end(&world, &claim(&world, &project).await.unwrap(), &not_run(true)).await);
        assert!(claim(&world, &project).await.is_none());
        world.clock.advance(300);
    }
    assert!(end(&world, &claim(&world, &project).await.unwrap(), &not_run(true)).await);
    assert!(claim(&world, &project).await.is_none());
    let last = drills(&world, &project).await.last_run.unwrap();
    assert_eq!((last.drill.outcome, last.message.as_deref()), (DrillOutcome::NotRun, Some("no answer")));
    assert_eq!(world.events_of("verification.failed")[0].data["error"]["code"], "DRILL_NOT_RUN");
    // of the backup that says nothing
    let shown = world.control.backup(&world.owner().await, &project.id, &backup.job.id).await.unwrap();
    assert_eq!(shown.last_drill, None);
    next_due(&world, &project).await;
    assert!(end(&world, &claim(&world, &project).await.unwrap(), &not_run(false)).await, "it does not pass by itself");
}

#[tokio::test]
async fn one_that_was_stopped_is_begun_anew() {
    let (world, project, _) = drilling().await;
    ask(&world, &project).await;
    assert!(!end(&world, &claim(&world, &project).await.unwrap(), &DrillEnd::Stopped).await);
    assert!(world.events_of("verification.").is_empty());
    assert!(claim(&world, &project).await.is_some());
}

#[tokio::test]
async fn disabling_stops_one_that_runs_and_nobody_begins_before_it_has_stopped() {
    let (world, project, _) = drilling().await;
    let (owner, control) = (world.owner().await, &world.control);
    ask(&world, &project).await;
    let claimed = claim(&world, &project).await.unwrap();
    assert_eq!(code(control.remove_drills(&owner, &project.id).await), Code::Conflict);
    let off = NewDrills { enabled: false, ..into_database(&project.id, "orders") };
    let shown = control.put_drills(&owner, &project.id, off).await.unwrap();
    assert!(shown.next_runs.is_empty() && shown.running);
    assert_eq!(hold(&world, &claimed).await, HeldDrill::Stops);
    control.put_drills(&owner, &project.id, into_database(&project.id, "orders")).await.unwrap();
    assert_eq!(hold(&world, &claimed).await, HeldDrill::Stops, "it was told to, and does");
    for _ in 0..2 {
        control.ask_for_drill(&owner, &project.id, Some("while-it-stops")).await.unwrap();
    }
    assert!(claim(&world, &project).await.is_none(), "it empties its database still");
    end(&world, &claimed, &DrillEnd::Stopped).await;
    let asked = claim(&world, &project).await.expect("the one that was asked for while another stopped");
    assert_eq!(hold(&world, &asked).await, HeldDrill::GoesOn);
    end(&world, &asked, &run(DrillOutcome::Passed)).await;
    assert!(claim(&world, &project).await.is_none());
    control.remove_drills(&owner, &project.id).await.unwrap();
    assert_eq!(code(control.drills(&owner, &project.id).await), Code::NotFound);
    assert!(due(&world).await.is_empty() && claim(&world, &project).await.is_none());
}

#[tokio::test]
async fn one_that_is_asked_for_while_another_stops_is_run_however_that_one_ends() {
    for ended in [run(DrillOutcome::OutOfTime), run(DrillOutcome::Passed), not_run(false)] {
        let (world, project, _) = drilling().await;
        let owner = world.owner().await;
        ask(&world, &project).await;
        let claimed = claim(&world, &project).await.unwrap();
        let off = NewDrills { enabled: false, ..into_database(&project.id, "orders") };
        world.control.put_drills(&owner, &project.id, off).await.unwrap();
        assert_eq!(hold(&world, &claimed).await, HeldDrill::Stops);
        ask(&world, &project).await;
        assert!(end(&world, &claimed, &ended).await);
        let asked = claim(&world, &project).await.expect("the one that was asked for");
        assert_eq!(hold(&world, &asked).await, HeldDrill::GoesOn);
        end(&world, &asked, &run(DrillOutcome::Passed)).await;
        assert!(claim(&world, &project).await.is_none());
    }
}

#[tokio::test]
async fn what_one_was_told_that_died_does_not_concern_the_next() {
    let (world, project, _) = drilling().await;
    let owner = world.owner().await;
    ask(&world, &project).await;
    let dead = claim(&world, &project).await.unwrap();
    let off = NewDrills { enabled: false, ..into_database(&project.id, "orders") };
    world.control.put_drills(&owner, &project.id, off).await.unwrap();
    assert_eq!(hold(&world, &dead).await, HeldDrill::Stops);
    ask(&world, &project).await;
    world.clock.advance(61);
    let next = claim(&world, &project).await.unwrap();
    assert_eq!(hold(&world, &next).await, HeldDrill::GoesOn);
}

#[tokio::test]
async fn one_of_disabled_drills_that_died_is_not_begun_again() {
    let (world, project, _) = drilling().await;
    ask(&world, &project).await;
    claim(&world, &project).await.unwrap();
    let off = NewDrills { enabled: false, ..into_database(&project.id, "orders") };
    world.control.put_drills(&world.owner().await, &project.id, off).await.unwrap();
    world.clock.advance(61);
    assert_eq!(due(&world).await, [project.id]);
    assert!(claim(&world, &project).await.is_none());
    assert!(due(&world).await.is_empty());
    world.control.remove_drills(&world.owner().await, &project.id).await.unwrap();
}

#[tokio::test]
async fn asking_twice_is_asking_once() {
    let (world, project, _) = drilling().await;
    let (owner, control) = (world.owner().await, &world.control);
    let first = control.ask_for_drill(&owner, &project.id, Some("key")).await.unwrap();
    assert!(first.running);
    assert_eq!(control.ask_for_drill(&owner, &project.id, Some("key")).await.unwrap(), first);
    end(&world, &claim(&world, &project).await.unwrap(), &run(DrillOutcome::Passed)).await;
    assert!(!control.ask_for_drill(&owner, &project.id, Some("key")).await.unwrap().running);
    assert!(claim(&world, &project).await.is_none());
    assert!(control.ask_for_drill(&owner, &project.id, Some("other")).await.unwrap().running);
    let claimed = claim(&world, &project).await.unwrap();
    // whoever asks while one runs has that one, also when the answer was lost and comes again later
    for _ in 0..2 {
        assert!(control.ask_for_drill(&owner, &project.id, Some("third")).await.unwrap().running);
    }
    end(&world, &claimed, &run(DrillOutcome::Passed)).await;
    assert!(!control.ask_for_drill(&owner, &project.id, Some("third")).await.unwrap().running);
    assert!(claim(&world, &project).await.is_none());
}

#[tokio::test]
async fn what_is_backed_up_or_captured_is_no_scratch_database() {
    let world = World::new().await;
    let (project, _) = world.set_up().await;
    world.completed(&project).await;
    let (owner, control) = (world.owner().await, &world.control);
    let refused = async |new: NewDrills| code(control.put_drills(&owner, &project.id, new).await);
    let orders = || into_database(&project.id, "orders");
    assert_eq!(refused(into_database(&project.id, "(default)")).await, Code::ValidationFailed, "what is restored");
    assert_eq!(refused(into_database(&project.id, "unknown")).await, Code::ValidationFailed);
    let of_orders = serde_json::from_value(json!({ "projectId": project.id, "database": "orders" })).unwrap();
    let pitr = firebackup_control::NewPitr { database: Some("orders".to_owned()), ..new_pitr(&project) };
    // the same project of Google's, connected once more
    let twin = control.connect_project(&owner, crate::world::new_project("Twin")).await.unwrap();
    assert_eq!(refused(into_database(&twin.id, "(default)")).await, Code::ValidationFailed, "the same by another name");
    let mut schedule = new_schedule(&twin);
    schedule.backup_config.database = Some("orders".to_owned());
    let schedule = control.create_schedule(&owner, schedule).await.unwrap();
    assert_eq!(refused(orders()).await, Code::ValidationFailed, "a schedule");
    control.remove_schedule(&owner, &schedule.id).await.unwrap();
    control.put_drills(&owner, &project.id, orders()).await.unwrap();
    control.enable_pitr(&owner, pitr).await.unwrap();
    assert_eq!(refused(orders()).await, Code::ValidationFailed, "captures");
    // what was allowed once is looked at again before it is drilled
    ask(&world, &project).await;
    let claimed = claim(&world, &project).await.unwrap();
    assert_eq!(code(control.drill_work(&world.worker().await, &claimed).await), Code::ValidationFailed);
    let world = World::new().await;
    let (project, _) = world.set_up().await;
    world.completed_of(of_orders_in(of_orders, &project)).await;
    let put = world.control.put_drills(&world.owner().await, &project.id, into_database(&project.id, "orders")).await;
    assert_eq!(code(put), Code::ValidationFailed, "there are backups of it");
}

fn of_orders_in(new: firebackup_control::NewBackup, project: &Project) -> firebackup_control::NewBackup {
    firebackup_control::NewBackup { project_id: project.id, ..new }
}

#[tokio::test]
async fn an_emulator_is_the_operators_and_only_where_one_is_started() {
    let world = World::new().await;
    let (project, _) = world.set_up().await;
    assert!(world.control.put_drills(&world.owner().await, &project.id, new_drills()).await.is_ok());
    let stack = World::first(ControlSettings { allow_emulators: true, ..ControlSettings::default() }).await;
    let project = stack.project().await;
    assert_eq!(
        code(stack.control.put_drills(&stack.owner().await, &project.id, new_drills()).await),
        Code::ValidationFailed
    );
}

#[tokio::test]
async fn fields_that_may_not_be_so_are_named() {
    let (world, project, _) = drilling().await;
    let owner = world.owner().await;
    for (new, field) in [
        (NewDrills { documents: Some(0), ..new_drills() }, "documents"),
        (NewDrills { documents: Some(100_001), ..new_drills() }, "documents"),
        (NewDrills { documents: Some(1000), all: true, ..new_drills() }, "documents"),
        (NewDrills { moments: 11, ..new_drills() }, "moments"),
        (NewDrills { cron_expression: "never".to_owned(), ..new_drills() }, "cronExpression"),
        (NewDrills { timezone: "Nowhere".to_owned(), ..new_drills() }, "timezone"),
        (NewDrills { database: Some("unknown".to_owned()), ..new_drills() }, "database"),
    ] {
        let error = world.control.put_drills(&owner, &project.id, new).await.unwrap_err();
        assert_eq!((error.code, error.details.unwrap()["field"].clone()), (Code::ValidationFailed, json!(field)));
    }
    let unknown =
        serde_json::from_value::<NewDrills>(json!({ "cronExpression": "* * * * *", "scratch": { "kind": "x" } }));
    assert!(unknown.is_err());
}

#[tokio::test]
async fn without_a_backup_there_is_nothing_to_drill() {
    let world = World::new().await;
    let (project, _) = world.set_up().await;
    world.control.put_drills(&world.owner().await, &project.id, new_drills()).await.unwrap();
    ask(&world, &project).await;
    let claimed = claim(&world, &project).await.unwrap();
    assert_eq!(claimed.backup, None);
    assert!(world.control.drill_work(&world.worker().await, &claimed).await.unwrap().is_none());
    assert!(end(&world, &claimed, &not_run(false)).await);
    assert_eq!(world.events_of("verification.failed")[0].data["id"], json!(project.id));
}

#[tokio::test]
async fn one_that_is_asked_for_with_the_first_backup_is_run_behind_it() {
    let world = World::new().await;
    let (project, _) = world.set_up().await;
    world.control.put_drills(&world.owner().await, &project.id, new_drills()).await.unwrap();
    let backup = world.backup(&project).await;
    ask(&world, &project).await;
    for _ in 0..10 {
        assert!(claim(&world, &project).await.is_none());
        assert!(drills(&world, &project).await.running);
        world.clock.advance(60);
    }
    world.control.finish_job(&world.worker().await, &backup.job.id, completed()).await.unwrap();
    assert_eq!(claim(&world, &project).await.unwrap().backup, Some(backup.job.id));
}

#[tokio::test]
async fn a_newer_backup_of_some_collections_is_not_drilled_in_place_of_one_of_everything() {
    let (world, project, backup) = drilling().await;
    world.next_minute();
    let some = || firebackup_control::NewBackup { collections: vec!["users".to_owned()], ..new_backup(&project) };
    world.completed_of(some()).await;
    ask(&world, &project).await;
    let claimed = claim(&world, &project).await.unwrap();
    assert_eq!(claimed.backup, Some(backup.job.id));
    end(&world, &claimed, &run(DrillOutcome::Passed)).await;
    world.next_minute();
    let newer = world.completed(&project).await;
    ask(&world, &project).await;
    let claimed = claim(&world, &project).await.unwrap();
    assert_eq!(claimed.backup, Some(newer.job.id));
    end(&world, &claimed, &run(DrillOutcome::Passed)).await;
    // one of everything that is old says nothing of those that are made now
    world.clock.advance(9 * 24 * 3600);
    let later = world.completed_of(some()).await;
    ask(&world, &project).await;
    assert_eq!(claim(&world, &project).await.unwrap().backup, Some(later.job.id));
}

#[tokio::test]
async fn a_drill_is_given_what_it_needs() {
    let (world, project, backup) = drilling().await;
    ask(&world, &project).await;
    let claimed = claim(&world, &project).await.unwrap();
    let work = world.control.drill_work(&world.worker().await, &claimed).await.unwrap().unwrap();
    assert_eq!((work.by, work.backup, work.documents), (project.id.to_string(), backup.job.id, 7));
    assert_eq!((work.sample, work.moments, work.place.project), (Some(1000), 1, project.id));
    let ScratchWork::Database { access, database } = &work.scratch else { panic!("{:?}", work.scratch) };
    assert_eq!((access.google_project.as_str(), database.as_str()), ("shop-1", "orders"));
}

#[tokio::test]
async fn what_drills_use_stays_until_they_are_disabled() {
    let (world, project, _) = drilling().await;
    let (owner, control) = (world.owner().await, &world.control);
    assert_eq!(code(control.remove_project(&owner, &project.id).await), Code::InUse);
    let off = NewDrills { enabled: false, ..into_database(&project.id, "orders") };
    control.put_drills(&owner, &project.id, off).await.unwrap();
    control.remove_project(&owner, &project.id).await.unwrap();
    assert!(!world.items.all().iter().any(|item| item.key.sort.starts_with("DRILLS#")));
}

#[tokio::test]
async fn whoever_drills_is_waited_for_by_whoever_moves_the_destination() {
    let (world, project, backup) = drilling().await;
    let (owner, worker) = (world.owner().await, world.worker().await);
    let target = new_destination("Target");
    let target = firebackup_control::NewDestination { url: "s3://other/prefix".to_owned(), ..target };
    let target = world.control.add_destination(&owner, target).await.unwrap();
    let new = serde_json::from_value(json!({ "targetDestinationId": target.id, "dryRun": false })).unwrap();
    let from = backup.storage_destination_id;
    world.control.request_migration(&owner, &from, &new, None).await.unwrap();
    let mut begun = world.control.begin_migration(&worker, &from).await.unwrap().unwrap();
    ask(&world, &project).await;
    let claimed = claim(&world, &project).await.unwrap();
    assert!(world.control.switch_migration(&worker, &mut begun).await.unwrap());
    assert!(world.control.migration_waits(&worker, &begun).await.unwrap());
    end(&world, &claimed, &DrillEnd::Stopped).await;
    assert!(!world.control.migration_waits(&worker, &begun).await.unwrap());
    assert!(claim(&world, &project).await.is_none(), "nobody begins there");
}

#[tokio::test]
async fn changes_are_in_the_audit_log_and_others_see_none_of_it() {
    let (world, project, _) = drilling().await;
    let rival = world.second_organization().await;
    for answer in [
        world.control.drills(&rival, &project.id).await.map(|_| ()),
        world.control.put_drills(&rival, &project.id, new_drills()).await.map(|_| ()),
        world.control.remove_drills(&rival, &project.id).await,
        world.control.ask_for_drill(&rival, &project.id, None).await.map(|_| ()),
        world.control.open_drills(&rival, &project.id).await.map(|_| ()),
    ] {
        assert_eq!(code(answer), Code::NotFound);
    }
    ask(&world, &project).await;
    end(&world, &claim(&world, &project).await.unwrap(), &run(DrillOutcome::Passed)).await;
    world.control.remove_drills(&world.owner().await, &project.id).await.unwrap();
    let owner = world.owner().await;
    let entries = world.control.audit(&owner, &Default::default(), &Default::default()).await.unwrap().items;
    let mut actions: Vec<_> = entries.iter().map(|entry| entry.action.as_str()).collect();
    actions.retain(|action| action.starts_with("drills.") || action.starts_with("verification."));
    actions.sort_unstable();
    assert_eq!(actions, ["drills.asked", "drills.configured", "drills.removed", "verification.completed"]);
}
