//! What istiod's validation refuses (pkg/config/validation), and what the plan does not carry out.

use crate::world::World;

/// Each specification is refused, and the reason holds these words.
#[track_caller]
pub(crate) fn refused(kind: &str, cases: &[(&str, &str)]) {
    let group = if kind == "PeerAuthentication" { "security" } else { "networking" };
    let mut others = Vec::new();
    for (spec, words) in cases {
        let manifest =
            format!("apiVersion: {group}.istio.io/v1\nkind: {kind}\nmetadata: {{name: x}}\nspec: {spec}\n");
        let rejected = match World::new().try_resolve(&manifest) {
            Ok(_) => "accepted".to_owned(),
            Err(rejected) => {
                assert_eq!(rejected.resource().to_string(), format!("{kind} default/x"));
                rejected.to_string()
            }
        };
        if !rejected.contains(words) {
            others.push(format!("{spec} [{words}]: {rejected}"));
        }
    }
    assert!(others.is_empty(), "{}", others.join("\n"));
}

const HTTP: &str = "{number: 80, name: http, protocol: HTTP}";

#[test]
fn service_entries_that_istiod_refuses_are_refused() {
    let entry =
        |fields: &str| format!("{{hosts: [a.example.com], ports: [{HTTP}], resolution: DNS, {fields}}}");
    let ports = |ports: &str| format!("{{hosts: [a.example.com], resolution: DNS, ports: [{ports}]}}");
    let cases = [
        ("{}".to_owned(), "at least one host"),
        ("{hosts: ['*']}".to_owned(), "invalid host *; spec.hosts[0]"),
        ("{hosts: ['a_b.example.com']}".to_owned(), "invalid"),
        ("{hosts: ['*.example.com'], resolution: DNS}".to_owned(), "hosts must be FQDN"),
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
        (entry("exportTo: ['.', default]"), "duplicate entries in exportTo for entry default"),
        (
            "{hosts: [a.example.com, b.example.com], resolution: DNS, ports: [{number: 1, name: t, protocol: TCP}]}"
                .to_owned(),
            "multiple hosts",
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
        (mesh(to).replace("[a.example.com]", "['*']"), "wildcard host * is not allowed"),
        (mesh(to).replace("[a.example.com]", "[a.example.com, '*.example.com']"), "duplicate hosts in virtual service"),
        (mesh("name: nothing"), "HTTP route, redirect or direct_response is required"),
        (mesh("route: [{weight: 1}]"), "destination is required"),
        (mesh("route: [{destination: {}}]"), "empty domain name"),
        (mesh("route: [{destination: {host: '*'}}]"), "invalid destination host *"),
        (mesh("route: [{destination: {host: b, port: {number: 70000}}}]"), "range"),
        (mesh("route: [{destination: {host: b}, weight: -1}]"), "weight -1 < 0"),
        (mesh("route: [{destination: {host: b}}, {destination: {host: c}}]"), "total destination weight = 0"),
        (mesh(&format!("{to}, redirect: {{uri: /}}")), "cannot contain both route and redirect"),
        (mesh("redirect: {}"), "redirect must specify"),
        (mesh("redirect: {uri: /, redirectCode: 200}"), "200 is not a valid redirect code"),
        (mesh("directResponse: {status: 99}"), "not in range 200-599"),
        (mesh("directResponse: {status: 200}, rewrite: {uri: /}"), "rewrite"),
        (mesh(&format!("{to}, rewrite: {{}}")), "rewrite must specify"),
        (mesh(&format!("{to}, timeout: soon")), "invalid duration"),
        (mesh(&format!("{to}, timeout: 0.5ms")), "greater than 1ms"),
        (
            mesh(&format!("{to}, rewrite: {{authority: b}}, headers: {{request: {{set: {{Host: c}}}}}}")),
            "multiple times",
        ),
        (mesh(&format!("{to}, headers: {{request: {{set: {{':path': /}}}}}}")), "cannot have \":\" prefix"),
        (mesh(&format!("{to}, headers: {{request: {{remove: [Host]}}}}")), "cannot set Host header"),
        (matching("{uri: {exact: /a, prefix: /a}}"), "\"spec.http[0].match[0].uri\" must validate one and only one schema (oneOf). Found 2 valid alternatives"),
        (matching("{uri: {regex: '('}}"), "regex"),
        (matching("{headers: {x: {prefix: ''}}}"), "prefix string match should not be empty"),
        (matching("{port: 70000}"), "range"),
        ("{hosts: [a.example.com], tls: [{route: [{destination: {host: b}}]}]}".to_owned(), "at least one match"),
        (
            "{hosts: [a.example.com], tls: [{match: [{port: 443}], route: [{destination: {host: b}}]}]}".to_owned(),
            "SNI host",
        ),
        (
            "{hosts: [a.example.com], tls: [{match: [{sniHosts: [b.example.com]}], route: [{destination: {host: b}}]}]}"
                .to_owned(),
            "not a compatible subset",
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
        (tls("{mode: SIMPLE, credentialName: c, caCertificates: /ca}"), "If credentialName is set"),
        (tls("{mode: SIMPLE, credentialName: c, clientCertificate: /c}"), "If credentialName is set"),
        (
            tls("{mode: SIMPLE, insecureSkipVerify: true, subjectAltNames: [a]}"),
            "when InsecureSkipVerify is set true",
        ),
        (
            tls("{mode: SIMPLE, insecureSkipVerify: true, credentialName: c}"),
            "when InsecureSkipVerify is set true",
        ),
        (tls("{mode: SECURE}"), "Unsupported value"),
        (
            "{host: a.example.com, trafficPolicy: {portLevelSettings: [{tls: {mode: SIMPLE}}]}}".to_owned(),
            "must have valid port",
        ),
        (
            "{host: a.example.com, trafficPolicy: {portLevelSettings: [{port: {number: 1}}]}}".to_owned(),
            "at least one field",
        ),
        ("{host: a.example.com, subsets: [{name: s}, {name: s}]}".to_owned(), "duplicate subset names"),
        ("{host: a.example.com, subsets: [{name: ''}]}".to_owned(), "subset name"),
        (
            "{host: a.example.com, exportTo: ['*'], workloadSelector: {matchLabels: {a: b}}}".to_owned(),
            "beyond current namespace",
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
        (server("hosts: ['*']"), "port is required"),
        (server(&format!("hosts: ['a.*'], port: {HTTP}")), "invalid"),
        (server("hosts: ['*'], port: {number: 80, protocol: HTTP}"), "port name must be set"),
        (server("hosts: ['*'], port: {number: 0, name: a, protocol: HTTP}"), "range"),
        (server("hosts: ['*'], port: {number: 443, name: a, protocol: HTTPS}"), "must have TLS settings"),
        (
            server(&format!("hosts: ['*'], port: {HTTP}, tls: {{mode: ISTIO_MUTUAL}}")),
            "plain text HTTP ports",
        ),
        (
            server("hosts: ['*'], port: {number: 443, name: a, protocol: HTTPS}, tls: {mode: SIMPLE}"),
            "server certificate",
        ),
        (
            server(
                "hosts: ['*'], port: {number: 443, name: a, protocol: HTTPS}, \
                 tls: {mode: ISTIO_MUTUAL, credentialName: c}",
            ),
            "cannot have associated credentialName",
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
            ("{}", "empty configuration"),
            ("{egress: [{hosts: []}]}", "at least one host"),
            ("{egress: [{hosts: [a.example.com]}]}", "form namespace/dnsName"),
            ("{outboundTrafficPolicy: {mode: SOMETIMES}}", "Unsupported value"),
        ],
    );
    refused(
        "PeerAuthentication",
        &[
            ("{portLevelMtls: {80: {mode: STRICT}}}", "selector"),
            ("{selector: {matchLabels: {a: b}}, portLevelMtls: {70000: {mode: STRICT}}}", "range"),
            ("{mtls: {mode: MAYBE}}", "Unsupported value"),
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
    let claim = "{headers: {'@request.auth.claims.sub': {exact: a}}}";
    let spec = format!("{{hosts: [a.example.com], gateways: [g], http: [{{match: [{claim}], {to}}}]}}");
    refused("VirtualService", &[(&spec, words)]);
    for policy in ["{tunnel: {protocol: CONNECT, targetHost: a, targetPort: 443}}", "{proxyProtocol: {}}"] {
        refused("DestinationRule", &[(&format!("{{host: a.example.com, trafficPolicy: {policy}}}"), words)]);
    }
    let ingress =
        "{ingress: [{port: {number: 80, name: http, protocol: HTTP}, defaultEndpoint: '127.0.0.1:80'}]}";
    refused("Sidecar", &[(ingress, words)]);
}

#[test]
fn what_does_not_change_where_a_request_goes_is_passed_over_with_a_note() {
    let noted = |manifest: &str, field: &str| {
        let resolution = World::new().resolve(manifest);
        assert!(resolution.warnings.iter().any(|w| w.contains(field)), "{field}: {:?}", resolution.warnings);
    };
    let to = "route: [{destination: {host: b.example.com}}]";
    for field in [
        "fault: {abort: {httpStatus: 500, percentage: {value: 1}}}",
        "corsPolicy: {allowOrigins: [{exact: a}]}",
    ] {
        let manifest = format!(
            "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: x}}\n\
             spec: {{hosts: [a.example.com], http: [{{{to}, {field}}}]}}\n"
        );
        noted(&manifest, &field[..field.find(':').unwrap_or_default()]);
    }
    for (policy, field) in [
        ("{outlierDetection: {consecutive5xxErrors: 5}}", "outlierDetection"),
        ("{connectionPool: {tcp: {maxConnections: 1}}}", "connectionPool.tcp"),
        ("{loadBalancer: {consistentHash: {useSourceIp: true}}}", "consistentHash"),
    ] {
        let manifest = format!(
            "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: x}}\n\
             spec: {{host: a.example.com, trafficPolicy: {policy}}}\n"
        );
        noted(&manifest, field);
    }
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
    assert!(rejected.to_string().contains("no validator found"), "{rejected}");
}

#[test]
fn other_kinds_are_left_alone_unless_istio_would_carry_them_out() {
    let resource = |version: &str, kind: &str| {
        format!("apiVersion: {version}\nkind: {kind}\nmetadata: {{name: x}}\nspec: {{anything: 1}}\n")
    };
    for (version, kind) in [("v1", "Service"), ("apps/v1", "Deployment"), ("v1", "ConfigMap")] {
        World::new().resolve(&resource(version, kind));
    }
    let empty = |version: &str, kind: &str| {
        format!("apiVersion: {version}\nkind: {kind}\nmetadata: {{name: x}}\nspec: {{}}\n")
    };
    World::new().resolve(&empty("telemetry.istio.io/v1", "Telemetry"));
    for (version, kind) in [
        ("networking.istio.io/v1alpha3", "EnvoyFilter"),
        ("security.istio.io/v1", "AuthorizationPolicy"),
        ("gateway.networking.k8s.io/v1", "Gateway"),
    ] {
        let rejected = World::new().refusal(&empty(version, kind));
        assert!(rejected.to_string().contains("meshproof does not support"), "{rejected}");
    }
}

#[test]
fn the_api_server_knows_one_spelling_of_a_field_and_null_is_absent() {
    let manifest = |key: &str| {
        format!(
            "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: x}}\n\
             spec: {{host: a.example.com, exportTo: null, {key}: {{tls: {{mode: SIMPLE, sni: null}}}}}}\n"
        )
    };
    World::new().resolve(&manifest("trafficPolicy"));
    let refusal = World::new().refusal(&manifest("traffic_policy")).to_string();
    assert!(refusal.contains("spec.traffic_policy"), "{refusal}");
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
