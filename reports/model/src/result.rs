//! The result of a scenario and of each of its checks: the part of a report that other parts are derived from.

use std::collections::HashSet;
use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::deviation::Deviation;
use crate::evidence::{Change, Evidence, EvidenceId, Fact};
use crate::feature::ReportedFeature;

/// How binding a requirement is, in the words of RFC 2119.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum Level {
    /// An absolute requirement; a failure fails the run.
    Must,
    /// A requirement that may be set aside for a good reason; a failure is shown and does not fail the run.
    Should,
    /// An optional property; a failure is shown and does not fail the run.
    May,
}

impl Level {
    /// Every level, the most binding first.
    pub const ALL: [Self; 3] = [Self::Must, Self::Should, Self::May];
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Must => "MUST",
            Self::Should => "SHOULD",
            Self::May => "MAY",
        })
    }
}

/// What the suite concluded about one check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// The evidence shows that the requirement holds.
    Passed,
    /// Not executed, for the reason given: a feature that the implementation declares as missing, a filter.
    Skipped,
    /// The evidence proves neither success nor failure, for example because the control of a negative check
    /// failed.
    Inconclusive,
    /// The evidence shows that the requirement does not hold.
    Failed,
    /// A problem of the environment or the suite prevented the check from being judged. Says nothing about
    /// the implementation.
    Error,
}

impl Verdict {
    /// Every verdict, in the order in which summaries list them.
    pub const ALL: [Self; 5] = [Self::Passed, Self::Failed, Self::Inconclusive, Self::Error, Self::Skipped];
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Passed => "passed",
            Self::Skipped => "skipped",
            Self::Inconclusive => "inconclusive",
            Self::Failed => "failed",
            Self::Error => "error",
        })
    }
}

/// The document that a scenario or check comes from.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct Document {
    /// Its title.
    pub title: String,
    /// Where it is published.
    pub url: String,
}

/// The result of one scenario in one configuration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ScenarioResult {
    /// The scenario's id, stable: `sidecar-origination`.
    pub id: String,
    /// Which of the scenario's configurations: `port-rewrite`.
    pub configuration: String,
    /// The subject of the scenario in one line.
    pub title: String,
    /// A paragraph: what is proved when every check passes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proves: Option<String>,
    /// The file with the scenario's story, as a path in the repository of its suite.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// Where the scenario comes from.
    pub document: Document,
    /// The checks, in the scenario's order.
    pub checks: Vec<CheckResult>,
    /// The external services that the scenario used.
    pub external_services: Vec<ExternalService>,
    /// The document's steps, as they were executed.
    pub steps: Vec<Step>,
    /// What the three sides recorded.
    pub evidence: Vec<Evidence>,
    /// The time that each phase took.
    pub timing: Timing,
    /// Errors of the environment or the suite: why checks have the verdict `error`, and what could not be
    /// removed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub faults: Vec<SuiteFault>,
}

impl ScenarioResult {
    /// `scenario` or `scenario:configuration`, as the command line takes it.
    #[must_use]
    pub fn selector(&self) -> String {
        if self.configuration.is_empty() {
            self.id.clone()
        } else {
            format!("{}:{}", self.id, self.configuration)
        }
    }

    /// The name of a check within this scenario: `single-response`.
    #[must_use]
    pub fn check_name<'c>(&self, check: &'c CheckResult) -> &'c str {
        check.name_in(&self.id)
    }

    /// The worst verdict among the MUST checks, or among all checks if no MUST check was executed; `Error` if
    /// the scenario has an environment or suite error, `Skipped` if no check was executed.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        if !self.faults.is_empty() {
            return Verdict::Error;
        }
        let counts = |c: &&CheckResult| c.level == Level::Must || c.verdict == Verdict::Error;
        let executed = self.checks.iter().filter(|c| c.verdict != Verdict::Skipped);
        if executed.clone().next().is_none() {
            return Verdict::Skipped;
        }
        let worst = executed.clone().filter(counts).map(|c| c.verdict).max();
        worst.or_else(|| executed.map(|c| c.verdict).max()).unwrap_or(Verdict::Passed)
    }

    /// The last configuration change before the last piece of evidence that a check rests on; without
    /// evidence, the last change of the scenario.
    #[must_use]
    pub fn last_change(&self, check: &CheckResult) -> Option<(&Evidence, &Change)> {
        let cited: HashSet<&EvidenceId> = check.evidence.iter().collect();
        let judged_at = self.evidence.iter().filter(|e| cited.contains(&e.id)).map(|e| e.at_us).max();
        let changes = self.evidence.iter().filter_map(|e| match &e.fact {
            Fact::Change(change) => Some((e, change)),
            Fact::Exchange(_)
            | Fact::AccessLog(_)
            | Fact::Connection(_)
            | Fact::Request(_)
            | Fact::Credential(_)
            | Fact::Note { .. } => None,
        });
        changes.filter(|(e, _)| judged_at.is_none_or(|at| e.at_us <= at)).max_by_key(|(e, _)| e.at_us)
    }

    /// Whether the host is one of the scenario's external services. Other services are inside the mesh.
    #[must_use]
    pub fn is_external(&self, host: &str) -> bool {
        self.external_services.iter().any(|service| service.host == host)
    }

    /// The piece of evidence with this id.
    #[must_use]
    pub fn evidence(&self, id: &EvidenceId) -> Option<&Evidence> {
        self.evidence.iter().find(|e| &e.id == id)
    }
}

/// One check's verdict and its evidence.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CheckResult {
    /// The full id, stable: `sidecar-origination/single-response`.
    pub id: String,
    /// How binding the requirement is.
    pub level: Level,
    /// True for a control, which proves that the suite can observe what a negative check says did not happen.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub control: bool,
    /// The verdict.
    pub verdict: Verdict,
    /// One sentence: what was observed, why it failed, or why it was skipped.
    pub reason: String,
    /// What the check requires.
    pub requirement: String,
    /// The section of the document that states the requirement.
    pub section: String,
    /// What the evidence had to show.
    pub expected: String,
    /// What the evidence shows.
    pub seen: String,
    /// The pieces of evidence that the verdict rests on.
    pub evidence: Vec<EvidenceId>,
    /// Those of them that the control recorded; absent in old reports. A comparison holds control against control.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub control_evidence: Vec<EvidenceId>,
    /// Where a piece of evidence differs from what was expected, as far as single fields can be named.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub differences: Vec<Difference>,
    /// How the evidence deviates from what was expected, as types; for a negative check whose control failed, how the control's
    /// does. Absent in old reports.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub deviations: Vec<Deviation>,
    /// Set where a failure of this check is expected; then a failure does not fail the run, and a success
    /// does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected_failure: Option<ExpectedFailure>,
    /// The feature that the check requires, if it does not apply to every implementation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub feature: Option<ReportedFeature>,
    /// The command that repeats just this check.
    pub repeat: String,
}

impl CheckResult {
    /// The id without the prefix `SCENARIO/`; the whole id if it has another prefix.
    #[must_use]
    pub fn name_in(&self, scenario: &str) -> &str {
        self.id.strip_prefix(scenario).and_then(|rest| rest.strip_prefix('/')).unwrap_or(&self.id)
    }

    /// Whether this result fails the run: a MUST that failed or is inconclusive, unless that was expected; an
    /// expected failure that passed.
    #[must_use]
    pub fn fails_run(&self) -> bool {
        self.fails_at(Level::Must)
    }

    /// As [`CheckResult::fails_run`], if requirements down to this level are binding.
    #[must_use]
    pub fn fails_at(&self, least: Level) -> bool {
        let broken = matches!(self.verdict, Verdict::Failed | Verdict::Inconclusive);
        match self.expected_failure {
            Some(_) => self.verdict == Verdict::Passed,
            None => self.level <= least && broken,
        }
    }

    /// Whether this result is a failure that was expected.
    #[must_use]
    pub fn failed_as_expected(&self) -> bool {
        self.expected_failure.is_some() && matches!(self.verdict, Verdict::Failed | Verdict::Inconclusive)
    }
}

/// One difference between a piece of evidence and what was expected.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Difference {
    /// The piece that shows it.
    pub evidence: EvidenceId,
    /// The expected observation: `server name edition.cnn.com`.
    pub expected: String,
    /// The actual observation: `no server name`.
    pub seen: String,
}

/// An expected failure of a check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ExpectedFailure {
    /// Why the check is known to fail.
    pub reason: String,
    /// The last day, `YYYY-MM-DD` in UTC, on which the failure is expected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
}

/// A server outside the mesh, as it was deployed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ExternalService {
    /// The host name that it serves.
    pub host: String,
    /// `embedded`, `nginx`, `container`, `nginx-pod`; `live` for a real host of the document, which records
    /// no evidence.
    pub kind: String,
    /// Product and version: `nginx/1.22.1`.
    pub version: String,
}

impl ExternalService {
    /// The kind of a real host on the internet that the document uses.
    pub const LIVE: &'static str = "live";

    /// Whether it records evidence. Only then does the absence of evidence show that nothing arrived.
    #[must_use]
    pub fn is_observed(&self) -> bool {
        self.kind != Self::LIVE
    }
}

/// One step of the document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Step {
    /// The step's title, in the document's words.
    pub title: String,
    /// When it began, in microseconds from the scenario's start.
    pub at_us: u64,
}

/// The time that each phase of a scenario took, in microseconds of wall time. The phases need not add up to
/// the total.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Timing {
    /// Creating certificates, starting the external services and the implementation.
    pub setup_us: u64,
    /// From each configuration change until it was in force; a property of the implementation.
    pub convergence_us: u64,
    /// Requests and probes, from first byte to last.
    pub requests_us: u64,
    /// Removing what the scenario created.
    pub teardown_us: u64,
    /// The scenario from start to end.
    pub total_us: u64,
}

/// An error of the environment or the suite, not of the implementation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SuiteFault {
    /// What went wrong and how to fix it.
    pub message: String,
    /// The step during which it happened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<String>,
}
