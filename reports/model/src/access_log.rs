//! One line of a proxy's access log and its fields.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One line of a proxy's access log.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AccessLog {
    /// The line, bounded.
    pub line: String,
    /// The format in which it was parsed; absent if it matches none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<String>,
    /// The parsed fields; absent if the line matches no format.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fields: Option<LogFields>,
    /// Why the line could not be parsed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unreadable: Option<String>,
    /// The fields that checks read and that the configured format of this log does not have, by their names below.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lacks: Vec<String>,
}

/// The fields of an access-log line. A field is absent if the format does not contain it or the line contains
/// `-`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct LogFields {
    /// `%START_TIME%`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_time: Option<String>,
    /// `%REQ(:METHOD)%`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// `%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// `%PROTOCOL%`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol: Option<String>,
    /// `%RESPONSE_CODE%`; 0 if there was no response.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub response_code: Option<u16>,
    /// `%RESPONSE_FLAGS%`, one entry per flag.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub response_flags: Vec<String>,
    /// `%RESPONSE_CODE_DETAILS%`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub response_code_details: Option<String>,
    /// `%CONNECTION_TERMINATION_DETAILS%`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connection_termination_details: Option<String>,
    /// `%UPSTREAM_TRANSPORT_FAILURE_REASON%`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream_transport_failure_reason: Option<String>,
    /// `%BYTES_RECEIVED%`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_received: Option<u64>,
    /// `%BYTES_SENT%`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_sent: Option<u64>,
    /// `%DURATION%`, milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duration_ms: Option<u64>,
    /// `%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)%`, milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream_service_time_ms: Option<u64>,
    /// `%REQ(X-FORWARDED-FOR)%`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub x_forwarded_for: Option<String>,
    /// `%REQ(USER-AGENT)%`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_agent: Option<String>,
    /// `%REQ(X-REQUEST-ID)%`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// `%REQ(:AUTHORITY)%`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authority: Option<String>,
    /// `%UPSTREAM_HOST%`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream_host: Option<String>,
    /// `%UPSTREAM_CLUSTER_RAW%` or `%UPSTREAM_CLUSTER%`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream_cluster: Option<String>,
    /// `%UPSTREAM_LOCAL_ADDRESS%`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream_local_address: Option<String>,
    /// `%DOWNSTREAM_LOCAL_ADDRESS%`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub downstream_local_address: Option<String>,
    /// `%DOWNSTREAM_REMOTE_ADDRESS%`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub downstream_remote_address: Option<String>,
    /// `%REQUESTED_SERVER_NAME%`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requested_server_name: Option<String>,
    /// `%ROUTE_NAME%`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub route_name: Option<String>,
    /// Members of a JSON line without a field above; for a text line of Istio 1.3 to 1.7,
    /// `istio.mixer:status`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub other: BTreeMap<String, String>,
}
