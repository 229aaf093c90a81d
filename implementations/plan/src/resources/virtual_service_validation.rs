//! What istiod's `ValidateVirtualService` refuses (pkg/config/validation/validation.go and virtualservice.go).

use super::common::{
    Refusal, duration, export_to, fqdn, is_dns_label, port_number, refuse_set, unsupported, wildcard_domain,
};
use super::hosts::{MESH, matches, subset_of};
use super::virtual_service::{
    Destination, DirectResponse, Headers, HttpDestination, HttpMatch, HttpRoute, Redirect, TlsRoute,
    VirtualService,
};

impl VirtualService {
    /// Whether any gateway but `mesh` is named (istiod: `isGateway`).
    fn applies_to_gateway(&self) -> bool {
        self.gateways.iter().any(|g| g != MESH)
    }

    /// # Errors
    /// What istiod refuses, and what is not carried out.
    pub(crate) fn validate(&self, namespace: &str) -> Result<(), Refusal> {
        let delegate = self.hosts.is_empty();
        if delegate {
            for (name, set) in [
                ("gateways", !self.gateways.is_empty()),
                ("tls routes", !self.tls.is_empty()),
                ("tcp routes", self.tcp.is_some()),
            ] {
                if set {
                    return Err(format!(
                        "a VirtualService without hosts is a delegate, and may have no {name}"
                    )
                    .into());
                }
            }
        }
        gateway_names(&self.gateways)?;
        self.validate_hosts()?;
        if self.http.is_empty() && self.tls.is_empty() && self.tcp.is_none() {
            return Err("a VirtualService must have http, tcp or tls routes".to_owned().into());
        }
        for route in &self.http {
            route.validate(delegate)?;
        }
        for route in &self.tls {
            self.validate_tls_route(route)?;
        }
        export_to(namespace, &self.export_to, false)?;
        refuse_set("spec", &[("tcp", self.tcp.is_some())])
    }

    fn validate_hosts(&self) -> Result<(), Refusal> {
        for host in &self.hosts {
            if host.parse::<std::net::IpAddr>().is_ok() {
                continue;
            }
            wildcard_domain(host)?;
            if host == "*" && !self.applies_to_gateway() {
                return Err("the host \"*\" is not allowed for the mesh gateway".to_owned().into());
            }
        }
        for (i, host) in self.hosts.iter().enumerate() {
            if let Some(other) = self.hosts[i + 1..].iter().find(|other| matches(host, other)) {
                return Err(format!("hosts {host:?} and {other:?} overlap").into());
            }
        }
        Ok(())
    }

    fn validate_tls_route(&self, route: &TlsRoute) -> Result<(), Refusal> {
        if route.matches.is_empty() {
            return Err("a TLS route must have at least one match".to_owned().into());
        }
        for condition in &route.matches {
            if condition.sni_hosts.is_empty() {
                return Err("a TLS match must have at least one SNI host".to_owned().into());
            }
            for sni in &condition.sni_hosts {
                if sni.parse::<std::net::IpAddr>().is_ok() {
                    continue;
                }
                wildcard_domain(sni)?;
                if !self.hosts.iter().any(|h| subset_of(sni, h)) {
                    return Err(format!("SNI host {sni:?} is in none of the VirtualService's hosts").into());
                }
            }
            if condition.port != 0 {
                port_number("tls.match", condition.port)?;
            }
            gateway_names(&condition.gateways)?;
            refuse_set(
                "spec.tls.match",
                &[("destinationSubnets", !condition.destination_subnets.is_empty())],
            )?;
        }
        if route.route.is_empty() {
            return Err("a TLS route must have a destination".to_owned().into());
        }
        let weights = route.route.iter().map(|d| d.weight).collect::<Vec<_>>();
        validate_weights(&weights)?;
        for destination in &route.route {
            validate_destination(destination.destination.as_ref())?;
        }
        if route.route.iter().filter(|d| d.weight > 0).count() > 1 {
            return Err(unsupported("spec.tls.route with several destinations"));
        }
        Ok(())
    }
}

impl HttpRoute {
    fn validate(&self, delegate: bool) -> Result<(), Refusal> {
        self.validate_conflicts(delegate)?;
        for condition in &self.matches {
            condition.validate()?;
        }
        if let Some(headers) = &self.headers {
            headers.validate()?;
        }
        if let Some(redirect) = &self.redirect {
            redirect.validate()?;
        }
        if let Some(response) = &self.direct_response {
            response.validate()?;
        }
        if let Some(rewrite) = &self.rewrite
            && rewrite.uri.is_empty()
            && rewrite.authority.is_empty()
            && rewrite.uri_regex_rewrite.is_none()
        {
            return Err("a rewrite must set uri, uriRegexRewrite or authority".to_owned().into());
        }
        self.validate_authority()?;
        self.validate_destinations()?;
        if let Some(timeout) = &self.timeout {
            duration(timeout)?;
        }
        refuse_set(
            "spec.http",
            &[
                ("delegate", self.delegate.is_some()),
                ("retries", self.retries.is_some()),
                ("fault", self.fault.is_some()),
                ("mirror", self.mirror.is_some()),
                ("mirrors", self.mirrors.is_some()),
                ("mirrorPercent", self.mirror_percent.is_some()),
                ("mirrorPercentage", self.mirror_percentage.is_some()),
                ("corsPolicy", self.cors_policy.is_some()),
                (
                    "rewrite.uriRegexRewrite",
                    self.rewrite.as_ref().is_some_and(|r| r.uri_regex_rewrite.is_some()),
                ),
            ],
        )
    }

    /// `validateHTTPRouteConflict`.
    fn validate_conflicts(&self, delegate: bool) -> Result<(), Refusal> {
        if self.delegate.is_some() {
            return if delegate {
                Err("a delegate's route cannot delegate".to_owned().into())
            } else if self.redirect.is_some() || !self.route.is_empty() {
                Err("a route that delegates must not route or redirect".to_owned().into())
            } else {
                Ok(())
            };
        }
        let action = match (&self.redirect, &self.direct_response) {
            (Some(_), Some(_)) => {
                return Err("a route cannot both redirect and answer directly".to_owned().into());
            }
            (Some(_), None) => "redirect",
            (None, Some(_)) => "answer directly",
            (None, None) if self.route.is_empty() => {
                return Err("a route must have a destination, a redirect or a direct response"
                    .to_owned()
                    .into());
            }
            (None, None) => return Ok(()),
        };
        if !self.route.is_empty() {
            return Err(format!("a route cannot both have a destination and {action}").into());
        }
        if self.fault.is_some() {
            return Err(format!("a route cannot both have a fault and {action}").into());
        }
        if self.rewrite.is_some() {
            return Err(format!("a route cannot both rewrite and {action}").into());
        }
        Ok(())
    }

    /// `validateAuthorityRewrite`.
    fn validate_authority(&self) -> Result<(), Refusal> {
        let request = self.headers.as_ref().and_then(|h| h.request.as_ref());
        let names = request.into_iter().flat_map(|r| r.set.keys().chain(r.add.keys()));
        let by_headers = names.filter(|n| is_authority(n)).count();
        let by_rewrite = usize::from(self.rewrite.as_ref().is_some_and(|r| !r.authority.is_empty()));
        if by_headers + by_rewrite > 1 {
            return Err("the authority cannot be set more than once".to_owned().into());
        }
        Ok(())
    }

    fn validate_destinations(&self) -> Result<(), Refusal> {
        let weights = self.route.iter().map(|d| d.weight).collect::<Vec<_>>();
        validate_weights(&weights)?;
        for HttpDestination { destination, headers, .. } in &self.route {
            validate_destination(destination.as_ref())?;
            if let Some(headers) = headers {
                headers.validate()?;
                if self.route.len() > 1 {
                    return Err(unsupported("spec.http.route.headers of one of several destinations"));
                }
            }
        }
        Ok(())
    }
}

impl HttpMatch {
    fn validate(&self) -> Result<(), Refusal> {
        // An empty uri prefix is allowed, and no other empty prefix (validateHTTPRouteMatchRequest).
        if let Some(uri) = &self.uri {
            uri.validate("match.uri", true)?;
        }
        let named = [("match.method", &self.method), ("match.authority", &self.authority)];
        for (place, condition) in named.into_iter().filter_map(|(p, c)| Some((p, c.as_ref()?))) {
            condition.validate(place, false)?;
        }
        for (name, condition) in &self.headers {
            if !is_header_name(name.strip_prefix(':').unwrap_or(name)) {
                return Err(format!("match.headers: {name:?} is not a header name").into());
            }
            if name.starts_with('@') {
                return Err(unsupported("spec.http.match.headers: JWT claims"));
            }
            condition.validate("match.headers", false)?;
        }
        for condition in self.query_params.values() {
            condition.validate("match.queryParams", false)?;
        }
        if self.port != 0 {
            port_number("match", self.port)?;
        }
        gateway_names(&self.gateways)?;
        if !self.source_namespace.is_empty() && !is_dns_label(&self.source_namespace) {
            return Err(format!("match.sourceNamespace {:?} is invalid", self.source_namespace).into());
        }
        refuse_set(
            "spec.http.match",
            &[
                ("scheme", self.scheme.is_some()),
                ("withoutHeaders", self.without_headers.is_some()),
                ("ignoreUriCase", self.ignore_uri_case),
            ],
        )
    }
}

impl Headers {
    fn validate(&self) -> Result<(), Refusal> {
        for (operations, request) in [(&self.request, true), (&self.response, false)] {
            let Some(operations) = operations else { continue };
            for (name, value) in operations.set.iter().chain(&operations.add) {
                let authority = request && is_authority(name);
                if !authority && !is_changeable_header(name) {
                    return Err(format!("headers: {name:?} cannot be changed").into());
                }
                if value.chars().any(|c| c.is_control() && c != '\t') {
                    return Err(format!("headers: the value of {name:?} is invalid").into());
                }
                // Envoy fills in what stands between percent signs; the plan has constant values alone.
                if value.contains('%') {
                    return Err(unsupported("headers with a % substitution"));
                }
            }
            if let Some(name) = operations.remove.iter().find(|n| !is_changeable_header(n)) {
                return Err(format!("headers: {name:?} cannot be removed").into());
            }
        }
        Ok(())
    }
}

/// `:authority` and Host (istiod: `isAuthorityHeader`).
pub(crate) fn is_authority(name: &str) -> bool {
    name.eq_ignore_ascii_case(":authority") || name.eq_ignore_ascii_case("host")
}

/// `ValidateHTTPHeaderOperationName`: pseudo-headers and Host are Envoy's own.
fn is_changeable_header(name: &str) -> bool {
    is_header_name(name) && !name.eq_ignore_ascii_case("host")
}

/// A token of RFC 9110, section 5.1.
fn is_header_name(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~@".contains(c))
}

impl Redirect {
    /// `validateHTTPRedirect`.
    fn validate(&self) -> Result<(), Refusal> {
        if !self.uri.is_empty() && !self.prefix_rewrite.is_empty() {
            return Err("a redirect may have only one of uri and prefixRewrite".to_owned().into());
        }
        let port = self.port.is_some() || self.derive_port.is_some();
        let texts = [&self.uri, &self.prefix_rewrite, &self.authority, &self.scheme];
        if !port && texts.into_iter().all(String::is_empty) {
            return Err("a redirect must set uri, authority, scheme or port".to_owned().into());
        }
        if self.port.is_some() && self.derive_port.is_some() {
            return Err("a redirect may have only one of port and derivePort".to_owned().into());
        }
        if !matches!(self.redirect_code, 0 | 300..=399) {
            return Err(format!("{} is not a redirect code", self.redirect_code).into());
        }
        if !matches!(self.redirect_code, 0 | 301 | 302 | 303 | 307 | 308) {
            return Err(unsupported(&format!("redirect.redirectCode: {}", self.redirect_code)));
        }
        if !matches!(self.scheme.as_str(), "" | "http" | "https") {
            return Err(format!("redirect scheme {:?} is not http or https", self.scheme).into());
        }
        if let Some(port) = self.port {
            port_number("redirect", port)?;
        }
        refuse_set("spec.http.redirect", &[("prefixRewrite", !self.prefix_rewrite.is_empty())])
    }
}

impl DirectResponse {
    /// `validateHTTPDirectResponse`.
    fn validate(&self) -> Result<(), Refusal> {
        if !(200..=599).contains(&self.status) {
            return Err(format!("direct response: {} is not an HTTP status", self.status).into());
        }
        let Some(body) = &self.body else { return Ok(()) };
        if body.string.as_ref().is_some_and(|b| b.len() > 1024 * 1024) {
            return Err("direct response: the body is larger than 1 MB".to_owned().into());
        }
        refuse_set("spec.http.directResponse.body", &[("bytes", body.bytes.is_some())])
    }
}

/// `validateWeight`, and that several destinations share more than nothing.
fn validate_weights(weights: &[i32]) -> Result<(), Refusal> {
    if let Some(weight) = weights.iter().find(|w| **w < 0) {
        return Err(format!("weight {weight} is below 0").into());
    }
    if weights.len() > 1 && weights.iter().all(|w| *w == 0) {
        return Err("the weights of all destinations are 0".to_owned().into());
    }
    Ok(())
}

/// `validateDestination`.
fn validate_destination(destination: Option<&Destination>) -> Result<(), Refusal> {
    let Some(destination) = destination else {
        return Err("a destination is required".to_owned().into());
    };
    if destination.host == "*" {
        return Err("the destination host \"*\" is invalid".to_owned().into());
    }
    if destination.host.is_empty() {
        return Err("a destination must have a host".to_owned().into());
    }
    wildcard_domain(&destination.host)?;
    if !destination.subset.is_empty() && !is_dns_label(&destination.subset) {
        return Err(format!("subset name {:?} is invalid", destination.subset).into());
    }
    if let Some(port) = &destination.port {
        port_number("destination", port.number)?;
    }
    Ok(())
}

/// `validateGatewayNames`.
fn gateway_names(names: &[String]) -> Result<(), Refusal> {
    for name in names {
        match name.split_once('/') {
            None => fqdn(name)?,
            Some((namespace, gateway)) => {
                if !(namespace == "." || is_dns_label(namespace)) || !is_dns_label(gateway) {
                    return Err(format!("gateway name {name:?} is invalid").into());
                }
            }
        }
    }
    Ok(())
}
