//! A fake cluster: what is applied is kept, pods are ready at once, a proxy's dump shows what was applied, and every
//! request is logged.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use meshproof_cluster::manifests::served;
use meshproof_harness::external::ExternalChoice;
use meshproof_harness::store::Store;
use meshproof_harness::target::Seat;
use meshproof_harness::timeouts::{Timeout, Timeouts};
use meshproof_harness::topology::{Gateway, Topology, Workload};
use serde_json::{Value, json};

use crate::server::{Channels, FakeApiServer, Reply};
use crate::service::ApiRequest;
use crate::suite_pods::SuitePods;

pub(crate) const ADDRESS: &str = "10.1.0.7";

/// What the cluster holds.
#[derive(Default)]
pub(crate) struct FakeCluster {
    /// By path.
    pub(crate) objects: BTreeMap<String, Value>,
    /// By pod.
    pub(crate) logs: BTreeMap<String, String>,
    /// Proxies do not apply changes.
    pub(crate) stuck: bool,
    /// The system roots of proxies, in base64, if the dump has them.
    pub(crate) roots: Option<&'static str>,
    /// By which means a proxy's dump can be read.
    pub(crate) dump: DumpReader,
    /// The workload's pod, where it is not ready; null: it has none.
    pub(crate) workload: Option<Value>,
    /// How many canary requests are still answered as before the change.
    pub(crate) lag: usize,
    /// Every request to the marker's port is answered as by a proxy with this revision.
    pub(crate) stale: Option<&'static str>,
    /// The canary's server does not answer.
    pub(crate) canary_is_dead: bool,
    /// istiod writes a distribution status, which becomes true after this number of reads.
    pub(crate) unreconciled: Option<usize>,
    /// How proxies write a line of their access log; by default in Istio's text format.
    pub(crate) line: Option<LogLine>,
    /// The events of every namespace.
    pub(crate) events: Vec<Value>,
    /// What the suite's own clients and servers do; they end at once if nothing is said of them.
    pub(crate) suite: Option<SuitePods>,
    /// The programs that were run, by pod.
    pub(crate) run: Vec<(String, Vec<String>)>,
}

/// Makes a line of a host, a User-Agent and a status.
pub(crate) type LogLine = fn(&str, &str, u16) -> String;

/// By which means a proxy's dump can be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum DumpReader {
    #[default]
    PortForward,
    /// Ports may not be forwarded.
    Agent,
    /// Ports may not be forwarded, and there is no pilot-agent.
    Nothing,
}

impl FakeCluster {
    fn answer(&mut self, asked: &ApiRequest) -> Reply {
        let whole = |value: &Value| Reply::Whole(200, value.to_string().into());
        let parts: Vec<&str> = asked.path.trim_matches('/').split('/').collect();
        match (asked.method.as_str(), parts.as_slice()) {
            ("GET", ["apis"]) => whole(&json!({ "groups": GROUPS.map(|(group, _)| json!({
                "name": group, "versions": [{ "groupVersion": format!("{group}/v1"), "version":
                    "v1" }] })) })),
            ("GET", ["apis", group, "v1"]) => {
                let names = GROUPS.iter().find(|(g, _)| g == group).unwrap().1;
                let resources: Vec<Value> = names.iter().map(|n| json!({ "name": n })).collect();
                whole(&json!({ "groupVersion": format!("{group}/v1"), "resources": resources }))
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
                DumpReader::PortForward => self.forward(),
                DumpReader::Agent | DumpReader::Nothing => {
                    Reply::status(403, "Forbidden", "cannot create resource \"pods/portforward\"")
                }
            },
            ("GET", [.., "secrets", _]) => whole(&self.objects.get(&asked.path).cloned().unwrap_or_default()),
            ("GET", [.., "deployments", _]) => {
                let listed = "pods \"sleep-1\" is forbidden: exceeded quota: few";
                let failed = json!([{ "type": "ReplicaFailure", "status": "True", "message": listed }]);
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
            ("GET", [.., "events"]) => {
                whole(&json!({ "metadata": { "resourceVersion": "1" }, "items": self.events }))
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
            other => panic!("no answer for {other:?}"),
        }
    }

    /// The whole log each time; then the connection is cut, and the follower resumes.
    fn log(&mut self, pod: &str) -> Reply {
        for (pod, line) in self.suite.as_ref().map(SuitePods::logged).unwrap_or_default() {
            self.write(&pod, &line);
        }
        let text = self.logs.get(pod).cloned().unwrap_or_default();
        Reply::Stream { bytes: Bytes::from(text), ends_well: false }
    }

    pub(crate) fn write(&mut self, pod: &str, line: &str) {
        let log = self.logs.entry(pod.to_owned()).or_default();
        let second = log.lines().count();
        log.push_str(&format!("2026-01-01T00:{:02}:{:02}.5Z {line}\n", second / 60, second % 60));
    }

    /// A fake curl.
    fn exec(&mut self, pod: &str, asked: &ApiRequest) -> Reply {
        let pairs = url::form_urlencoded::parse(asked.query.as_bytes());
        let argv: Vec<String> =
            pairs.filter(|(n, _)| n == "command").map(|(_, value)| value.into_owned()).collect();
        let after = |option: &str| {
            let at = argv.iter().position(|w| w == option);
            at.and_then(|at| argv.get(at + 1)).cloned().unwrap_or_default()
        };
        if argv[0] == served::PROGRAM {
            self.run.push((pod.to_owned(), argv.clone()));
            return SuitePods::process(self.suite.clone(), pod.to_owned());
        }
        if argv[0] == "pilot-agent" {
            let listed = match self.dump {
                DumpReader::PortForward | DumpReader::Agent => Some(self.dump().to_string()),
                DumpReader::Nothing => None,
            };
            return output(listed.unwrap_or_default(), argv.len() == 4 && self.dump != DumpReader::Nothing);
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
        // All pods have the same address: the first flush marker is the first server's.
        let mut flushed = 0;
        for url in argv.iter().filter(|word| word.starts_with("http://")) {
            let host = url.trim_start_matches("http://").split('/').next().unwrap_or_default();
            if let Some((_, token)) = url.split_once("/flush-marker?token=") {
                flushed += 1;
                self.write(&format!("external-{flushed}-1"), &json!({ "flush_marker": token }).to_string());
                continue;
            }
            status = if host.contains("marker") || host == "edition.cnn.com" { 200 } else { 502 };
            // Requests from outside the mesh go to the gateway.
            let logs = if pod == "meshproof-probe-1" { "istio-egressgateway-1" } else { pod };
            self.write(logs, &self.line.unwrap_or(log_line)(host, &agent, status));
        }
        let trace = trace(status);
        Reply::switch(async move |mut channels: Channels| {
            channels.send(2, trace).await;
            channels.exit(&json!({ "status": "Success" })).await;
        })
    }

    /// curl's output for one URL at the marker's port.
    fn canary(&self, url: &str) -> String {
        const SERVER: &str = "meshproof-canary\n200\n";
        const NOTHING: &str = "\n000\n";
        let (host, path) = url.split_once(":18999").unwrap();
        if host == "meshproof-canary" {
            return if self.canary_is_dead { NOTHING } else { SERVER }.to_owned();
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
        let routed = known("VirtualService", "meshproof-marker", "/hosts/0");
        match path {
            _ if self.stuck || self.lag > 0 || self.canary_is_dead => "\n404\n".to_owned(),
            "/" if routed => "fault filter abort\n200\n".to_owned(),
            "/" if of_sidecar => SERVER.to_owned(),
            "/canary" if routed => {
                let rule = self.objects.values().find(|o| o["kind"] == "DestinationRule").unwrap();
                let subset = rule["spec"]["subsets"][0]["name"].as_str().unwrap();
                assert!(host.starts_with(&format!("{subset}.")), "{host} leads by {subset}");
                SERVER.to_owned()
            }
            _ => NOTHING.to_owned(),
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

    /// The dump of a sidecar that has applied everything.
    fn dump(&self) -> Value {
        let find = |kind: &str, name: &str| {
            self.objects.values().find(|o| o["kind"] == kind && o["metadata"]["name"] == name)
        };
        let (Some(entry), Some(rule), Some(sidecar)) = (
            find("ServiceEntry", "meshproof-marker"),
            find("DestinationRule", "meshproof-marker"),
            find("Sidecar", "default"),
        ) else {
            return json!({ "configs": [] });
        };
        let host = entry["spec"]["hosts"][0].as_str().unwrap();
        let host = if self.stuck { "r1.before" } else { host };
        let subset = rule["spec"]["subsets"][0]["name"].as_str().unwrap();
        let taken_in = sidecar["spec"]["egress"][0]["hosts"].as_array().unwrap().last().unwrap();
        let (_, of_sidecar) = taken_in.as_str().unwrap().split_once('/').unwrap();
        // As an EnvoyFilter of the whole mesh may leave it, which merges a connect timeout into every cluster.
        let cluster = |subset: &str, host: &str| json!({ "cluster": { "name": format!("outbound|18999|{subset}|{host}"), "connect_timeout": "3s" } });
        let roots: Vec<Value> = self.roots.map(system_roots).into_iter().collect();
        json!({ "configs": [
            { "dynamic_active_secrets": roots },
            { "dynamic_active_clusters": [cluster("", host), cluster(subset, host), cluster("", of_sidecar)] },
            { "dynamic_route_configs": [{ "route_config": { "virtual_hosts": [
                { "domains": [format!("{host}:18999"), host], "routes": [{ "route": { "cluster": "c" },
                    "typed_per_filter_config": { "envoy.filters.http.fault": {} } }] }] } }] },
        ] })
    }
}

/// The output of a program, and whether it succeeds.
fn output(text: String, well: bool) -> Reply {
    let status = if well { json!({ "status": "Success" }) } else { exit_code("1") };
    Reply::switch(async move |mut channels: Channels| {
        channels.send(1, text).await;
        channels.exit(&status).await;
    })
}

/// As the API server reports it (KEP-4006; `NonZeroExitCode`).
fn exit_code(code: &str) -> Value {
    json!({ "status": "Failure", "reason": "NonZeroExitCode",
            "details": { "causes": [{ "reason": "ExitCode", "message": code }] } })
}

const GROUPS: [(&str, &[&str]); 3] = [
    (
        "networking.istio.io",
        &["destinationrules", "gateways", "serviceentries", "sidecars", "virtualservices"],
    ),
    ("security.istio.io", &["authorizationpolicies", "peerauthentications"]),
    ("telemetry.istio.io", &["telemetries"]),
];

fn system_roots(base64: &str) -> Value {
    json!({ "name": "file-root:system", "secret": { "validation_context": { "trusted_ca": { "inline_bytes":
        base64 } } } })
}

fn pod(app: &str) -> Value {
    json!({
        "metadata": { "name": format!("{app}-1"), "namespace": "n" },
        "spec": { "containers": [{
            "name": "istio-proxy", "image": "proxyv2",
            "volumeMounts": [{ "name": "meshproof-roots", "mountPath":
                "/etc/ssl/certs/ca-certificates.crt" }],
        }] },
        "status": {
            "podIP": ADDRESS,
            "conditions": [{ "type": "Ready", "status": "True" }],
            "initContainerStatuses": [ran("istio-init"), ran("istio-proxy")],
            "containerStatuses": [ran("application"), ran("nginx"), ran("server")],
        },
    })
}

fn ran(container: &str) -> Value {
    json!({ "name": container, "image": format!("{container}:1"), "imageID":
        format!("registry/{container}@sha256:0a") })
}

pub(crate) fn log_line(host: &str, agent: &str, status: u16) -> String {
    format!(
        "[2026-01-01T00:00:00.000Z] \"GET /politics HTTP/1.1\" {status} - via_upstream - \"-\" 0 5 1 0 \"-\" \
         \"{agent}\" \"id\" \
         \"{host}\" \"{ADDRESS}:443\" outbound|443||{host} 10.1.0.5:1 1.2.3.4:80 10.1.0.5:2 - default"
    )
}

/// curl's trace of a request and a response without a body.
fn trace(status: u16) -> String {
    let block = |kind: &str, text: &str| {
        let lines = text.as_bytes().chunks(16).enumerate().map(|(n, bytes)| {
            let digits: String = bytes.iter().map(|b| format!("{b:02x} ")).collect();
            format!("{:04x}: {digits:<48}.\n", n * 16)
        });
        format!("{kind}, {} bytes\n{}", text.len(), lines.collect::<String>())
    };
    block("=> Send header", "GET /politics HTTP/1.1\r\n\r\n")
        + &block("<= Recv header", &format!("HTTP/1.1 {status} Status\r\n"))
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
        topology: Topology::default().workload(Workload::sleep()).gateway(Gateway::egress()),
        store: store.clone(),
        timeouts,
        external: ExternalChoice::Auto,
        keep: false,
        public_roots: "roots".into(),
    }
}

pub(crate) async fn pretended(cluster: FakeCluster) -> (FakeApiServer, Arc<Mutex<FakeCluster>>) {
    pretended_within(Timeouts::default(), cluster).await
}

pub(crate) async fn pretended_within(
    timeouts: Timeouts,
    cluster: FakeCluster,
) -> (FakeApiServer, Arc<Mutex<FakeCluster>>) {
    let cluster = Arc::new(Mutex::new(cluster));
    let answering = cluster.clone();
    (
        FakeApiServer::answering_within(timeouts, move |asked| answering.lock().unwrap().answer(asked)).await,
        cluster,
    )
}
