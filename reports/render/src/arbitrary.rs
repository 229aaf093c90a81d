//! Property tests: renders reports in which every text, number and list of a sample is replaced.

use proptest::prelude::*;
use serde_json::Value;

use crate::formats::Format;
use crate::html;
use crate::terminal::{Detail, OutputStyle, Progress, Verbosity, summary};
use meshproof_model::{Event, Report, SCHEMA, from_json, sample, to_json};

/// Members whose values are enum values of the model, not free text.
const WORDS: &[&str] = &[
    "schema",
    "kind",
    "side",
    "verdict",
    "level",
    "state",
    "features",
    "feature",
    "role",
    "from",
    "to",
    "field",
    "expected_kind",
    "seen_kind",
    "no-response",
];

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => any::<String>(),
        1 => Just(sample::HOSTILE.to_owned()),
        1 => Just(String::new()),
        1 => Just("  ::error::x ##[error]".to_owned()),
        1 => Just("\r\n::set-output\u{1b}]8;;x\u{7}\n\n".repeat(30)),
        1 => "[ -~]{0,300}",
        1 => Just("日".repeat(5_000)),
    ]
}

fn report() -> impl Strategy<Value = Report> {
    let texts = prop::collection::vec(text(), 1..20);
    let numbers = prop::collection::vec(prop_oneof![Just(0), Just(u64::MAX), any::<u64>()], 1..10);
    let lengths = prop::collection::vec(0_usize..4, 1..10);
    (texts, numbers, lengths).prop_map(|(texts, numbers, lengths)| {
        let mut json = serde_json::to_value(sample::report()).unwrap();
        let mut texts = texts.into_iter().cycle();
        let mut numbers = numbers.into_iter().cycle();
        let mut lengths = lengths.into_iter().cycle();
        replace(&mut json, "", &mut texts, &mut numbers, &mut lengths);
        serde_json::from_value(json).unwrap()
    })
}

fn replace(
    value: &mut Value,
    key: &str,
    texts: &mut impl Iterator<Item = String>,
    numbers: &mut impl Iterator<Item = u64>,
    lengths: &mut impl Iterator<Item = usize>,
) {
    match value {
        Value::String(text) if !WORDS.contains(&key) => *text = texts.next().unwrap(),
        Value::Number(number) => {
            let new = numbers.next().unwrap();
            let small = matches!(key, "status" | "port" | "response_code");
            *number = if small { (new % 65_536).into() } else { new.into() };
        }
        Value::Array(items) => {
            // Lists become empty, are cut to one item, or contain an item twice.
            match lengths.next().unwrap() {
                0 => items.clear(),
                1 => items.truncate(1),
                2 => items.extend(items.first().cloned()),
                _ => {}
            }
            items.iter_mut().for_each(|item| replace(item, key, texts, numbers, lengths));
        }
        Value::Object(members) => {
            members.iter_mut().for_each(|(key, member)| replace(member, key, texts, numbers, lengths));
        }
        Value::Null | Value::Bool(_) | Value::String(_) => {}
    }
}

fn assert_harmless(out: &str) {
    assert_eq!(out.chars().find(|c| c.is_control() && *c != '\n'), None);
    let command = out.lines().find(|l| l.trim_start().starts_with("::") || l.contains("##["));
    assert_eq!(command, None, "GitHub's runner would treat this line as a command");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn any_report_renders_as_a_safe_page(report in report()) {
        html::tests::assert_harmless(&html::html(&report));
    }

    #[test]
    fn any_report_renders_as_a_safe_summary(report in report(), width in 0_usize..200) {
        let mut out = Vec::new();
        for detail in [Detail::Quiet, Detail::Screen, Detail::Stories, Detail::Full] {
            summary(&mut out, &report, Some("x"), OutputStyle { width, ..OutputStyle::PLAIN }, detail).unwrap();
        }
        let out = String::from_utf8(out).unwrap();
        assert_harmless(&out);
    }

    #[test]
    fn any_report_renders_as_safe_progress(report in report(), width in 0_usize..200) {
        let mut out = Vec::new();
        let mut progress = Progress::new(&mut out, OutputStyle { width, ..OutputStyle::PLAIN }, Verbosity::Verbose);
        let (implementation, reason) = (report.implementation.name.clone(), report.run.command.clone());
        progress.on(&Event::RunStarted { implementation, scenarios: 1, checks: 1 }).unwrap();
        progress.on(&Event::OneAtATime { reason: reason.clone() }).unwrap();
        progress.on(&Event::FolderKept { folder: reason.clone() }).unwrap();
        progress.on(&Event::Interrupted { reason }).unwrap();
        for scenario in &report.scenarios {
            progress.on(&Event::ScenarioStarted { scenario: scenario.selector() }).unwrap();
            progress.on(&Event::ScenarioFinished { result: Box::new(scenario.clone()) }).unwrap();
        }
        let out = String::from_utf8(out).unwrap();
        assert_harmless(&out);
    }

    #[test]
    fn any_report_renders_in_every_format_and_annotations_are_whole_lines(report in report()) {
        for format in Format::ALL {
            prop_assert!(format.render(&report).is_ok());
        }
        for line in Format::Github.render(&report).unwrap().lines() {
            let known = ["::error title=", "::warning title=", "::notice title="];
            prop_assert!(known.iter().any(|start| line.starts_with(start)) && !line.contains("##["), "{}", line);
        }
    }

    #[test]
    fn any_two_reports_render_as_a_safe_comparison(one in report(), other in report()) {
        html::tests::assert_harmless(&html::comparison(&[&one, &other], Some(0), true));
        let mut out = Vec::new();
        let compared = crate::compare::compare(&[&one, &other], Some(0));
        crate::terminal::comparison(&mut out, &compared, true, OutputStyle::PLAIN).unwrap();
        assert_harmless(&String::from_utf8(out).unwrap());
    }

    #[test]
    fn any_report_is_unchanged_after_writing_and_reading(report in report()) {
        let mut report = Report { schema: SCHEMA.to_owned(), ..report };
        // They are worked out anew when a report is read.
        report.derive_causes();
        prop_assert_eq!(from_json(to_json(&report).unwrap().as_bytes()).unwrap(), report);
    }

    #[test]
    fn any_bytes_are_read_or_rejected(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = from_json(&bytes);
    }
}
