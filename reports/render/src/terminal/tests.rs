use super::escape::cut;
use super::style::Facts;
use super::summary::{QUIET_LINES, SCREEN_LINES};
use super::*;
use meshproof_model::event::Event;
use meshproof_model::report::{CheckResult, Level, Report, Verdict};
use meshproof_model::sample;

const COLOUR: OutputStyle = OutputStyle { colour: true, live: true, width: 100 };

fn summarised(report: &Report, style: OutputStyle) -> String {
    let mut out = Vec::new();
    summary(&mut out, report, Some("meshproof-report/index.html"), style, Detail::Full).unwrap();
    String::from_utf8(out).unwrap()
}

fn in_detail(report: &Report, width: usize, detail: Detail) -> String {
    let mut out = Vec::new();
    let style = OutputStyle { width, ..OutputStyle::PLAIN };
    summary(&mut out, report, Some("meshproof-report/index.html"), style, detail).unwrap();
    String::from_utf8(out).unwrap()
}

/// A report in which very many checks fail for very many causes.
fn catastrophe() -> Report {
    let mut report = sample::report();
    let scenario = report.scenarios[0].clone();
    for n in 0..60 {
        let mut more = scenario.clone();
        more.id = format!("scenario-{n}");
        for (m, check) in more.checks.iter_mut().enumerate() {
            (check.id, check.verdict) =
                (format!("scenario-{n}/{}-{m}", "long-name".repeat(8)), Verdict::Failed);
            check.reason = "word ".repeat(200);
        }
        more.faults = report.scenarios[1].faults.clone();
        report.scenarios.push(more);
    }
    report.derive_causes();
    report
}

#[test]
fn a_failure_fits_one_screen_whatever_fails() {
    for report in [sample::report(), catastrophe()] {
        for width in [40, 80, 120] {
            let text = in_detail(&report, width, Detail::Screen);
            assert!(text.lines().count() <= SCREEN_LINES, "{width}: {}", text.lines().count());
            assert!(text.lines().last().unwrap_or_default().len() > 3);
            let text = in_detail(&report, width, Detail::Quiet);
            assert!(text.lines().count() <= QUIET_LINES, "{width}: {}\n{text}", text.lines().count());
        }
    }
}

#[test]
fn a_long_example_keeps_what_was_expected_and_a_long_list_how_many_more_there_are() {
    let mut report = sample::report();
    let like = report.scenarios[0].clone();
    for n in 0..9 {
        let mut more = like.clone();
        more.id = format!("scenario-with-a-rather-long-name-{n}");
        report.scenarios.push(more);
    }
    for check in report.scenarios.iter_mut().flat_map(|s| &mut s.checks) {
        check.reason = format!("{}Expected: one response with status 200.", "Seen in passing. ".repeat(22));
    }
    report.derive_causes();
    let text = in_detail(&report, 80, Detail::Screen);
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(words.contains(" … Expected: one response with status 200."), "{text}");
    assert!(words.contains("more example Seen"), "{text}");
}

#[test]
fn what_the_reason_of_a_check_says_is_not_repeated() {
    let mut report = sample::report();
    for check in report.scenarios.iter_mut().flat_map(|s| &mut s.checks) {
        (check.expected, check.seen) =
            ("status 200".to_owned(), "workload sleep received status 503".to_owned());
        check.reason = "Workload sleep received status 503. Expected: status 200.".to_owned();
    }
    let text = summarised(&report, OutputStyle::PLAIN);
    assert!(
        text.contains("  reason  ") && !text.contains("  expected  ") && !text.contains("  seen  "),
        "{text}"
    );
}

#[test]
fn screen_of_failures() {
    insta::assert_snapshot!(in_detail(&sample::report(), 80, Detail::Screen));
}

#[test]
fn quiet_summary_of_failures() {
    insta::assert_snapshot!(in_detail(&sample::report(), 80, Detail::Quiet));
}

#[test]
fn a_passing_run_prints_the_same_in_every_detail_but_quiet() {
    let full = in_detail(&sample::passing(), 100, Detail::Full);
    for detail in [Detail::Screen, Detail::Stories] {
        assert_eq!(in_detail(&sample::passing(), 100, detail), full);
    }
    assert_eq!(in_detail(&sample::passing(), 100, Detail::Quiet), "✓ PASSED: 2 MUST checks passed\n");
}

#[test]
fn the_stories_show_one_check_per_cause_with_its_evidence() {
    let report = sample::report();
    let text = in_detail(&report, 100, Detail::Stories);
    assert_eq!(text.matches("  requirement  ").count(), report.causes.len());
    assert!(text.contains("external service edition.cnn.com"));
}

#[test]
fn a_normal_run_has_few_lines_of_progress() {
    let mut report = catastrophe();
    report.scenarios.iter_mut().for_each(|s| s.faults.clear());
    let text = shown(&events(&report), OutputStyle::PLAIN, Verbosity::Normal);
    assert!(text.lines().count() <= 10, "{text}");
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
    insta::assert_snapshot!(shown(&events(&sample::report()), OutputStyle::PLAIN, Verbosity::Scenarios));
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
    assert!(text.ends_with("configurations run one after another: the gateways are shared\n"), "{text}");
}

#[test]
fn live_progress_redraws_one_line_in_place() {
    let mut report = sample::report();
    report.scenarios.truncate(2);
    let text =
        shown(&events(&report), OutputStyle { colour: false, live: true, width: 60 }, Verbosity::Scenarios);
    insta::assert_snapshot!(text.replace('\r', "<CR>").replace("\x1b[2K", "<ERASE>"));
    assert!(text.ends_with("\r\x1b[2K") || text.ends_with('\n'), "the progress line was not removed");
}

#[test]
fn a_slow_step_is_named_with_its_time_on_a_terminal_and_as_a_plain_line_elsewhere() {
    use std::time::{Duration, Instant};
    let events = [
        Event::ScenarioStarted { scenario: "credentials:sidecar".to_owned() },
        Event::ScenarioStarted { scenario: "origination-scope:sidecar".to_owned() },
        Event::StepStarted { scenario: "credentials:sidecar".to_owned(), title: "apply a Secret".to_owned() },
    ];
    for (live, wanted, lines) in [
        (true, "credentials:sidecar: apply a Secret (for 1", 0),
        (false, "waiting for origination-scope:sidecar: starting its proxies and services (for ", 3),
    ] {
        let mut out = Vec::new();
        let mut progress =
            Progress::new(&mut out, OutputStyle { live, ..OutputStyle::PLAIN }, Verbosity::Normal);
        for event in &events {
            progress.on(event).unwrap();
        }
        let now = Instant::now();
        for second in 0..100 {
            progress.tick(now + Duration::from_secs(second)).unwrap();
        }
        let text = String::from_utf8(out).unwrap();
        assert!(text.contains(wanted), "{text}");
        assert_eq!(text.lines().filter(|l| l.starts_with("waiting for ")).count(), lines, "{text}");
    }
}

#[test]
fn a_kept_folder_is_named_in_a_quiet_run_too() {
    let kept = Event::FolderKept { folder: "/tmp/meshproof-1".to_owned() };
    let text = shown(&[kept], OutputStyle::PLAIN, Verbosity::Quiet);
    assert_eq!(text, "the working folder is kept: /tmp/meshproof-1\n");
}

#[test]
fn the_progress_line_is_removed_when_a_run_stops_early() {
    let mut events = events(&sample::passing());
    events.truncate(2);
    let text = shown(&events, OutputStyle { colour: false, live: true, width: 60 }, Verbosity::Normal);
    assert!(text.contains("[0/1]") && text.ends_with("\r\x1b[2K"), "{text:?}");
}

#[test]
fn colour_needs_a_terminal_that_supports_it_or_a_wish() {
    let facts = Facts {
        terminal: true,
        dumb: false,
        no_colour: false,
        force_colour: false,
        columns: Some(80),
        colour: Colour::Auto,
    };
    let colour = |facts: Facts| OutputStyle::from_facts(&facts).colour;
    assert!(colour(facts));
    assert!(!colour(Facts { terminal: false, ..facts }));
    assert!(!colour(Facts { dumb: true, ..facts }));
    assert!(!colour(Facts { no_colour: true, ..facts }));
    assert!(colour(Facts { terminal: false, force_colour: true, ..facts }));
    assert!(!colour(Facts { no_colour: true, force_colour: true, ..facts }), "NO_COLOR is the stronger wish");
    assert!(colour(Facts { no_colour: true, terminal: false, colour: Colour::Always, ..facts }));
    assert!(!colour(Facts { force_colour: true, colour: Colour::Never, ..facts }));
    assert!(!OutputStyle::from_facts(&Facts { terminal: false, colour: Colour::Always, ..facts }).live);
    assert_eq!(OutputStyle::from_facts(&Facts { terminal: false, columns: Some(72), ..facts }).width, 72);
}

#[test]
fn a_line_is_cut_by_columns_not_by_characters() {
    assert_eq!(cut("abc", 3), "abc");
    assert_eq!(cut("abcd", 3), "ab…");
    assert_eq!(cut("日本語", 5), "日本…");
    assert_eq!(cut("日本語", 4), "日…");
}

#[test]
fn a_fault_of_the_teardown_alone_does_not_say_that_checks_could_not_be_judged() {
    let mut report = sample::report();
    assert!(!report.scenarios[1].faults.is_empty(), "the sample has a fault");
    for check in report.scenarios.iter_mut().flat_map(|s| &mut s.checks) {
        check.verdict = Verdict::Passed;
    }
    report.derive_causes();
    for detail in [Detail::Screen, Detail::Quiet] {
        let text = in_detail(&report, 100, detail);
        assert!(!text.contains("0 checks") && !text.contains("could not be judged"), "{text}");
        assert!(text.contains("! 1 environment or suite error"), "{text}");
    }
}
