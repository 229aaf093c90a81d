//! What a mesh has and the user's files do not hold: Services of gateways, workloads with sidecars.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};

use meshproof_model::Resource;
use meshproof_plan::cluster_state::{ClusterState, proxy};
use meshproof_plan::{Proxy, ProxyKind};
use serde_json::{Value, json};

use crate::raw::{self, covers, labels};
use crate::scope::Scope;

/// How many sidecars are made up at most.
const MAX_SIDECARS: usize = 40;

/// Services of gateways that Gateway resources and routes rely on and the files do not hold.
pub(crate) fn assumed_services(resources: &[Resource], assumed: &mut Vec<String>) -> Vec<Resource> {
    let services: Vec<&Resource> =
        resources.iter().filter(|r| r.api_version() == "v1" && r.kind() == "Service").collect();
    let there =
        |name: &str, namespace: &str| services.iter().any(|s| s.name() == name && s.namespace() == namespace);
    let mut made: Vec<Resource> = Vec::new();
    let mut wanted: BTreeSet<&str> = BTreeSet::new();
    for gateway in raw::of_kind(resources, "Gateway") {
        let selector = labels(gateway.0.pointer("/spec/selector"));
        let selects = |s: &Resource| covers(&selector, &labels(s.0.pointer("/spec/selector")));
        if selector.is_empty() || services.iter().any(|s| selects(s)) || made.iter().any(selects) {
            continue;
        }
        match selector.get("istio").map(String::as_str) {
            Some("egressgateway") => {
                wanted.insert("istio-egressgateway");
            }
            Some("ingressgateway") => {
                wanted.insert("istio-ingressgateway");
            }
            Some(_) | None => {
                let service = gateway_of_its_own(resources, gateway, &selector);
                assumed.push(format!(
                    "the Service {}/{}, whose pods {} selects, with the ports of that Gateway",
                    service.namespace(),
                    service.name(),
                    gateway.id()
                ));
                made.push(service);
            }
        }
    }
    let mentioned = |name: &str| {
        let destinations = raw::of_kind(resources, "VirtualService").flat_map(raw::destinations);
        destinations.map(|d| d.host).any(|h| h.split('.').next() == Some(name))
            || raw::of_kind(resources, "DestinationRule")
                .any(|r| raw::text(&r.0, "/spec/host").split('.').next() == Some(name))
    };
    for (name, label, ports) in [
        ("istio-egressgateway", "egressgateway", &[("http2", 80), ("https", 443), ("tls", 15443)]),
        ("istio-ingressgateway", "ingressgateway", &[("http2", 80), ("https", 443), ("tls", 15443)]),
    ] {
        if (wanted.contains(name) || mentioned(name)) && !there(name, "istio-system") {
            assumed.push(format!(
                "the Service istio-system/{name} of Istio's charts, with ports 80 and 443 (add yours to the files if it has others)"
            ));
            let ports: Vec<Value> =
                ports.iter().map(|(name, port)| json!({"name": name, "port": port})).collect();
            made.push(Resource(json!({
                "apiVersion": "v1", "kind": "Service",
                "metadata": {"name": name, "namespace": "istio-system"},
                "spec": {"selector": {"istio": label, "app": name}, "ports": ports},
            })));
        }
    }
    made
}

/// The Service of a gateway with labels of its own: where a route leads to a name that its labels hold, that one.
fn gateway_of_its_own(
    resources: &[Resource],
    gateway: &Resource,
    selector: &BTreeMap<String, String>,
) -> Resource {
    let values: Vec<&String> = selector.values().collect();
    let routed = raw::of_kind(resources, "VirtualService")
        .flat_map(raw::destinations)
        .map(|d| d.host)
        .find(|h| h.ends_with(".svc.cluster.local") && values.iter().any(|v| h.split('.').next() == Some(v)));
    let (name, namespace) = match routed.as_deref().map(|h| h.split('.').take(2).collect::<Vec<_>>()) {
        Some(parts) if parts.len() == 2 => (parts[0].to_owned(), parts[1].to_owned()),
        Some(_) | None => {
            let value = selector.get("istio").or_else(|| selector.get("app")).or(values.first().copied());
            (value.cloned().unwrap_or_default(), gateway.namespace().to_owned())
        }
    };
    let ports: BTreeSet<u16> = raw::of_kind(resources, "Gateway")
        .filter(|g| labels(g.0.pointer("/spec/selector")) == *selector)
        .flat_map(|g| raw::items(&g.0, "/spec/servers"))
        .filter_map(|(_, server)| raw::port(server, "/port/number"))
        .collect();
    let ports: Vec<Value> = ports
        .iter()
        .map(|port| json!({"name": if *port == 80 { "http2".to_owned() } else { format!("tls-{port}") }, "port": port}))
        .collect();
    Resource(json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"selector": selector, "ports": ports},
    }))
}

/// The gateways of the files, and a sidecar for each workload that the files name or that their selectors ask for.
pub(crate) fn proxies(state: &ClusterState, scope: &Scope, assumed: &mut Vec<String>) -> Vec<Proxy> {
    let mut all: Vec<Proxy> = state
        .proxies
        .iter()
        .filter(|p| p.kind == ProxyKind::Gateway)
        .map(|p| Proxy { name: format!("{}.{}", p.name, p.namespace), ..p.clone() })
        .collect();
    let gateway_namespaces: BTreeSet<String> = all.iter().map(|p| p.namespace.clone()).collect();
    let resources = &state.resources;
    let root = state.mesh.root_namespace.as_str();
    let concerns = |r: &Resource| match r.kind() {
        "ServiceEntry" | "DestinationRule" | "Sidecar" => true,
        "VirtualService" => raw::for_mesh(r),
        _ => false,
    };
    let mut namespaces: BTreeSet<&str> = resources
        .iter()
        .filter(|r| r.api_version().starts_with("networking.istio.io/") && concerns(r))
        .map(Resource::namespace)
        .filter(|n| *n != root && !gateway_namespaces.contains(*n))
        .collect();
    let named = workloads(resources);
    namespaces.extend(named.iter().filter(|w| w.injected).map(|w| w.namespace));
    if let Some(own) = scope.namespace.as_deref() {
        namespaces = BTreeSet::from([own]);
    } else if namespaces.is_empty() {
        namespaces.insert("default");
    }
    let mut sidecars: Vec<(String, String, BTreeMap<String, String>)> = Vec::new();
    let mut add = |name: &str, namespace: &str, labels: &BTreeMap<String, String>| {
        let same = sidecars.iter().any(|(_, ns, known)| ns == namespace && covers(labels, known));
        if same || sidecars.len() >= MAX_SIDECARS {
            return;
        }
        let full = format!("{name}.{namespace}");
        let taken = sidecars.iter().filter(|(n, ..)| *n == full).count();
        let full = if taken == 0 { full } else { format!("{name}-{}.{namespace}", taken + 1) };
        sidecars.push((full, namespace.to_owned(), labels.clone()));
    };
    for namespace in namespaces {
        let own: Vec<&Workload<'_>> =
            named.iter().filter(|w| w.namespace == namespace && !w.declined).collect();
        for workload in &own {
            add(workload.name, namespace, &workload.labels);
        }
        let mut selectors = selectors(resources, namespace);
        if scope.namespace.is_some() && !own.is_empty() {
            // The cluster's pods are known, and a selector that fits none of them selects nothing.
            selectors.clear();
        }
        for (_, selector) in &selectors {
            let name = selector.get("app").or_else(|| selector.values().next());
            add(name.map_or("workload", String::as_str), namespace, selector);
        }
        // A rule for some workloads says that the others are not meant.
        if own.is_empty() && !selectors.iter().any(|(rule, _)| *rule) {
            let generic = BTreeMap::from([("app".to_owned(), "sleep".to_owned())]);
            add("sleep", namespace, &generic);
            assumed.push(format!("a workload `sleep` with a sidecar in namespace {namespace}"));
        }
    }
    for (name, namespace, labels) in sidecars {
        let account = name.split('.').next().unwrap_or_default().to_owned();
        let identity = format!("spiffe://{}/ns/{namespace}/sa/{account}", state.mesh.trust_domain);
        all.push(proxy(&name, &namespace, ProxyKind::Sidecar, labels, identity));
    }
    let bind = |port: u16| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let dialled = dialled_ports(resources);
    let served: BTreeSet<u16> = resources
        .iter()
        .filter(|r| r.kind() == "Gateway")
        .flat_map(|g| raw::items(&g.0, "/spec/servers"))
        .filter_map(|(_, s)| raw::port(s, "/port/number"))
        .chain(state.services.iter().flat_map(|s| &s.ports).filter_map(|p| p.target_port))
        .collect();
    for proxy in &mut all {
        match proxy.kind {
            ProxyKind::Sidecar => proxy.outbound = dialled.iter().map(|p| (*p, bind(*p))).collect(),
            ProxyKind::Gateway => proxy.servers = served.iter().map(|p| (*p, bind(*p))).collect(),
        }
    }
    all
}

/// Every port that a client may dial by these resources.
pub(crate) fn dialled_ports(resources: &[Resource]) -> BTreeSet<u16> {
    let mut ports = BTreeSet::from([80, 443]);
    for resource in resources {
        let spec = &resource.0;
        match resource.kind() {
            "ServiceEntry" => {
                ports.extend(
                    raw::items(spec, "/spec/ports").iter().filter_map(|(_, p)| raw::port(p, "/number")),
                );
            }
            "Service" => {
                ports.extend(
                    raw::items(spec, "/spec/ports").iter().filter_map(|(_, p)| raw::port(p, "/port")),
                );
            }
            "VirtualService" if raw::for_mesh(resource) => {
                for kind in ["http", "tls", "tcp"] {
                    for (_, route) in raw::items(spec, &format!("/spec/{kind}")) {
                        let conditions = raw::items(route, "/match");
                        ports.extend(conditions.iter().filter_map(|(_, m)| raw::port(m, "/port")));
                    }
                }
            }
            _ => {}
        }
    }
    ports
}

/// A workload among the files.
struct Workload<'a> {
    name: &'a str,
    namespace: &'a str,
    labels: BTreeMap<String, String>,
    /// The files ask for a sidecar.
    injected: bool,
    /// The files say that it has none.
    declined: bool,
}

fn workloads(resources: &[Resource]) -> Vec<Workload<'_>> {
    let of_namespace = |name: &str| -> Option<bool> {
        let found = resources.iter().find(|r| r.kind() == "Namespace" && r.name() == name)?;
        let labels = labels(found.0.pointer("/metadata/labels"));
        Some(
            labels.get("istio-injection").is_some_and(|v| v == "enabled")
                || labels.contains_key("istio.io/rev"),
        )
    };
    resources
        .iter()
        .filter_map(|r| {
            let metadata = match r.kind() {
                "Pod" => "/metadata",
                "Deployment" | "StatefulSet" | "DaemonSet" => "/spec/template/metadata",
                _ => return None,
            };
            let own = labels(r.0.pointer(&format!("{metadata}/labels")));
            let annotations = labels(r.0.pointer(&format!("{metadata}/annotations")));
            let gateway = annotations.get("inject.istio.io/templates").is_some_and(|t| t == "gateway")
                || own.get("istio").is_some_and(|v| v.contains("gateway"));
            let asked = own
                .get("sidecar.istio.io/inject")
                .or_else(|| annotations.get("sidecar.istio.io/inject"))
                .map(|v| v == "true");
            let chosen = asked.or_else(|| of_namespace(r.namespace()));
            Some(Workload {
                name: r.name(),
                namespace: r.namespace(),
                labels: own,
                injected: chosen == Some(true) && !gateway,
                declined: chosen == Some(false) || gateway,
            })
        })
        .collect()
}

/// The workloads that resources of a namespace select; true: by a DestinationRule.
fn selectors(resources: &[Resource], namespace: &str) -> Vec<(bool, BTreeMap<String, String>)> {
    let mut found: Vec<(bool, BTreeMap<String, String>)> = Vec::new();
    let mut add = |rule: bool, selector: BTreeMap<String, String>| {
        if !selector.is_empty() && !found.iter().any(|(_, s)| *s == selector) {
            found.push((rule, selector));
        }
    };
    for resource in resources.iter().filter(|r| r.namespace() == namespace) {
        match resource.kind() {
            "DestinationRule" => add(true, labels(resource.0.pointer("/spec/workloadSelector/matchLabels"))),
            "Sidecar" => add(false, labels(resource.0.pointer("/spec/workloadSelector/labels"))),
            "VirtualService" if raw::for_mesh(resource) => {
                for kind in ["http", "tls", "tcp"] {
                    for (_, route) in raw::items(&resource.0, &format!("/spec/{kind}")) {
                        for (_, condition) in raw::items(route, "/match") {
                            add(false, labels(condition.get("sourceLabels")));
                        }
                    }
                }
            }
            _ => {}
        }
    }
    found
}

/// The labels by which resources select workloads with sidecars.
pub(crate) fn selected_labels(resources: &[Resource]) -> BTreeSet<(String, String)> {
    let namespaces: BTreeSet<&str> = resources.iter().map(Resource::namespace).collect();
    let all = namespaces.into_iter().flat_map(|n| selectors(resources, n)).flat_map(|(_, selector)| selector);
    let others = resources.iter().filter(|r| r.api_version().contains(".istio.io/") && r.kind() != "Gateway");
    let others = others.flat_map(|r| labels(r.0.pointer("/spec/selector/matchLabels")));
    all.chain(others).collect()
}
