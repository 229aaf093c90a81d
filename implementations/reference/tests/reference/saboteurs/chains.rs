//! Saboteurs that verify chains, names, revocation lists and files wrongly, each beside the honest reference.

use meshproof_harness::certificates::blueprint::{ALTERNATIVE_NAMES, Name};
use meshproof_harness::certificates::{Blueprint, Certified, Duration, Issued, KeyAlgorithm, KeyPool};
use meshproof_local::data_plane::DataPlaneFactory as _;
use meshproof_model::Resource;
use meshproof_plan::model::{ClientCertificate, Origination};
use meshproof_plan::model::{Credential, Trust};
use serde_json::{Value, json};

use crate::situation::{Situation, SituationOutcome, differs, status};
use crate::support::authority::IssuedPem;
use crate::support::client;
use crate::support::plans::{self, HOST};
use crate::support::server::{TestServer, TestServerTls};
use crate::support::{Bench, free, reference};

const HOURS: Duration = Duration::hours(3);
const YEAR: Duration = Duration::days(365);

struct Pki {
    keys: KeyPool,
    root: Certified,
    other: Certified,
}

impl Pki {
    fn new() -> Self {
        let keys = KeyPool::new();
        let root = |name: &str| {
            let key = keys.key(KeyAlgorithm::EcdsaP256).unwrap();
            Blueprint::authority(name, key).self_signed().unwrap()
        };
        Self { root: root("root"), other: root("other"), keys }
    }

    fn leaf(&self) -> Blueprint {
        Blueprint::server(HOST, self.keys.key(KeyAlgorithm::EcdsaP256).unwrap())
    }

    fn middle(&self) -> Certified {
        let key = self.keys.key(KeyAlgorithm::EcdsaP256).unwrap();
        Blueprint::authority("middle", key).issued_by(&self.root).unwrap()
    }
}

fn presented(issued: &Issued) -> IssuedPem {
    IssuedPem { certificate: issued.certificate_pem().to_owned(), key: issued.key().0 }
}

/// The server presents this; the proxy trusts these CA certificates of a Secret.
fn trusting(s: &mut Situation, server: &Issued, roots: &[&Certified]) {
    s.server.issued = presented(server);
    s.origination.trust = Trust::Credential("c".to_owned());
    s.origination.credential = Some("c".to_owned());
    s.credentials = vec![credential(roots)];
}

fn credential(roots: &[&Certified]) -> Credential {
    let ca = roots.iter().map(|root| root.pem()).collect();
    Credential { name: "c".to_owned(), certificate: None, key: None, ca: Some(ca), crl: None }
}

/// A leaf of the root, changed.
fn leaf(s: &mut Situation, change: impl Fn(Blueprint) -> Blueprint) {
    let pki = Pki::new();
    let leaf = change(pki.leaf()).issued_by(&pki.root).unwrap().with_chain(&[]);
    trusting(s, &leaf, &[&pki.root]);
}

fn named(s: &mut Situation, name: &str) {
    leaf(s, |leaf| leaf.names(&[Name::dns(name)]));
}

#[tokio::test]
async fn certificates_count_before_or_after_their_time() {
    let old = |s: &mut Situation| leaf(s, |leaf| leaf.valid(-YEAR, -HOURS));
    differs("grace-after-expiry", old, status, "503", "200").await;
    let new = |s: &mut Situation| leaf(s, |leaf| leaf.valid(Duration::minutes(30), YEAR));
    differs("grace-before-start", new, status, "503", "200").await;
}

#[tokio::test]
async fn intermediates_and_bundles_are_not_used_as_they_should_be() {
    let below = |s: &mut Situation| {
        let pki = Pki::new();
        let middle = pki.middle();
        let leaf = pki.leaf().issued_by(&middle).unwrap();
        trusting(s, &leaf.with_chain(&[&middle]), &[&pki.root]);
    };
    differs("ignore-intermediates", below, status, "200", "503").await;
    let too_many = |s: &mut Situation| {
        let pki = Pki::new();
        let middle = pki.middle();
        let leaf = pki.leaf().issued_by(&middle).unwrap();
        trusting(s, &leaf.with_chain(&[&pki.other, &middle]), &[&pki.root]);
    };
    differs("strict-order", too_many, status, "200", "503").await;
    let second = |s: &mut Situation| {
        let pki = Pki::new();
        let leaf = pki.leaf().issued_by(&pki.root).unwrap();
        trusting(s, &leaf.with_chain(&[]), &[&pki.other, &pki.root]);
    };
    differs("first-root-only", second, status, "200", "503").await;
    // The situation's own CA is among the system's roots.
    let system = |s: &mut Situation| {
        s.origination.trust = Trust::Credential("c".to_owned());
        s.credentials = vec![credential(&[&Pki::new().other])];
    };
    differs("system-roots-as-well", system, status, "503", "200").await;
}

// The saboteur keeps its thread while it searches.
#[tokio::test(flavor = "multi_thread")]
async fn many_certificates_take_long() {
    let crowd = |s: &mut Situation| {
        let pki = Pki::new();
        let middle = pki.middle();
        let leaf = pki.leaf().issued_by(&middle).unwrap();
        let chain: Vec<Certified> = (0..16).map(|_| pki.middle()).chain([middle]).collect();
        trusting(s, &leaf.with_chain(&chain.iter().collect::<Vec<_>>()), &[&pki.root]);
    };
    // Istio's format has %DURATION% as the third number after the quoted failure reason. The saboteur waits by the clock.
    let slow = |saw: &SituationOutcome| {
        let numbers = saw.lines[0].split('"').nth(4).unwrap();
        let duration: u64 = numbers.split_whitespace().nth(2).unwrap().parse().unwrap();
        (duration >= 3000).to_string()
    };
    differs("searches-every-path", crowd, slow, "false", "true").await;
}

#[tokio::test]
async fn names_are_compared_in_other_ways() {
    let wide = |s: &mut Situation| named(s, "*.com");
    differs("wide-wildcard", wide, status, "503", "200").await;
    let ending = |s: &mut Situation| named(s, HOST.split_once('.').unwrap().1);
    differs("suffix-names", ending, status, "503", "200").await;
    let beginning = |s: &mut Situation| named(s, &format!("{HOST}.evil.example"));
    differs("prefix-names", beginning, status, "503", "200").await;
    let common = |s: &mut Situation| leaf(s, |leaf| leaf.without(ALTERNATIVE_NAMES).common_name(HOST));
    differs("common-name-fallback", common, status, "503", "200").await;
    let second = |s: &mut Situation| leaf(s, |leaf| leaf.names(&[Name::dns("a.example"), Name::dns(HOST)]));
    differs("first-name-only", second, status, "200", "503").await;
    let inside = |s: &mut Situation| leaf(s, |leaf| leaf.names(&[Name::Uri(format!("https://{HOST}/"))]));
    differs("names-anywhere", inside, status, "503", "200").await;
    let above = |s: &mut Situation| {
        let pki = Pki::new();
        let key = pki.keys.key(KeyAlgorithm::EcdsaP256).unwrap();
        let middle = Blueprint::authority("middle", key).names(&[Name::dns(HOST)]);
        let middle = middle.issued_by(&pki.root).unwrap();
        let leaf = pki.leaf().names(&[Name::dns("a.example")]).issued_by(&middle).unwrap();
        trusting(s, &leaf.with_chain(&[&middle]), &[&pki.root]);
    };
    differs("name-of-any-certificate", above, status, "503", "200").await;
}

#[tokio::test]
async fn names_are_not_compared_for_some_requests() {
    let rewritten = |s: &mut Situation| {
        named(s, "a.example");
        s.host = "before.example".to_owned();
        s.rewrite = Some(HOST.to_owned());
    };
    differs("rewritten-unverified", rewritten, status, "503", "200").await;
    let capitals = |s: &mut Situation| {
        named(s, "a.example");
        s.host = "before.example".to_owned();
        s.rewrite = Some(HOST.to_ascii_uppercase());
    };
    differs("capitals-unverified", capitals, status, "503", "200").await;
    let http2 = |s: &mut Situation| {
        named(s, "a.example");
        s.http2 = true;
        s.origination.alpn = vec!["h2".to_owned()];
    };
    differs("http2-unverified", http2, status, "503", "200").await;
}

#[tokio::test]
async fn one_of_several_revocation_lists_counts() {
    let listed = |first: bool| {
        move |s: &mut Situation| {
            let pki = Pki::new();
            let leaf = pki.leaf().issued_by(&pki.root).unwrap();
            trusting(s, &leaf.with_chain(&[]), &[&pki.root, &pki.other]);
            let [own, other] = [&pki.root, &pki.other].map(|ca| ca.revocation_list(&[]).unwrap());
            s.credentials[0].crl = Some(if first { own + &other } else { other + &own });
        }
    };
    differs("first-list-only", listed(false), status, "200", "503").await;
    differs("first-list-only", listed(true), status, "200", "200").await;
    differs("last-list-only", listed(true), status, "200", "503").await;
}

/// The statuses of requests through a proxy, each after another content of the file with its roots.
async fn with_files(saboteur: Option<&str>, server: &Issued, roots: &[&Certified]) -> Vec<u16> {
    let server = TestServer::start(Some(TestServerTls::of(presented(server)))).await;
    let (mut bench, bind) = (Bench::with(reference(saboteur), "").await, free());
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("roots.pem");
    let trust = Trust::File(file.display().to_string());
    let plan = plans::originating(bind, server.address, Origination { trust, ..plans::simple() });
    let mut statuses = Vec::new();
    for root in roots {
        std::fs::write(&file, root.pem()).unwrap();
        bench.apply(&plan).await;
        statuses.push(client::get(bind, HOST, "/").await.status.as_u16());
    }
    statuses
}

#[tokio::test]
async fn files_are_not_used_or_never_read_again() {
    let pki = Pki::new();
    let leaf = pki.leaf().issued_by(&pki.root).unwrap().with_chain(&[]);
    let roots = [&pki.root, &pki.other];
    assert_eq!(with_files(None, &leaf, &roots).await, [200, 503]);
    assert_eq!(with_files(Some("files-unverified"), &leaf, &roots).await, [200, 200]);
    assert_eq!(with_files(Some("files-read-once"), &leaf, &roots).await, [200, 200]);
}

#[tokio::test]
async fn the_meshs_root_counts_outside() {
    for (saboteur, status) in [(None, 503), (Some("mesh-roots-as-well"), 200)] {
        let (mut bench, bind) = (Bench::with(reference(saboteur), "").await, free());
        let server = TestServer::start(Some(TestServerTls::of(bench.mesh.server(HOST)))).await;
        let trust = Trust::Credential("c".to_owned());
        let plan = plans::originating(bind, server.address, Origination { trust, ..plans::simple() });
        bench.credential("sleep", credential(&[&Pki::new().root]));
        bench.apply(&plan).await;
        assert_eq!(client::get(bind, HOST, "/").await.status.as_u16(), status, "{saboteur:?}");
    }
}

#[tokio::test]
async fn the_clients_intermediate_is_left_out() {
    let pki = Pki::new();
    let middle = pki.middle();
    let key = pki.keys.key(KeyAlgorithm::EcdsaP256).unwrap();
    let client_certificate =
        Blueprint::client("client", key).issued_by(&middle).unwrap().with_chain(&[&middle]);
    for (saboteur, status) in [(None, 200), (Some("client-leaf-only"), 503)] {
        let leaf = pki.leaf().issued_by(&pki.other).unwrap().with_chain(&[]);
        let mut tls = TestServerTls::of(presented(&leaf));
        tls.client_ca = Some(pki.root.pem());
        let server = TestServer::start(Some(tls)).await;
        let (mut bench, bind) = (Bench::with(reference(saboteur), "").await, free());
        let origination = Origination {
            client_certificate: Some(ClientCertificate::Credential("c".to_owned())),
            ..plans::mutual("c")
        };
        let plan = plans::originating(bind, server.address, origination);
        let IssuedPem { certificate, key } = presented(&client_certificate);
        let credential = credential(&[&pki.other]);
        bench
            .credential("sleep", Credential { certificate: Some(certificate), key: Some(key), ..credential });
        bench.apply(&plan).await;
        assert_eq!(client::get(bind, HOST, "/").await.status.as_u16(), status, "{saboteur:?}");
    }
}

fn secret(name: &str, kind: &str, held: Value) -> Resource {
    Resource(json!({
        "apiVersion": "v1", "kind": "Secret", "type": kind,
        "metadata": {"name": name, "namespace": "default"}, "stringData": held,
    }))
}

#[test]
fn secrets_are_read_in_another_order_or_not_at_all() {
    let both = json!({"cert": "1", "key": "2", "cacert": "3", "tls.crt": "4", "tls.key": "5", "ca.crt": "6"});
    let written = [
        secret("c", "Opaque", both),
        secret("c-cacert", "Opaque", json!({"ca.crt": "7"})),
        secret("t", "kubernetes.io/tls", json!({"tls.crt": "8", "tls.key": "9"})),
    ];
    let read = |saboteur: Option<&str>| {
        let mut resources = written.to_vec();
        reference(saboteur).misread(&mut resources);
        let keys = |r: &Resource| r.0["stringData"].as_object().unwrap().len();
        resources.iter().map(|r| format!("{} {}", r.name(), keys(r))).collect::<Vec<_>>()
    };
    assert_eq!(read(None), ["c 6", "c-cacert 1", "t 2"]);
    assert_eq!(read(Some("other-spelling-first")), ["c 3", "c-cacert 1", "t 2"]);
    assert_eq!(read(Some("separate-ca-ignored")), ["c 6", "t 2"]);
    assert_eq!(read(Some("opaque-secrets-only")), ["c 6", "c-cacert 1"]);
}
