//! The plan as JSON, in the form in which a normaliser writes istiod's own answer, so that the two can be compared.
//!
//! For each sidecar and port it says what happens to plain HTTP, to other bytes, to TLS with each of some server names, and
//! behind addresses that services have of their own; for each gateway and port the chains by server names; for both the
//! clusters that these lead to, and the names among them for which there is no cluster (503, `NC`).

mod tls;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde_json::{Map, Value, json};

use crate::mesh::{Bind, ClusterKind, MeshChain, MeshCluster, MeshListener, ProxyConfig};
use crate::model::{
    Action, Credential, Forward, HeaderChanges, HttpRoutes, PathMatch, Role, Route, RouteAction, RouteMatch,
    StringMatch, UpstreamProtocol, WeightedCluster,
};
use crate::resolve::Description;
use crate::resources::Verdict;
use tls::{downstream, resource_name, upstream};

/// What is asked besides what the configuration itself names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Questions {
    /// Server names of TLS connections.
    pub server_names: BTreeSet<String>,
    /// Ports, also those without a listener.
    pub ports: BTreeSet<u16>,
}

/// The whole description.
#[must_use]
pub fn as_json(description: &Description, questions: &Questions) -> Value {
    let accepted = description.resolution.is_some();
    let verdicts: Vec<Value> = description.verdicts.iter().map(verdict).collect();
    let mut value = json!({"accepted": accepted, "verdicts": verdicts});
    if let Some(resolution) = &description.resolution {
        let addresses = &resolution.addresses;
        let each = resolution.proxies.iter().map(|p| (p.name.clone(), proxy(p, questions, addresses)));
        value["proxies"] = each.collect::<Map<String, Value>>().into();
    }
    value
}

/// What istiod's secret discovery answers for the credentials of each proxy, by the names that it is asked for.
#[must_use]
pub fn secrets_as_json(credentials: &BTreeMap<String, Vec<Credential>>) -> Value {
    let mut proxies = Map::new();
    for (proxy, of_proxy) in credentials {
        let mut answers = Map::new();
        for credential in of_proxy {
            let name = resource_name(&credential.name);
            if let (Some(certificate), Some(key)) = (&credential.certificate, &credential.key) {
                answers.insert(name.clone(), json!({"cert": certificate, "key": key}));
            }
            if let Some(ca) = &credential.ca {
                let crl = credential.crl.as_deref().unwrap_or_default();
                answers.insert(format!("{name}-cacert"), json!({"ca": ca, "crl": crl}));
            }
        }
        proxies.insert(proxy.clone(), answers.into());
    }
    proxies.into()
}

fn verdict(verdict: &Verdict) -> Value {
    let id = &verdict.resource;
    let mut value = json!({"doc": format!("{} {}/{}", id.kind, id.namespace, id.name)});
    if let Some(refused) = &verdict.refused {
        if let Some(text) = &refused.schema {
            let whole = text.starts_with("failed to validate type");
            let place = format!("{}/{}/{}: ", id.kind, id.name, id.namespace);
            value["crd"] = json!(if whole { text.clone() } else { place + text });
        }
        if let Some(text) = &refused.webhook {
            value["webhook"] = json!(text);
        }
    }
    if let Some(text) = &verdict.warnings {
        value["warnings"] = json!([text]);
    }
    value
}

/// The addresses of ServiceEntries, by host.
type Addresses = BTreeMap<String, Vec<String>>;

fn proxy(config: &ProxyConfig, questions: &Questions, addresses: &Addresses) -> Value {
    let mut used = BTreeSet::new();
    let listeners = match config.role {
        Role::Sidecar => sidecar_listeners(config, questions, addresses, &mut used),
        Role::EgressGateway | Role::IngressGateway => gateway_listeners(config, &mut used),
    };
    let mut clusters = Map::new();
    let mut absent = Vec::new();
    for name in used {
        match config.clusters.get(&name) {
            Some(found) => {
                clusters.insert(name, cluster(found));
            }
            None => absent.push(name),
        }
    }
    json!({"listeners": listeners, "clusters": clusters, "absent_clusters": absent})
}

fn sidecar_listeners(
    config: &ProxyConfig,
    questions: &Questions,
    addresses: &Addresses,
    used: &mut BTreeSet<String>,
) -> Map<String, Value> {
    let mut ports = questions.ports.clone();
    ports.extend(config.listeners.iter().map(|l| l.port));
    let mut listeners = Map::new();
    for port in ports {
        let chains = config.wildcard(port).map_or(&[][..], |l| l.chains.as_slice());
        let mut ask = |chains: &[MeshChain], connection: &Connection<'_>| -> Value {
            match taken_by(chains, connection).map(|c| &c.action) {
                None => {
                    used.insert(config.unmatched.clone());
                    json!(config.unmatched)
                }
                Some(Action::Http(_)) => json!("routes"),
                Some(action) => passed(action, used),
            }
        };
        let plain_http = ask(chains, &Connection::PlainHttp);
        let plain_other = ask(chains, &Connection::Bytes);
        let tls: Map<String, Value> = questions
            .server_names
            .iter()
            .map(|name| {
                // A name of a ServiceEntry with an address leads to that address, whichever service has it first.
                let at = |ip: &String| config.addressed(port).find(|(bind, ..)| bind == ip);
                let own = addresses.get(name).into_iter().flatten().filter_map(at).next_back();
                let chains = own.map_or(chains, |(_, _, listener)| listener.chains.as_slice());
                (name.clone(), ask(chains, &Connection::Tls(name)))
            })
            .collect();
        used.insert(config.unmatched.clone());
        let http = taken_by(chains, &Connection::PlainHttp).and_then(|c| match &c.action {
            Action::Http(http) => Some(routes_by_domain(http, used)),
            Action::Tcp { .. } | Action::TcpWeighted(_) => None,
        });
        let mut value = json!({
            "plain_http": plain_http,
            "plain_other": plain_other,
            "fallthrough": config.unmatched,
            "tls": tls,
            "http": http.unwrap_or_default(),
        });
        let mut addressed = Map::new();
        for (ip, to, listener) in config.addressed(port) {
            let name = if to.kubernetes { to.host.as_str() } else { ip };
            addressed.insert(name.to_owned(), addressed_chains(listener, used));
        }
        if !addressed.is_empty() {
            value["vip"] = addressed.into();
        }
        listeners.insert(port.to_string(), value);
    }
    listeners
}

/// What a connection begins with.
enum Connection<'a> {
    PlainHttp,
    Bytes,
    Tls(&'a str),
}

/// The chain that Envoy takes for a connection to an address of no service: the most specific server name, whatever the
/// order, else one without; the last takes the rest.
fn taken_by<'a>(chains: &'a [MeshChain], connection: &Connection<'_>) -> Option<&'a MeshChain> {
    let here = || chains.iter().filter(|c| c.cidrs.is_empty());
    let default = || here().find(|c| c.takes_all());
    match connection {
        Connection::PlainHttp => here().find(|c| c.plain_http).or_else(default),
        Connection::Bytes => default(),
        Connection::Tls(name) => {
            let lower = name.to_ascii_lowercase();
            let named = |c: &&MeshChain| c.server_names.iter().any(|n| n.eq_ignore_ascii_case(&lower));
            let length = |c: &MeshChain| {
                let covering = c.server_names.iter().filter_map(|n| n.strip_prefix('*'));
                covering.filter(|s| lower.len() > s.len() && lower.ends_with(*s)).map(str::len).max()
            };
            let exact = here().find(named);
            let wild = || {
                let all = here().filter_map(|c| Some((length(c)?, c)));
                all.max_by_key(|(length, _)| *length).map(|(_, c)| c)
            };
            exact.or_else(wild).or_else(default)
        }
    }
}

/// The cluster that bytes go to, or several with their weights.
fn passed(action: &Action, used: &mut BTreeSet<String>) -> Value {
    match action {
        Action::Tcp { cluster } => {
            used.insert(cluster.clone());
            json!(cluster)
        }
        Action::TcpWeighted(several) => {
            used.extend(several.iter().map(|c| c.cluster.clone()));
            weights(several)
        }
        Action::Http(_) => json!("routes"),
    }
}

fn weights(several: &[WeightedCluster]) -> Value {
    several.iter().map(|c| json!([c.cluster, c.weight])).collect()
}

fn addressed_chains(listener: &MeshListener, used: &mut BTreeSet<String>) -> Value {
    let (default, others): (Vec<_>, Vec<_>) = listener.chains.iter().partition(|c| c.takes_all());
    others
        .into_iter()
        .chain(default)
        .map(|chain| {
            let mut condition = Map::new();
            if !chain.server_names.is_empty() {
                let mut names = chain.server_names.clone();
                names.sort();
                condition.insert("server_names".to_owned(), json!(names));
            }
            if !chain.cidrs.is_empty() {
                condition.insert(
                    "prefix_ranges".to_owned(),
                    chain.cidrs.iter().map(|c| prefix_range(c)).collect(),
                );
            }
            if chain.plain_http {
                condition.insert("application_protocols".to_owned(), json!(["http/1.1", "h2c"]));
                condition.insert("transport_protocol".to_owned(), json!("raw_buffer"));
            }
            let mut value = json!({"match": condition});
            match &chain.action {
                Action::Http(http) => value["http"] = routes_by_domain(http, used).into(),
                action @ (Action::Tcp { .. } | Action::TcpWeighted(_)) => value["tcp"] = passed(action, used),
            }
            value
        })
        .collect()
}

/// An address is the range of itself.
fn prefix_range(cidr: &str) -> String {
    match cidr.parse::<IpAddr>() {
        Ok(IpAddr::V4(_)) => format!("{cidr}/32"),
        Ok(IpAddr::V6(_)) => format!("{cidr}/128"),
        Err(_) => cidr.to_owned(),
    }
}

fn gateway_listeners(config: &ProxyConfig, used: &mut BTreeSet<String>) -> Map<String, Value> {
    let mut listeners = Map::new();
    for listener in &config.listeners {
        let name = match &listener.bind {
            Bind::Wildcard => listener.port.to_string(),
            Bind::Address(ip, _) => format!("{ip}:{}", listener.port),
        };
        let mut chains = Map::new();
        for chain in &listener.chains {
            let mut names = chain.server_names.clone();
            names.sort();
            let key = if names.is_empty() { "*".to_owned() } else { names.join(",") };
            let mut value = json!({"tls": chain.tls.as_ref().map(downstream)});
            match &chain.action {
                Action::Http(http) => value["http"] = routes_by_domain(http, used).into(),
                action @ (Action::Tcp { .. } | Action::TcpWeighted(_)) => value["tcp"] = passed(action, used),
            }
            chains.insert(key, value);
        }
        listeners.insert(name, chains.into());
    }
    listeners
}

/// Virtual hosts by domain. Names with a trailing dot and addresses of services are left out: every host has them.
fn routes_by_domain(http: &HttpRoutes, used: &mut BTreeSet<String>) -> Map<String, Value> {
    let mut domains = Map::new();
    for host in &http.virtual_hosts {
        let routes: Vec<Value> = host.routes.iter().map(|r| route(r, used)).collect();
        for domain in &host.domains {
            let address = domain.parse::<IpAddr>().is_ok() || domain.starts_with('[');
            if !domain.ends_with('.') && !address {
                domains.insert(domain.clone(), routes.clone().into());
            }
        }
    }
    domains
}

fn route(route: &Route, used: &mut BTreeSet<String>) -> Value {
    let action = match &route.action {
        RouteAction::Forward(to) => {
            used.extend(to.clusters.iter().map(|c| c.cluster.clone()));
            used.extend(to.mirrors.iter().cloned());
            json!({"forward": forward(to)})
        }
        RouteAction::DirectResponse { status, body } => json!({"direct": {"status": status, "body": body}}),
        RouteAction::Redirect { status, scheme, authority, path, prefix, port } => {
            let mut value = json!({"status": status});
            let texts = [("scheme", scheme), ("authority", authority), ("path", path), ("prefix", prefix)];
            for (name, text) in texts {
                if let Some(text) = text {
                    value[name] = json!(text);
                }
            }
            if let Some(port) = port {
                value["port"] = json!(port);
            }
            json!({"redirect": value})
        }
    };
    json!({"name": route.name, "match": condition(&route.matches), "action": action})
}

fn condition(matches: &RouteMatch) -> Value {
    let path = match &matches.path {
        PathMatch::Any => json!("any"),
        PathMatch::Prefix(prefix) if prefix == "/" => json!("any"),
        PathMatch::Prefix(prefix) => json!({"prefix": prefix}),
        PathMatch::Exact(exact) => json!({"exact": exact}),
        PathMatch::Regex(regex) => json!({"regex": regex}),
    };
    let mut value = json!({"path": path});
    // TranslateRouteMatch sorts the named headers, and puts the others after them.
    let (others, named): (Vec<_>, Vec<_>) = matches.headers.iter().partition(|(n, _)| n.starts_with(':'));
    let mut headers: Vec<(&String, Value)> = named.into_iter().map(|(n, m)| (n, text(m))).collect();
    headers.extend(matches.without_headers.iter().map(|(n, m)| (n, json!({"not": text(m)}))));
    headers.sort_by_key(|(name, _)| *name);
    let order = [":method", ":authority", ":scheme"];
    let place = |name: &str| order.iter().position(|o| *o == name);
    let mut others: Vec<_> = others.into_iter().map(|(n, m)| (n, text(m))).collect();
    others.sort_by_key(|(name, _)| place(name));
    headers.extend(others);
    if !headers.is_empty() {
        value["headers"] = headers.into_iter().map(|(name, m)| json!([name, m])).collect();
    }
    if !matches.query.is_empty() {
        value["query"] = matches.query.iter().map(|(name, m)| json!([name, text(m)])).collect();
    }
    if matches.ignore_case {
        value["icase"] = json!(true);
    }
    value
}

fn text(condition: &StringMatch) -> Value {
    match condition {
        StringMatch::Exact(text) => json!({"exact": text}),
        StringMatch::Prefix(text) => json!({"prefix": text}),
        StringMatch::Regex(text) => json!({"regex": text}),
        StringMatch::Present => json!("present"),
    }
}

fn forward(forward: &Forward) -> Value {
    let mut value = json!({"clusters": weights(&forward.clusters)});
    if let Some(retry) = &forward.retry {
        value["retry"] = json!([retry.on, retry.attempts]);
    }
    if let Some(host) = &forward.host_rewrite {
        value["host_rewrite"] = json!(host);
    }
    if let Some(path) = &forward.path_rewrite {
        value["path_rewrite"] = json!(path);
    }
    if let Some(rewrite) = &forward.regex_rewrite {
        value["regex_rewrite"] = json!([rewrite.pattern, rewrite.substitution]);
    }
    if !forward.request_headers.is_empty() {
        value["req"] = changes(&forward.request_headers);
    }
    if !forward.response_headers.is_empty() {
        value["resp"] = changes(&forward.response_headers);
    }
    if let Some(timeout) = forward.timeout_ms {
        value["timeout_ms"] = json!(timeout);
    }
    if !forward.mirrors.is_empty() {
        value["mirrors"] = json!(forward.mirrors);
    }
    if forward.clusters.iter().any(WeightedCluster::changes_messages) {
        let each = forward.clusters.iter().map(|to| {
            let mut own = Map::new();
            if let Some(host) = &to.host_rewrite {
                own.insert("host".to_owned(), json!(host));
            }
            if !to.request_headers.is_empty() {
                own.insert("req".to_owned(), changes(&to.request_headers));
            }
            if !to.response_headers.is_empty() {
                own.insert("resp".to_owned(), changes(&to.response_headers));
            }
            json!([to.cluster, own])
        });
        value["dest_headers"] = each.collect();
    }
    value
}

fn changes(changes: &HeaderChanges) -> Value {
    let mut value = Map::new();
    for (name, pairs) in [("set", &changes.set), ("add", &changes.add)] {
        if !pairs.is_empty() {
            value.insert(name.to_owned(), pairs.iter().map(|(k, v)| json!([k, v])).collect());
        }
    }
    if !changes.remove.is_empty() {
        value.insert("remove".to_owned(), json!(changes.remove));
    }
    value.into()
}

fn cluster(cluster: &MeshCluster) -> Value {
    let kind = match cluster.kind {
        ClusterKind::Endpoints => "endpoints",
        ClusterKind::StrictDns => "strict-dns",
        ClusterKind::LogicalDns => "logical-dns",
        ClusterKind::OriginalDestination => "original-dst",
        ClusterKind::Static => "static",
        ClusterKind::DynamicDns => "dynamic-dns",
    };
    let endpoints = cluster.endpoints.iter().map(|e| {
        // A Unix domain socket has neither.
        if e.port == 0 { "?:?".to_owned() } else { format!("{}:{}", e.address, e.port) }
    });
    let protocol = match cluster.protocol {
        UpstreamProtocol::Http1 => "http1",
        UpstreamProtocol::Http2 => "http2",
        UpstreamProtocol::Downstream => "downstream",
    };
    let able = cluster.endpoints.iter().any(|e| e.mesh_tls);
    let tls = cluster.tls.as_ref().filter(|_| !cluster.tls_by_endpoint || able);
    json!({
        "type": kind,
        "endpoints": endpoints.collect::<Vec<_>>(),
        "protocol": protocol,
        "tls": tls.map(|tls| upstream(tls, cluster.protocol)),
    })
}
