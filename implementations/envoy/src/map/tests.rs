//! The mapping of the documents' plans, and of each decision on its own.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use meshproof_harness::manifest;
use meshproof_plan::model::{
    Action, ChainMatch, ClientCertificate, Cluster, Direction, Discovery, DownstreamTls, FilterChain,
    Forward, HeaderChanges, HttpRoutes, Listener, NameCheck, OriginalDestination, Origination, PathMatch,
    ProxyPlan, Role, Route, RouteAction, RouteMatch, ServerName, StringMatch, Transport, Trust,
    UpstreamProtocol, UpstreamTls, VirtualHost, WeightedCluster,
};
use meshproof_plan::{Endpoint, Input, MeshConfig, Proxy, ProxyKind, Service, ServicePort, resolve};
use serde_json::{Value, json};

use super::secrets::{SecretContent, SecretFile, used};
use super::*;

fn at(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

fn secret_files(names: &[&str]) -> BTreeMap<String, SecretFile> {
    let each = |(n, name): (usize, &&str)| {
        let path = PathBuf::from(format!("/proxy/sds-{n}.json"));
        ((*name).to_owned(), SecretFile { path, version: format!("s{n}") })
    };
    names.iter().enumerate().map(each).collect()
}

fn config(plan: &ProxyPlan) -> ProxyConfig {
    let names: Vec<String> = used(plan, &[], Path::new("/proxy")).into_keys().collect();
    let secrets = secret_files(&names.iter().map(String::as_str).collect::<Vec<_>>());
    ProxyConfig::of(plan, &MappingContext { folder: Path::new("/proxy"), secrets: &secrets }).unwrap()
}

// The documents' plans.

fn document(files: &[&str], proxy: &str) -> Value {
    let mut resources = Vec::new();
    for file in files {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures").join(file);
        let yaml = std::fs::read_to_string(path).unwrap();
        resources.extend(manifest::read(file, &yaml, "default").unwrap());
    }
    let identity = |ns: &str, account: &str| format!("spiffe://cluster.local/ns/{ns}/sa/{account}");
    let gateway = identity("istio-system", "istio-egressgateway-service-account");
    let proxies = [
        Proxy {
            name: "sleep".to_owned(),
            namespace: "default".to_owned(),
            kind: ProxyKind::Sidecar,
            labels: BTreeMap::from([("app".to_owned(), "sleep".to_owned())]),
            identity: identity("default", "sleep"),
            outbound: vec![(80, at(9080)), (443, at(9443))],
            addressed: Vec::new(),
            inbound: Vec::new(),
            servers: Vec::new(),
        },
        Proxy {
            name: "istio-egressgateway".to_owned(),
            namespace: "istio-system".to_owned(),
            kind: ProxyKind::Gateway,
            labels: BTreeMap::from([("istio".to_owned(), "egressgateway".to_owned())]),
            identity: gateway.clone(),
            outbound: Vec::new(),
            addressed: Vec::new(),
            inbound: Vec::new(),
            servers: vec![(80, at(10080)), (443, at(10443))],
        },
    ];
    let port =
        |number, name: &str, protocol: &str, address: SocketAddr, identity: Option<&String>| ServicePort {
            number,
            name: name.to_owned(),
            protocol: protocol.to_owned(),
            endpoints: vec![Endpoint {
                address,
                identity: identity.cloned(),
                mesh_tls: false,
                labels: BTreeMap::new(),
            }],
            ..ServicePort::default()
        };
    let registry = [
        Service {
            host: "istio-egressgateway.istio-system.svc.cluster.local".to_owned(),
            namespace: "istio-system".to_owned(),
            ports: vec![
                port(80, "http2", "HTTP2", at(10080), Some(&gateway)),
                port(443, "https", "HTTPS", at(10443), Some(&gateway)),
            ],
            ..Service::default()
        },
        Service {
            host: "my-nginx.mesh-external.svc.cluster.local".to_owned(),
            namespace: "mesh-external".to_owned(),
            ports: vec![port(443, "", "", at(11443), None)],
            ..Service::default()
        },
    ];
    let place = |host: &str, port, address| OriginalDestination { host: host.to_owned(), port, address };
    let endpoints = [place("edition.cnn.com", 80, at(12080)), place("edition.cnn.com", 443, at(12443))];
    let mesh = MeshConfig::default();
    let input = Input {
        resources: &resources,
        registry: &registry,
        workloads: &[],
        proxies: &proxies,
        endpoints: &endpoints,
        mesh: &mesh,
    };
    let resolution = resolve(&input).unwrap();
    let plan = resolution.plan.proxies.iter().find(|p| p.name == proxy).unwrap();
    let config = config(plan);
    let credentials: BTreeMap<_, _> = config
        .clusters
        .iter()
        .filter(|(_, c)| !c.credentials.is_empty())
        .map(|(n, c)| (n, &c.credentials))
        .collect();
    json!({
        "credentials": credentials,
        "clusters": config.clusters.iter().map(|(n, c)| (n, &*c.value)).collect::<BTreeMap<_, _>>(),
        "listeners": config.listeners.iter().map(|(n, l)| (n, &*l.value)).collect::<BTreeMap<_, _>>(),
        "routes": config.routes.iter().map(|(n, r)| (n, &*r.value)).collect::<BTreeMap<_, _>>(),
    })
}

#[test]
fn the_sidecar_of_the_port_rewrite_is_configured_as_reviewed() {
    let files =
        ["sidecar-origination/port-rewrite-access.yaml", "sidecar-origination/port-rewrite-originate.yaml"];
    insta::assert_json_snapshot!(document(&files, "sleep"));
}

#[test]
fn the_gateway_of_mutual_origination_is_configured_as_reviewed() {
    let files = [
        "egress-gateway-mutual/gateway.yaml",
        "egress-gateway-mutual/route.yaml",
        "egress-gateway-mutual/originate.yaml",
    ];
    insta::assert_json_snapshot!(document(&files, "istio-egressgateway"));
}

// Decision by decision.

fn origination() -> Origination {
    Origination {
        sni: ServerName::FromHost,
        trust: Trust::SystemRoots,
        names: NameCheck::FromHost,
        client_certificate: None,
        alpn: Vec::new(),
        min_version: None,
        max_version: None,
        credential: None,
        crl_file: None,
    }
}

fn cluster(name: &str, discovery: Discovery, tls: Option<UpstreamTls>) -> Cluster {
    Cluster { name: name.to_owned(), discovery, protocol: UpstreamProtocol::Http1, tls }
}

fn forward(to: &str) -> Forward {
    Forward { clusters: vec![WeightedCluster::new(to, 1)], ..Forward::default() }
}

fn route(action: RouteAction) -> Route {
    Route { name: "r".to_owned(), matches: RouteMatch::default(), action }
}

fn plan(chains: Vec<FilterChain>, clusters: Vec<Cluster>, direction: Direction) -> ProxyPlan {
    let listener = Listener { name: "0.0.0.0_443".to_owned(), port: 443, bind: at(9443), direction, chains };
    ProxyPlan {
        name: "p".to_owned(),
        namespace: "default".to_owned(),
        role: Role::Sidecar,
        identity: String::new(),
        listeners: vec![listener],
        clusters,
    }
}

fn tcp(transport: Transport, names: &[&str], to: &str) -> FilterChain {
    FilterChain {
        name: to.to_owned(),
        matches: ChainMatch { transport, server_names: names.iter().map(|&n| n.to_owned()).collect() },
        tls: None,
        action: Action::Tcp { cluster: to.to_owned() },
    }
}

fn http(routes: Vec<Route>) -> FilterChain {
    let virtual_host =
        VirtualHost { name: "v".to_owned(), domains: vec!["*".to_owned()], routes, require_tls: false };
    FilterChain {
        name: "plain".to_owned(),
        matches: ChainMatch { transport: Transport::Plain, server_names: Vec::new() },
        tls: None,
        action: Action::Http(HttpRoutes { name: "443".to_owned(), virtual_hosts: vec![virtual_host] }),
    }
}

fn routed(routes: Vec<Route>, clusters: Vec<Cluster>) -> Vec<Value> {
    let config = config(&plan(vec![http(routes)], clusters, Direction::Outbound));
    config.routes["443"].value["virtual_hosts"][0]["routes"].as_array().unwrap().clone()
}

fn only_cluster(tls: Origination) -> Value {
    let cluster = cluster("c", Discovery::Endpoints(vec![at(1)]), Some(UpstreamTls::Originate(tls)));
    config(&plan(Vec::new(), vec![cluster], Direction::Outbound)).clusters["c"].value.as_ref().clone()
}

fn chains(config: &ProxyConfig) -> Vec<Value> {
    let listener = config.listeners.values().next().unwrap();
    listener.value["filter_chains"].as_array().unwrap().clone()
}

fn anywhere(hosts: &[(&str, u16)]) -> Cluster {
    let places = hosts.iter().map(|(host, to)| OriginalDestination {
        host: (*host).to_owned(),
        port: 443,
        address: at(*to),
    });
    cluster("PassthroughCluster", Discovery::OriginalDestination(places.collect()), None)
}

const OPTIONS: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";

#[test]
fn names_come_from_the_host_only_where_the_plan_says_so() {
    let names = |o: Origination| {
        only_cluster(o)["typed_extension_protocol_options"][OPTIONS]["upstream_http_protocol_options"].clone()
    };
    assert_eq!(names(origination()), json!({"auto_sni": true, "auto_san_validation": true}));
    let fixed = Origination {
        sni: ServerName::Fixed("a.example".to_owned()),
        names: NameCheck::ChainOnly,
        ..origination()
    };
    assert_eq!(names(fixed.clone()), json!({"auto_sni": false, "auto_san_validation": false}));
    assert_eq!(only_cluster(fixed)["transport_socket"]["typed_config"]["sni"], "a.example");
    let anybody = Origination { trust: Trust::Anybody, ..origination() };
    assert_eq!(names(anybody)["auto_san_validation"], false);
}

#[test]
fn verification_is_off_only_where_the_plan_trusts_anybody() {
    let validation = |o| {
        only_cluster(o)["transport_socket"]["typed_config"]["common_tls_context"]
        ["combined_validation_context"].clone()
    };
    assert_eq!(validation(Origination { trust: Trust::Anybody, ..origination() }), Value::Null);
    let system = validation(origination());
    assert_eq!(system["validation_context_sds_secret_config"], json!({"name": "file-root:system"}));
    let named = Origination { names: NameCheck::OneOf(vec!["a.example".to_owned()]), ..origination() };
    let names = &validation(named)["default_validation_context"]["match_typed_subject_alt_names"];
    assert_eq!(names[0], json!({"san_type": "DNS", "matcher": {"exact": "a.example"}}));
}

#[test]
fn a_rotated_credential_changes_the_configuration_and_not_the_cluster_that_envoy_gets() {
    let mutual = Origination {
        trust: Trust::Credential("c".to_owned()),
        client_certificate: Some(ClientCertificate::Credential("c".to_owned())),
        ..origination()
    };
    let cluster = cluster("c", Discovery::Endpoints(vec![at(1)]), Some(UpstreamTls::Originate(mutual)));
    let plan = plan(Vec::new(), vec![cluster], Direction::Gateway);
    let with = |version: &str| {
        let mut secrets = secret_files(&["kubernetes://c", "kubernetes://c-cacert"]);
        version.clone_into(&mut secrets.get_mut("kubernetes://c").unwrap().version);
        ProxyConfig::of(&plan, &MappingContext { folder: Path::new("/proxy"), secrets: &secrets }).unwrap()
    };
    assert_ne!(with("s1").clusters, with("s2").clusters);
    assert_eq!(with("s1").clusters, with("s1").clusters);
    let value = |version: &str| with(version).clusters["c"].value.as_ref().clone();
    assert_eq!(value("s1"), value("s2"));
    assert_eq!(with("s2").clusters["c"].credentials["kubernetes://c"], "s2");
    assert_eq!(value("s1")["name"], "c");
}

#[test]
fn a_credential_without_roots_is_missing_as_roots_and_present_as_a_pair() {
    let mutual = Origination {
        trust: Trust::Credential("c".to_owned()),
        client_certificate: Some(ClientCertificate::Credential("c".to_owned())),
        ..origination()
    };
    let cluster = cluster("c", Discovery::Endpoints(vec![at(1)]), Some(UpstreamTls::Originate(mutual)));
    let plan = plan(Vec::new(), vec![cluster], Direction::Gateway);
    let credential = meshproof_plan::model::Credential {
        name: "c".to_owned(),
        certificate: Some("CERT".to_owned()),
        key: Some("KEY".to_owned()),
        ca: Some(String::new()),
        crl: None,
    };
    let found = used(&plan, &[credential], Path::new("/proxy"));
    assert_eq!(found["kubernetes://c-cacert"], None);
    let pair = SecretContent::Pair { certificate: "CERT".to_owned(), key: "KEY".to_owned() };
    assert_eq!(found["kubernetes://c"], Some(pair));
}

#[test]
fn a_cluster_that_uses_its_clients_protocol_offers_no_fixed_alpn() {
    let mesh = UpstreamTls::MeshMutual {
        sni: "s".to_owned(),
        peer_identities: Vec::new(),
        alpn: vec!["istio-h2".to_owned(), "h2".to_owned()],
    };
    let offered = |protocol| {
        let cluster = Cluster { protocol, ..cluster("c", Discovery::Nowhere, Some(mesh.clone())) };
        let config = config(&plan(Vec::new(), vec![cluster], Direction::Outbound));
        config.clusters["c"].value["transport_socket"]["typed_config"]["common_tls_context"]["alpn_protocols"]
            .clone()
    };
    assert_eq!(offered(UpstreamProtocol::Downstream), json!([]));
    assert_eq!(offered(UpstreamProtocol::Http2), json!(["istio-h2", "h2"]));
}

#[test]
fn an_original_destination_is_found_by_server_name_and_by_host_on_its_port() {
    let other_port = OriginalDestination { host: "c.example".to_owned(), port: 80, address: at(3) };
    let mut passthrough = anywhere(&[("a.example", 1), ("b.example", 2)]);
    if let Discovery::OriginalDestination(all) = &mut passthrough.discovery {
        all.push(other_port);
    }
    let through = tcp(Transport::Tls, &[], "PassthroughCluster");
    let routes = vec![route(RouteAction::Forward(forward("PassthroughCluster")))];
    let config = config(&plan(vec![through, http(routes)], vec![passthrough], Direction::Outbound));
    let names: Vec<Value> =
        chains(&config).iter().map(|c| c["filter_chain_match"]["server_names"].clone()).collect();
    assert_eq!(names, [json!(["a.example"]), json!(["b.example"]), Value::Null, Value::Null]);
    let chosen =
        |value: &Value| value["metadata_match"]["filter_metadata"]["envoy.lb"]["destination"].clone();
    let first = &chains(&config)[0]["filters"][0]["typed_config"];
    assert_eq!((chosen(first), &first["cluster"]), (json!("127.0.0.1:1"), &json!("PassthroughCluster")));
    let routes = config.routes["443"].value["virtual_hosts"][0]["routes"].as_array().unwrap().clone();
    let to: Vec<Value> = routes.iter().map(|r| chosen(&r["route"])).collect();
    assert_eq!(to, ["127.0.0.1:1", "127.0.0.1:2", "unresolved"]);
    let regex = &routes[0]["match"]["headers"][0]["string_match"]["safe_regex"]["regex"];
    assert_eq!(regex, "(?i)a\\.example(:[0-9]+)?");
    // What passes through is not retried.
    assert_eq!(routes[0]["route"]["retry_policy"], Value::Null);
}

#[test]
fn an_original_destinations_exact_name_does_not_precede_a_pattern_that_the_plan_tries_first() {
    let wild = tcp(Transport::Tls, &["*.example"], "wild");
    let through = tcp(Transport::Tls, &[], "PassthroughCluster");
    let clusters =
        vec![cluster("wild", Discovery::Nowhere, None), anywhere(&[("a.example", 1), ("other", 2)])];
    let config = config(&plan(vec![wild, through], clusters, Direction::Outbound));
    let names: Vec<Value> =
        chains(&config).iter().map(|c| c["filter_chain_match"]["server_names"].clone()).collect();
    assert_eq!(names, [json!(["*.example"]), json!(["other"]), Value::Null]);
}

#[test]
fn of_two_chains_with_one_condition_the_first_is_kept() {
    let chain = |to| tcp(Transport::Tls, &["a.example"], to);
    let config = config(&plan(vec![chain("first"), chain("second")], Vec::new(), Direction::Gateway));
    assert_eq!(chains(&config).len(), 1);
    assert_eq!(chains(&config)[0]["filters"][0]["typed_config"]["cluster"], "first");
}

#[test]
fn envoy_inspects_the_first_bytes_only_where_a_chain_depends_on_them() {
    let inspectors = |transport| {
        let config = config(&plan(vec![tcp(transport, &[], "c")], Vec::new(), Direction::Inbound));
        config.listeners.values().next().unwrap().value["listener_filters"].as_array().unwrap().len()
    };
    assert_eq!((inspectors(Transport::Any), inspectors(Transport::Tls)), (0, 1));
}

#[test]
fn a_mesh_server_demands_a_certificate_and_a_plain_one_has_no_tls() {
    let mut secure = http(Vec::new());
    secure.tls = Some(DownstreamTls::MeshMutual);
    secure.matches.transport = Transport::Tls;
    let config = config(&plan(vec![secure, http(Vec::new())], Vec::new(), Direction::Inbound));
    let sockets: Vec<Value> = chains(&config).iter().map(|c| c["transport_socket"].clone()).collect();
    assert_eq!(sockets[0]["typed_config"]["require_client_certificate"], true);
    assert_eq!(sockets[1], Value::Null);
    // Both chains have the same routes, and so one route configuration.
    assert_eq!(config.routes.len(), 1);
}

#[test]
fn equal_route_names_with_other_content_stay_apart() {
    let mut second = http(vec![route(RouteAction::DirectResponse { status: 200, body: "b".to_owned() })]);
    second.matches.transport = Transport::Tls;
    let config = config(&plan(vec![http(Vec::new()), second], Vec::new(), Direction::Outbound));
    assert_eq!(config.routes.keys().collect::<Vec<_>>(), ["443", "443#2"]);
    assert_eq!(config.routes["443#2"].value["name"], "443#2");
}

#[test]
fn conditions_changes_and_weights_keep_their_meaning() {
    let mut weighted = forward("a");
    weighted.clusters.push(WeightedCluster::new("b", 3));
    weighted.host_rewrite = Some("h.example".to_owned());
    weighted.path_rewrite = Some("/new".to_owned());
    weighted.timeout_ms = Some(1500);
    weighted.request_headers = HeaderChanges {
        remove: vec!["x-gone".to_owned()],
        set: vec![("x-set".to_owned(), "1".to_owned())],
        add: vec![("x-add".to_owned(), "2".to_owned())],
    };
    let mut one = route(RouteAction::Forward(weighted));
    one.matches = RouteMatch {
        path: PathMatch::Prefix("/a".to_owned()),
        headers: BTreeMap::from([(":method".to_owned(), StringMatch::Exact("GET".to_owned()))]),
        query: BTreeMap::from([("q".to_owned(), StringMatch::Prefix(String::new()))]),
        ..RouteMatch::default()
    };
    let value = routed(vec![one], Vec::new()).remove(0);
    assert_eq!(
        value["match"],
        json!({
            "prefix": "/a",
            "headers": [{"name": ":method", "string_match": {"exact": "GET"}}],
            "query_parameters": [{"name": "q", "present_match": true}],
        })
    );
    let action = &value["route"];
    assert_eq!(action["weighted_clusters"]["clusters"][1], json!({"name": "b", "weight": 3}));
    assert_eq!(
        (&action["host_rewrite_literal"], &action["prefix_rewrite"]),
        (&json!("h.example"), &json!("/new"))
    );
    assert_eq!(action["timeout"], "1.500s");
    assert_eq!(value["request_headers_to_remove"], json!(["x-gone"]));
    let actions: Vec<&Value> =
        value["request_headers_to_add"].as_array().unwrap().iter().map(|o| &o["append_action"]).collect();
    assert_eq!(actions, ["OVERWRITE_IF_EXISTS_OR_ADD", "APPEND_IF_EXISTS_OR_ADD"]);
}

#[test]
fn a_redirect_status_that_envoy_cannot_send_is_unsupported() {
    let redirect = |status| {
        let action = RouteAction::Redirect {
            status,
            scheme: None,
            authority: None,
            path: None,
            prefix: None,
            port: None,
        };
        let plan = plan(vec![http(vec![route(action)])], Vec::new(), Direction::Gateway);
        let secrets = BTreeMap::new();
        ProxyConfig::of(&plan, &MappingContext { folder: Path::new("/proxy"), secrets: &secrets })
    };
    assert!(redirect(308).is_ok());
    assert!(matches!(redirect(300), Err(DataPlaneError::Unable(why)) if why.contains("300")));
}

#[test]
fn names_that_differ_only_in_odd_characters_get_different_files() {
    assert_ne!(file_name("rds", "inbound|80||"), file_name("rds", "inbound_80__"));
    assert!(file_name("rds", "../../a/b").starts_with("rds-.._.._a_b-"));
}

// From one configuration to the next.

fn serving(direction: Direction, host: &str, cluster_name: &str) -> ProxyConfig {
    let mut chain = http(vec![route(RouteAction::Forward(forward(cluster_name)))]);
    if let Action::Http(http) = &mut chain.action {
        http.virtual_hosts[0].name = host.to_owned();
        http.virtual_hosts[0].domains = vec![host.to_owned()];
    }
    config(&plan(vec![chain], vec![cluster(cluster_name, Discovery::Nowhere, None)], direction))
}

fn hosts(config: &ProxyConfig) -> Vec<String> {
    let hosts = config.routes["443"].value["virtual_hosts"].as_array().unwrap();
    hosts.iter().map(|h| h["name"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn receivers_serve_both_configurations_until_senders_have_switched() {
    let (old, new) = (serving(Direction::Gateway, "old", "a"), serving(Direction::Gateway, "new", "b"));
    let prepared = bridge::prepared(&old, &new);
    assert_eq!(hosts(&prepared), ["new", "old"]);
    assert_eq!(prepared.clusters.keys().collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(hosts(&bridge::moved(&prepared, &new)), ["new", "old"]);
}

#[test]
fn senders_keep_their_configuration_until_everything_is_prepared() {
    let (old, new) = (serving(Direction::Outbound, "old", "a"), serving(Direction::Outbound, "new", "b"));
    let prepared = bridge::prepared(&old, &new);
    assert_eq!(hosts(&prepared), ["old"]);
    assert_eq!(prepared.clusters.keys().collect::<Vec<_>>(), ["a", "b"]);
    let moved = bridge::moved(&prepared, &new);
    assert_eq!(hosts(&moved), ["new"]);
    assert_eq!(moved.clusters.len(), 2);
}

#[test]
fn a_taken_domain_and_a_taken_server_name_are_not_served_twice() {
    let chain = |to: &str| tcp(Transport::Tls, &["a.example"], to);
    let listening = |to: &str| config(&plan(vec![chain(to)], Vec::new(), Direction::Gateway));
    let prepared = bridge::prepared(&listening("old"), &listening("new"));
    assert_eq!(chains(&prepared).len(), 1);
    let (mut old, new) = (serving(Direction::Gateway, "h", "a"), serving(Direction::Gateway, "h", "b"));
    Arc::make_mut(&mut old.routes.get_mut("443").unwrap().value)["virtual_hosts"][0]["name"] =
        json!("another name");
    assert_eq!(hosts(&bridge::prepared(&old, &new)), ["h"]);
}
