//! Which DestinationRule counts, and what of it (push_context.go, destination_rule.go, util.go).

use meshproof_plan::model::{Plan, ServerName, UpstreamTls};

use crate::world::{Ask, EGRESS, SLEEP, World};

const ENTRY: &str = "
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: cnn, namespace: services}
spec:
  hosts: [edition.cnn.com]
  ports:
  - {number: 80, name: http, protocol: HTTP}
  - {number: 443, name: https, protocol: HTTP}
  resolution: DNS
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: cnn}
spec:
  hosts: [edition.cnn.com]
  http:
  - match: [{uri: {prefix: /443}}]
    route: [{destination: {host: edition.cnn.com, port: {number: 443}}}]
  - match: [{uri: {prefix: /subset}}]
    route: [{destination: {host: edition.cnn.com, subset: s, port: {number: 80}}}]
  - match: [{uri: {prefix: /other}}]
    route: [{destination: {host: edition.cnn.com, subset: t, port: {number: 80}}}]
  - route: [{destination: {host: edition.cnn.com, port: {number: 80}}}]
";

/// A rule of `namespace` whose TLS is known by its server name.
fn rule(name: &str, namespace: &str, host: &str, rest: &str) -> String {
    format!(
        "
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: {name}, namespace: {namespace}}}
spec:
  host: '{host}'
{rest}
"
    )
}

fn tls(name: &str) -> String {
    format!("  trafficPolicy: {{tls: {{mode: SIMPLE, sni: {name}.test}}}}")
}

/// The server name of the rule that a cluster of `sleep` follows.
fn followed(plan: &Plan, cluster: &str) -> Option<String> {
    match &plan.cluster(SLEEP, cluster).tls {
        Some(UpstreamTls::Originate(o)) => match &o.sni {
            ServerName::Fixed(name) => Some(name.clone()),
            other @ (ServerName::FromHost | ServerName::Absent) => panic!("{other:?}"),
        },
        None => None,
        Some(other) => panic!("{other:?}"),
    }
}

const ON_80: &str = "outbound|80||edition.cnn.com";
const ON_443: &str = "outbound|443||edition.cnn.com";
const SUBSET: &str = "outbound|80|s|edition.cnn.com";

fn plan_with(rules: &[String]) -> Plan {
    World::new().resolve(&format!("{ENTRY}{}", rules.concat())).plan
}

#[test]
fn port_level_settings_replace_the_top_level_policy_for_their_port_alone() {
    let rest = "  trafficPolicy:
    tls: {mode: SIMPLE, sni: top.test}
    portLevelSettings:
    - {port: {number: 80}, loadBalancer: {simple: RANDOM}}";
    let plan = plan_with(&[rule("r", "default", "edition.cnn.com", rest)]);
    assert_eq!(followed(&plan, ON_80), None, "what a port's settings leave out gets its default");
    assert_eq!(followed(&plan, ON_443).as_deref(), Some("top.test"));
}

#[test]
fn a_subset_without_tls_keeps_the_rules_tls() {
    let rest = "  trafficPolicy: {tls: {mode: SIMPLE, sni: top.test}}
  subsets: [{name: s, trafficPolicy: {loadBalancer: {simple: RANDOM}}}]";
    let plan = plan_with(&[rule("r", "default", "edition.cnn.com", rest)]);
    assert_eq!(followed(&plan, SUBSET).as_deref(), Some("top.test"));
}

#[test]
fn a_subsets_settings_for_a_port_override_everything() {
    let rest = "  trafficPolicy: {tls: {mode: SIMPLE, sni: top.test}}
  subsets:
  - name: s
    trafficPolicy:
      tls: {mode: SIMPLE, sni: subset.test}
      portLevelSettings:
      - {port: {number: 80}, tls: {mode: SIMPLE, sni: port.test}}
  - name: t
    trafficPolicy:
      tls: {mode: SIMPLE, sni: subset.test}
      portLevelSettings:
      - {port: {number: 80}, loadBalancer: {simple: RANDOM}}";
    let plan = plan_with(&[rule("r", "default", "edition.cnn.com", rest)]);
    assert_eq!(followed(&plan, SUBSET).as_deref(), Some("port.test"));
    assert_eq!(followed(&plan, "outbound|80|t|edition.cnn.com"), None);
    assert_eq!(followed(&plan, ON_80).as_deref(), Some("top.test"));
}

#[test]
fn a_subset_that_no_rule_defines_has_no_cluster() {
    let plan = plan_with(&[]);
    assert_eq!(plan.goes_to(SLEEP, 80, "edition.cnn.com", "/subset"), Some(SUBSET));
    assert!(plan.proxy(SLEEP).cluster(SUBSET).is_none());
}

#[test]
fn the_proxys_namespace_goes_before_the_services_before_the_root() {
    let own = rule("own", "default", "edition.cnn.com", &tls("own"));
    let services = rule("services", "services", "edition.cnn.com", &tls("services"));
    let root = rule("root", "istio-system", "edition.cnn.com", &tls("root"));
    let all = [root.clone(), services.clone(), own];
    assert_eq!(followed(&plan_with(&all), ON_80).as_deref(), Some("own.test"));
    assert_eq!(followed(&plan_with(&all[..2]), ON_80).as_deref(), Some("services.test"));
    assert_eq!(followed(&plan_with(&all[..1]), ON_80).as_deref(), Some("root.test"));
    let elsewhere = rule("elsewhere", "elsewhere", "edition.cnn.com", &tls("elsewhere"));
    assert_eq!(followed(&plan_with(&[elsewhere]), ON_80), None);
}

#[test]
fn a_private_rule_serves_its_own_namespace_alone() {
    for namespace in ["services", "istio-system"] {
        let rest = format!("{}\n  exportTo: ['.']", tls("private"));
        let plan = plan_with(&[rule("private", namespace, "edition.cnn.com", &rest)]);
        assert_eq!(followed(&plan, ON_80), None, "{namespace}");
    }
    let rest = format!("{}\n  exportTo: ['.']", tls("private"));
    let plan = plan_with(&[rule("private", "default", "edition.cnn.com", &rest)]);
    assert_eq!(followed(&plan, ON_80).as_deref(), Some("private.test"));
    let rest = format!("{}\n  exportTo: [default]", tls("named"));
    let plan = plan_with(&[rule("named", "services", "edition.cnn.com", &rest)]);
    assert_eq!(followed(&plan, ON_80).as_deref(), Some("named.test"));
    let plan = plan_with(&[rule("named", "services", "edition.cnn.com", &rest.replace("default", "third"))]);
    assert_eq!(followed(&plan, ON_80), None, "exported, and not to this namespace");
}

#[test]
fn a_proxy_in_the_root_namespace_puts_private_rules_before_the_services() {
    let gateway = "
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: g}
spec:
  selector: {istio: egressgateway}
  servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ['*']}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: through-gateway}
spec:
  hosts: [edition.cnn.com]
  gateways: [g]
  http: [{route: [{destination: {host: edition.cnn.com, port: {number: 443}}}]}]
";
    let services = rule("services", "services", "edition.cnn.com", &tls("services"));
    let sni = |root: &str| {
        let plan = plan_with(&[gateway.to_owned(), services.clone(), root.to_owned()]);
        plan.origination(EGRESS, ON_443).sni.clone()
    };
    let public = rule("root", "istio-system", "edition.cnn.com", &tls("root"));
    assert_eq!(sni(&public), ServerName::Fixed("services.test".to_owned()));
    let private = format!("{public}  exportTo: ['.']\n");
    assert_eq!(sni(&private), ServerName::Fixed("root.test".to_owned()));
}

#[test]
fn a_workload_selector_narrows_a_rule_to_workloads_of_its_namespace() {
    let selecting = |namespace: &str, app: &str| {
        let rest = format!("{}\n  workloadSelector: {{matchLabels: {{app: {app}}}}}", tls("selected"));
        rule("selecting", namespace, "edition.cnn.com", &rest)
    };
    let all = rule("all", "default", "edition.cnn.com", &tls("all"));
    let plan = plan_with(&[all.clone(), selecting("default", "sleep")]);
    assert_eq!(followed(&plan, ON_80).as_deref(), Some("selected.test"));
    let plan = plan_with(&[all, selecting("default", "other")]);
    assert_eq!(followed(&plan, ON_80).as_deref(), Some("all.test"));
    let plan = plan_with(&[selecting("services", "sleep")]);
    assert_eq!(followed(&plan, ON_80), None, "with a selector it is private always");
}

#[test]
fn the_most_specific_host_wins_over_wildcards() {
    let wide = rule("wide", "default", "*.com", &tls("wide"));
    let narrow = rule("narrow", "default", "*.cnn.com", &tls("narrow"));
    let exact = rule("exact", "default", "edition.cnn.com", &tls("exact"));
    let all = [wide, narrow, exact];
    assert_eq!(followed(&plan_with(&all), ON_80).as_deref(), Some("exact.test"));
    assert_eq!(followed(&plan_with(&all[..2]), ON_80).as_deref(), Some("narrow.test"));
    assert_eq!(followed(&plan_with(&all[..1]), ON_80).as_deref(), Some("wide.test"));
}

#[test]
fn two_rules_for_one_host_are_merged_the_older_policy_and_the_subsets_of_both() {
    let older = rule("older", "default", "edition.cnn.com", "  subsets: [{name: t}]");
    let policy = rule("policy", "default", "edition.cnn.com", &tls("policy"));
    let rest = format!("{}\n  subsets: [{{name: s}}, {{name: t}}]", tls("younger"));
    let younger = rule("younger", "default", "edition.cnn.com", &rest);
    let manifest = format!("{ENTRY}{older}{policy}{younger}");
    let resolution = World::new().resolve(&manifest);
    assert_eq!(followed(&resolution.plan, ON_80).as_deref(), Some("policy.test"));
    assert_eq!(followed(&resolution.plan, SUBSET).as_deref(), Some("policy.test"));
    let warned =
        |text: &str| resolution.warnings.iter().any(|w| w.contains("default/younger") && w.contains(text));
    assert!(warned("trafficPolicy"), "{:?}", resolution.warnings);
    assert!(warned("subset \"t\""), "{:?}", resolution.warnings);
}

#[test]
fn rules_with_different_export_are_not_merged() {
    let public = rule("public", "default", "edition.cnn.com", &tls("public"));
    let rest = "  subsets: [{name: s}]\n  exportTo: [elsewhere, '.']";
    let narrower = rule("narrower", "default", "edition.cnn.com", rest);
    let plan = plan_with(&[public, narrower]);
    // SidecarScope.DestinationRule takes the last rule without a selector.
    assert_eq!(followed(&plan, ON_80), None);
    assert_eq!(followed(&plan, SUBSET), None);
}

#[test]
fn a_private_rule_without_a_selector_is_lost_to_one_with_a_selector() {
    // mergeDestinationRule as it stands: rules with a selector come first, equal exportTo merges, and the merged rule keeps
    // the selector. So a workload that is not selected follows neither.
    let all = rule("all", "default", "edition.cnn.com", &format!("{}\n  exportTo: ['.']", tls("all")));
    let rest = format!("{}\n  workloadSelector: {{matchLabels: {{app: other}}}}", tls("selected"));
    let plan = plan_with(&[all, rule("selecting", "default", "edition.cnn.com", &rest)]);
    assert_eq!(followed(&plan, ON_80), None);
}
