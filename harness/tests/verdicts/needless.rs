//! Configurations of which no check can be judged: nothing is started for them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use meshproof_harness::catalogue::{Catalogue, Check};
use meshproof_harness::feature::Feature;
use meshproof_harness::fixtures::Fixtures;
use meshproof_harness::ledger;
use meshproof_harness::mesh::Mesh;
use meshproof_harness::runner::{Options, Selected, run};
use meshproof_harness::scenario::{Scenario, Story};
use meshproof_harness::target::{Instance, Needs, Seat, Target, TargetError};
use meshproof_harness::topology::Topology;
use meshproof_model::{Implementation, Report, Verdict};

/// A target that counts how often something is started.
struct Counting {
    started: AtomicUsize,
    lacks_embedded: bool,
}

#[async_trait]
impl Target for Counting {
    async fn identify(&self) -> Result<Implementation, TargetError> {
        Ok(Implementation {
            name: "counting".to_owned(),
            version: "1".to_owned(),
            target: "fake".to_owned(),
            features: vec![Feature::Sidecar.into()],
            details: [("without access-log".to_owned(), "it writes to a file".to_owned())].into(),
        })
    }

    fn unfit_for(&self, needs: Needs) -> Option<String> {
        (self.lacks_embedded && needs.embedded).then(|| "the servers are stock".to_owned())
    }

    async fn start(&self, _: Seat) -> Result<Box<dyn Instance>, TargetError> {
        self.started.fetch_add(1, Ordering::Relaxed);
        Err(TargetError::Environment("it was started".to_owned()))
    }
}

/// The report of a scenario of these checks, and how often something was started for it.
async fn run_of(catalogue: Catalogue, lacks_embedded: bool) -> (Report, usize) {
    fn nothing(_: &Mesh) -> Story<'_> {
        Box::pin(async { Ok(()) })
    }
    let scenario = Scenario::new(catalogue, Fixtures::default(), Topology::default(), nothing);
    let scenario: &'static Scenario = Box::leak(Box::new(scenario));
    let target = Arc::new(Counting { started: AtomicUsize::new(0), lacks_embedded });
    let work = tempfile::tempdir().unwrap();
    let selected = vec![Selected { scenario, configuration: "only", checks: None }];
    let options = Options { work: work.path().to_owned(), ..Options::new(target.clone(), selected) };
    let report = run(options).await.unwrap();
    (report, target.started.load(Ordering::Relaxed))
}

fn needing(id: &str, feature: Feature) -> Check {
    let mut check = Check::must(id, "A", "The claim under test.");
    check.features.push(feature);
    check
}

#[tokio::test]
async fn nothing_is_started_where_each_check_needs_a_feature_that_is_missing() {
    let ledger = Check::must(ledger::CHECK, "A", "Everything is accounted for.");
    let checks = [needing("one", Feature::AccessLog), needing("two", Feature::WebSocket), ledger.clone()];
    let (report, started) = run_of(Catalogue::new("needless").checks(checks), false).await;
    assert_eq!(started, 0);
    for check in report.checks() {
        assert_eq!(check.verdict, Verdict::Skipped, "{}", check.reason);
    }
    let reason = &report.checks().next().unwrap().reason;
    assert!(reason.contains("access-log") && reason.contains("it writes to a file"), "{reason}");
    let checks = [needing("one", Feature::AccessLog), needing("two", Feature::Sidecar), ledger];
    let (_, started) = run_of(Catalogue::new("needless").checks(checks), false).await;
    assert_eq!(started, 1, "one check can be judged");
}

#[tokio::test]
async fn nothing_is_started_for_a_scenario_whose_servers_the_target_does_not_have() {
    let scenario = |needs_embedded| {
        let mut catalogue = Catalogue::new("needless").checks([Check::must("one", "A", "The claim.")]);
        catalogue.needs_embedded = needs_embedded;
        catalogue
    };
    let (report, started) = run_of(scenario(true), true).await;
    let check = report.checks().next().unwrap();
    assert_eq!((check.verdict, started), (Verdict::Skipped, 0));
    assert_eq!(check.reason, "Not judged with this target: the servers are stock.");
    assert_eq!(run_of(scenario(true), false).await.1, 1);
    assert_eq!(run_of(scenario(false), true).await.1, 1);
}
