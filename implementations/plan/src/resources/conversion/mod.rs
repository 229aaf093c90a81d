//! The conversion of a specification to protocol buffers, as istiod's webhook does it before it validates: `Unmarshaler` of
//! github.com/golang/protobuf (jsonpb/decode.go), which takes the names of fields in both spellings, numbers in quotes, and
//! passes over fields that the message does not have.
//!
//! `messages.json` has the messages of istio.io/api that the kinds are made of, each with its fields in order: the name in
//! JSON, the name in protocol buffers where it is another one, the type (`[]` for a list, `{KEY}` for a map, `=` for a message,
//! `#` for an enum), and the `oneof` that the field belongs to.

mod json;

use std::sync::LazyLock;

use serde_json::{Map, Value};

use super::durations::nanoseconds;
use json::{of_go, parse_number};

static API: LazyLock<Value> =
    LazyLock::new(|| serde_json::from_str(include_str!("messages.json")).unwrap_or_default());

/// A specification with the names that JSON has for its fields and without those that the message does not have.
///
/// # Errors
/// Why it cannot be converted; of several reasons the first, in the order of the fields.
pub(super) fn read(kind: &str, spec: &Value) -> Result<Value, String> {
    match API["kinds"].get(kind).and_then(Value::as_str) {
        Some(name) => message(name, spec),
        None => Ok(spec.clone()),
    }
}

fn message(name: &str, value: &Value) -> Result<Value, String> {
    if let Some(kind) = name.strip_prefix("google.protobuf.") {
        return well_known(kind, value);
    }
    if value.is_null() {
        return Ok(Value::Object(Map::new()));
    }
    let Value::Object(members) = value else { return Err(cannot(value, "map[string]json.RawMessage")) };
    let mut read = Map::new();
    let mut chosen: Vec<(&str, &str)> = Vec::new();
    for field in API["messages"][name].as_array().into_iter().flatten() {
        let text = |i: usize| field.get(i).and_then(Value::as_str).unwrap_or_default();
        let (in_json, in_proto, kind, one_of) = (text(0), text(1), text(2), text(3));
        let written = members.get(in_json).or_else(|| members.get(in_proto).filter(|_| !in_proto.is_empty()));
        let Some(written) = written.filter(|v| !v.is_null() || kind == "=google.protobuf.Value") else {
            continue;
        };
        let converted = whole(kind, written)?;
        if !one_of.is_empty() {
            // The later field takes the place of the earlier one.
            if let Some((_, earlier)) = chosen.iter().find(|(of, _)| *of == one_of) {
                read.remove(*earlier);
            }
            chosen.retain(|(of, _)| *of != one_of);
            chosen.push((one_of, in_json));
        }
        read.insert(in_json.to_owned(), converted);
    }
    Ok(Value::Object(read))
}

/// A field with all its values.
fn whole(kind: &str, value: &Value) -> Result<Value, String> {
    if let Some(of_items) = kind.strip_prefix("[]") {
        let Value::Array(items) = value else { return Err(cannot(value, "[]json.RawMessage")) };
        return items.iter().map(|item| single(of_items, item)).collect();
    }
    if let Some((key, of_values)) = kind.strip_prefix('{').and_then(|rest| rest.split_once('}')) {
        let Value::Object(members) = value else { return Err(cannot(value, "map[string]json.RawMessage")) };
        let mut read = Map::new();
        for (name, member) in members {
            if key != "string" {
                single(key, &Value::String(name.clone()))?;
            }
            read.insert(name.clone(), single(of_values, member)?);
        }
        return Ok(Value::Object(read));
    }
    single(kind, value)
}

fn single(kind: &str, value: &Value) -> Result<Value, String> {
    if let Some(name) = kind.strip_prefix('=') {
        return message(name, value);
    }
    if let Some(name) = kind.strip_prefix('#') {
        return variant(name, value);
    }
    match (kind, value) {
        ("bool", Value::Null) => Ok(Value::Bool(false)),
        ("string" | "bytes", Value::Null) => Ok(Value::String(String::new())),
        ("bool", Value::Bool(_)) | ("string", Value::String(_)) => Ok(value.clone()),
        ("bytes", Value::String(text)) => {
            use base64::Engine as _;
            let standard = base64::engine::general_purpose::STANDARD;
            match standard.decode(text) {
                Ok(_) => Ok(value.clone()),
                Err(_) => Err(format!("illegal base64 data at input byte {}", first_foreign(text))),
            }
        }
        ("bool" | "string", _) => Err(cannot(value, kind)),
        ("bytes", _) => Err(cannot(value, "[]uint8")),
        ("double", _) => number(value, "float64"),
        ("float", _) => number(value, "float32"),
        _ => number(value, kind),
    }
}

/// Where a text stops to be base64 (`encoding/base64` of Go).
fn first_foreign(text: &str) -> usize {
    let known = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/');
    text.bytes().position(|b| !known(b)).unwrap_or(text.len() / 4 * 4)
}

fn cannot(value: &Value, wanted: &str) -> String {
    format!("json: cannot unmarshal {} into Go value of type {wanted}", of_go(value))
}

/// A number, also one in quotes.
fn number(value: &Value, wanted: &str) -> Result<Value, String> {
    let unquoted = match value.as_str() {
        Some(text) => parse_number(text)?,
        None => value.clone(),
    };
    let Value::Number(got) = &unquoted else {
        return if unquoted.is_null() { Ok(0.into()) } else { Err(cannot(&unquoted, wanted)) };
    };
    let fits = match wanted {
        "int32" | "protoreflect.EnumNumber" => got.as_i64().is_some_and(|n| i32::try_from(n).is_ok()),
        "uint32" => got.as_u64().is_some_and(|n| u32::try_from(n).is_ok()),
        "int64" => got.as_i64().is_some(),
        "uint64" => got.as_u64().is_some(),
        _ => true,
    };
    if fits {
        return Ok(unquoted);
    }
    let written = value.as_str().map_or_else(|| got.to_string(), |text| text.trim().to_owned());
    Err(format!("json: cannot unmarshal number {written} into Go value of type {wanted}"))
}

/// A value of an enum, by its name or its number.
fn variant(name: &str, value: &Value) -> Result<Value, String> {
    let values = API["enums"].get(name).and_then(Value::as_object);
    match value {
        Value::String(text) if values.is_some_and(|v| v.contains_key(text)) => Ok(value.clone()),
        Value::String(_) => Err(format!("unknown value {:?} for enum {name}", value.to_string())),
        Value::Number(_) => {
            let number = number(value, "protoreflect.EnumNumber")?;
            // A number that no value has is none of those that istiod looks for.
            let named = |number: &Value| values.into_iter().flatten().find(|(_, n)| *n == number);
            let found = named(&number).or_else(|| named(&Value::from(0)));
            Ok(found.map_or(number, |(text, _)| Value::String(text.clone())))
        }
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => {
            Err(cannot(value, "protoreflect.EnumNumber"))
        }
    }
}

/// The messages of protocol buffers that have a form of their own in JSON.
fn well_known(kind: &str, value: &Value) -> Result<Value, String> {
    match kind {
        "Duration" => match value.as_str() {
            Some(text) => {
                nanoseconds(text).map_err(|reason| format!("bad Duration: {reason}"))?;
                Ok(value.clone())
            }
            None => Err(cannot(value, "string")),
        },
        "BoolValue" => single("bool", value),
        "StringValue" => single("string", value),
        "BytesValue" => single("bytes", value),
        "Int32Value" => single("int32", value),
        "Int64Value" => single("int64", value),
        "UInt32Value" => single("uint32", value),
        "UInt64Value" => single("uint64", value),
        "DoubleValue" => single("double", value),
        "FloatValue" => single("float", value),
        "Struct" if !value.is_object() => {
            Err(format!("bad StructValue: {}", cannot(value, "map[string]json.RawMessage")))
        }
        _ => Ok(value.clone()),
    }
}
