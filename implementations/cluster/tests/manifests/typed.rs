//! Validation against the types of the oldest supported Kubernetes: a round trip through them loses fields
//! that they do not have.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Secret, Service, ServiceAccount};
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::everything;

pub(crate) fn again<T: DeserializeOwned + Serialize>(value: &Value) -> Result<Value, String> {
    let typed: T = serde_json::from_value(value.clone()).map_err(|e| e.to_string())?;
    serde_json::to_value(typed).map_err(|e| e.to_string())
}

fn read_and_written(kind: &str, value: &Value) -> Option<Result<Value, String>> {
    Some(match kind {
        "Namespace" => again::<Namespace>(value),
        "ConfigMap" => again::<ConfigMap>(value),
        "Secret" => again::<Secret>(value),
        "Service" => again::<Service>(value),
        "ServiceAccount" => again::<ServiceAccount>(value),
        "Deployment" => again::<Deployment>(value),
        "Role" => again::<Role>(value),
        "RoleBinding" => again::<RoleBinding>(value),
        _ => return None,
    })
}

#[test]
fn kubernetes_resources_survive_a_round_trip_through_its_types() {
    let mut held = 0;
    for (name, resources) in everything() {
        for resource in resources.iter().filter(|r| !r.api_version().contains(".istio.io/")) {
            let written = read_and_written(resource.kind(), &resource.0)
                .unwrap_or_else(|| panic!("{name}: {} has no type here", resource.id()));
            let written = written.unwrap_or_else(|e| panic!("{name}: {}: {e}", resource.id()));
            assert_eq!(written, resource.0, "{name}: {}", resource.id());
            held += 1;
        }
    }
    assert!(held > 100, "{held} resources");
}

#[test]
fn a_field_that_kubernetes_does_not_know_is_noticed() {
    let pod = serde_json::json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "n"}, "spec":
        {"port": 80}});
    assert_ne!(read_and_written("Service", &pod).unwrap().unwrap(), pod);
}
