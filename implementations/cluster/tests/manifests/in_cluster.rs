//! The manifests with which the suite runs inside a cluster.

use std::collections::BTreeSet;

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Container;
use meshproof_harness::manifest;
use meshproof_model::Resource;
use serde_json::Value;

use super::typed::again;

const RBAC: &str = include_str!("../../../../fixtures/cluster/rbac.yaml");
const JOB: &str = include_str!("../../../../fixtures/cluster/job.yaml");
const SONOBUOY: &str = include_str!("../../../../fixtures/cluster/sonobuoy.yaml");
const DOCKERFILE: &str = include_str!("../../../../Dockerfile");

fn job() -> Resource {
    manifest::read("job.yaml", JOB, "").unwrap().remove(0)
}

fn container(job: &Resource) -> &Value {
    &job.spec()["template"]["spec"]["containers"][0]
}

fn arguments(container: &Value) -> Vec<&str> {
    container["args"].as_array().unwrap().iter().filter_map(Value::as_str).collect()
}

#[test]
fn the_job_is_one_that_kubernetes_knows() {
    let job = job();
    assert_eq!(again::<Job>(&job.0).unwrap(), job.0);
}

#[test]
fn the_job_runs_under_the_account_of_the_permissions() {
    let rbac = manifest::read("rbac.yaml", RBAC, "").unwrap();
    let account = rbac.iter().find(|r| r.kind() == "ServiceAccount").unwrap();
    let job = job();
    let spec = &job.spec()["template"]["spec"];
    assert_eq!(
        (spec["serviceAccountName"].as_str(), job.namespace()),
        (Some(account.name()), account.namespace())
    );
    assert_ne!(spec["automountServiceAccountToken"], false);
}

#[test]
fn every_index_of_the_job_runs_a_shard_of_its_own_with_the_same_image() {
    let job = job();
    let completions = job.spec()["completions"].as_u64().unwrap();
    assert_eq!(job.spec()["completionMode"], "Indexed");
    assert_eq!(job.spec()["maxFailedIndexes"], completions, "a failed shard ends no other");
    let container = container(&job);
    let arguments = arguments(container);
    assert!(arguments.contains(&format!("--shard=index/{completions}").as_str()), "{arguments:?}");
    let image = container["image"].as_str().unwrap();
    assert!(arguments.contains(&format!("--image=suite={image}").as_str()), "{arguments:?}");
    assert!(image.ends_with(&format!(":{}", env!("CARGO_PKG_VERSION"))), "{image}");
}

#[test]
fn the_pods_user_is_the_one_of_the_image_and_its_program_too() {
    let user = DOCKERFILE.lines().find_map(|line| line.strip_prefix("USER ")).unwrap();
    let (user, group) = user.split_once(':').unwrap();
    let number: u64 = user.parse().unwrap();
    assert!(number > 0 && user == group);
    assert_eq!(job().spec()["template"]["spec"]["securityContext"]["runAsUser"], number);
    let program = meshproof_cluster::manifests::served::PROGRAM;
    assert!(DOCKERFILE.contains(&format!("ENTRYPOINT [\"{program}\"]")));
    assert!(DOCKERFILE.contains(&format!("COPY meshproof {program}")));
}

#[test]
fn the_plugin_is_a_container_with_the_members_that_sonobuoy_reads() {
    let plugin: Value = serde_saphyr::from_str(SONOBUOY).unwrap();
    let members =
        |value: &Value| -> BTreeSet<String> { value.as_object().unwrap().keys().cloned().collect() };
    assert_eq!(members(&plugin), ["sonobuoy-config", "spec"].map(str::to_owned).into());
    let config = ["driver", "plugin-name", "description", "source_url", "result-format"];
    assert_eq!(members(&plugin["sonobuoy-config"]), config.map(str::to_owned).into());
    assert_eq!(again::<Container>(&plugin["spec"]).unwrap(), plugin["spec"]);
    let script = arguments(&plugin["spec"])[0];
    let results = plugin["spec"]["volumeMounts"][0]["mountPath"].as_str().unwrap();
    for part in [results, "junit.xml", "--format=junit", "$results/done"] {
        assert!(script.contains(part), "{part}");
    }
    assert!(script.contains(&format!("--image=suite={}", plugin["spec"]["image"].as_str().unwrap())));
}
