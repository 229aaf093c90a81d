use super::*;
use meshproof_model::evidence::EvidenceId;
use meshproof_model::report::{ExpectedFailure, Verdict};
use meshproof_model::sample;
use meshproof_model::visible;

fn rendered(format: Format, report: &Report) -> String {
    format.render(report).unwrap()
}

/// The sample with an expected failure and an unexpected success.
fn with_expectations() -> Report {
    let mut report = sample::report();
    for check in [1, 2] {
        report.scenarios[0].checks[check].expected_failure = Some(ExpectedFailure {
            reason: "known: issue 7".to_owned(),
            until: Some("2027-01-31".to_owned()),
        });
    }
    report
}

#[test]
fn junit_xml() {
    insta::assert_snapshot!(rendered(Format::Junit, &with_expectations()));
}

#[test]
fn markdown_summary() {
    insta::assert_snapshot!(rendered(Format::Markdown, &with_expectations()));
}

#[test]
fn github_annotations() {
    insta::assert_snapshot!(rendered(Format::Github, &with_expectations()));
}

#[test]
fn badges() {
    insta::assert_snapshot!(rendered(Format::Badge, &sample::report()));
    insta::assert_snapshot!(rendered(Format::BadgeSvg, &sample::passing()));
}

#[test]
fn text_summary() {
    insta::assert_snapshot!(rendered(Format::Text, &with_expectations()));
}

#[test]
fn junit_failures_are_the_checks_that_fail_the_run() {
    for report in [sample::report(), sample::passing(), with_expectations()] {
        let xml = rendered(Format::Junit, &report);
        let fails = report.checks().filter(|c| c.fails_run()).count();
        let errors = report.checks().filter(|c| c.verdict == Verdict::Error).count();
        assert_eq!(xml.matches("<failure ").count(), fails);
        assert_eq!(xml.matches("<error ").count(), errors);
        let skipped = xml.matches("<skipped ").count();
        let tests = report.checks().count();
        let head =
            format!("tests=\"{tests}\" skipped=\"{skipped}\" failures=\"{fails}\" errors=\"{errors}\"");
        assert!(xml.contains(&head), "{head}");
    }
}

/// The elements and attributes of the common JUnit XML format (<https://github.com/testmoapp/junitxml>) that
/// are used here.
#[test]
fn junit_uses_only_elements_and_attributes_of_the_common_schema() {
    let xml = rendered(Format::Junit, &with_expectations());
    let known = |element: &str| match element {
        "?xml" => Some("version encoding"),
        "testsuites" => Some("name tests skipped failures errors time"),
        "testsuite" => Some("name tests skipped errors failures time"),
        "testcase" => Some("name classname time"),
        "properties" | "system-err" => Some(""),
        "property" => Some("name value"),
        "failure" | "error" => Some("type message"),
        "skipped" => Some("message"),
        _ => None,
    };
    for tag in xml.split('<').skip(1).filter(|t| !t.starts_with('/')) {
        let inside = tag.split_once('>').unwrap().0.trim_end_matches(['/', '?']);
        let names = inside.split('"').step_by(2).collect::<Vec<_>>().join(" ");
        let mut names = names.split_whitespace().map(|n| n.trim_end_matches('='));
        let element = names.next().unwrap();
        let attributes =
            known(element).unwrap_or_else(|| panic!("<{element}> is not an element of the schema"));
        for name in names {
            assert!(attributes.split(' ').any(|a| a == name), "{name} of <{element}>");
        }
    }
}

#[test]
fn an_annotation_is_one_line_even_with_hostile_text() {
    let text = rendered(Format::Github, &sample::report());
    for line in text.lines() {
        assert!(
            ["::error title=", "::warning title=", "::notice title="].iter().any(|s| line.starts_with(s)),
            "{line}"
        );
        assert_eq!(visible::line(line), line);
    }
    assert!(text.contains("%0Arepeat: meshproof"));
}

#[test]
fn annotations_beyond_github_s_limit_are_counted() {
    let mut report = sample::report();
    let check = report.scenarios[0].checks[1].clone();
    report.scenarios[0].checks.extend(std::iter::repeat_n(check, 40));
    let text = rendered(Format::Github, &report);
    let errors: Vec<&str> = text.lines().filter(|l| l.starts_with("::error")).collect();
    assert!(errors.len() <= 11, "{}", errors.len());
    assert!(text.contains("; see the report"));
}

#[test]
fn hostile_text_in_markdown_is_only_in_code() {
    let text = rendered(Format::Markdown, &sample::report());
    let mut fence: Option<&str> = None;
    for line in text.lines() {
        let ticks = &line[..line.len() - line.trim_start_matches('`').len()];
        if ticks.len() >= 3 && fence.is_none() && line.ends_with("text") {
            fence = Some(ticks);
        } else if fence == Some(line) {
            fence = None;
        } else if fence.is_none() {
            // The line without its code spans.
            let bare: String = bare(line);
            assert!(!bare.contains("alert") && !bare.contains("javascript"), "{line}");
        }
    }
    assert_eq!(fence, None);
}

fn bare(line: &str) -> String {
    let mut out = String::new();
    let mut rest = line;
    while let Some(at) = rest.find('`') {
        out.push_str(&rest[..at]);
        let run = rest[at..].len() - rest[at..].trim_start_matches('`').len();
        let fence = "`".repeat(run);
        let inside = &rest[at + run..];
        let Some(end) = inside
            .match_indices(&fence)
            .find(|(i, _)| !inside[..*i].ends_with('`') && !inside[i + run..].starts_with('`'))
        else {
            return out + rest;
        };
        rest = &inside[end.0 + run..];
    }
    out + rest
}

#[test]
fn a_summary_of_a_thousand_failures_is_within_github_s_limit() {
    let mut report = sample::report();
    let mut check = report.scenarios[0].checks[1].clone();
    check.seen = "x".repeat(2_000);
    check.evidence = vec![EvidenceId("e3".to_owned())];
    report.scenarios[0].checks.extend(std::iter::repeat_n(check, 1_000));
    let text = rendered(Format::Markdown, &report);
    assert!(text.len() < 65_536 && text.contains("; see the report"));
}

#[test]
fn a_badge_states_the_verdict_as_text() {
    for (report, word) in
        [(sample::report(), "failed 3/9 MUST, 2 not asked"), (sample::passing(), "passed 2/2 MUST")]
    {
        assert!(rendered(Format::Badge, &report).contains(word));
        assert!(rendered(Format::BadgeSvg, &report).contains(word));
    }
}

#[test]
fn a_format_is_parsed_by_its_name_and_an_unknown_name_lists_all() {
    for format in Format::ALL {
        assert_eq!(format.name().parse::<Format>(), Ok(format));
    }
    let error = "yaml".parse::<Format>().unwrap_err();
    assert!(error.contains("html, json, junit"), "{error}");
}
