//! The end of a scenario: the last judgement and the teardown.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{LazyLock, PoisonError};
use std::time::Instant;

use meshproof_model::{
    CheckResult, Deviation, Evidence, ExternalService, Field, Step, SuiteFault, Timing, ValueKind, Verdict,
};

use super::live::in_doubt;
use super::{JudgedCheck, Mesh, micros};
use crate::catalogue::Check;
use crate::claim::{Claim, Finding, deviation};
use crate::feature::{self, Feature};
use crate::ledger;
use crate::report_size;
use crate::target::TargetError;
use crate::timeouts::Timeout;

/// A requirement of every scenario that no document states. It is added to the checks of a scenario in which it fails.
pub static RUNS_UNTIL_STOPPED: LazyLock<Check> = LazyLock::new(|| {
    Check::must(
        "runs-until-stopped",
        "Cleanup",
        "The implementation runs until the suite stops it, and then ends every process that it started.",
    )
    .why("An implementation that exits early carries no traffic, and processes that do not end are left behind.")
    .observed("How the implementation answers when it is stopped, and its processes.")
});

/// Why checks were not reached, and the verdict that follows.
#[derive(Clone, Debug)]
pub(crate) struct Unreached {
    pub(crate) verdict: Verdict,
    pub(crate) reason: String,
    /// Set if the fault is not the implementation's.
    pub(crate) fault: Option<String>,
    /// The missing feature, if that is the reason.
    pub(crate) feature: Option<Feature>,
    /// What the implementation did, if that is the reason.
    pub(crate) deviations: Vec<Deviation>,
}

impl Unreached {
    /// What a check that was not reached says.
    pub(crate) fn finding(&self, check: &Check) -> Finding {
        Finding {
            verdict: self.verdict,
            deviations: self.deviations.clone(),
            ..Finding::holds(check.requirement.clone(), self.reason.clone(), Vec::new())
        }
    }
}

/// What the report needs of a mesh that was taken down.
pub(crate) struct Finished {
    pub(crate) checks: Vec<CheckResult>,
    pub(crate) steps: Vec<Step>,
    pub(crate) externals: Vec<ExternalService>,
    pub(crate) evidence: Vec<Evidence>,
    pub(crate) timing: Timing,
    pub(crate) faults: Vec<SuiteFault>,
}

impl Mesh {
    /// A claim that panics is the suite's fault, and must not prevent the teardown.
    fn judge_last(&self, check: &Check, claim: &Claim) -> Finding {
        let judged = catch_unwind(AssertUnwindSafe(|| self.view(|view| claim.judge(view))));
        judged.unwrap_or_else(|_| {
            self.fault(format!("the claim of {:?} panicked", check.id));
            Finding {
                verdict: Verdict::Error,
                ..Finding::holds(
                    check.requirement.clone(),
                    "the claim of this check panicked, which is an error of the suite",
                    Vec::new(),
                )
            }
        })
    }

    /// Ends the scenario: takes the instance down, judges every claim again, and returns the results of the checks.
    pub(crate) async fn finish(self, stop: Option<Unreached>) -> Finished {
        // Late evidence: everything that the implementation does after it answered a request must be recorded before the last
        // judgement.
        let settled = self.settle().await;
        let mut gone = None;
        match settled {
            Err(TargetError::Gone(words)) if stop.is_none() => gone = Some(words),
            Err(e) if stop.is_none() => {
                self.fault(format!("the last evidence could not be collected: {e}"));
            }
            Ok(()) | Err(_) => {}
        }
        let changed = match &stop {
            None => self.real_hosts_changed().await,
            // What stopped the scenario is the reason already.
            Some(_) => None,
        };
        if let Some(words) = &changed {
            self.fault(words.clone());
        }
        let begun = Instant::now();
        let limit = self.setting.seat.timeouts.get(Timeout::Teardown);
        match tokio::time::timeout(limit, self.instance.stop()).await {
            Ok(Ok(())) => {}
            Ok(Err(TargetError::Gone(words))) => gone = gone.or(Some(words)),
            Ok(Err(e)) => self.fault(format!("not everything could be removed: {e}")),
            Err(_) => self.fault(format!(
                "Timed out after {limit:?} waiting for everything to be taken down; --timeout teardown=DURATION sets \
                 another limit"
            )),
        }
        let teardown_us = micros(begun.elapsed());
        let dropped = self.setting.seat.store.dropped();
        // After the teardown, because everything that the implementation sent until it stopped is evidence too.
        let mut checks = Vec::new();
        if stop.is_none()
            && let Some(check) = self.setting.catalogue.check(ledger::CHECK)
        {
            let books = self.state().ledger.clone();
            let claim = Claim::new(move |view| books.judge(view));
            self.state().judged.push(JudgedCheck { check, claim, complete: dropped == 0 });
        }
        for check in &self.setting.catalogue.checks {
            if !check.is_in(self.setting.configuration) || !self.is_selected(check) {
                continue;
            }
            let judged = self.state().judged.iter().find(|judged| judged.check.id == check.id).cloned();
            let finding = match (self.missing_feature(check), judged, &stop) {
                (Some(feature), _, _) => Finding {
                    verdict: Verdict::Skipped,
                    ..Finding::holds(
                        check.requirement.clone(),
                        feature::why_skipped(feature, &self.setting.implementation),
                        Vec::new(),
                    )
                },
                (None, Some(judged), _) if !judged.complete => Finding {
                    verdict: Verdict::Error,
                    ..Finding::holds(
                        check.requirement.clone(),
                        "evidence that this check needs may be among what was not kept",
                        Vec::new(),
                    )
                },
                (None, Some(judged), _) => {
                    let found = self.judge_last(check, &judged.claim);
                    match &changed {
                        Some(words) => in_doubt(found, words),
                        None => found,
                    }
                }
                (None, None, Some(unreached)) => unreached.finding(check),
                (None, None, None) => {
                    self.fault(format!("the scenario ended without judging {:?}", check.id));
                    Finding {
                        verdict: Verdict::Error,
                        ..Finding::holds(
                            check.requirement.clone(),
                            "the scenario ended without judging this check",
                            Vec::new(),
                        )
                    }
                }
            };
            checks.push(self.result(check, &finding));
        }
        if let Some(words) = gone {
            let why = deviation::of_implementation(Field::Process, ValueKind::Absent, &words);
            let finding =
                Finding::broken(RUNS_UNTIL_STOPPED.requirement.clone(), words, Vec::new()).by([why]);
            // No story judges it, so the command repeats the whole scenario.
            let repeat = format!("{} {}", self.setting.repeat, self.selector());
            checks.push(CheckResult { repeat, ..self.result(&RUNS_UNTIL_STOPPED, &finding) });
        }
        if dropped > 0 {
            self.fault(format!(
                "{dropped} pieces of evidence beyond the first {} were not kept: the implementation or a server sent too much",
                self.setting.seat.store.room()
            ));
        }
        let evidence = report_size::bounded(self.setting.seat.store.take(), &checks, report_size::MAX_BYTES);
        let total_us = self.setting.seat.store.now_us();
        let state = self.state.into_inner().unwrap_or_else(PoisonError::into_inner);
        let mut faults = state.faults;
        if let Some(Unreached { fault: Some(message), .. }) = stop {
            let step = state.steps.last().map(|s| s.title.clone());
            faults.insert(0, SuiteFault { message, step });
        }
        Finished {
            checks,
            steps: state.steps,
            externals: state.externals,
            evidence,
            timing: Timing { teardown_us, total_us, ..state.timing },
            faults,
        }
    }
}
