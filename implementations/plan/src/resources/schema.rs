//! What the API server says of a value that the CRD's schema does not allow.

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::problems::Problems;

/// Reads a specification. Where it is not what the schema asks for, the API server's words are noted, and, of an enum, those
/// of the webhook. A specification with unknown fields is still read, without them, because the API server looks at required
/// fields first.
pub(super) fn read<T: DeserializeOwned>(spec: &Value, kind: &str, problems: &mut Problems) -> Read<T> {
    let mut spec = spec.clone();
    let mut unknown = Vec::new();
    loop {
        let error = match serde_json::from_value::<T>(spec.clone()) {
            Ok(read) => return Read { spec: Some(read), unknown },
            Err(error) => error.to_string(),
        };
        let offenders = unknown_fields::<T>(&spec, &error);
        if offenders.is_empty() {
            problems.schema(in_words(&spec, &error));
            if let Some(text) = enum_in_webhook(&spec, kind, &error) {
                problems.error(text);
            }
            return Read { spec: None, unknown };
        }
        for place in offenders {
            remove(&mut spec, &place);
            unknown.push(written(&place));
        }
    }
}

/// A specification as far as it could be read.
pub(super) struct Read<T> {
    pub(super) spec: Option<T>,
    /// Where fields are that the schema does not have.
    pub(super) unknown: Vec<String>,
}

/// One step to a value.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Key(String),
    Index(usize),
}

/// The places of the field that an error calls unknown: those without which alone the error would go.
fn unknown_fields<T: DeserializeOwned>(spec: &Value, error: &str) -> Vec<Vec<Step>> {
    let Some(name) = error.strip_prefix("unknown field `").and_then(|e| e.split('`').next()) else {
        return Vec::new();
    };
    let prefix = format!("unknown field `{name}`");
    let candidates = places(spec, &|key, _| key == Some(name));
    let offends = |place: &&Vec<Step>| {
        let mut alone = spec.clone();
        for other in candidates.iter().filter(|c| c != place) {
            remove(&mut alone, other);
        }
        serde_json::from_value::<T>(alone).is_err_and(|e| e.to_string().starts_with(&prefix))
    };
    candidates.iter().filter(offends).cloned().collect()
}

fn remove(value: &mut Value, place: &[Step]) {
    match place {
        [Step::Key(last)] => {
            if let Some(fields) = value.as_object_mut() {
                fields.remove(last);
            }
        }
        [Step::Key(key), rest @ ..] => {
            if let Some(field) = value.get_mut(key) {
                remove(field, rest);
            }
        }
        [Step::Index(index), rest @ ..] => {
            if let Some(item) = value.get_mut(*index) {
                remove(item, rest);
            }
        }
        [] => {}
    }
}

/// `spec.a[0].b`.
fn written(place: &[Step]) -> String {
    let mut text = "spec".to_owned();
    for step in place {
        match step {
            Step::Key(key) => {
                text.push('.');
                text.push_str(key);
            }
            Step::Index(index) => text.push_str(&format!("[{index}]")),
        }
    }
    text
}

fn quoted(error: &str) -> Vec<&str> {
    error.split('`').skip(1).step_by(2).collect()
}

/// The API server's words for an error of deserialisation.
fn in_words(spec: &Value, error: &str) -> String {
    if error.starts_with("unknown variant") {
        let quoted = quoted(error);
        let wrong = quoted.first().copied().unwrap_or_default();
        let others: Vec<String> = quoted.iter().skip(1).map(|v| format!("{v:?}")).collect();
        let place = first_place(spec, &|value| value.as_str() == Some(wrong));
        return format!("{place}: Unsupported value: {wrong:?}: supported values: {}", others.join(", "));
    }
    if let Some(rest) = error.strip_prefix("invalid type: ")
        && let Some((got, expected)) = rest.split_once(", expected ")
    {
        let kind = got.split(' ').next().unwrap_or_default();
        type Predicate = Box<dyn Fn(&Value) -> bool>;
        let (kind, wrong): (&str, Predicate) = match kind {
            "string" => {
                let text = got.split('"').nth(1).unwrap_or_default().to_owned();
                ("string", Box::new(move |v| v.as_str() == Some(&text)))
            }
            "integer" => ("integer", Box::new(Value::is_number)),
            "floating" => ("number", Box::new(Value::is_f64)),
            "boolean" => ("boolean", Box::new(Value::is_boolean)),
            "map" => ("object", Box::new(Value::is_object)),
            "sequence" => ("array", Box::new(Value::is_array)),
            other => (other, Box::new(|_| false)),
        };
        let wanted = match expected {
            "a string" => "string",
            "a boolean" => "boolean",
            "a sequence" => "array",
            "a map" => "object",
            number if number.starts_with(['u', 'i']) && number.len() <= 3 => "integer",
            number if number.starts_with('f') && number.len() == 3 => "number",
            other if other.starts_with("struct") => "object",
            other => other,
        };
        let place = first_place(spec, &*wrong);
        return format!(
            "{place}: Invalid value: {kind:?}: {place} in body must be of type {wanted}: {kind:?}"
        );
    }
    format!("spec: Invalid value: {error}")
}

fn first_place(spec: &Value, wanted: &dyn Fn(&Value) -> bool) -> String {
    let found = places(spec, &|_, value| wanted(value));
    found.first().map_or_else(|| "spec".to_owned(), |place| written(place))
}

/// What the webhook says of a value that an enum of the API does not have. protojson names the enum.
fn enum_in_webhook(spec: &Value, kind: &str, error: &str) -> Option<String> {
    let wrong = error.strip_prefix("unknown variant `")?.split('`').next()?;
    let place = first_place(spec, &|value| value.as_str() == Some(wrong));
    let field = place.rsplit('.').next().unwrap_or_default();
    let within = |name: &str| place.contains(name);
    let name = match field {
        "mode" if kind == "PeerAuthentication" => "security.v1beta1.PeerAuthentication.MutualTLS.Mode",
        "mode" if kind == "Sidecar" && within("outboundTrafficPolicy") => {
            "networking.v1alpha3.OutboundTrafficPolicy.Mode"
        }
        "mode" if kind == "DestinationRule" => "networking.v1alpha3.ClientTLSSettings.TLSmode",
        "mode" => "networking.v1alpha3.ServerTLSSettings.TLSmode",
        "minProtocolVersion" | "maxProtocolVersion" => "networking.v1alpha3.ServerTLSSettings.TLSProtocol",
        "resolution" => "networking.v1alpha3.ServiceEntry.Resolution",
        "location" => "networking.v1alpha3.ServiceEntry.Location",
        "simple" => "networking.v1alpha3.LoadBalancerSettings.SimpleLB",
        "h2UpgradePolicy" => "networking.v1alpha3.ConnectionPoolSettings.HTTPSettings.H2UpgradePolicy",
        "captureMode" => "networking.v1alpha3.CaptureMode",
        "derivePort" => "networking.v1alpha3.HTTPRedirect.RedirectPortSelection",
        "version" => "networking.v1alpha3.TrafficPolicy.ProxyProtocol.VERSION",
        _ => return None,
    };
    Some(format!("convert: unknown value \"\\\"{wrong}\\\"\" for enum istio.{name}"))
}

/// The places of all values of a kind, outermost first.
fn places(value: &Value, wanted: &dyn Fn(Option<&str>, &Value) -> bool) -> Vec<Vec<Step>> {
    let mut found = Vec::new();
    collect(value, &mut Vec::new(), wanted, &mut found);
    found
}

fn collect(
    value: &Value,
    at: &mut Vec<Step>,
    wanted: &dyn Fn(Option<&str>, &Value) -> bool,
    into: &mut Vec<Vec<Step>>,
) {
    let mut visit = |step: Step, key: Option<&str>, inner: &Value| {
        at.push(step);
        if wanted(key, inner) {
            into.push(at.clone());
        }
        collect(inner, at, wanted, into);
        at.pop();
    };
    match value {
        Value::Object(fields) => {
            fields.iter().for_each(|(key, field)| visit(Step::Key(key.clone()), Some(key), field));
        }
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(i, item)| visit(Step::Index(i), None, item));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
