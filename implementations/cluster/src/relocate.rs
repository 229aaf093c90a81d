//! A document's resource as it is applied in the cluster: in the run's own namespaces, visible only to the
//! scenario's proxies, and with external hosts that lead to the suite's own pods, unless the run is live.

use std::collections::BTreeMap;

use meshproof_model::Resource;
use serde_json::{Map, Value, json};

use crate::places::Places;

/// An address where nothing answers (RFC 5737, TEST-NET-1): that of an external host without an external
/// service.
pub const NOWHERE: &str = "192.0.2.1";
/// The name of the sidecars in a list of gateways (reference, `VirtualService.gateways`).
const MESH: &str = "mesh";
/// The name of the suite's own Sidecar. A namespace can have one without a selector; a document's replaces
/// it.
pub const SIDECAR: &str = "default";

/// Where a document's resources are moved to.
#[derive(Clone, Copy, Debug)]
pub struct Ground<'a> {
    /// The scenario's namespaces.
    pub places: &'a Places,
    /// The labels of everything that is created.
    pub labels: &'a BTreeMap<String, String>,
    /// The hosts that have an external service, each with its address.
    pub pins: &'a BTreeMap<String, String>,
    /// The `egress.hosts` of a Sidecar that has none: what the scenario created, and not the whole cluster.
    pub egress: &'a [String],
    /// The hosts of the suite's marker, which every Sidecar imports.
    pub marker: &'a [String],
    /// Whether external hosts are the documents' own and stay as printed.
    pub live: bool,
}

/// The resource as it is applied; a ServiceEntry of several hosts becomes one per host, because each host has
/// its own address.
#[must_use]
pub fn relocate(resource: &Resource, ground: &Ground<'_>) -> Vec<Resource> {
    let mut moved = resource.clone();
    let places = ground.places;
    if let Some(metadata) = moved.0.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.insert("namespace".to_owned(), places.of(resource.namespace()).into());
        let labels = metadata.entry("labels").or_insert_with(|| json!({}));
        if let Some(labels) = labels.as_object_mut() {
            labels.extend(ground.labels.iter().map(|(k, v)| (k.clone(), v.as_str().into())));
        }
    }
    let Some(spec) = moved.0.get_mut("spec").and_then(Value::as_object_mut) else { return vec![moved] };
    match resource.kind() {
        "VirtualService" => {
            virtual_service(spec, places);
            export(spec, places);
        }
        "DestinationRule" => {
            host_field(spec, "host", places);
            if spec.contains_key("workloadSelector") {
                spec.entry("exportTo").or_insert_with(|| json!(["."]));
            }
            export(spec, places);
        }
        "Gateway" => gateway(spec, ground),
        "Sidecar" => {
            sidecar(spec, ground);
            if spec.get("workloadSelector").is_none() {
                moved.0["metadata"]["name"] = SIDECAR.into();
            }
        }
        "ServiceEntry" => {
            export(spec, places);
            return service_entries(&moved, ground);
        }
        _ => {}
    }
    vec![moved]
}

/// Scenarios that run side by side define the same hosts; without a list Istio exports each to the whole
/// cluster (reference, `exportTo`; pilot/pkg/model/push_context.go, `initDefaultExportMaps`). What a document
/// exports to all is exported to the whole scenario; `.` is the resource's own namespace. A DestinationRule
/// with a `workloadSelector` is for pods of its own namespace, and Istio refuses one that is exported further
/// (pkg/config/validation/validation.go, `validateExportTo`).
fn export(spec: &mut Map<String, Value>, places: &Places) {
    let all = || places.of_proxies().into_iter().map(Value::from).collect::<Vec<_>>();
    let Some(documented) = spec.get("exportTo").and_then(Value::as_array).filter(|list| !list.is_empty())
    else {
        spec.insert("exportTo".to_owned(), all().into());
        return;
    };
    let mut mapped: Vec<Value> = Vec::new();
    for entry in documented {
        let named = match entry.as_str() {
            Some("*") => all(),
            Some("." | "~") | None => vec![entry.clone()],
            Some(namespace) => vec![places.of(namespace).into()],
        };
        // Istio refuses a list with the same entry twice (pkg/config/validation/validation.go,
        // `validateExportTo`).
        for name in named {
            if !mapped.contains(&name) {
                mapped.push(name);
            }
        }
    }
    spec.insert("exportTo".to_owned(), mapped.into());
}

fn host_field(object: &mut Map<String, Value>, field: &str, places: &Places) {
    if let Some(host) = object.get_mut(field) {
        map_host(host, places);
    }
}

fn map_host(host: &mut Value, places: &Places) {
    if let Some(text) = host.as_str() {
        *host = places.host(text).into();
    }
}

/// The name of a gateway or a host, with or without a namespace: `NAMESPACE/NAME`. `*` and `.` are not
/// namespaces.
fn map_qualified(value: &mut Value, places: &Places) {
    let Some(text) = value.as_str() else { return };
    let mapped = match text.split_once('/') {
        Some((namespace @ ("*" | "." | "~"), host)) => format!("{namespace}/{}", places.host(host)),
        Some((namespace, host)) => format!("{}/{}", places.of(namespace), places.host(host)),
        None => places.host(text),
    };
    *value = mapped.into();
}

fn each<'a>(object: &'a mut Map<String, Value>, field: &str) -> impl Iterator<Item = &'a mut Value> {
    object.get_mut(field).and_then(Value::as_array_mut).into_iter().flatten()
}

fn gateways(object: &mut Map<String, Value>, places: &Places) {
    for gateway in each(object, "gateways") {
        if gateway != MESH {
            map_qualified(gateway, places);
        }
    }
}

fn virtual_service(spec: &mut Map<String, Value>, places: &Places) {
    for host in each(spec, "hosts") {
        map_host(host, places);
    }
    gateways(spec, places);
    for protocol in ["http", "tls", "tcp"] {
        for rule in each(spec, protocol).filter_map(Value::as_object_mut) {
            for part in each(rule, "match").filter_map(Value::as_object_mut) {
                gateways(part, places);
                for name in each(part, "sniHosts") {
                    map_host(name, places);
                }
            }
            let mirror = rule.get_mut("mirror").and_then(Value::as_object_mut);
            mirror.into_iter().for_each(|mirror| host_field(mirror, "host", places));
            for list in ["route", "mirrors"] {
                for route in each(rule, list) {
                    let destination = route.get_mut("destination").and_then(Value::as_object_mut);
                    destination.into_iter().for_each(|d| host_field(d, "host", places));
                }
            }
        }
    }
}

/// A Gateway selects pods in every namespace of the cluster (pilot/pkg/model/push_context.go,
/// `mergeGateways`; unless PILOT_SCOPE_GATEWAY_TO_NAMESPACE): with the run's labels it selects only those of
/// the scenario.
fn gateway(spec: &mut Map<String, Value>, ground: &Ground<'_>) {
    if !ground.places.gateways_installed()
        && let Some(selector) = spec.get_mut("selector").and_then(Value::as_object_mut)
    {
        selector.extend(ground.labels.iter().map(|(k, v)| (k.clone(), v.as_str().into())));
    }
    for server in each(spec, "servers").filter_map(Value::as_object_mut) {
        for host in each(server, "hosts") {
            map_qualified(host, ground.places);
        }
    }
}

/// A Sidecar without egress imports the whole cluster (reference, `Sidecar`; pilot/pkg/model/sidecar.go,
/// `convertToSidecarScope`), which in a shared cluster includes the configuration of others.
fn sidecar(spec: &mut Map<String, Value>, ground: &Ground<'_>) {
    if spec.get("egress").is_none() {
        spec.insert("egress".to_owned(), json!([{ "hosts": ground.egress }]));
    } else {
        import_marker(spec, ground);
    }
    for listener in each(spec, "egress").filter_map(Value::as_object_mut) {
        for host in each(listener, "hosts") {
            let own =
                host.as_str().is_some_and(|h| ground.egress.iter().chain(ground.marker).any(|e| e == h));
            if !own {
                map_qualified(host, ground.places);
            }
        }
    }
    // What the suite's own Sidecar says, whose place this one takes.
    spec.entry("outboundTrafficPolicy").or_insert_with(|| json!({ "mode": "ALLOW_ANY" }));
}

/// The suite's marker shows that a change is in force. A document's own list of hosts would hide it: the listener for every port
/// imports it too, and there is one if the document has none.
fn import_marker(spec: &mut Map<String, Value>, ground: &Ground<'_>) {
    let Some(listeners) = spec.get_mut("egress").and_then(Value::as_array_mut) else { return };
    // Istio allows one listener without a port, the last (reference, `IstioEgressListener.port`).
    if listeners.last().is_none_or(|last| last.get("port").is_some()) {
        listeners.push(json!({ "hosts": [] }));
    }
    let every_port =
        listeners.last_mut().and_then(|last| last.get_mut("hosts")).and_then(Value::as_array_mut);
    let Some(hosts) = every_port else { return };
    for host in ground.marker {
        if !hosts.iter().any(|known| known == host.as_str()) {
            hosts.push(host.as_str().into());
        }
    }
}

/// External hosts lead to the suite's own pods. With resolution DNS an endpoint may be an address, which then
/// replaces the name (pkg/config/validation/validation.go, `ValidateServiceEntry`, case `ServiceEntry_DNS`);
/// hosts, ports and resolution stay as the document has them. Endpoints hold for all hosts of an entry, hence
/// one entry per host.
fn service_entries(moved: &Resource, ground: &Ground<'_>) -> Vec<Resource> {
    let spec = moved.spec();
    let by_name = spec.get("resolution").and_then(Value::as_str).is_some_and(|r| r.starts_with("DNS"));
    let settled = spec.get("endpoints").is_some() || spec.get("workloadSelector").is_some();
    let hosts: Vec<&str> = spec["hosts"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    if ground.live {
        return vec![moved.clone()];
    }
    if !by_name || settled {
        let mut entry = moved.clone();
        let endpoints = entry.0.pointer_mut("/spec/endpoints").and_then(Value::as_array_mut);
        for endpoint in endpoints.into_iter().flatten() {
            // The address of a server of the suite, or its name.
            let pinned = endpoint["address"].as_str().and_then(|address| ground.pins.get(address));
            if let Some(pinned) = pinned.cloned() {
                endpoint["address"] = pinned.into();
            }
        }
        return vec![entry];
    }
    let one = |host: &str| {
        let mut entry = moved.clone();
        if hosts.len() > 1 {
            let suffix = host.replace('*', "any").replace('.', "-");
            entry.0["metadata"]["name"] = format!("{}-{suffix}", moved.name()).into();
        }
        let address = ground.pins.get(host).map_or(NOWHERE, String::as_str);
        entry.0["spec"]["hosts"] = json!([host]);
        entry.0["spec"]["endpoints"] = json!([{ "address": address }]);
        entry
    };
    hosts.iter().map(|host| one(host)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::owned;
    use crate::settings::Gateways;
    use meshproof_harness::manifest;
    use meshproof_harness::topology::Topology;

    #[test]
    fn endpoints_that_the_document_names_lead_to_the_suites_own_pods() {
        let mut case = RelocationCase::new();
        case.pins.insert("203.0.113.1".to_owned(), "10.1.0.8".to_owned());
        let spec = json!({ "hosts": ["static.example"], "resolution": "STATIC",
            "endpoints": [{ "address": "203.0.113.1", "weight": 2 }, { "address": "203.0.113.9" }] });
        let entry = case.one("ServiceEntry", &spec);
        let expected = json!([{ "address": "10.1.0.8", "weight": 2 }, { "address": "203.0.113.9" }]);
        assert_eq!(entry.spec()["endpoints"], expected);
    }

    const MARKER: &str = "mp-r1-s-outside/s0.marker.meshproof.internal";

    struct RelocationCase {
        places: Places,
        labels: BTreeMap<String, String>,
        pins: BTreeMap<String, String>,
        egress: Vec<String>,
        live: bool,
    }

    impl RelocationCase {
        fn new() -> Self {
            Self::with(&Gateways::Own)
        }

        fn with(gateways: &Gateways) -> Self {
            Self {
                places: Places::new("r1", "s", gateways, &Topology::default()),
                labels: owned::labels("r1", "s"),
                pins: BTreeMap::from([("edition.cnn.com".to_owned(), "10.1.0.7".to_owned())]),
                egress: vec!["./*".to_owned()],
                live: false,
            }
        }

        fn all(&self, yaml: &str) -> Vec<Resource> {
            let RelocationCase { places, labels, pins, egress, live } = self;
            let marker = [MARKER.to_owned()];
            let ground = Ground { places, labels, pins, egress, marker: &marker, live: *live };
            let read = manifest::read("test", yaml, "default").unwrap();
            read.iter().flat_map(|r| relocate(r, &ground)).collect()
        }

        fn one(&self, kind: &str, spec: &Value) -> Resource {
            let yaml = json!({"apiVersion": "networking.istio.io/v1", "kind": kind,
                              "metadata": {"name": "n"}, "spec": spec});
            self.all(&yaml.to_string()).remove(0)
        }
    }

    #[test]
    fn every_resource_moves_to_the_runs_namespace_and_has_its_labels() {
        let secret = RelocationCase::new().all(
            "{apiVersion: v1, kind: Secret, metadata: {name: c, namespace: istio-system}, stringData: {a: \
             b}}",
        );
        assert_eq!(secret[0].namespace(), "mp-r1-s-gateways");
        assert_eq!(secret[0].0["metadata"]["labels"][owned::RUN], "r1");
        assert_eq!(secret[0].0["stringData"]["a"], "b");
    }

    #[test]
    fn destinations_hosts_and_gateways_of_a_virtual_service_move_and_external_hosts_stay() {
        let spec = json!({
            "hosts": ["edition.cnn.com", "details.default.svc.cluster.local"],
            "gateways": ["own", "default/other", "mesh"],
            "http": [{
                "match": [{"gateways": ["istio-system/g", "mesh"], "port": 80}],
                "route": [
                    {"destination": {"host": "istio-egressgateway.istio-system.svc.cluster.local", "subset":
                        "cnn"}},
                    {"destination": {"host": "welcome"}},
                ],
            }],
        });
        let moved = RelocationCase::new().one("VirtualService", &spec);
        let spec = moved.spec();
        assert_eq!(spec["hosts"], json!(["edition.cnn.com", "details.mp-r1-s-default.svc.cluster.local"]));
        assert_eq!(spec["gateways"], json!(["own", "mp-r1-s-default/other", "mesh"]));
        assert_eq!(spec["http"][0]["match"][0]["gateways"], json!(["mp-r1-s-gateways/g", "mesh"]));
        let host = |n: usize| spec["http"][0]["route"][n]["destination"]["host"].clone();
        assert_eq!(host(0), "istio-egressgateway.mp-r1-s-gateways.svc.cluster.local");
        assert_eq!(host(1), "welcome");
    }

    #[test]
    fn a_resource_without_export_to_is_exported_to_the_scenarios_namespaces() {
        let all = json!(["mp-r1-s-default", "mp-r1-s-gateways"]);
        for (kind, spec) in [
            ("VirtualService", json!({"hosts": ["a.example"]})),
            ("DestinationRule", json!({"host": "a.example"})),
            ("ServiceEntry", json!({"hosts": ["a.example"], "resolution": "DNS"})),
        ] {
            assert_eq!(RelocationCase::new().one(kind, &spec).spec()["exportTo"], all, "{kind}");
        }
    }

    #[test]
    fn a_rule_for_selected_workloads_is_exported_only_to_its_own_namespace() {
        let spec = json!({"host": "a.example", "workloadSelector": {"matchLabels": {"app": "sleep"}}});
        assert_eq!(RelocationCase::new().one("DestinationRule", &spec).spec()["exportTo"], json!(["."]));
        let exported = |to: Value| {
            let mut spec = spec.clone();
            spec["exportTo"] = to;
            RelocationCase::new().one("DestinationRule", &spec).spec()["exportTo"].clone()
        };
        assert_eq!(exported(json!(["."])), json!(["."]));
        assert_eq!(exported(json!(["default"])), json!(["mp-r1-s-default"]));
        // Refused by Istio as it is printed, and as it is applied.
        assert_eq!(exported(json!(["*"])), json!(["mp-r1-s-default", "mp-r1-s-gateways"]));
    }

    #[test]
    fn the_export_to_of_a_document_is_mapped_and_not_widened() {
        let exported = |to: Value| {
            let spec = json!({"host": "a.example", "exportTo": to});
            RelocationCase::new().one("DestinationRule", &spec).spec()["exportTo"].clone()
        };
        assert_eq!(exported(json!(["."])), json!(["."]));
        assert_eq!(exported(json!(["istio-system"])), json!(["mp-r1-s-gateways"]));
        assert_eq!(exported(json!(["default", "*"])), json!(["mp-r1-s-default", "mp-r1-s-gateways"]));
    }

    #[test]
    fn a_gateway_selects_the_scenarios_own_pods_or_installed_ones_as_printed() {
        let spec = json!({"selector": {"istio": "egressgateway"}, "servers": [
            {"port": {"number": 80, "name": "h", "protocol": "HTTP"}, "hosts": ["edition.cnn.com",
                "default/a.example", "*/b"]}]});
        let moved = RelocationCase::new().one("Gateway", &spec);
        let selector = &moved.spec()["selector"];
        assert_eq!(selector["istio"], "egressgateway");
        assert_eq!((&selector[owned::RUN], &selector[owned::SCENARIO]), (&json!("r1"), &json!("s")));
        let hosts = &moved.spec()["servers"][0]["hosts"];
        assert_eq!(hosts, &json!(["edition.cnn.com", "mp-r1-s-default/a.example", "*/b"]));
        let installed = Gateways::Installed { namespace: "istio-system".to_owned() };
        let moved = RelocationCase::with(&installed).one("Gateway", &spec);
        assert_eq!(moved.spec()["selector"], json!({"istio": "egressgateway"}));
    }

    #[test]
    fn an_external_host_leads_to_the_suites_pod_with_hosts_ports_and_resolution_as_printed() {
        let spec = json!({"hosts": ["edition.cnn.com"], "resolution": "DNS",
                          "ports": [{"number": 80, "name": "http", "protocol": "HTTP", "targetPort": 443}]});
        let moved = RelocationCase::new().one("ServiceEntry", &spec);
        assert_eq!(moved.name(), "n");
        for field in ["hosts", "resolution", "ports"] {
            assert_eq!(moved.spec()[field], spec[field]);
        }
        assert_eq!(moved.spec()["endpoints"], json!([{"address": "10.1.0.7"}]));
    }

    #[test]
    fn an_entry_of_several_hosts_becomes_one_per_host_and_an_unknown_host_leads_nowhere() {
        let yaml = "{apiVersion: networking.istio.io/v1, kind: ServiceEntry, metadata: {name: two},
                     spec: {hosts: [edition.cnn.com, other.example], resolution: DNS}}";
        let entries = RelocationCase::new().all(yaml);
        let seen: Vec<_> = entries.iter().map(|e| (e.name(), &e.spec()["endpoints"][0]["address"])).collect();
        assert_eq!(
            seen,
            [("two-edition-cnn-com", &json!("10.1.0.7")), ("two-other-example", &json!(NOWHERE))]
        );
    }

    #[test]
    fn a_live_run_leaves_external_hosts_as_printed_and_exports_them_only_to_the_scenario() {
        let world = RelocationCase { live: true, ..RelocationCase::new() };
        let printed = json!({"hosts": ["edition.cnn.com", "other.example"], "resolution": "DNS",
                             "ports": [{"number": 80, "name": "http", "protocol": "HTTP", "targetPort":
                                 443}]});
        let mut expected = printed.clone();
        expected["exportTo"] = json!(["mp-r1-s-default", "mp-r1-s-gateways"]);
        assert_eq!(world.one("ServiceEntry", &printed).0["spec"], expected);
    }

    #[test]
    fn a_documents_sidecar_replaces_the_suites_own_and_imports_what_the_scenario_created() {
        let moved = RelocationCase::new()
            .one("Sidecar", &json!({"outboundTrafficPolicy": {"mode": "REGISTRY_ONLY"}}));
        assert_eq!(moved.name(), SIDECAR);
        assert_eq!(moved.spec()["egress"], json!([{"hosts": ["./*"]}]));
        assert_eq!(moved.spec()["outboundTrafficPolicy"]["mode"], "REGISTRY_ONLY");
    }

    #[test]
    fn a_documents_list_of_hosts_does_not_hide_the_marker() {
        let case = RelocationCase::new();
        let narrow = case.one("Sidecar", &json!({"egress": [{"hosts": ["./dns.example"]}]}));
        assert_eq!(narrow.spec()["egress"], json!([{"hosts": ["./dns.example", MARKER]}]));
        assert_eq!(narrow.spec()["outboundTrafficPolicy"]["mode"], "ALLOW_ANY");
        let port = json!({"port": {"number": 80}, "hosts": ["./dns.example"]});
        let of_a_port = case.one("Sidecar", &json!({"egress": [port]}));
        assert_eq!(of_a_port.spec()["egress"], json!([port, {"hosts": [MARKER]}]));
    }
}
