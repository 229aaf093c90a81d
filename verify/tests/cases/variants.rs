//! Each kind of fault with other hosts, ports, namespaces and forms, and near misses that are correct.

use meshproof_model::verification::{Flow, Outcome};
use meshproof_verify::proof::{Expected, Proof, Termination};

use super::{found, said, verified};

const HEAD: &str = "apiVersion: networking.istio.io/v1\n";

/// Documents in short form: `SE name ns | spec` and so on, one per line.
fn manifest(lines: &str) -> String {
    let mut text = String::new();
    for line in lines.lines().map(str::trim).filter(|l| !l.is_empty()) {
        let (head, spec) = line.split_once('|').unwrap();
        let words: Vec<&str> = head.split_whitespace().collect();
        let (kind, name) = (words[0], words[1]);
        let namespace = words.get(2).copied().unwrap_or("default");
        let (kind, body) = match kind {
            "SE" => ("ServiceEntry", format!("spec: {{location: MESH_EXTERNAL, resolution: DNS, {spec}}}")),
            "SE-" => ("ServiceEntry", format!("spec: {{{spec}}}")),
            "DR" => ("DestinationRule", format!("spec: {{{spec}}}")),
            "VS" => ("VirtualService", format!("spec: {{{spec}}}")),
            "GW" => ("Gateway", format!("spec: {{{spec}}}")),
            "SC" => ("Sidecar", format!("spec: {{{spec}}}")),
            "Secret" => ("Secret", format!("stringData: {{{spec}}}")),
            "Service" => ("Service", format!("spec: {{{spec}}}")),
            "Deployment" => ("Deployment", format!("spec: {{{spec}}}")),
            "ConfigMap" => ("ConfigMap", format!("data: {{{spec}}}")),
            other => panic!("{other}"),
        };
        let head = if matches!(kind, "Secret" | "Service" | "ConfigMap") {
            "apiVersion: v1\n"
        } else if kind == "Deployment" {
            "apiVersion: apps/v1\n"
        } else {
            HEAD
        };
        text.push_str(&format!(
            "{head}kind: {kind}\nmetadata: {{name: {name}, namespace: {namespace}}}\n{body}\n---\n"
        ));
    }
    text
}

pub(super) fn check(cases: &[(&str, &str, &[&str])]) {
    let mut wrong = String::new();
    for (name, lines, expected) in cases {
        let verified = verified(&[("v.yaml", &manifest(lines))]);
        let codes: Vec<String> = found(&verified).into_iter().map(|(code, _)| code).collect();
        if codes != *expected {
            wrong.push_str(&format!("{name}: expected {expected:?}, found {codes:?}\n{}", said(&verified)));
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

/// An egress gateway for a host, its parts to be replaced.
fn egress(host: &str, sni: &str, hop: u16) -> String {
    format!(
        "SE site | hosts: [{host}], ports: [{{number: 80, name: http, protocol: HTTP}}, {{number: 443, name: https, protocol: HTTPS}}]
        GW egress | selector: {{istio: egressgateway}}, servers: [{{port: {{number: {hop}, name: https, protocol: HTTPS}}, hosts: [{host}], tls: {{mode: ISTIO_MUTUAL}}}}]
        DR hop | host: istio-egressgateway.istio-system.svc.cluster.local, subsets: [{{name: site, trafficPolicy: {{portLevelSettings: [{{port: {{number: {hop}}}, tls: {{mode: ISTIO_MUTUAL, sni: {sni}}}}}]}}}}]
        VS site | hosts: [{host}], gateways: [egress, mesh], http: [{{match: [{{gateways: [mesh], port: 80}}], route: [{{destination: {{host: istio-egressgateway.istio-system.svc.cluster.local, subset: site, port: {{number: {hop}}}}}}}]}}, {{match: [{{gateways: [egress], port: {hop}}}], route: [{{destination: {{host: {host}, port: {{number: 443}}}}}}]}}]
        DR originate | host: {host}, trafficPolicy: {{portLevelSettings: [{{port: {{number: 443}}, tls: {{mode: SIMPLE}}}}]}}"
    )
}

#[test]
fn tls_settings_that_do_not_reach_the_request() {
    check(&[
        ("credential, all ports", "SE a | hosts: [a.example.com], ports: [{number: 8080, name: http, protocol: HTTP, targetPort: 443}]
          DR a | host: a.example.com, trafficPolicy: {tls: {mode: MUTUAL, credentialName: c}}
          Secret c | tls.crt: x, tls.key: y, ca.crt: z", &["MP0001"]),
        ("credential, SIMPLE with a CA, wildcard", "SE- a shop | hosts: ['*.a.example.com'], location: MESH_EXTERNAL, resolution: NONE, ports: [{number: 80, name: http, protocol: HTTP, targetPort: 443}]
          DR a shop | host: '*.a.example.com', trafficPolicy: {tls: {mode: SIMPLE, credentialName: c}}", &["MP0001"]),
        ("credential, after a port rewrite", "SE a | hosts: [a.example.com], ports: [{number: 80, name: http, protocol: HTTP}, {number: 443, name: https, protocol: HTTPS}]
          VS a | hosts: [a.example.com], http: [{match: [{port: 80}], route: [{destination: {host: a.example.com, port: {number: 443}}}]}]
          DR a | host: a.example.com, trafficPolicy: {portLevelSettings: [{port: {number: 443}, tls: {mode: MUTUAL, credentialName: c}}]}", &["MP0001"]),
        ("credential of a ConfigMap is for everyone", "SE a | hosts: [a.example.com], ports: [{number: 80, name: http, protocol: HTTP, targetPort: 443}]
          DR a | host: a.example.com, trafficPolicy: {tls: {mode: SIMPLE, credentialName: 'configmap://default/ca'}}", &[]),
        ("credential at the ingress gateway", "SE a | hosts: [a.example.com], ports: [{number: 443, name: https, protocol: HTTPS}]
          GW g istio-system | selector: {istio: ingressgateway}, servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: [b.example.com]}]
          VS v | hosts: [b.example.com], gateways: [istio-system/g], http: [{rewrite: {authority: a.example.com}, route: [{destination: {host: a.example.com, port: {number: 443}}}]}]
          DR a | host: a.example.com, trafficPolicy: {tls: {mode: MUTUAL, credentialName: c}}
          Secret c istio-system | tls.crt: x, tls.key: y, ca.crt: z", &[]),
        ("credential at the ingress gateway, and sidecars whose requests leave in plain text", "SE a | hosts: [a.example.com], ports: [{number: 80, name: http, protocol: HTTP, targetPort: 443}]
          GW g istio-system | selector: {istio: ingressgateway}, servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: [b.example.com]}]
          VS v | hosts: [b.example.com], gateways: [istio-system/g], http: [{rewrite: {authority: a.example.com}, route: [{destination: {host: a.example.com, port: {number: 80}}}]}]
          DR a | host: a.example.com, trafficPolicy: {tls: {mode: MUTUAL, credentialName: c}}
          Secret c istio-system | tls.crt: x, tls.key: y, ca.crt: z
          Deployment web | template: {metadata: {labels: {app: web}}}", &["MP0001"]),
        ("settings for the target port", "SE a shop | hosts: [b.example.net], ports: [{number: 8080, name: http, protocol: HTTP, targetPort: 8443}]
          DR a shop | host: b.example.net, trafficPolicy: {portLevelSettings: [{port: {number: 8443}, tls: {mode: SIMPLE}}]}", &["MP0003"]),
        ("settings for 80 after a rewrite to 443", "SE a | hosts: [b.example.net], ports: [{number: 80, name: http, protocol: HTTP}, {number: 443, name: http-tls, protocol: HTTP}]
          VS a | hosts: [b.example.net], http: [{match: [{port: 80}], route: [{destination: {host: b.example.net, port: {number: 443}}}]}]
          DR a | host: b.example.net, trafficPolicy: {portLevelSettings: [{port: {number: 80}, tls: {mode: SIMPLE}}]}", &["MP0003"]),
        ("settings without tls over the rule's", "SE a | hosts: [b.example.net], ports: [{number: 80, name: http, protocol: HTTP, targetPort: 443}]
          DR a | host: b.example.net, trafficPolicy: {tls: {mode: SIMPLE}, portLevelSettings: [{port: {number: 80}, loadBalancer: {simple: ROUND_ROBIN}}]}", &["MP0030"]),
        ("DISABLE is a decision", "SE a | hosts: [b.example.net], ports: [{number: 80, name: http, protocol: HTTP, targetPort: 443}, {number: 8080, name: plain, protocol: HTTP, targetPort: 80}]
          DR a | host: b.example.net, trafficPolicy: {tls: {mode: SIMPLE}, portLevelSettings: [{port: {number: 8080}, tls: {mode: DISABLE}}]}", &[]),
        ("no targetPort", "SE a | hosts: [b.example.net], ports: [{number: 80, name: http, protocol: HTTP}]
          DR a | host: b.example.net, trafficPolicy: {tls: {mode: SIMPLE}}", &["MP0004"]),
        ("no targetPort, HTTP/2, port-level, other namespace", "SE a shop | hosts: [b.example.net], ports: [{number: 80, name: http2, protocol: HTTP2}]
          DR a shop | host: b.example.net, trafficPolicy: {portLevelSettings: [{port: {number: 80}, tls: {mode: SIMPLE}}]}", &["MP0004"]),
        ("no targetPort at the gateway", &egress("b.example.net", "b.example.net", 80).replace("{host: b.example.net, port: {number: 443}}", "{host: b.example.net, port: {number: 80}}").replace("{number: 443}, tls", "{number: 80}, tls"), &["MP0004"]),
        ("endpoints with ports of their own", "SE a | hosts: [b.example.net], ports: [{number: 80, name: http, protocol: HTTP}], endpoints: [{address: c.example.net, ports: {http: 443}}]
          DR a | host: b.example.net, trafficPolicy: {tls: {mode: SIMPLE}}", &[]),
        ("exportTo of the rule", "SE a shop | hosts: [b.example.net], ports: [{number: 80, name: http, protocol: HTTP, targetPort: 443}]
          VS a shop | hosts: [b.example.net], http: [{route: [{destination: {host: b.example.net, port: {number: 80}}}]}]
          DR a istio-system | host: b.example.net, exportTo: ['.'], trafficPolicy: {tls: {mode: SIMPLE}}", &["MP0005"]),
        ("a rule in a third namespace", "SE a shop | hosts: [b.example.net], ports: [{number: 80, name: http, protocol: HTTP, targetPort: 443}], exportTo: ['.', rules]
          VS a shop | hosts: [b.example.net], http: [{route: [{destination: {host: b.example.net, port: {number: 80}}}]}]
          DR a rules | host: b.example.net, trafficPolicy: {tls: {mode: SIMPLE}}", &["MP0005"]),
        ("a rule in the root namespace is for all", "SE a shop | hosts: [b.example.net], ports: [{number: 80, name: http, protocol: HTTP, targetPort: 443}]
          DR a istio-system | host: b.example.net, trafficPolicy: {tls: {mode: SIMPLE}}", &[]),
        ("two rules, the older without tls", "SE a | hosts: [b.example.net], ports: [{number: 80, name: http, protocol: HTTP, targetPort: 443}]
          DR a | host: b.example.net, trafficPolicy: {loadBalancer: {simple: RANDOM}}
          DR b | host: b.example.net, trafficPolicy: {tls: {mode: SIMPLE}}", &["MP0028"]),
        ("two rules, the older with subsets alone", "SE a | hosts: [b.example.net], ports: [{number: 80, name: http, protocol: HTTP, targetPort: 443}]
          DR a | host: b.example.net, subsets: [{name: s}]
          DR b | host: b.example.net, trafficPolicy: {tls: {mode: SIMPLE}}", &[]),
        ("a misspelt host", "SE a | hosts: [api.partner.example], ports: [{number: 80, name: http, protocol: HTTP, targetPort: 443}]
          DR a | host: api.partner.exmaple, trafficPolicy: {tls: {mode: SIMPLE}}", &["MP0031"]),
        ("mesh TLS to a server outside", "SE a | hosts: [api.partner.example], ports: [{number: 80, name: http, protocol: HTTP, targetPort: 443}]
          DR a | host: api.partner.example, trafficPolicy: {tls: {mode: ISTIO_MUTUAL}}", &["MP0026"]),
    ]);
}

#[test]
fn tls_inside_tls() {
    check(&[
        ("port-level", "SE a shop | hosts: [b.example.net], ports: [{number: 443, name: tls, protocol: TLS}]
          DR a shop | host: b.example.net, trafficPolicy: {portLevelSettings: [{port: {number: 443}, tls: {mode: SIMPLE}}]}", &["MP0002"]),
        ("wildcard, 8443", "SE- a | hosts: ['*.b.example.net'], location: MESH_EXTERNAL, ports: [{number: 8443, name: https, protocol: HTTPS}]
          DR a | host: '*.b.example.net', trafficPolicy: {tls: {mode: SIMPLE}}", &["MP0002"]),
        ("beside plain HTTP that stays plain", "SE a | hosts: [b.example.net], ports: [{number: 80, name: http, protocol: HTTP}, {number: 443, name: https, protocol: HTTPS}]
          DR a | host: b.example.net, trafficPolicy: {portLevelSettings: [{port: {number: 443}, tls: {mode: SIMPLE}}]}", &["MP0002"]),
        ("passed through the egress gateway", "SE a | hosts: [b.example.net], ports: [{number: 443, name: tls, protocol: TLS}]
          GW g | selector: {istio: egressgateway}, servers: [{port: {number: 443, name: tls, protocol: TLS}, hosts: [b.example.net], tls: {mode: PASSTHROUGH}}]
          VS v | hosts: [b.example.net], gateways: [mesh, g], tls: [{match: [{gateways: [mesh], port: 443, sniHosts: [b.example.net]}], route: [{destination: {host: istio-egressgateway.istio-system.svc.cluster.local, port: {number: 443}}}]}, {match: [{gateways: [g], port: 443, sniHosts: [b.example.net]}], route: [{destination: {host: b.example.net, port: {number: 443}}}]}]
          DR a istio-system | host: b.example.net, trafficPolicy: {tls: {mode: SIMPLE}}", &["MP0002"]),
        ("passed through, without a rule", "SE a | hosts: [b.example.net], ports: [{number: 443, name: tls, protocol: TLS}]
          GW g | selector: {istio: egressgateway}, servers: [{port: {number: 443, name: tls, protocol: TLS}, hosts: [b.example.net], tls: {mode: PASSTHROUGH}}]
          VS v | hosts: [b.example.net], gateways: [mesh, g], tls: [{match: [{gateways: [mesh], port: 443, sniHosts: [b.example.net]}], route: [{destination: {host: istio-egressgateway.istio-system.svc.cluster.local, port: {number: 443}}}]}, {match: [{gateways: [g], port: 443, sniHosts: [b.example.net]}], route: [{destination: {host: b.example.net, port: {number: 443}}}]}]", &[]),
        ("own TLS beside a port that is encrypted", "SE a | hosts: [b.example.net], ports: [{number: 80, name: http, protocol: HTTP, targetPort: 443}, {number: 443, name: https, protocol: HTTPS}]
          DR a | host: b.example.net, trafficPolicy: {portLevelSettings: [{port: {number: 80}, tls: {mode: SIMPLE}}]}", &[]),
        ("own TLS alone", "SE a | hosts: [b.example.net], ports: [{number: 443, name: https, protocol: HTTPS}]", &[]),
    ]);
}

#[test]
fn gateways_and_hops() {
    check(&[
        ("correct on 80", &egress("b.example.net", "b.example.net", 80), &[]),
        ("correct on 443", &egress("b.example.net", "b.example.net", 443), &[]),
        ("sni of another host", &egress("b.example.net", "example.net", 443), &["MP0010"]),
        ("no sni", &egress("b.example.net", "X", 80).replace(", sni: X", ""), &["MP0010"]),
        ("hosts of another server", &egress("b.example.net", "b.example.net", 80).replace("hosts: [b.example.net], tls", "hosts: [www.b.example.net], tls"), &["MP0010"]),
        ("no rule for the hop", &egress("b.example.net", "b.example.net", 80).replace("tls: {mode: ISTIO_MUTUAL, sni: b.example.net}", "loadBalancer: {simple: RANDOM}"), &["MP0025"]),
        ("a port that the Service lacks", &egress("b.example.net", "b.example.net", 8443), &["MP0021"]),
        ("a subset that does not exist", &egress("b.example.net", "b.example.net", 80).replace("subset: site", "subset: sites"), &["MP0012"]),
        ("a half-qualified gateway", &egress("b.example.net", "b.example.net", 80).replace("{destination: {host: istio-egressgateway.istio-system.svc.cluster.local", "{destination: {host: istio-egressgateway.istio-system"), &["MP0011"]),
        ("a half-qualified rule for the gateway", &egress("b.example.net", "b.example.net", 80).replace("DR hop | host: istio-egressgateway.istio-system.svc.cluster.local", "DR hop | host: istio-egressgateway.istio-system"), &["MP0031"]),
        ("a short name of another namespace", &egress("b.example.net", "b.example.net", 80).replace("{destination: {host: istio-egressgateway.istio-system.svc.cluster.local", "{destination: {host: istio-egressgateway"), &["MP0011"]),
        ("a Gateway of another namespace", &egress("b.example.net", "b.example.net", 80).replace("GW egress |", "GW egress infra |"), &["MP0027"]),
        ("the wildcard host at the egress gateway", "SE- a | hosts: ['*.wild.example'], location: MESH_EXTERNAL, ports: [{number: 80, name: http, protocol: HTTP}, {number: 443, name: https, protocol: HTTPS}]
          GW egress | selector: {istio: egressgateway}, servers: [{port: {number: 80, name: https, protocol: HTTPS}, hosts: ['*.wild.example'], tls: {mode: ISTIO_MUTUAL}}]
          DR hop | host: istio-egressgateway.istio-system.svc.cluster.local, trafficPolicy: {portLevelSettings: [{port: {number: 80}, tls: {mode: ISTIO_MUTUAL, sni: any.wild.example}}]}
          VS v | hosts: ['*.wild.example'], gateways: [egress, mesh], http: [{match: [{gateways: [mesh], port: 80}], route: [{destination: {host: istio-egressgateway.istio-system.svc.cluster.local, port: {number: 80}}}]}, {match: [{gateways: [egress], port: 80}], route: [{destination: {host: '*.wild.example', port: {number: 443}}}]}]
          DR o | host: '*.wild.example', trafficPolicy: {portLevelSettings: [{port: {number: 443}, tls: {mode: SIMPLE}}]}", &["MP0018"]),
        ("the rest of the paths past the gateway", &egress("b.example.net", "b.example.net", 80).replace("{match: [{gateways: [mesh], port: 80}]", "{match: [{gateways: [mesh], port: 80, uri: {prefix: /b}}], route: [{destination: {host: b.example.net, port: {number: 80}}}]}, {match: [{gateways: [mesh], port: 80}]"), &["MP0022"]),
        ("another plain port past the gateway", &egress("b.example.net", "b.example.net", 80).replace("ports: [{number: 80, name: http, protocol: HTTP}", "ports: [{number: 8080, name: http-alt, protocol: HTTP}, {number: 80, name: http, protocol: HTTP}"), &["MP0022"]),
        ("a route that is in force at the gateway too", &egress("b.example.net", "b.example.net", 80).replace("match: [{gateways: [mesh], port: 80}], ", ""), &["MP0034", "MP0009"]),
        ("a route for another port of the gateway", &egress("b.example.net", "b.example.net", 443).replace("{gateways: [egress], port: 443}", "{gateways: [egress], port: 80}"), &["MP0027"]),
        ("routes that are not for the Gateway", &egress("b.example.net", "b.example.net", 80).replace("gateways: [egress, mesh], http", "gateways: [mesh], http"), &["MP0027"]),
        ("a selector of other pods", &egress("b.example.net", "b.example.net", 80).replace("selector: {istio: egressgateway}", "selector: {istio: egressgatway}"), &["MP0033"]),
        ("the Secret in the namespace of the application", &format!("{}\n Secret c | tls.crt: x, tls.key: y, ca.crt: z", egress("b.example.net", "b.example.net", 80).replace("tls: {mode: SIMPLE}", "tls: {mode: MUTUAL, credentialName: c}")), &["MP0007"]),
        ("the Secret of the CA in another namespace", &format!("{}\n Secret c-cacert shop | ca.crt: z", egress("b.example.net", "b.example.net", 80).replace("tls: {mode: SIMPLE}", "tls: {mode: SIMPLE, credentialName: c}")), &["MP0007"]),
        ("the Secret without its key", &format!("{}\n Secret c istio-system | tls.crt: x, ca.crt: z", egress("b.example.net", "b.example.net", 80).replace("tls: {mode: SIMPLE}", "tls: {mode: MUTUAL, credentialName: c}")), &["MP0007"]),
        ("the Secret where the gateway reads it", &format!("{}\n Secret c istio-system | tls.crt: x, tls.key: y, ca.crt: z", egress("b.example.net", "b.example.net", 80).replace("tls: {mode: SIMPLE}", "tls: {mode: MUTUAL, credentialName: c}")), &[]),
        ("the certificate of an ingress server elsewhere", "GW g | selector: {istio: ingressgateway}, servers: [{port: {number: 443, name: https, protocol: HTTPS}, hosts: [a.example.com], tls: {mode: SIMPLE, credentialName: c}}]
          VS v | hosts: [a.example.com], gateways: [g], http: [{route: [{destination: {host: web, port: {number: 80}}}]}]
          Service web | selector: {app: web}, ports: [{name: http, port: 80}]
          Secret c | tls.crt: x, tls.key: y", &["MP0007"]),
    ]);
}

#[test]
fn routes_and_visibility() {
    let ingress = "GW g | selector: {istio: ingressgateway}, servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: [a.example.com]}]
          Service web | selector: {app: web}, ports: [{name: http, port: 8080}]
          SE x | hosts: [files.example.net], ports: [{number: 443, name: https, protocol: HTTPS}]
          DR x | host: files.example.net, trafficPolicy: {tls: {mode: SIMPLE}}\n";
    let routes =
        |http: &str| format!("{ingress} VS v | hosts: [a.example.com], gateways: [g], http: [{http}]");
    let files = "route: [{destination: {host: files.example.net, port: {number: 443}}}]";
    let rewritten = "rewrite: {authority: files.example.net}, route: [{destination: {host: files.example.net, port: {number: 443}}}]";
    let web = "route: [{destination: {host: web, port: {number: 8080}}}]";
    check(&[
        ("catch-all first", &routes(&format!("{{match: [{{uri: {{prefix: /}}}}], {web}}}, {{match: [{{uri: {{prefix: /files}}}}], {rewritten}}}")), &["MP0009"]),
        ("no condition first", &routes(&format!("{{{web}}}, {{match: [{{uri: {{exact: /files}}}}], {rewritten}}}")), &["MP0009"]),
        ("a shorter prefix first", &routes(&format!("{{match: [{{uri: {{prefix: /f}}}}], {web}}}, {{match: [{{uri: {{prefix: /files}}}}], {rewritten}}}")), &["MP0009"]),
        ("a shorter prefix with a header first", &routes(&format!("{{match: [{{uri: {{prefix: /f}}, headers: {{x: {{exact: y}}}}}}], {web}}}, {{match: [{{uri: {{prefix: /files}}}}], {rewritten}}}")), &[]),
        ("the longer prefix first", &routes(&format!("{{match: [{{uri: {{prefix: /files}}}}], {rewritten}}}, {{match: [{{uri: {{prefix: /}}}}], {web}}}")), &[]),
        ("no rewrite", &routes(&format!("{{match: [{{uri: {{prefix: /files}}}}], {files}}}")), &["MP0008"]),
        ("rewrite of the path alone", &routes(&format!("{{match: [{{uri: {{prefix: /files}}}}], rewrite: {{uri: /}}, {files}}}")), &["MP0008"]),
        ("no rewrite after an expression", &routes(&format!("{{match: [{{uri: {{regex: '/(files|images)/[a-z]+/.*'}}}}], {files}}}")), &["MP0008"]),
        ("an expression that takes the path first", &routes(&format!("{{match: [{{uri: {{regex: '/f.*'}}}}], {web}}}, {{match: [{{uri: {{exact: /files}}}}], {rewritten}}}")), &["MP0009"]),
        ("Host set by headers", &routes(&format!("{{match: [{{uri: {{prefix: /files}}}}], headers: {{request: {{set: {{Host: files.example.net}}}}}}, {files}}}")), &[]),
        ("no rewrite at a sidecar", "SE a | hosts: [old.example.net, ], ports: [{number: 80, name: http, protocol: HTTP, targetPort: 443}]
          SE b | hosts: [new.example.net], ports: [{number: 443, name: https, protocol: HTTPS}]
          VS v | hosts: [old.example.net], http: [{route: [{destination: {host: new.example.net, port: {number: 443}}}]}]
          DR b | host: new.example.net, trafficPolicy: {tls: {mode: SIMPLE}}", &["MP0008"]),
        ("a second name of the same entry", "SE a | hosts: [old.example.net, new.example.net], ports: [{number: 80, name: http, protocol: HTTP, targetPort: 443}]
          VS v | hosts: [old.example.net], http: [{route: [{destination: {host: new.example.net, port: {number: 80}}}]}]
          DR b | host: '*.example.net', trafficPolicy: {tls: {mode: SIMPLE}}", &[]),
        ("a misspelt destination", &routes(&format!("{{match: [{{uri: {{prefix: /files}}}}], {}}}", rewritten.replace("host: files.example.net,", "host: flies.example.net,"))), &["MP0011"]),
        ("a port that the entry lacks", &routes(&format!("{{match: [{{uri: {{prefix: /files}}}}], {}}}", rewritten.replace("443", "8443"))), &["MP0011"]),
        ("no listener, no condition on the port", "SE a | hosts: [b.example.net], ports: [{number: 443, name: https, protocol: HTTPS}]
          VS v | hosts: [b.example.net], http: [{route: [{destination: {host: b.example.net, port: {number: 443}}}]}]
          DR a | host: b.example.net, trafficPolicy: {tls: {mode: SIMPLE}}", &["MP0016"]),
        ("no listener on 8080", "SE a shop | hosts: [b.example.net], ports: [{number: 80, name: http, protocol: HTTP}, {number: 443, name: https, protocol: HTTPS}]
          VS v shop | hosts: [b.example.net], http: [{match: [{port: 8080}], route: [{destination: {host: b.example.net, port: {number: 443}}}]}]
          DR a shop | host: b.example.net, trafficPolicy: {portLevelSettings: [{port: {number: 443}, tls: {mode: SIMPLE}}]}", &["MP0016"]),
        ("no listener, TCP on the port", "SE a | hosts: [b.example.net], ports: [{number: 8080, name: tcp, protocol: TCP}, {number: 443, name: https, protocol: HTTPS}]
          VS v | hosts: [b.example.net], http: [{match: [{port: 8080}], route: [{destination: {host: b.example.net, port: {number: 443}}}]}]
          DR a | host: b.example.net, trafficPolicy: {portLevelSettings: [{port: {number: 443}, tls: {mode: SIMPLE}}]}", &["MP0016"]),
        ("exportTo of the entry, with a rule where it is needed", "SE a infra | hosts: [b.example.net], exportTo: ['.'], ports: [{number: 80, name: http, protocol: HTTP, targetPort: 443}]
          DR a shop | host: b.example.net, trafficPolicy: {tls: {mode: SIMPLE}}", &["MP0006"]),
        ("Sidecar hosts", "SE a infra | hosts: [b.example.net], ports: [{number: 80, name: http, protocol: HTTP, targetPort: 443}]
          DR a shop | host: b.example.net, trafficPolicy: {tls: {mode: SIMPLE}}
          SC d shop | egress: [{hosts: ['./*', 'istio-system/*']}]", &["MP0006"]),
        ("Sidecar hosts that include it", "SE a infra | hosts: [b.example.net], ports: [{number: 80, name: http, protocol: HTTP, targetPort: 443}]
          DR a shop | host: b.example.net, trafficPolicy: {tls: {mode: SIMPLE}}
          SC d shop | egress: [{hosts: ['./*', 'infra/*']}]", &[]),
        ("exportTo of the routes", "SE a infra | hosts: [b.example.net], ports: [{number: 443, name: https, protocol: HTTPS}], exportTo: ['*']
          GW g istio-system | selector: {istio: ingressgateway}, servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: [a.example.com]}]
          DR a infra | host: b.example.net, trafficPolicy: {tls: {mode: SIMPLE}}
          VS v shop | hosts: [a.example.com], gateways: [istio-system/g], exportTo: ['.'], http: [{rewrite: {authority: b.example.net}, route: [{destination: {host: b.example.net, port: {number: 443}}}]}]", &["MP0027"]),
        ("a Gateway for its own namespace's routes", "SE a infra | hosts: [b.example.net], ports: [{number: 443, name: https, protocol: HTTPS}]
          GW g istio-system | selector: {istio: ingressgateway}, servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: [./a.example.com]}]
          DR a infra | host: b.example.net, trafficPolicy: {tls: {mode: SIMPLE}}
          VS v shop | hosts: [a.example.com], gateways: [istio-system/g], http: [{rewrite: {authority: b.example.net}, route: [{destination: {host: b.example.net, port: {number: 443}}}]}]", &["MP0027"]),
        ("no hosts, with a gateway", &routes(&format!("{{{rewritten}}}")).replace("hosts: [a.example.com], gateways: [g]", "gateways: [g]"), &["MP0020"]),
        ("an unused delegate", "VS v | http: [{route: [{destination: {host: web, port: {number: 80}}}]}]", &["MP0020"]),
        ("a delegate of another namespace", "SE a | hosts: [b.example.net], ports: [{number: 80, name: http, protocol: HTTP, targetPort: 443}]
          DR a | host: b.example.net, trafficPolicy: {tls: {mode: SIMPLE}}
          VS root | hosts: [b.example.net], http: [{match: [{uri: {prefix: /}}], delegate: {name: d}}]
          VS d shop | http: [{route: [{destination: {host: b.example.net, port: {number: 80}}}]}]", &["MP0032"]),
        (
            "a host that the Gateway does not serve",
            &routes(&format!("{{match: [{{uri: {{prefix: /files}}}}], {rewritten}}}"))
                .replace("hosts: [a.example.com], gateways", "hosts: [b.example.com], gateways"),
            &["MP0027"],
        ),
        ("a host that the Gateway does not serve", &routes(&format!("{{match: [{{uri: {{prefix: /files}}}}], {rewritten}}}")).replace("hosts: [a.example.com], gateways", "hosts: [b.example.com], gateways"), &["MP0027"]),
        ("refused", "SE a | hosts: ['*'], ports: [{number: 80, name: http, protocol: HTTP}]", &["MP0024"]),
    ]);
}

#[test]
fn entries_ports_and_checks() {
    let registry_only =
        "ConfigMap istio istio-system | mesh: 'outboundTrafficPolicy: {mode: REGISTRY_ONLY}'\n";
    let http_443 = "SE a | hosts: [b.example.net], ports: [{number: 80, name: http, protocol: HTTP}, {number: 443, name: http-tls, protocol: HTTP}]
          VS a | hosts: [b.example.net], http: [{match: [{port: 80}], route: [{destination: {host: b.example.net, port: {number: 443}}}]}]
          DR a | host: b.example.net, trafficPolicy: {portLevelSettings: [{port: {number: 443}, tls: {mode: SIMPLE}}]}\n";
    check(&[
        ("unlike resolution", "SE- a | hosts: [b.example.net], location: MESH_EXTERNAL, resolution: NONE, ports: [{number: 443, name: https, protocol: HTTPS}]
          SE b | hosts: [b.example.net], ports: [{number: 80, name: http, protocol: HTTP, targetPort: 443}]
          DR a | host: b.example.net, trafficPolicy: {portLevelSettings: [{port: {number: 80}, tls: {mode: SIMPLE}}]}", &["MP0013"]),
        ("unlike exportTo", "SE a | hosts: [b.example.net], ports: [{number: 443, name: https, protocol: HTTPS}]
          SE b | hosts: [b.example.net], exportTo: ['.', shop], ports: [{number: 80, name: http, protocol: HTTP, targetPort: 443}]
          DR a | host: b.example.net, trafficPolicy: {portLevelSettings: [{port: {number: 80}, tls: {mode: SIMPLE}}]}", &["MP0013"]),
        ("alike", "SE a | hosts: [b.example.net], ports: [{number: 443, name: https, protocol: HTTPS}]
          SE b | hosts: [b.example.net], ports: [{number: 80, name: http, protocol: HTTP, targetPort: 443}]
          DR a | host: b.example.net, trafficPolicy: {portLevelSettings: [{port: {number: 80}, tls: {mode: SIMPLE}}]}", &[]),
        ("two TCP hosts on 5432", "SE a shop | hosts: [a.sql.example], ports: [{number: 5432, name: tcp-pg, protocol: TCP}]
          SE b shop | hosts: [b.sql.example], ports: [{number: 5432, name: tcp-pg, protocol: TCP}]", &["MP0017"]),
        ("two TCP hosts with addresses", "SE a | hosts: [a.sql.example], addresses: [240.0.0.1], ports: [{number: 5432, name: tcp-pg, protocol: TCP}]
          SE b | hosts: [b.sql.example], addresses: [240.0.0.2], ports: [{number: 5432, name: tcp-pg, protocol: TCP}]", &[]),
        ("two TCP hosts on two ports", "SE a | hosts: [a.sql.example], ports: [{number: 5432, name: tcp-pg, protocol: TCP}]
          SE b | hosts: [b.sql.example], ports: [{number: 5433, name: tcp-pg, protocol: TCP}]", &[]),
        ("sni of another name", "SE a | hosts: [b.example.net], ports: [{number: 80, name: http, protocol: HTTP, targetPort: 443}]
          DR a | host: b.example.net, trafficPolicy: {tls: {mode: SIMPLE, sni: lb.cloud.example}}", &["MP0014"]),
        ("sni of another name, with its name checked", "SE a | hosts: [b.example.net], ports: [{number: 80, name: http, protocol: HTTP, targetPort: 443}]
          DR a | host: b.example.net, trafficPolicy: {tls: {mode: SIMPLE, sni: lb.cloud.example, subjectAltNames: [lb.cloud.example]}}", &[]),
        ("any certificate", "SE a | hosts: [b.example.net], ports: [{number: 80, name: http, protocol: HTTP, targetPort: 443}]
          DR a | host: b.example.net, trafficPolicy: {tls: {mode: SIMPLE, insecureSkipVerify: true}}", &["MP0015"]),
        ("any certificate at the gateway", &egress("b.example.net", "b.example.net", 443).replace("tls: {mode: SIMPLE}", "tls: {mode: SIMPLE, insecureSkipVerify: true}"), &["MP0015"]),
        ("insecureSkipVerify: false", "SE a | hosts: [b.example.net], ports: [{number: 80, name: http, protocol: HTTP, targetPort: 443}]
          DR a | host: b.example.net, trafficPolicy: {tls: {mode: SIMPLE, insecureSkipVerify: false}}", &[]),
        ("port 443 declared HTTP, registered hosts alone", &format!("{registry_only}{http_443}"), &["MP0019"]),
        ("port 443 declared HTTP, any host", http_443, &[]),
        ("port 443 alone, declared HTTP", "SE a | hosts: [b.example.net], ports: [{number: 443, name: http-tls, protocol: HTTP}]
          DR a | host: b.example.net, trafficPolicy: {tls: {mode: SIMPLE}}", &["MP0023"]),
    ]);
}

/// A rule's TLS for a.example.com, which a route reaches with the Host b.example.com.
fn another_host(tls: &str, entry: &str) -> String {
    format!(
        "SE a | hosts: [a.example.com], ports: [{{number: 80, name: http, protocol: HTTP, targetPort: 443}}]{entry}
        DR a | host: a.example.com, trafficPolicy: {{tls: {{{tls}}}}}
        VS b | hosts: [b.example.com], http: [{{route: [{{destination: {{host: a.example.com, port: {{number: 80}}}}}}]}}]"
    )
}

#[test]
fn a_handshake_depends_on_host_only_where_the_certificate_is_checked_against_it() {
    check(&[
        ("by Host", &another_host("mode: SIMPLE", ""), &["MP0008"]),
        (
            "by Host and the entry's names",
            &another_host("mode: SIMPLE", ", subjectAltNames: [a.example.com]"),
            &["MP0008"],
        ),
        ("by the rule's names", &another_host("mode: SIMPLE, subjectAltNames: [a.example.com]", ""), &[]),
        ("not at all", &another_host("mode: SIMPLE, insecureSkipVerify: true", ""), &["MP0015"]),
    ]);
}

#[test]
fn a_server_that_has_no_certificate_for_host_is_expected_to_be_refused() {
    let expected = |tls: &str| {
        let verified = verified(&[("v.yaml", &manifest(&another_host(tls, "")))]);
        let proof = verified.proof();
        let one = proof.exchanges.iter().find(|e| e.url == "http://b.example.com/").unwrap();
        one.expected.clone()
    };
    assert!(matches!(expected("mode: SIMPLE"), Expected::RefusesName { .. }));
    assert!(matches!(
        expected("mode: SIMPLE, subjectAltNames: [a.example.com]"),
        Expected::Originated { .. }
    ));
}

fn outcomes(lines: &str, question: &str) -> Vec<Outcome> {
    let verified = verified(&[("v.yaml", &manifest(lines))]);
    verified.ask(&question.parse().unwrap()).unwrap().into_iter().map(|a| a.flow.outcome).collect()
}

#[test]
fn a_sidecar_passes_a_port_on_that_no_service_has() {
    let entry = "SE a | hosts: [a.example.com], ports: [{number: 443, name: https, protocol: HTTPS}]";
    let to = "other.example:9000".to_owned();
    let plain = outcomes(entry, "sleep http://other.example:9000/");
    assert_eq!(plain, [Outcome::PlainText { to: to.clone() }]);
    assert_eq!(outcomes(entry, "sleep https://other.example:9000/"), [Outcome::OwnTls { to }]);
    let strict = format!(
        "{entry}\nConfigMap istio istio-system | mesh: 'outboundTrafficPolicy: {{mode: REGISTRY_ONLY}}'"
    );
    let blocked = outcomes(&strict, "sleep http://other.example:9000/");
    assert!(
        matches!(blocked.as_slice(), [Outcome::Fails { at: Some(at), .. }] if at == "sleep.default"),
        "{blocked:?}"
    );
}

const ABORTS: &str = "SE a | hosts: [a.example.com], ports: [{number: 80, name: http, protocol: HTTP, targetPort: 443}]
    DR a | host: a.example.com, trafficPolicy: {tls: {mode: SIMPLE}}
    VS a | hosts: [a.example.com], http: [{match: [{headers: {x-a: {exact: '1'}}}], redirect: {scheme: https}}, {fault: {abort: {httpStatus: 500, percentage: {value: SHARE}}}, route: [{destination: {host: a.example.com, port: {number: 80}}}]}]";

#[test]
fn a_fault_that_a_route_injects_is_the_outcome_of_its_share_of_the_requests() {
    let all = outcomes(&ABORTS.replace("SHARE", "100"), "sleep http://a.example.com/");
    assert!(matches!(all.as_slice(), [Outcome::Answered { status: 500, .. }]), "{all:?}");
    let some = outcomes(&ABORTS.replace("SHARE", "30"), "sleep http://a.example.com/");
    let two = [
        matches!(some[0], Outcome::Answered { status: 500, .. }),
        matches!(some[1], Outcome::Originated { .. }),
    ];
    assert_eq!(two, [true, true], "{some:?}");
    let none = outcomes(&ABORTS.replace("SHARE", "0"), "sleep http://a.example.com/");
    assert!(matches!(none.as_slice(), [Outcome::Originated { .. }]), "{none:?}");
}

#[test]
fn flows_for_one_url_say_what_distinguishes_them() {
    let verified = verified(&[("v.yaml", &manifest(&ABORTS.replace("SHARE", "100")))]);
    let shown: Vec<String> = verified.verification.flows.iter().map(Flow::shown).collect();
    assert_eq!(shown, ["http://a.example.com/", "http://a.example.com/ (x-a: 1)"]);
}

const GATEWAY: &str = "SE a | hosts: [a.example.com], ports: [{number: 80, name: http, protocol: HTTP, targetPort: 443}]
    DR a | host: a.example.com, trafficPolicy: {tls: {mode: SIMPLE}}
    GW g | selector: {istio: ingressgateway}, servers: [{port: {number: 443, name: https, protocol: HTTPS}, hosts: [b.example.com], tls: {TLS}}, {port: {number: 80, name: http, protocol: HTTP}, hosts: [b.example.com]PLAIN}]
    VS v | hosts: [b.example.com], gateways: [g], http: [{ROUTErewrite: {authority: a.example.com}, route: [{destination: {host: a.example.com, port: {number: 80}}}]}]";

fn of_gateway(tls: &str, plain: &str, route: &str) -> Proof {
    let lines = GATEWAY.replace("TLS}", &format!("{tls}}}")).replace("PLAIN", plain).replace("ROUTE", route);
    verified(&[("v.yaml", &manifest(&lines))]).proof()
}

#[test]
fn what_cannot_be_proved_on_this_machine_is_left_out_and_named() {
    let files = "mode: SIMPLE, serverCertificate: /c.pem, privateKey: /k.pem";
    let proof = of_gateway(files, "", "mirror: {host: a.example.com, port: {number: 80}}, ");
    let asked: Vec<&str> = proof.exchanges.iter().map(|e| e.url.as_str()).collect();
    assert_eq!(asked, ["http://a.example.com/", "http://b.example.com/"]);
    let said = proof.skipped.join("\n");
    assert!(
        said.contains("Gateway default/g, port 443: /c.pem is on") && said.contains("(mirror)"),
        "{said}"
    );
    let gateway = proof.resources.iter().find(|r| r.kind() == "Gateway").unwrap();
    assert_eq!(gateway.spec()["servers"].as_array().unwrap().len(), 1);
}

#[test]
fn requests_over_tls_that_a_gateway_ends_are_proved_with_a_secret_that_is_made_up() {
    let named = "mode: MUTUAL, credentialName: c, subjectAltNames: ['spiffe://b/buyer']";
    let proof = of_gateway(named, ", tls: {httpsRedirect: true}", "");
    let of = |url: &str| proof.exchanges.iter().find(|e| e.url == url).unwrap();
    let secure = of("https://b.example.com/");
    let terminated = Termination {
        host: "b.example.com".to_owned(),
        requires_client: true,
        client_name: Some("spiffe://b/buyer".to_owned()),
    };
    assert_eq!(secure.terminated, Some(terminated));
    assert!(matches!(secure.expected, Expected::Originated { .. }), "{secure:?}");
    assert_eq!(of("http://b.example.com/").expected, Expected::Answered(301));
    let secret = ("istio-system".to_owned(), "c".to_owned());
    assert_eq!(proof.certificates.into_iter().collect::<Vec<_>>(), [secret]);
    assert_eq!(proof.skipped, Vec::<String>::new());
}

#[test]
fn a_secret_of_another_namespace_is_no_certificate_of_a_gateway() {
    let proof = of_gateway("mode: SIMPLE, credentialName: shop/c", "", "");
    let secure = proof.exchanges.iter().find(|e| e.url == "https://b.example.com/").unwrap();
    assert_eq!(secure.expected, Expected::Fails(None));
    let finding = GATEWAY
        .replace("TLS}", "mode: SIMPLE, credentialName: shop/c}")
        .replace("PLAIN", "")
        .replace("ROUTE", "");
    check(&[("a Secret of another namespace", &finding, &["MP0007"])]);
}

#[test]
fn a_proof_never_gives_one_secret_or_one_server_two_meanings() {
    let shared = GATEWAY
        .replace("{tls: {mode: SIMPLE}}", "{tls: {mode: MUTUAL, credentialName: c}}")
        .replace("TLS}", "mode: SIMPLE, credentialName: c}")
        .replace("PLAIN", "")
        .replace("ROUTE", "");
    let proof = verified(&[("v.yaml", &manifest(&shared))]).proof();
    assert!(proof.secrets.is_disjoint(&proof.certificates), "{:?}", proof.secrets);
    let said = proof.skipped.join("\n");
    assert!(said.contains("is also that of a gateway's own certificate"), "{said}");

    let private = "SE a | hosts: [a.example.com], ports: [{number: 80, name: http, protocol: HTTP, targetPort: 443}, {number: 443, name: https, protocol: HTTPS}]
        DR a | host: a.example.com, workloadSelector: {matchLabels: {app: sleep}}, trafficPolicy: {portLevelSettings: [{port: {number: 80}, tls: {mode: SIMPLE, credentialName: c}}]}";
    let proof = verified(&[("v.yaml", &manifest(private))]).proof();
    let asked: Vec<&str> = proof.exchanges.iter().map(|e| e.url.as_str()).collect();
    let said = proof.skipped.join("\n");
    assert_eq!(asked, ["http://a.example.com/"], "{said}");
    assert!(said.contains("with the CA of a Secret"), "{said}");
}

#[test]
fn requests_over_tls_of_a_workload_are_proved_where_no_proxy_opens_it() {
    let expected = |lines: &str| -> Vec<Expected> {
        let proof = verified(&[("v.yaml", &manifest(lines))]).proof();
        let secure = proof.exchanges.iter().filter(|e| e.url.starts_with("https://"));
        secure.map(|e| e.expected.clone()).collect()
    };
    let passed_on = "SE a | hosts: [a.example.com], ports: [{number: 443, name: https, protocol: HTTPS}]";
    assert_eq!(expected(passed_on), [Expected::OwnTls]);
    let doubled =
        format!("{passed_on}\nDR a | host: a.example.com, trafficPolicy: {{tls: {{mode: SIMPLE}}}}");
    assert_eq!(expected(&doubled), [Expected::Fails(None)]);
}

#[test]
fn workloads_of_one_name_in_two_namespaces_are_both_proved() {
    let manifest = manifest(
        "SE a | hosts: [a.example.com], ports: [{number: 80, name: http, protocol: HTTP, targetPort: 443}]
        DR a other | host: a.example.com, exportTo: ['.'], trafficPolicy: {tls: {mode: SIMPLE}}",
    );
    let proof = verified(&[("v.yaml", &manifest)]).proof();
    let from: Vec<&str> = proof.exchanges.iter().map(|e| e.from.as_str()).collect();
    assert_eq!(from, ["sleep.default", "sleep.other"], "{:?}", proof.skipped);
    let names: Vec<&str> = proof.workloads.iter().map(|w| w.name.as_str()).collect();
    assert_eq!(names, ["sleep", "sleep-other"]);
}
