//! The report's data model. [`SCHEMA`] names its version; a change that an old reader would misread
//! makes a new version.

use std::collections::BTreeMap;
use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::evidence::{Change, Evidence, EvidenceId, Fact};
use crate::feature::Feature;

/// The version of the report's JSON, found in its `schema` field.
pub const SCHEMA: &str = "meshproof.report/1";

/// How binding a requirement is, in the words of RFC 2119.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum Level {
    /// An absolute requirement; a failure fails the run.
    Must,
    /// A requirement that may be set aside for a good reason; a failure is shown and does not fail the run.
    Should,
    /// Recorded for the reader; never fails.
    May,
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
    /// Not asked, for the reason given: a feature the implementation declares it lacks, a filter.
    Skipped,
    /// The evidence decides neither way, for instance because the positive twin of a negative failed.
    Inconclusive,
    /// The evidence shows that the requirement does not hold.
    Failed,
    /// The environment or the suite kept the check from being judged; says nothing of the implementation.
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

/// One run of the suite against one implementation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Report {
    /// [`SCHEMA`].
    pub schema: String,
    /// What ran, when, and whether it came to its end.
    pub run: Run,
    /// What was judged.
    pub implementation: Implementation,
    /// One entry a scenario configuration, in the catalogue's order.
    pub scenarios: Vec<ScenarioResult>,
}

/// What ran, and when.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Run {
    /// The run's id; everything the run made carries it.
    pub id: String,
    /// The version of meshproof that wrote the report.
    pub meshproof: String,
    /// RFC 3339, UTC.
    pub started: String,
    /// Wall time in microseconds.
    pub duration_us: u64,
    /// True when the run was cut short: what is missing was not judged.
    pub partial: bool,
    /// Why the run is partial.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partial_reason: Option<String>,
    /// The command that repeats the run.
    pub command: String,
}

/// The implementation under test, as it identified itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Implementation {
    /// Its name: `meshproof reference`, `Envoy`, `Istio`.
    pub name: String,
    /// Its version.
    pub version: String,
    /// How the suite reached it: `reference`, `envoy`, `adapter`, `cluster`.
    pub target: String,
    /// The features that it declares; checks that need another are skipped.
    pub features: Vec<Feature>,
    /// Anything else worth knowing: build, revision, the saboteur that was set.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub details: BTreeMap<String, String>,
}

/// Which of the details make it another thing to judge than its namesakes; the others (a build, a program's path) are only
/// worth knowing.
const VARIANTS: [&str; 4] = ["saboteur", "mutation", "mode", "revision"];

/// Of [`Implementation::details`], those that tell it from others of its name and version.
pub fn variants(details: &BTreeMap<String, String>) -> impl Iterator<Item = (&str, &str)> {
    details
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .filter(|(name, _)| VARIANTS.contains(name))
}

/// The document that a scenario or check comes from.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct Document {
    /// Its title.
    pub title: String,
    /// Where it is published.
    pub url: String,
}

/// One scenario in one configuration, as it went.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ScenarioResult {
    /// The scenario's id, stable: `sidecar-origination`.
    pub id: String,
    /// Which of the scenario's configurations: `port-rewrite`.
    pub configuration: String,
    /// One line that says what the scenario is about.
    pub title: String,
    /// Where the scenario comes from.
    pub document: Document,
    /// The checks, in the scenario's order.
    pub checks: Vec<CheckResult>,
    /// The external services that the scenario used.
    pub external_services: Vec<ExternalService>,
    /// The document's steps, as they were taken.
    pub steps: Vec<Step>,
    /// What the three sides saw.
    pub evidence: Vec<Evidence>,
    /// Where the time went.
    pub timing: Timing,
    /// Faults of the environment or the suite: why checks have the verdict `error`, what could not be removed.
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

    /// The worst verdict among the MUST checks, or among all where no MUST was asked; `Error` if the scenario has a fault,
    /// `Skipped` if nothing was asked.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        if !self.faults.is_empty() {
            return Verdict::Error;
        }
        let counts = |c: &&CheckResult| c.level == Level::Must || c.verdict == Verdict::Error;
        let asked = self.checks.iter().filter(|c| c.verdict != Verdict::Skipped);
        if asked.clone().next().is_none() {
            return Verdict::Skipped;
        }
        let worst = asked.clone().filter(counts).map(|c| c.verdict).max();
        worst.or_else(|| asked.map(|c| c.verdict).max()).unwrap_or(Verdict::Passed)
    }

    /// The configuration change that was the last before the last piece of evidence that a check rests on; without
    /// evidence, the scenario's last one.
    #[must_use]
    pub fn last_change(&self, check: &CheckResult) -> Option<(&Evidence, &Change)> {
        let judged_at = check.evidence.iter().filter_map(|id| self.evidence(id)).map(|e| e.at_us).max();
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

    /// The piece of evidence with this id.
    #[must_use]
    pub fn evidence(&self, id: &EvidenceId) -> Option<&Evidence> {
        self.evidence.iter().find(|e| &e.id == id)
    }
}

/// One check's verdict, and what it rests on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CheckResult {
    /// The full id, stable: `sidecar-origination/single-response`.
    pub id: String,
    /// How binding the requirement is.
    pub level: Level,
    /// True for a control: it proves that the suite can see what a later check denies.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub control: bool,
    /// The verdict.
    pub verdict: Verdict,
    /// One sentence: what was seen, why it failed, why it was skipped.
    pub reason: String,
    /// What the check demands.
    pub requirement: String,
    /// The document's section that says so.
    pub section: String,
    /// What the evidence had to show.
    pub expected: String,
    /// What the evidence shows.
    pub seen: String,
    /// The pieces of evidence that the verdict rests on.
    pub evidence: Vec<EvidenceId>,
    /// Where a piece of evidence shows something else than was expected, as far as it can be told field by field.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub differences: Vec<Difference>,
    /// Set where a failure of this check is expected; then a failure does not fail the run, and a success does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected_failure: Option<ExpectedFailure>,
    /// The feature that the check needs, where it is not asked of everybody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub feature: Option<Feature>,
    /// The command that repeats just this check.
    pub repeat: String,
}

impl CheckResult {
    /// Whether this result fails the run: a MUST that failed or is inconclusive, unless that was expected; an expected
    /// failure that passed.
    #[must_use]
    pub fn fails_run(&self) -> bool {
        self.fails_at(Level::Must)
    }

    /// As [`CheckResult::fails_run`], for somebody to whom requirements down to this level are binding.
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

/// One point at which a piece of evidence shows something else than was expected.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Difference {
    /// The piece that shows it.
    pub evidence: EvidenceId,
    /// What it had to show: `server name edition.cnn.com`.
    pub expected: String,
    /// What it shows: `no server name`.
    pub seen: String,
}

/// Why a check is known to fail for this implementation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ExpectedFailure {
    /// Why it is known to fail.
    pub reason: String,
    /// The last day, `YYYY-MM-DD` in UTC, on which the failure is expected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
}

/// A server outside the mesh, as it was deployed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ExternalService {
    /// The host name it answers for.
    pub host: String,
    /// `embedded`, `nginx`, `container`, `nginx-pod`; `live` for a document's own host, which shows nothing of what it saw.
    pub kind: String,
    /// Product and version: `nginx/1.22.1`.
    pub version: String,
}

impl ExternalService {
    /// The kind of a document's own host on the internet.
    pub const LIVE: &'static str = "live";

    /// Whether it shows what it saw: that nothing of it is among the evidence says something only then.
    #[must_use]
    pub fn is_observed(&self) -> bool {
        self.kind != Self::LIVE
    }
}

/// One step of the document: what was changed, and the manifests in force from then on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Step {
    /// The step's title, as a reader of the document would name it.
    pub title: String,
    /// When it began, in microseconds from the scenario's start.
    pub at_us: u64,
}

/// Where a scenario's time went, in microseconds of wall time. The parts need not fill the total.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Timing {
    /// Certificates, external services, the implementation's start.
    pub setup_us: u64,
    /// From each applied change until the implementation had it in force; a figure of the implementation.
    pub convergence_us: u64,
    /// Requests and probes, from first byte to last.
    pub requests_us: u64,
    /// Removal of what the scenario made.
    pub teardown_us: u64,
    /// The scenario from start to end.
    pub total_us: u64,
}

/// A fault that is not the implementation's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SuiteFault {
    /// What went wrong, and how to mend it.
    pub message: String,
    /// During which step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<String>,
}

/// How many checks got which verdict.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    counts: [usize; 5],
}

impl Tally {
    /// Counts the checks for which `keep` holds.
    #[must_use]
    pub fn of<'a>(
        checks: impl IntoIterator<Item = &'a CheckResult>,
        keep: impl Fn(&CheckResult) -> bool,
    ) -> Self {
        let mut tally = Self::default();
        for check in checks {
            if keep(check) {
                tally.counts[check.verdict as usize] += 1;
            }
        }
        tally
    }

    /// How many got this verdict.
    #[must_use]
    pub fn count(&self, verdict: Verdict) -> usize {
        self.counts[verdict as usize]
    }

    /// How many in all.
    #[must_use]
    pub fn total(&self) -> usize {
        self.counts.iter().sum()
    }
}

impl Report {
    /// Every check of every scenario.
    pub fn checks(&self) -> impl Iterator<Item = &CheckResult> {
        self.scenarios.iter().flat_map(|s| &s.checks)
    }

    /// The process's exit code for this report: 0 every MUST passed; 1 a MUST failed or is inconclusive;
    /// 3 an environment or suite error, a run cut short, or nothing was executed.
    ///
    /// A failed MUST outranks an error: it is a finding about the implementation that no mend of the
    /// environment takes back.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        self.exit_code_at(Level::Must)
    }

    /// As [`Report::exit_code`], for somebody to whom requirements down to this level are binding.
    #[must_use]
    pub fn exit_code_at(&self, least: Level) -> u8 {
        if self.checks().any(|c| c.fails_at(least)) {
            return 1;
        }
        let error = self.checks().any(|c| c.verdict == Verdict::Error)
            || self.scenarios.iter().any(|s| !s.faults.is_empty())
            || self.run.partial;
        let executed = self.checks().any(|c| matches!(c.verdict, Verdict::Passed | Verdict::Failed));
        if error || !executed { 3 } else { 0 }
    }
}
