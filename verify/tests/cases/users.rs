//! What users write: faults of every kind in forms that no other case has, and unusual configurations that are correct.

use super::variants::check;

const PORTS: &str =
    "ports: [{number: 80, name: http, protocol: HTTP}, {number: 443, name: https, protocol: HTTPS}]";
const PLAIN: &str = "ports: [{number: 80, name: http, protocol: HTTP, targetPort: 443}]";
const SIMPLE_80: &str = "trafficPolicy: {portLevelSettings: [{port: {number: 80}, tls: {mode: SIMPLE}}]}";
const TO_443: &str =
    "http: [{match: [{port: 80}], route: [{destination: {host: HOST, port: {number: 443}}}]}]";

fn with(text: &str) -> String {
    text.replace("PORTS", PORTS)
        .replace("PLAIN", PLAIN)
        .replace("SIMPLE_80", SIMPLE_80)
        .replace("TO_443", &TO_443.replace("HOST", "api.example.com"))
}

fn all(cases: &[(&str, &str, &[&str])]) {
    let texts: Vec<String> = cases.iter().map(|(_, text, _)| with(text)).collect();
    let cases: Vec<_> = cases.iter().zip(&texts).map(|((n, _, e), text)| (*n, text.as_str(), *e)).collect();
    check(&cases);
}

#[test]
fn settings_that_miss_their_request() {
    all(&[
        (
            "a wildcard rule also wraps the port that passes clients' TLS",
            "SE a | hosts: [api.example.com], PORTS
             DR a | host: '*.example.com', trafficPolicy: {tls: {mode: SIMPLE}}",
            &["MP0004", "MP0002"],
        ),
        (
            "TLS for port 80, which has no target port",
            "SE a | hosts: [api.example.com], ports: [{number: 80, name: http, protocol: HTTP}]
             DR a | host: api.example.com, SIMPLE_80",
            &["MP0004"],
        ),
        (
            "the subset of the route is spelled otherwise than in the rule",
            "SE a | hosts: [api.example.com], PORTS
             VS a | hosts: [api.example.com], http: [{match: [{port: 80}], route: [{destination: {host: api.example.com, port: {number: 443}, subset: tls}}]}]
             DR a | host: api.example.com, subsets: [{name: TLS-origin, trafficPolicy: {tls: {mode: SIMPLE}}}]",
            &["MP0012"],
        ),
        (
            "the route does not name the subset that opens TLS",
            "SE a | hosts: [api.example.com], PORTS
             VS a | hosts: [api.example.com], TO_443
             DR a | host: api.example.com, subsets: [{name: origin, trafficPolicy: {tls: {mode: SIMPLE}}}]",
            &["MP0003"],
        ),
        (
            "the connection pool of the port replaces the rule's TLS",
            "SE a | hosts: [api.example.com], PORTS
             VS a | hosts: [api.example.com], TO_443
             DR a | host: api.example.com, trafficPolicy: {tls: {mode: SIMPLE}, portLevelSettings: [{port: {number: 443}, connectionPool: {tcp: {maxConnections: 5}}}]}",
            &["MP0030"],
        ),
        (
            "mutual TLS of the mesh for a partner outside",
            "SE a | hosts: [api.example.com], PLAIN
             DR a | host: api.example.com, trafficPolicy: {portLevelSettings: [{port: {number: 80}, tls: {mode: ISTIO_MUTUAL}}]}",
            &["MP0026"],
        ),
        (
            "a server name of its own without names to check",
            "SE a | hosts: [api.example.com], PLAIN
             DR a | host: api.example.com, trafficPolicy: {portLevelSettings: [{port: {number: 80}, tls: {mode: SIMPLE, sni: edge.example.net}}]}",
            &["MP0014"],
        ),
        (
            "the client certificate is given twice",
            "SE a | hosts: [api.example.com], PLAIN
             DR a | host: api.example.com, workloadSelector: {matchLabels: {app: cart}}, trafficPolicy: {portLevelSettings: [{port: {number: 80}, tls: {mode: MUTUAL, credentialName: c, clientCertificate: /c.pem, privateKey: /k.pem}}]}",
            &["MP0024"],
        ),
        (
            "a URL instead of a host",
            "SE a | hosts: ['https://api.example.com'], PLAIN",
            &["MP0024"],
        ),
    ]);
}

#[test]
fn what_does_not_reach_the_proxy() {
    all(&[
        (
            "the rule is exported to the namespace of a gateway alone",
            "SE a | hosts: [api.example.com], PLAIN
             DR a shared | host: api.example.com, exportTo: [istio-system], SIMPLE_80
             SC default | egress: [{hosts: ['*/*']}]",
            &["MP0005"],
        ),
        (
            "a Sidecar admits only its own namespace, and the entry is in another",
            "SE a partners | hosts: [api.example.com], PLAIN
             SC default shop | egress: [{hosts: ['./*', 'istio-system/*']}]
             DR a shop | host: api.example.com, SIMPLE_80",
            &["MP0006"],
        ),
        (
            "the Gateway of another namespace without its namespace",
            "SE a | hosts: [api.example.com], PORTS
             GW out istio-system | selector: {istio: egressgateway}, servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: [api.example.com]}]
             VS a | hosts: [api.example.com], gateways: [out, mesh], http: [{match: [{gateways: [mesh], port: 80}], route: [{destination: {host: istio-egressgateway.istio-system.svc.cluster.local, port: {number: 80}}}]}, {match: [{gateways: [out]}], route: [{destination: {host: api.example.com, port: {number: 443}}}]}]
             DR a | host: api.example.com, trafficPolicy: {portLevelSettings: [{port: {number: 443}, tls: {mode: SIMPLE}}]}",
            &["MP0027"],
        ),
        (
            "the Gateway takes the host from another namespace's routes alone",
            "SE a | hosts: [api.example.com], PORTS
             GW out istio-system | selector: {istio: egressgateway}, servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: [team/api.example.com]}]
             VS a | hosts: [api.example.com], gateways: [istio-system/out, mesh], http: [{match: [{gateways: [mesh], port: 80}], route: [{destination: {host: istio-egressgateway.istio-system.svc.cluster.local, port: {number: 80}}}]}, {match: [{gateways: [istio-system/out]}], route: [{destination: {host: api.example.com, port: {number: 443}}}]}]
             DR a | host: api.example.com, trafficPolicy: {portLevelSettings: [{port: {number: 443}, tls: {mode: SIMPLE}}]}",
            &["MP0027"],
        ),
        (
            "the routes are exported to the namespace of the gateway alone, and the sidecar goes past it",
            "SE a | hosts: [api.example.com], PORTS
             GW out | selector: {istio: egressgateway}, servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: [api.example.com]}]
             VS a | hosts: [api.example.com], gateways: [out, mesh], exportTo: [istio-system], http: [{match: [{gateways: [mesh], port: 80}], route: [{destination: {host: istio-egressgateway.istio-system.svc.cluster.local, port: {number: 80}}}]}, {match: [{gateways: [out]}], route: [{destination: {host: api.example.com, port: {number: 443}}}]}]
             DR a | host: api.example.com, trafficPolicy: {portLevelSettings: [{port: {number: 443}, tls: {mode: SIMPLE}}]}",
            &["MP0027"],
        ),
        (
            "routes for sidecars in the namespace of the gateway, exported there alone",
            "SE a | hosts: [api.example.com], PORTS
             GW out istio-system | selector: {istio: egressgateway}, servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: [api.example.com]}]
             VS a istio-system | hosts: [api.example.com], gateways: [out, mesh], exportTo: ['.'], http: [{match: [{gateways: [mesh], port: 80}], route: [{destination: {host: istio-egressgateway.istio-system.svc.cluster.local, port: {number: 80}}}]}, {match: [{gateways: [out]}], route: [{destination: {host: api.example.com, port: {number: 443}}}]}]
             DR a | host: api.example.com, trafficPolicy: {portLevelSettings: [{port: {number: 443}, tls: {mode: SIMPLE}}]}",
            &["MP0027"],
        ),
        (
            "routes for the gateway alone may be exported to it alone",
            "SE a | hosts: [api.example.com], PORTS
             GW out | selector: {istio: egressgateway}, servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: [api.example.com]}]
             VS a | hosts: [api.example.com], gateways: [mesh], http: [{match: [{port: 80}], route: [{destination: {host: istio-egressgateway.istio-system.svc.cluster.local, port: {number: 80}}}]}]
             VS b | hosts: [api.example.com], gateways: [out], exportTo: [istio-system], http: [{route: [{destination: {host: api.example.com, port: {number: 443}}}]}]
             DR a | host: api.example.com, trafficPolicy: {portLevelSettings: [{port: {number: 443}, tls: {mode: SIMPLE}}]}",
            &[],
        ),
        (
            "the certificate of an ingress gateway is with the application",
            "GW in | selector: {istio: ingressgateway}, servers: [{port: {number: 443, name: https, protocol: HTTPS}, hosts: [shop.example.com], tls: {mode: SIMPLE, credentialName: shop}}]
             VS in | hosts: [shop.example.com], gateways: [in], http: [{route: [{destination: {host: cart.default.svc.cluster.local}}]}]
             Service cart | selector: {app: cart}, ports: [{name: http, port: 80}]
             Secret shop | tls.crt: c, tls.key: k",
            &["MP0007"],
        ),
        (
            "a delegate in a namespace that is not named",
            "SE a | hosts: [api.example.com], PLAIN
             DR a | host: api.example.com, SIMPLE_80
             VS a | hosts: [api.example.com], http: [{match: [{uri: {prefix: /v1}}], delegate: {name: v1}}, {route: [{destination: {host: api.example.com, port: {number: 80}}}]}]
             VS v1 team | http: [{route: [{destination: {host: api.example.com, port: {number: 80}}}]}]",
            &["MP0032"],
        ),
    ]);
}

#[test]
fn routes_and_ports_that_lead_elsewhere() {
    all(&[
        (
            "another host behind the route, with the first host's name",
            "SE a | hosts: [www.example.com], ports: [{number: 80, name: http, protocol: HTTP}]
             SE b | hosts: [api.example.com], PORTS
             VS a | hosts: [www.example.com], http: [{match: [{uri: {prefix: /api}}], route: [{destination: {host: api.example.com, port: {number: 443}}}]}, {route: [{destination: {host: www.example.com, port: {number: 80}}}]}]
             DR b | host: api.example.com, trafficPolicy: {portLevelSettings: [{port: {number: 443}, tls: {mode: SIMPLE}}]}",
            &["MP0008"],
        ),
        (
            "a prefix of everything before a regular expression",
            "SE a | hosts: [api.example.com], PORTS
             VS a | hosts: [api.example.com], http: [{match: [{uri: {prefix: /}}], route: [{destination: {host: api.example.com, port: {number: 80}}}]}, {match: [{uri: {regex: '/v[0-9]+/.*'}}], route: [{destination: {host: api.example.com, port: {number: 443}}}]}]
             DR a | host: api.example.com, trafficPolicy: {portLevelSettings: [{port: {number: 443}, tls: {mode: SIMPLE}}]}",
            &["MP0009"],
        ),
        (
            "a Service of two names in the route",
            "SE a | hosts: [api.example.com], PORTS
             GW out | selector: {istio: egressgateway}, servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: [api.example.com]}]
             VS a | hosts: [api.example.com], gateways: [out, mesh], http: [{match: [{gateways: [mesh], port: 80}], route: [{destination: {host: istio-egressgateway.istio-system, port: {number: 80}}}]}, {match: [{gateways: [out]}], route: [{destination: {host: api.example.com, port: {number: 443}}}]}]
             DR a | host: api.example.com, trafficPolicy: {portLevelSettings: [{port: {number: 443}, tls: {mode: SIMPLE}}]}",
            &["MP0011"],
        ),
        (
            "the gateway's route leads back to the gateway",
            "SE a | hosts: [api.example.com], PORTS
             GW out | selector: {istio: egressgateway}, servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: [api.example.com]}]
             VS a | hosts: [api.example.com], gateways: [out, mesh], http: [{route: [{destination: {host: istio-egressgateway.istio-system.svc.cluster.local, port: {number: 80}}}]}]
             DR a | host: api.example.com, trafficPolicy: {portLevelSettings: [{port: {number: 443}, tls: {mode: SIMPLE}}]}",
            &["MP0034", "MP0002"],
        ),
        (
            "the gateway's Service lacks the port of the Gateway",
            "SE a | hosts: [api.example.com], PORTS
             Service out istio-system | selector: {app: out}, ports: [{name: http, port: 80}]
             GW out | selector: {app: out}, servers: [{port: {number: 8443, name: https, protocol: HTTPS}, hosts: [api.example.com], tls: {mode: ISTIO_MUTUAL}}]
             VS a | hosts: [api.example.com], gateways: [out, mesh], http: [{match: [{gateways: [mesh], port: 80}], route: [{destination: {host: out.istio-system.svc.cluster.local, port: {number: 8443}}}]}, {match: [{gateways: [out]}], route: [{destination: {host: api.example.com, port: {number: 443}}}]}]
             DR a | host: api.example.com, trafficPolicy: {portLevelSettings: [{port: {number: 443}, tls: {mode: SIMPLE}}]}",
            &["MP0021"],
        ),
        (
            "two databases without addresses on one port",
            "SE one | hosts: [one.example.com], ports: [{number: 5432, name: tcp, protocol: TCP}]
             SE two | hosts: [two.example.com], ports: [{number: 5432, name: tcp, protocol: TCP}]
             DR two | host: two.example.com, trafficPolicy: {tls: {mode: SIMPLE}}",
            &["MP0017"],
        ),
        (
            "a younger rule of the same host and subset has no effect",
            "SE a | hosts: [api.example.com], PLAIN
             DR old | host: api.example.com, trafficPolicy: {connectionPool: {tcp: {maxConnections: 3}}}
             DR new | host: api.example.com, SIMPLE_80",
            &["MP0028"],
        ),
    ]);
}

#[test]
fn unusual_and_correct() {
    all(&[
        (
            "a wildcard rule for the plain port alone",
            "SE a | hosts: [api.example.com], ports: [{number: 80, name: http, protocol: HTTP, targetPort: 443}, {number: 443, name: tls, protocol: TLS}]
             DR a | host: '*.example.com', SIMPLE_80",
            &[],
        ),
        (
            "hosts by wildcard, clients' own TLS",
            "SE- a | hosts: ['*.example.com'], resolution: NONE, ports: [{number: 443, name: tls, protocol: TLS}]",
            &[],
        ),
        (
            "a server by address, its name by sni and names",
            "SE- a | hosts: [api.example.com], resolution: STATIC, location: MESH_EXTERNAL, PLAIN, endpoints: [{address: 192.0.2.7}]
             DR a | host: api.example.com, trafficPolicy: {portLevelSettings: [{port: {number: 80}, tls: {mode: SIMPLE, sni: edge.example.net, subjectAltNames: [edge.example.net]}}]}",
            &[],
        ),
        (
            "clients' own TLS through a gateway that passes it on",
            "SE a | hosts: [api.example.com], ports: [{number: 443, name: tls, protocol: TLS}]
             GW out | selector: {istio: egressgateway}, servers: [{port: {number: 443, name: tls, protocol: TLS}, hosts: [api.example.com], tls: {mode: PASSTHROUGH}}]
             VS a | hosts: [api.example.com], gateways: [mesh, out], tls: [{match: [{gateways: [mesh], port: 443, sniHosts: [api.example.com]}], route: [{destination: {host: istio-egressgateway.istio-system.svc.cluster.local, port: {number: 443}}}]}, {match: [{gateways: [out], port: 443, sniHosts: [api.example.com]}], route: [{destination: {host: api.example.com, port: {number: 443}}}]}]",
            &[],
        ),
        (
            "a database that speaks TLS from the first byte",
            "SE db | hosts: [db.example.com], addresses: [240.0.0.9], ports: [{number: 6379, name: tcp, protocol: TCP}]
             DR db | host: db.example.com, trafficPolicy: {tls: {mode: SIMPLE}}",
            &[],
        ),
        (
            "gRPC on a port of its own",
            "SE a | hosts: [grpc.example.com], ports: [{number: 50051, name: grpc, protocol: GRPC, targetPort: 443}]
             DR a | host: grpc.example.com, trafficPolicy: {portLevelSettings: [{port: {number: 50051}, tls: {mode: SIMPLE}}]}",
            &[],
        ),
        (
            "a rule of the root namespace",
            "SE a | hosts: [api.example.com], PLAIN
             DR a istio-system | host: api.example.com, SIMPLE_80",
            &[],
        ),
        (
            "a Sidecar that admits one host of another namespace",
            "SE a partners | hosts: [api.example.com], PLAIN
             SC default shop | egress: [{hosts: ['*/api.example.com', 'istio-system/*']}]
             DR a shop | host: api.example.com, SIMPLE_80",
            &[],
        ),
        (
            "registered hosts alone",
            "SE a | hosts: [api.example.com], PLAIN
             SC default | egress: [{hosts: ['*/*']}], outboundTrafficPolicy: {mode: REGISTRY_ONLY}
             DR a | host: api.example.com, SIMPLE_80",
            &[],
        ),
        (
            "an ingress gateway that redirects plain HTTP",
            "GW in | selector: {istio: ingressgateway}, servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: [shop.example.com], tls: {httpsRedirect: true}}, {port: {number: 443, name: https, protocol: HTTPS}, hosts: [shop.example.com], tls: {mode: SIMPLE, credentialName: shop}}]
             VS in | hosts: [shop.example.com], gateways: [in], http: [{route: [{destination: {host: cart.default.svc.cluster.local, port: {number: 80}}}]}]
             Service cart | selector: {app: cart}, ports: [{name: http, port: 80}]
             Secret shop istio-system | tls.crt: c, tls.key: k",
            &[],
        ),
        (
            "an ingress gateway in front of a server outside",
            "SE a | hosts: [api.example.com], ports: [{number: 443, name: https, protocol: HTTPS}]
             GW in | selector: {istio: ingressgateway}, servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: [shop.example.com]}]
             VS in | hosts: [shop.example.com], gateways: [in], http: [{rewrite: {authority: api.example.com}, route: [{destination: {host: api.example.com, port: {number: 443}}}]}]
             DR a | host: api.example.com, exportTo: ['*'], workloadSelector: {matchLabels: {istio: ingressgateway}}, trafficPolicy: {tls: {mode: SIMPLE}}",
            &["MP0024"],
        ),
        (
            "the same for every proxy, with clients that open no TLS",
            "SE a | hosts: [api.example.com], exportTo: ['.', istio-system], ports: [{number: 443, name: https, protocol: HTTPS}]
             GW in | selector: {istio: ingressgateway}, servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: [shop.example.com]}]
             VS in | hosts: [shop.example.com], gateways: [in], http: [{rewrite: {authority: api.example.com}, route: [{destination: {host: api.example.com, port: {number: 443}}}]}]
             DR a istio-system | host: api.example.com, exportTo: ['.'], trafficPolicy: {tls: {mode: SIMPLE}}",
            &[],
        ),
        (
            "a delegate of another namespace, named",
            "SE a | hosts: [api.example.com], PORTS
             VS a | hosts: [api.example.com], http: [{match: [{port: 80, uri: {prefix: /v1}}], delegate: {name: v1, namespace: team}}, {match: [{port: 80}], route: [{destination: {host: api.example.com, port: {number: 443}}}]}]
             VS v1 team | http: [{route: [{destination: {host: api.example.com, port: {number: 443}}}]}]
             DR a | host: api.example.com, trafficPolicy: {portLevelSettings: [{port: {number: 443}, tls: {mode: SIMPLE}}]}",
            &[],
        ),
        (
            "subsets with client certificates of their own",
            "SE a | hosts: [api.example.com], PORTS
             VS a | hosts: [api.example.com], http: [{match: [{port: 80, uri: {prefix: /admin}}], route: [{destination: {host: api.example.com, port: {number: 443}, subset: admin}}]}, {match: [{port: 80}], route: [{destination: {host: api.example.com, port: {number: 443}, subset: reader}}]}]
             DR a | host: api.example.com, subsets: [{name: admin, trafficPolicy: {portLevelSettings: [{port: {number: 443}, tls: {mode: MUTUAL, clientCertificate: /a.pem, privateKey: /a.key, caCertificates: /ca.pem}}]}}, {name: reader, trafficPolicy: {portLevelSettings: [{port: {number: 443}, tls: {mode: SIMPLE, caCertificates: /ca.pem}}]}}]",
            &[],
        ),
        (
            "three hosts with one VirtualService each and a wildcard rule",
            "SE a | hosts: [a.example.com, b.example.com], PORTS
             VS a | hosts: [a.example.com], http: [{match: [{port: 80}], route: [{destination: {host: a.example.com, port: {number: 443}}}]}]
             VS b | hosts: [b.example.com], http: [{match: [{port: 80}], route: [{destination: {host: b.example.com, port: {number: 443}}}]}]
             DR a | host: '*.example.com', trafficPolicy: {portLevelSettings: [{port: {number: 443}, tls: {mode: SIMPLE}}]}",
            &[],
        ),
        (
            "port 8080 for plain requests, with retries and timeouts",
            "SE a | hosts: [api.example.com], ports: [{number: 8080, name: http, protocol: HTTP, targetPort: 8443}]
             VS a | hosts: [api.example.com], http: [{timeout: 2s, retries: {attempts: 2, retryOn: 5xx}, fault: {delay: {fixedDelay: 1s, percentage: {value: 1}}}, route: [{destination: {host: api.example.com, port: {number: 8080}}}]}]
             DR a | host: api.example.com, trafficPolicy: {tls: {mode: SIMPLE}, outlierDetection: {consecutive5xxErrors: 3}}",
            &[],
        ),
        (
            "a rule for each of two namespaces, with another CA",
            "SE a shared | hosts: [api.example.com], PLAIN
             DR a one | host: api.example.com, exportTo: ['.'], trafficPolicy: {portLevelSettings: [{port: {number: 80}, tls: {mode: SIMPLE, caCertificates: /one.pem}}]}
             DR a two | host: api.example.com, exportTo: ['.'], trafficPolicy: {portLevelSettings: [{port: {number: 80}, tls: {mode: SIMPLE, caCertificates: /two.pem}}]}
             DR a shared | host: api.example.com, exportTo: ['.'], SIMPLE_80",
            &[],
        ),
        (
            "a virtual machine with TLS of its own",
            "SE- vm | hosts: [vm.corp], location: MESH_INTERNAL, resolution: STATIC, ports: [{number: 80, name: http, protocol: HTTP, targetPort: 8443}], endpoints: [{address: 192.0.2.9}]
             DR vm | host: vm.corp, trafficPolicy: {tls: {mode: SIMPLE, sni: vm.corp, subjectAltNames: [vm.corp]}}",
            &[],
        ),
        (
            "a direct answer and a redirect before the route",
            "SE a | hosts: [api.example.com], PLAIN
             VS a | hosts: [api.example.com], http: [{match: [{uri: {exact: /old}}], redirect: {uri: /new}}, {match: [{uri: {prefix: /internal}}], directResponse: {status: 403}}, {route: [{destination: {host: api.example.com, port: {number: 80}}}]}]
             DR a | host: api.example.com, SIMPLE_80",
            &[],
        ),
        (
            "an egress gateway in the team's namespace, hop in mutual TLS",
            "SE a team | hosts: [api.example.com], PORTS
             Service out team | selector: {app: out}, ports: [{name: tls, port: 443, targetPort: 8443}]
             GW out team | selector: {app: out}, servers: [{port: {number: 443, name: https, protocol: HTTPS}, hosts: [api.example.com], tls: {mode: ISTIO_MUTUAL}}]
             DR hop team | host: out.team.svc.cluster.local, subsets: [{name: api, trafficPolicy: {tls: {mode: ISTIO_MUTUAL, sni: api.example.com}}}]
             VS a team | hosts: [api.example.com], gateways: [out, mesh], http: [{match: [{gateways: [mesh], port: 80}], route: [{destination: {host: out.team.svc.cluster.local, subset: api, port: {number: 443}}}]}, {match: [{gateways: [out]}], route: [{destination: {host: api.example.com, port: {number: 443}}}]}]
             DR a team | host: api.example.com, workloadSelector: {matchLabels: {app: out}}, trafficPolicy: {portLevelSettings: [{port: {number: 443}, tls: {mode: SIMPLE}}]}",
            &[],
        ),
    ]);
}
