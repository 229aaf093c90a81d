//! Formats that a mesh's operators have configured, read by their command operators.

use meshproof_model::{AccessLog, LogFields};
use serde_json::Value;

use super::template::Template;
use super::{CONFIGURED, Field, Unreadable, kept, made, read_line};

/// The fields that checks read.
const USED: &[Field] = &[
    Field::StartTime,
    Field::Method,
    Field::Path,
    Field::Protocol,
    Field::ResponseCode,
    Field::ResponseFlags,
    Field::BytesReceived,
    Field::BytesSent,
    Field::Duration,
    Field::UserAgent,
    Field::RequestId,
    Field::Authority,
    Field::UpstreamHost,
    Field::UpstreamCluster,
    Field::UpstreamLocalAddress,
    Field::DownstreamRemoteAddress,
    Field::RequestedServerName,
];

/// The format of a proxy's access log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogFormat {
    shape: Shape,
    lacks: Vec<Field>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Shape {
    /// One of the known formats; the line shows which.
    Known,
    Text(Template),
    /// The members by their path, each with its format string.
    Json(Vec<(Vec<String>, Template)>),
}

/// Why lines in a format cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// One request has several lines.
    #[error("it writes several lines for one request")]
    SeveralLines,
    /// It has no operator, so that all lines are equal.
    #[error("it has no command operator")]
    Constant,
    /// A JSON format that is not an object.
    #[error("it is not a JSON object")]
    NotAnObject,
}

impl Default for LogFormat {
    fn default() -> Self {
        Self { shape: Shape::Known, lacks: Vec::new() }
    }
}

impl LogFormat {
    /// Of a text format string, with or without a line end. Istio adds one where it is missing (istio.io/istio,
    /// `telemetry_logging.go`, `fileAccessLogFormat`).
    ///
    /// # Errors
    /// A line in it cannot be distinguished from others.
    pub fn text(format: &str) -> Result<Self, FormatError> {
        let mut template = Template::new(format).without_end("\n");
        if template.has_literal('\n') {
            return Err(FormatError::SeveralLines);
        }
        if template.is_constant() {
            return Err(FormatError::Constant);
        }
        let mut known = Vec::new();
        template.keep_first(&mut known);
        Ok(Self { shape: Shape::Text(template), lacks: lacking(&known) })
    }

    /// Of a JSON format: an object of format strings, which may hold further objects (Envoy, "Access logging", "Format
    /// dictionaries").
    ///
    /// # Errors
    /// It is not an object, or none of its members has an operator.
    pub fn json(format: &Value) -> Result<Self, FormatError> {
        if !format.is_object() {
            return Err(FormatError::NotAnObject);
        }
        let mut leaves = Vec::new();
        collect(format, &mut Vec::new(), &mut leaves);
        let mut members: Vec<(Vec<String>, Template)> =
            leaves.iter().map(|(path, text)| (path.clone(), Template::new(text))).collect();
        if members.iter().all(|(_, template)| template.is_constant()) {
            return Err(FormatError::Constant);
        }
        let mut known = Vec::new();
        members.iter_mut().for_each(|(_, template)| template.keep_first(&mut known));
        Ok(Self { shape: Shape::Json(members), lacks: lacking(&known) })
    }

    /// Istio's own JSON format, in which every member may be missing ([`super::ISTIO_JSON`]).
    #[must_use]
    pub fn istio_json() -> Self {
        let members =
            super::json::KNOWN.iter().map(|field| (vec![field.key().to_owned()], Template::of_field(*field)));
        Self { shape: Shape::Json(members.collect()), lacks: Vec::new() }
    }

    /// The keys of the fields that checks read and that this format does not have, as [`AccessLog::lacks`] names them.
    #[must_use]
    pub fn lacks(&self) -> Vec<&'static str> {
        self.lacks.iter().map(|field| field.key()).collect()
    }

    /// Whether lines show the request that they belong to: the suite's token is in the User-Agent.
    #[must_use]
    pub fn attributes_lines(&self) -> bool {
        !self.lacks.contains(&Field::UserAgent)
    }

    /// Reads one line of a proxy's output. None if it is not a line of the access log but another message.
    #[must_use]
    pub fn read_line(&self, line: &[u8]) -> Option<AccessLog> {
        let known = || {
            let log = read_line(line);
            log.fields.is_some().then_some(log)
        };
        let (text, whole) = kept(line);
        match &self.shape {
            // A line of the log begins with a bracket in every known text format, and with a brace in JSON; other messages
            // begin with their time. In JSON the agent's messages are objects as well.
            Shape::Known => known().or_else(|| text.starts_with('[').then(|| read_line(line))),
            Shape::Text(template) => {
                if whole.is_ok() && !is_message(&text) {
                    if let Some(read) = template.read(&text) {
                        return Some(made(&text, read.and_then(|v| fields(&v)).map(named), &self.lacks));
                    }
                    if let Some(log) = known() {
                        return Some(log);
                    }
                }
                let begins = !template.lead.is_empty() && text.starts_with(template.lead.as_str());
                let why = whole.err().unwrap_or(Unreadable::NoFormat);
                (begins && !is_message(&text)).then(|| made(&text, Err(why), &self.lacks))
            }
            Shape::Json(members) => {
                let object: Value = serde_json::from_str(&text).ok()?;
                match of_members(&object, members) {
                    Some(read) => Some(made(&text, read.map(named), &self.lacks)),
                    None => known(),
                }
            }
        }
    }
}

fn named(fields: LogFields) -> (&'static str, LogFields) {
    (CONFIGURED, fields)
}

fn lacking(known: &[Field]) -> Vec<Field> {
    USED.iter().copied().filter(|field| !known.contains(field)).collect()
}

/// Whether the line is a message of Istio's agent or of Envoy, as they write them in text: a time, a tab, a level.
fn is_message(line: &str) -> bool {
    const LEVELS: &[&str] = &["trace", "debug", "info", "warn", "warning", "error", "critical", "fatal"];
    let Some((time, rest)) = line.split_once('\t') else { return false };
    let level = rest.split('\t').next().unwrap_or_default();
    time.parse::<jiff::Timestamp>().is_ok() && LEVELS.contains(&level)
}

fn fields(values: &[super::template::Valued<'_>]) -> Result<LogFields, Unreadable> {
    let mut fields = LogFields::default();
    for (what, value) in values {
        match what {
            Ok(field) => field.put(&mut fields, value)?,
            Err(_) if super::is_absent(value) => {}
            Err(operator) => {
                fields.other.insert((*operator).to_owned(), (*value).to_owned());
            }
        }
    }
    Ok(fields)
}

/// The format strings of an object, with their paths.
fn collect(value: &Value, path: &mut Vec<String>, leaves: &mut Vec<(Vec<String>, String)>) {
    match value {
        Value::Object(object) => {
            for (key, value) in object {
                path.push(key.clone());
                collect(value, path, leaves);
                path.pop();
            }
        }
        Value::String(text) => leaves.push((path.clone(), text.clone())),
        // Envoy writes other constants unchanged.
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) => {}
    }
}

/// The fields of an object in this format. None if it is another object: it has a member that the format does not have, or none
/// that it has. A member may be missing (`omit_empty_values`).
fn of_members(object: &Value, members: &[(Vec<String>, Template)]) -> Option<Result<LogFields, Unreadable>> {
    let object = object.as_object()?;
    let of_format = |key: &String| members.iter().any(|(path, _)| path.first() == Some(key));
    if object.is_empty() || !object.keys().any(of_format) || object.keys().any(|key| is_agents(key)) {
        return None;
    }
    let mut fields = LogFields::default();
    for (path, template) in members {
        let value = path.iter().try_fold(None, |at: Option<&Value>, key| {
            Some(Some(at.map_or_else(|| object.get(key), |at| at.get(key))?))
        });
        let Some(Some(value)) = value else { continue };
        let value = match value {
            Value::Null => "-".to_owned(),
            Value::String(text) => text.clone(),
            other @ (Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) => {
                other.to_string()
            }
        };
        let read = match template.read(&value) {
            Some(Ok(read)) => self::fields(&read),
            Some(Err(why)) => Err(why),
            // Absent values are written as `-` or null, and other kinds of values keep their type.
            None => Ok(LogFields::default()),
        };
        match read {
            Ok(read) => merge(&mut fields, read),
            Err(why) => return Some(Err(why)),
        }
    }
    Some(Ok(fields))
}

/// A member of the messages of Istio's agent (istio.io/istio, pkg/log, `defaultEncoderConfig`).
fn is_agents(key: &str) -> bool {
    matches!(key, "level" | "scope" | "msg")
}

/// Adds what another part of the same line has.
fn merge(all: &mut LogFields, part: LogFields) {
    macro_rules! take {
        ($($field:ident),*) => { $(if part.$field.is_some() { all.$field = part.$field; })* };
    }
    take!(
        start_time,
        method,
        path,
        protocol,
        response_code,
        response_code_details,
        connection_termination_details,
        upstream_transport_failure_reason,
        bytes_received,
        bytes_sent,
        duration_ms,
        upstream_service_time_ms,
        x_forwarded_for,
        user_agent,
        request_id,
        authority,
        upstream_host,
        upstream_cluster,
        upstream_local_address,
        downstream_local_address,
        downstream_remote_address,
        requested_server_name,
        route_name
    );
    all.response_flags.extend(part.response_flags);
    all.other.extend(part.other);
}

#[cfg(test)]
#[path = "format_tests.rs"]
mod tests;
