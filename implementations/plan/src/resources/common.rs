//! What several kinds of resource share.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::Deserialize;
use serde_json::Value;

use super::problems::Problems;
use crate::re2;

/// A value of Istio's API that is not interpreted.
pub(crate) type Opaque = Option<Value>;

/// istio.io/api networking/v1alpha3, PortSelector.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PortSelector {
    #[serde(default)]
    pub(crate) number: u32,
}

/// Percent.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Percent {
    #[serde(default)]
    pub(crate) value: f64,
}

/// Port of a Gateway's server.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Port {
    #[serde(default)]
    pub(crate) number: u32,
    #[serde(default)]
    pub(crate) protocol: String,
    #[serde(default)]
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) target_port: Option<u32>,
}

/// StringMatch: at most one of the three.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct StringMatch {
    pub(crate) exact: Option<String>,
    pub(crate) prefix: Option<String>,
    pub(crate) regex: Option<String>,
}

impl StringMatch {
    /// `validateStringMatch`; `place` is what istiod calls the field. An empty prefix is allowed for `uri` alone
    /// (`validateStringMatchRegexp`).
    pub(crate) fn validate(&self, place: &str, problems: &mut Problems) {
        if self.prefix.as_deref() == Some("") && place != "uri" {
            problems.error(format!("{place:?}: prefix string match should not be empty"));
        }
        if let Some(expression) = &self.regex {
            problems.check(regex(expression, place));
        }
    }
}

/// `validateStringRegexp`.
///
/// # Errors
/// Empty, too large, or not RE2.
pub(crate) fn regex(expression: &str, place: &str) -> Result<(), String> {
    if expression.is_empty() {
        return Err(format!("{place:?}: regex string match should not be empty"));
    }
    if expression.len() > 1024 {
        return Err(format!("{place:?}: regex is too large, max length allowed is 1024"));
    }
    re2::translate(expression).map(|_| ()).map_err(|e| {
        format!(
            "{place:?}: error parsing regexp: {e}; Istio uses RE2 style regex-based match \
             (https://github.com/google/re2/wiki/Syntax)"
        )
    })
}

/// WorkloadSelector of the networking API (`labels`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LabelSelector {
    #[serde(default)]
    pub(crate) labels: BTreeMap<String, String>,
}

/// WorkloadSelector of the type API (`matchLabels`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct MatchLabels {
    #[serde(default)]
    pub(crate) match_labels: BTreeMap<String, String>,
}

/// `ValidateAlphaWorkloadSelector` and `validateWorkloadSelector`. `warning` is what istiod says of a selector without labels.
pub(crate) fn selector(labels: &BTreeMap<String, String>, warning: &str, problems: &mut Problems) {
    for (key, value) in labels {
        let pair = format!("{key}={value}");
        if key.is_empty() {
            problems.error(format!("empty key is not supported in selector: {pair:?}"));
        }
        if pair.contains('*') {
            problems.error(format!("wildcard is not supported in selector: {pair:?}"));
        }
    }
    if labels.is_empty() {
        problems.warn(warning);
    }
}

/// `labels.Instance.Validate` (pkg/config/labels/instance.go): of a subset.
pub(crate) fn label_syntax(labels: &BTreeMap<String, String>, problems: &mut Problems) {
    let inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let qualified = |text: &str| {
        text.chars().all(inner)
            && text.starts_with(|c: char| c.is_ascii_alphanumeric())
            && text.ends_with(|c: char| c.is_ascii_alphanumeric())
    };
    for (key, value) in labels {
        let (prefix, name) = match key.split_once('/') {
            Some((prefix, name)) => (Some(prefix), name),
            None => (None, key.as_str()),
        };
        let domain = |p: &str| p.split('.').all(is_dns_label);
        if !qualified(name) || !prefix.is_none_or(domain) {
            problems.listed(format!("invalid tag key: {key:?}"));
        } else if prefix.is_some_and(|p| p.len() > 253) {
            problems.listed(format!("invalid tag key: {key:?} (DNS prefix is too long)"));
        } else if name.len() > 63 {
            problems.listed(format!("invalid tag key: {key:?} (name is too long)"));
        }
        if !(value.is_empty() || qualified(value) && value.len() <= 63) {
            problems.listed(format!("invalid tag value: {value:?}"));
        }
    }
}

/// Whether every wanted label is there (istiod: `labels.Instance.SubsetOf`).
pub(crate) fn labels_match(wanted: &BTreeMap<String, String>, there: &BTreeMap<String, String>) -> bool {
    wanted.iter().all(|(key, value)| there.get(key) == Some(value))
}

/// `agent.ValidatePort`.
///
/// # Errors
/// Not in 1..65535.
pub(crate) fn port_number(number: u32) -> Result<(), String> {
    match u16::try_from(number) {
        Ok(1..) => Ok(()),
        Ok(0) | Err(_) => Err(format!("port number {number} must be in the range 1..65535")),
    }
}

/// A name of letters, digits and inner hyphens, at most 63 (istiod: `labels.IsDNS1123Label`).
pub(crate) fn is_dns_label(label: &str) -> bool {
    let inner = |c: char| c.is_ascii_alphanumeric() || c == '-';
    !label.is_empty()
        && label.len() <= 63
        && label.chars().all(inner)
        && !label.starts_with('-')
        && !label.ends_with('-')
}

/// `ValidatePortName`.
///
/// # Errors
/// Not a DNS label.
pub(crate) fn port_name(name: &str) -> Result<(), String> {
    if is_dns_label(name) { Ok(()) } else { Err(format!("invalid port name: {name}")) }
}

/// `CheckDNS1123Preconditions`.
fn domain_length(domain: &str) -> Result<(), String> {
    match domain.len() {
        0 => Err("empty domain name not allowed".to_owned()),
        1..=255 => Ok(()),
        _ => Err(format!("domain name {domain:?} too long (max 255)")),
    }
}

/// `ValidateDNS1123Labels`.
fn dns_labels(domain: &str) -> Result<(), String> {
    let labels: Vec<&str> = domain.split('.').collect();
    let top = labels.last().copied().unwrap_or_default();
    if top.parse::<i64>().is_ok() {
        return Err(format!(
            "domain name {domain:?} invalid (top level domain {top:?} cannot be all-numeric)"
        ));
    }
    for (i, label) in labels.iter().enumerate() {
        // A trailing dot makes the last label empty; istiod allows that.
        if i + 1 == labels.len() && label.is_empty() {
            return Ok(());
        }
        if !is_dns_label(label) {
            return Err(format!("domain name {domain:?} invalid (label {label:?} invalid)"));
        }
    }
    Ok(())
}

/// # Errors
/// Not a fully qualified name (istiod: `agent.ValidateFQDN`).
pub(crate) fn fqdn(domain: &str) -> Result<(), String> {
    domain_length(domain)?;
    dns_labels(domain)
}

/// # Errors
/// Not a name, whose first label may be or begin with `*` (istiod: `agent.ValidateWildcardDomain`).
pub(crate) fn wildcard_domain(domain: &str) -> Result<(), String> {
    domain_length(domain)?;
    let (first, rest) = match domain.split_once('.') {
        Some((first, rest)) => (first, Some(rest)),
        None => (domain, None),
    };
    let plain = first.strip_prefix("*-").or_else(|| first.strip_prefix('*')).unwrap_or(first);
    if !(first == "*" || is_dns_label(plain)) {
        return Err(format!("domain name {domain:?} invalid (label {first:?} invalid)"));
    }
    rest.map_or(Ok(()), dns_labels)
}

/// `agent.ValidatePartialWildCard`.
///
/// # Errors
/// A `*` that is neither the whole name nor its first label.
pub(crate) fn partial_wildcard(host: &str) -> Result<(), String> {
    if host.contains('*') && host.len() != 1 && !host.starts_with("*.") {
        return Err(format!("partial wildcard {host:?} not allowed"));
    }
    Ok(())
}

/// `agent.ValidateIPAddress`.
///
/// # Errors
/// Not an IP address.
pub(crate) fn ip_address(text: &str) -> Result<(), String> {
    text.parse::<IpAddr>().map(|_| ()).map_err(|_| format!("{text} is not a valid IP"))
}

/// `agent.ValidateIPSubnet`.
///
/// # Errors
/// Neither an IP address nor a CIDR.
pub(crate) fn ip_subnet(text: &str) -> Result<(), String> {
    let Some((ip, bits)) = text.split_once('/').filter(|(_, bits)| !bits.contains('/')) else {
        return ip_address(text);
    };
    let most = match ip.parse::<IpAddr>() {
        Ok(IpAddr::V4(_)) => 32,
        Ok(IpAddr::V6(_)) => 128,
        Err(_) => return Err(format!("{text} is not a valid CIDR block")),
    };
    let valid = bits.parse::<u8>().is_ok_and(|b| b <= most) && !(bits.len() > 1 && bits.starts_with('0'));
    if valid { Ok(()) } else { Err(format!("{text} is not a valid CIDR block")) }
}

/// `ValidateUnixAddress`.
///
/// # Errors
/// Neither an absolute path to a file nor an abstract socket.
pub(crate) fn unix_address(path: &str) -> Result<(), String> {
    if path.is_empty() {
        return Err("unix address must not be empty".to_owned());
    }
    if path.starts_with('@') || (path.starts_with('/') && !path.ends_with('/')) {
        return Ok(());
    }
    Err(format!("{path} is not an absolute path to a file"))
}

/// `validateExportTo`. `entry`: of a ServiceEntry, which may have `~`. `selects`: of a DestinationRule with a
/// `workloadSelector`.
pub(crate) fn export_to(
    namespace: &str,
    entries: &[String],
    entry: bool,
    selects: bool,
    problems: &mut Problems,
) {
    let mut seen: Vec<&str> = Vec::new();
    for listed in entries {
        let key = if listed == "." { namespace } else { listed.as_str() };
        if seen.contains(&key) {
            problems.error(if key == listed {
                format!("duplicate entries in exportTo for entry {listed}")
            } else {
                format!("duplicate entries in exportTo: . and current namespace {namespace}")
            });
            continue;
        }
        match key {
            "~" if !entry => {
                problems.error("exportTo ~ (none) is not allowed for Istio configuration objects");
                continue;
            }
            "*" | "~" => {}
            name if is_dns_label(name) => {}
            _ => {
                problems.error("only .,*, or a valid DNS 1123 label is allowed as exportTo entry");
                continue;
            }
        }
        seen.push(key);
    }
    if selects && !seen.is_empty() {
        if !seen.contains(&namespace) {
            problems.error(
                "destination rule with workload selector cannot have exportTo beyond current namespace",
            );
        } else if seen.len() > 1 {
            problems
                .error("destination rule with workload selector cannot have multiple entries in exportTo");
        }
    }
    if seen.contains(&"*") && entries.len() > 1 {
        problems.error("cannot have both public (*) and non-public exportTo values for a resource");
    }
    if seen.contains(&"~") && entries.len() > 1 {
        problems.error("cannot export service entry to no one (~) and someone");
    }
}

/// `:authority` and Host (istiod: `isAuthorityHeader`).
pub(crate) fn is_authority(name: &str) -> bool {
    name.eq_ignore_ascii_case(":authority") || name.eq_ignore_ascii_case("host")
}

/// A token of RFC 9110, section 5.1.
pub(crate) fn is_header_name(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c))
}

/// Whether a number is a registered HTTP status code (`net/http.StatusText`).
pub(crate) fn is_status(code: u16) -> bool {
    http::StatusCode::from_u16(code).is_ok_and(|c| c.canonical_reason().is_some())
}
