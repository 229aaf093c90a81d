//! A scenario's mesh from its beginning to its end, on a cluster that is pretended: what is applied is kept, pods are ready at once, a
//! proxy's dump shows what was applied, and whatever is asked is logged.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use meshproof_cluster::Settings;
use meshproof_cluster::instance::start;
use meshproof_cluster::manifests::Injection;
use meshproof_cluster::noted::Noted;
use meshproof_harness::external::{Documented, ExternalChoice, ExternalSpec, PlainPort};
use meshproof_harness::manifest;
use meshproof_harness::store::Store;
use meshproof_harness::target::{ConfigChange, Instance, Probe, Seat, TargetError};
use meshproof_harness::timeouts::{Timeout, Timeouts};
use meshproof_harness::topology::{Gateway, Topology, Workload};
use meshproof_harness::workload::RequestSpec;
use meshproof_model::ExternalService;
use serde_json::{Value, json};

use crate::server::{Channels, Reply, Server};
use crate::service::Asked;

const ADDRESS: &str = "10.1.0.7";

/// What the cluster holds.
#[derive(Default)]
pub(crate) struct Cluster {
    /// By path.
    pub(crate) objects: BTreeMap<String, Value>,
    /// By pod.
    pub(crate) logs: BTreeMap<String, String>,
    /// Proxies do not take up what is applied.
    pub(crate) stuck: bool,
    /// What proxies believe servers by, where it shows.
    pub(crate) roots: Option<&'static str>,
    /// Who can read a proxy's dump.
    pub(crate) dump: DumpReader,
    /// The pod of the workload, where it is another than one that is ready; none of it where that is null.
    pub(crate) workload: Option<Value>,
    /// So many canary requests are answered as before the change.
    pub(crate) lag: usize,
    /// Whoever asks anything at the beacon's port is answered as by a proxy with this revision.
    pub(crate) stale: Option<&'static str>,
    /// The canary's server does not answer.
    pub(crate) canary_is_dead: bool,
    /// What istiod writes into the beacon's VirtualService, so many times before it says yes.
    pub(crate) unreconciled: Option<usize>,
    /// The programs that were run, by pod.
    pub(crate) run: Vec<(String, Vec<String>)>,
}

/// Who can read a proxy's dump.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum DumpReader {
    #[default]
    Everybody,
    /// Ports may not be forwarded.
    Agent,
    /// Ports may not be forwarded, and there is no pilot-agent.
    Nobody,
}

impl Cluster {
    fn answer(&mut self, asked: &Asked) -> Reply {
        let whole = |value: &Value| Reply::Whole(200, value.to_string().into());
        let parts: Vec<&str> = asked.path.trim_matches('/').split('/').collect();
        match (asked.method.as_str(), parts.as_slice()) {
            ("GET", ["apis"]) => whole(&json!({ "groups": GROUPS.map(|(group, _)| json!({
                "name": group, "versions": [{ "version": "v1" }] })) })),
            ("GET", ["apis", group, "v1"]) => {
                let names = GROUPS.iter().find(|(g, _)| g == group).unwrap().1;
                let resources: Vec<Value> = names.iter().map(|n| json!({ "name": n })).collect();
                whole(&json!({ "resources": resources }))
            }
            ("PATCH", _) => {
                let mut object = asked.body.clone();
                let role = asked.path.replace("/rolebindings/", "/roles/");
                if object["kind"] == "RoleBinding" && !self.objects.contains_key(&role) {
                    return Reply::status(404, "NotFound", "the role is not there");
                }
                if object["kind"] == "Service" {
                    object["spec"]["clusterIP"] = "10.96.0.1".into();
                }
                self.objects.insert(asked.path.clone(), object.clone());
                whole(&object)
            }
            ("DELETE", _) => {
                self.objects.remove(&asked.path);
                whole(&json!({}))
            }
            ("GET", [.., "pods", pod, "log"]) => self.log(pod),
            ("GET", [.., "pods", pod, "exec"]) => self.exec(pod, asked),
            ("GET", [.., "pods", _, "portforward"]) => match self.dump {
                DumpReader::Everybody => self.forward(),
                DumpReader::Agent | DumpReader::Nobody => {
                    Reply::status(403, "Forbidden", "cannot create resource \"pods/portforward\"")
                }
            },
            ("GET", [.., "secrets", _]) => whole(&self.objects.get(&asked.path).cloned().unwrap_or_default()),
            ("GET", [.., "deployments", _]) => {
                let told = "pods \"sleep-1\" is forbidden: exceeded quota: few";
                let failed = json!([{ "type": "ReplicaFailure", "status": "True", "message": told }]);
                whole(&json!({ "status": { "conditions": failed } }))
            }
            ("GET", [.., "networking.istio.io", "v1", "namespaces", _, kind, _]) => {
                let mut object = self.objects.get(&asked.path).cloned().unwrap_or_default();
                if *kind == "virtualservices"
                    && let Some(left) = &mut self.unreconciled
                {
                    let status = if *left == 0 { "True" } else { "False" };
                    *left = left.saturating_sub(1);
                    object["status"] = json!({ "conditions": [{ "type": "Reconciled", "status": status }] });
                }
                whole(&object)
            }
            ("GET", [.., "pods", _]) => whole(&json!({ "status": { "containerStatuses": [] } })),
            ("GET", [.., "pods"]) => {
                let selector = asked.parameter("labelSelector").unwrap_or_default();
                let app = selector.trim_start_matches("app=").to_owned();
                let one = self.workload.clone().filter(|_| app == "sleep").unwrap_or_else(|| pod(&app));
                if asked.watches() && one.is_null() {
                    return whole(&json!({}));
                }
                if asked.watches() {
                    let event = json!({ "type": "MODIFIED", "object": one });
                    return Reply::Whole(200, format!("{event}\n").into());
                }
                let all = if one.is_null() { json!([]) } else { json!([one]) };
                whole(&json!({ "metadata": { "resourceVersion": "1" }, "items": all }))
            }
            ("GET", ["api", "v1", "namespaces"]) => {
                whole(&json!({ "metadata": { "resourceVersion": "1" }, "items": [] }))
            }
            other => panic!("nobody answers {other:?}"),
        }
    }

    /// All of it each time; then the connection is cut, and the follower comes again.
    fn log(&mut self, pod: &str) -> Reply {
        let text = self.logs.get(pod).cloned().unwrap_or_default();
        Reply::Stream { bytes: Bytes::from(text), ends_well: false }
    }

    pub(crate) fn write(&mut self, pod: &str, line: &str) {
        let log = self.logs.entry(pod.to_owned()).or_default();
        let second = log.lines().count();
        log.push_str(&format!("2026-01-01T00:{:02}:{:02}.5Z {line}\n", second / 60, second % 60));
    }

    /// curl, as far as the suite uses it.
    fn exec(&mut self, pod: &str, asked: &Asked) -> Reply {
        let pairs = url::form_urlencoded::parse(asked.query.as_bytes());
        let argv: Vec<String> =
            pairs.filter(|(n, _)| n == "command").map(|(_, value)| value.into_owned()).collect();
        let after = |option: &str| {
            let at = argv.iter().position(|w| w == option);
            at.and_then(|at| argv.get(at + 1)).cloned().unwrap_or_default()
        };
        if argv[0] == "pilot-agent" {
            let told = match self.dump {
                DumpReader::Everybody | DumpReader::Agent => Some(self.dump().to_string()),
                DumpReader::Nobody => None,
            };
            return output(told.unwrap_or_default(), argv.len() == 4 && self.dump != DumpReader::Nobody);
        }
        if after("-w").contains("http_code") {
            let answers: String = argv
                .iter()
                .filter_map(|word| word.strip_prefix("http://"))
                .map(|url| self.canary(url))
                .collect();
            self.lag = self.lag.saturating_sub(1);
            return output(answers, true);
        }
        let agent = after("-A");
        self.run.push((pod.to_owned(), argv.clone()));
        let mut status = 200;
        // All pods have one address here: the first fence is the first server's.
        let mut fenced = 0;
        for url in argv.iter().filter(|word| word.starts_with("http://")) {
            let host = url.trim_start_matches("http://").split('/').next().unwrap_or_default();
            if let Some((_, token)) = url.split_once("/fence?token=") {
                fenced += 1;
                self.write(&format!("external-{fenced}-1"), &json!({ "fence": token }).to_string());
                continue;
            }
            status = if host.contains("beacon") || host == "edition.cnn.com" { 200 } else { 502 };
            // Whoever asks from outside the mesh asks the gateway.
            let logs = if pod == "meshproof-probe-1" { "istio-egressgateway-1" } else { pod };
            self.write(logs, &log_line(host, &agent, status));
        }
        let trace = trace(status);
        Reply::switch(async move |mut channels: Channels| {
            channels.send(2, trace).await;
            channels.exit(&json!({ "status": "Success" })).await;
        })
    }

    /// What curl says of one address at the beacon's port.
    fn canary(&self, url: &str) -> String {
        const SERVER: &str = "meshproof-canary\n200\n";
        const NOBODY: &str = "\n000\n";
        let (host, path) = url.split_once(":18999").unwrap();
        if host == "meshproof-canary" {
            return if self.canary_is_dead { NOBODY } else { SERVER }.to_owned();
        }
        if let Some(stale) = self.stale {
            return format!("{stale}\n200\n");
        }
        let known = |kind: &str, name: &str, at: &str| {
            let named = |o: &&Value| o["kind"] == kind && o["metadata"]["name"] == name;
            let spec = self.objects.values().find(named).map(|o| o["spec"].clone());
            spec.is_some_and(|s| s.pointer(at).unwrap().as_str().unwrap().ends_with(host))
        };
        let of_sidecar = known("Sidecar", "default", "/egress/0/hosts/3");
        let routed = known("VirtualService", "meshproof-beacon", "/hosts/0");
        match path {
            _ if self.stuck || self.lag > 0 || self.canary_is_dead => "\n404\n".to_owned(),
            "/" if routed => format!("{host}\n200\n"),
            "/" if of_sidecar => SERVER.to_owned(),
            "/canary" if routed => {
                let rule = self.objects.values().find(|o| o["kind"] == "DestinationRule").unwrap();
                let subset = rule["spec"]["subsets"][0]["name"].as_str().unwrap();
                assert!(host.starts_with(&format!("{subset}.")), "{host} leads by {subset}");
                SERVER.to_owned()
            }
            _ => NOBODY.to_owned(),
        }
    }

    fn forward(&self) -> Reply {
        let dump = self.dump().to_string();
        let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{dump}", dump.len());
        Reply::switch(async move |mut channels: Channels| {
            let port = 15000_u16.to_le_bytes();
            channels.send(0, port).await;
            channels.send(1, port).await;
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                let Some((0, bytes)) = channels.next().await else { return };
                request.extend_from_slice(&bytes);
            }
            channels.send(0, answer).await;
            while channels.next().await.is_some() {}
        })
    }

    /// What a sidecar that has taken up everything shows.
    fn dump(&self) -> Value {
        let find = |kind: &str, name: &str| {
            self.objects.values().find(|o| o["kind"] == kind && o["metadata"]["name"] == name)
        };
        let (Some(entry), Some(rule), Some(sidecar)) = (
            find("ServiceEntry", "meshproof-beacon"),
            find("DestinationRule", "meshproof-beacon"),
            find("Sidecar", "default"),
        ) else {
            return json!({ "configs": [] });
        };
        let host = entry["spec"]["hosts"][0].as_str().unwrap();
        let host = if self.stuck { "r1.before" } else { host };
        let timeout =
            rule["spec"]["trafficPolicy"]["connectionPool"]["tcp"]["connectTimeout"].as_str().unwrap();
        let seconds = timeout.trim_end_matches("ms").parse::<f64>().unwrap() / 1000.0;
        let taken_in = sidecar["spec"]["egress"][0]["hosts"].as_array().unwrap().last().unwrap();
        let (_, of_sidecar) = taken_in.as_str().unwrap().split_once('/').unwrap();
        let cluster = |host: &str| json!({ "cluster": { "name": format!("outbound|18999||{host}"), "connect_timeout": format!("{seconds}s") } });
        let roots: Vec<Value> = self.roots.map(system_roots).into_iter().collect();
        json!({ "configs": [
            { "dynamic_active_secrets": roots },
            { "dynamic_active_clusters": [cluster(host), cluster(of_sidecar)] },
            { "dynamic_route_configs": [{ "route_config": { "virtual_hosts": [
                { "domains": [format!("{host}:18999"), host], "routes": [{ "direct_response": { "status": 200 } }] }] } }] },
        ] })
    }
}

/// What a program says, and whether it ends well.
fn output(text: String, well: bool) -> Reply {
    let status = if well { json!({ "status": "Success" }) } else { exit_code("1") };
    Reply::switch(async move |mut channels: Channels| {
        channels.send(1, text).await;
        channels.exit(&status).await;
    })
}

/// As the API server tells it (KEP-4006; `NonZeroExitCode`).
fn exit_code(code: &str) -> Value {
    json!({ "status": "Failure", "reason": "NonZeroExitCode",
            "details": { "causes": [{ "reason": "ExitCode", "message": code }] } })
}

const GROUPS: [(&str, &[&str]); 3] = [
    (
        "networking.istio.io",
        &["destinationrules", "gateways", "serviceentries", "sidecars", "virtualservices"],
    ),
    ("security.istio.io", &["peerauthentications"]),
    ("telemetry.istio.io", &["telemetries"]),
];

fn system_roots(base64: &str) -> Value {
    json!({ "name": "file-root:system", "secret": { "validation_context": { "trusted_ca": { "inline_bytes": base64 } } } })
}

fn pod(app: &str) -> Value {
    json!({
        "metadata": { "name": format!("{app}-1"), "namespace": "n" },
        "spec": { "containers": [{
            "name": "istio-proxy", "image": "proxyv2",
            "volumeMounts": [{ "name": "meshproof-roots", "mountPath": "/etc/ssl/certs/ca-certificates.crt" }],
        }] },
        "status": {
            "podIP": ADDRESS,
            "conditions": [{ "type": "Ready", "status": "True" }],
            "initContainerStatuses": [ran("istio-init"), ran("istio-proxy")],
            "containerStatuses": [ran("application"), ran("nginx")],
        },
    })
}

fn ran(container: &str) -> Value {
    json!({ "name": container, "image": format!("{container}:1"), "imageID": format!("registry/{container}@sha256:0a") })
}

fn log_line(host: &str, agent: &str, status: u16) -> String {
    format!(
        "[2026-01-01T00:00:00.000Z] \"GET /politics HTTP/1.1\" {status} - via_upstream - \"-\" 0 5 1 0 \"-\" \"{agent}\" \"id\" \
         \"{host}\" \"{ADDRESS}:443\" outbound|443||{host} 10.1.0.5:1 1.2.3.4:80 10.1.0.5:2 - default"
    )
}

/// What curl says of a request and an answer without a body.
fn trace(status: u16) -> String {
    let block = |kind: &str, text: &str| {
        let lines = text.as_bytes().chunks(16).enumerate().map(|(n, bytes)| {
            let digits: String = bytes.iter().map(|b| format!("{b:02x} ")).collect();
            format!("{:04x}: {digits:<48}.\n", n * 16)
        });
        format!("{kind}, {} bytes\n{}", text.len(), lines.collect::<String>())
    };
    block("=> Send header", "GET /politics HTTP/1.1\r\n\r\n")
        + &block("<= Recv header", &format!("HTTP/1.1 {status} Told\r\n"))
        + &block("<= Recv header", "\r\n")
        + "\n== Meshproof\n"
}

pub(crate) fn seat(store: &Store, applied: Duration) -> Seat {
    let mut timeouts = Timeouts::default();
    timeouts.set(Timeout::Applied, applied);
    Seat {
        run: "r1".to_owned(),
        name: "s".to_owned(),
        folder: std::env::temp_dir(),
        topology: Topology {
            workloads: vec![Workload::sleep()],
            gateways: vec![Gateway::egress()],
            ..Topology::default()
        },
        store: store.clone(),
        timeouts,
        external: ExternalChoice::Auto,
        keep: false,
        public_roots: "roots".into(),
    }
}

pub(crate) async fn pretended(cluster: Cluster) -> (Server, Arc<Mutex<Cluster>>) {
    pretended_within(Timeouts::default(), cluster).await
}

pub(crate) async fn pretended_within(timeouts: Timeouts, cluster: Cluster) -> (Server, Arc<Mutex<Cluster>>) {
    let cluster = Arc::new(Mutex::new(cluster));
    let answering = cluster.clone();
    (Server::answering_within(timeouts, move |asked| answering.lock().unwrap().answer(asked)).await, cluster)
}

async fn begun(store: &Store, applied: Duration) -> (Server, Arc<Mutex<Cluster>>, Box<dyn Instance>) {
    let (server, cluster) = pretended(Cluster::default()).await;
    let instance = start(
        server.api.clone(),
        &Settings::default(),
        Injection::default(),
        Noted::default(),
        seat(store, applied),
    )
    .await;
    (server, cluster, instance.unwrap())
}

async fn begun_live(store: &Store) -> (Server, Arc<Mutex<Cluster>>, Box<dyn Instance>) {
    // What proxies believe is no authority of the suite's.
    let (server, cluster) =
        pretended(Cluster { roots: Some("YW5vdGhlciBDQQ=="), ..Cluster::default() }).await;
    let seat = Seat { external: ExternalChoice::Live, ..seat(store, Duration::from_secs(20)) };
    let instance =
        start(server.api.clone(), &Settings::default(), Injection::default(), Noted::default(), seat).await;
    (server, cluster, instance.unwrap())
}

fn cnn() -> ExternalSpec {
    ExternalSpec {
        host: "edition.cnn.com".to_owned(),
        plain: PlainPort::RedirectToHttps,
        tls: None,
        pages: Vec::new(),
        keep_alive: true,
    }
}

pub(crate) fn access() -> ConfigChange {
    let yaml = "{apiVersion: networking.istio.io/v1beta1, kind: ServiceEntry, metadata: {name: cnn}, \
                spec: {hosts: [edition.cnn.com], ports: [{number: 80, name: http, protocol: HTTP}], resolution: DNS}}";
    ConfigChange { apply: manifest::read("t", yaml, "default").unwrap(), delete: Vec::new() }
}

/// What is told of the one site.
async fn deployed(instance: &dyn Instance, documented: Documented) -> Result<ExternalService, TargetError> {
    let told = instance.deploy_externals(vec![(cnn(), documented)]).await?;
    let [one] = told.try_into().unwrap();
    Ok(one)
}

#[tokio::test]
async fn a_scenarios_mesh_comes_up_is_changed_is_asked_and_goes() {
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
    assert_eq!(logged, ["r1-s.00001"], "the beacon's lines are no evidence");

    instance.stop().await.unwrap();
    assert_eq!(namespaces(&cluster), Vec::<String>::new());
}

#[tokio::test]
async fn several_servers_come_up_side_by_side_and_are_told_in_their_order() {
    let (server, _cluster, instance) = begun(&Store::new(), Duration::from_secs(20)).await;
    let hosts = ["edition.cnn.com", "www.googleapis.com", "api.example.com"];
    let spec = |host: &str| (ExternalSpec { host: host.to_owned(), ..cnn() }, Documented::Site);
    let described = instance.deploy_externals(hosts.map(spec).into()).await.unwrap();
    assert_eq!(described.iter().map(|d| d.host.as_str()).collect::<Vec<_>>(), hosts);
    for host in hosts {
        assert_eq!(instance.upstream_address(host, 80).unwrap(), "10.1.0.7:80");
    }
    let asked = server.asked();
    let made = |a: &Asked| a.method == "PATCH" && a.path.contains("/deployments/external-");
    let last_made = asked.iter().rposition(made).unwrap();
    let fenced = |a: &Asked| a.query.contains("fence");
    let first_fence = asked.iter().position(fenced).unwrap();
    assert!(last_made < first_fence, "all are made before the first is waited for");
    assert_eq!(asked.iter().filter(|a| made(a)).count(), 3);
    instance.stop().await.unwrap();
}

#[tokio::test]
async fn the_images_that_pods_ran_are_told_by_digest_and_purpose() {
    let (server, _cluster) = pretended(Cluster::default()).await;
    let (noted, seat) = (Noted::default(), seat(&Store::new(), Duration::from_secs(20)));
    let settings = Settings::default();
    let started = start(server.api.clone(), &settings, Injection::default(), noted.clone(), seat).await;
    let instance = started.unwrap();
    deployed(&*instance, Documented::Site).await.unwrap();
    instance.stop().await.unwrap();
    let told: Vec<String> = noted.details().iter().map(|(name, value)| format!("{name}: {value}")).collect();
    assert_eq!(
        told,
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
    let (server, _cluster) = pretended(Cluster { objects, ..Cluster::default() }).await;
    let settings = Settings { pull_secrets: vec!["ops/registry".parse().unwrap()], ..Settings::default() };
    let seat = seat(&Store::new(), Duration::from_secs(20));
    let started = start(server.api.clone(), &settings, Injection::default(), Noted::default(), seat).await;
    started.unwrap().stop().await.unwrap();
    let made: Vec<Asked> = server.asked().into_iter().filter(|a| a.method == "PATCH").collect();
    let first_pod = made.iter().position(|a| a.body["kind"] == "Deployment").unwrap();
    let copies: Vec<&Asked> = made[..first_pod].iter().filter(|a| a.body["kind"] == "Secret").collect();
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

fn namespaces(cluster: &Mutex<Cluster>) -> Vec<String> {
    let cluster = cluster.lock().unwrap();
    let namespaces = cluster.objects.keys().filter(|p| p.starts_with("/api/v1/namespaces/"));
    namespaces.filter(|p| p.split('/').count() == 5).cloned().collect()
}

#[tokio::test]
async fn a_start_that_fails_leaves_nothing_behind() {
    let (server, cluster) = pretended(Cluster { stuck: true, ..Cluster::default() }).await;
    let seat = seat(&Store::new(), Duration::from_millis(500));
    let started =
        start(server.api.clone(), &Settings::default(), Injection::default(), Noted::default(), seat).await;
    assert!(matches!(started, Err(TargetError::Gone(_))));
    let made = |a: &&Asked| a.method == "PATCH" && a.body["kind"] == "Namespace";
    assert_eq!(server.asked().iter().filter(made).count(), 3, "it came to make something");
    assert_eq!(namespaces(&cluster), Vec::<String>::new());
}

#[tokio::test]
async fn a_proxy_that_does_not_know_the_suites_ca_is_the_environments_fault() {
    let store = Store::new();
    let (_server, cluster, instance) = begun(&store, Duration::from_secs(20)).await;
    cluster.lock().unwrap().roots = Some("YW5vdGhlciBDQQ==");
    let Err(TargetError::Environment(words)) = instance.change(&access()).await else { panic!() };
    assert!(words.contains("without the suite's CA"), "{words}");
    // "the roots", as the seat has them within.
    cluster.lock().unwrap().roots = Some("dGhlIHJvb3Rz");
    instance.change(&access()).await.unwrap();
    instance.stop().await.unwrap();
}

#[tokio::test]
async fn a_proxy_that_does_not_take_up_a_change_is_to_blame_and_what_was_missing_is_said() {
    let store = Store::new();
    let (_server, cluster, instance) = begun(&store, Duration::from_secs(2)).await;
    cluster.lock().unwrap().stuck = true;
    let Err(TargetError::Gone(words)) = instance.change(&access()).await else { panic!() };
    assert!(words.contains("sleep did not show the change") && words.contains("revision 2"), "{words}");
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
async fn a_live_run_deploys_nothing_outside_pins_nothing_and_leaves_everybodys_authorities_alone() {
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
async fn a_live_run_asks_where_name_servers_say_and_believes_what_everybody_does() {
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
