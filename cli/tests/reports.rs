//! Saved reports: converted, compared, used as a baseline; and the repository's sample report.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Output;

use assert_cmd::Command;
use serde_json::{Value, json};
use tempfile::TempDir;

const SAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../reports/render/samples/no-sni.json");
/// The page that the README links to.
const SAMPLE_PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/sample/report.html");
const SAMPLED: [&str; 3] =
    ["sidecar-origination:target-port", "egress-gateway-simple", "egress-gateway-mutual:ecdsa-p256"];

fn meshproof(arguments: &[&str], code: i32) -> Output {
    let output = Command::cargo_bin("meshproof")
        .expect("the binary is built with its tests")
        .env("NO_COLOR", "1")
        .args(arguments)
        .output()
        .expect("it starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{}\n{said}", String::from_utf8_lossy(&output.stdout));
    output
}

fn said(arguments: &[&str], code: i32) -> String {
    String::from_utf8(meshproof(arguments, code).stdout).expect("it is text")
}

fn path(path: &Path) -> &str {
    path.to_str().expect("it is UTF-8")
}

/// The part of a report that is the same in every run.
fn outline(report: &Value) -> Value {
    let scenario = |s: &Value| {
        let checks = s["checks"].as_array().expect("checks").iter();
        let steps = s["steps"].as_array().expect("steps").iter();
        json!({
            "id": s["id"], "configuration": s["configuration"], "title": s["title"], "document": s["document"],
            "steps": steps.map(|step| step["title"].clone()).collect::<Vec<_>>(),
            "checks": checks
                .map(|c| {
                    let parts = ["id", "level", "control", "verdict", "requirement", "section", "differences"];
                    let mut kept: Vec<Value> = parts.iter().map(|p| c[p].clone()).collect();
                    // Evidence is numbered in the order of its arrival, which differs between runs.
                    if let Some(list) = kept[6].as_array_mut() {
                        for d in list { d["evidence"] = Value::Null; }
                    }
                    kept
                })
                .collect::<Vec<_>>(),
        })
    };
    json!({
        "schema": report["schema"],
        "scenarios": report["scenarios"].as_array().expect("scenarios").iter().map(scenario).collect::<Vec<_>>(),
    })
}

/// The places in a page that links lead to: a scenario, a check, a cause, a picture.
fn anchors(page: &str) -> BTreeSet<&str> {
    page.split(" id=\"").skip(1).filter_map(|rest| rest.split('"').next()).collect()
}

#[test]
fn the_sample_report_is_what_a_run_writes_and_the_sample_page_shows_it() {
    let out = TempDir::new().expect("a folder");
    let mut arguments = vec![
        "run",
        "-q",
        "--target",
        "reference:no-sni",
        "--external",
        "embedded",
        "--out",
        path(out.path()),
    ];
    arguments.extend(SAMPLED);
    meshproof(&arguments, 1);
    let written = std::fs::read_to_string(out.path().join("report.json")).expect("a report");
    // The commands that repeat a check call the program as it was called.
    let program = assert_cmd::cargo::cargo_bin("meshproof").display().to_string();
    let written = written.replace(&program, "meshproof").into_bytes();
    if std::env::var_os("MESHPROOF_BLESS").is_some_and(|v| v == "1") {
        std::fs::write(SAMPLE, &written).expect("the sample can be written");
    }
    let read = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).expect("JSON");
    let sample = std::fs::read(SAMPLE).unwrap_or_else(|_| b"{\"scenarios\": []}".to_vec());
    assert!(
        outline(&read(&sample)) == outline(&read(&written)),
        "reports/render/samples/no-sni.json is not what a run writes; look at the change, then\n  \
         MESHPROOF_BLESS=1 cargo test -p meshproof --test reports the_sample"
    );
    let fresh = said(&["report", SAMPLE, "--format", "html"], 0);
    if std::env::var_os("MESHPROOF_BLESS").is_some_and(|v| v == "1") {
        std::fs::write(SAMPLE_PAGE, &fresh).expect("the page can be written");
    }
    let page = std::fs::read_to_string(SAMPLE_PAGE).unwrap_or_default();
    assert!(page.starts_with("<!DOCTYPE html>") && page.trim_end().ends_with("</html>"), "{SAMPLE_PAGE}");
    assert!(page.len() <= 1_600_000, "{} bytes", page.len());
    // Colours and words may differ until the page is written anew, its parts may not.
    assert!(
        anchors(&page).len() > 50 && anchors(&page) == anchors(&fresh),
        "docs/sample/report.html is not the page of the sample report; the command above writes it anew"
    );
}

#[test]
fn a_saved_report_is_converted_to_every_format() {
    let out = TempDir::new().expect("a folder");
    let formats = ["html", "json", "junit", "markdown", "github", "badge", "badge-svg", "text"];
    let mut arguments = vec!["report", SAMPLE, "--out", path(out.path())];
    for format in formats {
        arguments.extend(["--format", format]);
    }
    let listed = said(&arguments, 0);
    assert_eq!(listed.lines().count(), formats.len());
    for file in listed.lines() {
        assert!(std::fs::metadata(file).expect("it is there").len() > 50, "{file}");
    }
}

#[test]
fn one_format_goes_to_standard_output_and_several_need_a_folder() {
    assert!(said(&["report", SAMPLE, "--format", "junit"], 0).starts_with("<?xml"));
    let refused = meshproof(&["report", SAMPLE, "--format", "junit", "--format", "badge"], 2);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("--out DIR"));
}

/// The sample report, changed, in a file.
fn changed(folder: &TempDir, name: &str, change: impl FnOnce(&mut Value)) -> std::path::PathBuf {
    let mut report: Value =
        serde_json::from_str(&std::fs::read_to_string(SAMPLE).expect("the sample")).expect("JSON");
    change(&mut report);
    let file = folder.path().join(name);
    std::fs::write(&file, report.to_string()).expect("it can be written");
    file
}

fn every_verdict(report: &mut Value, verdict: &str) {
    for scenario in report["scenarios"].as_array_mut().expect("a list") {
        for check in scenario["checks"].as_array_mut().expect("a list") {
            check["verdict"] = json!(verdict);
        }
    }
}

#[test]
fn a_check_that_passed_in_the_baseline_and_is_not_judged_now_is_a_regression_until_it_is_allowed() {
    let folder = TempDir::new().expect("a folder");
    let passed = changed(&folder, "passed.json", |r| every_verdict(r, "passed"));
    for (name, change) in [
        ("error.json", (|r| every_verdict(r, "error")) as fn(&mut Value)),
        ("skipped.json", |r| every_verdict(r, "skipped")),
        ("missing.json", |r| {
            every_verdict(r, "passed");
            r["scenarios"].as_array_mut().expect("a list").remove(0);
        }),
        ("renamed.json", |r| {
            every_verdict(r, "passed");
            r["scenarios"][0]["configuration"] = json!("renamed");
        }),
    ] {
        let now = changed(&folder, name, change);
        let text = said(&["compare", path(&now), "--baseline", path(&passed)], 1);
        assert!(text.contains("lost: "), "{name}: {text}");
    }
    let renamed = folder.path().join("renamed.json");
    let mut arguments = vec!["compare", path(&renamed), "--baseline", path(&passed)];
    arguments.extend(["--allow-lost", SAMPLED[0]]);
    let text = said(&arguments, 0);
    assert!(text.contains("lost as allowed") && text.contains("0 regressions"), "{text}");
}

#[test]
fn reports_without_a_common_check_are_an_error_that_says_so() {
    let folder = TempDir::new().expect("a folder");
    let one = changed(&folder, "one.json", |r| r["scenarios"].as_array_mut().expect("a list").truncate(1));
    let other =
        changed(&folder, "other.json", |r| drop(r["scenarios"].as_array_mut().expect("a list").remove(0)));
    for arguments in
        [vec!["compare", path(&one), path(&other)], vec!["compare", "--baseline", path(&one), path(&other)]]
    {
        let refused = meshproof(&arguments, 2);
        let said = String::from_utf8_lossy(&refused.stderr);
        for wanted in ["no check in common", "contains sidecar-origination", "contains egress-gateway-simple"]
        {
            assert!(said.contains(wanted), "{said}");
        }
    }
}

#[test]
fn a_comparison_has_names_formats_and_links_and_a_least_number_of_checks() {
    let folder = TempDir::new().expect("a folder");
    let file = |name: &str| folder.path().join(name);
    for name in ["old", "new=er"] {
        said(&["report", SAMPLE, "--format", "json", "--format", "html", "--out", path(&file(name))], 0);
    }
    let (page, xml) = (file("pages/compared.html"), file("compared.xml"));
    std::fs::create_dir_all(file("pages")).expect("a folder");
    let (old, write) = (format!("before={}", path(&file("old"))), format!("junit={}", path(&xml)));
    let newer = file("new=er");
    // A path with an equals sign is a path.
    let arguments =
        ["compare", &old, path(&newer), "--html", path(&page), "--write", &write, "--format", "markdown"];
    let markdown = said(&arguments, 0);
    assert!(
        markdown.contains("| 1 | `before` |") && markdown.contains("| 2 | `meshproof reference"),
        "{markdown}"
    );
    assert!(markdown.contains("| `egress-gateway-simple` | ✗ "), "{markdown}");
    assert!(std::fs::read_to_string(&xml).expect("written").contains("<testsuite name=\"before: "));
    let page = std::fs::read_to_string(&page).expect("written");
    assert!(page.contains("href=\"../old/index.html\"") && page.contains("href=\"../new%3Der/index.html\""));
    assert!(page.contains("data-key=\"before\""));
    let few = meshproof(&["compare", SAMPLE, SAMPLE, "--min-checks", "100000"], 3);
    assert!(String::from_utf8_lossy(&few.stdout).ends_with("--min-checks requires 100000\n"));
    let json = meshproof(&["compare", SAMPLE, SAMPLE, "--min-checks", "100000", "--format", "json"], 3);
    assert!(serde_json::from_slice::<Value>(&json.stdout).is_ok(), "no words among the JSON");
    assert!(said(&["compare", SAMPLE, SAMPLE, "--min-checks", "5"], 0).contains("egress-gateway-simple"));
    meshproof(&["compare", "=x", SAMPLE], 2);
}

#[test]
fn a_site_grows_by_one_report_at_a_time_and_its_links_lead_to_files() {
    let folder = TempDir::new().expect("a folder");
    let out = folder.path().join("site");
    let version = |name: &str, version: &str| {
        changed(&folder, name, |r| {
            (r["implementation"]["version"], r["run"]["id"]) =
                (json!(version), json!(format!("run-{version}")));
            r["run"]["started"] = json!(format!("2026-11-2{version}T00:00:00Z"));
        })
    };
    let (one, two) = (version("one.json", "1"), version("two.json", "2"));
    assert!(said(&["site", path(&one), "--out", path(&out)], 0).contains("1 report added, 1 in all"));
    let page = out.join("reports/meshproof-reference-no-sni/run-1/index.html");
    let written = || std::fs::metadata(&page).and_then(|m| m.modified()).expect("a page");
    let before = written();
    let named = format!("other={}", path(&two));
    assert!(
        said(&["site", path(&one), path(&two), &named, "--out", path(&out)], 0)
            .contains("2 reports added, 3 in all")
    );
    assert_eq!(written(), before, "a report that the site has is not written again");
    for file in ["index.html", "requirements.html", "implementations/other.html"] {
        let file = out.join(file);
        let text = std::fs::read_to_string(&file).expect("a page");
        let links: Vec<&str> =
            text.split("href=\"").skip(1).map(|l| l.split('"').next().unwrap_or_default()).collect();
        for link in links.iter().filter(|l| l.starts_with('.')) {
            let (target, fragment) = link.split_once('#').unwrap_or((link, ""));
            let target = file.parent().expect("a folder").join(target);
            let page =
                std::fs::read_to_string(&target).unwrap_or_else(|e| panic!("{}: {e}", target.display()));
            assert!(page.contains(&format!("id=\"{fragment}\"")) || fragment.is_empty(), "{link}");
        }
        assert!(links.iter().any(|l| l.contains("#sidecar-origination:target-port/")), "{links:?}");
    }
    meshproof(&["site", "--out", path(&folder.path().join("empty"))], 2);
    // The pages of an implementation go with its reports.
    let pages = |site: &Path| std::fs::read_dir(site.join("implementations")).unwrap().count();
    let before = pages(&out);
    let gone = std::fs::read_dir(out.join("reports")).unwrap().next().unwrap().unwrap().path();
    std::fs::remove_dir_all(gone).unwrap();
    said(&["site", "--out", path(&out)], 0);
    assert_eq!(pages(&out), before - 1);
    // Something else is not overwritten.
    let foreign = folder.path().join("foreign");
    std::fs::create_dir(&foreign).unwrap();
    std::fs::write(foreign.join("index.html"), "mine").unwrap();
    meshproof(&["site", path(&one), "--out", path(&foreign)], 2);
    assert_eq!(std::fs::read_to_string(foreign.join("index.html")).unwrap(), "mine");
}

#[test]
fn two_reports_of_one_name_are_not_compared() {
    let twice = format!("x={SAMPLE}");
    let refused = meshproof(&["compare", &twice, &twice], 2);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("two reports are called \"x\""));
}

#[test]
fn a_run_that_judges_fewer_checks_than_it_must_is_an_error() {
    let folder = TempDir::new().expect("a folder");
    let passed = changed(&folder, "passed.json", |r| every_verdict(r, "passed"));
    said(&["report", path(&passed), "--min-checks", "5"], 0);
    let refused = meshproof(&["report", path(&passed), "--min-checks", "100000"], 3);
    assert!(String::from_utf8_lossy(&refused.stdout).contains("NOT ENOUGH"));
    assert!(String::from_utf8_lossy(&refused.stdout).ends_with("--min-checks requires 100000\n"));
    let failed = meshproof(&["report", SAMPLE, "--min-checks", "100000", "--fail-on", "must"], 1);
    assert!(
        String::from_utf8_lossy(&failed.stdout).contains("--min-checks"),
        "a failure is the stronger result"
    );
}

#[test]
fn fail_on_makes_a_failed_check_of_that_level_fail_the_command() {
    let folder = TempDir::new().expect("a folder");
    let mut report: Value =
        serde_json::from_str(&std::fs::read_to_string(SAMPLE).expect("the sample")).expect("JSON");
    for scenario in report["scenarios"].as_array_mut().expect("a list") {
        for check in scenario["checks"].as_array_mut().expect("a list") {
            check["verdict"] = json!("passed");
        }
    }
    let check = &mut report["scenarios"][0]["checks"][0];
    (check["level"], check["verdict"]) = (json!("SHOULD"), json!("failed"));
    let file = folder.path().join("report.json");
    std::fs::write(&file, report.to_string()).expect("written");
    for (level, code) in [("must", 0), ("should", 1), ("may", 1)] {
        let output = meshproof(&["report", path(&file), "--fail-on", level], code);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(said.contains("meshproof: SHOULD "), code == 1, "{level}: {said}");
    }
    meshproof(&["report", path(&file)], 0);
    meshproof(&["report", SAMPLE], 0);
    meshproof(&["report", SAMPLE, "--fail-on", "must"], 1);
}

#[test]
fn a_file_that_is_not_a_report_is_refused_with_the_reason() {
    let folder = TempDir::new().expect("a folder");
    let file = folder.path().join("x.json");
    std::fs::write(&file, "{}").expect("written");
    let refused = meshproof(&["report", path(&file)], 2);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("not a meshproof report"));
    for (absent, words) in
        [(folder.path().join("gone"), "does not exist"), (folder.path().into(), "contains no report.json")]
    {
        for command in [["compare", path(&absent), SAMPLE].as_slice(), &["report", path(&absent)]] {
            let refused = meshproof(command, 2);
            let said = String::from_utf8_lossy(&refused.stderr);
            assert!(said.contains(words), "{said}");
            assert!(said.contains("Name a report.json, or the folder that a run wrote it to"), "{said}");
        }
    }
}

fn run(out: &Path, more: &[&str], code: i32) -> PathBuf {
    let mut arguments = vec!["run", "-q", "--external", "embedded", "--out", path(out)];
    arguments.extend(more);
    arguments.push("sidecar-origination:target-port");
    meshproof(&arguments, code);
    out.to_owned()
}

#[test]
fn a_comparison_marks_a_regression_relative_to_a_baseline_and_writes_its_page() {
    let folder = TempDir::new().expect("a folder");
    let good = run(&folder.path().join("good"), &[], 0);
    let bad = run(&folder.path().join("bad"), &["--target", "reference:no-sni"], 1);
    let page = folder.path().join("page.html");
    let text = said(&["compare", "--baseline", path(&good), path(&bad), "--html", path(&page)], 1);
    let words: Vec<&str> = text.split_whitespace().collect();
    let wanted = "2: regression; first divergence from 1: external service edition.cnn.com, request, server name: none \
                  instead of edition.cnn.com";
    assert!(words.join(" ").contains(wanted), "{text}");
    assert!(std::fs::read_to_string(&page).expect("a page").contains("▼ regression"));
    assert!(said(&["compare", "--baseline", path(&bad), path(&good)], 0).contains("2 checks fixed"));
    let json: Value =
        serde_json::from_str(&said(&["compare", path(&good), path(&bad), "--json"], 0)).expect("JSON");
    assert_eq!(json["schema"], "meshproof.comparison/1");
}

#[test]
fn a_run_with_expected_failures_passes_and_an_unexpected_success_fails_it() {
    let folder = TempDir::new().expect("a folder");
    let bad = run(&folder.path().join("bad"), &["--target", "reference:no-sni"], 1);
    let known = folder.path().join("known.yaml");
    meshproof(&["baseline", path(&bad), "--out", path(&known)], 0);
    run(&bad, &["--target", "reference:no-sni", "--expect", path(&known)], 0);
    let report = run(&folder.path().join("good"), &["--expect", path(&known)], 1);
    let text = said(&["report", path(&report)], 0);
    assert!(text.contains("passed although a failure was expected"), "{text}");
}

#[test]
fn an_invalid_file_of_expected_failures_is_refused_before_the_run() {
    let folder = TempDir::new().expect("a folder");
    let file = folder.path().join("known.yaml");
    std::fs::write(&file, "expected_failures: [{check: a/b}]").expect("written");
    let refused = meshproof(&["run", "--expect", path(&file)], 2);
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(said.contains("known.yaml: line 1 column 22: missing field `reason`"), "{said}");
    assert!(!said.contains("<input>") && !said.contains(r"\n") && said.lines().count() == 1, "{said}");
}

#[test]
fn a_baseline_of_an_interrupted_run_says_so() {
    let folder = TempDir::new().expect("a folder");
    let mut report: Value =
        serde_json::from_str(&std::fs::read_to_string(SAMPLE).expect("the sample")).expect("JSON");
    (report["run"]["partial"], report["run"]["partial_reason"]) = (json!(true), json!("Ctrl-C"));
    let file = folder.path().join("report.json");
    std::fs::write(&file, report.to_string()).expect("written");
    let cut = meshproof(&["baseline", path(&file)], 0);
    assert!(String::from_utf8_lossy(&cut.stderr).contains("interrupted (Ctrl-C)"));
    assert_eq!(String::from_utf8_lossy(&meshproof(&["baseline", SAMPLE], 0).stderr), "");
}

#[test]
fn a_run_writes_the_given_formats_and_prints_annotations() {
    let folder = TempDir::new().expect("a folder");
    let out = path(folder.path());
    let arguments = ["run", "-q", "--target", "reference:no-sni", "--external", "embedded", "--out", out];
    let more = ["--format", "junit", "--format", "github", "sidecar-origination:target-port"];
    let text = said(&[arguments.as_slice(), &more].concat(), 1);
    assert!(
        text.contains("::error title=MUST failed%3A sidecar-origination%3Atarget-port/sni-is-host::"),
        "{text}"
    );
    let mut files: Vec<String> = std::fs::read_dir(folder.path())
        .expect("a folder")
        .map(|f| f.expect("a file").file_name().into_string().expect("UTF-8"))
        .collect();
    files.sort();
    assert_eq!(files, ["annotations.txt", "junit.xml", "report.json"]);
}

#[test]
fn an_unknown_format_lists_the_formats() {
    let refused = meshproof(&["run", "--format", "yaml"], 2);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("html, json, junit"));
}
