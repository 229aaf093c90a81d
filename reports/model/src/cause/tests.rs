use super::*;
use crate::deviation::{Deviation, Party};
use crate::evidence::EvidenceId;
use crate::report::{CheckResult, Level, Report, ScenarioResult};
use crate::sample;

fn deviation(from: Role, to: Role, field: Field, expected: ValueKind, seen: ValueKind) -> Deviation {
    Deviation {
        from: Party::named(from, "one"),
        to: Party::named(to, "a.example"),
        field,
        name: None,
        expected_kind: expected,
        seen_kind: seen,
        expected: "expected".to_owned(),
        seen: "seen".to_owned(),
        evidence: None,
    }
}

fn no_sni(from: Role) -> Deviation {
    let kinds = (ValueKind::Configured, ValueKind::Absent);
    deviation(from, Role::ExternalService, Field::ServerName, kinds.0, kinds.1)
}

fn status(seen: u16) -> Deviation {
    let kinds = (ValueKind::Status(200), ValueKind::Status(seen));
    deviation(Role::Workload, Role::Sidecar, Field::Status, kinds.0, kinds.1)
}

/// A report with one scenario per list, and one check per list of deviations.
fn report(scenarios: Vec<Vec<(Verdict, Vec<Deviation>)>>) -> Report {
    let mut report = sample::passing();
    let like = report.scenarios.remove(0);
    for (number, checks) in scenarios.into_iter().enumerate() {
        let check = |(n, (verdict, deviations)): (usize, (Verdict, Vec<Deviation>))| CheckResult {
            id: format!("s{number}/c{n}"),
            verdict,
            deviations,
            ..like.checks[0].clone()
        };
        report.scenarios.push(ScenarioResult {
            id: format!("s{number}"),
            configuration: String::new(),
            checks: checks.into_iter().enumerate().map(check).collect(),
            ..like.clone()
        });
    }
    report.derive_causes();
    report
}

fn found(report: &Report) -> Vec<(&str, usize)> {
    report.causes.iter().map(|c| (c.title.as_str(), c.checks.len())).collect()
}

use Verdict::{Failed, Inconclusive, Passed};

#[test]
fn checks_that_deviate_in_the_same_way_on_the_same_hop_have_one_cause_whatever_the_host_and_the_proxy() {
    let mut other_host = no_sni(Role::EgressGateway);
    other_host.to = Party::named(Role::ExternalService, "b.example");
    let report = report(vec![
        vec![(Failed, vec![no_sni(Role::Sidecar)]), (Passed, vec![])],
        vec![(Failed, vec![other_host]), (Failed, vec![no_sni(Role::IngressGateway)])],
    ]);
    let title =
        "No server name (SNI) in the TLS handshake from the sidecar and both gateways to external services";
    assert_eq!(found(&report), [(title, 3)]);
    assert_eq!(report.causes[0].id, "server-name-absent");
}

#[test]
fn another_kind_of_value_is_another_cause() {
    let wrong = Deviation { seen_kind: ValueKind::Other, ..no_sni(Role::Sidecar) };
    let report = report(vec![vec![(Failed, vec![no_sni(Role::Sidecar)]), (Failed, vec![wrong])]]);
    assert_eq!(report.causes.len(), 2);
}

#[test]
fn an_inconclusive_check_belongs_to_the_cause_of_its_control() {
    // A claim records the deviations of the control that did not succeed.
    let report = report(vec![vec![
        (Failed, vec![no_sni(Role::Sidecar)]),
        (Inconclusive, vec![no_sni(Role::Sidecar)]),
    ]]);
    assert_eq!(report.causes.len(), 1);
    assert_eq!(report.causes[0].example().map(|c| c.check.as_str()), Some("s0/c0"));
}

#[test]
fn a_check_with_several_deviations_joins_the_cause_of_most_checks() {
    let plain = deviation(
        Role::Sidecar,
        Role::ExternalService,
        Field::Transport,
        ValueKind::Tls,
        ValueKind::PlainText,
    );
    let report = report(vec![vec![
        (Failed, vec![plain, no_sni(Role::Sidecar)]),
        (Failed, vec![no_sni(Role::Sidecar)]),
        (Failed, vec![no_sni(Role::Sidecar)]),
    ]]);
    assert_eq!(report.causes.len(), 1);
    assert_eq!(report.causes[0].checks.len(), 3);
}

#[test]
fn a_check_that_saw_the_consequence_of_a_request_belongs_to_what_another_saw_nearer_to_its_origin() {
    // e1 has a token in the sample, e4 the token of another request.
    let about = |d: Deviation, id: &str| Deviation { evidence: Some(EvidenceId(id.to_owned())), ..d };
    let same = report(vec![vec![
        (Failed, vec![about(no_sni(Role::Sidecar), "e4")]),
        (Failed, vec![about(status(503), "e3")]),
    ]]);
    assert_eq!(found(&same).len(), 1, "{:?}", found(&same));
    let other = report(vec![vec![
        (Failed, vec![about(no_sni(Role::Sidecar), "e4")]),
        (Failed, vec![about(status(503), "e1")]),
    ]]);
    assert_eq!(found(&other).len(), 2, "{:?}", found(&other));
}

#[test]
fn a_shallow_cause_that_shows_only_beside_a_deeper_one_is_marked_as_its_consequence() {
    let deep = || (Failed, vec![no_sni(Role::Sidecar)]);
    let beside = report(vec![vec![deep(), deep(), (Failed, vec![status(503)])]]);
    assert_eq!(beside.causes[1].consequence_of.as_deref(), Some("server-name-absent"));
    let alone = report(vec![vec![deep(), deep()], vec![(Failed, vec![status(503)])]]);
    assert_eq!(alone.causes[1].consequence_of, None);
}

#[test]
fn without_typed_deviations_the_checks_of_one_id_belong_together() {
    let mut report = report(vec![vec![(Failed, vec![])], vec![(Failed, vec![])]]);
    assert_eq!(report.causes.len(), 2);
    report.scenarios[1].checks[0].id = "s0/c0".to_owned();
    report.derive_causes();
    assert_eq!(report.causes.len(), 1);
    assert!(report.causes[0].title.starts_with("Requirement not met: "));
}

#[test]
fn what_is_recorded_only_has_no_cause_and_makes_no_cause_larger() {
    let mut report = report(vec![vec![
        (Failed, vec![no_sni(Role::Sidecar)]),
        (Failed, vec![no_sni(Role::Sidecar)]),
        (Failed, vec![status(200)]),
    ]]);
    report.scenarios[0].checks[1].level = Level::May;
    report.scenarios[0].checks[2].level = Level::May;
    report.derive_causes();
    assert_eq!(report.causes.iter().map(|c| c.checks.len()).collect::<Vec<_>>(), [1]);
}

#[test]
fn every_failed_and_inconclusive_binding_check_belongs_to_exactly_one_cause_and_no_other_check_does() {
    let report = sample::report();
    let mut listed: Vec<&str> =
        report.causes.iter().flat_map(|c| &c.checks).map(|c| c.check.as_str()).collect();
    listed.sort_unstable();
    let mut wanted: Vec<String> = Vec::new();
    for scenario in &report.scenarios {
        let fails = scenario
            .checks
            .iter()
            .filter(|c| c.level != Level::May && matches!(c.verdict, Failed | Inconclusive));
        wanted.extend(fails.map(|c| format!("{}/{}", scenario.selector(), scenario.check_name(c))));
    }
    wanted.sort_unstable();
    assert_eq!(listed, wanted);
}

#[test]
fn a_report_of_an_earlier_version_gets_its_causes_when_it_is_read() {
    let mut json = serde_json::to_value(sample::report()).unwrap();
    json.as_object_mut().unwrap().remove("causes");
    let read = crate::from_json(json.to_string().as_bytes()).unwrap();
    assert_eq!(read.causes, sample::report().causes);
}

#[test]
fn the_example_is_a_check_whose_own_evidence_shows_little_but_the_cause() {
    let many = vec![no_sni(Role::Sidecar), status(503), status(500)];
    let report = report(vec![vec![
        (Inconclusive, vec![no_sni(Role::Sidecar)]),
        (Failed, many),
        (Failed, vec![no_sni(Role::Sidecar)]),
    ]]);
    assert_eq!(report.causes[0].example().map(|c| c.check.as_str()), Some("s0/c2"));
}

#[test]
fn a_proxy_that_the_evidence_does_not_name_is_not_taken_for_the_only_named_one_unless_that_is_named_most() {
    let with = |roles: &[Role]| {
        let checks = roles.iter().map(|r| (Failed, vec![no_sni(*r)])).collect();
        report(vec![checks]).causes[0].deviation.as_ref().map(|d| d.from.clone()).unwrap()
    };
    assert_eq!(with(&[Role::Sidecar, Role::Proxy]), [Role::Proxy]);
    assert_eq!(with(&[Role::Sidecar, Role::Sidecar, Role::Proxy]), [Role::Sidecar]);
    assert_eq!(
        with(&[Role::Sidecar, Role::EgressGateway, Role::Proxy]),
        [Role::Sidecar, Role::EgressGateway]
    );
}

#[test]
fn a_deviation_of_a_header_reads_well_with_and_without_the_name_of_the_header() {
    let nameless = deviation(
        Role::Sidecar,
        Role::Workload,
        Field::ResponseHeader,
        ValueKind::Configured,
        ValueKind::Other,
    );
    let named = Deviation { name: Some("etag".to_owned()), ..nameless.clone() };
    let titles: Vec<String> =
        [nameless, named].map(|d| report(vec![vec![(Failed, vec![d])]]).causes[0].title.clone()).into();
    assert!(titles[0].starts_with("Headers of the response are changed"), "{titles:?}");
    assert!(titles[1].starts_with("The response header etag is changed"), "{titles:?}");
}

#[test]
fn failures_come_before_what_is_inconclusive_and_a_large_cause_near_the_origin_before_a_larger_one_far_from_it()
 {
    let failed = |n: usize, d: &Deviation| (0..n).map(|_| (Failed, vec![d.clone()])).collect::<Vec<_>>();
    let missing =
        deviation(Role::Sidecar, Role::ExternalService, Field::Connection, ValueKind::One, ValueKind::Absent);
    let report = report(vec![
        failed(30, &status(503)),
        (0..40).map(|_| (Inconclusive, vec![missing.clone()])).collect(),
        failed(20, &no_sni(Role::Sidecar)),
    ]);
    let fields = report.causes.iter().map(|c| c.deviation.as_ref().unwrap().field);
    assert_eq!(fields.collect::<Vec<_>>(), [Field::ServerName, Field::Status, Field::Connection]);
}

#[test]
fn a_redirect_explains_a_request_that_does_not_arrive() {
    let kinds = (ValueKind::Absent, ValueKind::Present);
    let redirect = deviation(Role::Workload, Role::Proxy, Field::Redirect, kinds.0, kinds.1);
    let missing =
        deviation(Role::Sidecar, Role::ExternalService, Field::Request, ValueKind::One, ValueKind::Absent);
    let report = report(vec![vec![(Failed, vec![missing, redirect])]]);
    assert_eq!(found(&report), [("A redirect instead of the page at the workload", 1)]);
}
