//! Unusual access logs.

use std::net::IpAddr;

use meshproof_harness::access_log;
use serde_json::{Map, Value};

use crate::variants::definition::{Definition, VariantBehaviour};
use crate::variants::json_line::json_line;

pub(super) const TABLE: &[Definition] = &[
    Definition::new(
        "json-log-with-empty-values",
        "Writes its access log in JSON, with an empty text for each value that is absent.",
        VariantBehaviour::LogLine(|proxy, line, logs| {
            let fields = access_log::read_line(line.as_bytes()).fields;
            let json = fields.map(|fields| json_line(&fields, &[]));
            match json.and_then(|json| serde_json::from_str::<Map<String, Value>>(&json).ok()) {
                Some(mut members) => {
                    let absent = |value: &&mut Value| value.is_null() || value.as_str() == Some("-");
                    members.values_mut().filter(absent).for_each(|value| *value = Value::from(""));
                    logs.line(proxy, &Value::from(members).to_string());
                }
                None => logs.line(proxy, &line),
            }
        }),
    ),
    Definition::new(
        "log-ipv4-as-ipv6",
        "Logs IPv4 addresses as those of IPv6 (RFC 4291 section 2.5.5.2), as a socket for both reports them.",
        VariantBehaviour::LogEntry(|entry| {
            let addresses = [
                &mut entry.upstream_host,
                &mut entry.upstream_local,
                &mut entry.downstream_local,
                &mut entry.downstream_remote,
            ];
            for address in addresses.into_iter().flatten() {
                if let IpAddr::V4(ip) = address.ip() {
                    address.set_ip(ip.to_ipv6_mapped().into());
                }
            }
        }),
    ),
    Definition::new(
        "json-log",
        "Writes its access log in JSON, with further members (Istio, accessLogEncoding).",
        VariantBehaviour::LogLine(|proxy, line, logs| {
            let more = [("region", Value::from("somewhere")), ("sampled", Value::from(true))];
            match access_log::read_line(line.as_bytes()).fields {
                Some(fields) => logs.line(proxy, &json_line(&fields, &more)),
                None => logs.line(proxy, &line),
            }
        }),
    ),
];
