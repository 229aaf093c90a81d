//! What istiod's validation says of resources that the plan itself passes over (pkg/config/validation).

use serde_json::{Value, json};

use crate::answers::answers;

fn verdict(kind: &str, spec: &str) -> Value {
    let yaml =
        format!("apiVersion: networking.istio.io/v1\nkind: {kind}\nmetadata: {{name: x}}\nspec: {spec}\n");
    let mut verdict = answers(&yaml)["verdicts"][0].take();
    verdict.as_object_mut().expect("a verdict").remove("doc");
    verdict
}

fn balancer(setting: &str) -> Value {
    verdict("DestinationRule", &format!("{{host: a.test, trafficPolicy: {{loadBalancer: {{{setting}}}}}}}"))
}

#[test]
fn load_balancing_by_locality_is_validated() {
    for (setting, webhook) in [
        ("distribute: [{from: a, to: {b: 60, c: 41}}]", "total locality weight 101 != 100"),
        ("distribute: [{from: a, to: {b: 0}}]", "locality weight must be in range [1, 100]"),
        (
            "distribute: [{from: a, to: {b: 100}}], failover: [{from: a, to: b}]",
            "can not simultaneously specify 'distribute' and 'failover'",
        ),
        (
            "distribute: [{from: a, to: {b: 50, b/c: 50}}]",
            "locality b/c overlap with previous specified ones",
        ),
        (
            "distribute: [{from: a/b/*, to: {'*': 100}}, {from: a/b/c, to: {'*': 100}}]",
            "locality a/b/c overlap with previous specified ones",
        ),
        ("distribute: [{from: a/b/c, to: {'*': 100}}, {from: a/b/d, to: {'*': 100}}]", ""),
        (
            "distribute: [{from: a//c, to: {'*': 100}}]",
            "locality a//c must not contain empty region/zone/subzone info",
        ),
        (
            "distribute: [{from: 'a*b', to: {'*': 100}}]",
            "locality a*b wildcard '*' number can not exceed 1 and must be in the end",
        ),
    ] {
        let expected = if webhook.is_empty() { json!({}) } else { json!({"webhook": webhook}) };
        assert_eq!(balancer(&format!("localityLbSetting: {{{setting}}}")), expected, "{setting}");
    }
    let failover = "localityLbSetting: {failover: [{from: a, to: a}]}";
    assert_eq!(
        balancer(failover),
        json!({
            "webhook": "locality lb failover settings must specify different regions",
            "warnings": ["outlier detection policy must be provided for failover"],
        })
    );
    let zones = "zoneAwareLbSetting: {failoverPriority: [topology.kubernetes.io/zone]}";
    let refused = balancer(zones)["webhook"].as_str().unwrap_or_default().to_owned();
    assert!(refused.contains("must not use topology label 'topology.kubernetes.io/zone'"), "{refused}");
}

#[test]
fn a_workload_group_is_validated() {
    let place = "WorkloadGroup/x/default: spec";
    for (spec, expected) in [
        ("{template: {serviceAccount: x}, metadata: {labels: {app: vm}}}", json!({})),
        (
            "{}",
            json!({"crd": format!("{place}.template: Required value"), "webhook": "template is required"}),
        ),
        (
            "{template: {ports: {http: 0}}}",
            json!({"crd": format!("{place}.template.ports[http]: Invalid value: 0: port must be between 1-65535")}),
        ),
        (
            "{template: {}, metadata: {labels: {a b: c}}}",
            json!({"webhook": "invalid labels: 1 error occurred:\n\t* invalid tag key: \"a b\"\n\n"}),
        ),
        (
            "{template: {}, probe: {httpGet: {port: 0}}}",
            json!({
                "crd": format!("{place}.probe.httpGet.port: Invalid value: 0: port must be between 1-65535"),
                "webhook": "port number 0 must be in the range 1..65535",
            }),
        ),
        ("{template: {}, probe: {}}", json!({"webhook": "unknown health check method <nil>"})),
        ("{template: {}, probe: {exec: {command: []}}}", json!({"webhook": "exec.command is required"})),
    ] {
        assert_eq!(verdict("WorkloadGroup", spec), expected, "{spec}");
    }
}

#[test]
fn a_value_of_the_wrong_type_is_named_by_its_own_place() {
    let entry = "{hosts: [a.test], location: 1, ports: [{number: 80, name: http, protocol: HTTP}]}";
    assert_eq!(
        verdict("ServiceEntry", entry)["crd"],
        json!(
            "ServiceEntry/x/default: [spec.location: Invalid value: \"integer\": spec.location in body must be \
             of type string: \"integer\", spec.location: Unsupported value: 1: supported values: \
             \"MESH_EXTERNAL\", \"MESH_INTERNAL\"]"
        )
    );
}

#[test]
fn the_crd_has_fewer_values_of_an_enum_than_the_api() {
    let mode = |mode: &str| {
        let spec = format!("{{outboundTrafficPolicy: {{mode: {mode}}}, egress: [{{hosts: ['*/*']}}]}}");
        verdict("Sidecar", &spec)["crd"].clone()
    };
    assert_eq!(mode("ALLOW_ANY"), Value::Null);
    for unknown in ["ALLOW_ANY_DYNAMIC_DNS", "FOO"] {
        let text = format!(
            "Sidecar/x/default: spec.outboundTrafficPolicy.mode: Unsupported value: {unknown:?}: supported \
             values: \"REGISTRY_ONLY\", \"ALLOW_ANY\""
        );
        assert_eq!(mode(unknown), json!(text));
    }
}
