//! A cluster from its resources alone: Services with addresses and pods, proxies, the mesh's settings.
//!
//! What the resources do not say is made up, the same way each time: Service number K, in their order, has the ClusterIP
//! 10.96.0.K and, where no Deployment or Pod matches its selector, one pod at 10.1.0.K with its selector as labels and its
//! name as service account.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use meshproof_model::{Resource, ResourceId};
use serde_json::Value;

use crate::resolve::{
    Endpoint, Input, MeshConfig, OutboundPolicy, Proxy, ProxyKind, RetryPolicy, Service, ServicePort,
    Workload,
};
use crate::resources::common::labels_match;
use crate::resources::hosts::CLUSTER_DOMAIN;

/// Everything of a cluster that decides what its proxies do, besides Istio's resources.
#[derive(Clone, Debug, Default)]
pub struct ClusterState {
    /// The resources, each once, in order of creation.
    pub resources: Vec<Resource>,
    /// The Services.
    pub services: Vec<Service>,
    /// The pods.
    pub workloads: Vec<Workload>,
    /// The proxies.
    pub proxies: Vec<Proxy>,
    /// The mesh's settings.
    pub mesh: MeshConfig,
}

impl ClusterState {
    /// Reads a cluster from resources in the order of their creation.
    #[must_use]
    pub fn from_resources(written: &[Resource]) -> Self {
        let resources = in_order(written);
        let mesh = mesh_config(&resources);
        let mut state = Self { resources, mesh, ..Self::default() };
        let templates = templates(&state.resources);
        for (created, resource) in state.resources.iter().enumerate() {
            if resource.api_version() == "v1" && resource.kind() == "Service" {
                let number = state.services.len() + 1;
                let (service, pods) = service(resource, created, number, &templates, &state.mesh);
                state.services.push(service);
                for pod in pods {
                    if !state.workloads.iter().any(|w| w.address == pod.address) {
                        state.workloads.push(pod);
                    }
                }
            }
        }
        state.proxies = proxies(&state, &templates);
        state
    }

    /// What a plan is resolved from.
    #[must_use]
    pub fn input(&self) -> Input<'_> {
        Input {
            resources: &self.resources,
            registry: &self.services,
            workloads: &self.workloads,
            proxies: &self.proxies,
            endpoints: &[],
            mesh: &self.mesh,
        }
    }
}

/// Lists are taken apart, namespaces completed, and each resource kept once, the last one written. Where all resources have
/// a `creationTimestamp`, it decides over their order; otherwise they were created as written.
fn in_order(written: &[Resource]) -> Vec<Resource> {
    let mut all = Each::default();
    for resource in written {
        let is_list = resource.kind().ends_with("List") && resource.0.get("items").is_some();
        let items = resource.0.get("items").and_then(Value::as_array).filter(|_| is_list);
        match items {
            Some(items) => items.iter().cloned().for_each(|item| all.add(Resource(item))),
            None => all.add(resource.clone()),
        }
    }
    let mut all = all.resources;
    let created = |r: &Resource| {
        r.0.pointer("/metadata/creationTimestamp").and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    if all.iter().all(|r| !created(r).is_empty()) {
        all.sort_by_key(|r| (created(r), r.name().to_owned(), r.namespace().to_owned()));
    }
    all
}

/// Resources, each once.
#[derive(Default)]
struct Each {
    resources: Vec<Resource>,
    places: HashMap<(ResourceId, String), usize>,
}

impl Each {
    fn add(&mut self, mut resource: Resource) {
        if let Some(metadata) = resource.0.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.entry("namespace").or_insert_with(|| Value::String("default".to_owned()));
        }
        let key = (resource.id(), resource.api_version().to_owned());
        match self.places.get(&key) {
            Some(place) => self.resources[*place] = resource,
            None => {
                self.places.insert(key, self.resources.len());
                self.resources.push(resource);
            }
        }
    }
}

/// What pods are made from.
struct Template {
    namespace: String,
    name: String,
    labels: BTreeMap<String, String>,
    account: String,
    injected: bool,
    replicas: usize,
}

fn strings(value: Option<&Value>) -> BTreeMap<String, String> {
    let fields = value.and_then(Value::as_object).into_iter().flatten();
    fields.filter_map(|(k, v)| Some((k.clone(), v.as_str()?.to_owned()))).collect()
}

/// Deployments and the like, and Pods. A sidecar is injected where the namespace or the pod asks for it.
fn templates(resources: &[Resource]) -> Vec<Template> {
    let injected_namespaces: BTreeSet<&str> = resources
        .iter()
        .filter(|r| r.kind() == "Namespace")
        .filter(|r| {
            let labels = strings(r.0.pointer("/metadata/labels"));
            labels.get("istio-injection").is_some_and(|v| v == "enabled")
                || labels.contains_key("istio.io/rev")
        })
        .map(Resource::name)
        .collect();
    resources
        .iter()
        .filter_map(|resource| {
            let (metadata, spec) = match resource.kind() {
                "Pod" => ("/metadata", "/spec"),
                "Deployment" | "StatefulSet" | "DaemonSet" => {
                    ("/spec/template/metadata", "/spec/template/spec")
                }
                _ => return None,
            };
            let labels = strings(resource.0.pointer(&format!("{metadata}/labels")));
            let annotations = strings(resource.0.pointer(&format!("{metadata}/annotations")));
            let choice = labels
                .get("sidecar.istio.io/inject")
                .or_else(|| annotations.get("sidecar.istio.io/inject"))
                .map(|v| v == "true");
            let of_namespace = injected_namespaces.contains(resource.namespace());
            let account = resource.0.pointer(&format!("{spec}/serviceAccountName")).and_then(Value::as_str);
            let replicas = resource.spec().get("replicas").and_then(Value::as_u64).unwrap_or(1);
            // A gateway asks for injection by a template of its own, which sets no tlsMode.
            let gateway = annotations.get("inject.istio.io/templates").is_some_and(|t| t == "gateway");
            Some(Template {
                namespace: resource.namespace().to_owned(),
                name: resource.name().to_owned(),
                account: account.unwrap_or("default").to_owned(),
                injected: choice.unwrap_or(of_namespace) && !gateway,
                replicas: usize::try_from(replicas).unwrap_or(1).min(100),
                labels,
            })
        })
        .collect()
}

/// A Service, and its pods.
fn service(
    resource: &Resource,
    created: usize,
    number: usize,
    templates: &[Template],
    mesh: &MeshConfig,
) -> (Service, Vec<Workload>) {
    let spec = resource.spec();
    let namespace = resource.namespace().to_owned();
    let text = |name: &str| spec.get(name).and_then(Value::as_str);
    let selector = strings(spec.get("selector"));
    let annotations = strings(resource.0.pointer("/metadata/annotations"));
    let cluster_ip = text("clusterIP").filter(|ip| !ip.is_empty());
    let external_name = text("externalName").filter(|_| text("type") == Some("ExternalName"));
    let made_up = |third: u8| {
        let [high, low] = u16::try_from(number).unwrap_or(u16::MAX).to_be_bytes();
        Ipv4Addr::new(10, third, high, low)
    };
    let identity = |account: &str| format!("spiffe://{}/ns/{namespace}/sa/{account}", mesh.trust_domain);
    let mut pods: Vec<(IpAddr, Workload)> = Vec::new();
    if !selector.is_empty() && external_name.is_none() {
        let matching: Vec<&Template> = templates
            .iter()
            .filter(|t| t.namespace == namespace && labels_match(&selector, &t.labels))
            .collect();
        let pod = |address: IpAddr, labels: BTreeMap<String, String>, account: &str| Workload {
            namespace: namespace.clone(),
            address: address.to_string(),
            labels,
            identity: Some(identity(account)),
        };
        if matching.is_empty() {
            let address = IpAddr::V4(made_up(1));
            pods.push((address, pod(address, selector.clone(), resource.name())));
        }
        for (place, template) in matching.iter().enumerate() {
            for replica in 0..template.replicas {
                let mut labels = template.labels.clone();
                if template.injected {
                    labels.insert("security.istio.io/tlsMode".to_owned(), "istio".to_owned());
                }
                let [_, low] = u16::try_from(place * 100 + replica).unwrap_or(u16::MAX).to_be_bytes();
                let first = place == 0 && replica == 0;
                let own = Ipv4Addr::new(10, 2, u8::try_from(number).unwrap_or(u8::MAX), low);
                let address = IpAddr::V4(if first { made_up(1) } else { own });
                pods.push((address, pod(address, labels, &template.account)));
            }
        }
    }
    let ports = spec.get("ports").and_then(Value::as_array).into_iter().flatten();
    let ports = ports.filter_map(|port| service_port(port, &pods));
    let service = Service {
        host: format!("{}.{namespace}.svc.{CLUSTER_DOMAIN}", resource.name()),
        ports: ports.collect(),
        address: match cluster_ip {
            Some("None") => None,
            Some(ip) => Some(ip.to_owned()),
            None => Some(made_up(96)).map(|ip| ip.to_string()),
        },
        headless: cluster_ip == Some("None"),
        external_name: external_name.map(str::to_owned),
        labels: strings(resource.0.pointer("/metadata/labels")),
        selector,
        export_to: annotations
            .get("networking.istio.io/exportTo")
            .map(|list| list.split(',').map(|e| e.trim().to_owned()).collect())
            .unwrap_or_default(),
        created,
        namespace,
    };
    (service, pods.into_iter().map(|(_, pod)| pod).collect())
}

fn service_port(port: &Value, pods: &[(IpAddr, Workload)]) -> Option<ServicePort> {
    let number = port.get("port").and_then(Value::as_u64).and_then(|n| u16::try_from(n).ok())?;
    let text = |name: &str| port.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    // A target port with a name is a container's; without the container it is taken for the port itself.
    let target = port.get("targetPort").and_then(Value::as_u64).and_then(|n| u16::try_from(n).ok());
    let at = target.unwrap_or(number);
    let endpoint = |(address, pod): &(IpAddr, Workload)| Endpoint {
        address: SocketAddr::new(*address, at),
        identity: pod.identity.clone(),
        mesh_tls: pod.labels.get("security.istio.io/tlsMode").is_some_and(|m| m == "istio"),
        labels: pod.labels.clone(),
    };
    Some(ServicePort {
        number,
        name: text("name"),
        protocol: text("appProtocol"),
        target_port: target,
        udp: text("protocol") == "UDP",
        endpoints: pods.iter().map(endpoint).collect(),
    })
}

/// MeshConfig of the ConfigMap `istio`, or of an IstioOperator, as far as it decides over origination. Both are YAML within
/// YAML; JSON alone is read here, and the caller translates.
fn mesh_config(resources: &[Resource]) -> MeshConfig {
    let mut mesh = MeshConfig::default();
    for resource in resources {
        let settings = match resource.kind() {
            "ConfigMap" if resource.name() == "istio" => resource
                .0
                .pointer("/data/mesh")
                .and_then(Value::as_str)
                .and_then(|t| serde_json::from_str(t).ok()),
            "IstioOperator" => resource.spec().get("meshConfig").cloned(),
            "MeshConfig" => Some(resource.0.clone()),
            _ => None,
        };
        if let Some(settings) = settings {
            apply(&mut mesh, &settings);
        }
    }
    mesh
}

fn apply(mesh: &mut MeshConfig, settings: &Value) {
    let text = |pointer: &str| settings.pointer(pointer).and_then(Value::as_str);
    let list = |name: &str| -> Option<Vec<String>> {
        let items = settings.get(name)?.as_array()?;
        Some(items.iter().filter_map(|v| v.as_str().map(str::to_owned)).collect())
    };
    match text("/outboundTrafficPolicy/mode") {
        Some("REGISTRY_ONLY") => mesh.outbound = OutboundPolicy::RegistryOnly,
        Some("ALLOW_ANY") => mesh.outbound = OutboundPolicy::AllowAny,
        Some(_) | None => {}
    }
    if let Some(domain) = text("/trustDomain") {
        domain.clone_into(&mut mesh.trust_domain);
    }
    if let Some(namespace) = text("/rootNamespace") {
        namespace.clone_into(&mut mesh.root_namespace);
    }
    mesh.h2_upgrade |= text("/h2UpgradePolicy") == Some("UPGRADE");
    if let Some(value) = settings.get("enableAutoMtls").and_then(Value::as_bool) {
        mesh.auto_mtls = value;
    }
    if let Some(policy) = settings.get("defaultHttpRetryPolicy").filter(|p| p.is_object()) {
        let attempts = policy.get("attempts").and_then(Value::as_i64).unwrap_or_default();
        mesh.retries = Some(RetryPolicy {
            attempts: i32::try_from(attempts).unwrap_or_default(),
            on: text("/defaultHttpRetryPolicy/retryOn").unwrap_or_default().to_owned(),
        });
    }
    if let Some(listed) = list("defaultServiceExportTo") {
        mesh.service_export_to = listed;
    }
    if let Some(listed) = list("defaultVirtualServiceExportTo") {
        mesh.virtual_service_export_to = listed;
    }
    if let Some(listed) = list("defaultDestinationRuleExportTo") {
        mesh.destination_rule_export_to = listed;
    }
}

/// The proxies: a gateway per Service whose selector says `istio: ...gateway` or that a Gateway resource selects; a sidecar
/// per Deployment or Pod with injection. Without any workload, `sleep` in `default` stands for all sidecars.
fn proxies(state: &ClusterState, templates: &[Template]) -> Vec<Proxy> {
    let mut all: Vec<Proxy> = Vec::new();
    let identity = |namespace: &str, account: &str| {
        format!("spiffe://{}/ns/{namespace}/sa/{account}", state.mesh.trust_domain)
    };
    let selectors: Vec<BTreeMap<String, String>> = state
        .resources
        .iter()
        .filter(|r| r.kind() == "Gateway" && r.api_version().starts_with("networking.istio.io/"))
        .map(|r| strings(r.spec().get("selector")))
        .filter(|s| !s.is_empty())
        .collect();
    for service in state.services.iter().filter(|s| !s.selector.is_empty()) {
        let name = service.host.split('.').next().unwrap_or_default();
        let labelled = service.selector.get("istio").is_some_and(|v| v.contains("gateway"));
        let selected = selectors.iter().any(|s| labels_match(s, &service.selector));
        if labelled || selected {
            let labels = state
                .workloads
                .iter()
                .find(|w| w.namespace == service.namespace && labels_match(&service.selector, &w.labels))
                .map_or_else(|| service.selector.clone(), |w| w.labels.clone());
            all.push(proxy(
                name,
                &service.namespace,
                ProxyKind::Gateway,
                labels,
                identity(&service.namespace, name),
            ));
        }
    }
    for template in templates.iter().filter(|t| t.injected) {
        let identity = identity(&template.namespace, &template.account);
        let labels = template.labels.clone();
        all.push(proxy(&template.name, &template.namespace, ProxyKind::Sidecar, labels, identity));
    }
    if !all.iter().any(|p| p.kind == ProxyKind::Sidecar) {
        let labels = BTreeMap::from([("app".to_owned(), "sleep".to_owned())]);
        all.push(proxy("sleep", "default", ProxyKind::Sidecar, labels, identity("default", "sleep")));
    }
    all
}

/// A proxy that listens nowhere on this machine.
#[must_use]
pub fn proxy(
    name: &str,
    namespace: &str,
    kind: ProxyKind,
    labels: BTreeMap<String, String>,
    identity: String,
) -> Proxy {
    Proxy {
        name: name.to_owned(),
        namespace: namespace.to_owned(),
        kind,
        labels,
        identity,
        outbound: Vec::new(),
        addressed: Vec::new(),
        inbound: Vec::new(),
        servers: Vec::new(),
    }
}
