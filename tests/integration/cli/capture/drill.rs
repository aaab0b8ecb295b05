//! Drills, as the program runs them: into a database of the same emulator, and what passes and what does not.

use tonic::Code;

use super::*;
use crate::binary::Program;
use crate::cli::{ends, stderr, stdout};

const SCRATCH: [&str; 2] = ["--scratch-database", "drill"];

fn drill(program: &Program, arguments: &[&str], code: i32) -> Value {
    json_ends(program, &[&["drill"], &SCRATCH[..], arguments].concat(), code)
}

fn restored(program: &Program) -> bool {
    let listed = json_ends(program, &["list"], 0);
    moment(&listed["snapshots"][0]["restored"]).is_some()
}

fn drill_failed(program: &Program) -> Value {
    json_ends(program, &["list"], 0)["snapshots"][0]["drill_failed"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_and_a_moment_behind_it_are_restored_and_the_report_is_kept() {
    let place = Place::begun().await;
    let program = &place.program;
    once(program, 0);
    put(&place.source, [("users/u03".to_owned(), 700), ("fresh/1".to_owned(), 1)]).await;
    remove(&place.source, "users/u04").await;
    let (changed, _) = place.now().await;
    let until = Instant::now() + PATIENCE;
    while once(program, 0).values().filter_map(|event| moment(&event["proven_through"])).all(|proven| proven < changed)
    {
        assert!(Instant::now() < until, "it is never proven");
    }
    assert!(!restored(program));
    assert_eq!(drill_failed(program), Value::Null);
    let report = drill(program, &["--all"], 0);
    assert_eq!((&report["passed"], &report["origin_proven"]), (&true.into(), &true.into()), "{report:#}");
    let of =
        |number: usize| (report["exercises"][number]["is_backup"].clone(), report["exercises"][number]["same"].clone());
    assert_eq!((of(0), of(1)), ((true.into(), 21.into()), (false.into(), 21.into())), "{report:#}");
    assert!(read_all(&place.of("drill").await).await.is_empty());
    assert!(restored(program));
    let sampled = drill(program, &["--sample", "10", "--moments", "0"], 0);
    assert_eq!(sampled["exercises"].as_array().unwrap().len(), 1, "{sampled:#}");
    let reports = json_ends(program, &["drill", "--reports"], 0);
    assert_eq!((&reports[0]["id"], &reports[1]["id"]), (&report["id"], &sampled["id"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_backup_is_told_and_no_longer_counted_as_good() {
    let place = Place::begun().await;
    let program = &place.program;
    drill(program, &["--all"], 0);
    let run = program.objects().into_iter().find(|path| path.starts_with("runs/")).unwrap();
    let file = std::path::Path::new(program.url().strip_prefix("file://").unwrap()).join(&run);
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[150] ^= 1;
    std::fs::write(&file, &bytes).unwrap();
    let report = drill(program, &["--all"], 3);
    assert!(report["failure"].as_str().unwrap().contains(&run), "{report:#}");
    assert!(!restored(program));
    assert_eq!(drill_failed(program), report["finished"], "{report:#}");
    let shown = stdout(&ends(program, &["list"], 0));
    assert!(shown.contains("  failed ") && !shown.contains("never"), "{shown}");
    // put back as it was, it passes, and is one that failed no more
    bytes[150] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    drill(program, &["--all"], 0);
    assert!(restored(program) && drill_failed(program).is_null());
    assert!(!stdout(&ends(program, &["list"], 0)).contains("failed"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_that_is_damaged_is_told_and_does_not_make_an_earlier_pass_count() {
    let place = Place::begun().await;
    let program = &place.program;
    drill(program, &["--all"], 0);
    assert!(restored(program));
    let root = program.folder.path().join("repository");
    let run = root.join(program.objects().into_iter().find(|path| path.starts_with("runs/")).unwrap());
    let whole = std::fs::read(&run).unwrap();
    let mut bytes = whole.clone();
    bytes[150] ^= 1;
    std::fs::write(&run, bytes).unwrap();
    let failed = drill(program, &["--all"], 3);
    std::fs::write(&run, whole).unwrap();
    json_ends(program, &["verify", "--all"], 0);
    let object = format!("drills/{}/report", failed["id"].as_str().unwrap());
    std::fs::write(root.join(&object), "FB").unwrap();

    let listed = json_ends(program, &["list"], 3);
    let backup = &listed["snapshots"][0];
    // of what it says nothing is known, also not that it failed
    assert_eq!((&backup["restored"], &backup["drill_failed"]), (&Value::Null, &Value::Null), "{listed:#}");
    assert_eq!(listed["unreadable_reports"][0]["object"], object, "{listed:#}");
    assert!(stderr(&ends(program, &["list"], 3)).contains(&object));
    let reports = json_ends(program, &["drill", "--reports"], 3);
    assert_eq!((&reports[0]["passed"], &reports[1]["id"]), (&true.into(), &failed["id"]), "{reports:#}");
    assert!(reports[1]["object"] == object && reports[1]["error"] != "", "{reports:#}");
    assert!(stdout(&ends(program, &["drill", "--reports"], 3)).contains(&format!("{object}  cannot be read")));
    let verified = json_ends(program, &["verify", "--all"], 3);
    assert_eq!((verified["damaged"].as_array().unwrap().len(), &verified["drill_reports"]), (0, &1.into()));
    assert_eq!(verified["damaged_drill_reports"][0]["report"], object, "{verified:#}");

    drill(program, &["--all"], 0);
    let listed = json_ends(program, &["list"], 3);
    assert!(moment(&listed["snapshots"][0]["restored"]).is_some(), "what began later counts: {listed:#}");
    std::fs::remove_file(root.join(&object)).unwrap();
    assert!(restored(program), "nothing is damaged any more");
}

/// Of a repository in the clear nobody can say who wrote a report: a drill passes there, and `list` counts it for nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_report_that_anybody_may_have_written_makes_no_backup_good() {
    let place = Place::begun().await;
    let program = &place.program;
    std::fs::remove_dir_all(program.folder.path().join("repository")).unwrap();
    let keyless = |arguments: &[&str]| {
        let output = program.command(arguments).env_remove("FIREBACKUP_MASTER_KEY").output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {output:?}");
        output.stdout
    };
    keyless(&["init", "--no-encryption"]);
    keyless(&["backup"]);
    let drilled = keyless(&[&["drill"], &SCRATCH[..], &["--all", "--json"]].concat());
    let report: Value = serde_json::from_slice(&drilled).unwrap();
    assert_eq!((&report["passed"], &report["origin_proven"]), (&true.into(), &false.into()), "{report:#}");
    let listed: Value = serde_json::from_slice(&keyless(&["list", "--json"])).unwrap();
    let [backup] = &listed["snapshots"].as_array().unwrap()[..] else { panic!("{listed:#}") };
    assert_eq!((&backup["origin_proven"], &backup["restored"]), (&false.into(), &Value::Null), "{listed:#}");
    let reports = String::from_utf8(keyless(&["drill", "--reports"])).unwrap();
    assert!(reports.contains("passed, origin not proven"), "{reports}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_whose_manifest_is_damaged_does_not_pass_either() {
    let place = Place::begun().await;
    let program = &place.program;
    let manifest = program.objects().into_iter().find(|path| path.starts_with("snapshots/")).unwrap();
    let file = std::path::Path::new(program.url().strip_prefix("file://").unwrap()).join(&manifest);
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[150] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    let id = manifest.strip_prefix("snapshots/").unwrap().strip_suffix(".manifest").unwrap();
    for snapshot in ["latest", id] {
        let told = drill(program, &[snapshot], 3);
        assert_eq!(told["error"]["message"], "the backup cannot be restored", "{told:#}");
    }
    drill(program, &["bkp_01JZ8Q6V7C9X2M4T5B8K1N3R6W"], 5);
    for wrong in ["Bad_ID", "bad/id", "1bad"] {
        assert_eq!(program.run(&["drill", "--scratch-project", wrong]).status.code(), Some(2), "{wrong}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_not_empty_or_was_backed_up_is_refused_and_stays_as_it_is() {
    let place = Place::begun().await;
    let scratch = place.of("drill").await;
    let name = DatabaseName::new("demo-app", "drill").document_name("mine/1");
    let document = read_json(&format!(r#"{{"name": "{name}", "fields": {{}}}}"#)).unwrap().into();
    let path = DocumentPath::new("mine/1").unwrap();
    write(&scratch, vec![Write { path, document: Some(document), precondition: Precondition::None }]).await;
    let refused = drill(&place.program, &["--take-over"], 1);
    assert!(refused["error"]["message"].as_str().unwrap().contains("holds documents"), "{refused:#}");
    assert_eq!(read_all(&scratch).await.len(), 1);
    let before = read_all(&place.source).await;
    json_ends(&place.program, &["drill", "--scratch-database", &database().database], 2);
    assert_eq!(read_all(&place.source).await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_server_that_counts_single_groups_only_a_drill_passes_and_a_plan_says_what_it_can() {
    let place = Place::begun().await;
    let program = &place.program;
    place.proxy.control().refuse_kindless_counts(Some(Code::InvalidArgument));
    let report = drill(program, &["--all", "--moments", "0"], 0);
    assert_eq!((&report["passed"], &report["exercises"][0]["same"]), (&true.into(), &21.into()), "{report:#}");
    let plan = json_ends(program, &["backup", "--plan"], 0);
    assert_eq!((&plan["documents"], &plan["billed_reads"]), (&21.into(), &21.into()), "the sample has all: {plan:#}");
    put(&place.source, (0..100).map(|n| (format!("more/m{n:02}"), n))).await;
    let plan = json_ends(program, &["backup", "--plan"], 0);
    assert!(plan["documents"].is_null() && plan.get("billed_reads").is_none(), "{plan:#}");
    assert_eq!(plan["plan_reads"], 100, "no more than the sample is read: {plan:#}");
    assert!(stdout(&ends(program, &["backup", "--plan"], 0)).contains("cannot be counted"));
}

#[tokio::test(flavor = "multi_thread")]
async fn drills_are_run_when_they_are_due_until_somebody_ends_them() {
    let place = Place::begun().await;
    let arguments = ["drill", "--scratch-database", "drill", "--cron", "* * * * *", "--json"];
    let mut child = place.program.command(&arguments).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let told: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
    assert_eq!((&told["passed"], &told["exercises"][0]["same"]), (&true.into(), &21.into()), "{told:#}");
    signal(&child, "-INT");
    assert_eq!(child.wait().unwrap().code(), Some(0));
    json_ends(&place.program, &["drill", "--scratch-database", "drill", "--cron", "never"], 2);
}
