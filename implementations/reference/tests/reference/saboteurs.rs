//! Each saboteur beside the honest reference: the same situation, and the one difference.

mod accounts;
mod bytes;
mod calls;
mod chains;
mod documents;
mod entries;
mod hops;
mod identities;
mod isolation;
mod lapses;
mod limits;
mod rules;
mod secrets;
mod streams;

use std::collections::BTreeSet;

use meshproof_harness::external::{
    ExternalSpec, HttpVersions, PlainPort, PrivateKeyPem, Refusal, TlsPort, TlsVersions,
};
use meshproof_local::data_plane::DataPlaneFactory as _;
use meshproof_plan::model::{NameCheck, Origination, Trust};
use meshproof_reference::Variant;
use rcgen::ExtendedKeyUsagePurpose;
use serde_json::json;

use crate::situation::{Situation, SituationOutcome, differs, status, usual};
use crate::support::authority::{CertificateSpec, self_signed};
use crate::support::plans::{self, HOST};
use crate::support::reference;
use crate::support::server::TLS12;

#[tokio::test]
async fn upstream_connections_are_plain_or_repeated_or_lead_elsewhere() {
    let plain = |saw: &SituationOutcome| {
        format!("{} plain, {} tls", saw.plain_requests.len(), saw.tls_requests.len())
    };
    differs("probe-plain-port", usual, plain, "0 plain, 1 tls", "1 plain, 1 tls").await;
    differs("send-twice", usual, plain, "0 plain, 1 tls", "0 plain, 2 tls").await;
    differs("plain-port-upstream", usual, plain, "0 plain, 1 tls", "1 plain, 0 tls").await;
    let unencrypted = |s: &mut Situation| s.encrypted = false;
    differs("originate-unasked", unencrypted, plain, "1 plain, 0 tls", "0 plain, 1 tls").await;
    // A TLS port receives plain text; how the server reacts does not matter here.
    differs(
        "plaintext-upstream",
        usual,
        |saw| format!("{} {}", saw.status == 200, saw.hellos.len()),
        "true 1",
        "false 0",
    )
    .await;
    let distrust = |s: &mut Situation| s.trusted = false;
    differs("fall-back-to-plaintext", distrust, plain, "0 plain, 0 tls", "1 plain, 0 tls").await;
    differs(
        "follow-redirect",
        |s| s.target = "/moved".to_owned(),
        |saw| format!("{} {}", saw.status, plain(saw)),
        "301 0 plain, 1 tls",
        "200 0 plain, 2 tls",
    )
    .await;
    differs("handshake-per-request", |s| s.times = 3, |saw| saw.hellos.len().to_string(), "1", "3").await;
}

#[tokio::test]
async fn client_hello_offers_another_name_or_alpn() {
    let sni = |saw: &SituationOutcome| saw.hellos[0].sni.clone().unwrap_or_default();
    let chain_only = |s: &mut Situation| s.origination.names = NameCheck::ChainOnly;
    differs("no-sni", usual, sni, HOST, "").await;
    differs("wrong-sni", chain_only, sni, HOST, meshproof_plan::mutation::WRONG_SNI).await;
    differs(
        "sni-before-rewrite",
        |s| {
            s.host = "before.example".to_owned();
            s.rewrite = Some(HOST.to_owned());
        },
        sni,
        HOST,
        "before.example",
    )
    .await;
    let alpn = |saw: &SituationOutcome| saw.hellos[0].alpn.join(",");
    differs("mesh-alpn", usual, alpn, "http/1.1", "istio,http/1.1").await;
    let http2 = |s: &mut Situation| s.origination.alpn = vec!["h2".to_owned(), "http/1.1".to_owned()];
    differs("no-http2-upstream", http2, alpn, "h2,http/1.1", "http/1.1").await;
    differs("http2-upstream", usual, alpn, "http/1.1", "h2").await;
}

#[tokio::test]
async fn server_certificate_is_not_verified_or_only_partly() {
    let distrust = |s: &mut Situation| s.trusted = false;
    let attempts = |saw: &SituationOutcome| saw.connections.to_string();
    differs("offer-old-tls", distrust, attempts, "1", "2").await;
    differs("offer-old-tls", usual, attempts, "1", "1").await;
    for saboteur in ["ignore-certificate", "no-verification-by-default"] {
        differs(saboteur, distrust, status, "503", "200").await;
    }
    let before_tls13 = |s: &mut Situation| {
        s.trusted = false;
        s.server.versions = TLS12;
    };
    differs("verify-in-tls13-alone", before_tls13, status, "503", "200").await;
    differs("verify-in-tls13-alone", distrust, status, "503", "503").await;
    let twice = |s: &mut Situation| {
        s.trusted = false;
        s.times = 2;
    };
    differs("verify-once", twice, status, "503", "200").await;
    differs("verify-once", distrust, status, "503", "503").await;
    // With a configured CA, the saboteur of the default verifies.
    let private = |s: &mut Situation| {
        s.trusted = false;
        s.origination.trust = Trust::Credential("c".to_owned());
        s.credentials = vec![plans::credential("c", &s.other.pem(), None)];
    };
    differs("no-verification-by-default", private, status, "503", "503").await;
    differs("ignore-certificate", private, status, "503", "200").await;
    let says = |s: &mut Situation, says: CertificateSpec<'_>| s.server.issued = s.ca.issue(&says);
    let (hosts, others) = (&[HOST][..], &["other.example"][..]);
    differs(
        "ignore-sans",
        |s| says(s, CertificateSpec { dns: others, ..CertificateSpec::default() }),
        status,
        "503",
        "200",
    )
    .await;
    differs(
        "accept-expired",
        |s| says(s, CertificateSpec { dns: hosts, years: (2020, 2021), ..CertificateSpec::default() }),
        status,
        "503",
        "200",
    )
    .await;
    differs(
        "ignore-key-usage",
        |s| {
            let usage = Some(ExtendedKeyUsagePurpose::ClientAuth);
            says(s, CertificateSpec { dns: hosts, usage, ..CertificateSpec::default() });
        },
        status,
        "503",
        "200",
    )
    .await;
    differs(
        "accept-self-signed",
        |s| s.server.issued = self_signed(&CertificateSpec { dns: hosts, ..CertificateSpec::default() }),
        status,
        "503",
        "200",
    )
    .await;
    differs(
        "ignore-crl",
        |s| {
            s.origination = Origination { client_certificate: None, ..plans::mutual("c") };
            let mut credential = plans::credential("c", &s.ca.pem(), None);
            // The serial number of the usual certificate.
            credential.crl = Some(s.ca.revoking(7));
            s.credentials = vec![credential];
        },
        status,
        "503",
        "200",
    )
    .await;
}

#[tokio::test]
async fn request_is_changed_on_its_way() {
    let seen = |saw: &SituationOutcome| {
        let r = &saw.tls_requests[0];
        format!("{} {} {}", r.method, r.host, r.target)
    };
    let target = |s: &mut Situation| s.target = "/Politics?q=1".to_owned();
    let right = "GET edition.cnn.com /Politics?q=1";
    differs("drop-query", target, seen, right, "GET edition.cnn.com /Politics").await;
    differs("normalize-path", target, seen, right, "GET edition.cnn.com /politics?q=1").await;
    differs("authority-with-port", target, seen, right, "GET edition.cnn.com:80 /Politics?q=1").await;
    let head = |s: &mut Situation| s.method = http::Method::HEAD;
    differs("method-to-get", head, seen, "HEAD edition.cnn.com /", "GET edition.cnn.com /").await;
    differs(
        "host-not-rewritten",
        |s| {
            s.host = "before.example".to_owned();
            s.rewrite = Some(HOST.to_owned());
            s.origination.names = NameCheck::ChainOnly;
        },
        seen,
        "GET edition.cnn.com /",
        "GET before.example /",
    )
    .await;
    let header = |name: &'static str| {
        move |saw: &SituationOutcome| {
            let value = saw.tls_requests[0].headers.get(name);
            value.map_or_else(String::new, |v| v.to_str().unwrap().to_owned())
        }
    };
    let set = |s: &mut Situation| s.forwarded_proto = Some("https".to_owned());
    differs("forwarded-proto-http", set, header("x-forwarded-proto"), "https", "http").await;
    differs("leak-mesh-headers", usual, header("x-envoy-peer-metadata"), "", "leaked").await;
    let own = |s: &mut Situation| s.headers = vec![("x-tag", "a"), ("x-tag", "b"), ("authorization", "c")];
    let came = |saw: &SituationOutcome| {
        let headers = &saw.tls_requests[0].headers;
        let values = headers.get_all("x-tag").iter().chain(headers.get("authorization"));
        values.map(|v| v.to_str().unwrap()).collect::<Vec<_>>().join(" ")
    };
    differs("drop-unknown-headers", own, came, "a b c", "c").await;
    differs("one-value-per-header", own, came, "a b c", "b c").await;
    differs(
        "drop-body",
        |s| {
            s.method = http::Method::POST;
            s.body = "four".to_owned();
        },
        |saw| saw.tls_requests[0].body_bytes.to_string(),
        "4",
        "0",
    )
    .await;
    differs("refuse-upgrade", |s| s.upgrade = true, header("upgrade"), "websocket", "").await;
    let mixed = |s: &mut Situation| s.method = http::Method::from_bytes(b"x-Unknown").unwrap();
    let (kept, raised) = ("x-Unknown edition.cnn.com /", "X-UNKNOWN edition.cnn.com /");
    differs("upper-case-methods", mixed, seen, kept, raised).await;
    let conditional = |s: &mut Situation| s.headers = vec![("if-match", "\"a\""), ("if-range", "\"b\"")];
    differs("drop-preconditions", conditional, header("if-match"), "\"a\"", "").await;
    differs("drop-preconditions", conditional, header("if-range"), "\"b\"", "").await;
    let chat = |s: &mut Situation| {
        s.upgrade = true;
        s.headers = vec![("sec-websocket-protocol", "chat")];
    };
    differs("drop-web-socket-protocols", chat, header("sec-websocket-protocol"), "chat", "").await;
}

#[tokio::test]
async fn response_is_cut_or_refused() {
    differs(
        "drop-trailers",
        |s| s.target = "/chunks".to_owned(),
        |saw| format!("{} {}", saw.body_bytes, saw.trailers),
        "40 true",
        "40 false",
    )
    .await;
    differs(
        "truncate-large-body",
        |s| s.target = "/large".to_owned(),
        |saw| (saw.body_bytes == 3 << 20).to_string(),
        "true",
        "false",
    )
    .await;
    differs(
        "cut-chunked-body",
        |s| s.target = "/chunks".to_owned(),
        |saw| format!("{} {}", saw.status, saw.body_bytes),
        "200 40",
        "200 8",
    )
    .await;
    differs("refuse-expect", |s| s.expect = true, status, "200", "417").await;
    // The server sends back what this header has.
    let named = |bytes| {
        let value: &'static str = "v".repeat(bytes).leak();
        move |s: &mut Situation| {
            s.target = "/named".to_owned();
            s.headers = vec![("x-name", value)];
        }
    };
    let length = |saw: &SituationOutcome| saw.headers.get("x-name").map_or(0, |v| v.len()).to_string();
    differs("drop-long-response-headers", named(1000), length, "1000", "0").await;
    differs("drop-long-response-headers", named(999), length, "999", "999").await;
}

#[tokio::test]
async fn access_log_is_missing_doubled_or_wrong() {
    let lines = |saw: &SituationOutcome| saw.lines.len().to_string();
    differs("no-access-log", usual, lines, "1", "0").await;
    differs("log-twice", usual, lines, "1", "2").await;
    let authority = |saw: &SituationOutcome| saw.lines[0].contains(&format!("\"{HOST}\" ")).to_string();
    differs("log-wrong-authority", usual, authority, "true", "false").await;
    let cluster = |saw: &SituationOutcome| saw.lines[0].contains("outbound|443||").to_string();
    differs("log-wrong-cluster", usual, cluster, "true", "false").await;
    // Istio's format ends with the addresses of the client's connection, the server name and the route.
    let from_the_end = |saw: &SituationOutcome, place: usize| {
        saw.lines[0].split(' ').rev().nth(place).unwrap_or_default().to_owned()
    };
    let server_name = |saw: &SituationOutcome| from_the_end(saw, 1);
    differs("log-host-as-server-name", usual, server_name, "-", HOST).await;
    let is_the_client = |saw: &SituationOutcome| (from_the_end(saw, 2) == saw.client.to_string()).to_string();
    differs("log-wrong-client-address", usual, is_the_client, "true", "false").await;
}

#[tokio::test]
async fn another_route_is_taken() {
    differs(
        "prefix-as-exact",
        |s| {
            s.prefix = Some("/oauth".to_owned());
            s.target = "/oauth/keys".to_owned();
        },
        status,
        "200",
        "404",
    )
    .await;
    let unknown = |s: &mut Situation| {
        s.at_gateway_as("unknown.example");
        s.origination.names = NameCheck::ChainOnly;
    };
    differs("serve-unknown-host", unknown, status, "404", "200").await;
    differs(
        "strict-breaks-origination",
        |s| s.resources.push(json!({"kind": "PeerAuthentication", "spec": {"mtls": {"mode": "STRICT"}}})),
        status,
        "200",
        "503",
    )
    .await;
}

#[test]
fn only_the_saboteur_of_exports_changes_exported_resources() {
    let rule = json!({
        "apiVersion": "networking.istio.io/v1", "kind": "DestinationRule",
        "metadata": {"name": "a", "namespace": "b"}, "spec": {"host": "x", "exportTo": ["."]},
    });
    let resource = meshproof_model::Resource(rule);
    let mut sound = vec![resource.clone()];
    reference(None).misread(&mut sound);
    assert_eq!(sound, std::slice::from_ref(&resource));
    let mut broken = vec![resource];
    reference(Some("export-to-ignored")).misread(&mut broken);
    assert_eq!(broken[0].spec().get("exportTo"), None);
}

#[test]
fn external_service_that_requires_client_certificates_is_deployed_with_another_ca_or_none() {
    let specified = ExternalSpec {
        aliases: Vec::new(),
        host: HOST.to_owned(),
        plain: PlainPort::Closed,
        tls: Some(TlsPort {
            certificate: String::new(),
            key: PrivateKeyPem(String::new()),
            client_ca: Some("as specified".to_owned()),
            refusal: Refusal::default(),
            versions: TlsVersions::default(),
            http: HttpVersions::default(),
            by_name: Vec::new(),
        }),
        ipv6: false,
        tcp: Vec::new(),
        pages: Vec::new(),
        keep_alive: true,
    };
    let deployed = |saboteur| {
        let mut spec = specified.clone();
        reference(saboteur).spoil_external(&mut spec);
        spec.tls.unwrap().client_ca
    };
    assert_eq!(deployed(None).as_deref(), Some("as specified"));
    assert_eq!(deployed(Some("lenient-server")), None);
    let other = deployed(Some("server-of-another-ca")).unwrap();
    assert!(other.starts_with("-----BEGIN CERTIFICATE-----"), "{other}");
}

/// A new saboteur must appear in one of the tests of these modules.
#[test]
fn every_saboteur_is_shown_at_work() {
    let mut text = String::new();
    for source in [
        include_str!("saboteurs.rs"),
        include_str!("saboteurs/accounts.rs"),
        include_str!("saboteurs/bytes.rs"),
        include_str!("saboteurs/calls.rs"),
        include_str!("saboteurs/chains.rs"),
        include_str!("saboteurs/documents.rs"),
        include_str!("saboteurs/entries.rs"),
        include_str!("saboteurs/hops.rs"),
        include_str!("saboteurs/identities.rs"),
        include_str!("saboteurs/isolation.rs"),
        include_str!("saboteurs/lapses.rs"),
        include_str!("saboteurs/limits.rs"),
        include_str!("saboteurs/rules.rs"),
        include_str!("saboteurs/secrets.rs"),
        include_str!("saboteurs/streams.rs"),
    ] {
        text.push_str(source);
    }
    // Shown by the unit tests beside them, and by the plan's own tests of its mutations.
    let elsewhere = [
        "allow-any",
        "most-specific-route",
        "catch-all-does-not-stop",
        "last-rule-wins",
        "block-unknown-destinations",
        "registry-only-blocks-services",
        "subsets-ignored",
        "paths-ignored",
        "strict-without-policy",
        "selector-not-required",
        "no-https-redirect",
        "gateway-with-mesh-certificate",
        "gateway-asks-no-client",
        "gateway-takes-any-client",
        "gateway-ignores-client-names",
        "gateway-takes-any-optional-client",
        "gateway-serves-revoked-clients",
        "gateway-serves-hosts-of-other-servers",
    ];
    let unshown: BTreeSet<&str> = Variant::saboteurs()
        .filter(|s| s.placement().is_none())
        .map(Variant::name)
        .filter(|name| !elsewhere.contains(name) && !text.contains(&format!("\"{name}\"")))
        .collect();
    assert_eq!(unshown, BTreeSet::new());
}
