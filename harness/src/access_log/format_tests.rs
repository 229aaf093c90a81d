use serde_json::json;

use super::super::tests::{CURRENT, JSON, TCP};
use super::super::{CONFIGURED, ISTIO_JSON, ISTIO_TEXT, token};
use super::*;

fn fields_of(format: &LogFormat, line: &str) -> LogFields {
    let log = format.read_line(line.as_bytes()).unwrap_or_else(|| panic!("not a line of the log: {line}"));
    assert_eq!(log.format.as_deref(), Some(CONFIGURED), "{:?}: {line}", log.unreadable);
    log.fields.unwrap()
}

const COMPACT: &str =
    "%REQ(user-agent)%|%RESPONSE_CODE%|%REQ(:METHOD)% %REQ(:PATH)%|%UPSTREAM_CLUSTER%|100%%\n";

#[test]
fn a_text_format_is_read_by_its_operators_in_any_order() {
    let format = LogFormat::text(COMPACT).unwrap();
    let fields =
        fields_of(&format, "meshproof/r1-so.00001|200|GET /politics|outbound|443||edition.cnn.com|100%");
    assert_eq!(token(&fields), Some("r1-so.00001"));
    assert_eq!((fields.response_code, fields.method.as_deref()), (Some(200), Some("GET")));
    assert_eq!(fields.path.as_deref(), Some("/politics"));
    assert_eq!(fields.upstream_cluster.as_deref(), Some("outbound|443||edition.cnn.com"));
    let lacks = [
        "start_time",
        "protocol",
        "response_flags",
        "bytes_received",
        "bytes_sent",
        "duration",
        "request_id",
        "authority",
        "upstream_host",
        "upstream_local_address",
        "downstream_remote_address",
        "requested_server_name",
    ];
    assert_eq!(format.lacks(), lacks);
    assert!(format.attributes_lines());
    assert!(!LogFormat::text("%REQ(:PATH)% %RESPONSE_CODE%").unwrap().attributes_lines());
}

#[test]
fn istios_own_default_as_a_configured_format_is_read_like_the_known_one() {
    let default = "[%START_TIME%] \"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%\" \
        %RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS% \
        \"%UPSTREAM_TRANSPORT_FAILURE_REASON%\" %BYTES_RECEIVED% %BYTES_SENT% %DURATION% \
        %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% \"%REQ(X-FORWARDED-FOR)%\" \"%REQ(USER-AGENT)%\" \
        \"%REQ(X-REQUEST-ID)%\" \"%REQ(:AUTHORITY)%\" \"%UPSTREAM_HOST%\" %UPSTREAM_CLUSTER_RAW% \
        %UPSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS% \
        %REQUESTED_SERVER_NAME% %ROUTE_NAME%";
    let format = LogFormat::text(default).unwrap();
    assert_eq!(format.lacks(), Vec::<&str>::new());
    for line in [CURRENT, TCP] {
        assert_eq!(Some(fields_of(&format, line)), read_line(line.as_bytes()).fields);
    }
}

#[test]
fn operators_that_the_suite_does_not_use_keep_their_values_and_their_names() {
    let format = LogFormat::text(
        "%START_TIME(%Y/%m/%dT%H:%M:%S)% %REQ(X-TENANT):12% %RESPONSE_CODE% %REQ(USER-AGENT)%",
    );
    let fields = fields_of(&format.unwrap(), "2026/01/02T03:04:05 blue 200 curl/8");
    assert_eq!(fields.start_time.as_deref(), Some("2026/01/02T03:04:05"));
    assert_eq!(fields.other["REQ(X-TENANT):12"], "blue");
    assert_eq!((fields.response_code, fields.user_agent.as_deref()), (Some(200), Some("curl/8")));
}

#[test]
fn a_part_of_a_value_is_not_the_value() {
    let format = LogFormat::text("%REQ(:PATH):8% %REQ_WITHOUT_QUERY(:PATH)% %REQ(USER-AGENT)%").unwrap();
    assert!(format.lacks().contains(&"path"));
}

#[test]
fn a_value_that_imitates_the_format_makes_the_line_ambiguous() {
    let format = LogFormat::text("path=%REQ(:PATH)% status=%RESPONSE_CODE% ua=%REQ(USER-AGENT)%").unwrap();
    let log = format.read_line(b"path=/x status=200 ua=me status=503 ua=curl").unwrap();
    assert!(log.unreadable.unwrap().contains("more than one way"));
}

#[test]
fn messages_of_the_agent_and_of_envoy_are_not_lines_of_the_log() {
    let text = LogFormat::text("%START_TIME% %REQ(:METHOD)% %RESPONSE_CODE% %REQ(USER-AGENT)%").unwrap();
    let json = LogFormat::json(&json!({"time": "%START_TIME%", "code": "%RESPONSE_CODE%"})).unwrap();
    let messages = [
        "2026-01-01T00:00:00.000000Z\tinfo\tEnvoy proxy is ready",
        "2026-01-01T00:00:00.000000Z\twarning\tenvoy config external/envoy/a.cc:1\tgRPC config rejected: a 200 b",
        r#"{"level":"info","time":"2026-01-01T00:00:00Z","scope":"ads","msg":"ready"}"#,
        "",
    ];
    for message in messages {
        for format in [&text, &json, &LogFormat::default()] {
            assert_eq!(format.read_line(message.as_bytes()), None, "{message}");
        }
    }
}

#[test]
fn a_line_with_the_formats_beginning_that_cannot_be_read_is_still_evidence() {
    let format = LogFormat::text("<%RESPONSE_CODE%> %REQ(USER-AGENT)%").unwrap();
    let log = format.read_line(b"<many> curl").unwrap();
    assert_eq!(log.fields, None);
    assert!(log.unreadable.unwrap().contains("none of the known formats"));
    assert_eq!(format.read_line(b"anything else"), None);
}

#[test]
fn lines_in_a_known_format_are_read_too() {
    // A proxy keeps its former format until it has the new configuration.
    let line = CURRENT;
    let log = LogFormat::text(COMPACT).unwrap().read_line(line.as_bytes()).unwrap();
    assert_eq!(log.format.as_deref(), Some(ISTIO_TEXT));
    let json = LogFormat::json(&json!({"code": "%RESPONSE_CODE%"})).unwrap();
    let log = json.read_line(JSON.as_bytes()).unwrap();
    assert_eq!(log.format.as_deref(), Some(ISTIO_JSON));
}

#[test]
fn a_json_format_is_read_by_its_operators_at_any_depth() {
    let format = LogFormat::json(&json!({
        "at": "%START_TIME%",
        "http": {"request": "%REQ(:METHOD)% %REQ(:PATH)% %PROTOCOL%", "status": "%RESPONSE_CODE%"},
        "agent": "%REQ(USER-AGENT)%",
        "to": "%UPSTREAM_HOST%",
        "kind": "access",
    }));
    let line = r#"{"at":"2026-01-01T00:00:00.000Z","http":{"request":"GET /a HTTP/1.1","status":200},
        "agent":"meshproof/r1-so.00001","to":null,"kind":"access"}"#;
    let fields = fields_of(&format.unwrap(), &line.replace('\n', ""));
    assert_eq!((fields.path.as_deref(), fields.response_code), (Some("/a"), Some(200)));
    assert_eq!((token(&fields), fields.upstream_host.as_deref()), (Some("r1-so.00001"), None));
}

#[test]
fn an_operator_that_is_repeated_counts_once() {
    let format = LogFormat::text("%UPSTREAM_HOST% %UPSTREAM_REMOTE_ADDRESS% %REQ(USER-AGENT)%").unwrap();
    let fields = fields_of(&format, "1.2.3.4:443 1.2.3.4:15443 curl");
    assert_eq!(fields.upstream_host.as_deref(), Some("1.2.3.4:443"));
    assert_eq!(fields.other["UPSTREAM_REMOTE_ADDRESS"], "1.2.3.4:15443");
}

#[test]
fn formats_whose_lines_cannot_be_distinguished_are_refused() {
    assert_eq!(LogFormat::text("%RESPONSE_CODE%\n%DURATION%"), Err(FormatError::SeveralLines));
    assert_eq!(LogFormat::text("a request"), Err(FormatError::Constant));
    assert_eq!(LogFormat::json(&json!(["%DURATION%"])), Err(FormatError::NotAnObject));
    assert_eq!(LogFormat::json(&json!({"a": "b"})), Err(FormatError::Constant));
}

#[test]
fn a_value_with_a_space_is_read_where_only_one_reading_is_left() {
    let format = LogFormat::text("%REQ(:METHOD)% %REQ(:PATH)% %PROTOCOL%").unwrap();
    assert_eq!(fields_of(&format, "GET /a b HTTP/1.1").path.as_deref(), Some("/a b"));
}
