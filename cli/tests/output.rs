//! Where the command writes to: it does not replace links, pipes and devices, and a full disk loses no result.

#![cfg(target_os = "linux")]
#![allow(clippy::must_use_candidate, reason = "a test says what went wrong by panicking")]

use std::fs;
use std::os::unix::fs::{FileTypeExt, symlink};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

const SAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../reports/render/samples/no-sni.json");
const ONE: &str = "sidecar-origination:target-port";

fn meshproof(arguments: &[&str]) -> Command {
    let mut command = Command::new(assert_cmd::cargo::cargo_bin("meshproof"));
    command.args(arguments).env("NO_COLOR", "1").env_remove("MESHPROOF_NGINX").stdin(Stdio::null());
    command
}

#[track_caller]
fn ran(command: &mut Command, code: i32) -> (String, String) {
    let Output { status, stdout, stderr } = command.output().expect("it starts");
    let (stdout, stderr) =
        (String::from_utf8_lossy(&stdout).into_owned(), String::from_utf8_lossy(&stderr).into_owned());
    assert_eq!(status.code(), Some(code), "{command:?}\n{stdout}\n{stderr}");
    (stdout, stderr)
}

fn path(path: &Path) -> &str {
    path.to_str().expect("it is UTF-8")
}

fn folder() -> TempDir {
    TempDir::new().expect("a folder")
}

#[test]
fn a_link_stays_a_link_and_its_target_is_written() {
    let folder = folder();
    let [kept, absent] = ["kept.yaml", "absent.yaml"].map(|n| folder.path().join(n));
    fs::write(&kept, "before").expect("written");
    for (name, file) in [("to-kept", &kept), ("to-absent", &absent)] {
        let link = folder.path().join(name);
        symlink(file, &link).expect("a link");
        ran(&mut meshproof(&["baseline", SAMPLE, "--out", path(&link)]), 0);
        assert!(link.is_symlink(), "{name}");
        let text = fs::read_to_string(file).expect("it is there");
        assert!(text.contains("expected_failures"), "{name}: {text}");
    }
    let left = fs::read_dir(folder.path()).expect("a folder").count();
    assert_eq!(left, 4, "no partial file is left");
}

#[test]
fn a_pipe_stays_a_pipe_and_its_reader_gets_the_page() {
    let folder = folder();
    let pipe = folder.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().expect("mkfifo").success());
    let mut reader = Command::new("cat").arg(&pipe).stdout(Stdio::piped()).spawn().expect("cat");
    let compared = ran(&mut meshproof(&["compare", SAMPLE, SAMPLE, "--html", path(&pipe)]), 0);
    let is_pipe = fs::metadata(&pipe).expect("it is there").file_type().is_fifo();
    if !is_pipe {
        // Nothing was written, so the reader would wait forever.
        reader.kill().expect("it waits");
    }
    assert!(is_pipe, "{compared:?}");
    let read = reader.wait_with_output().expect("it ends");
    assert!(String::from_utf8_lossy(&read.stdout).contains("</html>"));
}

#[test]
fn a_full_device_is_an_error_and_stays_a_device() {
    let folder = folder();
    let link = folder.path().join("full");
    symlink("/dev/full", &link).expect("a link");
    let (said, complained) = ran(&mut meshproof(&["compare", SAMPLE, SAMPLE, "--html", path(&link)]), 3);
    assert!(complained.contains("No space left"), "{complained}");
    assert!(!said.is_empty(), "the comparison itself is not lost");
    assert!(fs::metadata(&link).expect("it is there").file_type().is_char_device());
}

fn run<'a>(out: &'a Path, more: &[&'a str]) -> Vec<&'a str> {
    let mut arguments = vec!["run", "-q", "--external", "embedded", "--out", path(out)];
    arguments.extend(more);
    arguments.push(ONE);
    arguments
}

#[test]
fn a_page_that_cannot_be_written_loses_nothing_else_and_the_message_has_the_command_that_writes_it() {
    let folder = folder();
    let out = folder.path().join("it's here");
    fs::create_dir(&out).expect("made");
    symlink("/dev/full", out.join("index.html")).expect("a link");
    let (said, complained) = ran(&mut meshproof(&run(&out, &["--format", "html", "--format", "junit"])), 3);
    assert!(said.contains("PASSED"), "{said}");
    assert!(complained.contains("index.html cannot be written: No space left"), "{complained}");
    assert!(complained.contains("report.json, ") && complained.contains("junit.xml"), "{complained}");
    let fix = complained.split_once("without another run: meshproof ").expect("a fix").1.trim();
    assert!(fix.contains(" --format html --out "), "{fix}");
    fs::remove_file(out.join("index.html")).expect("removed");
    let again = format!("{} {fix}", assert_cmd::cargo::cargo_bin("meshproof").display());
    ran(Command::new("sh").args(["-c", &again]), 0);
    assert!(out.join("index.html").is_file());
}

#[test]
fn a_report_that_cannot_be_written_goes_to_a_temporary_folder() {
    let folder = folder();
    let [out, temporary] = ["out", "tmp"].map(|n| folder.path().join(n));
    for made in [&out, &temporary] {
        fs::create_dir(made).expect("made");
    }
    for name in ["index.html", "report.json"] {
        symlink("/dev/full", out.join(name)).expect("a link");
    }
    let (said, complained) = ran(meshproof(&run(&out, &[])).env("TMPDIR", &temporary), 3);
    assert!(said.contains("PASSED"), "{said}");
    let left: Vec<_> =
        fs::read_dir(&temporary).expect("a folder").map(|f| f.expect("a file").path()).collect();
    let [kept] = left.as_slice() else { panic!("{left:?}\n{complained}") };
    let report = kept.join("report.json");
    assert!(complained.contains(path(&report)), "{complained}");
    ran(&mut meshproof(&["report", path(&report)]), 0);
}

#[test]
fn a_full_standard_output_is_an_error_and_a_reader_that_has_gone_is_not() {
    let folder = folder();
    let out = folder.path().join("out");
    let commands: [&[&str]; 5] = [
        &["report", SAMPLE, "--format", "junit"],
        &["list"],
        &["compare", SAMPLE, SAMPLE, "--json"],
        &["baseline", SAMPLE],
        &run(&out, &[]),
    ];
    for arguments in commands {
        let full = fs::OpenOptions::new().write(true).open("/dev/full").expect("/dev/full");
        let ended = meshproof(arguments).stdout(full).stderr(Stdio::piped()).output().expect("it starts");
        let said = String::from_utf8_lossy(&ended.stderr);
        assert_eq!(ended.status.code(), Some(3), "{arguments:?}: {said}");
        assert!(
            said.contains("standard output cannot be written to: No space left"),
            "{arguments:?}: {said}"
        );
    }
    assert!(out.join("report.json").is_file(), "the run itself is not lost");
    let mut child =
        meshproof(&["list"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    drop(child.stdout.take());
    let ended = child.wait_with_output().expect("it ends");
    assert_eq!((ended.status.code(), ended.stderr.as_slice()), (Some(0), b"".as_slice()));
}

#[test]
fn files_of_an_earlier_run_in_other_formats_are_removed_and_other_files_stay() {
    let folder = folder();
    let out = folder.path().join("out");
    fs::create_dir(&out).expect("made");
    for name in ["summary.md", "notes.txt"] {
        fs::write(out.join(name), "mine").expect("written");
    }
    let names = || {
        let mut names: Vec<String> = fs::read_dir(&out)
            .expect("a folder")
            .map(|f| f.expect("a file").file_name().into_string().expect("UTF-8"))
            .collect();
        names.sort();
        names
    };
    // No run has written here before, so a file with a report's name is not a report.
    ran(&mut meshproof(&run(&out, &["--format", "html", "--format", "badge"])), 0);
    assert_eq!(names(), ["badge.json", "index.html", "notes.txt", "report.json", "summary.md"]);
    ran(&mut meshproof(&run(&out, &["--format", "junit"])), 0);
    assert_eq!(names(), ["junit.xml", "notes.txt", "report.json"]);
}
