//! nginx in a container: it records the same facts as the other kinds of service, through the relay too, and nothing is left
//! of it.
//!
//! Without a container engine, or without the image, these tests are skipped. Not every machine on which programs can be
//! installed can run an engine, so these tests have a variable of their own: `MESHPROOF_REQUIRE_CONTAINERS=1` makes a skip a
//! failure.

use std::path::PathBuf;

use meshproof_harness::external::{ExternalSpec, PlainPort, TlsPort};
use meshproof_harness::run_folder;
use meshproof_harness::store::Store;
use meshproof_harness::timeouts::Timeouts;
use meshproof_local::external::{
    ExternalError, RunningService, check_container, left_containers, removals_done, start_nginx_container,
};
use meshproof_local::workload::{RawEnd, raw};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::nginx::{
    KINDS_OF_PORT, assert_settles_under_load, assert_shows_what_the_embedded_service_shows, demanding,
};
use crate::support::*;

/// A run of its own, with its folder.
struct Place {
    run: String,
    folder: PathBuf,
    _work: tempfile::TempDir,
}

/// None, with a printed reason, where containers cannot be started and are not required.
async fn place() -> Option<Place> {
    if let Err(why) = check_container(None, &Timeouts::default()).await {
        let required = std::env::var("MESHPROOF_REQUIRE_CONTAINERS").is_ok_and(|v| v == "1");
        assert!(!required, "containers are required by MESHPROOF_REQUIRE_CONTAINERS=1, and {why}");
        #[expect(clippy::print_stdout, reason = "the tests' output must show what was skipped")]
        {
            println!("skipped: {why}");
        }
        return None;
    }
    let name = std::thread::current().name().unwrap_or_default().replace("::", "-");
    let run = format!("{}-{name}", run_folder::new_run_id());
    let work = tempfile::tempdir().unwrap();
    let folder = run_folder::create(work.path(), &run).unwrap();
    Some(Place { run, folder, _work: work })
}

impl Place {
    async fn start(&self, spec: ExternalSpec) -> Result<(Box<dyn RunningService>, Store), ExternalError> {
        let store = Store::new();
        let timeouts = Timeouts::default();
        let started =
            start_nginx_container(spec, store.clone(), &timeouts, &self.folder, &self.run, None).await?;
        Ok((started, store))
    }

    /// As if the run's process had been killed.
    fn kill(&self) {
        let mut dead = std::process::Command::new("true").spawn().unwrap();
        dead.wait().unwrap();
        std::fs::write(self.folder.join("owner.pid"), dead.id().to_string()).unwrap();
    }

    /// How many of its containers `meshproof cleanup` would find.
    async fn left(&self) -> usize {
        left_containers(&Timeouts::default())
            .await
            .unwrap()
            .iter()
            .filter(|c| c.describe().contains(&self.run))
            .count()
    }

    fn folders(&self) -> usize {
        std::fs::read_dir(&self.folder).unwrap().filter(|e| e.as_ref().unwrap().path().is_dir()).count()
    }
}

#[tokio::test]
async fn a_container_and_the_embedded_service_show_the_same_facts_for_the_same_traffic() {
    let Some(place) = place().await else { return };
    for kind in KINDS_OF_PORT {
        let (real, store) = place.start(demanding(kind)).await.unwrap();
        assert_eq!(real.describe().kind, "container");
        let version = real.describe().version;
        assert!(version.starts_with("nginx/1.") && version.contains("sha256:"), "{version}");
        assert_shows_what_the_embedded_service_shows(demanding(kind), &*real, &store).await;
        real.stop().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn settling_under_load_misses_no_request() {
    let Some(place) = place().await else { return };
    let spec = site(PlainPort::Serve, Some(open_port(&parties().server)));
    let (service, store) = place.start(spec).await.unwrap();
    assert_settles_under_load(&*service, &store).await;
    service.stop().await.unwrap();
}

#[tokio::test]
async fn a_request_is_tied_to_the_port_that_its_client_came_from() {
    let Some(place) = place().await else { return };
    let (service, store) = place.start(site(PlainPort::Serve, None)).await.unwrap();
    let mut stream = TcpStream::connect(service.address(80).unwrap()).await.unwrap();
    let own = stream.local_addr().unwrap().to_string();
    stream.write_all(b"GET /politics HTTP/1.0\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    service.settle().await.unwrap();
    assert_eq!(requests(&store)[0].peer, own);
    assert_eq!(connections(&store)[0].peer, own);
    service.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn connections_that_were_closed_at_once_are_all_settled() {
    let Some(place) = place().await else { return };
    let (service, store) = place.start(site(PlainPort::Serve, None)).await.unwrap();
    for round in 1..=5 {
        for _ in 0..100 {
            let mut stream = TcpStream::connect(service.address(80).unwrap()).await.unwrap();
            stream.write_all(b"GET /half HT").await.unwrap();
        }
        service.settle().await.unwrap();
        assert_eq!(connections(&store).len(), 100 * round);
    }
    service.stop().await.unwrap();
}

#[tokio::test]
async fn stop_removes_the_container_and_its_folder() {
    let Some(place) = place().await else { return };
    let (service, _) = place.start(site(PlainPort::Serve, None)).await.unwrap();
    let address = service.address(80).unwrap();
    place.kill();
    assert_eq!((place.left().await, place.folders()), (1, 1));
    service.stop().await.unwrap();
    assert_eq!((place.left().await, place.folders()), (0, 0));
    assert_eq!(raw(address, b"", LIMIT).await.end, RawEnd::Refused);
    // Stopping again, and settling what is stopped, is no error.
    service.stop().await.unwrap();
    service.settle().await.unwrap();
}

#[tokio::test]
async fn a_service_that_is_dropped_in_a_panic_leaves_no_container_and_no_folder() {
    let Some(place) = place().await else { return };
    let (service, _) = place.start(site(PlainPort::Serve, None)).await.unwrap();
    let panicked = tokio::spawn(async move {
        let _service = service;
        panic!("on purpose");
    })
    .await;
    assert!(panicked.is_err());
    removals_done(&Timeouts::default()).await.unwrap();
    place.kill();
    assert_eq!((place.left().await, place.folders()), (0, 0));
}

#[tokio::test]
async fn dropping_a_service_does_not_hold_up_the_thread_that_drops_it() {
    let Some(place) = place().await else { return };
    let (service, _) = place.start(site(PlainPort::Serve, None)).await.unwrap();
    drop(service);
    // The engine has not answered yet.
    let timeouts = Timeouts::default();
    let mut removed = std::pin::pin!(removals_done(&timeouts));
    assert!(futures_util::poll!(&mut removed).is_pending());
    removed.await.unwrap();
    place.kill();
    assert_eq!((place.left().await, place.folders()), (0, 0));
}

#[tokio::test]
async fn a_start_that_its_caller_gives_up_leaves_no_container_and_no_folder() {
    let Some(place) = place().await else { return };
    // The image's version is known from now on.
    place.start(site(PlainPort::Serve, None)).await.unwrap().0.stop().await.unwrap();
    let mut starting = Box::pin(place.start(site(PlainPort::Serve, None)));
    while place.folders() == 0 {
        assert!(futures_util::poll!(&mut starting).is_pending());
        tokio::task::yield_now().await;
    }
    drop(starting);
    // Its container may not even be made yet.
    let gone = async {
        while place.folders() > 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LIMIT, gone).await.unwrap();
    place.kill();
    assert_eq!(place.left().await, 0);
}

#[tokio::test]
async fn the_container_of_a_killed_run_is_found_and_removed_and_that_of_a_running_one_is_not() {
    let Some(place) = place().await else { return };
    let (service, _) = place.start(site(PlainPort::Serve, None)).await.unwrap();
    assert_eq!(place.left().await, 0, "its run still exists");
    place.kill();
    let left = left_containers(&Timeouts::default()).await.unwrap();
    let left = left.iter().find(|c| c.describe().contains(&place.run)).unwrap();
    left.remove().await.unwrap();
    assert_eq!(place.left().await, 0);
    let failed = service.settle().await.err().unwrap();
    assert!(matches!(failed, ExternalError::Died { .. }), "{failed}");
    service.stop().await.unwrap();
    assert_eq!(place.folders(), 0);
}

#[tokio::test]
async fn a_configuration_that_nginx_rejects_is_a_start_error_that_quotes_nginx() {
    let Some(place) = place().await else { return };
    let other = parties().ca.server("other.example").issue().unwrap();
    let port = TlsPort { key: other.key(), ..open_port(&parties().server) };
    let failed = place.start(site(PlainPort::Closed, Some(port))).await.err().unwrap();
    assert!(matches!(failed, ExternalError::Start { .. }), "{failed}");
    assert!(failed.to_string().contains("key values mismatch"), "{failed}");
    place.kill();
    assert_eq!((place.left().await, place.folders()), (0, 0));
}

#[tokio::test]
async fn a_missing_image_is_named_together_with_the_fix() {
    let Some(place) = place().await else { return };
    let image = Some("127.0.0.1:1/no-such-image:1");
    let spec = site(PlainPort::Serve, None);
    let timeouts = Timeouts::default();
    let failed = start_nginx_container(spec, Store::new(), &timeouts, &place.folder, &place.run, image).await;
    let failed = failed.err().unwrap();
    assert!(matches!(failed, ExternalError::Image { .. }), "{failed}");
    assert!(failed.to_string().contains("docker pull 127.0.0.1:1/no-such-image:1"), "{failed}");
}
