//! Drills, as a client sees them.

use firebackup_engine::memory::MemoryDatabase;
use firebackup_engine::{Drill, DrillOptions, Stop, Target};
use firebackup_model::DatabaseName;
use object_store::ObjectStoreExt;
use object_store::path::Path;
use serde_json::json;
use std::sync::Arc;

use crate::world::{World, drills};

#[tokio::test]
async fn they_are_set_up_asked_for_and_removed() {
    let world = World::new().await;
    let (project, backup) = world.completed_backup(30).await;
    let path = format!("/api/v1/drills/{project}");
    let config = format!("{path}/config");
    assert_eq!(world.get(&config).await.outcome(), (404, "NOT_FOUND"));
    let put = world.call("PUT", &config).json(&drills()).send().await;
    assert_eq!((put.status, put.data()["nextRuns"].as_array().unwrap().len()), (200, 5), "{}", put.text);
    let expect = json!({
        "cronExpression": "0 4 * * 0", "timezone": "UTC", "database": "(default)", "scratch": {"kind": "emulator"},
        "documents": 1000, "all": false, "moments": 1, "enabled": true,
    });
    assert_eq!(put.data()["config"], expect);
    for wrong in [
        json!({"documents": 0}),
        json!({"scratch": {"kind": "database", "projectId": project, "database": "(default)"}}),
        json!({"cronExpression": "never"}),
    ] {
        let mut body = drills();
        body.as_object_mut().unwrap().extend(wrong.as_object().unwrap().clone());
        let reply = world.call("PUT", &config).json(&body).send().await;
        assert_eq!(reply.outcome(), (422, "VALIDATION_FAILED"), "{wrong}");
    }
    let unknown = json!({"cronExpression": "* * * * *", "scratch": {"kind": "emulator", "host": "x"}});
    assert!([400, 422].contains(&world.call("PUT", &config).json(&unknown).send().await.status));
    let asked = world.call("POST", &format!("{path}/run")).send().await;
    assert_eq!((asked.status, &asked.data()["running"]), (202, &json!(true)), "{}", asked.text);
    assert!(world.get(&format!("/api/v1/backups/{project}/{backup}")).await.data().get("lastDrill").is_none());
    let removed = world.call("DELETE", &config).send().await;
    assert_eq!((removed.status, &removed.data()["id"]), (200, &json!(project)), "{}", removed.text);
    assert_eq!(world.call("POST", &format!("{path}/run")).send().await.outcome(), (404, "NOT_FOUND"));
}

#[tokio::test]
async fn reports_are_read_in_the_repository_newest_first() {
    let world = World::new().await;
    let (project, backup) = world.completed_backup(30).await;
    let path = format!("/api/v1/drills/{project}");
    assert_eq!(world.get(&path).await.data()["reports"], json!([]));
    let scratch = MemoryDatabase::new(DatabaseName::new("scratch", "(default)"));
    scratch.flow();
    for seed in 0..3 {
        let drill = Drill {
            repository: world.repositories.repository().await,
            snapshot: backup.parse().unwrap(),
            scratch: Target { source: Arc::new(scratch.clone()), sink: Arc::new(scratch.clone()) },
            options: DrillOptions { sample: None, moments: 0, seed, ramp: false, take_over: false },
            by: None,
            meter: Arc::default(),
            stop: Stop::default(),
        };
        assert!(drill.run().await.unwrap().has_passed());
    }
    let reports = world.get(&format!("{path}?limit=2")).await;
    let reports = reports.data()["reports"].as_array().unwrap();
    assert_eq!(reports.len(), 2);
    assert!(reports[0]["startedAt"].as_str() >= reports[1]["startedAt"].as_str());
    let report = &reports[0];
    assert_eq!(
        (&report["passed"], &report["backupId"], &report["whole"]),
        (&json!(true), &json!(backup), &json!(true))
    );
    assert_eq!((&report["restores"][0]["same"], &report["restores"][0]["isBackup"]), (&json!(30), &json!(true)));
    let damaged = reports[0]["id"].as_str().unwrap().to_owned();
    world.store.put(&Path::from(format!("drills/{damaged}/report")), "junk".into()).await.unwrap();
    let told = world.get(&format!("{path}?limit=2")).await;
    let (unreadable, left) = (told.data()["unreadable"].clone(), told.data()["reports"].as_array().unwrap());
    assert_eq!((left.len(), &unreadable[0]["id"]), (1, &json!(damaged)), "{}", told.text);
    assert!(left[0]["id"] != damaged.as_str() && unreadable[0]["error"] != "", "{}", told.text);
    for limit in ["0", "101"] {
        assert_eq!(world.get(&format!("{path}?limit={limit}")).await.outcome(), (422, "VALIDATION_FAILED"));
    }
}
