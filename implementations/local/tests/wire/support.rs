//! What the tests of this folder share.

use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Duration;

use meshproof_harness::certificates::{Authority, Issued, KeyAlgorithm, KeyPool};
use meshproof_harness::external::{
    ExternalSpec, HttpVersions, Page, PlainPort, Refusal, TlsPort, TlsVersions,
};
use meshproof_harness::store::Store;
use meshproof_harness::timeouts::{Timeout, Timeouts};
use meshproof_harness::workload::RequestSpec;
use meshproof_local::external::{RunningService, find_nginx};
use meshproof_local::workload::{Route, WorkloadClient};
use meshproof_model::{
    Connection, Exchange, ExchangeError, ExchangeErrorKind, Fact, HopResult, Response, ServerRequest,
};

pub(crate) const HOST: &str = "edition.cnn.com";
pub(crate) const TOKEN: &str = "t-1.00001";

/// Longer than anything on loopback takes; reached only where something is broken.
pub(crate) const LIMIT: Duration = Duration::from_secs(10);

/// Parties that trust each other, and strangers.
pub(crate) struct Parties {
    pub(crate) ca: Authority,
    pub(crate) server: Issued,
    pub(crate) client: Issued,
    pub(crate) stranger_ca: Authority,
    pub(crate) stranger: Issued,
}

pub(crate) fn parties() -> &'static Parties {
    static PARTIES: OnceLock<Parties> = OnceLock::new();
    PARTIES.get_or_init(|| {
        let keys = KeyPool::new();
        let ca = Authority::with_keys(&keys, "example.com", "example Inc.", KeyAlgorithm::EcdsaP256).unwrap();
        let stranger_ca =
            Authority::with_keys(&keys, "stranger.com", "stranger Inc.", KeyAlgorithm::EcdsaP256).unwrap();
        Parties {
            server: ca.server(HOST).issue().unwrap(),
            client: ca.client("client.example.com").issue().unwrap(),
            stranger: stranger_ca.client("client.example.com").issue().unwrap(),
            ca,
            stranger_ca,
        }
    })
}

/// A TLS port that demands no client certificate.
pub(crate) fn open_port(server: &Issued) -> TlsPort {
    TlsPort {
        certificate: server.certificate_pem().to_owned(),
        key: server.key(),
        client_ca: None,
        refusal: Refusal::default(),
        versions: TlsVersions::default(),
        http: HttpVersions::default(),
        by_name: Vec::new(),
    }
}

/// A TLS port for clients of [`Parties::ca`] only.
pub(crate) fn mutual_port(refusal: Refusal) -> TlsPort {
    let client_ca = Some(parties().ca.certificate_pem().to_owned());
    TlsPort { client_ca, refusal, ..open_port(&parties().server) }
}

/// A site with the page `/politics` and a root page.
pub(crate) fn site(plain: PlainPort, tls: Option<TlsPort>) -> ExternalSpec {
    let page = |path: &str, body: &str| Page {
        path: path.to_owned(),
        content_type: "text/html".into(),
        body: body.to_owned(),
    };
    let pages = vec![page("/", "<h1>Welcome to nginx!</h1>"), page("/politics", "<h1>Politics</h1>")];
    ExternalSpec {
        aliases: Vec::new(),
        host: HOST.to_owned(),
        plain,
        tls,
        ipv6: false,
        tcp: Vec::new(),
        pages,
        keep_alive: true,
    }
}

pub(crate) fn timeouts(request: Duration) -> Timeouts {
    let mut timeouts = Timeouts::default();
    timeouts.set(Timeout::Request, request);
    timeouts
}

/// A client past every proxy that believes [`Parties::ca`].
pub(crate) fn client_of(service: &dyn RunningService) -> WorkloadClient {
    let route = [80, 443]
        .into_iter()
        .filter_map(|port| Some((port, service.address(port)?)))
        .fold(Route::default(), |route, (port, address)| route.and(HOST, port, address));
    WorkloadClient::new("sleep", route, parties().ca.certificate_pem(), &timeouts(LIMIT)).unwrap()
}

pub(crate) fn get(url: &str) -> RequestSpec {
    RequestSpec::get(url, TOKEN)
}

#[track_caller]
pub(crate) fn response(exchange: &Exchange) -> &Response {
    exchange.last_response().unwrap_or_else(|| panic!("no response: {exchange:#?}"))
}

#[track_caller]
pub(crate) fn error(exchange: &Exchange) -> &ExchangeError {
    match &exchange.hops.last().unwrap().result {
        HopResult::Error(e) => e,
        HopResult::Response(r) => panic!("a response: {r:?}"),
    }
}

#[track_caller]
pub(crate) fn error_kind(exchange: &Exchange) -> ExchangeErrorKind {
    error(exchange).kind
}

pub(crate) fn connections(store: &Store) -> Vec<Connection> {
    store.with(|all| {
        all.iter()
            .filter_map(|e| if let Fact::Connection(c) = &e.fact { Some(c.clone()) } else { None })
            .collect()
    })
}

pub(crate) fn requests(store: &Store) -> Vec<ServerRequest> {
    store.with(|all| {
        all.iter()
            .filter_map(|e| if let Fact::Request(r) = &e.fact { Some(r.clone()) } else { None })
            .collect()
    })
}

/// The installed nginx; none, with a printed reason, where there is none and it is not required.
pub(crate) fn nginx() -> Option<PathBuf> {
    let found = find_nginx();
    if found.is_none() {
        let required = std::env::var("MESHPROOF_REQUIRE_INSTALLED").is_ok_and(|v| v == "1");
        assert!(!required, "nginx is required by MESHPROOF_REQUIRE_INSTALLED=1 and is not installed");
        #[expect(clippy::print_stdout, reason = "the tests' output must show what was skipped")]
        {
            println!("skipped: nginx is not installed");
        }
    }
    found
}
