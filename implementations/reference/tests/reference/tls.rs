//! TLS origination: what is offered, what is believed, what is shown.

use meshproof_model::CredentialState;
use meshproof_plan::model::{
    ClientCertificate, Discovery, NameCheck, Origination, ServerName, TlsVersion, Trust, UpstreamTls,
};
use meshproof_reference::Reference;
use rcgen::ExtendedKeyUsagePurpose;

use crate::support::authority::{Authority, Issued, Says, self_signed, self_signed_ca};
use crate::support::client::{self, Client};
use crate::support::plans::{self, EXTERNAL, HOST};
use crate::support::server::{Server, TLS12, TLS13, Tls};
use crate::support::{Bench, free};

/// What a client gets of an originating sidecar: the status, and the last log line.
async fn ask(origination: Origination, server: &Server, roots: &str) -> (u16, String) {
    let (mut bench, bind) = (Bench::with(Reference::new(), roots).await, free());
    bench.apply(&plans::originating(bind, server.address, origination)).await;
    let reply = client::get(bind, HOST, "/politics").await;
    let line = bench.only_line("sleep").await;
    (reply.status.as_u16(), line)
}

#[tokio::test]
async fn simple_sends_host_as_server_name_and_verifies_chain_and_name() {
    let ca = Authority::new("public");
    let server = Server::tls(ca.server(HOST)).await;
    let (status, line) = ask(plans::simple(), &server, &ca.pem()).await;
    assert_eq!(status, 200, "{line}");
    let hello = server.memory.hellos().remove(0);
    assert_eq!((hello.sni.as_deref(), hello.alpn), (Some(HOST), vec!["http/1.1".to_owned()]));
    assert_eq!(server.memory.only_request().host, HOST);
    assert!(line.contains(&format!("\"{}\" {EXTERNAL} ", server.address)), "{line}");
}

#[tokio::test]
async fn each_fault_of_a_certificate_is_refused_and_the_request_stays_here() {
    let (ca, other) = (Authority::new("public"), Authority::new("other"));
    let says = |dns: &'static [&'static str]| Says { dns, ..Says::default() };
    let cases: Vec<(&str, Issued, &str)> = vec![
        ("unknown CA", other.server(HOST), "UnknownIssuer"),
        ("self-signed", self_signed(&says(&[HOST])), "UnknownIssuer"),
        ("expired", ca.issue(&Says { years: (2020, 2021), ..says(&[HOST]) }), "Expired"),
        ("not yet", ca.issue(&Says { years: (2090, 2096), ..says(&[HOST]) }), "not_valid_yet"),
        ("wrong host", ca.server("other.example"), "not_valid_for_name"),
        (
            "client usage alone",
            ca.issue(&Says { usage: Some(ExtendedKeyUsagePurpose::ClientAuth), ..says(&[HOST]) }),
            "InvalidPurpose",
        ),
        ("no name at all", ca.issue(&says(&[])), "not_valid_for_name"),
    ];
    for (fault, issued, words) in cases {
        let server = Server::tls(issued).await;
        let (status, line) = ask(plans::simple(), &server, &ca.pem()).await;
        assert_eq!(status, 503, "{fault}: {line}");
        assert!(
            line.contains(" 503 UF ") && line.contains("\"TLS_error:_CERTIFICATE_VERIFY_FAILED:"),
            "{fault}: {line}"
        );
        let lower = |s: &str| s.to_lowercase().replace('_', "");
        assert!(lower(&line).contains(&lower(words)), "{fault}: {line}");
        assert_eq!(server.memory.requests().len(), 0, "{fault}");
        // The twin: told not to look, it connects.
        let anybody = Origination { trust: Trust::Anybody, ..plans::simple() };
        assert_eq!(ask(anybody, &server, &ca.pem()).await.0, 200, "{fault}");
    }
}

#[tokio::test]
async fn self_signed_certificate_among_the_roots_is_believed() {
    for sign in [self_signed, self_signed_ca] {
        let issued = sign(&Says { dns: &[HOST], ..Says::default() });
        let server = Server::tls(issued.clone()).await;
        assert_eq!(ask(plans::simple(), &server, &issued.certificate).await.0, 200);
        let expired = sign(&Says { dns: &[HOST], years: (2020, 2021), ..Says::default() });
        let server = Server::tls(expired.clone()).await;
        assert_eq!(ask(plans::simple(), &server, &expired.certificate).await.0, 503);
    }
}

#[tokio::test]
async fn names_are_checked_as_the_plan_says() {
    let ca = Authority::new("public");
    let uri = "spiffe://elsewhere/ns/a/sa/b";
    let bare = Server::tls(ca.issue(&Says::default())).await;
    let named =
        Server::tls(ca.issue(&Says { dns: &["*.example.org"], uri: Some(uri), ..Says::default() })).await;
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
        (one_of(&["somebody"]), &bare, 503),
        (one_of(&[]), &named, 503),
        (plans::simple(), &named, 503),
    ] {
        let shown = format!("{:?}", origination.names);
        let (seen, line) = ask(origination, server, &ca.pem()).await;
        assert_eq!(seen, status, "{shown}: {line}");
    }
}

#[tokio::test]
async fn server_name_is_fixed_absent_or_of_the_rewritten_host() {
    let ca = Authority::new("public");
    let server = Server::tls(ca.server(HOST)).await;
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
async fn client_certificate_is_shown_and_its_secret_awaited_rotated_and_let_go() {
    let (ca, clients) = (Authority::new("servers"), Authority::new("clients"));
    let mut tls = Tls::of(ca.server(HOST));
    tls.client_ca = Some(clients.pem());
    let server = Server::start(Some(tls)).await;
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
        let issued = clients.issue(&Says { serial, ..Says::default() });
        bench.credential("sleep", plans::credential("client-credential", &ca.pem(), Some(&issued)));
        bench.apply(&plan).await;
        assert_eq!(client::get(bind, HOST, "/").await.status.as_u16(), 200);
        assert_eq!(client::get(bind, HOST, "/").await.status.as_u16(), 200);
        let status = bench.plane.credentials("sleep").await.unwrap().remove(0);
        seen.push((status.state, status.serial.unwrap()));
    }
    let active = |s: &str| (CredentialState::Active, s.to_owned());
    assert_eq!(seen, [active("01"), active("02FF"), active("03")]);
    // One handshake a rotation, none a request.
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
async fn client_certificate_that_the_server_refuses_is_503() {
    let (ca, clients, other) =
        (Authority::new("servers"), Authority::new("clients"), Authority::new("other"));
    for versions in [TLS13, TLS12] {
        let mut tls = Tls::of(ca.server(HOST));
        tls.client_ca = Some(clients.pem());
        tls.versions = versions;
        let server = Server::start(Some(tls)).await;
        let (mut bench, bind) = (Bench::start().await, free());
        let issued = other.issue(&Says::default());
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
async fn revoked_certificate_is_refused_and_another_of_the_same_ca_is_not() {
    let (ca, clients) = (Authority::new("servers"), Authority::new("clients"));
    for (serial, status) in [(13, 503), (14, 200)] {
        let server = Server::tls(ca.issue(&Says { dns: &[HOST], serial, ..Says::default() })).await;
        let (mut bench, bind) = (Bench::start().await, free());
        let issued = clients.issue(&Says::default());
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
async fn version_floor_holds_and_both_versions_work() {
    let ca = Authority::new("public");
    let mut old = Tls::of(ca.server(HOST));
    old.versions = TLS12;
    let mut new = old.clone();
    new.versions = TLS13;
    let (old, new) = (Server::start(Some(old)).await, Server::start(Some(new)).await);
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
    let ca = Authority::new("public");
    let both = Origination { alpn: vec!["h2".to_owned(), "http/1.1".to_owned()], ..plans::simple() };
    for (alpn, version) in [
        (&["h2"][..], http::Version::HTTP_2),
        (&["http/1.1"][..], http::Version::HTTP_11),
        (&[][..], http::Version::HTTP_11),
    ] {
        let mut tls = Tls::of(ca.server(HOST));
        tls.alpn = alpn;
        let server = Server::start(Some(tls)).await;
        assert_eq!(ask(both.clone(), &server, &ca.pem()).await.0, 200);
        assert_eq!(server.memory.only_request().version, version);
        assert_eq!(server.memory.hellos()[0].alpn, ["h2", "http/1.1"]);
    }
}

#[tokio::test]
async fn files_of_the_proxy_serve_as_ca_and_client_certificate() {
    let (ca, clients) = (Authority::new("servers"), Authority::new("clients"));
    let mut tls = Tls::of(ca.server(HOST));
    tls.client_ca = Some(clients.pem());
    let server = Server::start(Some(tls)).await;
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
    let issued = clients.issue(&Says::default());
    for (name, text) in
        [("ca.pem", &ca.pem()), ("client.pem", &issued.certificate), ("client.key", &issued.key)]
    {
        std::fs::write(folder.join(name), text).unwrap();
    }
    bench.apply(&plan).await;
    assert_eq!(client::get(bind, HOST, "/").await.status.as_u16(), 200);
}

#[tokio::test]
async fn gateway_demands_a_mesh_identity_and_logs_the_server_name() {
    let ca = Authority::new("public");
    let server = Server::tls(ca.server(HOST)).await;
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
    let mut plain = Client::connect(gateway).await;
    assert!(plain.send(client::request(HOST, "/")).await.is_err());
    let stranger = Authority::new("other").issue(&Says::default());
    let member = bench.mesh.issue(&Says { uri: Some("spiffe://cluster.local/ns/a/sa/b"), ..Says::default() });
    for (identity, served) in [(None, false), (Some(&stranger), false), (Some(&member), true)] {
        let answered = client::get_over_mesh(gateway, HOST, identity).await.is_ok();
        assert_eq!(answered, served);
    }
    assert_eq!(server.memory.requests().len(), 2);
}

#[tokio::test]
async fn sidecar_refuses_a_gateway_of_another_identity() {
    let server = Server::plain().await;
    let (mut bench, bind, gateway) = (Bench::start().await, free(), free());
    let mut plan =
        plans::through_gateway(bind, gateway, plans::cluster("outbound|80||x", server.address, None));
    if let Some(UpstreamTls::MeshMutual { peer_identities, .. }) = &mut plan.proxies[0].clusters[0].tls {
        *peer_identities = vec!["spiffe://cluster.local/ns/default/sa/somebody-else".to_owned()];
    }
    bench.apply(&plan).await;
    assert_eq!(client::get(bind, HOST, "/").await.status.as_u16(), 503);
    assert_eq!(server.memory.requests().len(), 0);
}

#[tokio::test]
async fn plain_http_to_a_tls_port_gets_what_comes_back() {
    // As nginx does: a 400 in clear text.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let task = tokio::spawn(async move {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let (mut tcp, _) = listener.accept().await.unwrap();
        let _ = tcp.read(&mut [0; 4096]).await;
        let answer = "HTTP/1.1 400 Bad Request\r\nServer: nginx\r\nContent-Length: 5\r\nConnection: close\r\n\r\nplain";
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
    let ca = Authority::new("public");
    let servers = [Server::tls(ca.server(HOST)).await, Server::tls(ca.server(HOST)).await];
    let (mut bench, bind) = (Bench::with(Reference::new(), &ca.pem()).await, free());
    let mut plan = plans::originating(bind, servers[0].address, plans::simple());
    bench.apply(&plan).await;
    let mut client = Client::connect(bind).await;
    client.get(HOST, "/").await;
    plan.proxies[0].clusters[0].discovery = Discovery::Endpoints(vec![servers[1].address]);
    bench.apply(&plan).await;
    client.get(HOST, "/").await;
    assert_eq!([servers[0].memory.requests().len(), servers[1].memory.requests().len()], [1, 1]);
}
