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
            let refused = in_words::<T>(&spec, &error);
            refused.schema.into_iter().for_each(|text| problems.schema(text));
            if let Some((place, number)) = refused.number
                && let Some(slot) = slot(&mut spec, &place)
            {
                *slot = number;
                continue;
            }
            if let Some(text) = refused.conversion.or_else(|| enum_in_webhook(&spec, kind, &error)) {
                problems.conversion(text);
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

/// What is said of an error of deserialisation.
#[derive(Default)]
struct Words {
    /// By the API server.
    schema: Vec<String>,
    /// By the webhook, where it cannot convert the value.
    conversion: Option<String>,
    /// A number that is written as a string, which the conversion reads nevertheless.
    number: Option<(Vec<Step>, Value)>,
}

impl Words {
    fn only(text: String) -> Self {
        Self { schema: vec![text], ..Self::default() }
    }
}

fn in_words<T: DeserializeOwned>(spec: &Value, error: &str) -> Words {
    if error.starts_with("unknown variant") {
        let quoted = quoted(error);
        let wrong = quoted.first().copied().unwrap_or_default();
        let place = first_place(spec, &|value| value.as_str() == Some(wrong));
        return Words::only(unsupported(&place, &format!("{wrong:?}"), error));
    }
    if let Some(words) = out_of_range(spec, error) {
        return words;
    }
    if let Some(rest) = error.strip_prefix("invalid type: ")
        && let Some((got, expected)) = rest.split_once(", expected ")
    {
        return wrong_type::<T>(spec, got, expected);
    }
    Words::only(format!("spec: Invalid value: {error}"))
}

/// A value that an enum does not have; the error lists those that it has.
fn unsupported(place: &str, wrong: &str, error: &str) -> String {
    let others: Vec<String> = quoted(error).iter().skip(1).map(|v| format!("{v:?}")).collect();
    format!("{place}: Unsupported value: {wrong}: supported values: {}", others.join(", "))
}

/// A whole number that a field of 32 bits without sign does not hold.
fn out_of_range(spec: &Value, error: &str) -> Option<Words> {
    let rest = error.strip_prefix("invalid value: integer `")?;
    let (number, expected) = rest.split_once("`, expected ")?;
    if !expected.starts_with("u32") {
        return None;
    }
    let wrong: Value = serde_json::from_str(number).ok()?;
    let place = first_place(spec, &|value| *value == wrong);
    let limit = if number.starts_with('-') {
        "greater than or equal to 0".to_owned()
    } else {
        format!("less than or equal to {}", u32::MAX)
    };
    Some(Words {
        schema: vec![format!("{place}: Invalid value: {number}: {place} in body should be {limit}")],
        conversion: Some(format!("json: cannot unmarshal number {number} into Go value of type uint32")),
        number: None,
    })
}

fn wrong_type<T: DeserializeOwned>(spec: &Value, got: &str, expected: &str) -> Words {
    let kind = got.split(' ').next().unwrap_or_default();
    type Predicate = Box<dyn Fn(&Value) -> bool>;
    // The names of JSON schema and of Go.
    let (kind, in_go, wrong): (&str, &str, Predicate) = match kind {
        "string" => {
            let text: String = serde_json::from_str(got.trim_start_matches("string ")).unwrap_or_default();
            ("string", "string", Box::new(move |v| v.as_str() == Some(&text)))
        }
        "integer" => ("integer", "number", Box::new(Value::is_number)),
        "floating" => ("number", "number", Box::new(Value::is_f64)),
        "boolean" => ("boolean", "bool", Box::new(Value::is_boolean)),
        "map" => ("object", "object", Box::new(Value::is_object)),
        "sequence" => ("array", "array", Box::new(Value::is_array)),
        other => (other, other, Box::new(|_| false)),
    };
    let place = first_place(spec, &*wrong);
    let (wanted, to_go) = match expected {
        "a string" => ("string", "string"),
        "a boolean" => ("boolean", "bool"),
        "a sequence" => ("array", "[]json.RawMessage"),
        "a map" => ("object", "map[string]json.RawMessage"),
        "i32" => ("integer", "int32"),
        number if number.starts_with(['u', 'i']) && number.len() <= 3 => ("integer", "uint32"),
        number if number.starts_with('f') && number.len() == 3 => ("number", "float64"),
        other if other.starts_with("struct") => ("object", "map[string]json.RawMessage"),
        // serde's words for an enum.
        "string or map" => return no_variant::<T>(spec, &place, kind),
        other => (other, ""),
    };
    let must = |kind: &str, wanted: &str| {
        format!("{place}: Invalid value: {kind:?}: {place} in body must be of type {wanted}: {kind:?}")
    };
    let whole = |format: &str| {
        format!("<nil>: Invalid value: \"\": Checked value must be of type integer {format} in {place}")
    };
    let schema = match (kind, to_go) {
        ("number", "int32") => vec![must("float64", "int32"), whole("with format int32")],
        ("number", "uint32") => vec![must(kind, wanted), whole("(default format)")],
        _ => vec![must(kind, wanted)],
    };
    let numeric = matches!(to_go, "uint32" | "int32" | "float64");
    let text: Option<String> = serde_json::from_str(got.trim_start_matches("string ")).ok();
    let number = text.as_deref().filter(|_| numeric).and_then(|t| serde_json::from_str::<Value>(t).ok());
    let number = number.filter(Value::is_number).and_then(|mut number| {
        whole_numbers(&mut number);
        let at = places(spec, &|_, _| true).into_iter().find(|p| written(p) == place)?;
        Some((at, number))
    });
    let conversion = match kind {
        "string" if numeric => text.as_deref().and_then(not_a_number),
        _ if to_go.is_empty() => None,
        _ => {
            let number = got.split('`').nth(1).filter(|_| kind == "number").map(|n| format!(" {n}"));
            let number = number.unwrap_or_default();
            Some(format!("json: cannot unmarshal {in_go}{number} into Go value of type {to_go}"))
        }
    };
    Words { schema, conversion, number }
}

/// What the decoder says of a text that should be a number: where JSON ends.
fn not_a_number(text: &str) -> Option<String> {
    let first = text.chars().next()?;
    if !(first.is_ascii_digit() || first == '-') {
        return Some(format!("invalid character '{first}' looking for beginning of value"));
    }
    let wrong = text.chars().find(|c| !(c.is_ascii_digit() || "+-.eE".contains(*c)))?;
    Some(format!("invalid character '{wrong}' after top-level value"))
}

/// What is no string where an enum is: the API server lists the enum's values, which serde tells for a wrong one.
fn no_variant<T: DeserializeOwned>(spec: &Value, place: &str, kind: &str) -> Words {
    let value = places(spec, &|_, _| true).into_iter().find(|p| written(p) == place);
    let mut probe = spec.clone();
    let mut schema =
        vec![format!("{place}: Invalid value: {kind:?}: {place} in body must be of type string: {kind:?}")];
    if let Some(slot) = value.and_then(|at| slot(&mut probe, &at)) {
        let wrong = std::mem::replace(slot, Value::from("?"));
        if let Err(error) = serde_json::from_value::<T>(probe) {
            schema.push(unsupported(place, &wrong.to_string(), &error.to_string()));
        }
    }
    Words { schema, ..Words::default() }
}

fn slot<'a>(value: &'a mut Value, place: &[Step]) -> Option<&'a mut Value> {
    place.iter().try_fold(value, |value, step| match step {
        Step::Key(key) => value.get_mut(key),
        Step::Index(index) => value.get_mut(*index),
    })
}

/// JSON does not tell `100.0` from `100`.
pub(super) fn whole_numbers(value: &mut Value) {
    match value {
        Value::Object(fields) => fields.values_mut().for_each(whole_numbers),
        Value::Array(items) => items.iter_mut().for_each(whole_numbers),
        Value::Number(number) => {
            // Beyond these no float is a whole number for certain.
            let whole = number.as_f64().filter(|f| number.is_f64() && f.fract() == 0.0 && f.abs() < 9e15);
            if let Some(whole) = whole.and_then(|f| format!("{f:.0}").parse::<i64>().ok()) {
                *value = whole.into();
            }
        }
        Value::Null | Value::Bool(_) | Value::String(_) => {}
    }
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
        "unmatchedPreflights" => "networking.v1alpha3.CorsPolicy.UnmatchedPreflights",
        "version" => "networking.v1alpha3.TrafficPolicy.ProxyProtocol.VERSION",
        _ => return None,
    };
    Some(format!("unknown value \"\\\"{wrong}\\\"\" for enum istio.{name}"))
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
