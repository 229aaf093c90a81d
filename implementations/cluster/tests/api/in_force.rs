//! What `verify --target cluster` reads of a namespace, and what it leaves in the cluster.

use meshproof_cluster::doctor::{as_text_of_reading, examine_reading};
use meshproof_cluster::in_force::{InForce, in_force};
use meshproof_model::Resource;
use serde_json::{Value, json};

use crate::service::{ApiAnswer, ApiRequest, FakeApi, discovery};

const KEY: &str = "LS0tLS1CRUdJTiBQUklWQVRFIEtFWS0tLS0t";

fn object(namespace: &str, name: &str, spec: &Value) -> Value {
    json!({
        "metadata": {
            "name": name, "namespace": namespace, "creationTimestamp": "2026-01-01T00:00:00Z", "uid": "u",
            "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{}"},
            "managedFields": [{"manager": "kubectl"}],
        },
        "spec": spec, "status": {"conditions": []},
    })
}

fn pod(namespace: &str, name: &str, labels: &Value, containers: &Value) -> Value {
    let mut pod = object(namespace, name, &json!({"serviceAccountName": "shop", "containers": containers}));
    pod["metadata"]["labels"] = labels.clone();
    pod["metadata"]["ownerReferences"] = json!([{"kind": "ReplicaSet", "name": "cart-5d4f"}]);
    pod["status"] = json!({"phase": "Running"});
    pod
}

fn injector(namespace: &str) -> Value {
    json!({
        "metadata": {"name": "istio-sidecar-injector", "labels": {"istio.io/rev": "1-32"}},
        "webhooks": [{
            "name": "rev.namespace.sidecar-injector.istio.io",
            "clientConfig": {"service": {"namespace": namespace}},
            "namespaceSelector": {
                "matchExpressions": [{"key": "istio.io/rev", "operator": "In", "values": ["1-32"]}],
            },
        }],
    })
}

/// Namespace `shop` with two replicas of `cart`, a rule with a credential, a gateway in `edge`, an entry in `team`.
fn shop(asked: &ApiRequest) -> ApiAnswer {
    assert_eq!(asked.method, "GET", "reading changes nothing: {asked:?}");
    if let Some(answer) = discovery(asked) {
        return answer;
    }
    let labels = json!({"app": "cart", "pod-template-hash": "5d4f", "version": "v1", "chart": "cart-1.2"});
    let application = json!({"name": "cart", "env": [{"name": "PASSWORD", "value": "hunter2"}],
        "ports": [{"name": "web", "containerPort": 8181}]});
    let proxy = json!({"name": "istio-proxy", "args": ["proxy", "sidecar"]});
    let router = json!({"name": "istio-proxy", "args": ["proxy", "router"]});
    match asked.path.as_str() {
        "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations" => {
            ApiAnswer::list("1", &[injector("mesh")])
        }
        "/api/v1/namespaces/mesh/configmaps/istio-1-32" => {
            ApiAnswer::json(&json!({"metadata": {"name": "istio-1-32", "namespace": "mesh"},
                "data": {"mesh": "outboundTrafficPolicy: {mode: REGISTRY_ONLY}", "other": "x"}}))
        }
        "/apis/networking.istio.io/v1/destinationrules" => ApiAnswer::list(
            "1",
            &[object(
                "shop",
                "partner",
                &json!({
                    "host": "partner.test", "workloadSelector": {"matchLabels": {"app": "cart"}},
                    "trafficPolicy": {"tls": {"mode": "MUTUAL", "credentialName": "partner"}},
                }),
            )],
        ),
        "/apis/networking.istio.io/v1/gateways" => ApiAnswer::list(
            "1",
            &[object(
                "edge",
                "out",
                &json!({
                    "selector": {"istio": "out"}, "servers": [],
                }),
            )],
        ),
        "/apis/networking.istio.io/v1/serviceentries" => ApiAnswer::list(
            "1",
            &[object(
                "team",
                "partner",
                &json!({
                    "hosts": ["partner.test"], "ports": [{"number": 80, "name": "http", "protocol": "HTTP"}],
                    "resolution": "DNS",
                }),
            )],
        ),
        "/api/v1/services" => ApiAnswer::list(
            "1",
            &[object(
                "shop",
                "cart",
                &json!({
                    "selector": {"app": "cart"}, "clusterIP": "10.0.0.7", "sessionAffinity": "None",
                    "ports": [{"name": "http", "port": 80, "targetPort": "web"}],
                }),
            )],
        ),
        "/api/v1/pods" => ApiAnswer::list(
            "1",
            &[
                pod("shop", "cart-5d4f-a", &labels, &json!([application, proxy])),
                pod("shop", "cart-5d4f-b", &labels, &json!([application, proxy])),
                pod("edge", "out-1", &json!({"istio": "out"}), &json!([router])),
            ],
        ),
        "/api/v1/namespaces/shop/secrets/partner" => ApiAnswer::json(&json!({
            "metadata": {"name": "partner", "namespace": "shop"}, "type": "kubernetes.io/tls",
            "data": {"tls.crt": "YQ==", "tls.key": KEY, "ca.crt": ""},
        })),
        path if path.contains("/secrets/") => ApiAnswer::absent("secret"),
        _ => ApiAnswer::list("1", &[]),
    }
}

async fn read(answer: impl FnMut(&ApiRequest) -> ApiAnswer + Send + 'static) -> InForce {
    in_force(&FakeApi::reading(answer).api, None, "shop").await.unwrap()
}

fn of<'a>(read: &'a InForce, kind: &str) -> Vec<&'a Resource> {
    read.resources.iter().filter(|r| r.kind() == kind).collect()
}

#[tokio::test]
async fn what_decides_is_read_from_all_namespaces_and_what_others_keep_in_objects_is_left() {
    let read = read(shop).await;
    assert!(read.whole && read.secrets && read.unread.is_empty(), "{read:?}");
    let ids: Vec<String> = read.resources.iter().map(|r| r.id().to_string()).collect();
    for id in ["ConfigMap mesh/istio", "ServiceEntry team/partner", "Gateway edge/out", "Secret shop/partner"]
    {
        assert!(ids.iter().any(|i| i == id), "{id}: {ids:?}");
    }
    assert_eq!(read.own, 4, "the rule, the Service, one workload, the Secret: {ids:?}");
    let text = format!("{:?}", read.resources);
    for left in ["managedFields", "last-applied", "hunter2", "chart", "sessionAffinity", "other"] {
        assert!(!text.contains(left), "{left}: {text}");
    }
    assert_eq!(of(&read, "DestinationRule")[0].api_version(), "networking.istio.io/v1");
}

#[tokio::test]
async fn a_secret_is_read_for_the_names_of_its_keys_where_a_proxy_would_read_it() {
    let api = FakeApi::reading(shop);
    let read = in_force(&api.api, None, "shop").await.unwrap();
    let secrets = of(&read, "Secret");
    assert_eq!(secrets.len(), 1);
    let keys: Vec<&String> = secrets[0].0["stringData"].as_object().unwrap().keys().collect();
    assert_eq!(keys, ["tls.crt", "tls.key"], "a key without a value counts as missing");
    assert!(!format!("{read:?}").contains(KEY));
    let mut places: Vec<String> = api.asked().into_iter().map(|a| a.path).collect();
    places.retain(|p| p.contains("/secrets"));
    places.sort();
    let expected = ["edge", "mesh", "shop"].map(|ns| {
        let of = |name: &str| format!("/api/v1/namespaces/{ns}/secrets/{name}");
        [of("partner"), of("partner-cacert")]
    });
    assert_eq!(places, expected.concat());
}

#[tokio::test]
async fn replicas_are_one_workload_with_the_labels_that_something_selects_by() {
    let read = read(shop).await;
    let pods = of(&read, "Pod");
    let cart = pods.iter().find(|p| p.name() == "cart").unwrap();
    assert_eq!(cart.0["metadata"]["labels"], json!({"app": "cart"}));
    assert_eq!(cart.0["metadata"]["annotations"]["sidecar.istio.io/inject"], "true");
    assert_eq!(cart.0["spec"]["serviceAccountName"], "shop");
    let gateway = pods.iter().find(|p| p.namespace() == "edge").unwrap();
    assert_eq!(gateway.0["metadata"]["annotations"]["inject.istio.io/templates"], "gateway");
    assert_eq!(pods.len(), 2);
    assert_eq!(
        of(&read, "Service")[0].0["spec"]["ports"][0]["targetPort"],
        8181,
        "the container's port `web`"
    );
}

#[tokio::test]
async fn an_account_of_one_namespace_reads_it_and_says_what_it_did_not_read() {
    let read = read(|asked: &ApiRequest| {
        let namespaced = asked.path.contains("/namespaces/shop/");
        let listed = asked.path.rsplit('/').next().unwrap_or_default();
        if discovery(asked).is_some() {
            return shop(asked);
        }
        if !namespaced || asked.path.contains("/secrets/") {
            return ApiAnswer::status(403, "Forbidden", "User \"a\" cannot do this");
        }
        let whole = ApiRequest { path: asked.path.replace("/namespaces/shop", ""), ..asked.clone() };
        if listed == "destinationrules" { shop(&whole) } else { ApiAnswer::list("1", &[]) }
    })
    .await;
    assert!(!read.whole && !read.secrets);
    assert_eq!(of(&read, "DestinationRule").len(), 1);
    let unread = read.unread.join("\n");
    for words in ["no ServiceEntry in other namespaces", "the Secrets that credentials name", "istio-system"]
    {
        assert!(unread.contains(words), "{words}: {unread}");
    }
}

#[tokio::test]
async fn the_doctor_reviews_what_reading_needs_and_nothing_else() {
    let answer = |asked: &ApiRequest| {
        let wanted = asked.body["spec"]["resourceAttributes"].clone();
        match asked.path.as_str() {
            "/version" => ApiAnswer::json(&json!({"major": "1", "minor": "34", "gitVersion": "v1.34.0"})),
            "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews" => {
                let refused = match wanted["resource"].as_str().unwrap() {
                    "secrets" | "sidecars" => true,
                    "serviceentries" => wanted["namespace"].is_null(),
                    _ => false,
                };
                ApiAnswer::json(&json!({"status": {"allowed": !refused}}))
            }
            _ => shop(asked),
        }
    };
    let api = FakeApi::reading(answer);
    insta::assert_snapshot!(as_text_of_reading(&examine_reading(&api.api, None, "shop").await, "shop"));
    let fine = FakeApi::reading(|asked: &ApiRequest| match asked.path.as_str() {
        "/version" => ApiAnswer::json(&json!({"major": "1", "minor": "34", "gitVersion": "v1.34.0"})),
        path if path.ends_with("selfsubjectaccessreviews") => {
            ApiAnswer::json(&json!({"status": {"allowed": true}}))
        }
        _ => shop(asked),
    });
    let text = as_text_of_reading(&examine_reading(&fine.api, None, "shop").await, "shop");
    assert!(text.ends_with("meshproof can read what is in force in namespace shop\n"), "{text}");
}
