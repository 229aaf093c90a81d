//! The configuration as the data planes on this machine carry it out, and what is left out of it.

use std::collections::{BTreeMap, BTreeSet};

use meshproof_model::{Resource, ResourceId};
use serde_json::Value;

use crate::flows;
use crate::raw;
use crate::world::World;

/// The resources of a proof, and what they lack, in words.
pub(crate) struct Copy {
    pub(crate) resources: Vec<Resource>,
    pub(crate) left_out: Vec<String>,
}

/// Istio's resources without those that istiod refuses, that the plan does not carry out, or that concern another namespace than
/// the one that is verified; and without servers and copies of requests that the data planes do not carry out.
pub(crate) fn copy(world: &World, resources: &[Resource]) -> Copy {
    let mut left_out = Vec::new();
    let mut refused: BTreeSet<&ResourceId> = BTreeSet::new();
    for verdict in &world.verdicts {
        if verdict.refused.is_some() || !verdict.unsupported.is_empty() {
            refused.insert(&verdict.resource);
        }
    }
    let istio = |r: &&Resource| r.api_version().contains(".istio.io/");
    let of_proof = resources.iter().filter(istio).filter(|r| !refused.contains(&r.id()));
    let mut kept = Vec::new();
    for resource in of_proof.filter(|r| flows::has_part(world, r)) {
        let mut resource = resource.clone();
        let id = resource.id();
        match id.kind.as_str() {
            "Gateway" => {
                for (port, file) in without_files(&mut resource.0) {
                    left_out.push(format!("{id}, port {port}: {file} is on the gateway's own disk"));
                }
                if raw::items(&resource.0, "/spec/servers").is_empty() {
                    continue;
                }
            }
            "VirtualService" if without_mirrors(&mut resource.0) => {
                left_out.push(format!("{id}: copies of requests (mirror) are not sent on this machine"));
            }
            _ => {}
        }
        kept.push(resource);
    }
    Copy { resources: kept, left_out }
}

/// Removes the servers whose certificates or CAs are files; their ports, and one file of each.
fn without_files(gateway: &mut Value) -> BTreeMap<u16, String> {
    let mut ports = BTreeMap::new();
    let servers = gateway.pointer_mut("/spec/servers").and_then(Value::as_array_mut);
    if let Some(servers) = servers {
        servers.retain(|server| {
            if !matches!(raw::text(server, "/tls/mode"), "SIMPLE" | "MUTUAL" | "OPTIONAL_MUTUAL") {
                return true;
            }
            let places =
                ["/tls/serverCertificate", "/tls/tlsCertificates/0/serverCertificate", "/tls/caCertificates"];
            let by_name = !raw::text(server, "/tls/credentialName").is_empty()
                || !raw::items(server, "/tls/credentialNames").is_empty();
            let file = places.into_iter().map(|at| raw::text(server, at)).find(|file| !file.is_empty());
            match file.filter(|_| !by_name) {
                Some(file) => {
                    ports.extend(raw::port(server, "/port/number").map(|port| (port, file.to_owned())));
                    false
                }
                None => true,
            }
        });
    }
    ports
}

/// Removes mirrors; whether there were any.
fn without_mirrors(service: &mut Value) -> bool {
    let mut any = false;
    let routes = service.pointer_mut("/spec/http").and_then(Value::as_array_mut);
    for route in routes.into_iter().flatten().filter_map(Value::as_object_mut) {
        for field in ["mirror", "mirrors", "mirrorPercent", "mirror_percent", "mirrorPercentage"] {
            any |= route.remove(field).is_some();
        }
    }
    any
}
