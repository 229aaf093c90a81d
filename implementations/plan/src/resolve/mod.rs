//! From resources to a plan, by Istio's rules. Where a rule is named, it is a function of Istio 1.32 (development branch of
//! August 2026), with the file that holds it.

mod cidr;
mod clusters;
mod context;
mod credentials;
mod destination_rules;
mod entry_addresses;
mod gateway_merge;
mod gateways;
mod inbound;
mod input;
mod listeners;
mod local;
mod peer_authentication;
mod registry;
mod routes;
mod scope;
mod virtual_hosts;
mod virtual_services;
mod visibility;

pub use credentials::secret_of;
pub use input::{
    Endpoint, Inbound, Input, MeshConfig, OutboundPolicy, Proxy, ProxyKind, Resolution, RetryPolicy, Service,
    ServicePort, Workload,
};

use self::context::Context;
use self::destination_rules::DestinationRules;
use self::registry::Registry;
use self::scope::Scope;
use self::virtual_services::VirtualServices;
use crate::mesh::ProxyConfig;
use crate::model::Role;
use crate::rejected::Rejected;
use crate::resources::{Resources, Verdict};

/// Resolves the resources to a plan for each running proxy.
///
/// A sidecar has a listener for each port that is captured, whatever the resources say; a gateway has one only where a
/// Gateway resource has a server. A route may name a cluster that the plan does not hold: no such service, port or
/// subset. Requests for it get 503, `NC`.
///
/// # Errors
/// The first resource that istiod's validation would refuse, or that asks for something the plan does not carry out.
pub fn resolve(input: &Input<'_>) -> Result<Resolution, Rejected> {
    let resources = Resources::read(input.resources);
    resources.accepted()?;
    Ok(resolved(input, &resources))
}

/// What istiod makes of the resources, also where a plan on one machine would not carry it out.
#[derive(Clone, Debug, Default)]
pub struct Description {
    /// One per resource that istiod looks at, in their order.
    pub verdicts: Vec<Verdict>,
    /// Absent where istiod refuses a resource.
    pub resolution: Option<Resolution>,
}

/// Describes what istiod makes of the resources. It refuses nothing: what the plan does not carry out is among the
/// verdicts.
#[must_use]
pub fn describe(input: &Input<'_>) -> Description {
    let resources = Resources::read(input.resources);
    let refused = resources.verdicts.iter().any(|v| v.refused.is_some());
    let resolution = (!refused).then(|| resolved(input, &resources));
    Description { verdicts: resources.verdicts, resolution }
}

fn resolved(input: &Input<'_>, resources: &Resources<'_>) -> Resolution {
    let mut resolution = Resolution { warnings: resources.notes(), ..Resolution::default() };
    let registry = Registry::new(input, resources);
    resolution.addresses = entry_addresses::by_host(&resources.service_entries);
    let mesh = input.mesh;
    let rules = DestinationRules::index(
        &resources.destination_rules,
        &mesh.root_namespace,
        &mesh.destination_rule_export_to,
        &mut resolution.warnings,
    );
    let virtual_services = VirtualServices::prepare(
        &resources.virtual_services,
        &mesh.virtual_service_export_to,
        &mut resolution.warnings,
    );
    for proxy in input.proxies {
        let scope = Scope::of(proxy, input, &registry, &resources.sidecars, &virtual_services);
        let context = Context {
            input,
            resources,
            registry: &registry,
            rules: &rules,
            virtual_services: &virtual_services,
            proxy,
            scope: &scope,
        };
        let config = proxy_config(&context, &mut resolution.warnings);
        let plan = local::plan(&context, &config, &mut resolution.warnings);
        let credentials = credentials::of_proxy(&config, &proxy.namespace, resources);
        if !credentials.is_empty() {
            resolution.credentials.insert(proxy.name.clone(), credentials);
        }
        resolution.plan.proxies.push(plan);
        resolution.proxies.push(config);
    }
    resolution
}

fn proxy_config(context: &Context<'_>, warnings: &mut Vec<String>) -> ProxyConfig {
    let proxy = context.proxy;
    let mut clusters = clusters::all(context, warnings);
    let listeners = match proxy.kind {
        ProxyKind::Sidecar => listeners::sidecar_outbound(context, warnings),
        ProxyKind::Gateway => gateways::listeners(context, warnings),
    };
    if proxy.kind == ProxyKind::Gateway {
        clusters.extend(clusters::by_server_name(context));
    }
    ProxyConfig {
        name: proxy.name.clone(),
        namespace: proxy.namespace.clone(),
        role: role(proxy),
        listeners,
        clusters,
        unmatched: local::unmatched_of(context),
    }
}

/// Which gateway it is, by the label `istio` that Istio's charts and Gateway resources use, else by its name.
fn role(proxy: &Proxy) -> Role {
    match proxy.kind {
        ProxyKind::Sidecar => Role::Sidecar,
        ProxyKind::Gateway => {
            let label = proxy.labels.get("istio").map_or(proxy.name.as_str(), String::as_str);
            if label.contains("egress") || proxy.name.contains("egress") {
                Role::EgressGateway
            } else {
                Role::IngressGateway
            }
        }
    }
}
