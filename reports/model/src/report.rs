//! The report's data model. [`SCHEMA`] is its version. A change that an old reader would misinterpret needs a
//! new version.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::cause::{self, Cause};
use crate::deviation::Role;
use crate::diagnosis::{Diagnosis, PLACEMENTS, Symptoms};
use crate::feature::ReportedFeature;
pub use crate::result::{
    CheckResult, Difference, Document, ExpectedFailure, ExternalService, Level, ScenarioResult, Step,
    SuiteFault, Timing, Verdict,
};

/// The version of the report's JSON, found in its `schema` field.
pub const SCHEMA: &str = "meshproof.report/1";

/// One run of the suite against one implementation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Report {
    /// [`SCHEMA`].
    pub schema: String,
    /// What ran, when, and whether it finished.
    pub run: Run,
    /// What was judged.
    pub implementation: Implementation,
    /// One entry per scenario configuration, in the catalogue's order.
    pub scenarios: Vec<ScenarioResult>,
    /// What the failed and inconclusive checks have in common, derived from the checks: see [`Report::derive_causes`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<Cause>,
    /// The known faults that fit the failures; absent if no check failed, or if they were not compared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub diagnosis: Option<Diagnosis>,
}

/// What ran, and when.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Run {
    /// The run's id; everything that the run creates carries it.
    pub id: String,
    /// The version of meshproof that wrote the report.
    pub meshproof: String,
    /// RFC 3339, UTC.
    pub started: String,
    /// Wall time in microseconds.
    pub duration_us: u64,
    /// True if the run stopped early; missing checks were not judged.
    pub partial: bool,
    /// Why the run is partial.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partial_reason: Option<String>,
    /// Which part of a run this is, if it is one: `2/3`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shard: Option<String>,
    /// The command that repeats the run.
    pub command: String,
}

/// The implementation under test, as it identifies itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Implementation {
    /// Its name: `meshproof reference`, `Envoy`, `Istio`.
    pub name: String,
    /// Its version.
    pub version: String,
    /// How the suite reached it: `reference`, `envoy`, `adapter`, `cluster`.
    pub target: String,
    /// The features that it declares; checks that require another feature are skipped.
    pub features: Vec<ReportedFeature>,
    /// Other facts: build, revision, the active saboteur.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub details: BTreeMap<String, String>,
}

/// The details that distinguish one variant of an implementation from another. Other details (a build, the
/// path of a program) are informative only.
const VARIANTS: [&str; 4] = ["saboteur", "mutation", "mode", "revision"];

/// The entries of [`Implementation::details`] that distinguish it from others of the same name and version.
pub fn variants(details: &BTreeMap<String, String>) -> impl Iterator<Item = (&str, &str)> {
    details
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .filter(|(name, _)| VARIANTS.contains(name))
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

    /// The number of checks with this verdict.
    #[must_use]
    pub fn count(&self, verdict: Verdict) -> usize {
        self.counts[verdict as usize]
    }

    /// The number of all counted checks.
    #[must_use]
    pub fn total(&self) -> usize {
        self.counts.iter().sum()
    }
}

impl Report {
    /// Works out the causes anew, after the checks have changed.
    pub fn derive_causes(&mut self) {
        self.causes = cause::causes(&self.scenarios);
    }

    /// What a diagnosis rests on.
    #[must_use]
    pub fn symptoms(&self) -> Symptoms {
        let mut symptoms = Symptoms::default();
        for check in self.checks() {
            match check.verdict {
                Verdict::Passed => symptoms.passed.insert(check.id.clone()),
                Verdict::Failed | Verdict::Inconclusive => symptoms.broken.insert(check.id.clone()),
                Verdict::Skipped | Verdict::Error => false,
            };
        }
        symptoms.passed.retain(|id| !symptoms.broken.contains(id));
        for cause in self.causes.iter().filter(|c| c.consequence_of.is_none()) {
            symptoms.causes.insert(cause.id.clone());
            let from = cause.deviation.iter().flat_map(|d| d.from.iter().copied());
            symptoms.places.extend(from.filter(|r| r.is_proxy() && *r != Role::Proxy));
        }
        if symptoms.places.is_empty() {
            // Where no evidence names a proxy, the scenarios and configurations with failed checks say at which they stand.
            let failed = |s: &&ScenarioResult| s.checks.iter().any(|c| c.verdict == Verdict::Failed);
            for selector in self.scenarios.iter().filter(failed).map(ScenarioResult::selector) {
                let of = PLACEMENTS.into_iter().filter(|(name, _)| selector.contains(name));
                symptoms.places.extend(of.map(|(_, role)| role));
            }
        }
        symptoms
    }

    /// Every check of every scenario.
    pub fn checks(&self) -> impl Iterator<Item = &CheckResult> {
        self.scenarios.iter().flat_map(|s| &s.checks)
    }

    /// The process's exit code for this report: 0 every MUST passed; 1 a MUST failed or is inconclusive;
    /// 3 an environment or suite error, a run that stopped early, or nothing was executed.
    ///
    /// A failed MUST outranks an error, because fixing the environment would not change it.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        self.exit_code_at(Level::Must)
    }

    /// As [`Report::exit_code`], if requirements down to this level are binding.
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
