//! Saboteurs of how servers are found, and of the resources around ServiceEntries.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use meshproof_model::Resource;
use meshproof_plan::model::{Discovery, Plan};
use tokio::net::TcpSocket;

use crate::hooks::{ProxyHooks, WantedConfig};
use crate::variants::definition::{Definition, VariantBehaviour};
use crate::variants::placement::Placement;

const BOTH: &[Placement] = &[Placement::Sidecar, Placement::EgressGateway];

pub(super) const TABLE: &[Definition] = &[
    Definition::new(
        "first-endpoint",
        "Sends all requests for a service to the first of its endpoints.",
        VariantBehaviour::Plan(first_endpoint),
    )
    .also_at(BOTH),
    Definition::new(
        "no-ipv6",
        "Connects to no server with an IPv6 address.",
        VariantBehaviour::Proxy(|_| Arc::new(NoIpv6)),
    )
    .also_at(BOTH),
    Definition::new(
        "credentials-of-another-proxy",
        "Takes a credential from where another proxy finds one of the same name.",
        VariantBehaviour::Configuration(|wanted, _, _| exchange_credentials(wanted)),
    ),
    Definition::new(
        "ignore-delegates",
        "Ignores VirtualServices without hosts, and routes that lead to them.",
        VariantBehaviour::Resources(ignore_delegates),
    ),
    Definition::new(
        "ignore-sidecars",
        "Ignores Sidecar resources.",
        VariantBehaviour::Resources(ignore_sidecars),
    ),
];

fn first_endpoint(plan: &mut Plan) {
    for cluster in plan.proxies.iter_mut().flat_map(|p| &mut p.clusters) {
        if let Discovery::Endpoints(list) = &mut cluster.discovery {
            list.truncate(1);
        }
    }
}

struct NoIpv6;

impl ProxyHooks for NoIpv6 {
    fn upstream_socket(&self, _socket: &TcpSocket, to: SocketAddr) -> io::Result<()> {
        if to.is_ipv6() { Err(io::ErrorKind::AddrNotAvailable.into()) } else { Ok(()) }
    }
}

fn exchange_credentials(wanted: &mut WantedConfig) {
    let before = wanted.credentials.clone();
    for (proxy, held) in &mut wanted.credentials {
        for credential in held {
            let others = before.iter().filter(|(other, _)| *other != proxy).flat_map(|(_, list)| list);
            if let Some(other) = others.into_iter().find(|other| other.name == credential.name) {
                *credential = other.clone();
            }
        }
    }
}

fn ignore_delegates(resources: &mut Vec<Resource>) {
    let is_virtual_service = |r: &Resource| r.kind() == "VirtualService";
    resources.retain(|r| !is_virtual_service(r) || r.spec().get("hosts").is_some());
    for resource in resources.iter_mut().filter(|r| is_virtual_service(r)) {
        if let Some(routes) = resource.0.pointer_mut("/spec/http").and_then(|routes| routes.as_array_mut()) {
            routes.retain(|route| route.get("delegate").is_none());
        }
    }
}

fn ignore_sidecars(resources: &mut Vec<Resource>) {
    resources.retain(|r| r.kind() != "Sidecar");
}
