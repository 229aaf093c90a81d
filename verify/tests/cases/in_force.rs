//! Resources of a cluster instead of files: places are names of resources and fields, and what was read is all that there is.

use meshproof_model::Resource;
use meshproof_verify::{InForce, Verified, verify_in_force};
use serde_json::{Value, json};

use super::said;

fn istio(kind: &str, namespace: &str, name: &str, spec: &Value) -> Resource {
    Resource(json!({
        "apiVersion": "networking.istio.io/v1", "kind": kind,
        "metadata": {"name": name, "namespace": namespace, "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": spec,
    }))
}

fn pod(namespace: &str, app: &str) -> Resource {
    Resource(json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": app, "namespace": namespace, "labels": {"app": app},
            "annotations": {"sidecar.istio.io/inject": "true"}, "creationTimestamp": "2026-01-01T00:00:00Z",
        },
        "spec": {"serviceAccountName": app},
    }))
}

fn entry(namespace: &str, host: &str) -> Resource {
    let ports = json!([
        {"number": 80, "name": "http", "protocol": "HTTP", "targetPort": 443},
        {"number": 443, "name": "https", "protocol": "HTTPS"},
    ]);
    let name = host.replace('.', "-");
    istio("ServiceEntry", namespace, &name, &json!({"hosts": [host], "ports": ports, "resolution": "DNS"}))
}

fn rule(namespace: &str, host: &str, tls: &Value) -> Resource {
    let settings = json!([{"port": {"number": 80}, "tls": tls}]);
    let spec = json!({"host": host, "trafficPolicy": {"portLevelSettings": settings}});
    istio("DestinationRule", namespace, &host.replace('.', "-"), &spec)
}

fn shop(resources: Vec<Resource>) -> InForce {
    InForce {
        cluster: "namespace shop of the cluster of context test and what reaches it".to_owned(),
        namespace: "shop".to_owned(),
        resources,
        whole: true,
        secrets: true,
        unread: Vec::new(),
    }
}

/// Code, place and severity of each finding.
fn found(verified: &Verified) -> Vec<(String, String)> {
    verified.verification.findings.iter().map(|f| (f.code.clone(), f.at.to_string())).collect()
}

#[test]
fn a_correct_namespace_has_flows_of_its_own_workloads_and_no_finding() {
    let read = shop(vec![
        pod("shop", "cart"),
        pod("team", "other"),
        entry("team", "partner.test"),
        rule("shop", "partner.test", &json!({"mode": "SIMPLE"})),
    ]);
    let verified = verify_in_force(&read);
    assert_eq!(found(&verified), [], "{}", said(&verified));
    let from: Vec<&str> = verified.verification.flows.iter().map(|f| f.from.as_str()).collect();
    assert!(!from.is_empty() && from.iter().all(|f| *f == "cart.shop"), "{from:?}");
    assert_eq!(verified.verification.assumed, Vec::<String>::new());
    assert_eq!(verified.verification.cluster.as_deref(), Some(read.cluster.as_str()));
}

#[test]
fn a_finding_names_the_resource_and_the_field() {
    let mut read = shop(vec![pod("shop", "cart"), entry("team", "partner.test")]);
    let spec = json!({"host": "partner.test", "trafficPolicy": {"tls": {"mode": "SIMPLE"}}});
    read.resources.push(istio("DestinationRule", "shop", "partner", &spec));
    let verified = verify_in_force(&read);
    let expected = ("MP0002".to_owned(), "DestinationRule shop/partner spec.trafficPolicy.tls".to_owned());
    assert_eq!(found(&verified), [expected], "{}", said(&verified));
    let at = &verified.verification.findings[0].at;
    assert_eq!((at.line, at.column, at.is_in_file()), (0, 0, false));
}

#[test]
fn what_is_wrong_in_other_namespaces_is_reported_only_where_it_reaches_this_one() {
    let spec = |host: &str| json!({"host": host, "trafficPolicy": {"tls": {"mode": "SIMPLE"}}});
    let mut read = shop(vec![pod("shop", "cart"), pod("team", "other"), entry("shop", "partner.test")]);
    // Double TLS of another namespace: for a host that is not exported, and exported to this one.
    let mut private = entry("team", "private.test");
    private.0["spec"]["exportTo"] = json!(["."]);
    let mut hidden = istio("DestinationRule", "team", "private", &spec("private.test"));
    hidden.0["spec"]["exportTo"] = json!(["."]);
    read.resources.extend([private, hidden]);
    let verified = verify_in_force(&read);
    assert_eq!(found(&verified), [], "{}", said(&verified));
    let mut partner = entry("team", "shared.test");
    partner.0["spec"]["exportTo"] = json!(["shop"]);
    read.resources.push(partner);
    read.resources.push(istio("DestinationRule", "team", "shared", &spec("shared.test")));
    let verified = verify_in_force(&read);
    let expected = ("MP0002".to_owned(), "DestinationRule team/shared spec.trafficPolicy.tls".to_owned());
    assert_eq!(found(&verified), [expected], "{}", said(&verified));
}

#[test]
fn a_secret_that_does_not_exist_is_an_error_and_one_that_was_not_read_is_taken_to_be_there() {
    let tls = json!({"mode": "MUTUAL", "credentialName": "partner"});
    let mut selected = rule("shop", "partner.test", &tls);
    selected.0["spec"]["workloadSelector"] = json!({"matchLabels": {"app": "cart"}});
    let mut read = shop(vec![pod("shop", "cart"), entry("shop", "partner.test"), selected]);
    let verified = verify_in_force(&read);
    let place =
        "DestinationRule shop/partner-test spec.trafficPolicy.portLevelSettings[0].tls.credentialName";
    assert_eq!(found(&verified), [("MP0007".to_owned(), place.to_owned())], "{}", said(&verified));
    assert!(
        verified.verification.findings[0].message.contains("there is no Secret partner in namespace shop")
    );
    let secret = |keys: &Value| {
        Resource(json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "partner", "namespace": "shop"},
            "stringData": keys,
        }))
    };
    read.resources.push(secret(&json!({"tls.crt": "x", "tls.key": "x", "ca.crt": "x"})));
    assert_eq!(found(&verify_in_force(&read)), []);
    read.resources.pop();
    read.resources.push(secret(&json!({"ca.crt": "x"})));
    let expected = ("MP0007".to_owned(), "Secret shop/partner stringData".to_owned());
    assert_eq!(found(&verify_in_force(&read)), [expected], "it has no key pair");
    read.resources.pop();
    read.secrets = false;
    assert_eq!(found(&verify_in_force(&read)), []);
}

#[test]
fn nothing_is_made_up_where_everything_was_read() {
    let routes = json!([{"route": [{"destination": {"host": "gone.team.svc.cluster.local"}}]}]);
    let route = istio(
        "VirtualService",
        "shop",
        "partner",
        &json!({"hosts": ["partner.test"], "gateways": ["mesh", "edge/out"], "http": routes}),
    );
    let mut read = shop(vec![pod("shop", "cart"), entry("shop", "partner.test"), route]);
    let verified = verify_in_force(&read);
    let all = said(&verified);
    assert!(all.contains("the Service gone.team.svc.cluster.local does not exist"), "{all}");
    assert!(all.contains("the Gateway edge/out does not exist"), "{all}");
    assert_eq!(verified.verification.assumed, Vec::<String>::new());
    // Of an account that reads one namespace, what is elsewhere is unknown.
    read.whole = false;
    let verified = verify_in_force(&read);
    assert_eq!(found(&verified), [], "{}", said(&verified));
}

#[test]
fn the_proof_of_a_namespace_takes_what_reaches_it_and_no_secret() {
    let mut hidden = entry("team", "private.test");
    hidden.0["spec"]["exportTo"] = json!(["."]);
    let secret = Resource(json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "partner", "namespace": "shop"},
        "stringData": {"tls.key": "left in the cluster"},
    }));
    let read = shop(vec![
        pod("shop", "cart"),
        entry("team", "partner.test"),
        hidden,
        rule("shop", "partner.test", &json!({"mode": "SIMPLE"})),
        secret,
    ]);
    let proof = verify_in_force(&read).proof();
    let ids: Vec<String> = proof.resources.iter().map(|r| r.id().to_string()).collect();
    assert_eq!(ids, ["ServiceEntry team/partner-test", "DestinationRule shop/partner-test"]);
    assert_eq!(proof.workloads.iter().map(|w| w.name.as_str()).collect::<Vec<_>>(), ["cart"]);
    assert!(proof.exchanges.iter().any(|e| e.url == "http://partner.test/"), "{:?}", proof.exchanges);
}
