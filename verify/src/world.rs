//! The mesh that the user's files describe, completed by what every such mesh has, and its plan.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use meshproof_model::{Resource, ResourceId};
use meshproof_plan::cluster_state::ClusterState;
use meshproof_plan::mesh::ProxyConfig;
use meshproof_plan::model::{Credential, ProxyPlan, Role};
use meshproof_plan::{Proxy, ProxyKind, Verdict, describe, hosts};
use serde_json::{Value, json};

use crate::assumed::{assumed_services, proxies};
use crate::raw::{self, ClusterName, covers};
use crate::request::RouteOf;
use crate::scope::Scope;

/// The mesh and its plan.
pub(crate) struct World {
    pub(crate) state: ClusterState,
    pub(crate) plans: Vec<ProxyPlan>,
    pub(crate) configs: Vec<ProxyConfig>,
    pub(crate) credentials: BTreeMap<String, Vec<Credential>>,
    /// What istiod says of each resource.
    pub(crate) verdicts: Vec<Verdict>,
    /// What is taken to be there, for people.
    pub(crate) assumed: Vec<String>,
    /// Services that are taken to be there.
    pub(crate) assumed_services: BTreeSet<ResourceId>,
    /// Pod address to gateway.
    gateways: BTreeMap<String, usize>,
    /// The VirtualServices by the number in their routes' names.
    tagged: Vec<ResourceId>,
    /// The places of ServiceEntries in the resources, by host.
    by_host: HashMap<String, Vec<usize>>,
    /// The hosts of ServiceEntries that begin with `*`.
    wildcards: Vec<String>,
    by_id: HashMap<ResourceId, usize>,
    /// What of it is judged.
    pub(crate) scope: Scope,
}

impl World {
    /// The mesh of these resources. What istiod refuses is left out of it.
    pub(crate) fn new(resources: &[Resource], scope: &Scope) -> Self {
        Self::with(resources, scope, None)
    }

    /// The same with the gateways and one sidecar alone, which costs less.
    pub(crate) fn for_proxy(resources: &[Resource], scope: &Scope, only: &str) -> Self {
        Self::with(resources, scope, Some(only))
    }

    fn with(resources: &[Resource], scope: &Scope, only: Option<&str>) -> Self {
        let mut all = resources.to_vec();
        all.iter_mut().for_each(settings_as_json);
        let mut assumed = Vec::new();
        let services = if scope.whole { Vec::new() } else { assumed_services(&all, &mut assumed) };
        let assumed_services = services.iter().map(Resource::id).collect();
        // They are older than everything that refers to them.
        let mut complete = services;
        complete.append(&mut all);
        let mut state = ClusterState::from_resources(&complete);
        state.proxies = proxies(&state, scope, &mut assumed);
        if let Some(only) = only {
            state.proxies.retain(|p| p.kind == ProxyKind::Gateway || p.name == only);
        }
        let verdicts = describe(&meshproof_plan::Input { proxies: &[], ..state.input() }).verdicts;
        let refused: BTreeSet<ResourceId> =
            verdicts.iter().filter(|v| v.refused.is_some()).map(|v| v.resource.clone()).collect();
        state.resources.retain(|r| !refused.contains(&r.id()));
        let tagged = tag_routes(&mut state.resources);
        let resolution = describe(&state.input()).resolution.unwrap_or_default();
        let gateways = gateway_addresses(&state);
        let mut by_host: HashMap<String, Vec<usize>> = HashMap::new();
        for (i, resource) in state.resources.iter().enumerate() {
            if resource.kind() == "ServiceEntry" {
                for host in raw::texts(&resource.0, "/spec/hosts") {
                    by_host.entry(host.to_owned()).or_default().push(i);
                }
            }
        }
        let by_id = state.resources.iter().enumerate().map(|(i, r)| (r.id(), i)).collect();
        let wildcards = by_host.keys().filter(|h| hosts::is_wildcard(h)).cloned().collect();
        Self {
            plans: resolution.plan.proxies,
            configs: resolution.proxies,
            credentials: resolution.credentials,
            state,
            verdicts,
            assumed,
            assumed_services,
            gateways,
            tagged,
            by_host,
            wildcards,
            by_id,
            scope: scope.clone(),
        }
    }

    pub(crate) fn resources(&self) -> &[Resource] {
        &self.state.resources
    }

    /// The resource of an id.
    pub(crate) fn get(&self, id: &ResourceId) -> Option<&Resource> {
        self.by_id.get(id).map(|i| &self.state.resources[*i])
    }

    /// The gateway whose pod has an address.
    pub(crate) fn gateway_at(&self, address: &str) -> Option<usize> {
        self.gateways.get(address).copied()
    }

    /// Whether a host is the Service of a gateway.
    pub(crate) fn is_gateway(&self, host: &str) -> bool {
        let service = self.state.services.iter().find(|s| s.host == host);
        let mut addresses = service.into_iter().flat_map(|s| &s.ports).flat_map(|p| &p.endpoints);
        addresses.any(|e| self.gateways.contains_key(&e.address.ip().to_string()))
    }

    pub(crate) fn proxy(&self, index: usize) -> &Proxy {
        &self.state.proxies[index]
    }

    pub(crate) fn is_sidecar(&self, index: usize) -> bool {
        self.configs[index].role == Role::Sidecar
    }

    pub(crate) fn sidecars(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.configs.len()).filter(|i| self.is_sidecar(*i))
    }

    /// Where a gateway listens for a port of its Service.
    pub(crate) fn listening_port(&self, proxy: usize, port: u16) -> u16 {
        if self.is_sidecar(proxy) {
            return port;
        }
        let gateway = self.proxy(proxy);
        let services = self.state.services.iter().filter(|s| {
            s.namespace == gateway.namespace && !s.selector.is_empty() && covers(&s.selector, &gateway.labels)
        });
        let served = services.flat_map(|s| &s.ports).find(|p| p.number == port);
        served.and_then(|p| p.target_port).unwrap_or(port)
    }

    /// Which route a name of the plan stands for ([`tag_routes`]).
    pub(crate) fn route_of(&self, name: &str) -> Option<RouteOf> {
        let routes = name.split('.').next()?;
        let (service, index) = routes.split('-').next_back()?.strip_prefix("vs")?.split_once('_')?;
        let service = self.tagged.get(service.parse::<usize>().ok()?)?.clone();
        Some(RouteOf { service, index: index.parse().ok()? })
    }

    /// The ServiceEntries and Services of a host in a namespace (empty: in any).
    pub(crate) fn entries<'a>(
        &'a self,
        host: &'a str,
        namespace: &'a str,
    ) -> impl Iterator<Item = &'a Resource> + 'a {
        let places = self.by_host.get(host).into_iter().flatten();
        places
            .map(|i| &self.state.resources[*i])
            .filter(move |r| namespace.is_empty() || r.namespace() == namespace)
    }

    /// Whether a host has a service, a ServiceEntry's wildcard included.
    pub(crate) fn knows(&self, host: &str) -> bool {
        self.state.services.iter().any(|s| s.host == host)
            || self.by_host.contains_key(host)
            || self.wildcards.iter().any(|h| hosts::subset_of(host, h))
    }

    /// Whether a cluster's host is a server outside the mesh.
    pub(crate) fn is_external(&self, cluster: &str) -> bool {
        let Some(name) = ClusterName::parse(cluster) else { return true };
        let internal = |r: &Resource| raw::text(&r.0, "/spec/location") == "MESH_INTERNAL";
        !self.state.services.iter().any(|s| s.host == name.host && s.external_name.is_none())
            && !self.entries(name.host, "").any(internal)
    }
}

/// The mesh's settings are YAML inside the ConfigMap `istio`; the plan reads JSON there.
pub(crate) fn settings_as_json(resource: &mut Resource) {
    if resource.kind() != "ConfigMap" || resource.name() != "istio" {
        return;
    }
    if let Some(mesh) = resource.0.pointer_mut("/data/mesh")
        && let Some(settings) = mesh.as_str().and_then(|t| serde_saphyr::from_str::<Value>(t).ok())
    {
        *mesh = Value::from(settings.to_string());
    }
}

/// Gives each route a name by which it is recognised in the plan. Names appear in access logs and change nothing else.
fn tag_routes(resources: &mut [Resource]) -> Vec<ResourceId> {
    let mut tagged = Vec::new();
    for resource in resources {
        if resource.kind() != "VirtualService" {
            continue;
        }
        let number = tagged.len();
        tagged.push(resource.id());
        let routes = resource.0.pointer_mut("/spec/http").and_then(Value::as_array_mut);
        for (i, route) in routes.into_iter().flatten().enumerate() {
            let Some(route) = route.as_object_mut() else { continue };
            route.insert("name".to_owned(), json!(format!("vs{number}_{i}")));
            let conditions = route.get_mut("match").and_then(Value::as_array_mut);
            for (j, condition) in conditions.into_iter().flatten().enumerate() {
                if let Some(condition) = condition.as_object_mut() {
                    condition.insert("name".to_owned(), json!(format!("m{j}")));
                }
            }
        }
    }
    tagged
}

/// The addresses of the gateways' pods.
fn gateway_addresses(state: &ClusterState) -> BTreeMap<String, usize> {
    let mut found = BTreeMap::new();
    for (index, gateway) in state.proxies.iter().enumerate().filter(|(_, p)| p.kind == ProxyKind::Gateway) {
        for service in state.services.iter().filter(|s| {
            s.namespace == gateway.namespace && !s.selector.is_empty() && covers(&s.selector, &gateway.labels)
        }) {
            for endpoint in service.ports.iter().flat_map(|p| &p.endpoints) {
                found.insert(endpoint.address.ip().to_string(), index);
            }
        }
    }
    found
}
