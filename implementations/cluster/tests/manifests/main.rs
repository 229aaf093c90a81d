//! Every manifest of every scenario and configuration, as it is applied: in snapshots, validated against
//! Istio's published custom resource definitions and Kubernetes's own types.

#![allow(clippy::unwrap_used, reason = "a test says what is wrong by panicking")]

mod in_cluster;
mod needs_embedded;
mod typed;
mod validation;

use std::collections::BTreeMap;
use std::fmt::Write as _;

use meshproof_cluster::manifests::{
    Injection, ManifestContext, gateway, mesh, namespaces, nginx, served, workload,
};
use meshproof_cluster::places::Places;
use meshproof_cluster::relocate::{Ground, NOWHERE, relocate};
use meshproof_cluster::{Gateways, Settings, owned};
use meshproof_harness::external::{
    ExternalSpec, HttpVersions, Page, PlainPort, PrivateKeyPem, Refusal, TlsPort, TlsVersions,
};
use meshproof_harness::manifest;
use meshproof_harness::scenario::Scenario;
use meshproof_harness::topology::{Topology, Workload, service_host};
use meshproof_model::Resource;
use meshproof_nginx::PodService;
use meshproof_scenarios::ALL;
use serde_json::Value;

const RUN: &str = "20260102-030405-abcd";
/// The seat whose names snapshots have.
const SEAT: &str = "seat";
const ROOTS: &str = "-----BEGIN CERTIFICATE-----\nthe suite's public CA\n-----END CERTIFICATE-----\n";

struct ScenarioManifests {
    settings: Settings,
    places: Places,
    labels: BTreeMap<String, String>,
    injection: Injection,
    live: bool,
}

impl ScenarioManifests {
    fn of(scenario: &Scenario, configuration: &str) -> Self {
        Self::with(&format!("{}-{configuration}", scenario.id()), Settings::default(), Injection::default())
    }

    fn with(seat: &str, settings: Settings, injection: Injection) -> Self {
        let places = Places::new(RUN, seat, &settings.gateways, &Topology::default());
        Self { settings, places, labels: owned::labels(RUN, seat), injection, live: false }
    }

    fn context(&self) -> ManifestContext<'_> {
        ManifestContext {
            settings: &self.settings,
            places: &self.places,
            labels: &self.labels,
            injection: &self.injection,
            live: self.live,
        }
    }

    /// Everything that is applied before the document begins.
    fn base(&self, topology: &Topology) -> Vec<Resource> {
        let context = self.context();
        let mut made = namespaces(&context, "2026-01-02T03:04:05Z", ROOTS);
        made.extend(mesh::access_logs(&context, &topology.gateways));
        made.extend([mesh::sidecar_marker(&context, NOWHERE), workload::probe(&context)]);
        made.extend(self.places.of_sidecars().map(|namespace| mesh::sidecar(&context, namespace, 0)));
        made.extend(topology.workloads.iter().flat_map(|w| workload::workload(&context, w)));
        made.extend(topology.gateways.iter().flat_map(|g| gateway::gateway(&context, g)));
        for s in &topology.services {
            let pod = PodService::same(&service_host(&s.name, &s.namespace), s.port, &s.body);
            made.extend(nginx::plain(&context, &s.namespace, &s.name, s.port, &pod).unwrap());
        }
        let gateways = (!topology.gateways.is_empty()).then_some(&self.labels);
        made.extend(mesh::marker(&context, 1, gateways, None));
        made
    }

    fn fixture(&self, yaml: &str) -> Vec<Resource> {
        let pinned = [
            "edition.cnn.com",
            "bystander.example",
            "www.googleapis.com",
            "trusted.origin.example",
            "samplebucket1234.s3.ap-southeast-2.amazonaws.com",
        ];
        let pins = (1..).zip(pinned).map(|(n, host)| (host.to_owned(), format!("10.1.0.{n}"))).collect();
        let egress = mesh::egress(&self.context(), self.places.of("default"), 1);
        let marker = mesh::marker_hosts(&self.context(), 1);
        let (places, labels) = (&self.places, &self.labels);
        let ground =
            Ground { places, labels, pins: &pins, egress: &egress, marker: &marker, live: self.live };
        let read = manifest::read("fixture", yaml, "default").unwrap();
        read.iter().flat_map(|r| relocate(r, &ground)).collect()
    }
}

fn yaml(resources: &[Resource]) -> String {
    let mut text = String::new();
    for resource in resources {
        let _infallible = write!(text, "---\n{}", manifest::to_yaml(resource));
    }
    text
}

/// Each scenario and configuration, with everything that is applied for it.
fn everything() -> Vec<(String, Vec<Resource>)> {
    let mut all = Vec::new();
    for scenario in ALL.iter() {
        for configuration in &scenario.catalogue.configurations {
            let world = ScenarioManifests::of(scenario, &configuration.id);
            let mut resources = world.base(scenario.topology_of(&configuration.id));
            for (_, yaml) in scenario.fixtures.manifests() {
                resources.extend(world.fixture(yaml));
            }
            all.push((format!("{}-{}", scenario.id(), configuration.id), resources));
        }
    }
    all.extend(live().into_iter().map(|(name, resources)| (format!("live {name}"), resources)));
    let sample = ScenarioManifests::with("sample", Settings::default(), Injection::default());
    all.push(("external".to_owned(), external(&sample)));
    all.push(("canary".to_owned(), canary(&sample)));
    all.push(("suite's own image".to_owned(), of_the_suite(&with_suite_image())));
    all
}

fn with_suite_image() -> ScenarioManifests {
    let images = BTreeMap::from([("suite".to_owned(), "registry.example/meshproof:1".to_owned())]);
    ScenarioManifests::with("sample", Settings { images, ..Settings::default() }, Injection::default())
}

/// Pods of the suite's own image.
fn of_the_suite(world: &ScenarioManifests) -> Vec<Resource> {
    let context = world.context();
    let sleep = &ALL.iter().find(|s| s.id() == "egress-gateway-simple").unwrap().topology.workloads[0];
    let mut made = vec![served::external(&context, 1), workload::probe(&context)];
    made.extend(workload::workload(&context, sleep));
    made
}

#[test]
fn pods_of_the_suites_own_image() {
    let world = with_suite_image();
    insta::assert_snapshot!(redacted(&world, &of_the_suite(&world)));
}

fn external(world: &ScenarioManifests) -> Vec<Resource> {
    let spec = ExternalSpec {
        aliases: Vec::new(),
        host: "my-nginx.mesh-external.svc.cluster.local".to_owned(),
        plain: PlainPort::RedirectToHttps,
        tls: Some(TlsPort {
            certificate: "a certificate".to_owned(),
            key: PrivateKeyPem("a key".to_owned()),
            client_ca: Some("a CA".to_owned()),
            refusal: Refusal::Http400,
            versions: TlsVersions::Both,
            http: HttpVersions::Both,
            by_name: Vec::new(),
        }),
        ipv6: false,
        tcp: Vec::new(),
        pages: vec![Page {
            path: "/".to_owned(),
            content_type: "text/html".into(),
            body: "Welcome to nginx!".to_owned(),
        }],
        keep_alive: true,
    };
    let context = world.context();
    let mut made = nginx::external(&context, &PodService::external(spec), 1).unwrap();
    made.push(mesh::pin(&context, "my-nginx.mesh-external.svc.cluster.local", "10.1.0.9", &[80, 443]));
    made
}

#[test]
fn everything_applied_before_a_document_begins() {
    for (name, topology) in topologies() {
        let world = ScenarioManifests::with(SEAT, Settings::default(), Injection::default());
        insta::assert_snapshot!(format!("base-{name}"), redacted(&world, &world.base(topology)));
    }
}

#[test]
fn a_workload_in_a_further_namespace_has_a_sidecar_that_imports_the_scenario() {
    let topology = Topology::default()
        .workload(Workload::sleep())
        .workload(Workload::new("payments").in_namespace("payments"));
    let mut world = ScenarioManifests::with(SEAT, Settings::default(), Injection::default());
    world.places = Places::new(RUN, SEAT, &world.settings.gateways, &topology);
    let own = world.places.of("payments").to_owned();
    let of_payments = |r: &&Resource| r.namespace() == own && !matches!(r.kind(), "ConfigMap" | "Deployment");
    let made: Vec<Resource> = world.base(&topology).iter().filter(of_payments).cloned().collect();
    insta::assert_snapshot!(redacted(&world, &made).replace(&own, "PAYMENTS"));
}

/// Each topology that a scenario has, once, named after its parts.
fn topologies() -> BTreeMap<String, &'static Topology> {
    let mut all: BTreeMap<String, &Topology> = BTreeMap::new();
    // Nothing is applied for a scenario whose external services a cluster does not have.
    for scenario in ALL.iter().filter(|scenario| !scenario.catalogue.needs_embedded) {
        for configuration in &scenario.catalogue.configurations {
            let topology = scenario.topology_of(&configuration.id);
            let workloads = topology.workloads.iter().map(|w| w.name.as_str());
            let gateways = topology.gateways.iter().map(|g| g.name.as_str());
            let services = topology.services.iter().map(|s| s.name.as_str());
            let name: Vec<&str> = workloads.chain(gateways).chain(services).collect();
            // What a workload dials is not in its manifests; its labels are.
            let world = ScenarioManifests::with(SEAT, Settings::default(), Injection::default());
            let made = |topology: &Topology| yaml(&world.base(topology));
            if all.values().any(|known| made(known) == made(topology)) {
                continue;
            }
            let mut name = name.join("-");
            if all.contains_key(&name) {
                name = format!("{name}-of-{}", scenario.id());
            }
            assert!(all.insert(name, topology).is_none(), "two topologies of {}", scenario.id());
        }
    }
    all
}

/// What the cluster changes in each document: one line per field that the document does not have or has with another value. Moving
/// to the scenario's namespaces, its labels and its visibility are the same for every resource, and
/// [`every_resource_of_a_document_moves_alike`] holds them.
#[test]
fn the_documents_resources_as_they_are_applied() {
    for scenario in ALL.iter() {
        let world = ScenarioManifests::with(SEAT, Settings::default(), Injection::default());
        let mut text = String::new();
        for (stem, yaml) in scenario.fixtures.manifests() {
            let changes =
                documented(yaml).iter().map(|document| changes(&world, document)).collect::<String>();
            if !changes.is_empty() {
                let _infallible = write!(text, "# {stem}\n{changes}");
            }
        }
        insta::assert_snapshot!(format!("documents-{}", scenario.id()), places_redacted(&world, &text));
    }
}

fn documented(yaml: &str) -> Vec<Resource> {
    manifest::read("fixture", yaml, "default").unwrap()
}

/// The fields that a document's resource has otherwise when it is applied.
fn changes(world: &ScenarioManifests, document: &Resource) -> String {
    let mut text = String::new();
    for applied in world.fixture(&manifest::to_yaml(document)) {
        let (before, after) = (fields(&document.0), fields(&applied.0));
        let mut changed = String::new();
        for (path, value) in &after {
            if before.get(path) != Some(value) && !is_uniform(path) {
                let _infallible = writeln!(changed, "  {path}: {value}");
            }
        }
        for path in before.keys().filter(|path| !after.contains_key(*path) && !is_uniform(path)) {
            let _infallible = writeln!(changed, "  {path}: (removed)");
        }
        if !changed.is_empty() {
            let _infallible = write!(text, "{} {}\n{changed}", applied.kind(), applied.name());
        }
    }
    text
}

fn is_uniform(path: &str) -> bool {
    ["/metadata/namespace", "/metadata/labels/", "/spec/exportTo/"].iter().any(|part| path.starts_with(part))
}

/// The scalars of a value by their paths.
fn fields(value: &Value) -> BTreeMap<String, Value> {
    fn collect(value: &Value, path: &str, all: &mut BTreeMap<String, Value>) {
        match value {
            Value::Object(object) => {
                object.iter().for_each(|(key, value)| collect(value, &format!("{path}/{key}"), all));
            }
            Value::Array(list) => {
                list.iter().enumerate().for_each(|(n, value)| collect(value, &format!("{path}/{n}"), all));
            }
            scalar @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_)) => {
                drop(all.insert(path.to_owned(), scalar.clone()))
            }
        }
    }
    let mut all = BTreeMap::new();
    collect(value, "", &mut all);
    all
}

#[test]
fn every_resource_of_a_document_moves_alike() {
    for scenario in ALL.iter() {
        let world = ScenarioManifests::with(SEAT, Settings::default(), Injection::default());
        for (stem, yaml) in scenario.fixtures.manifests() {
            for resource in world.fixture(yaml) {
                let what = format!("{}/{stem}: {}", scenario.id(), resource.id());
                for (key, value) in &world.labels {
                    assert_eq!(resource.0["metadata"]["labels"][key], *value, "{what}");
                }
                let seen_by = resource.spec()["exportTo"].as_array().into_iter().flatten();
                for namespace in seen_by.filter_map(Value::as_str) {
                    let own = namespace == "." || world.places.of_proxies().contains(&namespace);
                    assert!(own, "{what} is visible in {namespace}");
                }
                let visible = resource.spec().get("exportTo").is_some();
                let shared = matches!(resource.kind(), "ServiceEntry" | "VirtualService" | "DestinationRule");
                assert_eq!(visible, shared, "{what}");
            }
        }
    }
}

/// The YAML without what every resource has: the run's labels, and its namespaces by their purpose.
fn redacted(world: &ScenarioManifests, resources: &[Resource]) -> String {
    let bare = resources.iter().map(|resource| {
        let mut resource = resource.clone();
        if let Some(labels) = resource.0["metadata"]["labels"].as_object_mut() {
            labels.retain(|key, _| !world.labels.contains_key(key));
        }
        resource
    });
    places_redacted(world, &yaml(&bare.collect::<Vec<_>>()))
}

fn places_redacted(world: &ScenarioManifests, text: &str) -> String {
    text.replace(world.places.of("default"), "APPLICATIONS")
        .replace(world.places.of("istio-system"), "GATEWAYS")
        .replace(world.places.outside(), "OUTSIDE")
}

/// The marker for proxies without a dump.
fn canary(world: &ScenarioManifests) -> Vec<Resource> {
    let (context, host) = (world.context(), mesh::CANARY);
    let service = PodService::same(host, mesh::MARKER_PORT, host);
    let mut made = nginx::plain(&context, "", host, mesh::MARKER_PORT, &service).unwrap();
    made.push(mesh::sidecar_marker(&context, "10.1.0.9"));
    made.extend(mesh::marker(&context, 7, Some(&world.labels), Some("10.1.0.9")));
    made
}

#[test]
fn a_marker_with_canary_requests() {
    let world = ScenarioManifests::with("sample", Settings::default(), Injection::default());
    insta::assert_snapshot!(yaml(&canary(&world)));
}

/// The scenarios that support live runs, as applied in one: no pinned host, and no authority of the suite.
fn live() -> Vec<(String, Vec<Resource>)> {
    let mut all = Vec::new();
    for scenario in ALL.iter().filter(|s| !s.catalogue.live.is_empty()) {
        for configuration in &scenario.catalogue.configurations {
            let world =
                ScenarioManifests { live: true, ..ScenarioManifests::of(scenario, &configuration.id) };
            let mut resources = world.base(scenario.topology_of(&configuration.id));
            for (_, yaml) in scenario.fixtures.manifests() {
                resources.extend(world.fixture(yaml));
            }
            all.push((format!("{}-{}", scenario.id(), configuration.id), resources));
        }
    }
    all
}

#[test]
fn a_live_run_as_it_is_applied() {
    let scenario = ALL.iter().find(|s| s.id() == "egress-gateway-simple").unwrap();
    let world = ScenarioManifests { live: true, ..ScenarioManifests::of(scenario, "simple") };
    let mut resources = world.base(scenario.topology_of("simple"));
    resources.extend(scenario.fixtures.manifests().flat_map(|(_, yaml)| world.fixture(yaml)));
    insta::assert_snapshot!(redacted(&world, &resources));
}

#[test]
fn a_live_run_pins_no_external_host_and_replaces_no_authorities() {
    let everything = live();
    assert_eq!(everything.len(), 4);
    for (name, resources) in everything {
        let text = yaml(&resources);
        for absent in ["meshproof-roots", "ca-certificates.crt", "10.1.0.", "userVolume"] {
            assert!(!text.contains(absent), "{absent} in {name}");
        }
        let outside = |r: &&Resource| r.kind() == "ServiceEntry" && r.spec()["resolution"] == "DNS";
        let entries: Vec<_> = resources.iter().filter(outside).collect();
        assert!(!entries.is_empty(), "{name}");
        for entry in entries {
            assert!(entry.spec().get("endpoints").is_none(), "{name}: {}", manifest::to_yaml(entry));
            assert_eq!(entry.spec()["exportTo"].as_array().map(Vec::len), Some(2), "{name}");
        }
    }
}

#[test]
fn an_external_service() {
    let world = ScenarioManifests::with("sample", Settings::default(), Injection::default());
    insta::assert_snapshot!(yaml(&external(&world)));
}

#[test]
fn a_revision_private_images_and_installed_gateways() {
    let settings = Settings {
        gateways: Gateways::Installed { namespace: "istio-ingress".to_owned() },
        images: BTreeMap::from([("workload".to_owned(), "registry.example/curl@sha256:00".to_owned())]),
        pull_policy: Some("Never".to_owned()),
        pull_secrets: vec!["registry".parse().unwrap()],
        ..Settings::default()
    };
    let world = ScenarioManifests::with("sample", settings, Injection::revision("canary"));
    let scenario = ALL.iter().find(|s| s.id() == "egress-gateway-simple").unwrap();
    let context = world.context();
    let mut made = namespaces(&context, "2026-01-02T03:04:05Z", ROOTS);
    made.push(workload::probe(&context));
    let gateways = &scenario.topology.gateways;
    made.extend(mesh::access_logs(&context, gateways));
    made.extend(mesh::marker(&context, 1, Some(&gateways[0].labels), None));
    for (_, text) in scenario.fixtures.manifests() {
        made.extend(world.fixture(text));
    }
    insta::assert_snapshot!(yaml(&made));
}

#[test]
fn every_name_has_an_allowed_length() {
    for (name, resources) in everything() {
        for resource in &resources {
            let longest = if resource.kind() == "Namespace" { 63 } else { 253 };
            assert!(resource.name().len() <= longest, "{name}: {}", resource.id());
            let labels = resource.0["metadata"]["labels"].as_object().unwrap();
            for key in [owned::RUN, owned::SCENARIO] {
                let value = labels[key].as_str().unwrap();
                assert!(value.len() <= 63 && !value.is_empty(), "{name}: {}", resource.id());
            }
        }
    }
}

#[test]
fn nothing_is_applied_outside_the_scenarios_own_namespaces() {
    for scenario in ALL.iter() {
        for configuration in &scenario.catalogue.configurations {
            let world = ScenarioManifests::of(scenario, &configuration.id);
            let mut resources = world.base(scenario.topology_of(&configuration.id));
            for (_, text) in scenario.fixtures.manifests() {
                resources.extend(world.fixture(text));
            }
            for resource in resources {
                assert!(world.places.own().contains(&resource.namespace()), "{}", resource.id());
            }
        }
    }
}
