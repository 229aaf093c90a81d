//! Unusual access logs.

use meshproof_harness::access_log;
use serde_json::Value;

use crate::variants::definition::{Definition, VariantBehaviour};
use crate::variants::json_line::json_line;

pub(super) const TABLE: &[Definition] = &[Definition::new(
    "json-log",
    "Writes its access log in JSON, with further members (Istio, accessLogEncoding).",
    VariantBehaviour::LogLine(|proxy, line, logs| {
        let more = [("region", Value::from("somewhere")), ("sampled", Value::from(true))];
        match access_log::read_line(line.as_bytes()).fields {
            Some(fields) => logs.line(proxy, &json_line(&fields, &more)),
            None => logs.line(proxy, &line),
        }
    }),
)];
