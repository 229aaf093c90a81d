//! The API server's words and the webhook's, for the same specification: both come from the schema and from the messages, whatever
//! else is wrong.

use crate::answers::answers;

/// A specification, what the API server says of it, and what the webhook says; both empty where they say nothing.
type Case<'a> = (&'a str, &'a str, &'a str);

#[track_caller]
fn said(api: &str, kind: &str, cases: &[Case<'_>]) {
    for (spec, schema, webhook) in cases {
        let spec_line = if spec.is_empty() { String::new() } else { format!("spec: {spec}\n") };
        let manifest = format!("apiVersion: {api}\nkind: {kind}\nmetadata: {{name: x}}\n{spec_line}");
        let verdict = answers(&manifest)["verdicts"][0].take();
        let text = |name: &str| verdict[name].as_str().unwrap_or_default().to_owned();
        let of_schema = text("crd").replacen(&format!("{kind}/x/default: "), "", 1);
        assert_eq!((of_schema.as_str(), text("webhook").as_str()), (*schema, *webhook), "{spec}");
    }
}

const NETWORKING: &str = "networking.istio.io/v1";

#[test]
fn fields_that_exclude_each_other_are_counted_as_the_api_server_counts_them() {
    let route = |uri: &str| {
        format!("{{hosts: [a.test], http: [{{match: [{{uri: {uri}}}], redirect: {{uri: /b}}}}]}}")
    };
    let one_of = |count: usize| {
        format!(
            "<nil>: Invalid value: \"\": \"spec.http[0].match[0].uri\" must validate one and only one schema (oneOf). \
             Found {count} valid alternatives"
        )
    };
    // What is no object has none of the fields, and so all of them.
    let text = format!(
        "[spec.http[0].match[0].uri: Invalid value: \"string\": spec.http[0].match[0].uri in body must be of type object: \
         \"string\", {}]",
        one_of(3)
    );
    let no_object = "convert: json: cannot unmarshal string into Go value of type map[string]json.RawMessage";
    said(
        NETWORKING,
        "VirtualService",
        &[(&route("/a"), &text, no_object), (&route("{exact: /a, prefix: /a}"), &one_of(2), "")],
    );
    let hash = "{host: a.test, trafficPolicy: {loadBalancer: {consistentHash: {httpHeaderName: x, useSourceIp: true}}}}";
    let place = "\"spec.trafficPolicy.loadBalancer.consistentHash\"";
    let both = format!(
        "[<nil>: Invalid value: \"\": {place} must validate one and only one schema (oneOf). Found 2 valid alternatives, \
         <nil>: Invalid value: \"\": {place} must validate all the schemas (allOf)]"
    );
    said(NETWORKING, "DestinationRule", &[(hash, &both, "")]);
}

#[test]
fn every_wrong_type_is_named_and_the_first_field_stops_the_conversion() {
    said(
        NETWORKING,
        "DestinationRule",
        &[
            (
                "{host: a.test, trafficPolicy: {tls: {mode: [SIMPLE]}}, subsets: [{name: 1}]}",
                "[spec.trafficPolicy.tls.mode: Invalid value: \"array\": spec.trafficPolicy.tls.mode in body must be of type \
                 string: \"array\", spec.trafficPolicy.tls.mode: Unsupported value: [\"SIMPLE\"]: supported values: \
                 \"DISABLE\", \"SIMPLE\", \"MUTUAL\", \"ISTIO_MUTUAL\", spec.subsets[0].name: Invalid value: \"integer\": \
                 spec.subsets[0].name in body must be of type string: \"integer\"]",
                "convert: json: cannot unmarshal array into Go value of type protoreflect.EnumNumber",
            ),
            (
                "{host: a.test, trafficPolicy: {connectionPool: {http: {maxRetries: 3000000000}}}}",
                "<nil>: Invalid value: \"\": Checked value must be of type integer with format int32 in \
                 spec.trafficPolicy.connectionPool.http.maxRetries",
                "convert: json: cannot unmarshal number 3000000000 into Go value of type int32",
            ),
        ],
    );
    said(
        NETWORKING,
        "VirtualService",
        &[
            (
                "{hosts: [a.test], http: [{retries: {attempts: 1.5}, redirect: {uri: /b}}]}",
                "[spec.http[0].retries.attempts: Invalid value: \"float64\": spec.http[0].retries.attempts in body must be of \
                 type int32: \"float64\", <nil>: Invalid value: \"\": Checked value must be of type integer with format int32 \
                 in spec.http[0].retries.attempts]",
                "convert: json: cannot unmarshal number 1.5 into Go value of type int32",
            ),
            (
                "{hosts: [a.test], http: [{directResponse: {status: 200, body: {bytes: '@@'}}}]}",
                "spec.http[0].directResponse.body.bytes: Invalid value: \"@@\": spec.http[0].directResponse.body.bytes in body \
                 must be of type byte: \"@@\"",
                "convert: illegal base64 data at input byte 0",
            ),
            (
                "{hosts: [a.test], tls: [{match: [{sniHosts: [a.test]}], route: [{}]}]}",
                "spec.tls[0].route[0].destination: Required value",
                "1 error occurred:\n\t* destination is required\n\n",
            ),
        ],
    );
    said(
        NETWORKING,
        "WorkloadEntry",
        &[(
            "{address: 192.0.2.1, ports: {http: tcp}}",
            "spec.ports.http: Invalid value: \"string\": spec.ports.http in body must be of type integer: \"string\"",
            "convert: invalid character 'c' in literal true (expecting 'r')",
        )],
    );
}

#[test]
fn the_webhook_reads_both_spellings_of_a_field_and_the_api_server_one() {
    said(
        NETWORKING,
        "ServiceEntry",
        &[
            (
                "{hosts: [a.test], resolution: DNS, ports: [{number: 80, name: http, protocol: HTTP, target_port: 70000}]}",
                "unknown fields [spec.ports[0].target_port]",
                "port number 70000 must be in the range 1..65535",
            ),
            (
                "{hosts: [a.test], resolution: DNS, ports: [{number: 80, name: http, protocol: HTTP}, \
                 {number: 81, name: http, protocol: HTTP}]}",
                "spec.ports[1]: Duplicate value: {\"name\":\"http\"}",
                "service entry port name \"http\" already defined",
            ),
            (
                "{resolution: DYNAMIC_DNS}",
                "spec.hosts: Required value",
                "2 errors occurred:\n\t* service entry must have at least one host\n\t* at least one wildcard host must be \
                 provided for resolution type DYNAMIC_DNS\n\n",
            ),
            ("{hosts: [a.test], addresses: [a/b/c]}", "", "a/b/c is not a valid IP"),
            ("", "spec: Required value", "service entry must have at least one host"),
        ],
    );
}

#[test]
fn rules_over_keys_are_evaluated_like_those_over_values() {
    said(
        "security.istio.io/v1",
        "PeerAuthentication",
        &[
            (
                "{selector: {matchLabels: {app: a}}, portLevelMtls: {}}",
                "spec.portLevelMtls: Invalid value: 0: spec.portLevelMtls in body should have at least 1 properties",
                "port level mTLS, if defined, must have at least one element",
            ),
            (
                "{selector: {matchLabels: {app: a}}, portLevelMtls: {http: {mode: STRICT}}}",
                "spec.portLevelMtls: Invalid value: \"object\": type conversion error from 'string' to 'int' evaluating rule: \
                 port must be between 1-65535",
                "convert: invalid character 'h' looking for beginning of value",
            ),
        ],
    );
}

#[test]
fn kinds_that_the_plan_does_not_carry_out_are_refused_where_istio_refuses_them() {
    said(
        "telemetry.istio.io/v1",
        "Telemetry",
        &[("{accessLogging: [{provider: envoy}]}", "unknown fields [spec.accessLogging[0].provider]", "")],
    );
    said(
        "security.istio.io/v1",
        "AuthorizationPolicy",
        &[(
            "{rules: all}",
            "spec.rules: Invalid value: \"string\": spec.rules in body must be of type array: \"string\"",
            "convert: json: cannot unmarshal string into Go value of type []json.RawMessage",
        )],
    );
    said(
        "networking.istio.io/v1beta1",
        "ProxyConfig",
        &[(
            "{concurrency: two}",
            "spec.concurrency: Invalid value: \"string\": spec.concurrency in body must be of type integer: \"string\"",
            "convert: invalid character 'w' in literal true (expecting 'r')",
        )],
    );
    said(
        "networking.istio.io/v1alpha3",
        "EnvoyFilter",
        &[(
            "{configPatches: [{applyTo: CLUSTERS}]}",
            "spec.configPatches[0].applyTo: Unsupported value: \"CLUSTERS\": supported values: \"INVALID\", \"LISTENER\", \
             \"FILTER_CHAIN\", \"NETWORK_FILTER\", \"HTTP_FILTER\", \"ROUTE_CONFIGURATION\", \"VIRTUAL_HOST\", \
             \"HTTP_ROUTE\", \"CLUSTER\", \"EXTENSION_CONFIG\", \"BOOTSTRAP\", \"LISTENER_FILTER\"",
            "convert: unknown value \"\\\"CLUSTERS\\\"\" for enum istio.networking.v1alpha3.EnvoyFilter.ApplyTo",
        )],
    );
}
