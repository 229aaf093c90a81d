//! A story judges the checks that its catalogue declares, each once, in every configuration.

#![allow(clippy::unwrap_used, reason = "a test says what went wrong by panicking")]

use std::collections::BTreeSet;

use meshproof_harness::external::ExternalChoice;
use meshproof_harness::runner::{self, Options};
use meshproof_harness::select::select;
use meshproof_model::Verdict;
use meshproof_scenarios::ALL;
use meshproof_targets::Settings;

/// Every story runs on the reference, which declares every feature, so that no story leaves a check out.
#[tokio::test(flavor = "multi_thread")]
async fn every_story_judges_the_checks_that_its_catalogue_declares_and_no_others() {
    let target = meshproof_targets::by_name("reference", &Settings::default()).unwrap();
    let options =
        Options { external: ExternalChoice::Embedded, ..Options::new(target, select(&ALL, &[]).unwrap()) };
    let report = runner::run(options).await.unwrap();
    for selected in select(&ALL, &[]).unwrap() {
        let selector = format!("{}:{}", selected.scenario.id(), selected.configuration);
        let ran = report.scenarios.iter().find(|s| s.selector() == selector).unwrap();
        // A check that is judged and not declared, judged twice, or declared and not judged is a fault.
        assert_eq!(ran.faults, [], "{selector}");
        let catalogue = &selected.scenario.catalogue;
        let declared: BTreeSet<String> =
            catalogue.checks_in(selected.configuration).map(|check| catalogue.check_id(check)).collect();
        let judged = ran.checks.iter().filter(|c| !matches!(c.verdict, Verdict::Skipped | Verdict::Error));
        let judged: BTreeSet<String> = judged.map(|c| c.id.clone()).collect();
        assert_eq!(judged, declared, "{selector}");
    }
}
