//! A path and its rule.

use meshproof_harness::certificates::CertificateError;
use meshproof_model::Level;

use crate::pki::{Pki, Presented};

/// The answer that a verifier must give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// It accepts the server.
    Accepted,
    /// It refuses the server.
    Refused,
}

pub(crate) type Make = fn(&Pki, &str) -> Result<Presented, CertificateError>;

/// One path.
#[derive(Clone, Debug)]
pub struct Vector {
    /// Stable: `basic-constraints-absent`.
    pub id: &'static str,
    /// Where the rule is: a section, a requirement, or a CVE.
    pub source: &'static str,
    /// The rule in one sentence.
    pub rule: &'static str,
    /// MUST where RFC 5280 decides, SHOULD where a path has to be found, MAY where practice differs.
    pub level: Level,
    /// The answer.
    pub expected: Expected,
    /// The vector that differs in the one thing under test and must be accepted. Absent for those that must be accepted
    /// themselves.
    pub control: Option<&'static str>,
    /// Whether the default run leaves it out: a data plane that is in wide use gives another answer, or the path is slow to make.
    pub only_full: bool,
    /// Whether a careless search for the path takes long. Each configuration asks it, for the time that the answer takes.
    pub costly: bool,
    pub(crate) make: Make,
}

impl Vector {
    pub(crate) const fn new(
        id: &'static str,
        level: Level,
        expected: Expected,
        source: &'static str,
        rule: &'static str,
        make: Make,
    ) -> Self {
        // Where practice differs, a default run that fails would only repeat what is known.
        let only_full = matches!(level, Level::May);
        Self { id, source, rule, level, expected, control: None, only_full, costly: false, make }
    }

    /// With another control than the group's.
    pub(crate) const fn unlike(self, control: &'static str) -> Self {
        Self { control: Some(control), ..self }
    }

    /// Asked in each configuration for the time that it takes.
    pub(crate) const fn costly(self) -> Self {
        Self { costly: true, ..self }
    }

    /// Left out of the default run.
    pub(crate) const fn only_full(self) -> Self {
        Self { only_full: true, ..self }
    }
}

/// Vectors that are about the same rule.
#[derive(Clone, Copy, Debug)]
pub struct Group {
    /// `basic-constraints`.
    pub id: &'static str,
    /// `Basic constraints`.
    pub title: &'static str,
    /// The control of those that have none of their own.
    pub(crate) control: &'static str,
    pub(crate) vectors: &'static [Vector],
}
