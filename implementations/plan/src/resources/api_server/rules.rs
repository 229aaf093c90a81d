//! The rules of the CRDs over values (`x-kubernetes-validations`), by names that stand for their expressions in CEL.

use serde_json::{Map, Value};

use super::openapi::printed;
use super::resolved;
use crate::resources::durations::nanoseconds;

/// What the rules of a schema, and of all within it, find (`Validate` of k8s.io/apiextensions-apiserver,
/// pkg/apiserver/schema/cel).
pub(super) fn broken(schema: &Value, value: &Value, path: &str, found: &mut Vec<String>) {
    let schema = resolved(schema);
    if value.is_null() {
        return;
    }
    let rules = schema.get("cel").and_then(Value::as_array).into_iter().flatten();
    for rule in rules {
        let text = |i: usize| rule.get(i).and_then(Value::as_str).unwrap_or_default();
        let (name, message) = (text(0), text(1));
        match holds(name, value).unwrap_or(Ok(true)) {
            Ok(true) => {}
            // The value of an object or a list is left out.
            Ok(false) if value.is_object() || value.is_array() => {
                found.push(format!("{path}: Invalid value: {message}"));
            }
            Ok(false) => found.push(format!("{path}: Invalid value: {}: {message}", printed(value))),
            Err(reason) => {
                let kind = schema.get("type").and_then(Value::as_str).unwrap_or_default();
                found.push(format!("{path}: Invalid value: {kind:?}: {reason} evaluating rule: {message}"));
            }
        }
    }
    match value {
        Value::Array(items) => {
            if let Some(of_items) = schema.get("items") {
                for (i, item) in items.iter().enumerate() {
                    broken(of_items, item, &format!("{path}[{i}]"), found);
                }
            }
        }
        Value::Object(members) => {
            let of_fields = schema.get("properties").and_then(Value::as_object);
            let of_others = schema.get("additionalProperties");
            for (name, member) in members {
                if let Some(of_member) = of_fields.and_then(|fields| fields.get(name)) {
                    broken(of_member, member, &format!("{path}.{name}"), found);
                } else if let Some(of_member) = of_others {
                    broken(of_member, member, &format!("{path}[{name}]"), found);
                }
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Whether a rule holds; an error where its expression cannot be evaluated, nothing where there is no such rule.
fn holds(rule: &str, value: &Value) -> Option<Result<bool, String>> {
    if let Some(fields) = rule.strip_prefix("atMostOne ") {
        return Some(Ok(set(value, fields) <= 1));
    }
    if let Some(fields) = rule.strip_prefix("exactlyOne ") {
        return Some(Ok(set(value, fields) == 1));
    }
    let whole = value.as_str().unwrap_or_default();
    let has = |name: &str| value.get(name).is_some();
    let text = |name: &str| value.get(name).and_then(Value::as_str).unwrap_or_default();
    let keys = || value.as_object().into_iter().flat_map(Map::keys);
    let items = |name: &str| value.get(name).and_then(Value::as_array).into_iter().flatten();
    let resolution = if has("resolution") { text("resolution") } else { "NONE" };
    Some(Ok(match rule {
        "duration" => match nanoseconds(whole) {
            Ok(value) => value >= 1_000_000,
            Err(_) => {
                return Some(Err(
                    "type conversion error from 'string' to 'google.protobuf.Duration'".to_owned()
                ));
            }
        },
        "noWildcard" => !whole.contains('*'),
        "notEverything" => whole != "*",
        "empty" => whole.is_empty(),
        "webScheme" => matches!(whole, "" | "HTTP" | "HTTPS"),
        "socketIsAbsolute" => match whole.strip_prefix("unix://") {
            Some("") => return Some(Err("index out of range: 8".to_owned())),
            Some(path) => path.starts_with(['/', '@']),
            None => true,
        },
        "socketIsNoFolder" => !whole.starts_with("unix://") || !whole.ends_with('/'),
        "webUrl" => match scheme(whole) {
            Some(scheme) => matches!(scheme, "http" | "https"),
            None => return Some(Err("URL parse error during conversion from string".to_owned())),
        },
        "imageUrl" => match scheme(whole) {
            Some(scheme) => matches!(scheme, "" | "http" | "https" | "file" | "oci"),
            None => scheme(&format!("http://{whole}")).is_some(),
        },
        "port" => value.as_i64().is_some_and(|n| (1..=65535).contains(&n)),
        "distinctNumbers" => distinct_numbers(value),
        "keysWithoutWildcard" => !keys().any(|key| key.contains('*')),
        "keysNotEmpty" => !keys().any(String::is_empty),
        "portNames" => keys().all(|name| is_port_name(name)),
        "portKeys" => return Some(port_keys(keys())),
        "addressOrNetwork" => has("address") || has("network"),
        "socketWithoutPorts" => !text("address").starts_with("unix://") || !has("ports"),
        "inlineValue" => text("valueFrom") != "HOST" || !has("value"),
        "accountsAlone" => {
            let accounts = has("serviceAccounts") || has("notServiceAccounts");
            let others = ["principals", "notPrincipals", "namespaces", "notNamespaces"];
            !(accounts && others.into_iter().any(has))
        }
        "waypointInContext" => (text("context") == "WAYPOINT") == has("waypoint"),
        "portsWithSelector" => {
            let labels = value.pointer("/selector/matchLabels").and_then(Value::as_object);
            !has("portLevelMtls") || labels.is_some_and(|l| !l.is_empty())
        }
        "cidrs" => {
            let cidr = items("addresses").filter_map(Value::as_str).any(|a| a.contains('/'));
            !cidr || matches!(resolution, "NONE" | "STATIC")
        }
        "noneWithoutEndpoints" => resolution != "NONE" || !has("endpoints"),
        "roundRobinOfOne" => resolution != "DNS_ROUND_ROBIN" || items("endpoints").count() <= 1,
        "upsertWithValue" => match (text("operation") == "UPSERT", has("value")) {
            (true, false) => return Some(Err("no such key: value".to_owned())),
            (upsert, _) => !upsert || !text("value").is_empty(),
        },
        "removeWithoutValue" => text("operation") != "REMOVE" || !has("value"),
        _ => return None,
    }))
}

/// How many of some fields are there.
fn set(value: &Value, fields: &str) -> usize {
    fields.split(' ').filter(|f| value.get(*f).is_some()).count()
}

/// The scheme of an absolute URL or of an absolute path; none of anything else.
fn scheme(text: &str) -> Option<&str> {
    if text.starts_with('/') {
        return Some("");
    }
    let uri: http::Uri = text.parse().ok()?;
    uri.scheme_str()?;
    text.split_once("://").map(|(scheme, _)| scheme)
}

fn distinct_numbers(list: &Value) -> bool {
    let mut known: Vec<&Value> = Vec::new();
    list.as_array().into_iter().flatten().filter_map(|item| item.get("number")).all(|number| {
        let new = !known.contains(&number);
        known.push(number);
        new
    })
}

fn port_keys<'k>(keys: impl Iterator<Item = &'k String>) -> Result<bool, String> {
    for key in keys {
        let number: i64 =
            key.parse().map_err(|_| "type conversion error from 'string' to 'int'".to_owned())?;
        if !(1..=65535).contains(&number) {
            return Ok(false);
        }
    }
    Ok(true)
}

fn is_port_name(name: &str) -> bool {
    let inner = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    !name.is_empty() && name.chars().count() < 63 && inner && !name.starts_with('-') && !name.ends_with('-')
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::SCHEMAS;
    use super::*;

    fn rules<'a>(value: &'a Value, into: &mut BTreeSet<&'a str>) {
        if let Some(cel) = value.get("cel").and_then(Value::as_array) {
            into.extend(cel.iter().filter_map(|rule| rule.get(0)?.as_str()));
        }
        match value {
            Value::Array(items) => items.iter().for_each(|i| rules(i, into)),
            Value::Object(fields) => fields.values().for_each(|f| rules(f, into)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }

    #[test]
    fn every_rule_of_the_schemas_is_known() {
        let mut used = BTreeSet::new();
        rules(&SCHEMAS, &mut used);
        let unknown: Vec<_> = used.iter().filter(|rule| holds(rule, &Value::Null).is_none()).collect();
        assert!(used.len() > 20 && unknown.is_empty(), "{unknown:?}");
    }
}
