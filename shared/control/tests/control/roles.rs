//! Every verb with every role.

use firebackup_control::{
    ApiKeyId, BulkDeletion, Caller, Code, Control, DeliveryId, DestinationChange, DestinationId, Kind, NewApiKey,
    OrganizationChange, Page, ProjectChange, ProjectFilter, ProjectId, Result, Role, ScheduleChange, ScheduleFilter,
    ScheduleId, WebhookChange, WebhookId,
};
use firebackup_model::id::{JobId, JobKind};
use futures::FutureExt;
use futures::future::BoxFuture;
use ulid::Ulid;

use crate::world::{World, new_backup, new_destination, new_project, new_restore, new_schedule};

/// What a verb is called with.
pub struct Ids {
    pub key: ApiKeyId,
    pub project: ProjectId,
    pub destination: DestinationId,
    pub schedule: ScheduleId,
    pub backup: JobId,
    pub restore: JobId,
    pub webhook: WebhookId,
    pub delivery: DeliveryId,
}

impl Ids {
    /// Of nothing that is there.
    pub fn unknown() -> Self {
        let ulid = Ulid::from_parts(1, 1);
        Self {
            key: ulid.into(),
            project: ulid.into(),
            destination: ulid.into(),
            schedule: ulid.into(),
            backup: JobId::new(JobKind::Backup, 1, [1; 10]),
            restore: JobId::new(JobKind::Restore, 1, [1; 10]),
            webhook: ulid.into(),
            delivery: ulid.into(),
        }
    }
}

type Answer<'a> = BoxFuture<'a, Result<()>>;

/// The verbs that name something, and the least role that may do them.
pub fn verbs_on_ids<'a>(
    control: &'a Control,
    caller: &'a Caller,
    ids: &'a Ids,
) -> Vec<(&'static str, Role, Answer<'a>)> {
    macro_rules! verbs {
        ($($name:ident ($($argument:expr),*) by $least:ident;)+) => {
            vec![$((
                stringify!($name),
                Role::$least,
                async move { control.$name(caller, $($argument),*).await.map(|_| ()) }.boxed(),
            )),+]
        };
    }
    verbs! {
        revoke_api_key(&ids.key) by Admin;
        project(&ids.project) by Viewer;
        update_project(&ids.project, ProjectChange::default()) by Admin;
        remove_project(&ids.project) by Admin;
        databases(&ids.project, None, &Page::default()) by Viewer;
        collections(&ids.project, (None, None), &Page::default()) by Viewer;
        sync_collections(&ids.project, None) by Member;
        destination(&ids.destination) by Viewer;
        update_destination(&ids.destination, DestinationChange::default()) by Admin;
        verify_destination(&ids.destination) by Admin;
        remove_destination(&ids.destination) by Admin;
        destination_links(&ids.destination) by Viewer;
        backups_in_destination(&ids.destination, &Page::default()) by Viewer;
        delete_backups(&ids.destination, &BulkDeletion { backup_ids: vec![ids.backup.clone()] }) by Admin;
        request_migration(&ids.destination, &migration_to(ids.destination), None) by Admin;
        plan_migration(&ids.destination, &migration_to(ids.destination)) by Admin;
        cancel_migration(&ids.destination) by Admin;
        open_repository(&ids.destination, &ids.project, true) by Viewer;
        backup(&ids.project, &ids.backup) by Viewer;
        open_backup(&ids.project, &ids.backup) by Viewer;
        cancel_backup(&ids.project, &ids.backup) by Member;
        delete_backup(&ids.project, &ids.backup) by Admin;
        restore(&ids.restore) by Viewer;
        cancel_restore(&ids.restore) by Member;
        schedule(&ids.schedule) by Viewer;
        update_schedule(&ids.schedule, ScheduleChange::default()) by Admin;
        toggle_schedule(&ids.schedule) by Admin;
        trigger_schedule(&ids.schedule, None) by Member;
        remove_schedule(&ids.schedule) by Admin;
        drills(&ids.project) by Viewer;
        put_drills(&ids.project, crate::drills::new_drills()) by Admin;
        remove_drills(&ids.project) by Admin;
        ask_for_drill(&ids.project, None) by Admin;
        open_drills(&ids.project) by Viewer;
        webhook(&ids.webhook) by Viewer;
        update_webhook(&ids.webhook, WebhookChange::default()) by Admin;
        toggle_webhook(&ids.webhook) by Admin;
        remove_webhook(&ids.webhook) by Admin;
        test_webhook(&ids.webhook) by Admin;
        deliveries(&ids.webhook, &Page::default()) by Viewer;
        redeliver(&ids.webhook, &ids.delivery) by Admin;
        create_backup(by_ids(ids.project), None) by Member;
        create_restore(restore_of(&ids.backup), &crate::world::NoMoments, None) by Member;
        create_schedule(schedule_of(ids.project)) by Admin;
    }
}

fn by_ids(project: ProjectId) -> firebackup_control::NewBackup {
    serde_json::from_value(serde_json::json!({ "projectId": project })).unwrap()
}

fn migration_to(target: DestinationId) -> firebackup_control::NewMigration {
    firebackup_control::NewMigration { target_destination_id: target, dry_run: false }
}

fn restore_of(backup: &JobId) -> firebackup_control::NewRestore {
    serde_json::from_value(serde_json::json!({ "backupId": backup })).unwrap()
}

fn schedule_of(project: ProjectId) -> firebackup_control::NewSchedule {
    let json = serde_json::json!({ "name": "a", "projectId": project, "cronExpression": "0 3 * * *" });
    serde_json::from_value(json).unwrap()
}

#[tokio::test]
async fn a_verb_that_names_something_asks_for_its_role_first() {
    let world = World::new().await;
    let ids = Ids::unknown();
    for role in Role::ALL {
        let caller = world.caller(role).await;
        for (verb, least, answer) in verbs_on_ids(&world.control, &caller, &ids) {
            let error = answer.await.expect_err(verb);
            let expected = if role >= least { Code::NotFound } else { Code::Forbidden };
            assert_eq!(error.code, expected, "{verb} by {role:?}: {error}");
        }
    }
}

#[tokio::test]
async fn a_verb_that_does_something_is_done_by_its_role_and_no_less() {
    for role in Role::ALL {
        let world = World::new().await;
        let (project, _) = world.set_up().await;
        let backup = world.completed(&project).await;
        let (caller, control, page) = (world.caller(role).await, &world.control, Page::default());
        let filter = ProjectFilter::default();
        let key = NewApiKey { name: "k".to_owned(), role: Role::Viewer, expires_at: None };
        let done: [(&str, Role, Result<()>); 15] = [
            ("organization", Role::Viewer, control.organization(&caller).await.map(|_| ())),
            ("api_keys", Role::Viewer, control.api_keys(&caller, &page).await.map(|_| ())),
            ("projects", Role::Viewer, control.projects(&caller, &filter, &page).await.map(|_| ())),
            ("destinations", Role::Viewer, control.destinations(&caller, &page).await.map(|_| ())),
            ("backups", Role::Viewer, control.backups(&caller, None, &page).await.map(|_| ())),
            ("restores", Role::Viewer, control.restores(&caller, &page).await.map(|_| ())),
            (
                "schedules",
                Role::Viewer,
                control.schedules(&caller, &ScheduleFilter::default(), &page).await.map(|_| ()),
            ),
            (
                "create_backup",
                Role::Member,
                control.create_backup(&caller, new_backup(&project), None).await.map(|_| ()),
            ),
            (
                "create_restore",
                Role::Member,
                control.create_restore(&caller, new_restore(&backup), &crate::world::NoMoments, None).await.map(|_| ()),
            ),
            (
                "create_schedule",
                Role::Admin,
                control.create_schedule(&caller, new_schedule(&project)).await.map(|_| ()),
            ),
            ("connect_project", Role::Admin, control.connect_project(&caller, new_project("b")).await.map(|_| ())),
            ("begin_consent", Role::Admin, control.begin_consent(&caller).await.map(|_| ())),
            ("add_destination", Role::Admin, control.add_destination(&caller, new_destination("b")).await.map(|_| ())),
            ("create_api_key", Role::Admin, control.create_api_key(&caller, key).await.map(|_| ())),
            (
                "update_organization",
                Role::Owner,
                control.update_organization(&caller, OrganizationChange::default()).await.map(|_| ()),
            ),
        ];
        for (verb, least, answer) in done {
            match answer {
                Ok(()) => assert!(role >= least, "{verb} was done by {role:?}"),
                Err(error) => {
                    assert_eq!((error.kind, error.code), (Kind::Forbidden, Code::Forbidden), "{verb}: {error}");
                    assert!(role < least, "{verb} was not done by {role:?}");
                }
            }
        }
    }
}
