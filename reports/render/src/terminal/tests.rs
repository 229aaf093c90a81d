use super::escape::cut;
use super::*;
use meshproof_model::event::Event;
use meshproof_model::report::{CheckResult, Level, Report, Verdict};
use meshproof_model::sample;

const COLOUR: OutputStyle = OutputStyle { colour: true, live: true, width: 100 };

fn summarised(report: &Report, style: OutputStyle) -> String {
    let mut out = Vec::new();
    summary(&mut out, report, Some("meshproof-report/index.html"), style).unwrap();
    String::from_utf8(out).unwrap()
}

fn events(report: &Report) -> Vec<Event> {
    let mut events = vec![Event::RunStarted {
        implementation: format!("{} {}", report.implementation.name, report.implementation.version),
        scenarios: report.scenarios.len(),
        checks: report.checks().count(),
    }];
    for s in &report.scenarios {
        events.push(Event::ScenarioStarted { scenario: s.selector() });
    }
    for s in &report.scenarios {
        for step in &s.steps {
            events.push(Event::StepStarted { scenario: s.selector(), title: step.title.clone() });
        }
        for check in &s.checks {
            events.push(Event::CheckJudged { scenario: s.selector(), result: Box::new(check.clone()) });
        }
        events.push(Event::ScenarioFinished { result: Box::new(s.clone()) });
    }
    events
}

fn shown(events: &[Event], style: OutputStyle, verbosity: Verbosity) -> String {
    let mut out = Vec::new();
    let mut progress = Progress::new(&mut out, style, verbosity);
    for event in events {
        progress.on(event).unwrap();
    }
    progress.finish().unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn summary_of_failures() {
    insta::assert_snapshot!(summarised(&sample::report(), OutputStyle::PLAIN));
}

#[test]
fn summary_on_a_narrow_terminal() {
    let mut report = sample::report();
    report.scenarios.truncate(1);
    insta::assert_snapshot!(summarised(&report, OutputStyle { width: 60, ..OutputStyle::PLAIN }));
}

#[test]
fn summary_without_failures() {
    insta::assert_snapshot!(summarised(&sample::passing(), OutputStyle::PLAIN));
}

#[test]
fn summary_of_a_partial_run() {
    insta::assert_snapshot!(summarised(&sample::partial(), OutputStyle::PLAIN));
}

#[test]
fn summary_without_checks() {
    let mut report = sample::passing();
    report.scenarios.clear();
    insta::assert_snapshot!(summarised(&report, OutputStyle::PLAIN));
}

#[test]
fn many_checks_that_failed_for_the_same_reason_are_shown_once() {
    let mut report = sample::report();
    report.scenarios.truncate(1);
    let detailed =
        |report: &Report| summarised(report, OutputStyle::PLAIN).matches("  requirement  ").count();
    let before = detailed(&report);
    let failed = report.scenarios[0].checks.iter().find(|c| c.verdict == Verdict::Failed).unwrap().clone();
    let more = (0..40).map(|n| CheckResult { id: format!("{}-{n}", failed.id), ..failed.clone() });
    report.scenarios[0].checks.extend(more);
    let text = summarised(&report, OutputStyle::PLAIN);
    assert_eq!(detailed(&report), before);
    assert!(text.contains("and 40 more checks with the same reason: "), "{text}");
    let id = failed.id.rsplit('/').next().unwrap();
    assert!((0..40).all(|n| text.contains(&format!("{id}-{n}"))), "{text}");
}

#[test]
fn a_scenario_with_only_a_failed_should_check_is_not_reported_as_passed() {
    let mut report = sample::passing();
    let check = &mut report.scenarios[0].checks[2];
    (check.level, check.verdict) = (Level::Should, Verdict::Failed);
    let check = check.clone();
    report.scenarios[0].checks = vec![check];
    let text = shown(&events(&report), OutputStyle::PLAIN, Verbosity::Normal);
    assert!(text.contains("✗ failed") && !text.contains("passed"), "{text}");
    assert_eq!(report.exit_code(), 0);
}

#[test]
fn a_coloured_summary_has_the_same_text_as_a_plain_one() {
    let plain = summarised(&sample::report(), OutputStyle::PLAIN);
    let coloured = summarised(&sample::report(), COLOUR);
    assert_ne!(plain, coloured);
    assert_eq!(anstream::adapter::strip_str(&coloured).to_string(), plain);
}

#[test]
fn hostile_text_is_escaped_on_a_terminal() {
    for text in [
        summarised(&sample::report(), OutputStyle::PLAIN),
        shown(&events(&sample::report()), OutputStyle::PLAIN, Verbosity::Verbose),
    ] {
        let bad = text
            .chars()
            .find(|&c| c != '\n' && meshproof_model::visible::line(&c.to_string()) != c.to_string());
        assert_eq!(bad, None);
        assert!(text.contains("\\x1b[31mPASSED"));
    }
}

#[test]
fn untrusted_text_is_never_a_github_workflow_command() {
    for width in 40..120 {
        let text = summarised(&sample::report(), OutputStyle { width, ..OutputStyle::PLAIN });
        assert!(text.contains("::error::") && text.contains("# #[error]"));
        let command = text.lines().find(|l| l.trim_start().starts_with("::") || l.contains("##["));
        assert_eq!(command, None, "at width {width}");
    }
}

#[test]
fn plain_progress_is_one_line_per_scenario() {
    insta::assert_snapshot!(shown(&events(&sample::report()), OutputStyle::PLAIN, Verbosity::Normal));
}

#[test]
fn verbose_progress_is_one_line_per_check() {
    insta::assert_snapshot!(shown(&events(&sample::report()), OutputStyle::PLAIN, Verbosity::Verbose));
}

#[test]
fn quiet_progress_is_empty() {
    assert_eq!(shown(&events(&sample::report()), COLOUR, Verbosity::Quiet), "");
}

#[test]
fn progress_of_an_interrupted_run() {
    let mut events = events(&sample::passing());
    events.truncate(2);
    events.push(Event::Interrupted { reason: "Ctrl-C".to_owned() });
    insta::assert_snapshot!(shown(&events, OutputStyle::PLAIN, Verbosity::Normal));
}

#[test]
fn progress_states_why_scenarios_run_one_after_another() {
    let mut events = events(&sample::passing());
    events.truncate(1);
    events.push(Event::OneAtATime { reason: "the gateways are shared".to_owned() });
    let text = shown(&events, OutputStyle::PLAIN, Verbosity::Normal);
    assert!(text.ends_with("scenarios run one after another: the gateways are shared\n"), "{text}");
}

#[test]
fn live_progress_redraws_one_line_in_place() {
    let mut report = sample::report();
    report.scenarios.truncate(2);
    let text =
        shown(&events(&report), OutputStyle { colour: false, live: true, width: 60 }, Verbosity::Normal);
    insta::assert_snapshot!(text.replace('\r', "<CR>").replace("\x1b[2K", "<ERASE>"));
    assert!(text.ends_with("\r\x1b[2K") || text.ends_with('\n'), "the progress line was not removed");
}

#[test]
fn the_progress_line_is_removed_when_a_run_stops_early() {
    let mut events = events(&sample::passing());
    events.truncate(2);
    let text = shown(&events, OutputStyle { colour: false, live: true, width: 60 }, Verbosity::Normal);
    assert!(text.contains("[0/1]") && text.ends_with("\r\x1b[2K"), "{text:?}");
}

#[test]
fn colour_needs_a_terminal_that_supports_it() {
    let colour =
        |terminal, dumb, no_colour| OutputStyle::from_facts(terminal, dumb, no_colour, Some(80)).colour;
    assert!(colour(true, false, false));
    assert!(!colour(false, false, false));
    assert!(!colour(true, true, false));
    assert!(!colour(true, false, true));
}

#[test]
fn a_line_is_cut_by_columns_not_by_characters() {
    assert_eq!(cut("abc", 3), "abc");
    assert_eq!(cut("abcd", 3), "ab…");
    assert_eq!(cut("日本語", 5), "日本…");
    assert_eq!(cut("日本語", 4), "日…");
}
