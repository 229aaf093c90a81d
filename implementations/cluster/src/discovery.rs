//! The namespaces that a control plane discovers.

use std::collections::BTreeMap;

use meshproof_harness::manifest;
use serde_json::Value;

/// The labels that a namespace needs to be discovered by the control plane with this ConfigMap: those of the first selector
/// that labels can fulfil; none where every namespace is discovered (Istio, `MeshConfig.discoverySelectors`: a namespace
/// is discovered if one of the selectors matches it).
///
/// # Errors
/// No label fulfils a selector, or the mesh configuration cannot be read; in words.
pub fn discovery_labels(config: &Value) -> Result<BTreeMap<String, String>, String> {
    let Some(text) = config.pointer("/data/mesh").and_then(Value::as_str) else { return Ok(BTreeMap::new()) };
    let mesh: Value = manifest::value(text).ok_or("the mesh configuration is not valid YAML")?;
    let selectors = mesh["discoverySelectors"].as_array().map(Vec::as_slice).unwrap_or_default();
    if selectors.is_empty() {
        return Ok(BTreeMap::new());
    }
    selectors.iter().find_map(labels_for).ok_or_else(|| {
        format!("no label fulfils a selector of discoverySelectors: {}", Value::from(selectors.to_vec()))
    })
}

/// The labels that fulfil a label selector (Kubernetes, `LabelSelector`); none where no label does.
fn labels_for(selector: &Value) -> Option<BTreeMap<String, String>> {
    let mut labels = BTreeMap::new();
    for (key, value) in selector["matchLabels"].as_object().into_iter().flatten() {
        labels.insert(key.clone(), value.as_str()?.to_owned());
    }
    let mut excluded: Vec<(&str, Option<Vec<&str>>)> = Vec::new();
    for expression in selector["matchExpressions"].as_array().into_iter().flatten() {
        let key = expression["key"].as_str()?;
        let values: Vec<&str> =
            expression["values"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        match expression["operator"].as_str()? {
            "In" => {
                let fits = labels.get(key).is_none_or(|known| values.contains(&known.as_str()));
                if !fits {
                    return None;
                }
                labels.entry(key.to_owned()).or_insert((*values.first()?).to_owned());
            }
            "Exists" => {
                labels.entry(key.to_owned()).or_insert_with(|| "true".to_owned());
            }
            "NotIn" => excluded.push((key, Some(values))),
            "DoesNotExist" => excluded.push((key, None)),
            _ => return None,
        }
    }
    let violated = excluded.iter().any(|(key, values)| {
        labels.get(*key).is_some_and(|label| values.as_ref().is_none_or(|v| v.contains(&label.as_str())))
    });
    // Kubernetes sets this label itself, to the namespace's name, which a run chooses.
    let by_name = labels.contains_key("kubernetes.io/metadata.name");
    (!violated && !by_name).then_some(labels)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn labels(mesh: &str) -> Result<Vec<(String, String)>, String> {
        discovery_labels(&json!({"data": {"mesh": mesh}})).map(|labels| labels.into_iter().collect())
    }

    fn pair(key: &str, value: &str) -> (String, String) {
        (key.to_owned(), value.to_owned())
    }

    #[test]
    fn every_namespace_is_discovered_where_nothing_selects() {
        assert_eq!(labels("accessLogFile: /dev/stdout"), Ok(Vec::new()));
        assert_eq!(labels("discoverySelectors: []"), Ok(Vec::new()));
        assert_eq!(discovery_labels(&json!({})), Ok(BTreeMap::new()));
    }

    #[test]
    fn the_labels_are_those_of_a_selector_that_can_be_fulfilled() {
        let by_labels = "discoverySelectors:\n- matchLabels: {team: mesh}";
        assert_eq!(labels(by_labels), Ok(vec![pair("team", "mesh")]));
        let by_expressions = "discoverySelectors:
- matchExpressions:
  - {key: kubernetes.io/metadata.name, operator: In, values: [shop]}
- matchExpressions:
  - {key: env, operator: In, values: [prod, test]}
  - {key: mesh, operator: Exists}
  - {key: legacy, operator: DoesNotExist}";
        assert_eq!(labels(by_expressions), Ok(vec![pair("env", "prod"), pair("mesh", "true")]));
        let by_exclusion =
            "discoverySelectors:\n- matchExpressions: [{key: ci, operator: NotIn, values: [x]}]";
        assert_eq!(labels(by_exclusion), Ok(Vec::new()));
    }

    #[test]
    fn a_selector_that_no_label_fulfils_is_quoted() {
        let by_name = "discoverySelectors:\n- matchLabels: {kubernetes.io/metadata.name: shop}";
        assert!(labels(by_name).unwrap_err().contains("shop"));
        let contradiction = "discoverySelectors:
- matchLabels: {a: b}
  matchExpressions: [{key: a, operator: NotIn, values: [b]}]";
        assert!(labels(contradiction).is_err());
        assert!(labels("discoverySelectors: [").unwrap_err().contains("not valid YAML"));
    }
}
