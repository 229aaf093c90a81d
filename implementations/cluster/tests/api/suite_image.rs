//! The suite's own image in the pods of external services and clients.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use meshproof_cluster::instance::start;
use meshproof_cluster::manifests::Injection;
use meshproof_cluster::noted::RunNotes;
use meshproof_cluster::{ClusterTarget, Settings};
use meshproof_harness::conversation::Conversation;
use meshproof_harness::external::Documented;
use meshproof_harness::manifest;
use meshproof_harness::store::Store;
use meshproof_harness::target::{ConfigChange, Instance, Needs, Target, TargetError};
use meshproof_harness::workload::RequestSpec;
use serde_json::Value;

use crate::fake_cluster::{FakeCluster, pretended, seat};
use crate::instance::{access, cnn};
use crate::server::FakeApiServer;
use crate::suite_pods::SuitePods;

const IMAGE: &str = "registry.example/meshproof:1";

fn settings() -> Settings {
    let images = BTreeMap::from([("suite".to_owned(), IMAGE.to_owned())]);
    Settings { images, ..Settings::default() }
}

type Begun = (FakeApiServer, Arc<Mutex<FakeCluster>>, Result<Box<dyn Instance>, TargetError>);

async fn begun(store: &Store, suite: Option<SuitePods>) -> Begun {
    let (server, cluster) = pretended(FakeCluster { suite, ..FakeCluster::default() }).await;
    let seat = seat(store, Duration::from_secs(20));
    let instance =
        start(server.api.clone(), &settings(), Injection::default(), RunNotes::default(), seat).await;
    (server, cluster, instance)
}

fn object(cluster: &Mutex<FakeCluster>, name: &str) -> Value {
    let cluster = cluster.lock().unwrap();
    let named = cluster.objects.values().find(|o| o["kind"] == "Deployment" && o["metadata"]["name"] == name);
    named.cloned().unwrap_or_default()
}

#[tokio::test]
async fn it_serves_what_needs_the_embedded_server_and_sends_for_the_workload() {
    let (store, suite) = (Store::new(), SuitePods::default());
    let (_server, cluster, instance) = begun(&store, Some(suite.clone())).await;
    let instance = instance.unwrap();
    let described = instance.deploy_externals(vec![(cnn(), Documented::Embedded)]).await.unwrap();
    assert_eq!(described[0].kind, "embedded");
    assert_eq!(instance.upstream_address("edition.cnn.com", 443).unwrap(), "10.1.0.7:443");
    instance.change(&access()).await.unwrap();

    let request = RequestSpec::get("http://edition.cnn.com/politics", "r1-s.00001");
    let exchange = instance.send("sleep", &request).await.unwrap();
    assert_eq!(exchange.last_response().unwrap().status, 200);
    let both = instance.send_in_line("sleep", &[request.clone(), request]).await.unwrap();
    assert_eq!(both.len(), 2);
    instance.settle().await.unwrap();
    store.with(|all| {
        let connections: Vec<_> = all.iter().filter_map(|e| e.fact.as_connection()).collect();
        assert_eq!(connections.len(), 1, "the server's evidence");
        assert_eq!(connections[0].clear_bytes, "GET");
    });

    for (name, container) in [("external-1", "server"), ("sleep", "application")] {
        let pod = &object(&cluster, name)["spec"]["template"]["spec"];
        assert_eq!(pod["containers"][0]["name"], container);
        assert_eq!(pod["containers"][0]["image"], IMAGE);
        assert_eq!(pod["containers"][0]["command"][0], "/usr/local/bin/meshproof");
        assert_eq!(pod["containers"][0]["securityContext"]["runAsNonRoot"], true);
    }
    let asked = suite.asked.lock().unwrap().clone();
    let of =
        |pod: &str| asked.iter().filter(|(p, _)| p == pod).map(|(_, kind)| kind.as_str()).collect::<Vec<_>>();
    assert_eq!(of("external-1-1"), ["hello", "serve", "settle"]);
    assert_eq!(of("sleep-1")[..2], ["hello", "send"], "one process for all requests");
    let programs: Vec<String> = cluster.lock().unwrap().run.iter().map(|(_, argv)| argv[0].clone()).collect();
    assert!(programs.iter().all(|program| program == "/usr/local/bin/meshproof"), "{programs:?}");
    instance.stop().await.unwrap();
}

#[tokio::test]
async fn a_workload_dials_an_address_itself_only_if_a_document_gives_it_to_a_host() {
    let suite = SuitePods::default();
    let (_server, _cluster, instance) = begun(&Store::new(), Some(suite.clone())).await;
    let instance = instance.unwrap();
    let yaml = "{apiVersion: networking.istio.io/v1, kind: ServiceEntry, metadata: {name: orders}, spec: {hosts: [orders.example], \
                addresses: [10.42.0.1], ports: [{number: 5432, name: tcp, protocol: TCP}], resolution: DNS}}";
    let apply = manifest::read("t", yaml, "default").unwrap();
    instance.change(&ConfigChange { apply, delete: Vec::new() }).await.unwrap();
    for url in ["tcp://10.42.0.1:5432", "tcp://10.42.0.2:5432"] {
        let conversation = Some(Conversation::Postgres);
        let request = RequestSpec { conversation, ..RequestSpec::get(url, "r1-s.00001") };
        instance.send("sleep", &request).await.unwrap();
    }
    let sent = suite.sent.lock().unwrap().clone();
    let to = |url: &str| sent.iter().find(|(sent, _)| sent == url).map(|(_, to)| to.as_str());
    assert_eq!(to("tcp://10.42.0.1:5432"), Some("10.42.0.1"));
    assert_eq!(to("tcp://10.42.0.2:5432"), Some("192.0.2.1"), "nowhere");
    instance.stop().await.unwrap();
}

#[tokio::test]
async fn a_replaced_server_is_removed_and_the_new_one_answers() {
    let suite = SuitePods::default();
    let (_server, cluster, instance) = begun(&Store::new(), Some(suite.clone())).await;
    let instance = instance.unwrap();
    for _ in 0..2 {
        instance.deploy_externals(vec![(cnn(), Documented::Embedded)]).await.unwrap();
    }
    assert_eq!(object(&cluster, "external-1"), Value::Null);
    assert_eq!(object(&cluster, "external-2")["kind"], "Deployment");
    let asked = suite.asked.lock().unwrap().clone();
    assert!(asked.contains(&("external-1-1".to_owned(), "stop".to_owned())), "{asked:?}");
    instance.stop().await.unwrap();
}

#[tokio::test]
async fn an_image_without_the_program_is_an_error_that_names_the_option() {
    let (_server, _cluster, instance) = begun(&Store::new(), None).await;
    // The first request is the suite's own.
    let failed = match instance {
        Ok(instance) => instance.deploy_externals(vec![(cnn(), Documented::Embedded)]).await.err(),
        Err(e) => Some(e),
    };
    let Some(TargetError::Environment(words)) = failed else { panic!("{failed:?}") };
    for part in ["no such file or directory", IMAGE, "--image suite=IMAGE"] {
        assert!(words.contains(part), "{part} is not in {words}");
    }
}

#[test]
fn without_it_the_reason_names_the_option_and_with_it_nothing_is_skipped_for_it() {
    let needs = Needs { embedded: true, ..Needs::default() };
    let unfit = |settings| ClusterTarget::new(settings).unfit_for(needs);
    let reason = unfit(Settings::default()).unwrap();
    assert!(reason.contains("--image suite=IMAGE") && reason.contains("stock nginx pods"), "{reason}");
    assert_eq!(unfit(settings()), None);
}
