//! Each saboteur beside the reference as it should be: the same situation, and the one difference.

mod hops;
mod secrets;
mod situation;

use std::collections::BTreeSet;

use meshproof_harness::external::{
    ExternalSpec, HttpVersions, PlainPort, PrivateKeyPem, Refusal, TlsPort, TlsVersions,
};
use meshproof_local::data_plane::DataPlaneFactory as _;
use meshproof_plan::model::{NameCheck, Origination, Trust};
use meshproof_reference::{Reference, Saboteur};
use rcgen::ExtendedKeyUsagePurpose;
use serde_json::json;

use crate::support::authority::{Says, self_signed};
use crate::support::plans::{self, HOST};
use situation::{Saw, Situation};

/// Runs a situation with and without a saboteur, and compares one thing about both.
async fn differs(
    saboteur: Saboteur,
    situation: impl Fn(&mut Situation),
    look: impl Fn(&Saw) -> String,
    right: &str,
    wrong: &str,
) {
    let sound = situation::run(None, &situation).await;
    assert_eq!(look(&sound), right, "without {saboteur}: {sound:#?}");
    let broken = situation::run(Some(saboteur), &situation).await;
    assert_eq!(look(&broken), wrong, "with {saboteur}: {broken:#?}");
}

fn status(saw: &Saw) -> String {
    saw.status.to_string()
}

fn usual(_: &mut Situation) {}

#[tokio::test]
async fn where_and_how_it_connects() {
    let plain = |saw: &Saw| format!("{} plain, {} tls", saw.plain_requests.len(), saw.tls_requests.len());
    differs(Saboteur::ProbePlainPort, usual, plain, "0 plain, 1 tls", "1 plain, 1 tls").await;
    differs(Saboteur::SendTwice, usual, plain, "0 plain, 1 tls", "0 plain, 2 tls").await;
    differs(Saboteur::PlainPortUpstream, usual, plain, "0 plain, 1 tls", "1 plain, 0 tls").await;
    let unencrypted = |s: &mut Situation| s.encrypted = false;
    differs(Saboteur::OriginateUnasked, unencrypted, plain, "1 plain, 0 tls", "0 plain, 1 tls").await;
    // A TLS port gets plain text; what it does with it is its own affair.
    differs(
        Saboteur::PlaintextUpstream,
        usual,
        |saw| format!("{} {}", saw.status == 200, saw.hellos.len()),
        "true 1",
        "false 0",
    )
    .await;
    let distrust = |s: &mut Situation| s.trusted = false;
    differs(Saboteur::FallBackToPlaintext, distrust, plain, "0 plain, 0 tls", "1 plain, 0 tls").await;
    differs(
        Saboteur::FollowRedirect,
        |s| s.target = "/moved".to_owned(),
        |saw| format!("{} {}", saw.status, plain(saw)),
        "301 0 plain, 1 tls",
        "200 0 plain, 2 tls",
    )
    .await;
    differs(Saboteur::HandshakePerRequest, |s| s.times = 3, |saw| saw.hellos.len().to_string(), "1", "3")
        .await;
}

#[tokio::test]
async fn what_the_client_hello_offers() {
    let sni = |saw: &Saw| saw.hellos[0].sni.clone().unwrap_or_default();
    let chain_only = |s: &mut Situation| s.origination.names = NameCheck::ChainOnly;
    differs(Saboteur::NoSni, usual, sni, HOST, "").await;
    differs(Saboteur::WrongSni, chain_only, sni, HOST, meshproof_plan::mutation::WRONG_SNI).await;
    differs(
        Saboteur::SniBeforeRewrite,
        |s| {
            s.host = "before.example".to_owned();
            s.rewrite = Some(HOST.to_owned());
        },
        sni,
        HOST,
        "before.example",
    )
    .await;
    let alpn = |saw: &Saw| saw.hellos[0].alpn.join(",");
    differs(Saboteur::MeshAlpn, usual, alpn, "http/1.1", "istio,http/1.1").await;
    let http2 = |s: &mut Situation| s.origination.alpn = vec!["h2".to_owned(), "http/1.1".to_owned()];
    differs(Saboteur::NoHttp2Upstream, http2, alpn, "h2,http/1.1", "http/1.1").await;
    differs(Saboteur::Http2Upstream, usual, alpn, "http/1.1", "h2").await;
}

#[tokio::test]
async fn what_it_believes_of_the_server() {
    let distrust = |s: &mut Situation| s.trusted = false;
    for saboteur in [Saboteur::IgnoreCertificate, Saboteur::NoVerificationByDefault] {
        differs(saboteur, distrust, status, "503", "200").await;
    }
    let twice = |s: &mut Situation| {
        s.trusted = false;
        s.times = 2;
    };
    differs(Saboteur::VerifyOnce, twice, status, "503", "200").await;
    differs(Saboteur::VerifyOnce, distrust, status, "503", "503").await;
    // With a CA configured, the one that is about defaults verifies.
    let private = |s: &mut Situation| {
        s.trusted = false;
        s.origination.trust = Trust::Credential("c".to_owned());
        s.credentials = vec![plans::credential("c", &s.other.pem(), None)];
    };
    differs(Saboteur::NoVerificationByDefault, private, status, "503", "503").await;
    differs(Saboteur::IgnoreCertificate, private, status, "503", "200").await;
    let says = |s: &mut Situation, says: Says<'_>| s.server.issued = s.ca.issue(&says);
    let (hosts, others) = (&[HOST][..], &["other.example"][..]);
    differs(Saboteur::IgnoreSans, |s| says(s, Says { dns: others, ..Says::default() }), status, "503", "200")
        .await;
    differs(
        Saboteur::AcceptExpired,
        |s| says(s, Says { dns: hosts, years: (2020, 2021), ..Says::default() }),
        status,
        "503",
        "200",
    )
    .await;
    differs(
        Saboteur::IgnoreKeyUsage,
        |s| {
            let usage = Some(ExtendedKeyUsagePurpose::ClientAuth);
            says(s, Says { dns: hosts, usage, ..Says::default() });
        },
        status,
        "503",
        "200",
    )
    .await;
    differs(
        Saboteur::AcceptSelfSigned,
        |s| s.server.issued = self_signed(&Says { dns: hosts, ..Says::default() }),
        status,
        "503",
        "200",
    )
    .await;
    differs(
        Saboteur::IgnoreCrl,
        |s| {
            s.origination = Origination { client_certificate: None, ..plans::mutual("c") };
            let mut credential = plans::credential("c", &s.ca.pem(), None);
            // The serial that the usual certificate has.
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
async fn what_becomes_of_the_request() {
    let seen = |saw: &Saw| {
        let r = &saw.tls_requests[0];
        format!("{} {} {}", r.method, r.host, r.target)
    };
    let target = |s: &mut Situation| s.target = "/Politics?q=1".to_owned();
    let right = "GET edition.cnn.com /Politics?q=1";
    differs(Saboteur::DropQuery, target, seen, right, "GET edition.cnn.com /Politics").await;
    differs(Saboteur::NormalizePath, target, seen, right, "GET edition.cnn.com /politics?q=1").await;
    differs(Saboteur::AuthorityWithPort, target, seen, right, "GET edition.cnn.com:80 /Politics?q=1").await;
    let head = |s: &mut Situation| s.method = http::Method::HEAD;
    differs(Saboteur::MethodToGet, head, seen, "HEAD edition.cnn.com /", "GET edition.cnn.com /").await;
    differs(
        Saboteur::HostNotRewritten,
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
        move |saw: &Saw| {
            let value = saw.tls_requests[0].headers.get(name);
            value.map_or_else(String::new, |v| v.to_str().unwrap().to_owned())
        }
    };
    let set = |s: &mut Situation| s.forwarded_proto = Some("https".to_owned());
    differs(Saboteur::ForwardedProtoHttp, set, header("x-forwarded-proto"), "https", "http").await;
    differs(Saboteur::LeakMeshHeaders, usual, header("x-envoy-peer-metadata"), "", "leaked").await;
    let own = |s: &mut Situation| s.headers = vec![("x-tag", "a"), ("x-tag", "b"), ("authorization", "c")];
    let came = |saw: &Saw| {
        let headers = &saw.tls_requests[0].headers;
        let values = headers.get_all("x-tag").iter().chain(headers.get("authorization"));
        values.map(|v| v.to_str().unwrap()).collect::<Vec<_>>().join(" ")
    };
    differs(Saboteur::DropUnknownHeaders, own, came, "a b c", "c").await;
    differs(Saboteur::OneValuePerHeader, own, came, "a b c", "b c").await;
    differs(
        Saboteur::DropBody,
        |s| {
            s.method = http::Method::POST;
            s.body = "four".to_owned();
        },
        |saw| saw.tls_requests[0].body_bytes.to_string(),
        "4",
        "0",
    )
    .await;
    differs(Saboteur::RefuseUpgrade, |s| s.upgrade = true, header("upgrade"), "websocket", "").await;
}

#[tokio::test]
async fn what_becomes_of_the_response() {
    differs(
        Saboteur::DropTrailers,
        |s| s.target = "/chunks".to_owned(),
        |saw| format!("{} {}", saw.body_bytes, saw.trailers),
        "40 true",
        "40 false",
    )
    .await;
    differs(
        Saboteur::TruncateLargeBody,
        |s| s.target = "/large".to_owned(),
        |saw| (saw.body_bytes == 3 << 20).to_string(),
        "true",
        "false",
    )
    .await;
    differs(
        Saboteur::CutChunkedBody,
        |s| s.target = "/chunks".to_owned(),
        |saw| format!("{} {}", saw.status, saw.body_bytes),
        "200 40",
        "200 8",
    )
    .await;
    differs(Saboteur::RefuseExpect, |s| s.expect = true, status, "200", "417").await;
}

#[tokio::test]
async fn what_is_logged() {
    let lines = |saw: &Saw| saw.lines.len().to_string();
    differs(Saboteur::NoAccessLog, usual, lines, "1", "0").await;
    differs(Saboteur::LogTwice, usual, lines, "1", "2").await;
    let authority = |saw: &Saw| saw.lines[0].contains(&format!("\"{HOST}\" ")).to_string();
    differs(Saboteur::LogWrongAuthority, usual, authority, "true", "false").await;
    let cluster = |saw: &Saw| saw.lines[0].contains("outbound|443||").to_string();
    differs(Saboteur::LogWrongCluster, usual, cluster, "true", "false").await;
}

#[tokio::test]
async fn which_route_is_taken() {
    differs(
        Saboteur::PrefixAsExact,
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
    differs(Saboteur::ServeUnknownHost, unknown, status, "404", "200").await;
    differs(
        Saboteur::StrictBreaksOrigination,
        |s| s.resources.push(json!({"kind": "PeerAuthentication", "spec": {"mtls": {"mode": "STRICT"}}})),
        status,
        "200",
        "503",
    )
    .await;
}

#[test]
fn misread_resources_are_those_of_the_saboteur() {
    let rule = json!({
        "apiVersion": "networking.istio.io/v1", "kind": "DestinationRule",
        "metadata": {"name": "a", "namespace": "b"}, "spec": {"host": "x", "exportTo": ["."]},
    });
    let resource = meshproof_model::Resource(rule);
    let mut sound = vec![resource.clone()];
    Reference::new().misread(&mut sound);
    assert_eq!(sound, std::slice::from_ref(&resource));
    let mut broken = vec![resource];
    Reference::sabotaged(Saboteur::ExportToIgnored).misread(&mut broken);
    assert_eq!(broken[0].spec().get("exportTo"), None);
}

#[test]
fn external_service_that_demands_certificates_is_deployed_otherwise() {
    let asked = ExternalSpec {
        host: HOST.to_owned(),
        plain: PlainPort::Closed,
        tls: Some(TlsPort {
            certificate: String::new(),
            key: PrivateKeyPem(String::new()),
            client_ca: Some("asked for".to_owned()),
            refusal: Refusal::default(),
            versions: TlsVersions::default(),
            http: HttpVersions::default(),
        }),
        pages: Vec::new(),
        keep_alive: true,
    };
    let deployed = |reference: Reference| {
        let mut spec = asked.clone();
        reference.spoil_external(&mut spec);
        spec.tls.unwrap().client_ca
    };
    assert_eq!(deployed(Reference::new()).as_deref(), Some("asked for"));
    assert_eq!(deployed(Reference::sabotaged(Saboteur::LenientServer)), None);
    let other = deployed(Reference::sabotaged(Saboteur::ServerOfAnotherCa)).unwrap();
    assert!(other.starts_with("-----BEGIN CERTIFICATE-----"), "{other}");
}

/// Those that the tests of these modules show at work; a new saboteur must be added to one.
#[test]
fn every_saboteur_is_shown_at_work() {
    let mut text = String::new();
    for source in [
        include_str!("saboteurs.rs"),
        include_str!("saboteurs/hops.rs"),
        include_str!("saboteurs/secrets.rs"),
    ] {
        text.push_str(source);
    }
    let unshown: BTreeSet<String> = Saboteur::ALL
        .iter()
        .filter(|s| !text.contains(&format!("Saboteur::{s:?}")))
        // Shown in the unit tests beside them, and by the plan's own tests of its mutations.
        .filter(|s| {
            !matches!(
                s,
                Saboteur::AllowAny
                    | Saboteur::MostSpecificRoute
                    | Saboteur::CatchAllDoesNotStop
                    | Saboteur::LastRuleWins
            )
        })
        .map(|s| s.name().to_owned())
        .collect();
    assert_eq!(unshown, BTreeSet::new());
}
