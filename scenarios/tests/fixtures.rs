//! Fixture folders and scenario files are one set, and every manifest is one that kubectl would take.

#![allow(clippy::unwrap_used, reason = "a test says what went wrong by panicking")]

use meshproof_harness::manifest;
use std::collections::BTreeSet;
use std::path::Path;

use meshproof_scenarios::ALL;

fn folder() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../fixtures"))
}

fn names_in(path: &Path) -> BTreeSet<String> {
    let entries = std::fs::read_dir(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    entries.map(|e| e.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned()).collect()
}

/// Folders that no scenario owns: server configurations, cluster manifests.
const SHARED: &[&str] = &["external", "cluster"];

#[test]
fn every_scenario_has_a_fixture_folder_and_every_folder_a_scenario() {
    let scenarios: BTreeSet<String> = ALL.iter().map(|s| s.id.to_owned()).collect();
    let mut folders = names_in(folder());
    folders.retain(|f| !SHARED.contains(&f.as_str()));
    assert_eq!(folders, scenarios);
}

#[test]
fn every_scenario_is_a_file_of_the_same_stem() {
    for scenario in ALL {
        let file = format!("{}/src/{}.rs", env!("CARGO_MANIFEST_DIR"), scenario.id.replace('-', "_"));
        assert!(Path::new(&file).exists(), "{file}");
    }
}

#[test]
fn every_manifest_in_a_folder_is_used_by_its_scenario_and_the_other_way_round() {
    for scenario in ALL {
        let used: BTreeSet<String> = scenario.fixtures.iter().map(|(name, _)| (*name).to_owned()).collect();
        assert_eq!(names_in(&folder().join(scenario.id)), used, "{}", scenario.id);
    }
}

#[test]
fn every_manifest_is_read_and_holds_at_least_one_resource() {
    for scenario in ALL {
        for (name, yaml) in scenario.fixtures {
            let read = manifest::read(name, yaml, "default");
            let resources = read.unwrap_or_else(|e| panic!("{}/{name}: {e}", scenario.id));
            assert!(!resources.is_empty(), "{}/{name} is empty", scenario.id);
        }
    }
}

#[test]
fn every_check_says_what_why_and_how_and_has_a_name_of_its_own() {
    for scenario in ALL {
        let mut ids = BTreeSet::new();
        for check in scenario.checks {
            let id = scenario.check_id(check);
            assert!(ids.insert(check.id), "{id} is there twice");
            assert!(check.requirement.ends_with('.'), "{id}: the requirement is a sentence");
            assert!(!check.why.is_empty() && !check.observed.is_empty(), "{id}: why, and how observed?");
            assert!(!check.section.is_empty(), "{id}: which section?");
            for configuration in check.only_in {
                assert!(
                    scenario.configurations.iter().any(|c| c.id == *configuration),
                    "{id}: {configuration}"
                );
            }
        }
    }
}
