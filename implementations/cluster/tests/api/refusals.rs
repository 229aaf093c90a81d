//! The API server says no: who is to blame, and what mends it.

use meshproof_cluster::api::ApiError;
use meshproof_harness::target::TargetError;
use meshproof_model::{Resource, ResourceId};
use serde_json::{Value, json};

use crate::service::{Answer, Cluster, discovery};

fn resource(api_version: &str, kind: &str) -> Resource {
    Resource(json!({
        "apiVersion": api_version, "kind": kind, "metadata": { "name": "cnn", "namespace": "default" }, "spec": {},
    }))
}

fn gateway() -> Resource {
    resource("networking.istio.io/v1", "Gateway")
}

/// Applies one resource to an API that always answers so, and returns the error and how often it was asked.
async fn applied(resource: &Resource, code: u16, reason: &str, message: &str) -> (ApiError, usize) {
    let (reason, message) = (reason.to_owned(), message.to_owned());
    let cluster = Cluster::answering(move |_| Answer::status(code, &reason, &message));
    let error = cluster.api.apply(resource).await.unwrap_err();
    (error, cluster.asked().len())
}

#[tokio::test]
async fn an_account_without_permission_is_told_which_and_where_and_not_asked_again() {
    let cluster = Cluster::answering(|_| {
        Answer::status(
            403,
            "Forbidden",
            "pods is forbidden: User \"a\" cannot list resource \"pods\" in API group \"\" in the namespace \"mp-1\"",
        )
    });
    let error = cluster.api.list("Pod", Some("mp-1"), None).await.unwrap_err();
    insta::assert_snapshot!(error.to_string());
    assert!(matches!(error.blame(), TargetError::Environment(_)));
    assert_eq!(cluster.asked().len(), 1);
}

#[tokio::test]
async fn a_quota_is_no_permission() {
    let (error, _) = applied(
        &resource("apps/v1", "Deployment"),
        403,
        "Forbidden",
        "deployments.apps \"x\" is forbidden: exceeded quota: few",
    )
    .await;
    assert!(matches!(error, ApiError::Rejected { implementation: false, .. }), "{error}");
    assert!(error.to_string().contains("exceeded quota"), "{error}");
}

#[tokio::test]
async fn a_custom_resource_that_is_not_served_is_a_lack_of_the_cluster_and_no_verdict() {
    let cluster = Cluster::answering(|asked| match asked.path.as_str() {
        "/apis" => {
            Answer::json(&json!({ "groups": [{ "name": "apps", "versions": [{ "version": "v1" }] }] }))
        }
        _ => Answer::Whole(404, Vec::new(), "404 page not found\n".into()),
    });
    let listed = cluster.api.list("VirtualService", None, None).await.unwrap_err();
    let applied = cluster.api.apply(&gateway()).await.unwrap_err();
    insta::assert_snapshot!(listed.to_string());
    assert!(matches!(applied, ApiError::NotServed(_)), "{applied}");
    assert!(matches!(applied.blame(), TargetError::Environment(_)));
}

#[tokio::test]
async fn what_is_absent_is_none_and_deleting_it_is_fine() {
    let cluster = Cluster::answering(|_| Answer::absent("secrets \"client\""));
    assert_eq!(cluster.api.get("Secret", "default", "client").await.unwrap(), None);
    let id = ResourceId { kind: "Secret".into(), namespace: "default".into(), name: "client".into() };
    cluster.api.delete(&id).await.unwrap();
}

#[tokio::test]
async fn what_the_implementation_refuses_is_its_refusal_in_its_words() {
    let webhook = "admission webhook \"rev.validation.istio.io\" denied the request: configuration is invalid: no hosts";
    let validation = "Gateway.networking.istio.io \"cnn\" is invalid: spec.servers: Required value";
    let unknown = "failed to create typed patch object (default/cnn; networking.istio.io/v1, Kind=Gateway): \
                   .spec.x: field not declared in schema";
    let policy = "gateways.networking.istio.io \"cnn\" is forbidden: ValidatingAdmissionPolicy \
                  'stable-channel-policy-default.istio.io' with binding 'b' denied request: not stable";
    for (code, reason, message) in [
        (400, "BadRequest", webhook),
        (422, "Invalid", validation),
        (500, "InternalError", unknown),
        (422, "Invalid", policy),
    ] {
        let (error, asked) = applied(&gateway(), code, reason, message).await;
        assert_eq!(asked, 1, "{message}");
        match error.blame() {
            TargetError::Refused(words) => {
                assert!(words.contains(message) && words.contains("default/cnn"), "{words}")
            }
            other => panic!("{message}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn what_somebody_else_in_the_cluster_refuses_is_the_environments() {
    let policy = "admission webhook \"validate.kyverno.svc-fail\" denied the request: gateways.networking.istio.io are not allowed";
    let other = "Deployment.apps \"x\" is invalid: spec: Required value";
    let deployment = resource("apps/v1", "Deployment");
    for (resource, code, message) in [(&gateway(), 400, policy), (&deployment, 422, other)] {
        let (error, _) = applied(resource, code, "", message).await;
        assert!(matches!(error.blame(), TargetError::Environment(_)), "{message}");
    }
}

#[tokio::test]
async fn an_account_that_is_not_known_is_told_to_renew_its_credentials() {
    let (error, asked) = applied(&gateway(), 401, "Unauthorized", "Unauthorized").await;
    insta::assert_snapshot!(error.to_string());
    assert_eq!(asked, 1);
}

#[tokio::test]
async fn an_answer_that_is_no_json_is_the_environments() {
    let cluster =
        Cluster::answering(|_| Answer::Whole(200, Vec::new(), "<html>captive portal</html>".into()));
    let error = cluster.api.get("Pod", "default", "a").await.unwrap_err();
    assert!(error.to_string().contains("not JSON"), "{error}");
}

#[tokio::test]
async fn what_is_applied_says_who_applies_it_and_lets_no_unknown_field_pass() {
    let cluster = Cluster::answering(|asked| discovery(asked).unwrap_or_else(|| Answer::json(&asked.body)));
    let namespace = Resource(json!({
        "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": "mp-1", "namespace": "default" },
    }));
    let answered = cluster.api.apply(&namespace).await.unwrap();
    assert_eq!(answered.pointer("/metadata/namespace"), None::<&Value>, "a namespace lies in none");
    let asked = &cluster.asked()[0];
    assert!(asked.is("PATCH", "/api/v1/namespaces/mp-1"));
    assert_eq!(asked.parameter("fieldManager").as_deref(), Some("meshproof"));
    assert_eq!(asked.parameter("force").as_deref(), Some("true"));
    assert_eq!(asked.parameter("fieldValidation").as_deref(), Some("Strict"));
}
