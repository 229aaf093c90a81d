//! The API server refuses: who is to blame, and what fixes it.

use meshproof_cluster::api::ApiError;
use meshproof_harness::target::TargetError;
use meshproof_model::{Resource, ResourceId};
use serde_json::{Value, json};

use crate::service::{ApiAnswer, FakeApi, discovery};

fn resource(api_version: &str, kind: &str) -> Resource {
    Resource(json!({
        "apiVersion": api_version, "kind": kind, "metadata": { "name": "cnn", "namespace": "default" },
            "spec": {},
    }))
}

fn gateway() -> Resource {
    resource("networking.istio.io/v1", "Gateway")
}

/// Applies one resource to an API that always gives this answer, and returns the error and the number of
/// requests.
async fn applied(resource: &Resource, code: u16, reason: &str, message: &str) -> (ApiError, usize) {
    let (reason, message) = (reason.to_owned(), message.to_owned());
    let cluster = FakeApi::answering(move |_| ApiAnswer::status(code, &reason, &message));
    let error = cluster.api.apply(resource).await.unwrap_err();
    (error, cluster.asked().len())
}

#[tokio::test]
async fn a_missing_permission_is_named_and_the_request_is_not_repeated() {
    let cluster = FakeApi::answering(|_| {
        ApiAnswer::status(
            403,
            "Forbidden",
            "pods is forbidden: User \"a\" cannot list resource \"pods\" in API group \"\" in the namespace \
             \"mp-1\"",
        )
    });
    let error = cluster.api.list("Pod", Some("mp-1"), None).await.unwrap_err();
    insta::assert_snapshot!(error.to_string());
    assert!(matches!(error.blame(), TargetError::Environment(_)));
    assert_eq!(cluster.asked().len(), 1);
}

#[tokio::test]
async fn a_quota_is_not_a_missing_permission() {
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
async fn a_custom_resource_that_is_not_served_is_the_environments_fault() {
    let cluster = FakeApi::answering(|asked| match asked.path.as_str() {
        "/apis" => {
            ApiAnswer::json(&json!({ "groups": [{ "name": "apps", "versions": [{ "version": "v1" }] }] }))
        }
        _ => ApiAnswer::Whole(404, Vec::new(), "404 page not found\n".into()),
    });
    let listed = cluster.api.list("VirtualService", None, None).await.unwrap_err();
    let applied = cluster.api.apply(&gateway()).await.unwrap_err();
    insta::assert_snapshot!(listed.to_string());
    assert!(matches!(applied, ApiError::NotServed(_)), "{applied}");
    assert!(matches!(applied.blame(), TargetError::Environment(_)));
}

#[tokio::test]
async fn an_absent_object_is_none_and_deleting_it_succeeds() {
    let cluster = FakeApi::answering(|_| ApiAnswer::absent("secrets \"client\""));
    assert_eq!(cluster.api.get("Secret", "default", "client").await.unwrap(), None);
    let id = ResourceId { kind: "Secret".into(), namespace: "default".into(), name: "client".into() };
    cluster.api.delete(&id).await.unwrap();
}

#[tokio::test]
async fn what_the_implementation_refuses_is_reported_as_its_refusal() {
    let webhook = "admission webhook \"rev.validation.istio.io\" denied the request: configuration is \
        invalid: no hosts";
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
async fn what_another_policy_of_the_cluster_refuses_is_the_environments_fault() {
    let policy = "admission webhook \"validate.kyverno.svc-fail\" denied the request: \
        gateways.networking.istio.io are not allowed";
    let other = "Deployment.apps \"x\" is invalid: spec: Required value";
    let deployment = resource("apps/v1", "Deployment");
    for (resource, code, reason, message, fix) in [
        (&gateway(), 400, "BadRequest", policy, "its administrator can allow it"),
        (&deployment, 422, "Invalid", other, "a defect of meshproof"),
    ] {
        let (error, _) = applied(resource, code, reason, message).await;
        let words = error.to_string();
        assert!(words.contains(fix), "{words}");
        assert!(matches!(error.blame(), TargetError::Environment(_)), "{message}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_webhook_that_does_not_answer_is_named_with_what_serves_it() {
    let webhook = |name: &str| {
        format!(
            "Internal error occurred: failed calling webhook \"{name}\": failed to call webhook: Post \
             \"https://istiod.istio-system.svc:443/validate?timeout=10s\": no endpoints available for service \"istiod\""
        )
    };
    let (error, _) = applied(&gateway(), 500, "InternalError", &webhook("rev.validation.istio.io")).await;
    insta::assert_snapshot!(error.to_string());
    assert!(matches!(error.blame(), TargetError::Environment(_)));
    let (error, _) = applied(&gateway(), 500, "InternalError", &webhook("validate.kyverno.svc-fail")).await;
    let words = error.to_string();
    assert!(words.contains("validate.kyverno.svc-fail") && !words.contains("istiod serves it"), "{words}");
    assert!(!words.contains("the API server cannot be used"), "{words}");
}

#[tokio::test]
async fn refused_credentials_are_reported_with_how_to_renew_them() {
    let (error, asked) = applied(&gateway(), 401, "Unauthorized", "Unauthorized").await;
    insta::assert_snapshot!(error.to_string());
    assert_eq!(asked, 1);
}

#[tokio::test]
async fn an_answer_that_is_not_json_is_the_environments_fault() {
    let cluster =
        FakeApi::answering(|_| ApiAnswer::Whole(200, Vec::new(), "<html>captive portal</html>".into()));
    let error = cluster.api.get("Pod", "default", "a").await.unwrap_err();
    assert!(error.to_string().contains("not JSON"), "{error}");
}

#[tokio::test]
async fn objects_are_applied_with_the_field_manager_and_strict_validation() {
    let cluster =
        FakeApi::answering(|asked| discovery(asked).unwrap_or_else(|| ApiAnswer::json(&asked.body)));
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
