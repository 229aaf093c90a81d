//! The configuration as the data planes on this machine carry it out, and what is left out of it.

use std::collections::BTreeSet;

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
                let ports = without_own_certificates(&mut resource.0);
                if !ports.is_empty() {
                    let ports: Vec<String> = ports.iter().map(u16::to_string).collect();
                    left_out.push(format!(
                        "{id}, port {}: a proof opens no TLS to a gateway (tls.mode SIMPLE, MUTUAL or OPTIONAL_MUTUAL)",
                        ports.join(" and ")
                    ));
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

/// Removes the servers that open clients' TLS with certificates of their own; their ports.
fn without_own_certificates(gateway: &mut Value) -> BTreeSet<u16> {
    let mut ports = BTreeSet::new();
    let servers = gateway.pointer_mut("/spec/servers").and_then(Value::as_array_mut);
    if let Some(servers) = servers {
        servers.retain(|server| {
            let own = matches!(raw::text(server, "/tls/mode"), "SIMPLE" | "MUTUAL" | "OPTIONAL_MUTUAL");
            if own {
                ports.extend(raw::port(server, "/port/number"));
            }
            !own
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
