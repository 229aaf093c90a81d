use meshproof_model::verification::{
    Finding, Fix, Flow, FlowHop, Outcome, Place, SCHEMA, Severity, Verification,
};

use super::{VerificationFormat, answer, text};
use crate::terminal::OutputStyle;

fn finding(severity: Severity, message: &str) -> Finding {
    Finding {
        code: "MP0003".to_owned(),
        name: "settings-for-another-port".to_owned(),
        severity,
        resource: "DestinationRule default/erp".to_owned(),
        at: Place { file: "dir/case one.yaml".to_owned(), line: 19, column: 7, field: String::new() },
        message: message.to_owned(),
        effect: "http://erp.example.com/ from sleep.default reaches erp.example.com:443 in plain text"
            .to_owned(),
        fix: Some(Fix {
            summary: "Use port 80 in portLevelSettings".to_owned(),
            resource: "DestinationRule default/erp".to_owned(),
            patch:
                "- op: replace\n  path: /spec/trafficPolicy/portLevelSettings/0/port/number\n  value: 80\n"
                    .to_owned(),
            confirmed: true,
        }),
        proof: None,
    }
}

fn flow(outcome: Outcome) -> Flow {
    let hop = |proxy: &str| FlowHop {
        proxy: proxy.to_owned(),
        route: String::new(),
        cluster: "outbound|443||erp.example.com".to_owned(),
    };
    Flow {
        from: "sleep.default".to_owned(),
        request: "http://erp.example.com/".to_owned(),
        conditions: Vec::new(),
        hops: vec![hop("sleep.default"), hop("istio-egressgateway.istio-system")],
        plain_text: matches!(outcome, Outcome::PlainText { .. }),
        outcome,
    }
}

fn sample() -> Verification {
    let to = || "erp.example.com:443".to_owned();
    Verification {
        schema: SCHEMA.to_owned(),
        meshproof: "0.1.0".to_owned(),
        files: vec!["dir/case one.yaml".to_owned(), "other.yaml".to_owned()],
        cluster: None,
        resources: 4,
        findings: vec![finding(
            Severity::Error,
            "portLevelSettings open TLS for port 443, and the request uses port 80",
        )],
        notes: vec![finding(Severity::Note, "a note")],
        flows: vec![
            flow(Outcome::PlainText { to: to() }),
            flow(Outcome::Originated {
                by: "istio-egressgateway.istio-system".to_owned(),
                to: to(),
                server_name: Some("erp.example.com".to_owned()),
                trust: "the system's CAs".to_owned(),
                names: "erp.example.com".to_owned(),
                client_certificate: None,
                inside_clients_tls: false,
            }),
        ],
        assumed: vec!["a workload `sleep` with a sidecar in namespace default".to_owned()],
        ..Verification::default()
    }
}

#[test]
fn the_terminal_keeps_to_its_width_and_shows_place_effect_and_fix() {
    for width in [80, 120] {
        let shown = text(&sample(), OutputStyle { width, ..OutputStyle::PLAIN });
        for line in shown.lines().filter(|l| !l.trim_start().starts_with(['-', '#', 'p'])) {
            assert!(line.chars().count() <= width, "{width}: {line}");
        }
        for part in [
            "error MP0003",
            "dir/case one.yaml:19:7",
            "IN PLAIN TEXT",
            "value: 80",
            "1 error, 0 warnings, 1 note",
        ] {
            let words = shown.split_whitespace().collect::<Vec<_>>().join(" ");
            assert!(words.contains(part), "{part}: {shown}");
        }
    }
}

#[test]
fn an_answer_names_each_proxy_once_and_the_line_of_each_decision() {
    let at = Some(Place { file: "a.yaml".to_owned(), line: 3, column: 1, field: String::new() });
    let steps = [
        ("sleep.default".to_owned(), "one".to_owned(), at),
        ("sleep.default".to_owned(), "two".to_owned(), None),
    ];
    let shown = answer(&steps, &flow(Outcome::PlainText { to: "x:80".to_owned() }), OutputStyle::PLAIN);
    assert_eq!(shown.matches("at sleep.default").count(), 1, "{shown}");
    assert!(shown.contains("one (a.yaml:3:1)"), "{shown}");
}

#[test]
fn json_is_the_data() {
    let json = VerificationFormat::Json.render(&sample()).unwrap();
    let back: Verification = serde_json::from_str(&json).unwrap();
    assert_eq!(back, sample());
}

#[test]
fn sarif_has_a_rule_per_code_and_a_place_per_result() {
    let text = VerificationFormat::Sarif.render(&sample()).unwrap();
    let log: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(log["version"], "2.1.0");
    let run = &log["runs"][0];
    assert_eq!(run["tool"]["driver"]["rules"].as_array().unwrap().len(), 1);
    let place = &run["results"][0]["locations"][0]["physicalLocation"];
    assert_eq!(place["artifactLocation"]["uri"], "dir/case%20one.yaml");
    assert_eq!(place["region"]["startLine"], 19);
    assert_eq!(run["results"][0]["ruleIndex"], 0);
    assert_eq!(run["results"][1]["level"], "note");
    let fingerprint = |n: usize| run["results"][n]["partialFingerprints"].to_string();
    assert_ne!(fingerprint(0), fingerprint(1));
    let mut elsewhere = sample();
    elsewhere.findings[0].at.file = "/tmp/case.yaml".to_owned();
    // A relative reference that begins with a slash cannot be resolved against a checkout (SARIF 2.1.0, section 3.4.4).
    assert!(VerificationFormat::Sarif.render(&elsewhere).unwrap().contains("\"file:///tmp/case.yaml\""));
}

#[test]
fn junit_fails_for_errors_and_passes_for_files_without_findings() {
    let text = VerificationFormat::Junit.render(&sample()).unwrap();
    assert!(text.contains("<failure") && text.contains("failures=\"1\""), "{text}");
    assert!(text.contains("name=\"other.yaml\"") && text.contains("name=\"no finding\""), "{text}");
}

#[test]
fn annotations_name_the_line_and_escape_what_ends_a_property() {
    let mut hostile = sample();
    hostile.findings[0].at.file = "a,b:c\n::error::x".to_owned();
    hostile.findings[0].message = "100%\n::warning::injected ##[error]".to_owned();
    let text = VerificationFormat::Github.render(&hostile).unwrap();
    assert!(text.starts_with("::error file=a%2Cb%3Ac"), "{text}");
    assert!(text.contains(",line=19,col=7,"), "{text}");
    assert_eq!(text.lines().count(), 2, "{text}");
    assert!(!text.contains("##["), "{text}");
}

#[test]
fn markdown_escapes_what_would_be_markup() {
    let mut hostile = sample();
    hostile.flows[0].from = "<img src=x> | @team `x`".to_owned();
    hostile.findings[0].fix.as_mut().unwrap().patch = "```\n# out".to_owned();
    let text = VerificationFormat::Markdown.render(&hostile).unwrap();
    assert!(text.contains("&lt;img") && !text.contains("<img") && !text.contains("@team"), "{text}");
    assert_eq!(text.matches("\n```").count(), 2, "{text}");
}

#[test]
fn the_page_draws_each_flow_and_escapes_text() {
    let mut hostile = sample();
    hostile.flows[0].request = "http://<script>alert(1)</script>/".to_owned();
    let page = VerificationFormat::Html.render(&hostile).unwrap();
    assert_eq!(page.matches("<svg").count(), 2);
    assert!(!page.contains("<script>alert"));
    assert!(page.contains("Content-Security-Policy"));
}

#[test]
fn every_format_has_its_name() {
    for format in VerificationFormat::ALL {
        assert_eq!(format.name().parse(), Ok(format));
    }
    assert!("pdf".parse::<VerificationFormat>().unwrap_err().contains("sarif"));
}

/// What was read from a cluster: names and fields instead of files and lines.
fn in_cluster() -> Verification {
    let mut verification = sample();
    verification.files = Vec::new();
    verification.cluster = Some("namespace shop of the cluster of context test".to_owned());
    for finding in verification.findings.iter_mut().chain(&mut verification.notes) {
        finding.at = Place {
            file: finding.resource.clone(),
            field: "spec.trafficPolicy.portLevelSettings[0]".to_owned(),
            ..Place::default()
        };
    }
    verification
}

#[test]
fn every_format_names_resource_and_field_where_there_is_no_file() {
    const AT: &str = "DestinationRule default/erp spec.trafficPolicy.portLevelSettings[0]";
    let text = text(&in_cluster(), OutputStyle::PLAIN);
    assert_eq!(text.lines().nth(1), Some(format!("  {AT}").as_str()));
    assert!(text.contains("4 resources in namespace shop of the cluster of context test"), "{text}");
    assert!(text.contains("Assumed, because it was not found in the cluster"), "{text}");
    let log = VerificationFormat::Sarif.render(&in_cluster()).unwrap();
    let log: serde_json::Value = serde_json::from_str(&log).unwrap();
    let location = &log["runs"][0]["results"][0]["locations"][0];
    assert_eq!(location["logicalLocations"][0]["fullyQualifiedName"], AT);
    assert!(location.get("physicalLocation").is_none(), "{location}");
    let github = VerificationFormat::Github.render(&in_cluster()).unwrap();
    assert!(
        github.starts_with(&format!("::error title=MP0003 settings-for-another-port::{AT}: ")),
        "{github}"
    );
    let markdown = VerificationFormat::Markdown.render(&in_cluster()).unwrap();
    assert!(markdown.contains("In namespace shop of the cluster"), "{markdown}");
    assert!(markdown.contains("spec.trafficPolicy.portLevelSettings\\[0\\]\n"), "{markdown}");
    let junit = VerificationFormat::Junit.render(&in_cluster()).unwrap();
    assert_eq!(junit.matches("<testsuite ").count(), 1, "{junit}");
    assert!(junit.contains("name=\"namespace shop of the cluster of context test\""), "{junit}");
    let page = VerificationFormat::Html.render(&in_cluster()).unwrap();
    assert!(page.contains(AT) && page.contains("4 resources in namespace shop"), "{page}");
    let json = VerificationFormat::Json.render(&in_cluster()).unwrap();
    assert_eq!(serde_json::from_str::<Verification>(&json).unwrap(), in_cluster());
}
