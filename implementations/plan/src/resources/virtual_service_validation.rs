//! `ValidateVirtualService` (pkg/config/validation/validation.go and virtualservice.go).

use super::common::{
    export_to, fqdn, ip_subnet, is_authority, is_dns_label, is_header_name, label_syntax, port_number,
    wildcard_domain,
};
use super::destination_rule::subset_name;
use super::durations::check_duration;
use super::hosts::{MESH, matches, subset_of};
use super::problems::Problems;
use super::virtual_service::{
    Destination, HttpDestination, HttpMatch, HttpRoute, L4Match, RouteDestination, TlsMatch, TlsRoute,
    VirtualService,
};
use super::virtual_service_analysis::warn_unreachable;

impl VirtualService {
    /// Whether it is for gateways alone (istiod: `isGateway`).
    fn applies_to_gateway(&self) -> bool {
        !self.gateways.is_empty() && !self.gateways.iter().any(|g| g == MESH)
    }

    pub(crate) fn validate(&self, namespace: &str, problems: &mut Problems) {
        let delegate = self.hosts.is_empty();
        if delegate {
            for (name, set) in [
                ("gateways", !self.gateways.is_empty()),
                ("tls route", !self.tls.is_empty()),
                ("tcp route", !self.tcp.is_empty()),
            ] {
                if set {
                    problems.error(format!("delegate virtual service must have no {name} specified"));
                }
            }
        }
        gateway_names(&self.gateways, problems);
        if !self.applies_to_gateway() {
            self.validate_claims(problems);
        }
        self.validate_hosts(problems);
        if self.http.is_empty() && self.tls.is_empty() && self.tcp.is_empty() {
            problems.error("http, tcp or tls must be provided in virtual service");
        }
        for (i, route) in self.http.iter().enumerate() {
            route.validate(delegate, &format!("spec.http[{i}]"), problems);
        }
        for route in &self.tls {
            self.validate_tls_route(route, problems);
        }
        for route in &self.tcp {
            for condition in &route.matches {
                condition.validate(problems);
            }
            if route.route.is_empty() {
                problems.error("TCP route is required");
            }
            route_destinations(&route.route, problems);
        }
        export_to(namespace, &self.export_to, false, false, problems);
        warn_unreachable(self, problems);
    }

    fn validate_claims(&self, problems: &mut Problems) {
        let conditions = || self.http.iter().flat_map(|r| &r.matches);
        let names = conditions().flat_map(|m| m.headers.keys().chain(m.without_headers.keys()));
        for name in names.filter(|n| is_claim(n)) {
            problems.error(format!(
                "JWT claim based routing (key: {name}) is only supported for gateway, found no gateways: [{}]",
                self.gateways.join(" ")
            ));
        }
    }

    fn validate_hosts(&self, problems: &mut Problems) {
        let mut all_valid = true;
        for host in &self.hosts {
            // An SNI host of AUTO_PASSTHROUGH is one for a gateway.
            let generated = self.applies_to_gateway() && host.starts_with("outbound_");
            match wildcard_domain(host) {
                Err(_) if generated || host.parse::<std::net::IpAddr>().is_ok() => {}
                Err(text) => {
                    problems.error(text);
                    all_valid = false;
                }
                Ok(()) if host == "*" && !self.applies_to_gateway() => {
                    problems.error(
                        "wildcard host * is not allowed for virtual services bound to the mesh gateway",
                    );
                    all_valid = false;
                }
                Ok(()) => {}
            }
        }
        if !all_valid {
            return;
        }
        for (i, host) in self.hosts.iter().enumerate() {
            for other in self.hosts[i + 1..].iter().filter(|other| matches(host, other)) {
                problems.error(format!("duplicate hosts in virtual service: {host} & {other}"));
            }
        }
    }

    fn validate_tls_route(&self, route: &TlsRoute, problems: &mut Problems) {
        if route.matches.is_empty() {
            problems.error("TLS route must have at least one match condition");
        }
        for condition in &route.matches {
            self.validate_tls_match(condition, problems);
        }
        if route.route.is_empty() {
            problems.error("TLS route is required");
        }
        route_destinations(&route.route, problems);
    }

    fn validate_tls_match(&self, condition: &TlsMatch, problems: &mut Problems) {
        if condition.sni_hosts.is_empty() {
            problems.error("TLS match must have at least one SNI host");
        }
        for sni in &condition.sni_hosts {
            if sni.parse::<std::net::IpAddr>().is_ok() {
                problems.warn(format!(
                    "using an IP address ({sni:?}) goes against SNI spec and most clients do not support this"
                ));
                continue;
            }
            if self.applies_to_gateway() && sni.starts_with("outbound_") {
                continue;
            }
            if let Err(text) = wildcard_domain(sni) {
                problems.error(text);
            } else if !self.hosts.iter().any(|h| subset_of(sni, h)) {
                problems.error(format!(
                    "SNI host {sni:?} is not a compatible subset of any of the virtual service hosts: [{}]",
                    self.hosts.join(", ")
                ));
            }
        }
        for subnet in &condition.destination_subnets {
            problems.check(ip_subnet(subnet));
        }
        if condition.port != 0 {
            problems.check(port_number(condition.port));
        }
        label_syntax(&condition.source_labels, problems);
        gateway_names(&condition.gateways, problems);
    }
}

impl L4Match {
    fn validate(&self, problems: &mut Problems) {
        for subnet in &self.destination_subnets {
            problems.check(ip_subnet(subnet));
        }
        if self.port != 0 {
            problems.check(port_number(self.port));
        }
        label_syntax(&self.source_labels, problems);
        gateway_names(&self.gateways, problems);
    }
}

impl HttpRoute {
    /// `validateHTTPRoute`.
    fn validate(&self, delegate: bool, place: &str, problems: &mut Problems) {
        self.validate_conflicts(delegate, problems);
        for condition in &self.matches {
            condition.validate(problems);
        }
        if let Some(headers) = &self.headers {
            headers.validate(problems);
        }
        if let Some(policy) = &self.cors_policy {
            policy.validate(problems);
        }
        if let Some(fault) = &self.fault {
            fault.validate(problems);
        }
        self.validate_mirrors(problems);
        if let Some(redirect) = &self.redirect {
            redirect.validate(&self.matches, problems);
        }
        if let Some(response) = &self.direct_response {
            response.validate(problems);
        }
        if let Some(retries) = &self.retries {
            retries.validate(&format!("{place}.retries"), problems);
        }
        if let Some(rewrite) = &self.rewrite {
            rewrite.validate(problems);
        }
        self.validate_authority(problems);
        self.validate_destinations(problems);
        if let Some(timeout) = &self.timeout {
            check_duration(timeout, problems);
        }
        let passed_over = [
            ("fault", self.fault.is_some()),
            ("corsPolicy", self.cors_policy.is_some()),
            ("mirror", self.mirror.is_some()),
            ("mirrors", !self.mirrors.is_empty()),
        ];
        problems.pass_over(place, &passed_over);
    }

    fn validate_mirrors(&self, problems: &mut Problems) {
        if let Some(value) = self.mirror_percent {
            if value > 100 {
                problems.error(format!("mirror_percent must have a max value of 100 (it has {value})"));
            }
            problems.warn("using deprecated setting \"mirrorPercent\", use \"mirrorPercentage\" instead");
        }
        if let Some(percent) = &self.mirror_percentage {
            share("mirror_percentage", percent.value, problems);
        }
        if let Some(mirror) = &self.mirror {
            destination(mirror, problems);
        }
        for mirror in &self.mirrors {
            let Some(to) = &mirror.destination else {
                problems.error("destination is required for mirrors");
                continue;
            };
            destination(to, problems);
            if let Some(percent) = &mirror.percentage {
                share("mirror percentage", percent.value, problems);
            }
        }
    }

    /// `validateHTTPRouteConflict`.
    fn validate_conflicts(&self, delegate: bool, problems: &mut Problems) {
        if self.delegate.is_some() && !delegate {
            for (name, set) in [("redirect", self.redirect.is_some()), ("route", !self.route.is_empty())] {
                if set {
                    problems.error(format!("root HTTP route {} must not specify {name}", self.name));
                }
            }
            return;
        }
        if self.delegate.is_some() {
            problems.error("delegate HTTP route cannot contain delegate");
        }
        let action = match (&self.redirect, &self.direct_response) {
            (Some(_), _) => Some("redirect"),
            (None, Some(_)) => Some("direct_response"),
            (None, None) => None,
        };
        match action {
            Some(action) => {
                let beside = [
                    ("route", "", !self.route.is_empty()),
                    ("fault", "", self.fault.is_some()),
                    ("rewrite", " rule", self.rewrite.is_some()),
                    ("direct_response", " rule", action == "redirect" && self.direct_response.is_some()),
                ];
                for (name, rule, _) in beside.into_iter().filter(|(_, _, set)| *set) {
                    problems.error(format!("HTTP route{rule} cannot contain both {name} and {action}"));
                }
            }
            None if self.route.is_empty() => {
                problems.error("HTTP route, redirect or direct_response is required");
            }
            None => {}
        }
        if self.mirror.is_some() && !self.mirrors.is_empty() {
            problems.error("HTTP route cannot contain both mirror and mirrors");
        }
    }

    /// `validateAuthorityRewrite`.
    fn validate_authority(&self, problems: &mut Problems) {
        let mut current = self.rewrite.as_ref().map(|r| r.authority.clone()).unwrap_or_default();
        let request = self.headers.as_ref().and_then(|h| h.request.as_ref());
        let set = request.into_iter().flat_map(|r| r.set.iter().chain(&r.add));
        for (_, value) in set.filter(|(name, _)| is_authority(name)) {
            if !current.is_empty() {
                problems.error(format!(
                    "authority header cannot be set multiple times: have {current:?}, attempting to set {value:?}"
                ));
                return;
            }
            current.clone_from(value);
        }
    }

    /// `validateHTTPRouteDestinations`.
    fn validate_destinations(&self, problems: &mut Problems) {
        for HttpDestination { destination: to, headers, weight } in &self.route {
            if to.is_none() {
                problems.listed("destination is required");
            }
            if let Some(headers) = headers {
                headers.validate(problems);
            }
            if let Some(to) = to {
                destination(to, problems);
            }
            check_weight(*weight, problems);
        }
        total_weight(self.route.iter().map(|d| d.weight), problems);
    }
}

fn share(name: &str, value: f64, problems: &mut Problems) {
    if value > 100.0 {
        problems.error(format!("{name} must have a max value of 100 (it has {value:.6})"));
    }
    if value < 0.0 {
        problems.error(format!("{name} must have a min value of 0 (it has {value:.6})"));
    }
}

impl HttpMatch {
    /// `validateHTTPRouteMatchRequest`.
    fn validate(&self, problems: &mut Problems) {
        for (name, condition) in &self.headers {
            header_name(name, problems);
            condition.validate("headers", problems);
            if is_claim(name) {
                problems.unsupported("spec.http.match.headers: JWT claims");
            }
        }
        for (name, condition) in &self.without_headers {
            header_name(name, problems);
            // `*` is no regular expression there: it stands for presence.
            if condition.regex.as_deref() != Some("*") {
                condition.validate("withoutHeaders", problems);
            }
            if is_claim(name) {
                problems.unsupported("spec.http.match.withoutHeaders: JWT claims");
            }
        }
        let named = [
            ("uri", &self.uri),
            ("scheme", &self.scheme),
            ("method", &self.method),
            ("authority", &self.authority),
        ];
        for (name, condition) in named {
            if let Some(condition) = condition {
                condition.validate(name, problems);
            }
        }
        for condition in self.query_params.values() {
            condition.validate("queryParams", problems);
        }
        if self.port != 0 {
            problems.check(port_number(self.port));
        }
        label_syntax(&self.source_labels, problems);
        gateway_names(&self.gateways, problems);
        if !self.source_namespace.is_empty() && !is_dns_label(&self.source_namespace) {
            problems.error(format!("sourceNamespace match {} is invalid", self.source_namespace));
        }
    }
}

/// Whether a name stands for a claim of a JWT (`jwt.ToRoutingClaim`).
fn is_claim(name: &str) -> bool {
    name.to_ascii_lowercase().starts_with("@request.auth.claims")
}

/// `ValidateHTTPHeaderNameOrJwtClaimRoute`.
fn header_name(name: &str, problems: &mut Problems) {
    if name.is_empty() {
        problems.error("header name cannot be empty");
    } else if !is_claim(name)
        && !matches!(name, ":method" | ":scheme" | ":authority" | ":path" | ":status")
        && !is_header_name(name)
    {
        problems.error(format!("header name {name} is not a valid header name"));
    }
}

/// `validateWeight`.
fn check_weight(weight: i32, problems: &mut Problems) {
    if weight < 0 {
        problems.error(format!("weight {weight} < 0"));
    }
}

/// Several destinations must share more than nothing.
fn total_weight(weights: impl ExactSizeIterator<Item = i32>, problems: &mut Problems) {
    if weights.len() > 1 && weights.map(i64::from).sum::<i64>() == 0 {
        problems.error("total destination weight = 0");
    }
}

/// `validateRouteDestinations`.
fn route_destinations(routes: &[RouteDestination], problems: &mut Problems) {
    for route in routes {
        match &route.destination {
            None => problems.listed("destination is required"),
            Some(to) => destination(to, problems),
        }
        check_weight(route.weight, problems);
    }
    total_weight(routes.iter().map(|d| d.weight), problems);
}

/// `validateDestination`.
fn destination(to: &Destination, problems: &mut Problems) {
    if to.host == "*" {
        problems.error(format!("invalid destination host {}", to.host));
    } else {
        problems.check(wildcard_domain(&to.host));
    }
    if !to.subset.is_empty() {
        problems.check(subset_name(&to.subset));
    }
    if let Some(port) = &to.port {
        problems.check(port_number(port.number));
    }
}

/// `validateGatewayNames`, which looks no further after the first name without a namespace.
fn gateway_names(names: &[String], problems: &mut Problems) {
    for name in names {
        let Some((namespace, gateway)) = name.split_once('/') else {
            let mut parts = name.split('.');
            if let (Some(gateway), Some(namespace)) = (parts.next(), parts.next()) {
                problems.warn(format!(
                    "using legacy gatewayName format {name:?}; prefer the <namespace>/<name> format: \
                     \"{namespace}/{gateway}\""
                ));
            }
            problems.check(fqdn(name));
            return;
        };
        if namespace.is_empty() || gateway.is_empty() {
            problems.error("config namespace and gateway name cannot be empty");
        }
        if !is_dns_label(namespace) {
            problems.error(format!("invalid value for namespace: {namespace:?}"));
        }
        if !is_dns_label(gateway) {
            problems.error(format!("invalid value for gateway name: {gateway:?}"));
        }
    }
}
