//! VirtualServices as istiod works with them: names completed, delegates merged
//! (`mergeVirtualServices` in pilot/pkg/model/virtualservice_controller.go, `ResolveVirtualServiceShortnames` and
//! `MergeHTTPRoutes` in pilot/pkg/model/virtualservice.go).

use std::collections::{BTreeMap, BTreeSet};

use super::visibility::{Export, exported_to};
use crate::resources::Named;
use crate::resources::common::StringMatch;
use crate::resources::hosts::{MESH, qualified, qualified_gateway};
use crate::resources::virtual_service::{Destination, HttpMatch, HttpRoute, VirtualService};

/// All VirtualServices with hosts, in order of creation.
pub(crate) struct VirtualServices {
    all: Vec<Named<VirtualService>>,
    default_export_to: Vec<String>,
}

impl VirtualServices {
    /// Completes names and merges delegates. What a delegate is missing is reported in `warnings`.
    pub(crate) fn prepare(
        written: &[Named<VirtualService>],
        default_export_to: &[String],
        warnings: &mut Vec<String>,
    ) -> Self {
        let named: Vec<Named<VirtualService>> = written.iter().map(complete).collect();
        let (delegates, roots): (Vec<_>, Vec<_>) = named.into_iter().partition(|v| v.spec.hosts.is_empty());
        let merged = roots.into_iter().map(|mut root| {
            if root.spec.http.iter().any(|r| r.delegate.is_some()) {
                let routes = std::mem::take(&mut root.spec.http);
                root.spec.http = routes
                    .into_iter()
                    .flat_map(|route| delegated(route, &root, &delegates, default_export_to, warnings))
                    .collect();
            }
            root
        });
        let all = merged.collect();
        Self { all, default_export_to: default_export_to.to_vec() }
    }

    /// Those that reach a namespace and are bound to a gateway (`mesh`, or `NAMESPACE/NAME`): private ones, then those
    /// exported by name, then public ones, each group by age (`VirtualServicesForGateway` in push_context.go). One that names
    /// the gateway twice, such as `g` and `NAMESPACE/g`, is there twice (`initVirtualServices`).
    pub(crate) fn of_gateway(&self, namespace: &str, gateway: &str) -> Vec<&Named<VirtualService>> {
        let mut found: Vec<(Export, &Named<VirtualService>)> = Vec::new();
        for service in &self.all {
            let times = match service.spec.gateways.as_slice() {
                [] => usize::from(gateway == MESH),
                named => named.iter().filter(|g| *g == gateway).count(),
            };
            let listed: BTreeSet<String> = service.spec.export_to.iter().cloned().collect();
            let owner = &service.id.namespace;
            if let Some(export) = exported_to(&listed, &self.default_export_to, owner, namespace) {
                found.extend(std::iter::repeat_n((export, service), times));
            }
        }
        found.sort_by_key(|(export, _)| *export);
        found.into_iter().map(|(_, v)| v).collect()
    }
}

fn complete(written: &Named<VirtualService>) -> Named<VirtualService> {
    let mut done = written.clone();
    let namespace = written.id.namespace.as_str();
    let spec = &mut done.spec;
    let host = |host: &mut String| *host = qualified(host, namespace);
    let gateways = |all: &mut Vec<String>| {
        all.iter_mut().for_each(|g| *g = qualified_gateway(g, namespace));
    };
    let destination = |to: &mut Option<Destination>| {
        if let Some(to) = to {
            host(&mut to.host);
        }
    };
    spec.hosts.iter_mut().for_each(host);
    gateways(&mut spec.gateways);
    for route in &mut spec.http {
        route.matches.iter_mut().for_each(|m| gateways(&mut m.gateways));
        route.route.iter_mut().for_each(|d| destination(&mut d.destination));
        destination(&mut route.mirror);
        route.mirrors.iter_mut().for_each(|m| destination(&mut m.destination));
    }
    for route in &mut spec.tls {
        route.matches.iter_mut().for_each(|m| gateways(&mut m.gateways));
        route.route.iter_mut().for_each(|d| destination(&mut d.destination));
    }
    for route in &mut spec.tcp {
        route.matches.iter_mut().for_each(|m| gateways(&mut m.gateways));
        route.route.iter_mut().for_each(|d| destination(&mut d.destination));
    }
    done
}

/// The routes that stand for one route of a root.
fn delegated(
    route: HttpRoute,
    root: &Named<VirtualService>,
    delegates: &[Named<VirtualService>],
    default_export_to: &[String],
    warnings: &mut Vec<String>,
) -> Vec<HttpRoute> {
    let Some(to) = &route.delegate else { return vec![route] };
    let namespace = if to.namespace.is_empty() { &root.id.namespace } else { &to.namespace };
    let Some(delegate) = delegates.iter().find(|d| d.id.name == to.name && d.id.namespace == *namespace)
    else {
        warnings.push(format!("{}: its delegate {namespace}/{} does not exist", root.id, to.name));
        return Vec::new();
    };
    let listed: BTreeSet<String> = delegate.spec.export_to.iter().cloned().collect();
    if exported_to(&listed, default_export_to, namespace, &root.id.namespace).is_none() {
        warnings.push(format!(
            "{}: its delegate {} is not exported to {}",
            root.id, delegate.id, root.id.namespace
        ));
        return Vec::new();
    }
    let mut merged = Vec::new();
    for own in &delegate.spec.http {
        match merge(&route, own) {
            Some(one) => merged.push(one),
            None => warnings.push(format!(
                "{}: a route of its delegate {} contradicts its own match and is left out",
                root.id, delegate.id
            )),
        }
    }
    merged
}

/// `mergeHTTPRoute`. None where the matches contradict each other.
fn merge(root: &HttpRoute, delegate: &HttpRoute) -> Option<HttpRoute> {
    let mut merged = delegate.clone();
    merged.matches = merge_matches(&root.matches, &delegate.matches)?;
    merged.name = joined(&root.name, &delegate.name);
    merged.rewrite = merged.rewrite.or_else(|| root.rewrite.clone());
    merged.direct_response = merged.direct_response.or_else(|| root.direct_response.clone());
    merged.timeout = merged.timeout.or_else(|| root.timeout.clone());
    merged.retries = merged.retries.or_else(|| root.retries.clone());
    merged.fault = merged.fault.or_else(|| root.fault.clone());
    merged.mirror = merged.mirror.or_else(|| root.mirror.clone());
    merged.mirror_percent = merged.mirror_percent.or(root.mirror_percent);
    merged.mirror_percentage = merged.mirror_percentage.or_else(|| root.mirror_percentage.clone());
    merged.cors_policy = merged.cors_policy.or_else(|| root.cors_policy.clone());
    if merged.mirrors.is_empty() {
        merged.mirrors.clone_from(&root.mirrors);
    }
    merged.headers = merged.headers.or_else(|| root.headers.clone());
    Some(merged)
}

fn joined(root: &str, own: &str) -> String {
    match (root, own) {
        (root, "") => root.to_owned(),
        ("", own) => own.to_owned(),
        (root, own) => format!("{root}-{own}"),
    }
}

/// `mergeHTTPMatchRequests`: each condition of the delegate with each of the root's that it does not contradict.
fn merge_matches(root: &[HttpMatch], delegate: &[HttpMatch]) -> Option<Vec<HttpMatch>> {
    if root.is_empty() {
        return Some(delegate.to_vec());
    }
    if delegate.is_empty() {
        return Some(root.to_vec());
    }
    let mut all = Vec::new();
    for own in delegate {
        let before = all.len();
        all.extend(root.iter().filter(|r| !contradicts(r, own)).map(|r| merge_match(r, own)));
        if all.len() == before {
            return None;
        }
    }
    Some(all)
}

fn merge_match(root: &HttpMatch, delegate: &HttpMatch) -> HttpMatch {
    let mut merged = delegate.clone();
    let texts = |root: &BTreeMap<String, StringMatch>, own: &mut BTreeMap<String, StringMatch>| {
        for (name, condition) in root {
            own.entry(name.clone()).or_insert_with(|| condition.clone());
        }
    };
    merged.name = joined(&root.name, &delegate.name);
    merged.uri = merged.uri.or_else(|| root.uri.clone());
    merged.scheme = merged.scheme.or_else(|| root.scheme.clone());
    merged.method = merged.method.or_else(|| root.method.clone());
    merged.authority = merged.authority.or_else(|| root.authority.clone());
    texts(&root.headers, &mut merged.headers);
    texts(&root.without_headers, &mut merged.without_headers);
    texts(&root.query_params, &mut merged.query_params);
    if merged.port == 0 {
        merged.port = root.port;
    }
    for (name, value) in &root.source_labels {
        merged.source_labels.entry(name.clone()).or_insert_with(|| value.clone());
    }
    if merged.source_namespace.is_empty() {
        merged.source_namespace.clone_from(&root.source_namespace);
    }
    if merged.gateways.is_empty() {
        merged.gateways.clone_from(&root.gateways);
    }
    merged
}

/// `hasConflict`.
fn contradicts(root: &HttpMatch, own: &HttpMatch) -> bool {
    let named = [
        (&root.uri, &own.uri),
        (&root.scheme, &own.scheme),
        (&root.method, &own.method),
        (&root.authority, &own.authority),
    ];
    let maps = [
        (&root.headers, &own.headers),
        (&root.without_headers, &own.without_headers),
        (&root.query_params, &own.query_params),
    ];
    let labels = own.source_labels.iter().any(|(k, v)| root.source_labels.get(k).is_some_and(|r| r != v));
    let gateways = !root.gateways.is_empty()
        && !own.gateways.is_empty()
        && (root.gateways.len() < own.gateways.len()
            || own.gateways.iter().any(|g| !root.gateways.contains(g)));
    named.into_iter().any(|(r, o)| text_contradicts(r.as_ref(), o.as_ref()))
        || maps.into_iter().any(|(r, o)| o.iter().any(|(k, v)| text_contradicts(r.get(k), Some(v))))
        || root.ignore_uri_case != own.ignore_uri_case
        || (root.port > 0 && own.port > 0 && root.port != own.port)
        || (!root.source_namespace.is_empty() && own.source_namespace != root.source_namespace)
        || labels
        || gateways
}

/// `stringMatchConflict`: a regular expression of either is compatible with nothing; the delegate's prefix must extend the
/// root's.
fn text_contradicts(root: Option<&StringMatch>, own: Option<&StringMatch>) -> bool {
    let (Some(root), Some(own)) = (root, own) else { return false };
    let text = |m: &Option<String>| m.clone().unwrap_or_default();
    if !text(&root.regex).is_empty() || !text(&own.regex).is_empty() {
        return true;
    }
    if !text(&root.exact).is_empty() {
        return text(&own.exact) != text(&root.exact);
    }
    if !text(&root.prefix).is_empty() {
        return if !text(&own.prefix).is_empty() {
            !text(&own.prefix).starts_with(&text(&root.prefix))
        } else {
            !text(&own.exact).starts_with(&text(&root.prefix))
        };
    }
    true
}
