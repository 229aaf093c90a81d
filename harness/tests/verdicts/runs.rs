//! Whole runs against a scripted implementation.

use std::sync::atomic::Ordering;
use std::sync::{Arc, LazyLock};

use meshproof_harness::catalogue::{Catalogue, Check};
use meshproof_harness::claim::{Claim, Claims};
use meshproof_harness::feature::Feature;
use meshproof_harness::fixtures::Fixtures;
use meshproof_harness::mesh::Mesh;
use meshproof_harness::scenario::{Scenario, Story};
use meshproof_harness::target::ConfigChange;
use meshproof_harness::topology::Topology;
use meshproof_model::{Event, Level, Verdict};

use crate::fake::{Alive, Asked, Behaviour, HOST, Outcome, StoryResult, judge};

fn scenario(
    id: &str,
    checks: impl IntoIterator<Item = Check>,
    run: for<'a> fn(&'a Mesh) -> Story<'a>,
) -> Scenario {
    let manifests = [("broken.yaml", "kind: ["), ("nameless.yaml", "apiVersion: v1\nkind: Secret\n")];
    let fixtures = Fixtures::embedded(format!("fixtures/{id}"), manifests);
    Scenario::new(Catalogue::new(id).checks(checks), fixtures, Topology::default(), run)
}

static STORY: LazyLock<Scenario> = LazyLock::new(|| {
    scenario(
        "story",
        [
            Check::must("answered", "A", "The request is answered."),
            Check::must("asked-once", "B", "The service is asked once."),
            Check::must("optional", "C", "Something optional.").features([Feature::WebSocket]),
            Check::must("wish", "D", "Something nice.").level(Level::Should),
        ],
        |mesh| Box::pin(story(mesh)),
    )
});

async fn story(mesh: &Mesh) -> StoryResult {
    mesh.step("configure");
    mesh.change(ConfigChange::default()).await?;
    mesh.step("request");
    let reply = mesh.workload("sleep").get("http://service.example/").await?;
    mesh.check("answered", reply.only_response().is(200))?;
    mesh.step("look");
    tokio::task::yield_now().await;
    mesh.check("asked-once", mesh.service(HOST).saw(&reply).exactly(1))?;
    mesh.check("optional", reply.ends_with(500))?;
    mesh.check("wish", reply.ends_with(204))
}

async fn outcome_of(behaviour: Behaviour) -> Outcome {
    judge(&[&STORY], Asked { behaviour, applied: std::time::Duration::from_millis(50), ..Asked::default() })
        .await
}

fn verdicts(outcome: &Outcome) -> Vec<(String, Verdict)> {
    outcome.report.checks().map(|c| (c.id.rsplit('/').next().unwrap().to_owned(), c.verdict)).collect()
}

#[track_caller]
fn assert_all(outcome: &Outcome, verdict: Verdict, reason: &str) {
    for check in outcome.report.checks().filter(|c| c.feature.is_none()) {
        assert_eq!(check.verdict, verdict, "{}: {}", check.id, check.reason);
        assert!(check.reason.contains(reason), "{}: {}", check.id, check.reason);
    }
}

#[tokio::test]
async fn a_correct_implementation_passes_and_a_failed_should_does_not_fail_the_run() {
    let outcome = outcome_of(Behaviour::Good).await;
    assert_eq!(
        verdicts(&outcome),
        [
            ("answered".to_owned(), Verdict::Passed),
            ("asked-once".to_owned(), Verdict::Passed),
            ("optional".to_owned(), Verdict::Skipped),
            ("wish".to_owned(), Verdict::Failed),
        ]
    );
    let skipped = outcome.report.checks().find(|c| c.verdict == Verdict::Skipped).unwrap();
    assert!(skipped.reason.contains("feature web-socket"), "{}", skipped.reason);
    assert_eq!(outcome.report.exit_code(), 0);
    assert_eq!(outcome.stopped, 1);
}

#[tokio::test]
async fn a_second_request_that_comes_after_the_check_passed_fails_it() {
    let outcome = outcome_of(Behaviour::LateSecondRequest).await;
    let first_word = outcome.events.iter().find_map(|e| match e {
        Event::CheckJudged { result, .. } if result.id == "story/asked-once" => Some(result.verdict),
        _ => None,
    });
    assert_eq!(first_word, Some(Verdict::Passed), "it passed when it was first judged");
    assert_eq!(verdicts(&outcome)[1], ("asked-once".to_owned(), Verdict::Failed));
    assert_eq!(outcome.report.exit_code(), 1);
}

#[tokio::test]
async fn a_refused_documented_configuration_is_the_implementations_failure_in_its_own_words() {
    let outcome = outcome_of(Behaviour::Refuses).await;
    assert_all(&outcome, Verdict::Failed, "unknown field `tls`");
    assert_eq!(outcome.report.exit_code(), 1);
    assert!(outcome.report.scenarios[0].faults.is_empty());
    assert_eq!(outcome.stopped, 1);
}

#[tokio::test]
async fn an_unsupported_feature_skips_what_needs_it_and_a_run_of_nothing_but_skips_is_an_error() {
    let outcome = outcome_of(Behaviour::DoesNotSupport).await;
    assert_all(&outcome, Verdict::Skipped, "mutual-origination");
    assert_eq!(outcome.report.exit_code(), 3);
}

#[tokio::test]
async fn a_change_that_never_comes_into_force_fails_and_names_the_timeout() {
    let outcome = outcome_of(Behaviour::Stalls).await;
    assert_all(
        &outcome,
        Verdict::Failed,
        "Timed out after 50ms waiting for the implementation to bring the change into force; --timeout applied=",
    );
    let checks = outcome.report.checks();
    assert!(checks.into_iter().all(|check| !check.reason.contains("the implementation failed")));
    assert_eq!(outcome.stopped, 1);
}

#[tokio::test]
async fn an_implementation_that_the_environment_keeps_from_starting_is_an_error_that_names_the_fix() {
    let outcome = outcome_of(Behaviour::CannotStart).await;
    for check in outcome.report.checks() {
        assert_eq!(check.verdict, Verdict::Error, "{}", check.id);
        assert!(check.reason.contains("end the program that has it"), "{}", check.reason);
    }
    assert_eq!(outcome.report.exit_code(), 3);
}

#[tokio::test]
async fn a_slow_start_is_an_error_of_the_environment_unless_the_target_bounds_it_itself() {
    let outcome = outcome_of(Behaviour::StartsSlowly).await;
    for check in outcome.report.checks() {
        assert_eq!(check.verdict, Verdict::Error, "{}", check.id);
        assert!(check.reason.contains("--timeout implementation-ready="), "{}", check.reason);
    }
    assert_eq!(outcome.report.exit_code(), 3);
    let outcome = outcome_of(Behaviour::BoundsItsStart).await;
    assert_eq!(verdicts(&outcome)[0], ("answered".to_owned(), Verdict::Passed));
}

#[tokio::test]
async fn an_environment_that_breaks_in_the_middle_is_an_error_and_no_failed_check() {
    let outcome = outcome_of(Behaviour::EnvironmentBreaks).await;
    assert_all(&outcome, Verdict::Error, "ulimit -n");
    assert_eq!(outcome.report.exit_code(), 3);
    assert_eq!(outcome.report.scenarios[0].faults[0].step.as_deref(), Some("request"));
    assert_eq!(outcome.stopped, 1);
}

#[tokio::test]
async fn a_failed_teardown_is_a_fault_and_the_verdicts_stay() {
    let outcome = outcome_of(Behaviour::LeavesSomething).await;
    assert_eq!(verdicts(&outcome)[0].1, Verdict::Passed);
    assert!(outcome.report.scenarios[0].faults[0].message.contains("process 4711"));
    assert_eq!(outcome.report.exit_code(), 3);
}

#[tokio::test]
async fn the_start_time_and_the_notes_before_and_after_a_run_are_in_the_report() {
    let outcome = outcome_of(Behaviour::Good).await;
    let details = &outcome.report.implementation.details;
    assert_eq!(details["before"], outcome.report.run.id);
    let started = &outcome.report.run.started;
    assert_eq!(started.len(), "2025-06-30T16:17:56Z".len(), "to the second, as people read it: {started}");
    assert_eq!(details["after"], "keep false");
    assert_eq!(details["run folder exists after"], "true", "it is removed only then");
}

#[tokio::test]
async fn an_object_left_after_a_run_is_a_fault_of_its_scenario_and_the_verdicts_stay() {
    let asked = Asked { behaviour: Behaviour::LeavesAnObject, ..Asked::default() };
    let outcome = judge(&[&STORY, &LATER], asked).await;
    assert_eq!(outcome.report.scenarios[0].faults, []);
    assert!(outcome.report.scenarios[1].faults[0].message.contains("left behind: Namespace mp-1"));
    assert_eq!(verdicts(&outcome)[0].1, Verdict::Passed);
    assert_eq!(outcome.report.exit_code(), 3);
}

#[tokio::test]
async fn a_place_that_cannot_be_examined_after_a_run_is_a_fault() {
    let outcome = outcome_of(Behaviour::CannotBeLookedAfter).await;
    assert!(outcome.report.scenarios[0].faults[0].message.contains("no route to the cluster"));
    assert_eq!(outcome.report.exit_code(), 3);
}

#[tokio::test]
async fn evidence_that_does_not_arrive_at_the_end_is_a_fault_and_does_not_mean_that_the_implementation_is_gone()
 {
    let outcome = outcome_of(Behaviour::SettlesTooLate).await;
    let [fault] = outcome.report.scenarios[0].faults.as_slice() else { panic!() };
    let words =
        "Timed out after 10s waiting for the access logs of sleep; --timeout evidence-settled=DURATION";
    assert!(fault.message.contains(words), "{}", fault.message);
    assert!(!outcome.report.checks().any(|check| check.id.ends_with("/runs-until-stopped")));
    assert_eq!(outcome.report.exit_code(), 3);
}

#[tokio::test]
async fn a_flood_of_evidence_is_limited_and_reported() {
    let outcome = outcome_of(Behaviour::Floods).await;
    assert_eq!(outcome.report.scenarios[0].evidence.len(), meshproof_harness::store::MAX_EVIDENCE);
    assert!(outcome.report.scenarios[0].faults[0].message.contains("were not kept"));
    // What was judged after the flood rests on evidence that may be missing, and a pass or a failure would be a guess.
    let verdicts: Vec<Verdict> = outcome.report.checks().map(|check| check.verdict).collect();
    assert!(!verdicts.iter().any(|v| [Verdict::Passed, Verdict::Failed].contains(v)), "{verdicts:?}");
    assert_eq!(outcome.report.exit_code(), 3);
}

#[tokio::test]
async fn an_interrupt_keeps_what_was_judged_takes_down_and_makes_a_partial_report() {
    let asked = Asked { interrupt_at: Some("look"), ..Asked::default() };
    let outcome = judge(&[&STORY, &LATER], asked).await;
    assert_eq!(verdicts(&outcome)[0], ("answered".to_owned(), Verdict::Passed));
    assert_eq!(verdicts(&outcome)[1], ("asked-once".to_owned(), Verdict::Skipped));
    assert_eq!(verdicts(&outcome)[4], ("later".to_owned(), Verdict::Skipped));
    assert!(outcome.report.run.partial);
    assert_eq!(outcome.report.run.partial_reason.as_deref(), Some("Ctrl-C"));
    assert_eq!(outcome.report.exit_code(), 3);
    assert_eq!(outcome.stopped, 1, "the one that ran was taken down, the other never started");
}

static LATER: LazyLock<Scenario> = LazyLock::new(|| {
    scenario("later", [Check::must("later", "A", "It comes later.")], |mesh| {
        Box::pin(async move {
            let reply = mesh.workload("sleep").get("http://service.example/").await?;
            mesh.check("later", reply.ends_with(200))
        })
    })
});

#[tokio::test]
async fn fail_fast_leaves_out_what_comes_after_the_first_failed_must() {
    let asked = Asked { behaviour: Behaviour::AlwaysFails, fail_fast: true, ..Asked::default() };
    let outcome = judge(&[&STORY, &LATER], asked).await;
    assert_eq!(verdicts(&outcome)[0], ("answered".to_owned(), Verdict::Failed));
    assert_eq!(verdicts(&outcome)[1], ("asked-once".to_owned(), Verdict::Skipped));
    assert_eq!(verdicts(&outcome)[4], ("later".to_owned(), Verdict::Skipped));
    assert_eq!(outcome.report.exit_code(), 1);
}

/// The number of scenarios that ran concurrently, and how often a run reported that they run one after another.
async fn side_by_side(behaviour: Behaviour, jobs: impl Into<Option<usize>>) -> (usize, usize) {
    let (alive, jobs): (Arc<Alive>, Option<usize>) = (Arc::default(), jobs.into());
    let asked = || Asked { behaviour, jobs, alive: Arc::clone(&alive), ..Asked::default() };
    let (both, one): ([&'static Scenario; 2], [&'static Scenario; 1]) = ([&STORY, &LATER], [&STORY]);
    let runs = tokio::join!(judge(&both, asked()), judge(&one, asked()));
    let events = |run: &Outcome| run.events.iter().filter(|e| matches!(e, Event::OneAtATime { .. })).count();
    assert_eq!(runs.0.stopped + runs.1.stopped, 3);
    (alive.most.load(Ordering::SeqCst), events(&runs.0) + events(&runs.1))
}

#[tokio::test]
async fn scenarios_that_share_something_run_one_after_another_with_any_number_of_jobs_and_the_run_says_so_once()
 {
    assert_eq!(side_by_side(Behaviour::Shares, 8).await, (1, 1));
    assert_eq!(side_by_side(Behaviour::Shares, 1).await, (1, 0), "nothing is different, nothing to say");
    assert_eq!(side_by_side(Behaviour::Good, 8).await, (3, 0));
}

#[tokio::test]
async fn as_many_scenarios_run_side_by_side_as_suit_the_target_unless_the_run_says_how_many() {
    // Two runs, each with one at a time.
    assert_eq!(side_by_side(Behaviour::HasRoomForOne, None).await, (2, 0));
    assert_eq!(side_by_side(Behaviour::HasRoomForOne, 8).await, (3, 0));
    assert_eq!(side_by_side(Behaviour::Good, None).await, (3, 0));
}

static TOGETHER: LazyLock<Scenario> = LazyLock::new(|| {
    scenario("together", [Check::must("each", "A", "Each is answered.")], |mesh| {
        Box::pin(async move {
            let urls = ["http://service.example/1", "http://service.example/2", "http://service.example/3"];
            let replies = mesh.workload("sleep").get_each(urls).await?;
            let answered =
                replies.iter().map(|r| r.only_response().is(200).and(mesh.service(HOST).saw(r).exactly(1)));
            mesh.check("each", Claim::all(answered))
        })
    })
});

#[tokio::test]
async fn concurrent_requests_are_in_flight_together_and_their_evidence_is_in_order_and_collected_once() {
    let outcome = judge(&[&TOGETHER], Asked { behaviour: Behaviour::AnswersThree, ..Asked::default() }).await;
    assert_eq!(verdicts(&outcome), [("each".to_owned(), Verdict::Passed)]);
    let evidence = &outcome.report.scenarios[0].evidence;
    let exchanges = evidence.iter().filter_map(|e| Some((e.token.as_ref()?, &e.fact.as_exchange()?.url)));
    let (tokens, urls): (Vec<_>, Vec<_>) = exchanges.unzip();
    assert_eq!(urls, ["http://service.example/1", "http://service.example/2", "http://service.example/3"]);
    assert!(tokens.is_sorted_by(|a, b| a < b), "{tokens:?}");
    assert_eq!(outcome.settled, 2, "once for the requests, once at the end");
}

#[tokio::test]
async fn a_selected_check_is_the_only_one_in_the_report() {
    let outcome = judge(&[&STORY], Asked { checks: Some(vec!["asked-once"]), ..Asked::default() }).await;
    assert_eq!(verdicts(&outcome), [("asked-once".to_owned(), Verdict::Passed)]);
    let check = outcome.report.checks().next().unwrap();
    assert_eq!(check.repeat, "meshproof run story:only/asked-once");
}

static CARELESS: LazyLock<Scenario> = LazyLock::new(|| {
    scenario(
        "careless",
        [Check::must("first", "A", "First."), Check::must("forgotten", "B", "Forgotten.")],
        |mesh| {
            Box::pin(async move {
                let reply = mesh.workload("sleep").get("http://service.example/").await?;
                mesh.check("first", reply.ends_with(200))?;
                mesh.check("first", reply.ends_with(200))?;
                mesh.check("unheard-of", reply.ends_with(200))
            })
        },
    )
});

#[tokio::test]
async fn a_scenario_that_forgets_repeats_or_invents_a_check_is_the_suites_fault() {
    let outcome = judge(&[&CARELESS], Asked::default()).await;
    assert_eq!(verdicts(&outcome)[1], ("forgotten".to_owned(), Verdict::Error));
    let faults: Vec<&str> = outcome.report.scenarios[0].faults.iter().map(|f| f.message.as_str()).collect();
    assert!(faults.iter().any(|f| f.contains("judges \"first\" twice")), "{faults:?}");
    assert!(
        faults.iter().any(|f| f.contains("\"unheard-of\", which its catalogue does not declare")),
        "{faults:?}"
    );
    assert!(faults.iter().any(|f| f.contains("without judging \"forgotten\"")), "{faults:?}");
    assert_eq!(outcome.report.exit_code(), 3);
}

static PANICS: LazyLock<Scenario> = LazyLock::new(|| {
    scenario("panics", [Check::must("never", "A", "Never.")], |_| {
        Box::pin(async move { panic!("the suite has a bug") })
    })
});

#[tokio::test]
async fn a_scenario_that_panics_is_taken_down_and_its_checks_are_errors() {
    let outcome = judge(&[&PANICS, &LATER], Asked::default()).await;
    assert_eq!(verdicts(&outcome)[0], ("never".to_owned(), Verdict::Error));
    assert!(outcome.report.scenarios[0].faults[0].message.contains("the suite has a bug"));
    assert_eq!(verdicts(&outcome)[1], ("later".to_owned(), Verdict::Passed), "the others go on");
    assert_eq!(outcome.stopped, 2);
}

macro_rules! fixture_scenario {
    ($name:ident, $fixture:literal) => {
        static $name: LazyLock<Scenario> = LazyLock::new(|| {
            scenario("fixture", [Check::must("never", "A", "Never.")], |mesh| {
                Box::pin(async move { mesh.apply(&[$fixture]).await })
            })
        });
    };
}
fixture_scenario!(BROKEN, "broken");
fixture_scenario!(NAMELESS, "nameless");
fixture_scenario!(MISSING, "missing");

#[tokio::test]
async fn a_broken_manifest_is_an_error_that_names_the_file_and_the_place() {
    for (scenario, words) in [
        (&BROKEN, "fixtures/fixture/broken.yaml: not valid YAML"),
        (&NAMELESS, "fixtures/fixture/nameless.yaml: document 1: `metadata.name` is missing"),
        (&MISSING, "fixtures/fixture/missing.yaml does not exist"),
    ] {
        let outcome = judge(&[scenario], Asked::default()).await;
        assert_all(&outcome, Verdict::Error, words);
        assert_eq!(outcome.report.exit_code(), 3);
    }
}

static CONTROLLED: LazyLock<Scenario> = LazyLock::new(|| {
    scenario("controlled", [Check::must("refused", "A", "Refused.")], |mesh| {
        Box::pin(async move {
            let bad = mesh.workload("sleep").get("http://service.example/bad").await?;
            let control = mesh.workload("sleep").get("http://service.example/good").await?;
            mesh.check("refused", bad.fails().provided("the good one", control.ends_with(200)))
        })
    })
});

#[tokio::test]
async fn a_negative_check_whose_control_fails_is_inconclusive_and_fails_the_run() {
    let outcome =
        judge(&[&CONTROLLED], Asked { behaviour: Behaviour::AlwaysFails, ..Asked::default() }).await;
    assert_eq!(verdicts(&outcome)[0], ("refused".to_owned(), Verdict::Inconclusive));
    let reason = &outcome.report.checks().next().unwrap().reason;
    assert_eq!(
        *reason,
        "Inconclusive: the control (the good one) failed: workload sleep received HTTP/1.1 503 for GET \
         http://service.example/good (expected: status 200 in the last response). Without a control that succeeds, this result \
         cannot be judged: workload sleep received HTTP/1.1 503 for GET http://service.example/bad."
    );
    assert_eq!(outcome.report.exit_code(), 1);
}

#[tokio::test]
async fn a_negative_check_that_does_not_hold_fails_even_if_its_control_succeeds() {
    let outcome = judge(&[&CONTROLLED], Asked::default()).await;
    assert_eq!(verdicts(&outcome)[0], ("refused".to_owned(), Verdict::Failed));
}

#[tokio::test]
async fn a_run_that_is_dropped_ends_its_scenarios() {
    let alive = Arc::new(Alive::default());
    let asked = Asked {
        behaviour: Behaviour::Stalls,
        applied: std::time::Duration::from_secs(3600),
        alive: Arc::clone(&alive),
        ..Asked::default()
    };
    let started = async {
        while alive.most.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
    };
    let scenarios: [&'static Scenario; 1] = [&STORY];
    tokio::select! {
        _ = judge(&scenarios, asked) => panic!("a change that never comes into force ended the run"),
        () = started => {}
    }
    // Its tasks hold the target; the runtime ends them one by one.
    let ended = async {
        while Arc::strong_count(&alive) > 1 {
            tokio::task::yield_now().await;
        }
    };
    let limit = std::time::Duration::from_secs(20);
    tokio::time::timeout(limit, ended).await.expect("a scenario continues after its run was dropped");
}
