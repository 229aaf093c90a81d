//! Options that need another one, exclude another one or come from a profile, and what they make of the exit code.

use std::path::Path;

use tempfile::TempDir;

use crate::refused;
use crate::support::{meshproof, ran, report, text};

#[test]
fn doctor_without_a_target_checks_the_default_target_of_a_run() {
    let said = text(&ran(meshproof().arg("doctor"), 0).stdout);
    assert!(said.starts_with("implementation     meshproof reference\n"), "{said}");
}

#[test]
fn options_for_a_cluster_are_refused_for_a_local_target() {
    let wanted = ["--image is for a cluster", "the target is reference", "--nginx-image"];
    refused(&["run", "--image", "workload=curl:1"], 2, &wanted);
    refused(
        &["run", "--target", "envoy", "--revision", "canary"],
        2,
        &["--revision is for a cluster", "envoy"],
    );
    refused(&["doctor", "--context", "staging"], 2, &["--context is for a cluster"]);
    // In the environment, they may be meant for other runs.
    ran(meshproof().args(["run", "--list"]).env("MESHPROOF_REVISION", "canary"), 0);
}

#[test]
fn a_name_is_the_reports_and_one_implementations() {
    let folder = TempDir::new().unwrap();
    ran(
        meshproof()
            .args(["run", "-q", "origination-scope:sidecar", "--name", "our proxy", "--out"])
            .arg(folder.path()),
        0,
    );
    let report = report(folder.path());
    assert_eq!(report["implementation"]["name"], "our proxy");
    let repeat = report["run"]["command"].as_str().unwrap();
    assert!(repeat.contains("--name 'our proxy'"), "{repeat}");
    let two = ["run", "--target", "reference", "--target", "reference:no-sni", "--name", "ours"];
    refused(&two, 2, &["--name ours names one implementation", "2 targets"]);
    refused(&["run", "--name", ""], 2, &["a value is required"]);
}

#[test]
fn a_program_that_does_not_exist_is_named_with_the_fix_before_anything_runs() {
    for option in ["--nginx", "--envoy"] {
        let wanted = [option, "/nope/program", "does not exist", "leave"];
        refused(&["run", "sidecar-origination", option, "/nope/program"], 2, &wanted);
    }
}

#[test]
fn a_kept_folder_is_printed() {
    let folder = TempDir::new().unwrap();
    let output = ran(
        meshproof()
            .args(["run", "-q", "--keep", "origination-scope:sidecar", "--out"])
            .arg(folder.path().join("out"))
            .env("TMPDIR", folder.path()),
        0,
    );
    let said = text(&output.stderr);
    let kept = said.lines().find_map(|l| l.strip_prefix("the working folder is kept: ")).expect(&said);
    assert!(Path::new(kept).is_dir() && Path::new(kept).starts_with(folder.path()), "{kept}");
}

#[test]
fn a_profile_gives_options_and_says_what_must_be_asked() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("meshproof.toml");
    let toml = "[profile.default]\nscenarios = ['origination-scope:sidecar']\nquiet = true\nout = 'here'\n\
                [profile.strict]\nscenarios = ['origination-scope:sidecar']\nmust-ask = ['origination-scope:sidecar', \
                'credentials:sidecar']\nout = 'there'\n";
    std::fs::write(&file, toml).unwrap();
    ran(meshproof().current_dir(folder.path()), 0);
    assert_eq!(report(&folder.path().join("here"))["scenarios"].as_array().unwrap().len(), 1);
    let listed = text(&ran(meshproof().args(["run", "--list"]).current_dir(folder.path()), 0).stdout);
    assert!(
        listed.lines().count() > 1 && listed.lines().all(|l| l.starts_with("origination-scope:sidecar/")),
        "{listed}"
    );
    let strict = ran(meshproof().args(["run", "--profile", "strict"]).current_dir(folder.path()), 3);
    let said = text(&strict.stdout);
    assert!(said.contains("of --must-ask not judged: credentials:sidecar/"), "{said}");
    let wrong = ran(meshproof().args(["run", "--profile", "strickt"]).current_dir(folder.path()), 2);
    assert!(text(&wrong.stderr).contains("did you mean strict?"));
    let bad = folder.path().join("bad.toml");
    std::fs::write(&bad, "[profile.default]\njobs = 'x'\n").unwrap();
    let bad = ran(meshproof().args(["run", "--config", bad.to_str().unwrap()]), 2);
    assert!(text(&bad.stderr).contains("completed by a profile"), "{}", text(&bad.stderr));
    refused(&["run", "--must-ask", "credentials:sidcar"], 2, &["did you mean", "sidecar"]);
}

#[test]
fn an_expectation_of_an_unknown_check_is_an_error_with_near_names() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("known.yaml");
    let expected = "expected_failures: [{check: sidecar-origination/sni-is-hst, reason: known}]";
    std::fs::write(&file, expected).unwrap();
    let wanted =
        ["there is no check sidecar-origination/sni-is-hst", "did you mean sidecar-origination/sni-is-host"];
    refused(&["run", "sidecar-origination", "--expect", file.to_str().unwrap()], 2, &wanted);
}

/// The rows of the README's table, without its marks.
#[test]
fn the_exit_codes_are_the_same_in_the_help_and_in_the_readme() {
    let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md")).unwrap();
    let (_, table) = readme.split_once("| exit code | meaning |").expect("a table");
    let rows = table.lines().skip(2).take_while(|l| l.starts_with('|'));
    let rows: Vec<String> = rows.map(|l| l.replace(['|', '`'], " ")).collect();
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let help = text(&ran(meshproof().arg("--help"), 0).stdout);
    let (_, codes) = help.split_once("Exit codes:").expect("exit codes");
    assert_eq!(words(codes), words(&rows.join(" ")));
}
