//! The doctor's findings on several kinds of clusters.

use meshproof_cluster::doctor::{as_text, examine, refusal};
use meshproof_cluster::identify::installation;
use meshproof_cluster::{ClusterTarget, Gateways, Settings};
use meshproof_harness::feature::Feature;
use meshproof_harness::target::{Target, TargetError};
use serde_json::{Value, json};

use crate::service::{ApiAnswer, ApiRequest, FakeApi, discovery};

fn node(images: &[&str]) -> Value {
    json!({
        "metadata": { "name": "node" },
        "spec": { "providerID": "kind://docker/kind/kind-control-plane" },
        "status": {
            "conditions": [{ "type": "Ready", "status": "True" }],
            "nodeInfo": { "kubeletVersion": "v1.34.0" },
            "images": [{ "names": images }],
        },
    })
}

fn injector() -> Value {
    json!({
        "metadata": { "name": "istio-sidecar-injector", "labels": { "istio.io/rev": "default" } },
        "webhooks": [{
            "name": "namespace.sidecar-injector.istio.io",
            "clientConfig": { "service": { "namespace": "istio-system" } },
            "namespaceSelector": {
                "matchExpressions": [{ "key": "istio-injection", "operator": "In", "values": ["enabled"] }],
            },
        }],
    })
}

fn istiod() -> Value {
    json!({
        "metadata": {
            "name": "istiod-1", "namespace": "istio-system",
            "labels": { "app": "istiod", "istio.io/rev": "default", "app.kubernetes.io/version": "1.30.1" },
        },
        "status": { "conditions": [{ "type": "Ready", "status": "True" }] },
    })
}

/// A cluster on which meshproof can run: Kubernetes 1.34 on kind, Istio 1.30.1, every permission, every
/// image.
fn fine(asked: &ApiRequest) -> ApiAnswer {
    if let Some(answer) = discovery(asked) {
        return answer;
    }
    let values = json!({ "global": { "hub": "istio", "tag": "1.30.1", "proxy": { "image": "proxyv2" } } });
    match asked.path.as_str() {
        "/version" => ApiAnswer::json(&json!({ "major": "1", "minor": "34", "gitVersion": "v1.34.0" })),
        "/api/v1/nodes" => ApiAnswer::list(
            "1",
            &[node(&["docker.io/curlimages/curl:8.16.0", "docker.io/library/nginx:1.28.0"])],
        ),
        "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews" => {
            ApiAnswer::json(&json!({ "status": { "allowed": true } }))
        }
        "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations" => {
            ApiAnswer::list("1", &[injector()])
        }
        "/api/v1/namespaces/istio-system/pods" => ApiAnswer::list("1", &[istiod()]),
        "/api/v1/namespaces/istio-system/configmaps/istio-sidecar-injector" => {
            ApiAnswer::json(&json!({ "data": { "values": values.to_string() } }))
        }
        // istiod's own endpoint cannot be reached: its label has the version.
        path if path.ends_with("/portforward") => ApiAnswer::status(400, "BadRequest", "no"),
        _ if asked.method == "GET" => ApiAnswer::list("1", &[]),
        _ if asked.parameter("dryRun").as_deref() == Some("All") => ApiAnswer::json(&asked.body),
        _ => panic!("the doctor changes nothing: {asked:?}"),
    }
}

async fn says(settings: &Settings, answer: impl FnMut(&ApiRequest) -> ApiAnswer + Send + 'static) -> String {
    let cluster = FakeApi::answering(answer);
    as_text(&examine(&cluster.api, settings).await)
}

#[tokio::test]
async fn a_cluster_on_which_meshproof_can_run() {
    insta::assert_snapshot!(says(&Settings::default(), fine).await);
}

#[tokio::test]
async fn a_cluster_without_a_mesh_and_with_leftovers() {
    let bare = |asked: &ApiRequest| match asked.path.as_str() {
        "/apis" => {
            ApiAnswer::json(&json!({ "groups": [{ "name": "apps", "versions": [{ "version": "v1" }] }] }))
        }
        "/api/v1/nodes" => ApiAnswer::list("1", &[node(&[])]),
        "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations" => ApiAnswer::list("1", &[]),
        "/api/v1/namespaces" => ApiAnswer::list(
            "1",
            &[json!({
                "metadata": { "name": "mp-1-x-default", "labels": { "meshproof.dev/run": "1",
                    "meshproof.dev/scenario": "x" } },
            })],
        ),
        _ => fine(asked),
    };
    insta::assert_snapshot!(says(&Settings::default(), bare).await);
}

#[tokio::test]
async fn missing_permissions_are_listed_by_verb_and_a_run_refuses_in_the_same_words() {
    let weak = |asked: &ApiRequest| {
        let wanted = &asked.body["spec"]["resourceAttributes"];
        let refused = wanted["subresource"] == "exec"
            || wanted["resource"] == "nodes"
            || (wanted["resource"] == "secrets" && wanted["verb"] != "get");
        if asked.method == "POST" && refused {
            return ApiAnswer::json(&json!({ "status": { "allowed": false } }));
        }
        if asked.path == "/api/v1/nodes" {
            return ApiAnswer::status(403, "Forbidden", "User \"a\" cannot list resource \"nodes\"");
        }
        fine(asked)
    };
    let cluster = FakeApi::answering(weak);
    let findings = examine(&cluster.api, &Settings::default()).await;
    insta::assert_snapshot!(as_text(&findings));
    insta::assert_snapshot!("weaker_role_refusal", refusal(&findings).unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_cluster_that_does_not_answer() {
    insta::assert_snapshot!(says(&Settings::default(), |_| ApiAnswer::Reset).await);
}

#[tokio::test]
async fn a_cluster_that_is_too_old_without_the_installed_gateways_and_images_that_may_not_be_pulled() {
    let old = |asked: &ApiRequest| match asked.path.as_str() {
        "/version" => {
            ApiAnswer::json(&json!({ "major": "1", "minor": "29+", "gitVersion": "v1.29.9-gke.1" }))
        }
        "/api/v1/nodes" => ApiAnswer::list("1", &[node(&[])]),
        "/api/v1/namespaces/edge/pods" => ApiAnswer::list("1", &[]),
        _ => fine(asked),
    };
    let settings = Settings {
        gateways: Gateways::Installed { namespace: "edge".to_owned() },
        pull_policy: Some("Never".to_owned()),
        ..Settings::default()
    };
    insta::assert_snapshot!(says(&settings, old).await);
}

#[tokio::test]
async fn pull_secrets_that_are_copied_that_something_else_must_create_and_that_cannot_be_used() {
    let secret =
        |kind: &str| ApiAnswer::json(&json!({ "metadata": { "name": "s" }, "type": kind, "data": {} }));
    let some = move |asked: &ApiRequest| match asked.path.as_str() {
        "/api/v1/namespaces/ops/secrets/registry" => secret("kubernetes.io/dockerconfigjson"),
        "/api/v1/namespaces/ops/secrets/password" => secret("Opaque"),
        "/api/v1/namespaces/ops/secrets/lost" => ApiAnswer::absent("lost"),
        _ => fine(asked),
    };
    let names = ["ops/registry", "mirror", "ops/password", "ops/lost"];
    let settings = Settings {
        pull_secrets: names.iter().map(|name| name.parse().unwrap()).collect(),
        ..Settings::default()
    };
    insta::assert_snapshot!(says(&settings, some).await);
}

fn mesh_with_settings(asked: &ApiRequest) -> ApiAnswer {
    let named = |name: &str, spec: Value| json!({ "metadata": { "name": name }, "spec": spec });
    let mesh = "accessLogFormat: '%REQ(USER-AGENT)% %RESPONSE_CODE%'\n\
                outboundTrafficPolicy: {mode: REGISTRY_ONLY}\n\
                discoverySelectors: [{matchLabels: {mesh: enabled}}]\n\
                defaultConfig: {proxyMetadata: {ISTIO_META_DNS_CAPTURE: 'true'}}\n";
    match asked.path.as_str() {
        "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations" => {
            let mut tagged = injector();
            tagged["metadata"]["labels"]["istio.io/rev"] = "1-32".into();
            tagged["webhooks"][0]["namespaceSelector"]["matchExpressions"] =
                json!([{ "key": "istio.io/rev", "operator": "In", "values": ["1-32", "canary"] }]);
            ApiAnswer::list("1", &[injector(), tagged])
        }
        "/api/v1/namespaces/istio-system/configmaps/istio" => {
            ApiAnswer::json(&json!({ "data": { "mesh": mesh } }))
        }
        "/apis/security.istio.io/v1/namespaces/istio-system/authorizationpolicies" => {
            let policies =
                [named("allow-nothing", json!({})), named("no-plain", json!({ "action": "DENY" }))];
            ApiAnswer::list("1", &policies)
        }
        "/apis/security.istio.io/v1/namespaces/istio-system/peerauthentications" => {
            ApiAnswer::list("1", &[named("default", json!({ "mtls": { "mode": "STRICT" } }))])
        }
        "/apis/networking.istio.io/v1/namespaces/istio-system/destinationrules" => {
            let of_one =
                named("of-a-workload", json!({ "workloadSelector": { "matchLabels": { "app": "a" } } }));
            ApiAnswer::list("1", &[named("defaults", json!({ "host": "*" })), of_one])
        }
        _ => fine(asked),
    }
}

#[tokio::test]
async fn the_settings_of_a_mesh_are_shown_with_what_they_mean_for_a_run() {
    insta::assert_snapshot!(says(&Settings::default(), mesh_with_settings).await);
}

#[tokio::test]
async fn a_policy_that_refuses_the_runs_namespaces_is_found_before_a_run() {
    let strict = |asked: &ApiRequest| {
        let refuses = "admission webhook \"validate.kyverno.svc-fail\" denied the request: the label `team` is required";
        match asked.method.as_str() {
            "PATCH" => ApiAnswer::status(400, "BadRequest", refuses),
            _ => fine(asked),
        }
    };
    let text = says(&Settings::default(), strict).await;
    assert!(text.contains("PROBLEM  namespaces") && text.contains("the label `team` is required"), "{text}");
    assert!(text.contains("--namespace-label KEY=VALUE"), "{text}");
}

#[tokio::test]
async fn words_of_the_cluster_cannot_act_on_a_terminal() {
    let hostile = |asked: &ApiRequest| match asked.path.as_str() {
        "/version" => ApiAnswer::json(&json!({ "major": "1", "minor": "34", "gitVersion": "v\u{1b}[2J\n" })),
        _ => fine(asked),
    };
    let text = says(&Settings::default(), hostile).await;
    assert!(!text.contains('\u{1b}'));
}

#[tokio::test]
async fn a_target_identifies_the_implementation_and_refuses_an_unfit_cluster() {
    let cluster = FakeApi::answering(fine);
    let target = ClusterTarget::on(cluster.api.clone(), Settings::default());
    insta::assert_json_snapshot!(target.identify().await.unwrap());
    let unfit = FakeApi::answering(|asked| match asked.method.as_str() {
        "POST" => ApiAnswer::json(&json!({ "status": { "allowed": false } })),
        _ => fine(asked),
    });
    let refused = ClusterTarget::on(unfit.api.clone(), Settings::default()).identify().await;
    let Err(TargetError::Environment(words)) = refused else { panic!("{refused:?}") };
    assert!(words.contains("rbac.yaml"), "{words}");
}

#[tokio::test]
async fn without_permission_to_forward_ports_the_loss_is_reported_and_a_run_is_possible() {
    let weaker = |asked: &ApiRequest| {
        let wanted = &asked.body["spec"]["resourceAttributes"];
        if asked.method == "POST" && wanted["subresource"] == "portforward" {
            return ApiAnswer::json(&json!({ "status": { "allowed": false } }));
        }
        fine(asked)
    };
    let cluster = FakeApi::answering(weaker);
    let findings = examine(&cluster.api, &Settings::default()).await;
    let text = as_text(&findings);
    assert!(text.contains("may not get, create pods/portforward") && text.contains("pilot-agent"), "{text}");
    assert_eq!(refusal(&findings), None);
}

#[tokio::test]
async fn a_mesh_with_rules_for_every_namespace_is_recognized() {
    let found = async |answer: fn(&ApiRequest) -> ApiAnswer| {
        let cluster = FakeApi::answering(answer);
        installation(&cluster.api, None).await.unwrap().unwrap().injection.destination_rules
    };
    let of_a_workload = |asked: &ApiRequest| match asked.path.as_str() {
        "/apis/networking.istio.io/v1/namespaces/istio-system/destinationrules" => {
            let spec = json!({ "workloadSelector": { "matchLabels": { "app": "a" } } });
            ApiAnswer::list("1", &[json!({ "metadata": { "name": "one" }, "spec": spec })])
        }
        _ => fine(asked),
    };
    assert_eq!(
        (found(mesh_with_settings).await, found(of_a_workload).await, found(fine).await),
        (true, false, false)
    );
}

#[tokio::test]
async fn what_the_target_has_no_means_for_is_not_declared_with_that_reason() {
    let details = async |settings: Settings| {
        let cluster = FakeApi::answering(|asked| match asked.path.as_str() {
            "/api/v1/namespaces/edge/pods" => ApiAnswer::list("1", &[]),
            _ => fine(asked),
        });
        ClusterTarget::on(cluster.api.clone(), settings).identify().await.unwrap()
    };
    let by_curl = details(Settings::default()).await;
    for (feature, why) in
        [("tcp-origination", "--image suite=IMAGE"), ("web-socket", "--image suite=IMAGE"), ("mesh-ca", "CA")]
    {
        let said = &by_curl.details[&format!("without {feature}")];
        assert!(said.contains(why), "{feature}: {said}");
    }
    let undeclared = Feature::ALL.iter().filter(|feature| !by_curl.features.contains(&(**feature).into()));
    for feature in undeclared {
        assert!(by_curl.details.contains_key(&format!("without {feature}")), "{feature}");
    }
    let images = [("suite".to_owned(), "i".to_owned())].into();
    let with_suite = details(Settings { images, ..Settings::default() }).await;
    assert!(!with_suite.details.contains_key("without tcp-origination"));
}

#[tokio::test]
async fn a_pod_of_istiod_that_is_being_deleted_is_neither_counted_nor_asked() {
    let rollout = |asked: &ApiRequest| match asked.path.as_str() {
        "/api/v1/namespaces/istio-system/pods" => {
            let (mut leaving, mut starting, mut serving) = (istiod(), istiod(), istiod());
            leaving["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
            leaving["metadata"]["labels"]["app.kubernetes.io/version"] = "1.29.0".into();
            starting["metadata"]["name"] = "istiod-2".into();
            starting["status"] = json!({});
            serving["metadata"]["name"] = "istiod-3".into();
            ApiAnswer::list("1", &[leaving, starting, serving])
        }
        _ => fine(asked),
    };
    let cluster = FakeApi::answering(rollout);
    let found = installation(&cluster.api, None).await.unwrap().unwrap();
    assert_eq!((found.control_plane, found.version.as_str()), ((2, 1), "1.30.1"));
    let asked = cluster.asked.lock().unwrap();
    assert!(!asked.iter().any(|asked| asked.path.contains("/pods/istiod-1/")), "{asked:?}");
}

#[tokio::test]
async fn the_version_in_the_images_tag_counts_more_than_the_charts_label() {
    let version = async |image: &'static str| {
        let cluster = FakeApi::answering(move |asked| match asked.path.as_str() {
            "/api/v1/namespaces/istio-system/pods" => {
                let mut pod = istiod();
                pod["metadata"]["labels"]["app.kubernetes.io/version"] = "1.0.0".into();
                pod["spec"] = json!({ "containers": [{ "image": image }] });
                ApiAnswer::list("1", &[pod])
            }
            _ => fine(asked),
        });
        installation(&cluster.api, None).await.unwrap().unwrap().version
    };
    assert_eq!(version("registry:5000/istio/pilot:1.30.1-distroless@sha256:00").await, "1.30.1-distroless");
    assert_eq!(version("registry:5000/istio/pilot:latest").await, "1.0.0");
    assert_eq!(version("registry:5000/istio/pilot").await, "1.0.0");
}
