//! Saboteurs of how servers are found.

use meshproof_harness::certificates::{Authority, Issued, KeyAlgorithm};
use meshproof_harness::external_server::{ExternalServer, Site};
use meshproof_harness::store::Store;
use meshproof_harness::timeouts::Timeouts;
use meshproof_harness::workload::RequestSpec;
use meshproof_local::data_plane::DataPlaneFactory as _;
use meshproof_local::external::{RunningService, start_embedded};
use meshproof_local::workload::{Route, WorkloadClient};
use meshproof_model::{Exchange, Resource};
use meshproof_plan::model::{Cluster, Credential, Discovery, UpstreamTls};
use serde_json::json;

use crate::support::plans::{self, EXTERNAL, HOST};
use crate::support::{Bench, free, reference};

async fn serving(server: ExternalServer, store: &Store) -> Box<dyn RunningService> {
    start_embedded(server.into_parts().0, store.clone(), &Timeouts::default()).await.unwrap()
}

/// Asks a proxy with this cluster once.
async fn asked(bench: &mut Bench, cluster: Cluster) -> Exchange {
    let bind = free();
    bench.apply(&plans::plan(vec![plans::sidecar(bind, cluster)])).await;
    let authority = Authority::new(KeyAlgorithm::EcdsaP256).unwrap();
    let route = Route::default().and(HOST, 80, bind);
    let client = WorkloadClient::new("sleep", route, authority.certificate_pem(), &Timeouts::default());
    let request = RequestSpec { times: 4, ..RequestSpec::get(format!("http://{HOST}/"), "t-1.00001") };
    client.unwrap().exchange(&request).await
}

#[tokio::test]
async fn an_endpoint_is_left_out() {
    for (saboteur, expected) in [(None, 2), (Some("first-endpoint"), 1)] {
        let (first, second) = (Store::default(), Store::default());
        let site = || Site::at(HOST).serving_in_clear().text("/", "hello");
        let servers = [serving(site(), &first).await, serving(site(), &second).await];
        let mut bench = Bench::with(reference(saboteur), "").await;
        let addresses = servers.iter().map(|s| s.address(80).unwrap()).collect();
        let cluster = plans::cluster(EXTERNAL, free(), None);
        asked(&mut bench, Cluster { discovery: Discovery::Endpoints(addresses), ..cluster }).await;
        let has_request = |store: &Store| store.with(|all| all.iter().any(|e| e.fact.as_request().is_some()));
        let used = [has_request(&first), has_request(&second)].into_iter().filter(|used| *used);
        assert_eq!(used.count(), expected, "{saboteur:?}");
    }
}

#[tokio::test]
async fn a_server_with_an_ipv6_address_is_not_reached() {
    if std::net::TcpListener::bind("[::1]:0").is_err() {
        eprintln!("skipped: this machine has no IPv6");
        return;
    }
    for (saboteur, status) in [(None, 200), (Some("no-ipv6"), 503)] {
        let server = Site::at(HOST).serving_in_clear().text("/", "hello").on_ipv6();
        let server = serving(server, &Store::default()).await;
        let mut bench = Bench::with(reference(saboteur), "").await;
        let exchange = asked(&mut bench, plans::cluster(EXTERNAL, server.address(80).unwrap(), None)).await;
        assert_eq!(exchange.last_response().unwrap().status, status, "{saboteur:?}");
    }
}

#[tokio::test]
async fn a_server_with_an_ipv6_address_is_not_verified() {
    if std::net::TcpListener::bind("[::1]:0").is_err() {
        eprintln!("skipped: this machine has no IPv6");
        return;
    }
    let unknown = Authority::new(KeyAlgorithm::EcdsaP256).unwrap();
    let system = Authority::new(KeyAlgorithm::EcdsaP256).unwrap();
    for (saboteur, by_ipv4, by_ipv6) in [(None, 503, 503), (Some("verify-ipv4-alone"), 503, 200)] {
        let site = || Site::at(HOST).certificate(&unknown.server(HOST).issue().unwrap()).text("/", "hello");
        for (server, expected) in [(site(), by_ipv4), (site().on_ipv6(), by_ipv6)] {
            let server = serving(server, &Store::default()).await;
            let mut bench = Bench::with(reference(saboteur), system.certificate_pem()).await;
            let tls = Some(UpstreamTls::Originate(plans::simple()));
            let exchange =
                asked(&mut bench, plans::cluster(EXTERNAL, server.address(443).unwrap(), tls)).await;
            assert_eq!(exchange.last_response().unwrap().status, expected, "{saboteur:?}");
        }
    }
}

#[tokio::test]
async fn a_credential_of_another_proxy_is_presented() {
    let public = Authority::new(KeyAlgorithm::EcdsaP256).unwrap();
    let clients = Authority::new(KeyAlgorithm::EcdsaP256).unwrap();
    let client = |serial| clients.client("client.example.com").serial(serial).issue().unwrap();
    let (own, other) = (client(1), client(2));
    for (saboteur, expected) in [(None, &own), (Some("credentials-of-another-proxy"), &other)] {
        let store = Store::default();
        let server = Site::at(HOST).certificate(&public.server(HOST).issue().unwrap());
        let server = serving(server.text("/", "hello").asking_clients_of(&clients), &store).await;
        let mut bench = Bench::with(reference(saboteur), "").await;
        let credential = |issued: &Issued| Credential {
            name: "client".to_owned(),
            certificate: Some(issued.certificate_pem().to_owned()),
            key: Some(issued.key().0),
            ca: Some(public.certificate_pem().to_owned()),
            crl: None,
        };
        bench.credential("sleep", credential(&own));
        bench.credential("istio-egressgateway", credential(&other));
        let tls = Some(UpstreamTls::Originate(plans::mutual("client")));
        asked(&mut bench, plans::cluster(EXTERNAL, server.address(443).unwrap(), tls)).await;
        let presented = store.with(|all| {
            let tls = all.iter().find_map(|e| e.fact.as_request()?.tls.clone());
            tls.and_then(|tls| tls.peer_certificate).map(|certificate| certificate.serial)
        });
        assert_eq!(presented.as_deref(), Some(expected.serial()), "{saboteur:?}");
    }
}

#[test]
fn delegates_and_sidecars_are_not_read() {
    let delegating = json!([{"delegate": {"name": "team"}}, {"route": []}]);
    let given: Vec<Resource> = [
        json!({"kind": "VirtualService", "spec": {"hosts": ["a.example"], "http": delegating}}),
        json!({"kind": "VirtualService", "spec": {"http": [{"route": []}]}}),
        json!({"kind": "Sidecar", "spec": {}}),
    ]
    .map(Resource)
    .into();
    let read = |saboteur| {
        let mut resources = given.clone();
        reference(saboteur).misread(&mut resources);
        resources
    };
    assert_eq!(read(None), given);
    let left = read(Some("ignore-delegates"));
    assert_eq!((left.len(), &left[0].0["spec"]["http"]), (2, &json!([{"route": []}])));
    assert_eq!(read(Some("ignore-sidecars")).len(), 2);
}
