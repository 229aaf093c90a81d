//! What the API server's schema and the conversion to protocol buffers refuse, and what istiod refuses in the parts of a route
//! that do not change where a request goes.

use crate::refusals::refused;
use crate::world::World;

const TO: &str = "route: [{destination: {host: b.example.com}}]";

/// A VirtualService with one route, which has these fields beside its destination.
fn with_route(fields: &str) -> String {
    format!("{{hosts: [a.example.com], http: [{{{TO}, {fields}}}]}}")
}

#[track_caller]
fn refused_routes(cases: &[(&str, &str)]) {
    let specs: Vec<String> = cases.iter().map(|(fields, _)| with_route(fields)).collect();
    let cases: Vec<_> = specs.iter().zip(cases).map(|(spec, (_, words))| (spec.as_str(), *words)).collect();
    refused("VirtualService", &cases);
}

#[test]
fn faults_that_istiod_refuses_are_refused() {
    refused_routes(&[
        ("fault: {}", "1 error occurred: * HTTP fault injection must have an abort and/or a delay"),
        ("fault: {abort: {httpStatus: 199}}", "HTTP status 199 is not in range 200-599"),
        ("fault: {abort: {grpcStatus: '14'}}", "gRPC status \"14\" is not supported. See https://github.com"),
        ("fault: {abort: {http2Error: REFUSED}}", "HTTP/2 abort fault injection not supported yet"),
        (
            "fault: {abort: {httpStatus: 500, grpcStatus: OK}}",
            "<nil>: Invalid value: \"\": \"spec.http[0].fault.abort\" must validate one and only one schema",
        ),
        (
            "fault: {abort: {httpStatus: 500, percentage: {value: 101}}}",
            "percentage 101 is neither 0.0, nor in range [0.0001, 100.0]",
        ),
        ("fault: {delay: {exponentialDelay: 1s}}", "1 error occurred: * exponentialDelay not supported yet"),
        (
            "fault: {delay: {fixedDelay: 1d}}",
            "convert: bad Duration: time: unknown unit \"d\" in duration \"1d\"",
        ),
        ("fault: {retry: 1}", "unknown fields [spec.http[0].fault.retry]"),
    ]);
}

#[test]
fn cors_policies_that_istiod_refuses_are_refused() {
    refused_routes(&[
        ("corsPolicy: {allowOrigins: [{exact: ''}]}", "'' is not a valid match type for CORS allow origins"),
        ("corsPolicy: {allowOrigins: [{regex: '('}]}", "\"corsPolicy.allowOrigins\": error parsing regexp"),
        ("corsPolicy: {allowMethods: [GET, get]}", "\"get\" is not a supported HTTP method"),
        ("corsPolicy: {allowHeaders: ['']}", "header name cannot be empty"),
        ("corsPolicy: {exposeHeaders: ['x a']}", "header name x a is not a valid header name"),
        ("corsPolicy: {maxAge: 1500ms}", "max_age duration is accurate only to seconds precision"),
        (
            "corsPolicy: {unmatchedPreflights: DROP}",
            "Unsupported value: \"DROP\": supported values: \"UNSPECIFIED\", \"FORWARD\", \"IGNORE\"",
        ),
    ]);
}

#[test]
fn required_fields_and_counts_are_those_of_the_crd() {
    refused_routes(&[
        ("mirror: {}", "spec.http[0].mirror.host: Required value"),
        ("mirrors: [{}]", "spec.http[0].mirrors[0].destination: Required value"),
    ]);
    refused(
        "VirtualService",
        &[
            (
                "{hosts: [a.example.com], http: [{directResponse: {}}]}",
                "spec.http[0].directResponse.status: Required value",
            ),
            (
                "{hosts: [a.example.com], http: [{redirect: {port: 1, derivePort: FROM_REQUEST_PORT}}]}",
                "\"spec.http[0].redirect\" must validate one and only one schema (oneOf). Found 2 valid",
            ),
        ],
    );
    refused(
        "DestinationRule",
        &[
            (
                "{host: a.example.com, subsets: [{name: a, labels: {'a b': c}}]}",
                "1 error occurred: * invalid tag key: \"a b\"",
            ),
            (
                "{host: a.example.com, subsets: [{name: a, labels: {a/b: '-'}}]}",
                "1 error occurred: * invalid tag value: \"-\"",
            ),
            (
                "{host: a.example.com, trafficPolicy: {retryBudget: {percent: {value: 20}}}}",
                "convert: json: cannot unmarshal object into Go value of type float64",
            ),
            ("{host: a.example.com, subsets: [{labels: {a: b}}]}", "spec.subsets[0].name: Required value"),
            (
                "{host: a.example.com, workloadSelector: {matchLabels: {app: '*'}}}",
                "spec.workloadSelector.matchLabels[app]: Invalid value: \"*\": wildcard not allowed",
            ),
        ],
    );
    let gateway = |tls: &str| {
        format!(
            "{{servers: [{{port: {{number: 443, name: https, protocol: HTTPS}}, hosts: [a.example.com], tls: {tls}}}]}}"
        )
    };
    let tls = "spec.servers[0].tls";
    let cases = [
        (
            "{servers: [{port: {number: 80, protocol: HTTP}, hosts: [a.example.com]}]}".to_owned(),
            "spec.servers[0].port.name: Required value".to_owned(),
        ),
        (
            gateway("{mode: SIMPLE, credentialNames: []}"),
            format!("{tls}.credentialNames in body should have at least 1 items"),
        ),
        (
            gateway("{mode: SIMPLE, credentialNames: [a, b, c]}"),
            format!("{tls}.credentialNames: Too many: 3: must have at most 2 items"),
        ),
        (
            gateway(
                "{mode: SIMPLE, credentialNames: [a], tlsCertificates: [{serverCertificate: c, privateKey: k}]}",
            ),
            format!("{tls}: Invalid value: only one of credentialName or tlsCertificates can be set"),
        ),
        (
            gateway("{mode: PASSTHROUGH, credentialName: a, caCrl: c}"),
            "CRL is not supported with credentialName".to_owned(),
        ),
    ];
    let cases: Vec<_> = cases.iter().map(|(spec, words)| (spec.as_str(), words.as_str())).collect();
    refused("Gateway", &cases);
    refused(
        "ServiceEntry",
        &[
            ("{hosts: []}", "spec.hosts in body should have at least 1 items"),
            (
                "{hosts: [a.example.com], ports: [{number: 0, name: http, protocol: HTTP}]}",
                "spec.ports[0].number: Invalid value: 0: port must be between 1-65535",
            ),
            (
                "{hosts: [a.example.com], resolution: STATIC, endpoints: [{address: 1.2.3.4, ports: {http: 0}}]}",
                "spec.endpoints[0].ports[http]: Invalid value: 0: port must be between 1-65535",
            ),
        ],
    );
}

#[test]
fn values_of_the_wrong_type_are_refused_in_the_words_of_the_api_server_and_of_the_conversion() {
    refused(
        "VirtualService",
        &[
            (
                "{hosts: a.example.com}",
                "convert: json: cannot unmarshal string into Go value of type []json.RawMessage",
            ),
            (
                "{hosts: [a.example.com], http: [{match: [{port: -1}]}]}",
                "port: Invalid value: -1: spec.http[0].match[0].port in body should be greater than or equal to 0",
            ),
            (
                "{hosts: [a.example.com], http: [{match: [{port: 4294967296}]}]}",
                "convert: json: cannot unmarshal number 4294967296 into Go value of type uint32",
            ),
            (
                "{hosts: [a.example.com], http: [{match: [{port: http}]}]}",
                "convert: invalid character 'h' looking for beginning of value",
            ),
            (
                "{hosts: [a.example.com], http: [{match: [{port: 80.5}]}]}",
                "<nil>: Invalid value: \"\": Checked value must be of type integer (default format) in spec.http[0]",
            ),
            (
                "{hosts: [a.example.com], http: [{route: [{destination: {host: b}, weight: 2.5}]}]}",
                "must be of type int32: \"float64\"",
            ),
        ],
    );
    refused(
        "DestinationRule",
        &[(
            "{host: a.example.com, trafficPolicy: {tls: {mode: 3}}}",
            "spec.trafficPolicy.tls.mode: Unsupported value: 3: supported values: \"DISABLE\", \"SIMPLE\"",
        )],
    );
}

#[test]
fn a_whole_number_may_be_written_as_a_float() {
    let manifest = format!(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: x}}\nspec: {}\n",
        "{hosts: [a.example.com], http: [{match: [{port: 80.0}], route: [{destination: {host: b}}]}]}"
    );
    World::new().try_resolve(&manifest).expect("80.0 is 80");
}

#[test]
fn a_number_in_quotes_is_refused_by_the_schema_and_read_by_the_webhook() {
    refused(
        "VirtualService",
        &[(
            "{hosts: [a.example.com], http: [{route: [{destination: {host: a..b}, weight: '50'}]}]}",
            "(label \"\" invalid); spec.http[0].route[0].weight: Invalid value: \"string\"",
        )],
    );
}

#[test]
fn a_version_that_is_not_served_is_refused_with_what_the_webhook_says_of_the_rest() {
    let manifest = "apiVersion: networking.istio.io/v2\nkind: VirtualService\nmetadata: {name: x}\n\
                    spec: {hosts: [a.example.com], http: [{}]}\n";
    let refused = World::new().try_resolve(manifest).expect_err("v2 is refused").to_string();
    for words in ["no validator found", "HTTP route, redirect or direct_response is required"] {
        assert!(refused.contains(words), "{refused}");
    }
}

#[test]
fn labels_of_endpoints_and_of_sources_have_the_syntax_of_kubernetes() {
    let endpoint =
        "{hosts: [a.example.com], resolution: STATIC, endpoints: [{address: 1.2.3.4, labels: {'a b': c}}]}";
    refused("ServiceEntry", &[(endpoint, "1 error occurred: * invalid tag key: \"a b\"")]);
    refused("WorkloadEntry", &[("{address: 1.2.3.4, labels: {a: 'b c'}}", "invalid tag value: \"b c\"")]);
    let tls = "{hosts: [a.example.com], tls: [{match: [{sniHosts: [a.example.com], sourceLabels: {'': c}}], \
               route: [{destination: {host: b}}]}]}";
    let tcp = "{hosts: [a.example.com], tcp: [{match: [{sourceLabels: {'': c}}], route: [{destination: {host: b}}]}]}";
    refused("VirtualService", &[(tls, "invalid tag key: \"\""), (tcp, "invalid tag key: \"\"")]);
    refused_routes(&[("match: [{sourceLabels: {a: 'b c'}}]", "invalid tag value: \"b c\"")]);
}

#[test]
fn every_wrong_type_is_named() {
    let wrong = |place: &str, wanted: &str, got: &str| {
        format!("{place}: Invalid value: \"{got}\": {place} in body must be of type {wanted}: \"{got}\"")
    };
    let tls = "spec.trafficPolicy.tls";
    let both = format!(
        "[{}, {tls}.mode: Unsupported value: 1: supported values: \"DISABLE\", \"SIMPLE\", \"MUTUAL\", \"ISTIO_MUTUAL\", {}]",
        wrong(&format!("{tls}.mode"), "string", "integer"),
        wrong(&format!("{tls}.insecureSkipVerify"), "boolean", "string"),
    );
    let spec = "{host: a.example.com, trafficPolicy: {tls: {mode: 1, insecureSkipVerify: 'yes please'}}}";
    refused("DestinationRule", &[(spec, &both)]);
}
