//! Reports that earlier versions wrote stay readable.

#![allow(clippy::unwrap_used, reason = "a test reports failures by panicking")]

use std::path::Path;

use meshproof_model::{Report, from_json, schema};
use meshproof_render::formats::Format;

fn stored() -> Vec<(String, Vec<u8>, Report)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("samples");
    let files = std::fs::read_dir(folder).unwrap().map(|f| f.unwrap().path());
    let reports = files.filter(|f| f.extension().is_some_and(|e| e == "json"));
    reports
        .map(|file| {
            let bytes = std::fs::read(&file).unwrap();
            let report = from_json(&bytes).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
            (file.display().to_string(), bytes, report)
        })
        .collect()
}

#[test]
fn every_stored_report_is_read_and_rendered_in_every_format() {
    let stored = stored();
    assert!(stored.len() >= 2);
    for (name, _, report) in &stored {
        assert_eq!(report.exit_code(), 1, "{name}");
        for format in Format::ALL {
            let text = format.render(report).unwrap_or_else(|e| panic!("{name}: {e}"));
            assert!(text.contains("failed"), "{name} as {format}");
        }
    }
}

#[test]
fn a_report_of_the_first_version_still_matches_the_schema() {
    let validator = jsonschema::draft202012::new(&serde_json::to_value(schema()).unwrap()).unwrap();
    for (name, bytes, _) in stored() {
        let json: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        let problems: Vec<String> = validator.iter_errors(&json).map(|e| e.to_string()).collect();
        assert!(problems.is_empty(), "{name}: {problems:#?}");
        if name.ends_with("report-1-first.json") {
            assert!(!String::from_utf8(bytes).unwrap().contains("\"differences\""));
        }
    }
}

/// So that the page of a run of all scenarios stays below 2 MB: evidence that checks share is stored once, and opened by the script.
#[test]
fn a_page_takes_at_most_2200_bytes_per_check_besides_its_frame() {
    const FRAME: usize = 65_000;
    for (name, _, report) in stored() {
        let (size, checks) = (Format::Html.render(&report).unwrap().len(), report.checks().count());
        assert!(size < FRAME + 2_200 * checks, "{name}: {size} bytes for {checks} checks");
    }
}
