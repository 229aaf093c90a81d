//! The process of the real nginx: how it starts, ends and fails, and what it leaves.

use std::path::Path;
use std::time::Duration;

use meshproof_harness::external::{ExternalSpec, HttpVersions, PlainPort, TlsPort};
use meshproof_harness::store::Store;
use meshproof_harness::timeouts::{Timeout, Timeouts};
use meshproof_local::external::{ExternalError, start_nginx};
use meshproof_local::workload::{RawEnd, raw};

use crate::nginx::{entries, folder, pid, signal, start};
use crate::support::*;

fn runs(pid: u32) -> bool {
    // A process that has ended and was not yet waited for still has an entry, with the state Z.
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

/// Ctrl-C at a terminal goes to the foreground process group of its session. The suite needs the service until its teardown.
#[cfg(unix)]
#[tokio::test]
async fn nginx_runs_in_a_session_of_its_own_so_that_ctrl_c_does_not_reach_it() {
    let folder = folder();
    let Some((service, _)) = start(site(PlainPort::Serve, None), folder.path()).await else { return };
    let pid = rustix::process::Pid::from_raw(pid(folder.path()).try_into().unwrap());
    assert_eq!(rustix::process::getsid(pid).unwrap(), pid.unwrap());
    assert_eq!(rustix::process::getpgid(pid).unwrap(), pid.unwrap());
    service.stop().await.unwrap();
}

#[tokio::test]
async fn stop_ends_the_process_and_removes_its_folder() {
    let folder = folder();
    let Some((service, _)) = start(site(PlainPort::Serve, None), folder.path()).await else { return };
    let (pid, address) = (pid(folder.path()), service.address(80).unwrap());
    assert!(runs(pid));
    service.stop().await.unwrap();
    assert!(!runs(pid));
    assert!(entries(folder.path()).is_empty());
    assert_eq!(raw(address, b"", LIMIT).await.end, RawEnd::Refused);
    // Stopping again, and settling what is stopped, is no error.
    service.stop().await.unwrap();
    service.settle().await.unwrap();
}

#[tokio::test]
async fn a_service_that_is_dropped_in_a_panic_leaves_no_process_and_no_folder() {
    let folder = folder();
    let Some((service, _)) = start(site(PlainPort::Serve, None), folder.path()).await else { return };
    let pid = pid(folder.path());
    let panicked = tokio::spawn(async move {
        let _service = service;
        panic!("on purpose");
    })
    .await;
    assert!(panicked.is_err());
    assert!(entries(folder.path()).is_empty());
    tokio::time::timeout(LIMIT, async {
        while runs(pid) {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await
    .expect("teardown: nginx has ended");
}

#[cfg(unix)]
#[tokio::test]
async fn keys_are_readable_by_their_owner_alone() {
    use std::os::unix::fs::PermissionsExt;
    let folder = folder();
    let spec = site(PlainPort::Closed, Some(open_port(&parties().server)));
    let Some((service, _)) = start(spec, folder.path()).await else { return };
    let own = entries(folder.path()).remove(0);
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&own), 0o700);
    assert_eq!(mode(&own.join("tls.key")), 0o600);
    service.stop().await.unwrap();
}

#[tokio::test]
async fn a_missing_nginx_is_named_together_with_the_fix() {
    let folder = folder();
    let program = folder.path().join("no-such-nginx");
    let failed = start_nginx(
        site(PlainPort::Serve, None),
        Store::new(),
        &Timeouts::default(),
        folder.path(),
        Some(&program),
    )
    .await;
    let failed = failed.err().unwrap();
    assert!(matches!(failed, ExternalError::Missing { .. }), "{failed}");
    assert!(failed.to_string().contains("Install"));
}

#[tokio::test]
async fn a_configuration_that_nginx_rejects_is_a_start_error_that_quotes_nginx() {
    let folder = folder();
    let other = parties().ca.server("other.example").issue().unwrap();
    let port = TlsPort { key: other.key(), ..open_port(&parties().server) };
    let Some(program) = nginx() else { return };
    let spec = site(PlainPort::Closed, Some(port));
    let failed = start_nginx(spec, Store::new(), &Timeouts::default(), folder.path(), Some(&program))
        .await
        .err()
        .unwrap();
    assert!(matches!(failed, ExternalError::Start { .. }));
    assert!(failed.to_string().contains("key values mismatch"), "{failed}");
    assert!(entries(folder.path()).is_empty(), "nothing is left of the attempt");
}

#[tokio::test]
async fn a_specification_that_nginx_cannot_carry_out_is_an_error_before_nginx_starts() {
    let folder = folder();
    let Some(program) = nginx() else { return };
    let http2 = TlsPort { http: HttpVersions::Http2, ..open_port(&parties().server) };
    let hosts = ExternalSpec { host: "a; return 200".to_owned(), ..site(PlainPort::Serve, None) };
    for (spec, reason) in [
        (site(PlainPort::Closed, Some(http2)), "HTTP/2 alone"),
        (hosts, "cannot stand in nginx's configuration"),
    ] {
        let failed = start_nginx(spec, Store::new(), &Timeouts::default(), folder.path(), Some(&program))
            .await
            .err()
            .unwrap();
        assert!(failed.to_string().contains(reason), "{failed}");
    }
    assert!(entries(folder.path()).is_empty());
}

#[cfg(unix)]
fn script(folder: &Path, text: &str) -> std::path::PathBuf {
    use std::os::unix::fs::PermissionsExt as _;
    let script = folder.join("nginx");
    std::fs::write(&script, text).unwrap();
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o700)).unwrap();
    script
}

#[cfg(unix)]
#[tokio::test]
async fn an_nginx_that_does_not_answer_is_waited_for_no_longer_than_the_runs_timeout() {
    let (folder, programs) = (folder(), folder());
    let program = script(programs.path(), "#!/bin/sh\nexec sleep 60\n");
    let mut timeouts = Timeouts::default();
    timeouts.set(Timeout::ExternalServiceReady, Duration::from_millis(120));
    let spec = site(PlainPort::Serve, None);
    let failed = start_nginx(spec, Store::new(), &timeouts, folder.path(), Some(&program)).await;
    let failed = failed.err().unwrap().to_string();
    assert!(failed.contains("external-service-ready") && failed.contains("120ms"), "{failed}");
}

#[cfg(unix)]
#[tokio::test]
async fn an_nginx_that_stands_still_is_waited_for_no_longer_than_the_runs_timeout() {
    let Some(program) = nginx() else { return };
    let folder = folder();
    let mut timeouts = Timeouts::default();
    timeouts.set(Timeout::EvidenceSettled, Duration::from_millis(120));
    let spec = site(PlainPort::Serve, None);
    let started = start_nginx(spec, Store::new(), &timeouts, folder.path(), Some(&program)).await;
    let service = started.unwrap();
    signal("-STOP", pid(folder.path())).await;
    let settled = tokio::time::timeout(LIMIT / 2, service.settle()).await.expect("the run's timeout");
    assert!(matches!(settled, Err(ExternalError::Died { .. })), "{settled:?}");
    service.stop().await.unwrap();
}

/// An nginx whose files cannot grow beyond half a KiB: what it meets on a full disk.
#[cfg(unix)]
fn without_room(folder: &Path) -> Option<std::path::PathBuf> {
    let text = format!("#!/bin/sh\ntrap '' XFSZ\nulimit -f 1\nexec '{}' \"$@\"\n", nginx()?.display());
    Some(script(folder, &text))
}

#[cfg(unix)]
#[tokio::test]
async fn an_nginx_that_cannot_write_its_log_is_an_error() {
    let (folder, programs) = (folder(), folder());
    let Some(program) = without_room(programs.path()) else { return };
    let started = start_nginx(
        site(PlainPort::Serve, None),
        Store::new(),
        &Timeouts::default(),
        folder.path(),
        Some(&program),
    )
    .await;
    let service = started.unwrap();
    let mut settled = Ok(());
    for _ in 0..3 {
        let exchange = client_of(&*service).exchange(&get("http://edition.cnn.com/")).await;
        assert_eq!(response(&exchange).status, 200);
        settled = service.settle().await;
    }
    let words = settled.unwrap_err().to_string();
    assert!(
        words.contains("Check whether the disk of") && words.contains(&*folder.path().to_string_lossy()),
        "{words}"
    );
    service.stop().await.unwrap();
}

#[tokio::test]
async fn an_nginx_that_dies_is_reported_as_dead() {
    let folder = folder();
    let Some((service, _)) = start(site(PlainPort::Serve, None), folder.path()).await else { return };
    signal("-KILL", pid(folder.path())).await;
    let failed = service.settle().await.err().unwrap();
    assert!(matches!(failed, ExternalError::Died { .. }), "{failed}");
    service.stop().await.unwrap();
    assert!(entries(folder.path()).is_empty());
}
