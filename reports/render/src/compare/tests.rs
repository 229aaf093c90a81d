use super::*;
use meshproof_model::evidence::{EvidenceId, Fact};
use meshproof_model::sample;

const SCHEMA_FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/schema/comparison-1.schema.json");

/// The sample's first scenario, in which `sni-is-host` rests on a request over TLS.
fn base() -> Report {
    let mut report = sample::passing();
    let scenario = &mut report.scenarios[0];
    scenario.checks[1].evidence = vec![EvidenceId("e4".to_owned()), EvidenceId("e6".to_owned())];
    report
}

fn changed(change: impl FnOnce(&mut ScenarioResult)) -> Report {
    let mut report = base();
    report.implementation.name = "Other".to_owned();
    change(&mut report.scenarios[0]);
    report
}

fn failing(scenario: &mut ScenarioResult) {
    scenario.checks[1].verdict = Verdict::Failed;
}

fn sentence(other: &Report) -> Option<String> {
    let base = base();
    let comparison = compare(&[&base, other], None);
    let cell = comparison.scenarios[0].rows[1].cells[1].as_ref().unwrap();
    cell.divergence.as_ref().map(Divergence::sentence)
}

#[test]
fn equal_reports_have_no_differences() {
    let comparison = compare(&[&base(), &base()], None);
    assert!(comparison.rows().all(|(_, r)| !r.differs));
    assert!(comparison.rows().all(|(_, r)| r.cells.iter().flatten().all(|c| c.divergence.is_none())));
}

#[test]
fn a_different_status_at_the_workload_is_the_first_divergence() {
    let other = changed(|s| {
        failing(s);
        let Fact::Exchange(exchange) = &mut s.evidence[2].fact else { unreachable!() };
        let meshproof_model::HopResult::Response(response) = &mut exchange.hops[0].result else {
            unreachable!()
        };
        response.status = 503;
    });
    let wanted = "workload sleep, exchange, request 1: status: 503 instead of 301";
    assert_eq!(sentence(&other).as_deref(), Some(wanted));
}

#[test]
fn a_different_log_field_is_the_first_divergence_if_the_workload_s_evidence_is_equal() {
    let other = changed(|s| {
        failing(s);
        let Fact::AccessLog(log) = &mut s.evidence[3].fact else { unreachable!() };
        log.fields.as_mut().unwrap().upstream_cluster = Some("PassthroughCluster".to_owned());
    });
    let wanted = "proxy sleep, access-log line, upstream cluster: PassthroughCluster instead of outbound|80||edition.cnn.com";
    assert_eq!(sentence(&other).as_deref(), Some(wanted));
}

#[test]
fn evidence_that_only_one_report_has_is_not_compared_with_nothing() {
    let mut base = base();
    base.scenarios[0].checks[1].evidence.clear();
    let other = changed(failing);
    let comparison = compare(&[&base, &other], None);
    let cell = comparison.scenarios[0].rows[1].cells[1].as_ref().unwrap();
    assert!(cell.divergence.is_none(), "{:?}", cell.divergence);
    let mut out = Vec::new();
    crate::terminal::comparison(&mut out, &comparison, false, crate::terminal::OutputStyle::PLAIN).unwrap();
    let text = String::from_utf8(out).unwrap();
    assert!(!text.contains("first divergence") && text.contains(&cell.reason), "{text}");
}

#[test]
fn checks_that_are_skipped_for_one_reason_are_one_entry_on_a_terminal_and_a_failure_has_its_own() {
    let mut other = base();
    for (number, check) in other.scenarios[0].checks.iter_mut().enumerate() {
        check.verdict = if number == 0 { Verdict::Failed } else { Verdict::Skipped };
        let reason =
            if number == 0 { "It failed." } else { "The implementation does not declare the feature http2." };
        check.reason = reason.to_owned();
    }
    let names: Vec<String> = base().scenarios[0].checks[1..]
        .iter()
        .map(|c| format!("{} {}", c.level, c.id.split_once('/').unwrap().1))
        .collect();
    let mut out = Vec::new();
    let style = crate::terminal::OutputStyle { width: 1000, ..crate::terminal::OutputStyle::PLAIN };
    crate::terminal::comparison(&mut out, &compare(&[&base(), &other], Some(0)), false, style).unwrap();
    let text = String::from_utf8(out).unwrap();
    assert!(names.len() > 1 && text.contains(&format!("\n  {}\n", names.join(", "))), "{text}");
    assert_eq!(text.matches("does not declare the feature http2").count(), 1, "{text}");
}

#[test]
fn an_empty_list_is_shown_as_none() {
    let other = changed(|s| {
        failing(s);
        let Fact::AccessLog(log) = &mut s.evidence[3].fact else { unreachable!() };
        log.fields.as_mut().unwrap().response_flags = vec!["UF".to_owned()];
    });
    let wanted = "proxy sleep, access-log line, flags: UF instead of none";
    assert_eq!(sentence(&other).as_deref(), Some(wanted));
}

#[test]
fn the_field_that_a_check_failed_for_comes_before_other_differences() {
    let differing = |s: &mut ScenarioResult| {
        failing(s);
        let Fact::AccessLog(log) = &mut s.evidence[3].fact else { unreachable!() };
        log.fields.as_mut().unwrap().upstream_cluster = Some("PassthroughCluster".to_owned());
        let e6 = s.evidence.iter_mut().find(|e| e.id.0 == "e6").unwrap();
        let Fact::Request(request) = &mut e6.fact else { unreachable!() };
        request
            .headers
            .push(meshproof_model::Header { name: "x-envoy-attempt".to_owned(), value: "1".to_owned() });
    };
    let reported = |difference: Option<(&str, &str)>| {
        let other = changed(|s| {
            differing(s);
            s.checks[1].differences = difference
                .map(|(id, seen)| meshproof_model::report::Difference {
                    evidence: EvidenceId(id.to_owned()),
                    expected: "no header x-envoy-*".to_owned(),
                    seen: seen.to_owned(),
                })
                .into_iter()
                .collect();
        });
        sentence(&other).unwrap()
    };
    assert!(reported(Some(("e6", "headers x-envoy-attempt"))).contains("request, headers: "));
    let first = "access-log line, upstream cluster: ";
    assert!(reported(None).contains(first));
    assert!(
        reported(Some(("e4", "headers x-envoy-attempt"))).contains(first),
        "a log line has no such field"
    );
}

#[test]
fn a_piece_that_only_one_side_has_is_a_divergence() {
    let other = changed(|s| {
        failing(s);
        s.evidence.remove(3);
    });
    let sentence = sentence(&other).unwrap();
    assert!(
        sentence.starts_with("proxy sleep, access-log line: no evidence instead of method GET"),
        "{sentence}"
    );
}

#[test]
fn examples_of_different_requests_are_not_compared() {
    let other = changed(|s| {
        failing(s);
        for piece in &mut s.evidence {
            if let Fact::Exchange(exchange) = &mut piece.fact {
                exchange.hops[0].url = "http://another.example/".to_owned();
            }
        }
    });
    assert_eq!(sentence(&other), None);
}

#[test]
fn values_that_differ_in_every_run_are_not_a_divergence() {
    let other = changed(|s| {
        failing(s);
        for piece in &mut s.evidence {
            piece.at_us += 7;
            if let Fact::Request(request) = &mut piece.fact {
                request.peer = "10.0.0.1:1".to_owned();
                request.connection = 99;
            }
        }
    });
    assert_eq!(sentence(&other), None);
}

#[test]
fn a_missing_check_leaves_its_cell_empty_and_is_not_a_difference() {
    let other = changed(|s| drop(s.checks.remove(1)));
    let comparison = compare(&[&base(), &other], None);
    let row = &comparison.scenarios[0].rows[1];
    assert_eq!(row.name, "sni-is-host");
    assert!(row.cells[0].is_some() && row.cells[1].is_none() && !row.differs);
}

#[test]
fn scenarios_that_only_a_later_report_contains_are_included() {
    let comparison = compare(&[&base(), &sample::report()], None);
    let selectors: Vec<&str> = comparison.scenarios.iter().map(|g| g.selector.as_str()).collect();
    assert_eq!(
        selectors,
        [
            "sidecar-origination:target-port",
            "egress-gateway-mutual",
            "path-based-routing:root-last",
            "external-web-service"
        ]
    );
}

#[test]
fn a_baseline_distinguishes_regressions_from_fixes() {
    let broken = changed(failing);
    let movement = |before: &Report, now: &Report| {
        let comparison = compare(&[before, now], Some(0));
        assert_eq!(comparison.scenarios[0].rows[1].cells[0].as_ref().unwrap().movement, None);
        comparison.scenarios[0].rows[1].cells[1].as_ref().unwrap().movement
    };
    assert_eq!(movement(&base(), &broken), Some(Movement::Regression));
    assert_eq!(movement(&broken, &base()), Some(Movement::Fix));
    assert_eq!(movement(&base(), &base()), None);
}

/// What the second report lost since the first: how, why, and whether that was allowed.
fn lost_since(before: &Report, now: &Report, allowed: &[&str]) -> (usize, Vec<(String, LostCheck)>) {
    let mut comparison = compare(&[before, now], Some(0));
    let allowed: Vec<String> = allowed.iter().map(|a| (*a).to_owned()).collect();
    comparison.allow_lost(&allowed);
    let lost = comparison.lost().map(|(s, r, l)| (format!("{s}/{}", r.name), l.clone())).collect();
    (comparison.regressions(), lost)
}

fn stored(change: impl FnOnce(&mut Report)) -> Report {
    // Through JSON, as a comparison reads its reports.
    let mut report = base();
    change(&mut report);
    meshproof_model::from_json(meshproof_model::to_json(&report).unwrap().as_bytes()).unwrap()
}

#[test]
fn a_check_that_passed_and_is_now_skipped_missing_or_an_error_is_lost() {
    let (skipped, error) = (Verdict::Skipped, Verdict::Error);
    let with = |verdict| stored(|r| r.scenarios[0].checks[1].verdict = verdict);
    let missing = stored(|r| drop(r.scenarios[0].checks.remove(1)));
    for (now, how) in
        [(with(skipped), HowLost::Skipped), (with(error), HowLost::Error), (missing, HowLost::Missing)]
    {
        let (regressions, lost) = lost_since(&base(), &now, &[]);
        assert_eq!((regressions, lost.len()), (1, 1), "{how:?}");
        assert_eq!((lost[0].0.as_str(), lost[0].1.how), ("sidecar-origination:target-port/sni-is-host", how));
    }
}

#[test]
fn a_check_that_did_not_pass_in_the_baseline_cannot_be_lost() {
    for verdict in [Verdict::Failed, Verdict::Inconclusive, Verdict::Skipped, Verdict::Error] {
        let before = stored(|r| r.scenarios[0].checks[1].verdict = verdict);
        let now = stored(|r| drop(r.scenarios[0].checks.remove(1)));
        assert_eq!(lost_since(&before, &now, &[]), (0, vec![]), "{verdict}");
    }
}

#[test]
fn every_check_of_a_missing_scenario_is_lost() {
    let now = stored(|r| r.scenarios[0].id = "another".to_owned());
    let (regressions, lost) = lost_since(&base(), &now, &[]);
    assert_eq!((regressions, lost.len()), (3, 3));
    assert_eq!(lost[0].1.reason, "The report does not contain sidecar-origination:target-port.");
}

#[test]
fn the_checks_of_a_renamed_configuration_are_lost_until_the_old_name_is_allowed() {
    let now = stored(|r| r.scenarios[0].configuration = "renamed".to_owned());
    let (regressions, lost) = lost_since(&base(), &now, &[]);
    assert_eq!(regressions, 3);
    assert!(
        lost[0].1.reason.contains("It contains sidecar-origination:renamed with the same checks"),
        "{lost:?}"
    );
    let (regressions, lost) = lost_since(&base(), &now, &["sidecar-origination:target-port"]);
    assert_eq!((regressions, lost.len()), (0, 3), "what is allowed is still shown");
}

#[test]
fn what_may_be_lost_is_named_by_scenario_configuration_and_check() {
    let now = stored(|r| r.scenarios.clear());
    for (allowed, regressions) in [
        ("sidecar-origination", 0),
        ("sidecar-origination/sni-is-host", 2),
        ("sidecar-origination:target-port/sni-is-host", 2),
        ("sidecar-origination:other", 3),
        ("sidecar-originatio", 3),
        ("sni-is-host", 3),
    ] {
        assert_eq!(lost_since(&base(), &now, &[allowed]).0, regressions, "{allowed}");
    }
    let mut comparison = compare(&[&base(), &now], Some(0));
    let notes = comparison.allow_lost(&["sidecar-origination:target-port/sni-is-hst".to_owned()]);
    assert!(notes[0].contains("did you mean sidecar-origination:target-port/sni-is-host"), "{notes:?}");
}

#[test]
fn checks_that_a_column_did_not_ask_are_counted() {
    let mut now = stored(|r| drop(r.scenarios[0].checks.remove(1)));
    now.scenarios[0].checks[0].verdict = Verdict::Skipped;
    let columns = compare(&[&base(), &now], None).columns;
    let numbers = |c: &Column| (c.must_passed, c.must_asked, c.must_not_asked);
    assert_eq!((numbers(&columns[0]), numbers(&columns[1])), ((2, 2, 0), (0, 0, 2)));
}

/// A request that failed as it must, then one that succeeded. The other implementation failed in the first one.
#[test]
fn the_request_under_test_is_compared_with_itself_and_not_with_the_control() {
    let with = |step_of_control: usize, status: u16, marked: bool| {
        let mut report = base();
        let scenario = &mut report.scenarios[0];
        let piece = |scenario: &mut ScenarioResult, from: usize, id: &str, step: usize, status: u16| {
            let mut piece = scenario.evidence[from].clone();
            (piece.id, piece.token, piece.step) =
                (EvidenceId(id.to_owned()), Some(format!("token-{id}")), step);
            let Fact::Exchange(exchange) = &mut piece.fact else { unreachable!() };
            exchange.hops.truncate(1);
            let meshproof_model::HopResult::Response(response) = &mut exchange.hops[0].result else {
                unreachable!()
            };
            response.status = status;
            scenario.evidence.push(piece);
        };
        piece(scenario, 2, "control", step_of_control, 200);
        piece(scenario, 2, "tested", 1, status);
        let id = |id: &str| EvidenceId(id.to_owned());
        let check = &mut scenario.checks[1];
        check.evidence = vec![id("tested")];
        if status >= 400 {
            check.evidence.push(id("control"));
            check.control_evidence = if marked { vec![id("control")] } else { vec![] };
        } else {
            check.verdict = Verdict::Failed;
        }
        report
    };
    // By the role that the report states, and in an old report by the step.
    for (step_of_control, marked) in [(1, true), (0, false)] {
        let (good, bad) = (with(step_of_control, 503, marked), with(step_of_control, 200, marked));
        let comparison = compare(&[&good, &bad], Some(0));
        let cell = comparison.scenarios[0].rows[1].cells[1].as_ref().unwrap();
        let wanted = "workload sleep, exchange, status: 200 instead of 503";
        assert_eq!(cell.divergence.as_ref().map(Divergence::sentence).as_deref(), Some(wanted));
    }
}

#[test]
fn a_skipped_cell_names_the_missing_feature_and_has_no_divergence() {
    let other = changed(|s| {
        s.checks[1].verdict = Verdict::Skipped;
        s.checks[1].feature = Some(meshproof_model::Feature::MeshMtls.into());
        s.checks[1].evidence.clear();
    });
    let comparison = compare(&[&base(), &other], None);
    let cell = comparison.scenarios[0].rows[1].cells[1].as_ref().unwrap();
    assert_eq!((cell.missing_feature.as_deref(), &cell.divergence), (Some("mesh-mtls"), &None));
}

#[test]
fn a_column_label_contains_the_variant_and_no_other_details() {
    let mut envoy = base();
    envoy.implementation.details.insert("program".to_owned(), "/opt/some/where/envoy".to_owned());
    let comparison = compare(&[&envoy], None);
    assert_eq!(comparison.columns[0].label(), "meshproof reference 0.1.0");
    envoy.implementation.details.insert("mutation".to_owned(), "no-sni".to_owned());
    assert_eq!(compare(&[&envoy], None).columns[0].label(), "meshproof reference 0.1.0 · no-sni");
}

#[test]
fn columns_with_the_same_name_get_unique_keys_from_variant_version_or_number() {
    let mut broken = base();
    broken.implementation.details.insert("saboteur".to_owned(), "no-sni".to_owned());
    let mut other = base();
    other.implementation.version = "0.2.0".to_owned();
    let comparison = compare(&[&base(), &other, &other, &broken, &sample::report()], None);
    let keys: Vec<&str> = comparison.columns.iter().map(|c| c.key.as_str()).collect();
    assert_eq!(
        keys,
        [
            "meshproof-reference-0-1-0",
            "meshproof-reference-0-2-0",
            "meshproof-reference-0-2-0-2",
            "meshproof-reference-no-sni",
            "istio"
        ]
    );
}

#[test]
fn the_published_schema_is_the_generated_one() {
    let mut schema = schemars::schema_for!(Comparison);
    if let Some(version) = schema.pointer_mut("/properties/schema").and_then(|s| s.as_object_mut()) {
        version.insert("const".to_owned(), SCHEMA.into());
    }
    let generated = format!("{}\n", serde_json::to_string_pretty(&schema).unwrap());
    if std::env::var_os("MESHPROOF_BLESS").is_some_and(|v| v == "1") {
        std::fs::write(SCHEMA_FILE, &generated).unwrap();
    }
    let published = std::fs::read_to_string(SCHEMA_FILE).unwrap_or_default();
    assert!(
        published == generated,
        "{SCHEMA_FILE} is outdated. To update it, run MESHPROOF_BLESS=1 cargo test -p meshproof-render"
    );
    let validator = jsonschema::draft202012::new(&serde_json::to_value(&schema).unwrap()).unwrap();
    let comparison = compare(&[&sample::report(), &changed(failing)], Some(0));
    assert!(validator.is_valid(&serde_json::to_value(&comparison).unwrap()));
}

fn three() -> Comparison {
    let broken = changed(|s| {
        failing(s);
        s.evidence.remove(3);
    });
    compare(&[&base(), &broken, &sample::report()], Some(0))
}

#[test]
fn comparison_on_a_terminal() {
    let mut out = Vec::new();
    crate::terminal::comparison(&mut out, &three(), false, crate::terminal::OutputStyle::PLAIN).unwrap();
    insta::assert_snapshot!(String::from_utf8(out).unwrap());
}

#[test]
fn comparison_as_json() {
    let mut comparison = three();
    comparison.scenarios.truncate(1);
    insta::assert_json_snapshot!(comparison);
}

#[test]
fn hostile_text_in_a_comparison_is_escaped_on_a_terminal() {
    let mut out = Vec::new();
    crate::terminal::comparison(&mut out, &three(), true, crate::terminal::OutputStyle::PLAIN).unwrap();
    let text = String::from_utf8(out).unwrap();
    assert_eq!(text.chars().find(|c| c.is_control() && *c != '\n'), None);
    assert!(!text.contains("##["));
}

#[test]
fn a_label_names_the_column_everywhere_and_in_queries() {
    let mut comparison = compare(&[&base(), &changed(failing), &base()], Some(0));
    comparison.label(&[Some("Before".to_owned()), None, Some("before".to_owned())]);
    let named: Vec<(String, &str)> = comparison.columns.iter().map(|c| (c.label(), c.key.as_str())).collect();
    let wanted = [
        ("Before".to_owned(), "before"),
        ("Other 0.1.0".to_owned(), "other"),
        ("before".to_owned(), "before-2"),
    ];
    assert_eq!(named, wanted);
    let page = crate::html::comparison_page(&comparison, &[&base(), &changed(failing), &base()], false);
    assert!(page.contains("data-key=\"before-2\""));
}

#[test]
fn a_scenario_counts_the_must_checks_of_all_its_configurations() {
    let two = |r: &mut Report| {
        let mut other = r.scenarios[0].clone();
        other.configuration = "other".to_owned();
        r.scenarios.push(other);
    };
    let before = stored(two);
    let now = stored(|r| {
        two(r);
        let checks = &mut r.scenarios[1].checks;
        (checks[0].verdict, checks[1].verdict) = (Verdict::Failed, Verdict::Skipped);
        checks[1].feature = Some(meshproof_model::Feature::MeshMtls.into());
    });
    let scenarios = compare(&[&before, &now], Some(0)).by_scenario();
    let texts: Vec<(&str, Vec<String>)> = scenarios
        .iter()
        .map(|s| (s.scenario.as_str(), s.cells.iter().map(RollUpCell::text).collect()))
        .collect();
    assert_eq!(texts, [("sidecar-origination", vec!["4/4".to_owned(), "2/3, 1 not asked".to_owned()])]);
    let cell = &scenarios[0].cells[1];
    assert_eq!((cell.verdict(), cell.regressions), (Verdict::Failed, 2));
    assert_eq!(cell.missing_features, ["mesh-mtls"]);
}

#[test]
fn reports_without_a_common_check_are_recognised() {
    let other = stored(|r| r.scenarios[0].id = "another-scenario".to_owned());
    let column = |reports: &[&Report], baseline| compare(reports, baseline).disjoint();
    assert_eq!(column(&[&base(), &other], None), Some(0));
    assert_eq!(column(&[&base(), &other], Some(0)), Some(1));
    assert_eq!(column(&[&base(), &base(), &other], Some(0)), Some(2));
    assert_eq!(column(&[&base(), &base()], Some(0)), None);
    // One check is enough.
    let few = stored(|r| r.scenarios[0].checks.truncate(1));
    assert_eq!(column(&[&base(), &few], Some(0)), None);
}

#[test]
fn comparison_as_markdown_and_as_junit() {
    let comparison = three();
    let reports: Vec<Report> = vec![base(), changed(failing), sample::report()];
    let reports: Vec<&Report> = reports.iter().collect();
    for format in [ComparisonFormat::Markdown, ComparisonFormat::Junit] {
        let text = format.render(&comparison, &reports).unwrap();
        assert_eq!(text.chars().find(|c| c.is_control() && *c != '\n'), None, "{format}");
        assert!(!text.contains("<script>"), "{format}");
        insta::assert_snapshot!(format.name(), text);
    }
}
