//! Istio's JSON format. Envoy escapes the values, so a line can be read in one way only.

use std::fmt;

use meshproof_model::LogFields;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::Value;

use super::{Field, Unreadable};

pub(super) const KNOWN: &[Field] = &[
    Field::StartTime,
    Field::Method,
    Field::Path,
    Field::Protocol,
    Field::ResponseCode,
    Field::ResponseFlags,
    Field::ResponseCodeDetails,
    Field::ConnectionTerminationDetails,
    Field::UpstreamTransportFailureReason,
    Field::BytesReceived,
    Field::BytesSent,
    Field::Duration,
    Field::UpstreamServiceTime,
    Field::XForwardedFor,
    Field::UserAgent,
    Field::RequestId,
    Field::Authority,
    Field::UpstreamHost,
    Field::UpstreamCluster,
    Field::UpstreamLocalAddress,
    Field::DownstreamLocalAddress,
    Field::DownstreamRemoteAddress,
    Field::RequestedServerName,
    Field::RouteName,
];

/// An object without these is another JSON log, such as that of the proxy's agent.
const REQUIRED: &[Field] = &[Field::StartTime, Field::ResponseCode];

/// Reads an object. Values are strings, numbers or null. Members without a field of their own go to `other`: a string
/// unchanged, anything else as JSON.
pub(super) fn read(line: &str) -> Result<LogFields, Unreadable> {
    let Members(members) = serde_json::from_str(line).map_err(|e| Unreadable::Json(e.to_string()))?;
    let mut fields = LogFields::default();
    let mut seen = std::collections::BTreeSet::new();
    for (key, value) in &members {
        // If a proxy writes values without escaping, one member could hide another.
        if !seen.insert(key.as_str()) {
            return Err(Unreadable::DuplicateMember(key.clone()));
        }
        let value = match value {
            Value::Null => "-".to_owned(),
            Value::String(text) => text.clone(),
            other @ (Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) => {
                other.to_string()
            }
        };
        if let Some(field) = KNOWN.iter().find(|field| field.key() == key) {
            field.put(&mut fields, &value)?;
        } else if !super::is_absent(&value) {
            fields.other.insert(key.clone(), value);
        }
    }
    match REQUIRED.iter().find(|field| !seen.contains(field.key())) {
        Some(missing) => Err(Unreadable::MissingMember(missing.key())),
        None => Ok(fields),
    }
}

/// An object's members as written, including duplicates.
struct Members(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect;
        impl<'de> Visitor<'de> for Collect {
            type Value = Members;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Collect)
    }
}
