//! Where an export may go: into a pipe, into a device, through a link, and to a reader that has had enough.
#![cfg(unix)]

use std::fs;
use std::os::unix::fs::{FileTypeExt, symlink};

use super::{Place, beside, ends, json_ends, shell, stderr, stdout};

const DOCUMENTS: usize = 400;

#[tokio::test(flavor = "multi_thread")]
async fn a_link_stays_a_link_and_a_pipe_a_pipe() {
    let place = Place::with(40).await;
    let program = &place.program;
    ends(program, &["backup"], 0);
    let expected = stdout(&ends(program, &["export"], 0));
    assert_eq!(expected.lines().count(), 40);
    let [real, link, pipe, copy, full] = ["real", "link", "pipe", "copy", "full"].map(|name| beside(program, name));

    symlink(&real, &link).unwrap();
    for _ in ["not there yet", "there"] {
        ends(program, &["export", "--output", &link], 0);
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert!(fs::symlink_metadata(&real).unwrap().is_file());
        assert_eq!(fs::read_to_string(&real).unwrap(), expected);
    }

    let export = format!("firebackup export --repo '{}' --output '{pipe}'", program.url());
    let output = shell(
        program,
        &format!("mkfifo '{pipe}' && {{ cat '{pipe}' > '{copy}' & {export}; code=$?; wait; exit $code; }}"),
    );
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(fs::metadata(&pipe).unwrap().file_type().is_fifo());
    assert_eq!(fs::read_to_string(&copy).unwrap(), expected);
    for partial in [&real, &link, &pipe].map(|path| format!("{path}.partial")) {
        assert!(!fs::exists(&partial).unwrap(), "{partial}");
    }

    if cfg!(target_os = "linux") {
        // by a link, so that nothing that goes wrong here takes the device's place
        symlink("/dev/full", &full).unwrap();
        let text = stderr(&ends(program, &["export", "--output", &full], 1));
        assert!(text.contains(&format!("could not write {full}")), "{text}");
        assert!(fs::metadata(&full).unwrap().file_type().is_char_device());
        assert!(!fs::exists("/dev/full.partial").unwrap());
    }
    // a file is replaced as ever
    let told = json_ends(program, &["export", "--output", &copy], 0);
    assert_eq!((told["documents"].as_u64(), told["ended_by_reader"].as_bool()), (Some(40), Some(false)), "{told:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_goes_is_no_failure_and_no_whole_export() {
    let place = Place::with(DOCUMENTS).await;
    let program = &place.program;
    ends(program, &["backup"], 0);
    let whole = ends(program, &["export"], 0);
    // more than a pipe and a reader's first gulp hold: the writer must notice
    assert!(whole.stdout.len() > 150_000, "{}", whole.stdout.len());
    assert!(stderr(&whole).contains(&format!("{DOCUMENTS} documents")), "{whole:?}");
    let [told, code] = ["told", "code"].map(|name| beside(program, name));
    let export = format!("firebackup export --repo '{}' 2> '{told}'", program.url());
    let output = shell(program, &format!("{{ {export}; echo $? > '{code}'; }} | head -1; wait"));
    assert_eq!(stdout(&output).lines().count(), 1, "{output:?}");
    assert_eq!(fs::read_to_string(&code).unwrap().trim(), "0");
    let told = fs::read_to_string(&told).unwrap();
    assert!(told.contains("the reader closed its end after "), "{told}");
    assert!(!told.contains(&format!("{DOCUMENTS} documents")), "{told}");
}
