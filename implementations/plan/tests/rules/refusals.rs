//! What istiod's validation refuses (pkg/config/validation), and what the plan does not carry out.

use crate::world::World;

/// Each specification is refused, and the reason holds these words.
#[track_caller]
fn refused(kind: &str, cases: &[(&str, &str)]) {
    let group = if kind == "PeerAuthentication" { "security" } else { "networking" };
    for (spec, words) in cases {
        let manifest =
            format!("apiVersion: {group}.istio.io/v1\nkind: {kind}\nmetadata: {{name: x}}\nspec: {spec}\n");
        let rejected = World::new().refusal(&manifest);
        assert_eq!(rejected.resource().to_string(), format!("{kind} default/x"));
        assert!(rejected.to_string().contains(words), "{spec}: {rejected}");
    }
}

const HTTP: &str = "{number: 80, name: http, protocol: HTTP}";

#[test]
fn service_entries_that_istiod_refuses_are_refused() {
    let entry =
        |fields: &str| format!("{{hosts: [a.example.com], ports: [{HTTP}], resolution: DNS, {fields}}}");
    let ports = |ports: &str| format!("{{hosts: [a.example.com], resolution: DNS, ports: [{ports}]}}");
    let cases = [
        ("{}".to_owned(), "at least one host"),
        ("{hosts: ['*']}".to_owned(), "\"*\" is not allowed"),
        ("{hosts: ['a_b.example.com']}".to_owned(), "invalid"),
        ("{hosts: ['*.example.com'], resolution: DNS}".to_owned(), "full name"),
        (ports(&format!("{HTTP}, {{number: 81, name: http, protocol: HTTP}}")), "already defined"),
        (ports(&format!("{HTTP}, {{number: 80, name: other, protocol: HTTP}}")), "already defined"),
        (ports("{number: 0, name: http, protocol: HTTP}"), "range"),
        (ports("{number: 65536, name: http, protocol: HTTP}"), "range"),
        (ports("{number: 80, name: http, protocol: HTTP, targetPort: 70000}"), "range"),
        (ports("{number: 80, name: http, protocol: GOPHER}"), "unsupported"),
        (ports("{number: 80, name: '', protocol: HTTP}"), "port name"),
        ("{hosts: [a.example.com], resolution: NONE, endpoints: [{address: 1.2.3.4}]}".to_owned(), "no endpoints"),
        ("{hosts: [a.example.com], resolution: STATIC, endpoints: [{address: a.example.com}]}".to_owned(), "IP"),
        (entry("endpoints: [{address: 1.2.3.4, ports: {other: 81}}]"), "not defined"),
        (entry("addresses: [1.2.3.0/24]"), "CIDR"),
        (entry("exportTo: ['*', default]"), "both"),
        (entry("exportTo: ['.', default]"), "twice"),
        (
            "{hosts: [a.example.com, b.example.com], resolution: DNS, ports: [{number: 1, name: t, protocol: TCP}]}"
                .to_owned(),
            "several hosts",
        ),
        (entry("endpoints: [{address: 1.2.3.4}], workloadSelector: {labels: {a: b}}"), "only one of"),
    ];
    let cases: Vec<_> = cases.iter().map(|(spec, words)| (spec.as_str(), *words)).collect();
    refused("ServiceEntry", &cases);
}

#[test]
fn virtual_services_that_istiod_refuses_are_refused() {
    let mesh = |route: &str| format!("{{hosts: [a.example.com], http: [{{{route}}}]}}");
    let to = "route: [{destination: {host: b.example.com}}]";
    let matching = |condition: &str| mesh(&format!("match: [{condition}], {to}"));
    let cases = [
        ("{hosts: [a.example.com]}".to_owned(), "http, tcp or tls"),
        ("{gateways: [g], http: [{directResponse: {status: 200}}]}".to_owned(), "delegate"),
        (mesh(to).replace("[a.example.com]", "['*']"), "\"*\" is not allowed"),
        (mesh(to).replace("[a.example.com]", "[a.example.com, '*.example.com']"), "overlap"),
        (mesh("name: nothing"), "must have a destination"),
        (mesh("route: [{weight: 1}]"), "destination is required"),
        (mesh("route: [{destination: {}}]"), "must have a host"),
        (mesh("route: [{destination: {host: '*'}}]"), "\"*\" is invalid"),
        (mesh("route: [{destination: {host: b, port: {number: 70000}}}]"), "range"),
        (mesh("route: [{destination: {host: b}, weight: -1}]"), "below 0"),
        (mesh("route: [{destination: {host: b}}, {destination: {host: c}}]"), "weights"),
        (mesh(&format!("{to}, redirect: {{uri: /}}")), "both have a destination and redirect"),
        (mesh("redirect: {}"), "must set"),
        (mesh("redirect: {uri: /, redirectCode: 200}"), "not a redirect code"),
        (mesh("directResponse: {status: 99}"), "not an HTTP status"),
        (mesh("directResponse: {status: 200}, rewrite: {uri: /}"), "rewrite"),
        (mesh(&format!("{to}, rewrite: {{}}")), "rewrite must set"),
        (mesh(&format!("{to}, timeout: soon")), "not a duration"),
        (mesh(&format!("{to}, timeout: 0.5ms")), "shorter"),
        (
            mesh(&format!("{to}, rewrite: {{authority: b}}, headers: {{request: {{set: {{Host: c}}}}}}")),
            "more than once",
        ),
        (mesh(&format!("{to}, headers: {{request: {{set: {{':path': /}}}}}}")), "cannot be changed"),
        (mesh(&format!("{to}, headers: {{request: {{remove: [Host]}}}}")), "cannot be removed"),
        (matching("{uri: {exact: /a, prefix: /a}}"), "only one of"),
        (matching("{uri: {regex: '('}}"), "regex"),
        (matching("{headers: {x: {prefix: ''}}}"), "prefix must not be empty"),
        (matching("{port: 70000}"), "range"),
        ("{hosts: [a.example.com], tls: [{route: [{destination: {host: b}}]}]}".to_owned(), "at least one match"),
        (
            "{hosts: [a.example.com], tls: [{match: [{port: 443}], route: [{destination: {host: b}}]}]}".to_owned(),
            "SNI host",
        ),
        (
            "{hosts: [a.example.com], tls: [{match: [{sniHosts: [b.example.com]}], route: [{destination: {host: b}}]}]}"
                .to_owned(),
            "none of the VirtualService's hosts",
        ),
    ];
    let cases: Vec<_> = cases.iter().map(|(spec, words)| (spec.as_str(), *words)).collect();
    refused("VirtualService", &cases);
}

#[test]
fn destination_rules_that_istiod_refuses_are_refused() {
    let tls = |tls: &str| format!("{{host: a.example.com, trafficPolicy: {{tls: {tls}}}}}");
    let cases = [
        ("{}".to_owned(), "empty domain"),
        ("{host: a.example.com, trafficPolicy: {}}".to_owned(), "at least one field"),
        (tls("{mode: MUTUAL}"), "client certificate"),
        (tls("{mode: MUTUAL, clientCertificate: /c}"), "private key"),
        (tls("{mode: SIMPLE, credentialName: c, caCertificates: /ca}"), "with credentialName"),
        (tls("{mode: SIMPLE, credentialName: c, clientCertificate: /c}"), "with credentialName"),
        (tls("{mode: SIMPLE, insecureSkipVerify: true, subjectAltNames: [a]}"), "insecureSkipVerify"),
        (tls("{mode: SIMPLE, insecureSkipVerify: true, credentialName: c}"), "insecureSkipVerify"),
        (tls("{mode: SECURE}"), "unknown variant"),
        (
            "{host: a.example.com, trafficPolicy: {portLevelSettings: [{tls: {mode: SIMPLE}}]}}".to_owned(),
            "port is required",
        ),
        (
            "{host: a.example.com, trafficPolicy: {portLevelSettings: [{port: {number: 1}}]}}".to_owned(),
            "at least one field",
        ),
        ("{host: a.example.com, subsets: [{name: s}, {name: s}]}".to_owned(), "twice"),
        ("{host: a.example.com, subsets: [{name: ''}]}".to_owned(), "subset name"),
        (
            "{host: a.example.com, exportTo: ['*'], workloadSelector: {matchLabels: {a: b}}}".to_owned(),
            "own namespace",
        ),
    ];
    let cases: Vec<_> = cases.iter().map(|(spec, words)| (spec.as_str(), *words)).collect();
    refused("DestinationRule", &cases);
}

#[test]
fn gateways_that_istiod_refuses_are_refused() {
    let server = |server: &str| format!("{{selector: {{a: b}}, servers: [{{{server}}}]}}");
    let cases = [
        ("{selector: {a: b}}".to_owned(), "at least one server"),
        (server(&format!("port: {HTTP}")), "at least one host"),
        (server("hosts: ['*']"), "must have a port"),
        (server(&format!("hosts: ['a.*'], port: {HTTP}")), "invalid"),
        (server("hosts: ['*'], port: {number: 80, protocol: HTTP}"), "must have a name"),
        (server("hosts: ['*'], port: {number: 0, name: a, protocol: HTTP}"), "range"),
        (server("hosts: ['*'], port: {number: 443, name: a, protocol: HTTPS}"), "must have TLS settings"),
        (server(&format!("hosts: ['*'], port: {HTTP}, tls: {{mode: ISTIO_MUTUAL}}")), "plain-text"),
        (
            server("hosts: ['*'], port: {number: 443, name: a, protocol: HTTPS}, tls: {mode: SIMPLE}"),
            "server certificate",
        ),
        (
            server(
                "hosts: ['*'], port: {number: 443, name: a, protocol: HTTPS}, \
                 tls: {mode: ISTIO_MUTUAL, credentialName: c}",
            ),
            "of its own",
        ),
        (
            format!("{{servers: [{{hosts: ['*'], port: {HTTP}}}, {{hosts: ['*'], port: {HTTP}}}]}}"),
            "must be unique",
        ),
    ];
    let cases: Vec<_> = cases.iter().map(|(spec, words)| (spec.as_str(), *words)).collect();
    refused("Gateway", &cases);
}

#[test]
fn sidecars_and_peer_authentications_that_istiod_refuses_are_refused() {
    refused(
        "Sidecar",
        &[
            ("{}", "must configure something"),
            ("{egress: [{hosts: []}]}", "at least one host"),
            ("{egress: [{hosts: [a.example.com]}]}", "NAMESPACE/NAME"),
            ("{outboundTrafficPolicy: {mode: SOMETIMES}}", "unknown variant"),
        ],
    );
    refused(
        "PeerAuthentication",
        &[
            ("{portLevelMtls: {80: {mode: STRICT}}}", "selector"),
            ("{selector: {matchLabels: {a: b}}, portLevelMtls: {70000: {mode: STRICT}}}", "range"),
            ("{mtls: {mode: MAYBE}}", "unknown variant"),
        ],
    );
}

#[test]
fn a_misspelt_field_is_refused_by_its_name() {
    refused("ServiceEntry", &[("{hosts: [a.example.com], resolutoin: DNS}", "resolutoin")]);
    refused("VirtualService", &[("{hosts: [a.example.com], http: [{matches: []}]}", "matches")]);
    refused("DestinationRule", &[("{host: a.example.com, trafficPolicy: {tls: {mod: SIMPLE}}}", "mod")]);
}

#[test]
fn a_field_that_the_plan_does_not_support_is_named_and_not_blamed_on_istio() {
    let words = "meshproof does not support";
    let to = "route: [{destination: {host: b.example.com}}]";
    for field in
        ["retries: {attempts: 3}", "fault: {abort: {httpStatus: 500}}", "mirror: {host: b}", "corsPolicy: {}"]
    {
        refused(
            "VirtualService",
            &[(&format!("{{hosts: [a.example.com], http: [{{{to}, {field}}}]}}"), words)],
        );
    }
    for condition in ["{ignoreUriCase: true}", "{withoutHeaders: {x: {exact: a}}}", "{scheme: {exact: http}}"]
    {
        let spec = format!("{{hosts: [a.example.com], http: [{{match: [{condition}], {to}}}]}}");
        refused("VirtualService", &[(&spec, words)]);
    }
    refused(
        "VirtualService",
        &[("{hosts: [a.example.com], tcp: [{route: [{destination: {host: b}}]}]}", words)],
    );
    for policy in [
        "{outlierDetection: {}}",
        "{connectionPool: {tcp: {maxConnections: 1}}}",
        "{loadBalancer: {consistentHash: {useSourceIp: true}}}",
        "{loadBalancer: {simple: PASSTHROUGH}}",
        "{tls: {mode: SIMPLE, caCrl: /crl}}",
    ] {
        refused("DestinationRule", &[(&format!("{{host: a.example.com, trafficPolicy: {policy}}}"), words)]);
    }
    refused("ServiceEntry", &[("{hosts: [a.example.com], workloadSelector: {labels: {a: b}}}", words)]);
    refused("Sidecar", &[("{ingress: []}", words)]);
}

#[test]
fn every_served_version_is_read_and_no_other() {
    let entry = |version: &str| {
        format!(
            "apiVersion: {version}\nkind: ServiceEntry\nmetadata: {{name: x}}\nspec: {{hosts: [a.example.com]}}\n"
        )
    };
    for version in ["v1", "v1beta1", "v1alpha3"] {
        World::new().resolve(&entry(&format!("networking.istio.io/{version}")));
    }
    let rejected = World::new().refusal(&entry("networking.istio.io/v2"));
    assert!(rejected.to_string().contains("no version"), "{rejected}");
}

#[test]
fn other_kinds_are_left_alone_unless_istio_would_carry_them_out() {
    let resource = |version: &str, kind: &str| {
        format!("apiVersion: {version}\nkind: {kind}\nmetadata: {{name: x}}\nspec: {{anything: 1}}\n")
    };
    for (version, kind) in [
        ("v1", "Service"),
        ("apps/v1", "Deployment"),
        ("v1", "ConfigMap"),
        ("telemetry.istio.io/v1", "Telemetry"),
    ] {
        World::new().resolve(&resource(version, kind));
    }
    for (version, kind) in [
        ("networking.istio.io/v1alpha3", "EnvoyFilter"),
        ("security.istio.io/v1", "AuthorizationPolicy"),
        ("gateway.networking.k8s.io/v1", "Gateway"),
    ] {
        let rejected = World::new().refusal(&resource(version, kind));
        assert!(rejected.to_string().contains("meshproof does not support"), "{rejected}");
    }
}

#[test]
fn both_spellings_of_a_field_are_read_and_null_is_absent() {
    let manifest = "
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: x}
spec:
  host: a.example.com
  export_to: null
  traffic_policy:
    port_level_settings:
    - {port: {number: 80}, tls: {mode: SIMPLE, insecure_skip_verify: true, sni: null}}
";
    World::new().resolve(manifest);
}

#[test]
fn a_delegate_is_accepted_and_inert() {
    let manifest = "
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: x}
spec: {http: [{route: [{destination: {host: welcome, port: {number: 8080}}}]}]}
";
    let with = World::new().resolve(manifest).plan;
    assert_eq!(with, World::new().resolve("").plan);
}
