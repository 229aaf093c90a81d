//! What the suite itself says to the mesh, in its own namespaces: access logs, the outbound policy, where hosts of the cluster
//! outside the mesh are, and the beacon.

use std::collections::BTreeMap;

use meshproof_harness::topology::Gateway;
use meshproof_model::Resource;
use serde_json::{Value, json};

use super::Plan;
use crate::places::{APPLICATIONS, GATEWAYS};
use crate::relocate::{NOWHERE, SIDECAR};

/// The name of each of the beacon's resources.
pub const BEACON: &str = "meshproof-beacon";
const ACCESS_LOGS: &str = "meshproof-access-logs";
/// The port on which it answers, at sidecars and at gateways.
pub const BEACON_PORT: u16 = 18_999;
/// The first revision's connect timeout at the beacon's cluster, in milliseconds; each further one adds one.
pub const BEACON_TIMEOUT: u64 = 20_000;
/// The server that canary requests lead to, and what it answers.
pub const CANARY: &str = "meshproof-canary";
/// What of the beacon's host leads to it.
pub const CANARY_PATH: &str = "/canary";
/// The label by which the beacon's subset of a revision finds its endpoint.
const CANARY_LABEL: &str = "meshproof.dev/revision";

/// Access logs by the provider `envoy`, which every installation has (Istio, pkg/config/mesh/mesh.go, `DefaultMeshConfig`), in each
/// namespace with proxies (reference, `Telemetry`: one without a selector is for its namespace, and in the root namespace for the
/// whole mesh). In an installation's namespace therefore for the scenario's gateways alone.
#[must_use]
pub fn access_logs(plan: &Plan<'_>, gateways: &[Gateway]) -> Vec<Resource> {
    let telemetry = |namespace: &str, name: &str, selector: Option<&BTreeMap<String, String>>| {
        let mut spec = json!({ "accessLogging": [{ "providers": [{ "name": "envoy" }] }] });
        if let Some(labels) = selector {
            spec["selector"] = json!({ "matchLabels": labels });
        }
        Resource(json!({
            "apiVersion": "telemetry.istio.io/v1", "kind": "Telemetry",
            "metadata": plan.metadata(namespace, name),
            "spec": spec,
        }))
    };
    let [applications, at_gateways] = plan.places.of_proxies();
    let mut made = vec![telemetry(applications, ACCESS_LOGS, None)];
    if plan.places.gateways_installed() {
        let name = |gateway: &Gateway| format!("{}-{}", plan.places.outside(), gateway.name);
        made.extend(gateways.iter().map(|g| telemetry(at_gateways, &name(g), Some(&g.labels))));
    } else {
        made.push(telemetry(at_gateways, ACCESS_LOGS, None));
    }
    made
}

/// The Gateway of the beacon; in an installation's namespace, where other scenarios have theirs, by the scenario's own name.
fn beacon_gateway<'a>(plan: &Plan<'a>) -> &'a str {
    if plan.places.gateways_installed() { plan.places.outside() } else { BEACON }
}

/// The beacon's host of the Sidecar's revision: only a Sidecar of that revision takes it in.
#[must_use]
pub fn sidecar_host(plan: &Plan<'_>, revision: u64) -> String {
    format!("s{}.{}.beacon.meshproof.internal", revision % 2, plan.places.of(APPLICATIONS))
}

/// What sidecars take in: the scenario's own. The last entry tells the Sidecar's revision.
#[must_use]
pub fn egress(plan: &Plan<'_>, sidecar_revision: u64) -> Vec<String> {
    let outside = plan.places.outside();
    vec![
        "./*".to_owned(),
        format!("{}/*", plan.places.of(GATEWAYS)),
        format!("{outside}/*.svc.cluster.local"),
        format!("{outside}/{}", sidecar_host(plan, sidecar_revision)),
    ]
}

/// The outbound policy that the documents take for granted, ALLOW_ANY, whatever the installation's is (reference,
/// `Sidecar.outboundTrafficPolicy`).
#[must_use]
pub fn sidecar(plan: &Plan<'_>, revision: u64) -> Resource {
    Resource(json!({
        "apiVersion": "networking.istio.io/v1", "kind": "Sidecar",
        "metadata": plan.metadata(plan.places.of(APPLICATIONS), SIDECAR),
        "spec": {
            "outboundTrafficPolicy": { "mode": "ALLOW_ANY" },
            "egress": [{ "hosts": egress(plan, revision) }],
        },
    }))
}

/// The two hosts of which a Sidecar takes in one. `address`: where they lead, which matters to canaries alone.
#[must_use]
pub fn sidecar_beacon(plan: &Plan<'_>, address: &str) -> Resource {
    Resource(json!({
        "apiVersion": "networking.istio.io/v1", "kind": "ServiceEntry",
        "metadata": plan.metadata(plan.places.outside(), "meshproof-beacon-sidecar"),
        "spec": {
            "hosts": [sidecar_host(plan, 0), sidecar_host(plan, 1)],
            "exportTo": plan.places.of_proxies(),
            "ports": [{ "number": BEACON_PORT, "name": "http", "protocol": "HTTP" }],
            "resolution": "STATIC",
            "endpoints": [{ "address": address }],
        },
    }))
}

/// A host of the cluster outside the mesh, such as `my-nginx.mesh-external.svc.cluster.local`: in the document a Service
/// without a port name, for which Istio looks at the bytes. Here the name is pinned to the suite's pod, with a port that has no
/// protocol either (Istio, pkg/config/validation/validation.go, `ValidateProtocol`).
#[must_use]
pub fn pin(plan: &Plan<'_>, host: &str, address: &str, ports: &[u16]) -> Resource {
    let ports: Vec<Value> =
        ports.iter().map(|port| json!({ "number": port, "name": format!("port-{port}") })).collect();
    let name = format!("pin-{}", host.split('.').next().unwrap_or(host));
    Resource(json!({
        "apiVersion": "networking.istio.io/v1", "kind": "ServiceEntry",
        "metadata": plan.metadata(plan.places.outside(), &name),
        "spec": {
            "hosts": [host],
            "location": "MESH_EXTERNAL",
            "exportTo": plan.places.of_proxies(),
            "ports": ports,
            "resolution": "STATIC",
            "endpoints": [{ "address": address }],
        },
    }))
}

/// The beacon's host of a revision.
#[must_use]
pub fn beacon_host(plan: &Plan<'_>, revision: u64) -> String {
    format!("r{revision}.{}.beacon.meshproof.internal", plan.places.of(APPLICATIONS))
}

/// The beacon of a revision, one resource for each kind: whoever shows it has what was there of that kind before. istiod's
/// stores of different kinds are not ordered against each other (each has an informer of its own). `gateways`: what the scenario's
/// gateways are selected by, where it has some. `canary`: the address of a server, where requests must show what no dump does: a path
/// then leads to it through the DestinationRule's subset of this revision, which no proxy can know of before it has the rule and
/// the ServiceEntry.
#[must_use]
pub fn beacon(
    plan: &Plan<'_>,
    revision: u64,
    gateways: Option<&BTreeMap<String, String>>,
    canary: Option<&str>,
) -> Vec<Resource> {
    let host = beacon_host(plan, revision);
    let applications = plan.places.of(APPLICATIONS);
    let at_gateways = plan.places.of(GATEWAYS);
    let resource = |kind: &str, namespace: &str, spec: Value| {
        let name = if kind == "Gateway" { beacon_gateway(plan) } else { BEACON };
        Resource(json!({
            "apiVersion": "networking.istio.io/v1", "kind": kind,
            "metadata": plan.metadata(namespace, name),
            "spec": spec,
        }))
    };
    let mut in_gateways = vec!["mesh".to_owned()];
    if gateways.is_some() {
        in_gateways.push(format!("{at_gateways}/{}", beacon_gateway(plan)));
    }
    let mut entry = json!({
        "hosts": [host],
        "exportTo": plan.places.of_proxies(),
        "ports": [{ "number": BEACON_PORT, "name": "http", "protocol": "HTTP" }],
        "resolution": "STATIC",
        "endpoints": [{ "address": NOWHERE }],
    });
    let mut rule = json!({
        "host": host,
        "exportTo": plan.places.of_proxies(),
        "trafficPolicy": { "connectionPool": { "tcp": { "connectTimeout": format!("{}ms", BEACON_TIMEOUT + revision) } } },
    });
    let mut routes = vec![json!({ "directResponse": { "status": 200, "body": { "string": host } } })];
    if let Some(address) = canary {
        let subset = format!("r{revision}");
        entry["endpoints"] = json!([{ "address": address, "labels": { CANARY_LABEL: subset } }]);
        rule["subsets"] = json!([{ "name": subset, "labels": { CANARY_LABEL: subset } }]);
        let destination = json!({ "host": host, "subset": subset, "port": { "number": BEACON_PORT } });
        let leads = json!({ "match": [{ "uri": { "exact": CANARY_PATH } }], "route": [{ "destination": destination }] });
        routes.insert(0, leads);
    }
    let route = json!({
        "hosts": [host],
        "exportTo": plan.places.of_proxies(),
        "gateways": in_gateways,
        "http": routes,
    });
    let mut made = vec![
        resource("ServiceEntry", applications, entry),
        resource("DestinationRule", applications, rule),
        resource("VirtualService", applications, route),
    ];
    if let Some(selector) = gateways {
        made.push(resource(
            "Gateway",
            at_gateways,
            json!({
                "selector": selector,
                "servers": [{
                    "port": { "number": BEACON_PORT, "name": "http", "protocol": "HTTP" },
                    "hosts": [format!("{applications}/{host}")],
                }],
            }),
        ));
    }
    made
}
