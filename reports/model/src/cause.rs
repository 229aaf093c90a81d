//! Causes: what failed and inconclusive checks have in common. Checks belong together if their evidence deviates in the same way on
//! the same kind of hop; hosts, ports and tokens do not count.

mod group;
mod words;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::deviation::{Field, Role, ValueKind};
use crate::result::Verdict;

pub use group::causes;

/// What several failed or inconclusive checks have in common.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Cause {
    /// Unique in the report, and the same for the same cause in another one: `server-name-absent`.
    pub id: String,
    /// One sentence without a full stop: `No server name (SNI) in the TLS handshake from the sidecar to external services`.
    pub title: String,
    /// Where to look, in one or two sentences; empty if there is no advice.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub advice: String,
    /// What deviates; absent if the checks have no typed deviation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deviation: Option<CommonDeviation>,
    /// The checks that failed or are inconclusive for this cause, in the order of the report.
    pub checks: Vec<CausedCheck>,
    /// The check whose story shows the cause best, one of [`Cause::checks`].
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub example: String,
    /// The cause of which this one is probably a consequence: each of its scenarios shows that one, too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consequence_of: Option<String>,
}

/// The deviation that the checks of a cause share.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CommonDeviation {
    /// Who sent what deviates, in the order of the request path.
    pub from: Vec<Role>,
    /// To whom it went.
    pub to: Role,
    /// What deviates.
    pub field: Field,
    /// Which header or log field.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The kind of value that was expected.
    pub expected_kind: ValueKind,
    /// The kind of value that was seen.
    pub seen_kind: ValueKind,
    /// What was expected and what was seen in the example.
    pub expected: String,
    /// Likewise.
    pub seen: String,
}

/// A check of a cause.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CausedCheck {
    /// `scenario:configuration/check`.
    pub check: String,
    /// Failed or inconclusive.
    pub verdict: Verdict,
    /// Whether its failure was expected.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub expected: bool,
}

impl Cause {
    /// The check whose story shows the cause best.
    #[must_use]
    pub fn example(&self) -> Option<&CausedCheck> {
        self.checks.iter().find(|c| c.check == self.example).or_else(|| self.checks.first())
    }

    /// The checks whose failure was not expected.
    pub fn unexpected(&self) -> impl Iterator<Item = &CausedCheck> {
        self.checks.iter().filter(|c| !c.expected)
    }
}

#[cfg(test)]
mod tests;
