//! Fixture folders and scenario files are one set, and every manifest is one that kubectl would take.

#![allow(clippy::unwrap_used, reason = "a test says what went wrong by panicking")]

use std::collections::BTreeSet;
use std::path::Path;

use meshproof_harness::manifest;
use meshproof_scenarios::ALL;

#[test]
fn every_scenario_has_a_fixture_folder_and_every_folder_a_scenario() {
    let scenarios: BTreeSet<&str> = ALL.iter().map(|s| s.id()).collect();
    let folders: BTreeSet<&str> = meshproof_fixtures::scenarios().collect();
    assert_eq!(folders, scenarios);
}

#[test]
fn every_scenario_is_a_file_of_the_same_stem() {
    for scenario in ALL.iter() {
        let file = format!("{}/src/{}.rs", env!("CARGO_MANIFEST_DIR"), scenario.id().replace('-', "_"));
        assert!(Path::new(&file).exists(), "{file}");
        // What reports name: a path in this repository.
        let repository = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let source = repository.join(scenario.source.as_deref().unwrap_or_default());
        assert_eq!(source.canonicalize().unwrap(), Path::new(&file).canonicalize().unwrap());
    }
}

#[test]
fn every_scenario_file_is_short_enough_to_be_read_as_a_story() {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut folders = vec![sources.clone()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path != sources.join("select.rs") {
                let lines = std::fs::read_to_string(&path).unwrap().lines().count();
                assert!(
                    lines <= 150,
                    "{} has {lines} lines; split it by the document's sections",
                    path.display()
                );
            }
        }
    }
}

/// The names in a story's `mesh.apply`, `mesh.delete` and the like are texts of its file, or names of its configurations.
#[test]
fn every_manifest_in_a_folder_is_named_by_its_scenario() {
    for scenario in ALL.iter() {
        let stem = format!("{}/src/{}", env!("CARGO_MANIFEST_DIR"), scenario.id().replace('-', "_"));
        let mut story = std::fs::read_to_string(format!("{stem}.rs")).unwrap();
        for part in std::fs::read_dir(&stem).into_iter().flatten() {
            story += &std::fs::read_to_string(part.unwrap().path()).unwrap();
        }
        for (manifest, _) in scenario.fixtures.manifests() {
            let by_configuration = story.contains("mesh.configuration()")
                && scenario.catalogue.configurations.iter().any(|c| c.id == *manifest);
            let by_name = story.contains(&format!("{manifest:?}"));
            assert!(by_name || by_configuration, "{} never uses {manifest}", scenario.id());
        }
    }
}

#[test]
fn every_manifest_is_read_and_holds_at_least_one_resource() {
    for scenario in ALL.iter() {
        for (name, yaml) in scenario.fixtures.manifests() {
            let read = manifest::read(name, yaml, "default");
            let resources = read.unwrap_or_else(|e| panic!("{}/{name}: {e}", scenario.id()));
            assert!(!resources.is_empty(), "{}/{name} is empty", scenario.id());
        }
    }
}

#[test]
fn every_text_of_the_catalogue_ends_a_sentence() {
    for scenario in ALL.iter() {
        for check in &scenario.catalogue.checks {
            for text in [&check.requirement, &check.why, &check.observed] {
                let id = scenario.catalogue.check_id(check);
                assert!(text.ends_with('.') || text.ends_with(".\""), "{id}: a sentence ends: {text:?}");
            }
        }
    }
}
