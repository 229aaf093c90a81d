//! Requests to which a proxy opens TLS: to the right port, with the right names, once.

use meshproof_model::ResourceId;
use meshproof_plan::hosts;
use meshproof_plan::model::{NameCheck, Origination, ServerName, Trust};
use meshproof_plan::walk::without_port;
use serde_json::{Value, json};

use super::codes;
use super::judge::{Change, Draft, Judge, Op, port_pointer};
use crate::flows::{Observed, is_originated, origination};
use crate::raw::{self, ClusterName, Speaks};
use crate::trace::{End, Trace, Tracer};
use crate::world::World;

/// Ports at which servers speak plain HTTP by convention.
const PLAIN_PORTS: [u16; 2] = [80, 8080];

/// A proxy opens TLS as it should; to whom, and whom does it believe?
pub(super) fn originated(judge: &mut Judge<'_>, one: &Observed, trace: &Trace, port: u16) {
    let Some((tls, server_name)) = origination(trace) else { return };
    let (tls, server_name) = (tls.clone(), server_name.map(str::to_owned));
    let Some(hop) = trace.hops.last() else { return };
    let Some(cluster) = ClusterName::parse(&hop.cluster) else { return };
    let Some(planned) = judge.world.configs[hop.proxy].clusters.get(&hop.cluster) else { return };
    let rule = Tracer::new(judge.world).rule_of(&hop.cluster, planned);
    let from = judge.name(hop.proxy).to_owned();
    let entry = judge.world.entries(cluster.host, &planned.namespace).find(|e| {
        raw::items(&e.0, "/spec/ports").iter().any(|(_, p)| raw::port(p, "/number") == Some(cluster.port))
    });
    if let Some(entry) = entry.filter(|_| PLAIN_PORTS.contains(&port) && port == cluster.port) {
        let at = port_pointer(entry, cluster.port);
        let declared = entry.0.pointer(&at).is_some_and(|p| p.get("targetPort").is_some());
        let own_endpoints =
            raw::items(&entry.0, "/spec/endpoints").iter().any(|(_, e)| e.get("ports").is_some());
        if !declared && !own_endpoints && entry.0.pointer(&at).is_some_and(|p| raw::speaks(p) == Speaks::Http)
        {
            let changes = vec![Change::patch(entry, vec![Op::add(format!("{at}/targetPort"), 443)])];
            let ok = judge.would(one, &changes, |_, t| {
                matches!(&t.end, End::Arrives { port: 443, .. }) && is_originated(t)
            });
            let draft = Draft::new(codes::MISSING_TARGET_PORT, &entry.id(), at)
                .says(format!("port {port} of {} has no targetPort, so TLS goes to port {port}, where servers speak plain HTTP", cluster.host))
                .effect(format!("{} from {}: {from} opens TLS to {}:{port}, and the handshake fails; the client gets 503", one.ask, judge.name(one.proxy), cluster.host));
            judge.add(if ok {
                draft.confirmed("Set targetPort: 443", changes)
            } else {
                draft.fix("Set targetPort: 443", changes)
            });
        }
    }
    if let Some((rule, at)) = &rule {
        certificate(judge, one, hop.proxy, &tls, &server_name, cluster, rule, at);
    }
    rewrite(judge, one, trace, &tls, cluster);
}

#[allow(clippy::too_many_arguments, reason = "all of it describes the handshake")]
fn certificate(
    judge: &mut Judge<'_>,
    one: &Observed,
    proxy: usize,
    tls: &Origination,
    server_name: &Option<String>,
    cluster: ClusterName<'_>,
    rule: &ResourceId,
    at: &str,
) {
    let from = judge.name(proxy).to_owned();
    let Some(written) = judge.get(rule) else { return };
    if let Some(name) = &tls.credential
        && judge.world.is_sidecar(proxy)
        && !name.starts_with("configmap://")
    {
        judge.add(
            Draft::new(codes::RBAC_FOR_CREDENTIAL, rule, format!("{at}/credentialName"))
                .says(format!("the sidecar {from} reads the Secret {name} itself"))
                .effect("without permission to get, list and watch Secrets in its namespace, its requests get 503")
                .fix("Allow the service account of the workload to get, list and watch Secrets there (a Role and a RoleBinding)", Vec::new()),
        );
    }
    if tls.trust == Trust::Anybody {
        let skip = format!("{at}/insecureSkipVerify");
        let changes = vec![Change::patch(written, vec![Op::remove(skip.clone())])];
        judge.add(
            Draft::new(codes::CERTIFICATE_NOT_CHECKED, rule, skip)
                .says(format!("insecureSkipVerify: {from} accepts any certificate for {}", cluster.host))
                .effect(format!("{} is encrypted, and any server that answers in its place can read and change it", one.ask))
                .fix("Leave insecureSkipVerify out, and give the server's CA with caCertificates or credentialName where it is not a public one", changes),
        );
        return;
    }
    if tls.names != NameCheck::ChainOnly {
        return;
    }
    let ServerName::Fixed(name) = &tls.sni else { return };
    let own = [without_port(&one.ask.host).to_owned(), cluster.host.to_owned()];
    let follows = own.iter().any(|h| h == name || hosts::subset_of(name, h));
    let changes = vec![Change::patch(written, vec![Op::add(format!("{at}/subjectAltNames"), json!([name]))])];
    let code = if follows { codes::CHAIN_ALONE_CHECKED } else { codes::NAMES_NOT_CHECKED };
    let shown = server_name.as_deref().unwrap_or_default();
    judge.add(
        Draft::new(code, rule, format!("{at}/sni"))
            .says(format!("sni is set to {shown} without subjectAltNames, so {from} checks the chain of the server's certificate and not its name"))
            .effect(format!("{} also reaches a server with any other certificate of a trusted CA", one.ask))
            .fix("Add subjectAltNames, or leave sni out where it is the request's host", changes),
    );
}

/// Whether a proxy expects the server of `cluster` to have a certificate for `host`, which is the Host of the request and another
/// host than the server's. Where the certificate is not checked, or against names that the configuration states, the handshake does
/// not depend on Host.
pub(crate) fn checks_another_host(
    world: &World,
    host: &str,
    tls: &Origination,
    cluster: ClusterName<'_>,
) -> bool {
    let by_host = matches!(tls.names, NameCheck::FromHost | NameCheck::OneOfAndHost(_));
    if !by_host || tls.trust == Trust::Anybody || tls.sni != ServerName::FromHost {
        return false;
    }
    let host = host.to_ascii_lowercase();
    let same = host == cluster.host.to_ascii_lowercase() || hosts::subset_of(&host, cluster.host);
    let alias =
        world.entries(cluster.host, "").any(|e| raw::texts(&e.0, "/spec/hosts").contains(&host.as_str()));
    !same && !alias && !hosts::is_wildcard(cluster.host)
}

/// A request for one host goes to another.
fn rewrite(
    judge: &mut Judge<'_>,
    one: &Observed,
    trace: &Trace,
    tls: &Origination,
    cluster: ClusterName<'_>,
) {
    let Some(hop) = trace.hops.last() else { return };
    let Some(route) = &hop.route else { return };
    let host = without_port(&hop.authority).to_ascii_lowercase();
    if !checks_another_host(judge.world, &host, tls, cluster) {
        return;
    }
    let Some(service) = judge.get(&route.service) else { return };
    let at = route.pointer();
    let (ops, pointer) = match service.0.pointer(&format!("{at}/rewrite")) {
        Some(_) => (Op::add(format!("{at}/rewrite/authority"), cluster.host), format!("{at}/rewrite")),
        None => (Op::add(format!("{at}/rewrite"), json!({"authority": cluster.host})), format!("{at}/route")),
    };
    let changes = vec![Change::patch(service, vec![ops])];
    let wanted = cluster.host.to_owned();
    let ok = judge
        .would(one, &changes, |_, t| origination(t).is_some_and(|(_, name)| name == Some(wanted.as_str())));
    let draft = Draft::new(codes::MISSING_AUTHORITY_REWRITE, &route.service, pointer)
        .says(format!("the route sends requests for {host} to {} and leaves their Host as it is", cluster.host))
        .effect(format!("{}: {} asks {} for the server name {host} and expects a certificate for {host}; the handshake fails and the client gets 503", one.ask, judge.name(hop.proxy), cluster.host));
    let summary = format!("Rewrite the authority to {}", cluster.host);
    judge.add(if ok { draft.confirmed(summary, changes) } else { draft.fix(summary, changes) });
}

/// ISTIO_MUTUAL to a server outside.
pub(super) fn mesh_tls_outside(judge: &mut Judge<'_>, one: &Observed, trace: &Trace) {
    let Some(hop) = trace.hops.last() else { return };
    let Some(planned) = judge.world.configs[hop.proxy].clusters.get(&hop.cluster) else { return };
    let Some((rule, at)) = Tracer::new(judge.world).rule_of(&hop.cluster, planned) else { return };
    let Some(cluster) = ClusterName::parse(&hop.cluster) else { return };
    let Some(written) = judge.get(&rule) else { return };
    let changes = vec![Change::patch(written, vec![Op::replace(format!("{at}/mode"), "SIMPLE")])];
    judge.add(
        Draft::new(codes::MESH_TLS_OUTSIDE, &rule, format!("{at}/mode"))
            .says(format!("ISTIO_MUTUAL presents the mesh's own certificate to {} and accepts only certificates of the mesh", cluster.host))
            .effect(format!("{} from {}: the handshake with the server fails, and the client gets 503", one.ask, judge.name(one.proxy)))
            .fix("Use mode SIMPLE, or MUTUAL with the client certificate that the server expects", changes),
    );
}

/// TLS inside TLS.
pub(super) fn double(judge: &mut Judge<'_>, one: &Observed, trace: &Trace) {
    let Some(hop) = trace.hops.last() else { return };
    let Some(cluster) = ClusterName::parse(&hop.cluster) else { return };
    let Some(planned) = judge.world.configs[hop.proxy].clusters.get(&hop.cluster) else { return };
    let Some((rule, at)) = Tracer::new(judge.world).rule_of(&hop.cluster, planned) else { return };
    if judge.has(codes::PORT_WITHOUT_TLS, &rule) {
        return;
    }
    let used = judge.observed.iter().any(|o| {
        o.traces.iter().any(|t| is_originated(t) && t.hops.last().is_some_and(|h| h.cluster == hop.cluster))
    });
    let meant = raw::of_kind(judge.resources, "VirtualService").any(|service| {
        // A route that leads nowhere was meant for something near.
        let broken = judge.blames(&service.id());
        raw::destinations(service).iter().filter(|d| d.http).any(|d| {
            let same = d.host == cluster.host;
            (same && (broken || d.port.is_none_or(|p| p == cluster.port)))
                || (broken && strsim::damerau_levenshtein(&d.host, cluster.host) <= 3)
        })
    });
    let effect = format!(
        "{} from {}: the server gets TLS inside TLS, and the client's handshake fails (\"wrong version number\")",
        one.ask,
        judge.name(one.proxy)
    );
    if used || meant {
        judge.add(
            Draft::new(codes::OWN_TLS_IN_TLS, &rule, at)
                .says(format!("the rule opens TLS on port {} of {} for plain requests; clients that open TLS to it themselves get a second layer", cluster.port, cluster.host))
                .effect(effect),
        );
        return;
    }
    let message = format!(
        "tls reaches port {} of {}, whose protocol is HTTPS or TLS: clients speak TLS there already",
        cluster.port, cluster.host
    );
    let draft = Draft::new(codes::DOUBLE_TLS, &rule, at.clone()).says(message).effect(effect);
    let draft = match limited(judge, &rule, &at, cluster) {
        Some(changes) => draft
            .fix("Limit the rule to the port that clients use for plain HTTP, with targetPort 443", changes),
        None => draft.fix("Limit the rule to the port that clients use for plain HTTP", Vec::new()),
    };
    judge.add(draft);
}

/// The rule for port 80 alone, and port 80 in the entry.
fn limited(judge: &Judge<'_>, rule: &ResourceId, at: &str, cluster: ClusterName<'_>) -> Option<Vec<Change>> {
    let written = judge.get(rule)?;
    let tls: Value = written.0.pointer(at)?.clone();
    let entry = judge.world.entries(cluster.host, "").next()?;
    let ports = raw::items(&entry.0, "/spec/ports");
    let http = ports.iter().find(|(_, p)| raw::speaks(p) == Speaks::Http);
    let number = http.and_then(|(_, p)| raw::port(p, "/number")).unwrap_or(80);
    let policy = json!({"portLevelSettings": [{"port": {"number": number}, "tls": tls}]});
    let mut changes = vec![Change::patch(written, vec![Op::replace("/spec/trafficPolicy", policy)])];
    match http {
        Some((_, port)) if port.get("targetPort").is_some() => {}
        Some((at, _)) => {
            changes.push(Change::patch(entry, vec![Op::add(format!("{at}/targetPort"), cluster.port)]));
        }
        None => {
            let port = json!({"number": 80, "name": "http", "protocol": "HTTP", "targetPort": cluster.port});
            changes.push(Change::patch(entry, vec![Op::add("/spec/ports/-", port)]));
        }
    }
    Some(changes)
}
