//! The suite's own resources for the mesh, in its own namespaces: access logs, the outbound policy, the
//! addresses of hosts in the cluster but outside the mesh, and the marker by which a change is known to be in
//! force.

use std::collections::BTreeMap;

use meshproof_harness::topology::Gateway;
use meshproof_model::Resource;
use serde_json::{Value, json};

use super::ManifestContext;
use crate::places::{APPLICATIONS, GATEWAYS};
use crate::relocate::{NOWHERE, SIDECAR};

/// The name of each of the marker's resources.
pub const MARKER: &str = "meshproof-marker";
const ACCESS_LOGS: &str = "meshproof-access-logs";
/// The port on which the marker answers, at sidecars and at gateways.
pub const MARKER_PORT: u16 = 18_999;
/// The name of the server that canary requests lead to, and its answer.
pub const CANARY: &str = "meshproof-canary";
/// The path of the marker's host that leads to it.
pub const CANARY_PATH: &str = "/canary";
/// The label by which the marker's subset of a revision finds its endpoint.
const CANARY_LABEL: &str = "meshproof.dev/revision";

/// Access logs by the provider that was found in the mesh configuration, in each namespace with proxies (reference, `Telemetry`:
/// one without a selector is for its namespace, and in the root namespace for the whole mesh). In an installation's namespace
/// therefore only for the scenario's gateways. None where no provider's lines can be read.
#[must_use]
pub fn access_logs(context: &ManifestContext<'_>, gateways: &[Gateway]) -> Vec<Resource> {
    let Ok(logs) = &context.injection.access_logs else { return Vec::new() };
    let telemetry = |namespace: &str, name: &str, selector: Option<&BTreeMap<String, String>>| {
        // Without a filter, and switched on, whatever the mesh's own Telemetry says: the namespace's is the more specific one.
        let logging = json!({ "providers": [{ "name": logs.provider }], "disabled": false });
        let mut spec = json!({ "accessLogging": [logging] });
        if let Some(labels) = selector {
            spec["selector"] = json!({ "matchLabels": labels });
        }
        Resource(json!({
            "apiVersion": "telemetry.istio.io/v1", "kind": "Telemetry",
            "metadata": context.metadata(namespace, name),
            "spec": spec,
        }))
    };
    let at_gateways = context.places.of(GATEWAYS);
    let mut made: Vec<Resource> =
        context.places.of_sidecars().map(|namespace| telemetry(namespace, ACCESS_LOGS, None)).collect();
    if context.places.gateways_installed() {
        let name = |gateway: &Gateway| format!("{}-{}", context.places.outside(), gateway.name);
        made.extend(gateways.iter().map(|g| telemetry(at_gateways, &name(g), Some(&g.labels))));
    } else {
        made.push(telemetry(at_gateways, ACCESS_LOGS, None));
    }
    made
}

/// The name of the policy that allows the run's requests.
const ALLOWED: &str = "meshproof-allowed";

/// A policy for each namespace of the scenario with proxies that allows every request, where a policy of the whole mesh allows
/// only some: a request is allowed if one of the ALLOW policies that apply matches it, and without any, every request is
/// (reference, `AuthorizationPolicy`). None for gateways of an installation, which other clients use too.
#[must_use]
pub fn allowed(context: &ManifestContext<'_>) -> Vec<Resource> {
    if !context.injection.allows_only_some {
        return Vec::new();
    }
    let own = context.places.own();
    let policy = |namespace: &str| {
        Resource(json!({
            "apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy",
            "metadata": context.metadata(namespace, ALLOWED),
            "spec": { "action": "ALLOW", "rules": [{}] },
        }))
    };
    context.places.of_proxies().into_iter().filter(|namespace| own.contains(namespace)).map(policy).collect()
}

/// A rule for a server of the scenario without a sidecar, in its own namespace, where the root namespace has rules: one of those
/// may ask for mutual TLS of every host of the cluster. A proxy looks for a host's rule in its own namespace, then in the host's,
/// and only then in the root namespace (istio.io/istio, pilot/pkg/model/push_context.go, `destinationRule`). It names the host: a
/// rule for `*` would hide those that other namespaces export.
#[must_use]
pub fn plaintext(context: &ManifestContext<'_>, namespace: &str, host: &str) -> Option<Resource> {
    let name = format!("plaintext-{}", host.split('.').next().unwrap_or(host));
    context.injection.destination_rules.then(|| {
        Resource(json!({
            "apiVersion": "networking.istio.io/v1", "kind": "DestinationRule",
            "metadata": context.metadata(namespace, &name),
            "spec": {
                "host": host,
                "exportTo": context.places.of_proxies(),
                "trafficPolicy": { "tls": { "mode": "DISABLE" } },
            },
        }))
    })
}

/// The name of the marker's Gateway; in an installation's namespace, where other scenarios have theirs, it
/// names the scenario.
fn marker_gateway<'a>(context: &ManifestContext<'a>) -> &'a str {
    if context.places.gateways_installed() { context.places.outside() } else { MARKER }
}

/// The marker's host for a revision of the Sidecar: only a Sidecar of that revision imports it.
#[must_use]
pub fn sidecar_host(context: &ManifestContext<'_>, revision: u64) -> String {
    format!("s{}.{}.marker.meshproof.internal", revision % 2, context.places.of(APPLICATIONS))
}

/// The hosts that sidecars of a namespace import: only those of the scenario. The last entry shows the Sidecar's revision.
#[must_use]
pub fn egress(context: &ManifestContext<'_>, namespace: &str, sidecar_revision: u64) -> Vec<String> {
    let outside = context.places.outside();
    let others = context.places.of_proxies().into_iter().filter(|other| *other != namespace);
    let mut hosts = vec!["./*".to_owned()];
    hosts.extend(others.map(|other| format!("{other}/*")));
    hosts.push(format!("{outside}/*.svc.cluster.local"));
    hosts.push(format!("{outside}/{}", sidecar_host(context, sidecar_revision)));
    hosts
}

/// What a Sidecar must import of the suite's own, so that its proxies show which change and which Sidecar are in force.
#[must_use]
pub fn marker_hosts(context: &ManifestContext<'_>, sidecar_revision: u64) -> Vec<String> {
    let applications = context.places.of(APPLICATIONS);
    vec![
        format!("{applications}/*.{applications}.marker.meshproof.internal"),
        format!("{}/{}", context.places.outside(), sidecar_host(context, sidecar_revision)),
    ]
}

/// The outbound policy that the documents presuppose, ALLOW_ANY, independent of the installation's
/// (reference, `Sidecar.outboundTrafficPolicy`), for the sidecars of a namespace.
#[must_use]
pub fn sidecar(context: &ManifestContext<'_>, namespace: &str, revision: u64) -> Resource {
    Resource(json!({
        "apiVersion": "networking.istio.io/v1", "kind": "Sidecar",
        "metadata": context.metadata(namespace, SIDECAR),
        "spec": {
            "outboundTrafficPolicy": { "mode": "ALLOW_ANY" },
            "egress": [{ "hosts": egress(context, namespace, revision) }],
        },
    }))
}

/// The two hosts of which a Sidecar imports one. `address` is theirs, which matters only for canary requests.
#[must_use]
pub fn sidecar_marker(context: &ManifestContext<'_>, address: &str) -> Resource {
    Resource(json!({
        "apiVersion": "networking.istio.io/v1", "kind": "ServiceEntry",
        "metadata": context.metadata(context.places.outside(), "meshproof-marker-sidecar"),
        "spec": {
            "hosts": [sidecar_host(context, 0), sidecar_host(context, 1)],
            "exportTo": context.places.of_proxies(),
            "ports": [{ "number": MARKER_PORT, "name": "http", "protocol": "HTTP" }],
            "resolution": "STATIC",
            "endpoints": [{ "address": address }],
        },
    }))
}

/// A host of the cluster outside the mesh, such as `my-nginx.mesh-external.svc.cluster.local`: in the
/// document a Service without a port name, for which Istio detects the protocol. Here the name is pinned to
/// the suite's pod, with a port that has no protocol either (Istio, pkg/config/validation/validation.go,
/// `ValidateProtocol`).
#[must_use]
pub fn pin(context: &ManifestContext<'_>, host: &str, address: &str, ports: &[u16]) -> Resource {
    let ports: Vec<Value> =
        ports.iter().map(|port| json!({ "number": port, "name": format!("port-{port}") })).collect();
    let name = format!("pin-{}", host.split('.').next().unwrap_or(host));
    Resource(json!({
        "apiVersion": "networking.istio.io/v1", "kind": "ServiceEntry",
        "metadata": context.metadata(context.places.outside(), &name),
        "spec": {
            "hosts": [host],
            "location": "MESH_EXTERNAL",
            "exportTo": context.places.of_proxies(),
            "ports": ports,
            "resolution": "STATIC",
            "endpoints": [{ "address": address }],
        },
    }))
}

/// The subset of a revision's DestinationRule. Its cluster shows the rule, whatever an EnvoyFilter of the whole mesh merges into
/// clusters: the name of a cluster cannot be merged away.
#[must_use]
pub fn marker_subset(revision: u64) -> String {
    format!("r{revision}")
}

/// The marker's host of a revision.
#[must_use]
pub fn marker_host(context: &ManifestContext<'_>, revision: u64) -> String {
    format!("r{revision}.{}.marker.meshproof.internal", context.places.of(APPLICATIONS))
}

/// The marker of a revision, one resource per kind: a proxy that shows it has every earlier resource of that
/// kind. (istiod does not order its stores of different kinds against each other: each has an informer of its
/// own.) Its routes lead through the DestinationRule's subset of this revision, which no proxy can know before
/// it has the rule and the ServiceEntry. `gateways` are the labels that select the scenario's gateways, if it
/// has any. `canary` is the address of a server, where requests must show what no dump can: a path then leads
/// to it.
#[must_use]
pub fn marker(
    context: &ManifestContext<'_>,
    revision: u64,
    gateways: Option<&BTreeMap<String, String>>,
    canary: Option<&str>,
) -> Vec<Resource> {
    let host = marker_host(context, revision);
    let applications = context.places.of(APPLICATIONS);
    let at_gateways = context.places.of(GATEWAYS);
    let resource = |kind: &str, namespace: &str, spec: Value| {
        let name = if kind == "Gateway" { marker_gateway(context) } else { MARKER };
        Resource(json!({
            "apiVersion": "networking.istio.io/v1", "kind": kind,
            "metadata": context.metadata(namespace, name),
            "spec": spec,
        }))
    };
    let mut in_gateways = vec!["mesh".to_owned()];
    if gateways.is_some() {
        in_gateways.push(format!("{at_gateways}/{}", marker_gateway(context)));
    }
    let subset = marker_subset(revision);
    let labels = json!({ CANARY_LABEL: subset });
    let entry = json!({
        "hosts": [host],
        "exportTo": context.places.of_proxies(),
        "ports": [{ "number": MARKER_PORT, "name": "http", "protocol": "HTTP" }],
        "resolution": "STATIC",
        "endpoints": [{ "address": canary.unwrap_or(NOWHERE), "labels": labels }],
    });
    let rule = json!({
        "host": host,
        "exportTo": context.places.of_proxies(),
        "subsets": [{ "name": subset, "labels": labels }],
    });
    let destination = json!({ "host": host, "subset": subset, "port": { "number": MARKER_PORT } });
    let mut routes = Vec::new();
    if canary.is_some() {
        routes.push(json!({ "match": [{ "uri": { "exact": CANARY_PATH } }], "route": [{ "destination": destination }] }));
    }
    // The proxy answers itself, by an injected fault and not by a direct response: an EnvoyFilter of the whole mesh may merge a
    // retry policy into every route, which makes a route of a direct response too, without a cluster, and the proxy then rejects
    // all routes. And the route leads to the cluster because istiod may send gateways only the clusters of their routes
    // (istio.io/istio, pilot/pkg/features, `PILOT_FILTER_GATEWAY_CLUSTER_CONFIG`).
    routes.push(json!({
        "fault": { "abort": { "percentage": { "value": 100.0 }, "httpStatus": 200 } },
        "route": [{ "destination": destination }],
    }));
    let route = json!({
        "hosts": [host],
        "exportTo": context.places.of_proxies(),
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
                    "port": { "number": MARKER_PORT, "name": "http", "protocol": "HTTP" },
                    "hosts": [format!("{applications}/{host}")],
                }],
            }),
        ));
    }
    made
}
