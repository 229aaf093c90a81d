//! `meshproof plan`: what Istio makes of resources, without a cluster and without a run.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use meshproof_model::Resource;
use meshproof_model::visible::line;
use meshproof_plan::cluster_state::ClusterState;
use meshproof_plan::report::{Questions, as_json};
use meshproof_plan::resolve::{Description, describe};
use meshproof_verify::Manifests;
use serde_json::Value;

use crate::args::{Plan, PlanFormat};
use crate::exit::{self, Refusal};
use crate::manifests::sources;
use crate::output::{answer, complain};

/// Prints the plan. Its exit code is [`exit::FAILED`] where Istio rejects a resource.
///
/// # Errors
/// A file cannot be read, or is not a manifest.
pub fn command(args: &Plan) -> Result<u8, Refusal> {
    let read = meshproof_verify::manifests(&sources(&args.files)?);
    let Manifests { mut resources, notes: left_out } = read.map_err(|e| Refusal::Usage(e.to_string()))?;
    left_out.iter().for_each(|note| complain(&line(&format!("note: {note}"))));
    // The JSON is compared with what istiod sends, so nothing is added to the files there.
    if matches!(args.format, PlanFormat::Text) {
        let (services, notes) = meshproof_verify::assumed_gateway_services(&resources);
        notes.iter().for_each(|note| complain(&line(&format!("assumed: {note}"))));
        // They are older than what refers to them.
        resources.splice(0..0, services);
    }
    let state = ClusterState::from_resources(&resources);
    let description = describe(&state.input());
    for note in notes(&description) {
        complain(&line(&note));
    }
    let json = as_json(&description, &questions(&resources));
    answer(&match args.format {
        PlanFormat::Json => format!("{json:#}\n"),
        PlanFormat::Text => tree(&json),
    });
    Ok(if description.resolution.is_some() { exit::OK } else { exit::FAILED })
}

/// What the answer leaves out.
fn notes(description: &Description) -> Vec<String> {
    let mut notes = BTreeSet::new();
    for verdict in &description.verdicts {
        for what in &verdict.unsupported {
            notes.insert(format!(
                "{}: meshproof does not support {what} yet; the plan leaves it out",
                verdict.resource
            ));
        }
    }
    let warnings = description.resolution.iter().flat_map(|r| &r.warnings);
    notes.extend(warnings.cloned());
    notes.into_iter().collect()
}

/// TLS connections with every host that the resources name.
fn questions(resources: &[Resource]) -> Questions {
    let mut questions = Questions::default();
    for resource in resources {
        let names = |at: &Value| -> Vec<String> {
            let all = at.as_array().into_iter().flatten();
            all.filter_map(|v| v.as_str()).filter(|n| !n.contains('*')).map(str::to_ascii_lowercase).collect()
        };
        let spec = resource.spec();
        match resource.kind() {
            "ServiceEntry" | "VirtualService" => questions.server_names.extend(names(&spec["hosts"])),
            _ => {}
        }
        let routes = spec["tls"].as_array().into_iter().flatten();
        let conditions = routes.flat_map(|r| r["match"].as_array().into_iter().flatten());
        questions.server_names.extend(conditions.flat_map(|c| names(&c["sniHosts"])));
    }
    questions
}

/// JSON as an indented tree. Empty values are left out.
fn tree(value: &Value) -> String {
    let mut text = String::new();
    branch(value, 0, &mut text);
    text
}

fn branch(value: &Value, depth: usize, text: &mut String) {
    let indent = "  ".repeat(depth);
    match value {
        Value::Object(fields) => {
            for (name, inner) in fields.iter().filter(|(_, inner)| !is_empty(inner)) {
                leaf(&format!("{indent}{}:", line(name)), inner, depth, text);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| leaf(&format!("{indent}-"), item, depth, text)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            leaf(&indent, value, depth, text)
        }
    }
}

fn leaf(start: &str, value: &Value, depth: usize, text: &mut String) {
    let _infallible = match value {
        Value::Array(items) if items.iter().all(is_scalar) => {
            let said: Vec<String> = items.iter().map(scalar).collect();
            writeln!(text, "{start} {}", said.join(", "))
        }
        Value::Object(_) | Value::Array(_) => {
            let begun = writeln!(text, "{start}");
            branch(value, depth + 1, text);
            begun
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            writeln!(text, "{start} {}", scalar(value))
        }
    };
}

fn is_scalar(value: &Value) -> bool {
    !value.is_object() && !value.is_array()
}

fn scalar(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), |said| line(said).into_owned())
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(fields) => fields.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::String(said) => said.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    }
}
