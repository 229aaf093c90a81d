use super::draw::{FITS, break_at};
use super::*;
use meshproof_model::report::Verdict;
use meshproof_model::sample;

/// A scenario with one check that rests on these pieces of evidence; the other parts are those of the sample.
fn scenario(facts: serde_json::Value, decides: &[&str], verdict: Verdict) -> ScenarioResult {
    let mut scenario = sample::passing().scenarios.remove(0);
    scenario.evidence = serde_json::from_value(facts).unwrap();
    scenario.checks.truncate(1);
    let check = &mut scenario.checks[0];
    check.verdict = verdict;
    check.evidence = decides.iter().map(|id| EvidenceId((*id).to_owned())).collect();
    scenario
}

fn words(scenario: &ScenarioResult) -> String {
    of_check(scenario, &EvidenceIndex::of(scenario), &scenario.checks[0]).words()
}

fn exchange(side: &str, status: u16) -> serde_json::Value {
    let response = serde_json::json!({
        "version": "HTTP/1.1", "status": status, "headers": [], "body": "", "body_bytes": 0, "body_truncated":
            false
    });
    let hop = serde_json::json!({
        "method": "GET", "url": "http://edition.cnn.com/", "sent": "", "sent_bytes": 0,
            "result": {"response": response}
    });
    let side = if side == "suite" {
        serde_json::json!({"side": "suite"})
    } else {
        serde_json::json!({"side": "workload", "name": side})
    };
    serde_json::json!({
        "id": "exchange", "at_us": 9, "step": 0, "side": side, "token": "run-token.1",
        "fact": {"kind": "exchange", "url": "http://edition.cnn.com/", "hops": [hop], "duration_us": 1}
    })
}

fn log(
    proxy: &str,
    from: &str,
    local: Option<&str>,
    server_name: Option<&str>,
    code: u16,
) -> serde_json::Value {
    let flags: &[&str] = if code >= 500 { &["UF"] } else { &[] };
    serde_json::json!({
        "id": proxy, "at_us": 5, "step": 0, "side": {"side": "proxy", "name": proxy}, "token": "run-token.1",
        "fact": {"kind": "access-log", "line": "x", "fields": {
            "response_code": code, "response_flags": flags, "downstream_remote_address": from,
            "upstream_local_address": local, "requested_server_name": server_name
        }}
    })
}

fn request(peer: &str, tls: Option<serde_json::Value>) -> serde_json::Value {
    serde_json::json!({
        "id": "request", "at_us": 4, "step": 0, "side": {"side": "service", "host": "edition.cnn.com"},
        "token": "run-token.1",
        "fact": {"kind": "request", "connection": 1, "port": 443, "over_tls": tls.is_some(), "peer": peer,
            "method": "GET", "target": "/", "authority": "edition.cnn.com", "version": "HTTP/1.1", "headers":
                [],
            "status": 200, "tls": tls}
    })
}

fn change(yaml: &str) -> serde_json::Value {
    serde_json::json!({
        "id": "change", "at_us": 1, "step": 0, "side": {"side": "suite"},
        "fact": {"kind": "change", "applied": [yaml], "deleted": [], "convergence_us": 1}
    })
}

fn through_the_gateway(verdict: Verdict, decides: &[&str]) -> ScenarioResult {
    let facts = serde_json::json!([
        change("kind: DestinationRule\nmetadata:\n  name: r\nspec:\n  mode: ISTIO_MUTUAL\n"),
        request("10.0.0.3:3", Some(serde_json::json!({"server_name": "other"}))),
        log("gateway", "10.0.0.2:2", Some("10.0.0.3:3"), Some("edition.cnn.com"), 200),
        log("sleep", "10.0.0.1:1", Some("10.0.0.2:2"), None, 200),
        exchange("sleep", 200)
    ]);
    scenario(facts, decides, verdict)
}

#[test]
fn connection_addresses_show_the_path_from_the_workload_through_both_proxies() {
    assert_eq!(
        words(&through_the_gateway(Verdict::Passed, &["exchange"])),
        "workload sleep to proxy sleep: plain text; proxy sleep to proxy gateway: mutual TLS; \
         proxy gateway to external service edition.cnn.com: TLS"
    );
}

#[test]
fn a_check_on_the_external_service_s_evidence_fails_on_the_hop_to_it() {
    let words = words(&through_the_gateway(Verdict::Failed, &["request", "exchange"]));
    assert!(
        words.ends_with("proxy gateway to external service edition.cnn.com: TLS (the failing hop)"),
        "{words}"
    );
    assert_eq!(words.matches("failing").count(), 1);
}

#[test]
fn a_check_on_a_proxy_s_log_fails_at_that_proxy() {
    let words = words(&through_the_gateway(Verdict::Failed, &["gateway", "exchange"]));
    assert!(words.ends_with("; fails at proxy gateway"), "{words}");
    assert!(!words.contains("failing hop"), "{words}");
}

#[test]
fn a_client_certificate_makes_the_hop_mutual() {
    let certificate = serde_json::json!({"subject": "CN=c", "issuer": "CN=i", "serial": "01"});
    let tls = serde_json::json!({"peer_certificate": certificate});
    let facts = serde_json::json!([
        request("10.0.0.2:2", Some(tls)),
        log("sleep", "10.0.0.1:1", Some("10.0.0.2:2"), None, 200),
        exchange("sleep", 200)
    ]);
    let words = words(&scenario(facts, &["exchange"], Verdict::Passed));
    assert!(words.contains("proxy sleep to external service edition.cnn.com: mutual TLS"), "{words}");
}

#[test]
fn a_proxy_that_forwarded_nothing_shows_that_nothing_arrived() {
    let facts = serde_json::json!([log("sleep", "10.0.0.1:1", None, None, 503), exchange("sleep", 503)]);
    let words = words(&scenario(facts, &["exchange"], Verdict::Failed));
    assert!(
        words.ends_with("proxy sleep to external service edition.cnn.com: nothing arrived (the failing hop)"),
        "{words}"
    );
}

#[test]
fn a_server_that_is_not_among_the_external_services_is_a_mesh_service() {
    let facts = serde_json::json!([exchange("sleep", 200), request("127.0.0.1:9", None)]);
    let mut scenario = scenario(facts, &["exchange", "request"], Verdict::Passed);
    assert_eq!(words(&scenario), "workload sleep to external service edition.cnn.com: plain text");
    let side = |scenario: &ScenarioResult| crate::evidence_text::side(&scenario.evidence[1].side, scenario);
    assert_eq!(side(&scenario), "external service edition.cnn.com");
    scenario.external_services.clear();
    assert_eq!(words(&scenario), "workload sleep to mesh service edition.cnn.com: plain text");
    assert_eq!(side(&scenario), "mesh service edition.cnn.com");
}

#[test]
fn for_a_live_host_the_picture_does_not_claim_that_nothing_arrived() {
    let facts = serde_json::json!([exchange("sleep", 503), log("sleep", "127.0.0.1:4", None, None, 503)]);
    let mut scenario = scenario(facts, &["exchange"], Verdict::Failed);
    assert!(words(&scenario).contains("nothing arrived"), "{}", words(&scenario));
    scenario.external_services[0].kind = meshproof_model::ExternalService::LIVE.to_owned();
    assert!(!words(&scenario).contains("nothing arrived"), "{}", words(&scenario));
    assert!(!words(&scenario).contains("external service"), "{}", words(&scenario));
    let only_asked = serde_json::json!([exchange("sleep", 503)]);
    scenario.evidence = serde_json::from_value(only_asked).unwrap();
    assert!(!words(&scenario).contains("nothing arrived"), "{}", words(&scenario));
}

#[test]
fn a_test_client_that_is_not_refused_fails_on_its_own_hop() {
    let facts = serde_json::json!([
        request("10.0.0.3:3", Some(serde_json::json!({}))),
        log("gateway", "10.0.0.9:9", Some("10.0.0.3:3"), None, 200),
        exchange("suite", 200)
    ]);
    let words = words(&scenario(facts, &["exchange"], Verdict::Failed));
    assert!(words.starts_with("test client to proxy gateway: plain text (the failing hop)"), "{words}");
}

#[test]
fn without_a_log_line_the_hop_that_the_service_recorded_is_drawn() {
    let facts = serde_json::json!([request("10.0.0.3:3", None), exchange("sleep", 200)]);
    let words = words(&scenario(facts, &["exchange"], Verdict::Passed));
    assert_eq!(words, "workload sleep to external service edition.cnn.com: plain text");
}

#[test]
fn contradictory_logs_that_form_a_cycle_are_drawn() {
    let facts = serde_json::json!([
        log("a", "10.0.0.2:2", Some("10.0.0.1:1"), None, 200),
        log("b", "10.0.0.1:1", Some("10.0.0.2:2"), None, 200),
        exchange("sleep", 200)
    ]);
    let scenario = scenario(facts, &["exchange"], Verdict::Passed);
    let picture = of_check(&scenario, &EvidenceIndex::of(&scenario), &scenario.checks[0]);
    assert!(picture.draw().into_string().contains("</svg>"));
}

#[test]
fn a_long_name_is_wrapped_after_a_dot_or_dash() {
    assert_eq!(break_at("my-nginx.mesh-external.svc.cluster.local"), Some(23));
    assert_eq!(break_at(&"x".repeat(40)), Some(FITS));
}
