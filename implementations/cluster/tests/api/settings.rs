//! Settings of a mesh under which a correct mesh still conforms.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use meshproof_cluster::Settings;
use meshproof_cluster::access_logs::AccessLogs;
use meshproof_cluster::instance::start;
use meshproof_cluster::manifests::Injection;
use meshproof_cluster::noted::RunNotes;
use meshproof_harness::access_log::LogFormat;
use meshproof_harness::external::{Documented, ExternalSpec};
use meshproof_harness::store::Store;
use meshproof_harness::target::Instance;
use meshproof_harness::topology::PlainService;
use meshproof_harness::workload::RequestSpec;
use meshproof_model::LogFields;
use serde_json::{Value, json};

use crate::fake_cluster::{FakeCluster, LogLine, pretended, seat};
use crate::instance::{access, cnn};
use crate::server::FakeApiServer;

async fn begun(
    injection: Injection,
    cluster: FakeCluster,
    store: &Store,
) -> (FakeApiServer, Arc<Mutex<FakeCluster>>, Box<dyn Instance>) {
    let (server, cluster) = pretended(cluster).await;
    let (settings, seat) = (Settings::default(), seat(store, Duration::from_secs(20)));
    let started = start(server.api.clone(), &settings, injection, RunNotes::default(), seat).await;
    (server, cluster, started.unwrap())
}

/// The fields that are logged for one request, in a mesh that writes its log like this.
async fn logged(format: LogFormat, line: LogLine) -> Vec<LogFields> {
    let injection = Injection {
        access_logs: Ok(AccessLogs { provider: "custom".to_owned(), format }),
        ..Injection::default()
    };
    let store = Store::new();
    let cluster = FakeCluster { line: Some(line), ..FakeCluster::default() };
    let (_server, cluster, instance) = begun(injection, cluster, &store).await;
    assert_eq!(providers(&cluster), ["custom", "custom"]);
    instance.change(&access()).await.unwrap();
    let request = RequestSpec::get("http://edition.cnn.com/politics", "r1-s.00001");
    instance.send("sleep", &request).await.unwrap();
    instance.settle().await.unwrap();
    instance.stop().await.unwrap();
    store.with(|all| {
        let logs = all.iter().filter_map(|e| e.fact.as_access_log());
        logs.map(|log| log.fields.clone().unwrap_or_else(|| panic!("{log:?}"))).collect()
    })
}

fn objects(cluster: &Mutex<FakeCluster>, kind: &str) -> Vec<Value> {
    let cluster = cluster.lock().unwrap();
    cluster.objects.values().filter(|object| object["kind"] == kind).cloned().collect()
}

fn providers(cluster: &Mutex<FakeCluster>) -> Vec<String> {
    let name = |telemetry: &Value| {
        let at = "/spec/accessLogging/0/providers/0/name";
        telemetry.pointer(at).and_then(Value::as_str).unwrap().to_owned()
    };
    objects(cluster, "Telemetry").iter().map(name).collect()
}

#[tokio::test]
async fn a_custom_text_format_is_read() {
    let format = LogFormat::text("%RESPONSE_CODE%|%REQ(USER-AGENT)%|%REQ(:AUTHORITY)%").unwrap();
    let logged = logged(format, |host, agent, status| format!("{status}|{agent}|{host}")).await;
    let [line] = &logged[..] else { panic!("{logged:?}") };
    assert_eq!((line.response_code, line.authority.as_deref()), (Some(200), Some("edition.cnn.com")));
}

#[tokio::test]
async fn a_custom_text_format_without_the_host_shows_the_suites_own_requests_too() {
    let format = LogFormat::text("%RESPONSE_CODE% %REQ(USER-AGENT)%").unwrap();
    let logged = logged(format, |_, agent, status| format!("{status} {agent}")).await;
    assert_eq!(logged.iter().map(|line| line.response_code).collect::<Vec<_>>(), [Some(200)]);
}

#[tokio::test]
async fn a_custom_json_format_is_read() {
    let format = LogFormat::json(&json!({"http": {"status": "%RESPONSE_CODE%"}, "ua": "%REQ(USER-AGENT)%"}));
    let line: LogLine = |_, agent, status| json!({"http": {"status": status}, "ua": agent}).to_string();
    let logged = logged(format.unwrap(), line).await;
    assert_eq!(logged.iter().map(|line| line.response_code).collect::<Vec<_>>(), [Some(200)]);
}

#[tokio::test]
async fn where_no_log_can_be_read_none_is_requested_or_waited_for() {
    let injection = Injection { access_logs: Err("it writes to a file".to_owned()), ..Injection::default() };
    let store = Store::new();
    let cluster = FakeCluster { line: Some(|_, _, _| String::new()), ..FakeCluster::default() };
    let (_server, cluster, instance) = begun(injection, cluster, &store).await;
    instance.change(&access()).await.unwrap();
    let request = RequestSpec::get("http://edition.cnn.com/politics", "r1-s.00001");
    instance.send("sleep", &request).await.unwrap();
    instance.settle().await.unwrap();
    instance.stop().await.unwrap();
    assert_eq!(providers(&cluster), Vec::<String>::new());
    assert!(store.with(|all| all.iter().all(|e| e.fact.as_access_log().is_none())));
}

#[tokio::test]
async fn where_the_whole_mesh_allows_only_some_requests_the_run_allows_its_own() {
    for allows_only_some in [false, true] {
        let injection = Injection { allows_only_some, ..Injection::default() };
        let (_server, cluster, instance) = begun(injection, FakeCluster::default(), &Store::new()).await;
        let policies = objects(&cluster, "AuthorizationPolicy");
        let namespaces: Vec<&str> =
            policies.iter().filter_map(|policy| policy["metadata"]["namespace"].as_str()).collect();
        let expected: &[&str] = if allows_only_some { &["mp-r1-s-default", "mp-r1-s-gateways"] } else { &[] };
        assert_eq!(namespaces, expected);
        assert!(policies.iter().all(|policy| policy["spec"] == json!({"action": "ALLOW", "rules": [{}]})));
        instance.stop().await.unwrap();
    }
}

#[tokio::test]
async fn the_marker_stays_valid_if_a_retry_policy_is_merged_into_every_route() {
    let (_server, cluster, instance) =
        begun(Injection::default(), FakeCluster::default(), &Store::new()).await;
    let routes = objects(&cluster, "VirtualService");
    let [marker] = &routes[..] else { panic!("{routes:?}") };
    for route in marker["spec"]["http"].as_array().unwrap() {
        assert!(route.get("directResponse").is_none(), "a merged route would have no cluster: {route}");
        assert!(route.pointer("/route/0/destination/host").is_some(), "{route}");
    }
    instance.stop().await.unwrap();
}

/// The namespaces and hosts of the run's rules that turn TLS off.
fn plaintext_rules(cluster: &Mutex<FakeCluster>) -> Vec<String> {
    let mut rules = objects(cluster, "DestinationRule");
    rules.retain(|rule| rule["spec"]["trafficPolicy"] == json!({"tls": {"mode": "DISABLE"}}));
    let exported = json!(["mp-r1-s-default", "mp-r1-s-gateways"]);
    assert!(rules.iter().all(|rule| rule["spec"]["exportTo"] == exported), "{rules:?}");
    let of = |rule: &Value| {
        let [namespace, host] =
            ["/metadata/namespace", "/spec/host"].map(|at| rule.pointer(at).and_then(Value::as_str).unwrap());
        format!("{namespace} {host}")
    };
    rules.iter().map(of).collect()
}

#[tokio::test]
async fn where_the_root_namespace_has_destination_rules_the_runs_servers_without_a_sidecar_have_their_own() {
    for destination_rules in [false, true] {
        let injection = Injection { destination_rules, ..Injection::default() };
        let expected = |rule: &str| if destination_rules { vec![rule.to_owned()] } else { Vec::new() };

        let (server, cluster) = pretended(FakeCluster::default()).await;
        let mut seat = seat(&Store::new(), Duration::from_secs(20));
        seat.topology = seat.topology.service(PlainService::new("reviews", 9080, "{}"));
        let (settings, notes) = (Settings::default(), RunNotes::default());
        let started = start(server.api.clone(), &settings, injection.clone(), notes, seat).await;
        let reviews = "mp-r1-s-default reviews.mp-r1-s-default.svc.cluster.local";
        assert_eq!(plaintext_rules(&cluster), expected(reviews));
        started.unwrap().stop().await.unwrap();

        let (_server, cluster, instance) = begun(injection, FakeCluster::default(), &Store::new()).await;
        let host = "my-nginx.mesh-external.svc.cluster.local";
        let outside = ["edition.cnn.com", host]
            .map(|host| (ExternalSpec { host: host.to_owned(), ..cnn() }, Documented::Site));
        instance.deploy_externals(outside.into()).await.unwrap();
        assert_eq!(plaintext_rules(&cluster), expected(&format!("mp-r1-s-outside {host}")));
        instance.stop().await.unwrap();
    }
}
