//! TLS origination: what the proxy offers, which servers it accepts, which certificate it presents.

use meshproof_model::CredentialState;
use meshproof_plan::model::{
    ClientCertificate, Discovery, NameCheck, Origination, ServerName, TlsVersion, Trust, UpstreamTls,
};
use meshproof_reference::Reference;
use rcgen::ExtendedKeyUsagePurpose;

use crate::support::authority::{CertificateSpec, IssuedPem, TestAuthority, self_signed, self_signed_ca};
use crate::support::client::{self, TestClient};
use crate::support::plans::{self, EXTERNAL, HOST};
use crate::support::server::{TLS12, TLS13, TestServer, TestServerTls};
use crate::support::{Bench, PATIENCE, free};

/// The status that a client gets from an originating sidecar, and the log line.
async fn ask(origination: Origination, server: &TestServer, roots: &str) -> (u16, String) {
    let (mut bench, bind) = (Bench::with(Reference::new(), roots).await, free());
    bench.apply(&plans::originating(bind, server.address, origination)).await;
    let reply = client::get(bind, HOST, "/politics").await;
    let line = bench.only_line("sleep").await;
    (reply.status.as_u16(), line)
}

#[tokio::test]
async fn simple_sends_host_as_server_name_and_verifies_chain_and_name() {
    let ca = TestAuthority::new("public");
    let server = TestServer::tls(ca.server(HOST)).await;
    let (status, line) = ask(plans::simple(), &server, &ca.pem()).await;
    assert_eq!(status, 200, "{line}");
    let hello = server.memory.hellos().remove(0);
    assert_eq!((hello.sni.as_deref(), hello.alpn), (Some(HOST), vec!["http/1.1".to_owned()]));
    assert_eq!(server.memory.only_request().host, HOST);
    assert!(line.contains(&format!("\"{}\" {EXTERNAL} ", server.address)), "{line}");
}

#[tokio::test]
async fn faulty_server_certificate_is_refused_and_no_request_is_sent() {
    let (ca, other) = (TestAuthority::new("public"), TestAuthority::new("other"));
    let says = |dns: &'static [&'static str]| CertificateSpec { dns, ..CertificateSpec::default() };
    let cases: Vec<(&str, IssuedPem, &str)> = vec![
        ("unknown CA", other.server(HOST), "UnknownIssuer"),
        ("self-signed", self_signed(&says(&[HOST])), "UnknownIssuer"),
        ("expired", ca.issue(&CertificateSpec { years: (2020, 2021), ..says(&[HOST]) }), "Expired"),
        ("not yet", ca.issue(&CertificateSpec { years: (2090, 2096), ..says(&[HOST]) }), "not_valid_yet"),
        ("wrong host", ca.server("other.example"), "not_valid_for_name"),
        (
            "client usage alone",
            ca.issue(&CertificateSpec { usage: Some(ExtendedKeyUsagePurpose::ClientAuth), ..says(&[HOST]) }),
            "InvalidPurpose",
        ),
        ("no name at all", ca.issue(&says(&[])), "not_valid_for_name"),
    ];
    for (fault, issued, words) in cases {
        let server = TestServer::tls(issued).await;
        let (status, line) = ask(plans::simple(), &server, &ca.pem()).await;
        assert_eq!(status, 503, "{fault}: {line}");
        assert!(
            line.contains(" 503 UF ") && line.contains("\"TLS_error:_CERTIFICATE_VERIFY_FAILED:"),
            "{fault}: {line}"
        );
        let lower = |s: &str| s.to_lowercase().replace('_', "");
        assert!(lower(&line).contains(&lower(words)), "{fault}: {line}");
        assert_eq!(server.memory.requests().len(), 0, "{fault}");
        // The control: without verification, it connects.
        let unverified = Origination { trust: Trust::Anybody, ..plans::simple() };
        assert_eq!(ask(unverified, &server, &ca.pem()).await.0, 200, "{fault}");
    }
}

#[tokio::test]
async fn self_signed_certificate_among_the_roots_is_accepted() {
    for sign in [self_signed, self_signed_ca] {
        let issued = sign(&CertificateSpec { dns: &[HOST], ..CertificateSpec::default() });
        let server = TestServer::tls(issued.clone()).await;
        assert_eq!(ask(plans::simple(), &server, &issued.certificate).await.0, 200);
        let expired =
            sign(&CertificateSpec { dns: &[HOST], years: (2020, 2021), ..CertificateSpec::default() });
        let server = TestServer::tls(expired.clone()).await;
        assert_eq!(ask(plans::simple(), &server, &expired.certificate).await.0, 503);
    }
}

#[tokio::test]
async fn names_are_checked_as_the_plan_says() {
    let ca = TestAuthority::new("public");
    let uri = "spiffe://elsewhere/ns/a/sa/b";
    let bare = TestServer::tls(ca.issue(&CertificateSpec::default())).await;
    let named = TestServer::tls(ca.issue(&CertificateSpec {
        dns: &["*.example.org"],
        uri: Some(uri),
        ..CertificateSpec::default()
    }))
    .await;
    let one_of = |names: &[&str]| Origination {
        names: NameCheck::OneOf(names.iter().map(|n| (*n).to_owned()).collect()),
        ..plans::simple()
    };
    let chain = Origination { names: NameCheck::ChainOnly, ..plans::simple() };
    for (origination, server, status) in [
        (chain.clone(), &bare, 200),
        (chain, &named, 200),
        (one_of(&["a.example.org"]), &named, 200),
        (one_of(&["nowhere.example", uri]), &named, 200),
        (one_of(&["a.b.example.org"]), &named, 503),
        (one_of(&["a subject"]), &bare, 503),
        (one_of(&[]), &named, 503),
        (plans::simple(), &named, 503),
    ] {
        let shown = format!("{:?}", origination.names);
        let (seen, line) = ask(origination, server, &ca.pem()).await;
        assert_eq!(seen, status, "{shown}: {line}");
    }
}

#[tokio::test]
async fn server_name_is_fixed_absent_or_the_rewritten_host() {
    let ca = TestAuthority::new("public");
    let server = TestServer::tls(ca.server(HOST)).await;
    let fixed = Origination {
        sni: ServerName::Fixed("fixed.example".to_owned()),
        names: NameCheck::ChainOnly,
        ..plans::simple()
    };
    assert_eq!(ask(fixed, &server, &ca.pem()).await.0, 200);
    let absent = Origination { sni: ServerName::Absent, ..plans::simple() };
    assert_eq!(ask(absent, &server, &ca.pem()).await.0, 200);
    let (mut bench, bind) = (Bench::with(Reference::new(), &ca.pem()).await, free());
    let mut plan = plans::originating(bind, server.address, plans::simple());
    rewrite_host(&mut plan, HOST);
    bench.apply(&plan).await;
    assert_eq!(client::get(bind, HOST, "/").await.status.as_u16(), 200);
    let names: Vec<Option<String>> = server.memory.hellos().into_iter().map(|h| h.sni).collect();
    assert_eq!(names, [Some("fixed.example".to_owned()), None, Some(HOST.to_owned())]);
}

fn rewrite_host(plan: &mut meshproof_plan::model::Plan, to: &str) {
    use meshproof_plan::model::{Action, RouteAction};
    for chain in plan.proxies.iter_mut().flat_map(|p| &mut p.listeners).flat_map(|l| &mut l.chains) {
        let Action::Http(routes) = &mut chain.action else { continue };
        for route in routes.virtual_hosts.iter_mut().flat_map(|v| &mut v.routes) {
            if let RouteAction::Forward(forward) = &mut route.action {
                forward.host_rewrite = Some(to.to_owned());
            }
        }
    }
}

#[tokio::test]
async fn client_certificate_follows_its_secret_from_missing_through_rotation_to_deleted() {
    let (ca, clients) = (TestAuthority::new("servers"), TestAuthority::new("clients"));
    let mut tls = TestServerTls::of(ca.server(HOST));
    tls.client_ca = Some(clients.pem());
    let server = TestServer::start(Some(tls)).await;
    let (mut bench, bind) = (Bench::start().await, free());
    let plan = plans::originating(bind, server.address, plans::mutual("client-credential"));
    bench.apply(&plan).await;
    let reply = client::get(bind, HOST, "/").await;
    assert_eq!(reply.status.as_u16(), 503);
    assert!(reply.body.ends_with("transport failure reason: TLS error: Secret is not supplied by SDS"));
    let states = |list: Vec<meshproof_model::CredentialStatus>| {
        list.into_iter().map(|c| (c.name, c.state, c.serial)).collect::<Vec<_>>()
    };
    let of = |name: &str| format!("kubernetes://{name}");
    assert_eq!(
        states(bench.plane.credentials("sleep").await.unwrap()),
        [
            (of("client-credential"), CredentialState::Warming, None),
            (of("client-credential-cacert"), CredentialState::Warming, None),
        ]
    );
    let mut seen = Vec::new();
    for serial in [0x01, 0x02ff, 0x03] {
        let issued = clients.issue(&CertificateSpec { serial, ..CertificateSpec::default() });
        bench.credential("sleep", plans::credential("client-credential", &ca.pem(), Some(&issued)));
        bench.apply(&plan).await;
        assert_eq!(client::get(bind, HOST, "/").await.status.as_u16(), 200);
        assert_eq!(client::get(bind, HOST, "/").await.status.as_u16(), 200);
        let status = bench.plane.credentials("sleep").await.unwrap().remove(0);
        seen.push((status.state, status.serial.unwrap()));
    }
    let active = |s: &str| (CredentialState::Active, s.to_owned());
    assert_eq!(seen, [active("01"), active("02FF"), active("03")]);
    // One handshake per rotation, none per request.
    let hellos = server.memory.hellos();
    assert_eq!(hellos.len(), 3);
    let mut shown: Vec<_> = hellos.into_iter().map(|h| h.client_certificate.unwrap()).collect();
    shown.dedup();
    assert_eq!(shown.len(), 3);
    bench.credentials.clear();
    bench.apply(&plan).await;
    assert_eq!(client::get(bind, HOST, "/").await.status.as_u16(), 503);
    let line = bench.lines("sleep").await.pop().unwrap();
    assert!(
        line.contains(" 503 UF ") && line.contains("\"TLS_error:_Secret_is_not_supplied_by_SDS\""),
        "{line}"
    );
}

#[tokio::test]
async fn client_certificate_that_the_server_refuses_leads_to_503() {
    let (ca, clients, other) =
        (TestAuthority::new("servers"), TestAuthority::new("clients"), TestAuthority::new("other"));
    for versions in [TLS13, TLS12] {
        let mut tls = TestServerTls::of(ca.server(HOST));
        tls.client_ca = Some(clients.pem());
        tls.versions = versions;
        let server = TestServer::start(Some(tls)).await;
        let (mut bench, bind) = (Bench::start().await, free());
        let issued = other.issue(&CertificateSpec::default());
        bench.credential("sleep", plans::credential("c", &ca.pem(), Some(&issued)));
        bench.apply(&plans::originating(bind, server.address, plans::mutual("c"))).await;
        assert_eq!(client::get(bind, HOST, "/").await.status.as_u16(), 503);
        assert_eq!(server.memory.requests().len(), 0);
        assert!(!server.memory.hellos()[0].completed);
        let line = bench.only_line("sleep").await;
        assert!(line.contains(" 503 U"), "{line}");
    }
}

#[tokio::test]
async fn revoked_certificate_is_refused_and_another_of_the_same_ca_is_accepted() {
    let (ca, clients) = (TestAuthority::new("servers"), TestAuthority::new("clients"));
    for (serial, status) in [(13, 503), (14, 200)] {
        let server = TestServer::tls(ca.issue(&CertificateSpec {
            dns: &[HOST],
            serial,
            ..CertificateSpec::default()
        }))
        .await;
        let (mut bench, bind) = (Bench::start().await, free());
        let issued = clients.issue(&CertificateSpec::default());
        let mut credential = plans::credential("c", &ca.pem(), Some(&issued));
        credential.crl = Some(ca.revoking(13));
        bench.credential("sleep", credential);
        bench.apply(&plans::originating(bind, server.address, plans::mutual("c"))).await;
        assert_eq!(client::get(bind, HOST, "/").await.status.as_u16(), status);
        let line = bench.only_line("sleep").await;
        assert_eq!(line.to_lowercase().contains("revoked"), status == 503, "{line}");
    }
}

#[tokio::test]
async fn tls_version_limits_hold_and_both_versions_work() {
    let ca = TestAuthority::new("public");
    let mut old = TestServerTls::of(ca.server(HOST));
    old.versions = TLS12;
    let mut new = old.clone();
    new.versions = TLS13;
    let (old, new) = (TestServer::start(Some(old)).await, TestServer::start(Some(new)).await);
    let floor = Origination { min_version: Some(TlsVersion::Tls13), ..plans::simple() };
    let ceiling = Origination { max_version: Some(TlsVersion::Tls12), ..plans::simple() };
    for (origination, server, status) in [
        (plans::simple(), &old, 200),
        (plans::simple(), &new, 200),
        (floor.clone(), &old, 503),
        (floor, &new, 200),
        (ceiling, &new, 503),
    ] {
        assert_eq!(ask(origination, server, &ca.pem()).await.0, status);
    }
}

#[tokio::test]
async fn alpn_decides_between_http2_and_http1() {
    let ca = TestAuthority::new("public");
    let both = Origination { alpn: vec!["h2".to_owned(), "http/1.1".to_owned()], ..plans::simple() };
    for (alpn, version) in [
        (&["h2"][..], http::Version::HTTP_2),
        (&["http/1.1"][..], http::Version::HTTP_11),
        (&[][..], http::Version::HTTP_11),
    ] {
        let mut tls = TestServerTls::of(ca.server(HOST));
        tls.alpn = alpn;
        let server = TestServer::start(Some(tls)).await;
        assert_eq!(ask(both.clone(), &server, &ca.pem()).await.0, 200);
        assert_eq!(server.memory.only_request().version, version);
        assert_eq!(server.memory.hellos()[0].alpn, ["h2", "http/1.1"]);
    }
}

#[tokio::test]
async fn files_of_the_proxy_are_used_as_ca_and_client_certificate() {
    let (ca, clients) = (TestAuthority::new("servers"), TestAuthority::new("clients"));
    let mut tls = TestServerTls::of(ca.server(HOST));
    tls.client_ca = Some(clients.pem());
    let server = TestServer::start(Some(tls)).await;
    let (mut bench, bind) = (Bench::start().await, free());
    let origination = Origination {
        trust: Trust::File("/etc/certs/ca.pem".to_owned()),
        client_certificate: Some(ClientCertificate::Files {
            certificate: "/etc/certs/client.pem".to_owned(),
            key: "/etc/certs/client.key".to_owned(),
        }),
        ..plans::simple()
    };
    let plan = plans::originating(bind, server.address, origination);
    bench.apply(&plan).await;
    assert_eq!(client::get(bind, HOST, "/").await.status.as_u16(), 503);
    let folder = bench.folder.path().join("sleep/etc/certs");
    std::fs::create_dir_all(&folder).unwrap();
    let issued = clients.issue(&CertificateSpec::default());
    for (name, text) in
        [("ca.pem", &ca.pem()), ("client.pem", &issued.certificate), ("client.key", &issued.key)]
    {
        std::fs::write(folder.join(name), text).unwrap();
    }
    bench.apply(&plan).await;
    assert_eq!(client::get(bind, HOST, "/").await.status.as_u16(), 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[cfg(unix)]
async fn ca_file_that_is_a_named_pipe_is_refused_and_blocks_nothing() {
    let server = TestServer::tls(TestAuthority::new("servers").server(HOST)).await;
    let (mut bench, bind) = (Bench::start().await, free());
    let pipe = bench.folder.path().join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let trust = Trust::File(pipe.to_str().unwrap().to_owned());
    let plan = plans::originating(bind, server.address, Origination { trust, ..plans::simple() });
    let applied = tokio::spawn(async move {
        bench.apply(&plan).await;
        bench
    });
    let bench = tokio::time::timeout(PATIENCE, applied).await.expect("reading a pipe blocks").unwrap();
    assert_eq!(client::get(bind, HOST, "/").await.status.as_u16(), 503);
    assert!(bench.only_line("sleep").await.contains("is_not_a_regular_file"));
}

#[tokio::test]
async fn gateway_requires_a_mesh_identity_and_logs_the_server_name() {
    let ca = TestAuthority::new("public");
    let server = TestServer::tls(ca.server(HOST)).await;
    let (mut bench, bind, gateway) = (Bench::with(Reference::new(), &ca.pem()).await, free(), free());
    let external = plans::cluster(EXTERNAL, server.address, Some(UpstreamTls::Originate(plans::simple())));
    bench.apply(&plans::through_gateway(bind, gateway, external)).await;

    assert_eq!(client::get(bind, HOST, "/politics").await.status.as_u16(), 200);
    let sidecar = bench.only_line("sleep").await;
    assert!(sidecar.contains(&format!("\"{gateway}\" {} ", plans::TO_GATEWAY)), "{sidecar}");
    let line = bench.only_line("istio-egressgateway").await;
    assert!(line.contains("\"GET /politics HTTP/1.1\" 200 ") && line.ends_with(&format!(" {HOST} default")));
    assert_eq!(server.memory.only_request().headers["x-forwarded-proto"], "https");

    // Plain text, and TLS without a certificate, or with one of another CA.
    let mut plain = TestClient::connect(gateway).await;
    assert!(plain.send(client::request(HOST, "/")).await.is_err());
    let stranger = TestAuthority::new("other").issue(&CertificateSpec::default());
    let member = bench.mesh.issue(&CertificateSpec {
        uri: Some("spiffe://cluster.local/ns/a/sa/b"),
        ..CertificateSpec::default()
    });
    for (identity, served) in [(None, false), (Some(&stranger), false), (Some(&member), true)] {
        let answered = client::get_over_mesh(gateway, HOST, identity).await.is_ok();
        assert_eq!(answered, served);
    }
    assert_eq!(server.memory.requests().len(), 2);
}

#[tokio::test]
async fn sidecar_refuses_a_gateway_with_another_identity() {
    let server = TestServer::plain().await;
    let (mut bench, bind, gateway) = (Bench::start().await, free(), free());
    let mut plan =
        plans::through_gateway(bind, gateway, plans::cluster("outbound|80||x", server.address, None));
    if let Some(UpstreamTls::MeshMutual { peer_identities, .. }) = &mut plan.proxies[0].clusters[0].tls {
        *peer_identities = vec!["spiffe://cluster.local/ns/default/sa/another-account".to_owned()];
    }
    bench.apply(&plan).await;
    assert_eq!(client::get(bind, HOST, "/").await.status.as_u16(), 503);
    assert_eq!(server.memory.requests().len(), 0);
}

#[tokio::test]
async fn plain_http_answer_of_a_tls_port_is_passed_on() {
    // nginx answers so: a 400 in plain text.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let task = tokio::spawn(async move {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let (mut tcp, _) = listener.accept().await.unwrap();
        let _ = tcp.read(&mut [0; 4096]).await;
        let answer = "HTTP/1.1 400 Bad Request\r\nServer: nginx\r\nContent-Length: 5\r\n\
                      Connection: close\r\n\r\nplain";
        tcp.write_all(answer.as_bytes()).await.unwrap();
    });
    let (mut bench, bind) = (Bench::start().await, free());
    bench.apply(&plans::plan(vec![plans::sidecar(bind, plans::cluster(EXTERNAL, address, None))])).await;
    let reply = client::get(bind, HOST, "/").await;
    assert_eq!((reply.status.as_u16(), reply.body.as_str()), (400, "plain"));
    assert!(bench.only_line("sleep").await.contains(" 400 - via_upstream "));
    task.await.unwrap();
}

#[tokio::test]
async fn changed_endpoint_is_used_from_the_next_request_on() {
    let ca = TestAuthority::new("public");
    let servers = [TestServer::tls(ca.server(HOST)).await, TestServer::tls(ca.server(HOST)).await];
    let (mut bench, bind) = (Bench::with(Reference::new(), &ca.pem()).await, free());
    let mut plan = plans::originating(bind, servers[0].address, plans::simple());
    bench.apply(&plan).await;
    let mut client = TestClient::connect(bind).await;
    client.get(HOST, "/").await;
    plan.proxies[0].clusters[0].discovery = Discovery::Endpoints(vec![servers[1].address]);
    bench.apply(&plan).await;
    client.get(HOST, "/").await;
    assert_eq!([servers[0].memory.requests().len(), servers[1].memory.requests().len()], [1, 1]);
}
