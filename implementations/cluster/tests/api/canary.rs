//! How a change is known to be in force, depending on what can be read of a proxy.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use meshproof_cluster::instance::start;
use meshproof_cluster::manifests::Injection;
use meshproof_cluster::noted::RunNotes;
use meshproof_cluster::{Gateways, Settings};
use meshproof_harness::manifest;
use meshproof_harness::store::Store;
use meshproof_harness::target::{ConfigChange, Instance, TargetError};
use meshproof_harness::timeouts::Timeout;
use meshproof_model::Fact;

use crate::fake_cluster::{DumpReader, FakeCluster, pretended, seat};
use crate::instance::access;
use crate::server::FakeApiServer;

struct Begun {
    server: FakeApiServer,
    cluster: Arc<Mutex<FakeCluster>>,
    instance: Box<dyn Instance>,
    noted: RunNotes,
    store: Store,
}

async fn begun(cluster: FakeCluster, applied: Duration) -> Begun {
    let (server, cluster) = pretended(cluster).await;
    let (settings, noted, store) = (Settings::default(), RunNotes::default(), Store::new());
    let started =
        start(server.api.clone(), &settings, Injection::default(), noted.clone(), seat(&store, applied));
    Begun { instance: started.await.unwrap(), server, cluster, noted, store }
}

impl Begun {
    fn by(&self) -> String {
        self.noted.details()["convergence by"].clone()
    }

    /// How many programs were run that have this word.
    fn asked(&self, word: &str) -> usize {
        let is = |query: &str| {
            url::form_urlencoded::parse(query.as_bytes()).any(|(n, v)| n == "command" && v.contains(word))
        };
        self.server.asked().iter().filter(|a| is(&a.query)).count()
    }
}

fn without_dump() -> FakeCluster {
    FakeCluster { dump: DumpReader::Nothing, ..FakeCluster::default() }
}

const LONG: Duration = Duration::from_secs(20);

#[tokio::test]
async fn where_a_dump_can_be_read_no_canary_is_sent() {
    let begun = begun(FakeCluster::default(), LONG).await;
    begun.instance.change(&access()).await.unwrap();
    assert_eq!((begun.by().as_str(), begun.asked("http_code")), ("config dump", 0));
    assert!(!begun.cluster.lock().unwrap().objects.keys().any(|path| path.contains("canary")));
    begun.instance.stop().await.unwrap();
}

#[tokio::test]
async fn where_only_the_agent_can_read_a_dump_the_agent_reads_it() {
    let begun = begun(FakeCluster { dump: DumpReader::Agent, ..FakeCluster::default() }, LONG).await;
    begun.instance.change(&access()).await.unwrap();
    assert_eq!((begun.by().as_str(), begun.asked("http_code")), ("config dump by pilot-agent", 0));
    begun.instance.stop().await.unwrap();
}

#[tokio::test]
async fn without_a_dump_canaries_are_sent_until_every_proxy_answers_with_the_revision() {
    let begun = begun(without_dump(), LONG).await;
    let before = begun.asked("http_code");
    begun.cluster.lock().unwrap().lag = 4;
    begun.instance.change(&access()).await.unwrap();
    assert_eq!(begun.by(), "canary");
    assert!(begun.asked("http_code") - before > 4, "both proxies are asked again");
    assert!(begun.asked("http://r2.mp-r1-s-default.marker.meshproof.internal:18999/canary") >= 2);
    begun.instance.stop().await.unwrap();
}

#[tokio::test]
async fn an_answer_of_a_former_revision_does_not_count() {
    let begun = begun(without_dump(), Duration::from_secs(2)).await;
    begun.cluster.lock().unwrap().stale = Some("r1.mp-r1-s-default.marker.meshproof.internal");
    let error = begun.instance.change(&access()).await.unwrap_err();
    let TargetError::TimedOut { timeout: Timeout::Applied, limit, what, last: Some(last) } = &error else {
        panic!("{error:?}")
    };
    assert!(what.contains("canary request of revision 2") && *limit == Duration::from_secs(2), "{error}");
    assert!(last.contains("r1.mp-r1-s-default"), "the answer is in the message: {error}");
    begun.instance.stop().await.unwrap();
}

#[tokio::test]
async fn a_canary_whose_server_is_gone_is_not_the_proxys_fault() {
    let begun = begun(without_dump(), Duration::from_secs(2)).await;
    begun.cluster.lock().unwrap().canary_is_dead = true;
    let Err(TargetError::Environment(words)) = begun.instance.change(&access()).await else { panic!() };
    assert!(words.contains("The suite's own server") && words.contains("--timeout applied="), "{words}");
    begun.instance.stop().await.unwrap();
}

#[tokio::test]
async fn without_a_dump_a_distribution_status_is_waited_for_if_there_is_one() {
    let begun = begun(FakeCluster { unreconciled: Some(5), ..without_dump() }, LONG).await;
    assert_eq!(begun.cluster.lock().unwrap().unreconciled, Some(0), "it was asked until it said yes");
    assert!(begun.by().contains("status and canary"), "{}", begun.by());
    begun.instance.stop().await.unwrap();
}

#[tokio::test]
async fn a_change_that_no_canary_shows_is_skipped_before_anything_is_applied() {
    let begun = begun(without_dump(), LONG).await;
    let yaml = "{apiVersion: v1, kind: Secret, metadata: {name: c, namespace: istio-system}, stringData: \
        {tls.crt: A}}";
    let secret = manifest::read("t", yaml, "default").unwrap();
    let applied = begun.instance.change(&ConfigChange { apply: secret, delete: Vec::new() }).await;
    let Err(TargetError::Unable(words)) = applied else { panic!() };
    assert!(words.starts_with("nothing shows") && words.contains("portforward"), "{words}");
    assert!(!begun.cluster.lock().unwrap().objects.keys().any(|path| path.ends_with("/secrets/c")));
    for answer in [
        begun.instance.set_running("istio-egressgateway", false).await,
        begun.instance.credentials("istio-egressgateway").await.map(drop),
    ] {
        assert!(matches!(answer, Err(TargetError::Unable(_))), "{answer:?}");
    }
    begun.instance.stop().await.unwrap();
}

#[tokio::test]
async fn an_installed_gateway_without_a_dump_is_not_judged_because_it_may_not_trust_the_suites_ca() {
    let (server, _cluster) = pretended(without_dump()).await;
    let gateways = Gateways::Installed { namespace: "istio-system".to_owned() };
    let settings = Settings { gateways, ..Settings::default() };
    let (api, seat) = (server.api.clone(), seat(&Store::new(), LONG));
    let started = start(api, &settings, Injection::default(), RunNotes::default(), seat).await;
    let Err(TargetError::Environment(words)) = started else { panic!() };
    assert!(words.contains("istio-egressgateway") && words.contains("--gateways installed"), "{words}");
}

#[tokio::test]
async fn what_a_proxy_reports_as_refused_is_evidence() {
    let begun = begun(FakeCluster::default(), LONG).await;
    let line = "2026-01-01T00:00:00Z\twarning\tenvoy config\tgRPC config for \
        type.googleapis.com/envoy.config.cluster.v3.Cluster \
                rejected: Invalid duration\tthread=13";
    for _ in 0..3 {
        begun.cluster.lock().unwrap().write("sleep-1", line);
    }
    // Its log has been read up to here.
    begun.instance.settle().await.unwrap();
    let notes = begun.store.with(|all| {
        let texts = all.iter().filter_map(|e| match &e.fact {
            Fact::Note { text } if text.contains("refused part of") => Some(text.clone()),
            _ => None,
        });
        texts.collect::<Vec<_>>()
    });
    assert_eq!(notes, ["sleep reports that it refused part of its configuration: Cluster: Invalid duration"]);
    begun.instance.stop().await.unwrap();
}
