//! Host names and how they match (`pkg/config/host/name.go`).

/// Whether the name begins with `*`.
#[must_use]
pub fn is_wildcard(host: &str) -> bool {
    host.starts_with('*')
}

fn suffix(host: &str) -> &str {
    host.strip_prefix('*').unwrap_or(host)
}

/// `Name.Matches`: whether one covers the other, in either direction.
#[must_use]
pub fn matches(a: &str, b: &str) -> bool {
    subset_of(a, b) || subset_of(b, a)
}

/// `Name.SubsetOf`: whether every name that `a` stands for, `b` stands for too.
#[must_use]
pub fn subset_of(a: &str, b: &str) -> bool {
    match (is_wildcard(a), is_wildcard(b)) {
        (true, true) => a.len() >= b.len() && suffix(a).ends_with(suffix(b)),
        (false, true) => a.ends_with(suffix(b)),
        (true, false) => false,
        (false, false) => a == b,
    }
}

/// `Names.Intersection`: of each overlapping pair the narrower, each once.
#[must_use]
pub fn intersection(a: &[String], b: &[String]) -> Vec<String> {
    let mut both: Vec<String> = Vec::new();
    for one in a {
        for other in b {
            let narrower = if subset_of(one, other) {
                one
            } else if subset_of(other, one) {
                other
            } else {
                continue;
            };
            if !both.contains(narrower) {
                both.push(narrower.clone());
            }
        }
    }
    both
}

/// `MostSpecificHostMatch` (pilot/pkg/model/config.go): the exact entry, else the longest wildcard that covers it.
pub fn most_specific<'a>(host: &str, entries: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let mut best: Option<&str> = None;
    for entry in entries {
        if entry == host {
            return Some(entry);
        }
        if is_wildcard(entry) && subset_of(host, entry) && best.is_none_or(|b| entry.len() > b.len()) {
            best = Some(entry);
        }
    }
    best
}

/// `ResolveShortnameToFQDN`: a name without a dot is a Kubernetes service of the resource's namespace. Case stays: istiod
/// compares the hosts of services, destinations and rules byte by byte.
#[must_use]
pub fn qualified(host: &str, namespace: &str) -> String {
    if host.is_empty() || host == "*" || host.contains('.') || host.parse::<std::net::IpAddr>().is_ok() {
        host.to_owned()
    } else {
        format!("{host}.{namespace}.svc.{CLUSTER_DOMAIN}")
    }
}

/// Kubernetes' domain for services.
pub const CLUSTER_DOMAIN: &str = "cluster.local";

/// `resolveGatewayName` (pilot/pkg/model/config.go): `NAMESPACE/NAME`; `mesh` stays.
#[must_use]
pub fn qualified_gateway(name: &str, namespace: &str) -> String {
    if name == MESH {
        return name.to_owned();
    }
    match name.split_once('/') {
        Some((".", gateway)) => format!("{namespace}/{gateway}"),
        Some(_) => name.to_owned(),
        None => match name.split_once('.') {
            None => format!("{namespace}/{name}"),
            Some((gateway, rest)) => {
                let owner = rest.split('.').next().unwrap_or(rest);
                format!("{owner}/{gateway}")
            }
        },
    }
}

/// The reserved gateway name that stands for all sidecars.
pub const MESH: &str = "mesh";
