//! A scenario's mesh from start to end, on a fake cluster.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use meshproof_cluster::Settings;
use meshproof_cluster::instance::start;
use meshproof_cluster::manifests::Injection;
use meshproof_cluster::noted::RunNotes;
use meshproof_harness::external::{Documented, ExternalChoice, ExternalSpec, PlainPort};
use meshproof_harness::manifest;
use meshproof_harness::store::Store;
use meshproof_harness::target::{ConfigChange, Instance, Probe, Seat, TargetError};
use meshproof_harness::workload::RequestSpec;
use meshproof_model::{Evidence, ExternalService};
use serde_json::{Value, json};

use crate::fake_cluster::{ADDRESS, FakeCluster, pretended, seat};
use crate::server::FakeApiServer;
use crate::service::ApiRequest;

async fn begun(
    store: &Store,
    applied: Duration,
) -> (FakeApiServer, Arc<Mutex<FakeCluster>>, Box<dyn Instance>) {
    let (server, cluster) = pretended(FakeCluster::default()).await;
    let instance = start(
        server.api.clone(),
        &Settings::default(),
        Injection::default(),
        RunNotes::default(),
        seat(store, applied),
    )
    .await;
    (server, cluster, instance.unwrap())
}

async fn begun_live(store: &Store) -> (FakeApiServer, Arc<Mutex<FakeCluster>>, Box<dyn Instance>) {
    // The proxies trust no authority of the suite.
    let (server, cluster) =
        pretended(FakeCluster { roots: Some("YW5vdGhlciBDQQ=="), ..FakeCluster::default() }).await;
    let seat = Seat { external: ExternalChoice::Live, ..seat(store, Duration::from_secs(20)) };
    let instance =
        start(server.api.clone(), &Settings::default(), Injection::default(), RunNotes::default(), seat)
            .await;
    (server, cluster, instance.unwrap())
}

pub(crate) fn cnn() -> ExternalSpec {
    ExternalSpec {
        aliases: Vec::new(),
        host: "edition.cnn.com".to_owned(),
        plain: PlainPort::RedirectToHttps,
        tls: None,
        ipv6: false,
        tcp: Vec::new(),
        pages: Vec::new(),
        keep_alive: true,
    }
}

pub(crate) fn access() -> ConfigChange {
    let yaml = "{apiVersion: networking.istio.io/v1beta1, kind: ServiceEntry, metadata: {name: cnn}, \
                spec: {hosts: [edition.cnn.com], ports: [{number: 80, name: http, protocol: HTTP}], \
                resolution: DNS}}";
    ConfigChange { apply: manifest::read("t", yaml, "default").unwrap(), delete: Vec::new() }
}

/// The description of the one site.
async fn deployed(instance: &dyn Instance, documented: Documented) -> Result<ExternalService, TargetError> {
    let listed = instance.deploy_externals(vec![(cnn(), documented)]).await?;
    let [one] = listed.try_into().unwrap();
    Ok(one)
}

#[tokio::test]
async fn a_scenarios_mesh_is_created_changed_used_and_deleted() {
    let store = Store::new();
    let (_server, cluster, instance) = begun(&store, Duration::from_secs(20)).await;
    let described = deployed(&*instance, Documented::Site).await.unwrap();
    assert_eq!((described.host.as_str(), described.kind.as_str()), ("edition.cnn.com", "nginx-pod"));
    assert_eq!(instance.upstream_address("edition.cnn.com", 80).unwrap(), "10.1.0.7:80");
    instance.change(&access()).await.unwrap();
    let entry = {
        let cluster = cluster.lock().unwrap();
        let path = "/apis/networking.istio.io/v1/namespaces/mp-r1-s-default/serviceentries/cnn";
        cluster.objects[path].clone()
    };
    assert_eq!(entry["spec"]["endpoints"], json!([{ "address": ADDRESS }]));
    assert_eq!(entry["metadata"]["labels"]["meshproof.dev/run"], "r1");

    let request = RequestSpec::get("http://edition.cnn.com/politics", "r1-s.00001");
    let exchange = instance.send("sleep", &request).await.unwrap();
    assert_eq!(exchange.last_response().unwrap().status, 200);
    instance.settle().await.unwrap();
    let logged = store.with(|all| {
        let of_proxy = all.iter().filter(|e| e.fact.as_access_log().is_some());
        of_proxy.map(|e| e.token.clone().unwrap_or_default()).collect::<Vec<_>>()
    });
    assert_eq!(logged, ["r1-s.00001"], "the marker's lines are no evidence");

    instance.stop().await.unwrap();
    assert_eq!(namespaces(&cluster), Vec::<String>::new());
}

#[tokio::test]
async fn several_external_services_start_side_by_side_and_are_described_in_order() {
    let (server, _cluster, instance) = begun(&Store::new(), Duration::from_secs(20)).await;
    let hosts = ["edition.cnn.com", "www.googleapis.com", "api.example.com"];
    let spec = |host: &str| (ExternalSpec { host: host.to_owned(), ..cnn() }, Documented::Site);
    let described = instance.deploy_externals(hosts.map(spec).into()).await.unwrap();
    assert_eq!(described.iter().map(|d| d.host.as_str()).collect::<Vec<_>>(), hosts);
    for host in hosts {
        assert_eq!(instance.upstream_address(host, 80).unwrap(), "10.1.0.7:80");
    }
    let asked = server.asked();
    let made = |a: &ApiRequest| a.method == "PATCH" && a.path.contains("/deployments/external-");
    let last_made = asked.iter().rposition(made).unwrap();
    let flushes = |a: &ApiRequest| a.query.contains("flush-marker");
    let first_flush = asked.iter().position(flushes).unwrap();
    assert!(last_made < first_flush, "all are made before the first is waited for");
    assert_eq!(asked.iter().filter(|a| made(a)).count(), 3);
    instance.stop().await.unwrap();
}

#[tokio::test]
async fn the_images_that_pods_ran_are_reported_by_digest_and_purpose() {
    let (server, _cluster) = pretended(FakeCluster::default()).await;
    let (noted, seat) = (RunNotes::default(), seat(&Store::new(), Duration::from_secs(20)));
    let settings = Settings::default();
    let started = start(server.api.clone(), &settings, Injection::default(), noted.clone(), seat).await;
    let instance = started.unwrap();
    deployed(&*instance, Documented::Site).await.unwrap();
    instance.stop().await.unwrap();
    let listed: Vec<String> = noted
        .details()
        .iter()
        .map(|(name, value)| {
            format!(
                "{name}: \
        {value}"
            )
        })
        .collect();
    assert_eq!(
        listed,
        [
            "convergence by: config dump",
            "image external: nginx:1 (registry/nginx@sha256:0a)",
            "image gateway: istio-proxy:1 (registry/istio-proxy@sha256:0a)",
            "image probe: application:1 (registry/application@sha256:0a)",
            "image proxy: istio-proxy:1 (registry/istio-proxy@sha256:0a)",
            "image workload: application:1 (registry/application@sha256:0a)",
        ]
    );
}

#[tokio::test]
async fn a_pull_secret_of_another_namespace_is_copied_into_those_of_the_run_before_any_pod() {
    let original = json!({
        "metadata": { "name": "registry", "namespace": "ops", "labels": { "whose": "ops" } },
        "type": "kubernetes.io/dockerconfigjson", "data": { ".dockerconfigjson": "e30=" },
    });
    let objects = [("/api/v1/namespaces/ops/secrets/registry".to_owned(), original)].into();
    let (server, _cluster) = pretended(FakeCluster { objects, ..FakeCluster::default() }).await;
    let settings = Settings { pull_secrets: vec!["ops/registry".parse().unwrap()], ..Settings::default() };
    let seat = seat(&Store::new(), Duration::from_secs(20));
    let started = start(server.api.clone(), &settings, Injection::default(), RunNotes::default(), seat).await;
    started.unwrap().stop().await.unwrap();
    let made: Vec<ApiRequest> = server.asked().into_iter().filter(|a| a.method == "PATCH").collect();
    let first_pod = made.iter().position(|a| a.body["kind"] == "Deployment").unwrap();
    let copies: Vec<&ApiRequest> = made[..first_pod].iter().filter(|a| a.body["kind"] == "Secret").collect();
    let places: Vec<&str> = copies.iter().map(|a| a.path.split('/').nth(4).unwrap()).collect();
    assert_eq!(places, ["mp-r1-s-default", "mp-r1-s-gateways", "mp-r1-s-outside"]);
    for copy in copies {
        assert_eq!(copy.body["type"], "kubernetes.io/dockerconfigjson");
        assert_eq!(copy.body["data"], json!({ ".dockerconfigjson": "e30=" }));
        assert_eq!(copy.body["metadata"]["labels"]["meshproof.dev/run"], "r1");
        assert!(copy.body["metadata"]["labels"].get("whose").is_none());
    }
    for pod in made.iter().filter(|a| a.body["kind"] == "Deployment") {
        let named = &pod.body["spec"]["template"]["spec"]["imagePullSecrets"];
        assert_eq!(*named, json!([{ "name": "registry" }]));
    }
}

fn namespaces(cluster: &Mutex<FakeCluster>) -> Vec<String> {
    let cluster = cluster.lock().unwrap();
    let namespaces = cluster.objects.keys().filter(|p| p.starts_with("/api/v1/namespaces/"));
    namespaces.filter(|p| p.split('/').count() == 5).cloned().collect()
}

#[tokio::test]
async fn a_start_that_fails_leaves_nothing_behind() {
    let (server, cluster) = pretended(FakeCluster { stuck: true, ..FakeCluster::default() }).await;
    let seat = seat(&Store::new(), Duration::from_millis(500));
    let started =
        start(server.api.clone(), &Settings::default(), Injection::default(), RunNotes::default(), seat)
            .await;
    assert!(matches!(started, Err(TargetError::Environment(words)) if words.contains("timeout `applied`")));
    let made = |a: &&ApiRequest| a.method == "PATCH" && a.body["kind"] == "Namespace";
    assert_eq!(server.asked().iter().filter(made).count(), 3, "it came to make something");
    assert_eq!(namespaces(&cluster), Vec::<String>::new());
}

#[tokio::test]
async fn a_proxy_without_the_suites_ca_is_the_environments_fault() {
    let store = Store::new();
    let (_server, cluster, instance) = begun(&store, Duration::from_secs(20)).await;
    cluster.lock().unwrap().roots = Some("YW5vdGhlciBDQQ==");
    let Err(TargetError::Environment(words)) = instance.change(&access()).await else { panic!() };
    assert!(words.contains("lack the suite's CA"), "{words}");
    // "the roots", which the seat's roots contain.
    cluster.lock().unwrap().roots = Some("dGhlIHJvb3Rz");
    instance.change(&access()).await.unwrap();
    instance.stop().await.unwrap();
}

#[tokio::test]
async fn a_marker_that_is_not_in_force_is_an_error_and_the_message_says_what_was_missing() {
    let store = Store::new();
    let (_server, cluster, instance) = begun(&store, Duration::from_secs(2)).await;
    cluster.lock().unwrap().stuck = true;
    let error = instance.change(&access()).await.unwrap_err();
    let TargetError::Environment(message) = &error else { panic!("{error:?}") };
    let begins = "Timed out after 2s (timeout `applied`) waiting for sleep to show the change. ";
    assert!(message.starts_with(begins), "{message}");
    assert!(message.contains("of revision 2 it shows"), "{message}");
    assert!(message.contains("EnvoyFilters"), "{message}");
    instance.stop().await.unwrap();
}

#[tokio::test]
async fn a_refused_marker_is_an_error_as_soon_as_nothing_can_replace_it() {
    let store = Store::new();
    let (_server, cluster, instance) = begun(&store, Duration::from_secs(600)).await;
    cluster.lock().unwrap().stuck = true;
    let line = "2026-01-01T00:00:00Z\twarning\tenvoy config\tgRPC config for \
                type.googleapis.com/envoy.config.route.v3.RouteConfiguration rejected: no cluster\tthread=13";
    let change = access();
    let refuse = async {
        let pause = || tokio::time::sleep(Duration::from_millis(10));
        let is_second = |object: &Value| object.to_string().contains("r2.mp-r1-s-default.marker");
        while !cluster.lock().unwrap().objects.values().any(is_second) {
            pause().await;
        }
        cluster.lock().unwrap().write("sleep-1", line);
        let noted =
            |all: &[Evidence]| all.iter().any(|e| format!("{:?}", e.fact).contains("refused part of"));
        while !store.with(noted) {
            pause().await;
        }
        // Only from here on, so that no answer of the fake cluster is late.
        tokio::time::pause();
    };
    let (changed, ()) = tokio::join!(instance.change(&change), refuse);
    tokio::time::resume();
    let Err(TargetError::Environment(message)) = changed else { panic!("{changed:?}") };
    assert!(message.starts_with("sleep refused configuration, and nothing replaced it. "), "{message}");
    assert!(message.contains("RouteConfiguration: no cluster"), "{message}");
    instance.stop().await.unwrap();
}

#[tokio::test]
async fn what_a_stock_nginx_cannot_show_is_unsupported_by_the_target() {
    let store = Store::new();
    let (_server, _cluster, instance) = begun(&store, Duration::from_secs(20)).await;
    let refused = deployed(&*instance, Documented::Embedded).await;
    assert!(matches!(refused, Err(TargetError::Unable(words)) if words.contains("stock nginx")));
    instance.stop().await.unwrap();
}

#[tokio::test]
async fn a_live_run_deploys_no_external_service_pins_no_host_and_replaces_no_authorities() {
    let store = Store::new();
    let (_server, cluster, instance) = begun_live(&store).await;
    let described = deployed(&*instance, Documented::Site).await.unwrap();
    assert_eq!((described.kind.as_str(), described.is_observed()), ("live", false));
    instance.change(&access()).await.unwrap();
    let cluster = cluster.lock().unwrap();
    let applied = |kind: &str| -> Vec<Value> {
        cluster.objects.values().filter(|o| o["kind"] == kind).cloned().collect()
    };
    let deployed = applied("Deployment");
    let names: Vec<&str> = deployed.iter().filter_map(|d| d["metadata"]["name"].as_str()).collect();
    assert_eq!(names, ["sleep", "istio-egressgateway", "meshproof-probe"], "no external service");
    let entry = applied("ServiceEntry").into_iter().find(|e| e["metadata"]["name"] == "cnn").unwrap();
    assert_eq!(entry["spec"]["hosts"], json!(["edition.cnn.com"]));
    assert_eq!(entry["spec"]["resolution"], "DNS");
    assert!(entry["spec"].get("endpoints").is_none(), "{entry}");
    assert_eq!(entry["spec"]["exportTo"], json!(["mp-r1-s-default", "mp-r1-s-gateways"]));
    let all = Value::from_iter(cluster.objects.values().cloned()).to_string();
    assert!(!all.contains("meshproof-roots") && !all.contains("ca-certificates.crt"), "{all}");
}

#[tokio::test]
async fn a_live_run_uses_the_clusters_name_servers_and_the_authorities_of_the_images() {
    let store = Store::new();
    let (_server, cluster, instance) = begun_live(&store).await;
    deployed(&*instance, Documented::Site).await.unwrap();
    let request = RequestSpec::get("http://edition.cnn.com/politics", "r1-s.00001");
    let inside = instance.send("sleep", &request).await.unwrap();
    let outside = instance.probe(&Probe::External, &request).await.unwrap();
    assert_eq!(inside.last_response().unwrap().status, 200);
    assert_eq!(outside.last_response().unwrap().status, 200);
    let gateway = Probe::Gateway { gateway: "istio-egressgateway".to_owned(), port: 80 };
    instance.probe(&gateway, &request).await.unwrap();
    instance.settle().await.unwrap();
    assert_eq!(instance.upstream_address("edition.cnn.com", 443), None, "name servers know it");
    let cluster = cluster.lock().unwrap();
    let asked = |pod: &str| {
        let of_pod = cluster
            .run
            .iter()
            .filter(move |(p, words)| p == pod && words.iter().any(|w| w.ends_with("/politics")));
        of_pod.map(|(_, words)| words.join(" ")).collect::<Vec<_>>()
    };
    let [from_sleep] = asked("sleep-1").try_into().unwrap();
    let [straight, to_gateway]: [String; 2] = asked("meshproof-probe-1").try_into().unwrap();
    for words in [&from_sleep, &straight] {
        assert!(!words.contains("--connect-to") && !words.contains("192.0.2.1"), "{words}");
    }
    assert!(to_gateway.contains("--connect-to ::10.1.0.7:80"), "{to_gateway}");
    for words in [&from_sleep, &straight, &to_gateway] {
        assert!(!words.contains("--cacert"), "{words}");
    }
}
