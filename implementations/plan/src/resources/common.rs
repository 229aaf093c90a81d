//! What several kinds of resource share.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

/// A value of Istio's API that the plan does not support. It is read so that the refusal can name it.
pub(crate) type NotCarriedOut = Option<Value>;

/// Refuses the first field that is set.
///
/// # Errors
/// Names the field.
pub(crate) fn refuse_set(place: &str, fields: &[(&str, bool)]) -> Result<(), Refusal> {
    match fields.iter().find(|(_, set)| *set) {
        Some((name, _)) => Err(unsupported(&format!("{place}.{name}"))),
        None => Ok(()),
    }
}

/// Why a resource cannot be in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// istiod's validation rejects it, for this reason.
    ByIstio(String),
    /// Istio accepts it, and the plan does not support this field or kind.
    Unsupported(String),
}

/// Validation speaks for Istio unless it says otherwise.
impl From<String> for Refusal {
    fn from(reason: String) -> Self {
        Self::ByIstio(reason)
    }
}

/// A field or kind that Istio accepts and the plan does not support.
pub(crate) fn unsupported(what: &str) -> Refusal {
    Refusal::Unsupported(what.to_owned())
}

/// istio.io/api networking/v1alpha3, PortSelector.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PortSelector {
    #[serde(default)]
    pub(crate) number: u32,
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
    #[serde(default, alias = "target_port")]
    pub(crate) target_port: Option<u32>,
}

/// StringMatch: exactly one of the three.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct StringMatch {
    pub(crate) exact: Option<String>,
    pub(crate) prefix: Option<String>,
    pub(crate) regex: Option<String>,
}

impl StringMatch {
    /// # Errors
    /// Several of the three at once (a oneof in the API), an empty prefix or regex, or a regex that does not compile
    /// (istiod: `validateStringMatch`). `empty_prefix` allows what istiod allows for `uri` alone.
    pub(crate) fn validate(&self, place: &str, empty_prefix: bool) -> Result<(), String> {
        let set = [&self.exact, &self.prefix, &self.regex].into_iter().filter(|m| m.is_some()).count();
        if set > 1 {
            return Err(format!("{place}: only one of exact, prefix and regex may be set"));
        }
        if self.prefix.as_deref() == Some("") && !empty_prefix {
            return Err(format!("{place}: a prefix must not be empty"));
        }
        if let Some(expression) = &self.regex {
            if expression.is_empty() {
                return Err(format!("{place}: a regex must not be empty"));
            }
            // istiod allows as much (validateStringRegexp); a bound keeps the compiler cheap on hostile input.
            if expression.len() > 1024 {
                return Err(format!("{place}: a regex may have at most 1024 characters"));
            }
            if expression != "*" {
                regex_syntax::parse(expression).map_err(|e| format!("{place}: invalid regex: {e}"))?;
            }
        }
        Ok(())
    }
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
    #[serde(default, alias = "match_labels")]
    pub(crate) match_labels: BTreeMap<String, String>,
}

/// Whether every wanted label is there (istiod: `labels.Instance.SubsetOf`).
pub(crate) fn labels_match(wanted: &BTreeMap<String, String>, there: &BTreeMap<String, String>) -> bool {
    wanted.iter().all(|(key, value)| there.get(key) == Some(value))
}

/// # Errors
/// Not in 1..65535 (istiod: `agent.ValidatePort`).
pub(crate) fn port_number(place: &str, number: u32) -> Result<u16, String> {
    u16::try_from(number)
        .ok()
        .filter(|n| *n != 0)
        .ok_or_else(|| format!("{place}: port {number} is not in the range 1..65535"))
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

fn domain_length(domain: &str) -> Result<(), String> {
    match domain.len() {
        0 => Err("an empty domain name is not allowed".to_owned()),
        1..=255 => Ok(()),
        _ => Err(format!("domain name {domain:?} is longer than 255")),
    }
}

fn dns_labels(domain: &str) -> Result<(), String> {
    let labels: Vec<&str> = domain.split('.').collect();
    for (i, label) in labels.iter().enumerate() {
        // A trailing dot makes the last label empty; istiod allows that.
        let trailing = i + 1 == labels.len() && i > 0 && label.is_empty();
        if !trailing && !is_dns_label(label) {
            return Err(format!("domain name {domain:?} is invalid (label {label:?})"));
        }
    }
    if labels.iter().rev().find(|l| !l.is_empty()).is_some_and(|l| l.chars().all(|c| c.is_ascii_digit())) {
        return Err(format!("domain name {domain:?} is invalid (its top-level label is a number)"));
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
        return Err(format!("domain name {domain:?} is invalid (label {first:?})"));
    }
    rest.map_or(Ok(()), dns_labels)
}

/// # Errors
/// The combinations that istiod's `validateExportTo` refuses. `none` says whether `~` is allowed (ServiceEntry).
pub(crate) fn export_to(namespace: &str, entries: &[String], none: bool) -> Result<(), String> {
    let mut seen = Vec::new();
    for entry in entries {
        let key = if entry == "." { namespace } else { entry.as_str() };
        if seen.contains(&key) {
            return Err(format!("exportTo has {entry:?} twice"));
        }
        let known = matches!(key, "*") || (key == "~" && none) || is_dns_label(key);
        if !known {
            return Err(format!("exportTo: {entry:?} is not \".\", \"*\" or a namespace"));
        }
        seen.push(key);
    }
    if seen.contains(&"*") && seen.len() > 1 {
        return Err("exportTo cannot have both \"*\" and other entries".to_owned());
    }
    if seen.contains(&"~") && seen.len() > 1 {
        return Err("exportTo cannot have both \"~\" and other entries".to_owned());
    }
    Ok(())
}

/// Reads `1h`, `1m`, `1.5s`, `100ms` and their sums.
///
/// # Errors
/// Not a duration, or shorter than a millisecond (istiod: `agent.ValidateDuration`).
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let invalid = || format!("{text:?} is not a duration such as 10s or 100ms");
    let mut rest = text;
    let mut total = Duration::ZERO;
    if rest.is_empty() {
        return Err(invalid());
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !(c.is_ascii_digit() || c == '.')).ok_or_else(invalid)?;
        let (number, unit) = rest.split_at(digits);
        let end = unit.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(unit.len());
        let (unit, next) = unit.split_at(end);
        let scale = match unit {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 0.001,
            _ => return Err(invalid()),
        };
        let number: f64 = number.parse().map_err(|_| invalid())?;
        let part = Duration::try_from_secs_f64(number * scale).map_err(|_| invalid())?;
        total = total.checked_add(part).ok_or_else(invalid)?;
        rest = next;
    }
    if total.is_zero() || total >= Duration::from_millis(1) {
        Ok(total)
    } else {
        Err(format!("{text:?} is shorter than 1ms"))
    }
}
