//! HTTP routes (route/route.go).

use meshproof_plan::RetryPolicy;
use meshproof_plan::cluster_state::ClusterState;
use meshproof_plan::model::{
    HeaderChanges, PathMatch, RouteAction, RouteMatch, StringMatch, WeightedCluster,
};

use crate::manifest;
use crate::world::{Ask, INGRESS, SLEEP, World, virtual_host};

const HOST: &str = "a.example.com";

fn mesh(routes: &str) -> String {
    format!(
        "
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: a}}
spec:
  hosts: [a.example.com]
  http:
{routes}
"
    )
}

fn to(host: &str) -> String {
    format!("route: [{{destination: {{host: {host}, port: {{number: 8080}}}}}}]")
}

fn cluster(host: &str) -> String {
    format!("outbound|8080||{host}.default.svc.cluster.local")
}

#[test]
fn routes_are_tried_as_written_and_not_by_length() {
    let routes = format!(
        "  - match: [{{uri: {{prefix: /a}}}}]\n    {}\n  - match: [{{uri: {{prefix: /a/b}}}}]\n    {}\n",
        to("first"),
        to("second")
    );
    let plan = World::new().resolve(&mesh(&routes)).plan;
    assert_eq!(plan.goes_to(SLEEP, 80, HOST, "/a/b"), Some(cluster("first").as_str()));
}

#[test]
fn what_follows_a_catch_all_is_dropped() {
    for catch_all in
        ["", "match: [{uri: {prefix: /}}]", "match: [{uri: {regex: '.*'}}]", "match: [{name: every}]"]
    {
        let first =
            if catch_all.is_empty() { to("first") } else { format!("{catch_all}\n    {}", to("first")) };
        let routes = format!("  - {first}\n  - match: [{{uri: {{prefix: /a}}}}]\n    {}\n", to("second"));
        let plan = World::new().resolve(&mesh(&routes)).plan;
        let routes = vhost_routes(&plan, SLEEP, HOST);
        assert_eq!(routes.len(), 1, "{catch_all}");
    }
}

#[test]
fn a_condition_beside_the_root_prefix_makes_it_no_catch_all() {
    let conditions = [
        "{uri: {prefix: /}, headers: {x: {exact: '1'}}}",
        "{uri: {prefix: /}, queryParams: {x: {exact: '1'}}}",
        "{uri: {prefix: /}, method: {exact: GET}}",
        "{uri: {exact: /}}",
    ];
    for condition in conditions {
        let routes = format!("  - match: [{condition}]\n    {}\n  - {}\n", to("first"), to("second"));
        let plan = World::new().resolve(&mesh(&routes)).plan;
        assert_eq!(vhost_routes(&plan, SLEEP, HOST).len(), 2, "{condition}");
    }
}

fn vhost_routes<'a>(
    plan: &'a meshproof_plan::model::Plan,
    proxy: &str,
    host: &str,
) -> &'a [meshproof_plan::model::Route] {
    use crate::world::Listeners;
    let listener = plan.proxy(proxy).listener(80);
    let hosts = listener.chains.iter().find_map(|c| match &c.action {
        meshproof_plan::model::Action::Http(http) => Some(&http.virtual_hosts),
        meshproof_plan::model::Action::Tcp { .. } | meshproof_plan::model::Action::TcpWeighted(_) => None,
    });
    &virtual_host(hosts.expect("an HTTP chain"), host).expect("a virtual host").routes
}

#[test]
fn every_kind_of_match_is_carried_over() {
    let routes = format!(
        "  - name: r
    match:
    - name: m
      uri: {{exact: /x}}
      method: {{exact: GET}}
      authority: {{prefix: a.}}
      headers: {{X-Token: {{regex: '[a-z]+'}}, x-any: {{}}}}
      queryParams: {{q: {{exact: '1'}}}}
    {}
",
        to("first")
    );
    let plan = World::new().resolve(&mesh(&routes)).plan;
    let [route] = vhost_routes(&plan, SLEEP, HOST) else { panic!("one route") };
    assert_eq!(route.name, "r.m");
    let wanted = RouteMatch {
        path: PathMatch::Exact("/x".to_owned()),
        headers: [
            (":authority", StringMatch::Prefix("a.".to_owned())),
            (":method", StringMatch::Exact("GET".to_owned())),
            ("x-any", StringMatch::Present),
            ("x-token", StringMatch::Regex("[a-z]+".to_owned())),
        ]
        .map(|(n, m)| (n.to_owned(), m))
        .into(),
        query: [("q".to_owned(), StringMatch::Exact("1".to_owned()))].into(),
        ..RouteMatch::default()
    };
    assert_eq!(route.matches, wanted);
}

#[test]
fn a_match_on_port_labels_or_namespace_decides_whether_there_is_a_route() {
    let conditions = [
        ("{port: 80}", true),
        ("{port: 443}", false),
        ("{sourceLabels: {app: sleep}}", true),
        ("{sourceLabels: {app: other}}", false),
        ("{sourceNamespace: default}", true),
        ("{sourceNamespace: other}", false),
        ("{gateways: [mesh]}", true),
        ("{gateways: [g]}", false),
        // Named gateways decide alone (sourceMatchHTTP).
        ("{gateways: [mesh], sourceLabels: {app: other}}", true),
    ];
    for (condition, there) in conditions {
        let routes = format!("  - match: [{condition}]\n    {}\n", to("first"));
        let plan = World::new().resolve(&mesh(&routes)).plan;
        let wanted = if there { cluster("first") } else { "PassthroughCluster".to_owned() };
        assert_eq!(plan.goes_to(SLEEP, 80, HOST, "/"), Some(wanted.as_str()), "{condition}");
    }
}

#[test]
fn setting_host_or_authority_is_a_host_rewrite_and_no_header() {
    for name in ["Host", ":authority", "host"] {
        let routes = format!(
            "  - {}\n    headers: {{request: {{set: {{'{name}': b.example.com, X-A: '1'}}}}}}\n",
            to("first")
        );
        let plan = World::new().resolve(&mesh(&routes)).plan;
        let forward = plan.forward(SLEEP, 80, HOST, "/").expect("a forward");
        assert_eq!(forward.host_rewrite.as_deref(), Some("b.example.com"), "{name}");
        assert_eq!(forward.request_headers.set, [("x-a".to_owned(), "1".to_owned())]);
    }
}

#[test]
fn a_rewrite_at_the_route_goes_before_one_at_the_destination() {
    let at_destination = "route:
    - destination: {host: first, port: {number: 8080}}
      headers: {request: {set: {Host: destination.example.com, x-b: '2'}, remove: [X-C]}, response: {add: {X-D: '4'}}}";
    let plan = World::new().resolve(&mesh(&format!("  - {at_destination}\n"))).plan;
    let forward = plan.forward(SLEEP, 80, HOST, "/").expect("a forward");
    assert_eq!(forward.host_rewrite.as_deref(), Some("destination.example.com"));
    let request = HeaderChanges {
        remove: vec!["x-c".to_owned()],
        set: vec![("x-b".to_owned(), "2".to_owned())],
        add: Vec::new(),
    };
    assert_eq!(forward.request_headers, request);
    assert_eq!(forward.response_headers.add, [("x-d".to_owned(), "4".to_owned())]);
    let both = format!("  - {at_destination}\n    rewrite: {{authority: route.example.com, uri: /new}}\n");
    let plan = World::new().resolve(&mesh(&both)).plan;
    let forward = plan.forward(SLEEP, 80, HOST, "/").expect("a forward");
    assert_eq!(forward.host_rewrite.as_deref(), Some("route.example.com"));
    assert_eq!(forward.path_rewrite.as_deref(), Some("/new"));
}

#[test]
fn weights_are_shares_and_a_weight_of_nothing_is_left_out() {
    let routes = "  - route:
    - {destination: {host: first, port: {number: 1}}, weight: 75}
    - {destination: {host: second, port: {number: 2}}, weight: 25}
    - {destination: {host: third, port: {number: 3}}, weight: 0}
    timeout: 1.5s
";
    let plan = World::new().resolve(&mesh(routes)).plan;
    let forward = plan.forward(SLEEP, 80, HOST, "/").expect("a forward");
    let share = |cluster: &str, weight| WeightedCluster::new(cluster, weight);
    let wanted = [
        share("outbound|1||first.default.svc.cluster.local", 75),
        share("outbound|2||second.default.svc.cluster.local", 25),
    ];
    assert_eq!(forward.clusters, wanted);
    assert_eq!(forward.timeout_ms, Some(1_500));
}

#[test]
fn a_destination_without_a_port_takes_the_port_that_was_dialled() {
    let routes = "  - route: [{destination: {host: welcome}}]\n";
    let plan = World::new().resolve(&mesh(routes)).plan;
    // On a sidecar a service counts with the ports that equal the listener's alone.
    let wanted = "outbound|80||welcome.default.svc.cluster.local";
    assert_eq!(plan.goes_to(SLEEP, 80, HOST, "/"), Some(wanted));
}

#[test]
fn a_destination_without_a_port_takes_the_only_port_of_its_service_on_a_gateway() {
    let manifest = "
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: g}
spec:
  selector: {istio: ingressgateway}
  servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ['*']}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: a}
spec:
  hosts: ['*']
  gateways: [g]
  http: [{route: [{destination: {host: welcome}}]}]
";
    let plan = World::new().resolve(manifest).plan;
    assert_eq!(plan.goes_to(INGRESS, 80, HOST, "/"), Some(cluster("welcome").as_str()));
}

#[test]
fn a_short_destination_is_of_the_virtual_services_namespace() {
    let manifest =
        mesh(&format!("  - {}\n", to("first"))).replace("{name: a}", "{name: a, namespace: other}");
    let plan = World::new().resolve(&manifest).plan;
    assert_eq!(plan.goes_to(SLEEP, 80, HOST, "/"), Some("outbound|8080||first.other.svc.cluster.local"));
}

#[test]
fn a_redirect_leaves_out_the_default_port_and_a_direct_response_has_its_body() {
    let routes = "  - match: [{uri: {prefix: /r}}]
    redirect: {scheme: https, port: 443, authority: b.example.com, uri: /x, redirectCode: 302}
  - match: [{uri: {prefix: /p}}]
    redirect: {derivePort: FROM_REQUEST_PORT, scheme: https}
  - directResponse: {status: 503, body: {string: gone}}
";
    let plan = World::new().resolve(&mesh(routes)).plan;
    let action = |path: &str| plan.route(SLEEP, 80, HOST, path).expect("a route").action.clone();
    let some = |text: &str| Some(text.to_owned());
    let redirect = RouteAction::Redirect {
        status: 302,
        scheme: some("https"),
        authority: some("b.example.com"),
        path: some("/x"),
        prefix: None,
        port: None,
    };
    assert_eq!(action("/r"), redirect);
    let derived = RouteAction::Redirect {
        status: 301,
        scheme: some("https"),
        authority: None,
        path: None,
        prefix: None,
        port: Some(80),
    };
    assert_eq!(action("/p"), derived);
    assert_eq!(action("/"), RouteAction::DirectResponse { status: 503, body: "gone".to_owned() });
}

#[test]
fn a_redirect_to_port_0_names_no_port() {
    let plan = World::new().resolve(&mesh("  - redirect: {port: 0, uri: /x}\n")).plan;
    let route = plan.route(SLEEP, 80, HOST, "/").expect("a route");
    assert!(matches!(route.action, RouteAction::Redirect { port: None, .. }), "{:?}", route.action);
}

#[test]
fn the_retry_policy_of_the_mesh_is_that_of_routes_without_their_own() {
    let routes = "  - match: [{uri: {prefix: /own}}]
    route: [{destination: {host: edition.cnn.com}}]
    retries: {attempts: 1, retryOn: '503'}
  - route: [{destination: {host: edition.cnn.com}}]
";
    let mut world = World::new();
    world.mesh.retries = Some(RetryPolicy { attempts: 5, on: "5xx".to_owned() });
    let retry = |world: &World, path: &str| {
        let plan = world.resolve(&mesh(routes)).plan;
        let route = plan.route(SLEEP, 80, HOST, path).expect("a route");
        match &route.action {
            RouteAction::Forward(to) => to.retry.as_ref().map(|r| (r.on.clone(), r.attempts)),
            other @ (RouteAction::DirectResponse { .. } | RouteAction::Redirect { .. }) => {
                panic!("{other:?}")
            }
        }
    };
    assert_eq!(retry(&world, "/"), Some(("5xx".to_owned(), 5)));
    assert_eq!(retry(&world, "/own"), Some((",retriable-status-codes".to_owned(), 1)));
    world.mesh.retries = Some(RetryPolicy::default());
    assert_eq!(retry(&world, "/"), None);
}

#[test]
fn the_retry_policy_of_the_mesh_comes_from_mesh_config() {
    let config = "apiVersion: install.istio.io/v1alpha1
kind: IstioOperator
metadata: {name: mesh}
spec: {meshConfig: {defaultHttpRetryPolicy: {attempts: 3, retryOn: 5xx}}}
";
    let state = ClusterState::from_resources(&manifest::read(config));
    assert_eq!(state.mesh.retries, Some(RetryPolicy { attempts: 3, on: "5xx".to_owned() }));
}
