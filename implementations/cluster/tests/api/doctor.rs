//! What the doctor says of clusters of several kinds.

use meshproof_cluster::doctor::{as_text, examine, refusal};
use meshproof_cluster::{ClusterTarget, Gateways, Settings};
use meshproof_harness::target::{Target, TargetError};
use serde_json::{Value, json};

use crate::service::{Answer, Asked, Cluster, discovery};

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

/// A cluster as it should be: Kubernetes 1.34 on kind, Istio 1.30.1, every permission, every image.
fn fine(asked: &Asked) -> Answer {
    if let Some(answer) = discovery(asked) {
        return answer;
    }
    let values = json!({ "global": { "hub": "istio", "tag": "1.30.1", "proxy": { "image": "proxyv2" } } });
    match asked.path.as_str() {
        "/version" => Answer::json(&json!({ "major": "1", "minor": "34", "gitVersion": "v1.34.0" })),
        "/api/v1/nodes" => Answer::list(
            "1",
            &[node(&["docker.io/curlimages/curl:8.16.0", "docker.io/library/nginx:1.28.0"])],
        ),
        "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews" => {
            Answer::json(&json!({ "status": { "allowed": true } }))
        }
        "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations" => {
            Answer::list("1", &[injector()])
        }
        "/api/v1/namespaces/istio-system/pods" => Answer::list("1", &[istiod()]),
        "/api/v1/namespaces/istio-system/configmaps/istio-sidecar-injector" => {
            Answer::json(&json!({ "data": { "values": values.to_string() } }))
        }
        // Nothing listens where istiod would tell its version: its label serves.
        path if path.ends_with("/portforward") => Answer::status(400, "BadRequest", "no"),
        _ if asked.method == "GET" => Answer::list("1", &[]),
        _ => panic!("the doctor changes nothing: {asked:?}"),
    }
}

async fn says(settings: &Settings, answer: impl FnMut(&Asked) -> Answer + Send + 'static) -> String {
    let cluster = Cluster::answering(answer);
    as_text(&examine(&cluster.api, settings).await)
}

#[tokio::test]
async fn a_cluster_as_it_should_be() {
    insta::assert_snapshot!(says(&Settings::default(), fine).await);
}

#[tokio::test]
async fn a_cluster_without_a_mesh_and_with_things_left_in_it() {
    let bare = |asked: &Asked| match asked.path.as_str() {
        "/apis" => {
            Answer::json(&json!({ "groups": [{ "name": "apps", "versions": [{ "version": "v1" }] }] }))
        }
        "/api/v1/nodes" => Answer::list("1", &[node(&[])]),
        "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations" => Answer::list("1", &[]),
        "/api/v1/namespaces" => Answer::list(
            "1",
            &[json!({
                "metadata": { "name": "mp-1-x-default", "labels": { "meshproof.dev/run": "1", "meshproof.dev/scenario": "x" } },
            })],
        ),
        _ => fine(asked),
    };
    insta::assert_snapshot!(says(&Settings::default(), bare).await);
}

#[tokio::test]
async fn a_weaker_role_than_the_shipped_one_is_told_verb_by_verb_and_a_run_refuses_in_the_same_words() {
    let weak = |asked: &Asked| {
        let wanted = &asked.body["spec"]["resourceAttributes"];
        let refused = wanted["subresource"] == "exec"
            || wanted["resource"] == "nodes"
            || (wanted["resource"] == "secrets" && wanted["verb"] != "get");
        if asked.method == "POST" && refused {
            return Answer::json(&json!({ "status": { "allowed": false } }));
        }
        if asked.path == "/api/v1/nodes" {
            return Answer::status(403, "Forbidden", "User \"a\" cannot list resource \"nodes\"");
        }
        fine(asked)
    };
    let cluster = Cluster::answering(weak);
    let findings = examine(&cluster.api, &Settings::default()).await;
    insta::assert_snapshot!(as_text(&findings));
    insta::assert_snapshot!("weaker_role_refusal", refusal(&findings).unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_cluster_that_does_not_answer() {
    insta::assert_snapshot!(says(&Settings::default(), |_| Answer::Reset).await);
}

#[tokio::test]
async fn a_cluster_that_is_too_old_with_installed_gateways_that_are_not_there_and_images_that_may_not_be_pulled()
 {
    let old = |asked: &Asked| match asked.path.as_str() {
        "/version" => Answer::json(&json!({ "major": "1", "minor": "29+", "gitVersion": "v1.29.9-gke.1" })),
        "/api/v1/nodes" => Answer::list("1", &[node(&[])]),
        "/api/v1/namespaces/edge/pods" => Answer::list("1", &[]),
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
async fn pull_secrets_that_are_copied_that_are_somebody_elses_business_and_that_are_none() {
    let secret = |kind: &str| Answer::json(&json!({ "metadata": { "name": "s" }, "type": kind, "data": {} }));
    let some = move |asked: &Asked| match asked.path.as_str() {
        "/api/v1/namespaces/ops/secrets/registry" => secret("kubernetes.io/dockerconfigjson"),
        "/api/v1/namespaces/ops/secrets/password" => secret("Opaque"),
        "/api/v1/namespaces/ops/secrets/lost" => Answer::absent("lost"),
        _ => fine(asked),
    };
    let names = ["ops/registry", "mirror", "ops/password", "ops/lost"];
    let settings = Settings {
        pull_secrets: names.iter().map(|name| name.parse().unwrap()).collect(),
        ..Settings::default()
    };
    insta::assert_snapshot!(says(&settings, some).await);
}

#[tokio::test]
async fn words_of_the_cluster_cannot_act_on_a_terminal() {
    let hostile = |asked: &Asked| match asked.path.as_str() {
        "/version" => Answer::json(&json!({ "major": "1", "minor": "34", "gitVersion": "v\u{1b}[2J\n" })),
        _ => fine(asked),
    };
    let text = says(&Settings::default(), hostile).await;
    assert!(!text.contains('\u{1b}'));
}

#[tokio::test]
async fn a_target_says_what_it_judges_and_refuses_a_cluster_that_is_not_fit() {
    let cluster = Cluster::answering(fine);
    let target = ClusterTarget::on(cluster.api.clone(), Settings::default());
    insta::assert_json_snapshot!(target.identify().await.unwrap());
    let unfit = Cluster::answering(|asked| match asked.method.as_str() {
        "POST" => Answer::json(&json!({ "status": { "allowed": false } })),
        _ => fine(asked),
    });
    let refused = ClusterTarget::on(unfit.api.clone(), Settings::default()).identify().await;
    let Err(TargetError::Environment(words)) = refused else { panic!("{refused:?}") };
    assert!(words.contains("rbac.yaml"), "{words}");
}

#[tokio::test]
async fn an_account_that_may_forward_no_ports_is_told_what_is_lost_and_may_run() {
    let weaker = |asked: &Asked| {
        let wanted = &asked.body["spec"]["resourceAttributes"];
        if asked.method == "POST" && wanted["subresource"] == "portforward" {
            return Answer::json(&json!({ "status": { "allowed": false } }));
        }
        fine(asked)
    };
    let cluster = Cluster::answering(weaker);
    let findings = examine(&cluster.api, &Settings::default()).await;
    let text = as_text(&findings);
    assert!(text.contains("may not get, create pods/portforward") && text.contains("pilot-agent"), "{text}");
    assert_eq!(refusal(&findings), None);
}
