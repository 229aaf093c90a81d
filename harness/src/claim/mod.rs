//! Claims: what a check demands of the evidence. A claim is a pure function of the evidence, so it can be judged
//! when the scenario states it and once more at the scenario's end, when whatever came late has come too.

mod credentials;
mod external;
mod fidelity;
mod handshake;
mod load;
mod matcher;
mod proxy;
mod reply;

use std::sync::Arc;

use meshproof_model::{Difference, Evidence, EvidenceId, Verdict};

pub use credentials::Credentials;
pub use external::{Sighting, Window};
pub(crate) use fidelity::connections_of;
pub use handshake::nothing_weak_offered;
pub use load::Load;
pub use matcher::Count;
pub use proxy::{ConnectionLine, Logged, Upstream};
pub(crate) use proxy::{opened_by, recorded};
pub use reply::{HopClaim, OnlyResponse, Reply, ServerCertificate};

/// The evidence as far as it has come, and where each request's part of it begins.
#[derive(Clone, Copy)]
pub struct View<'a> {
    /// In order of arrival.
    pub evidence: &'a [Evidence],
    /// Indices into `evidence` at which the suite began a request or changed the configuration, ascending.
    pub marks: &'a [usize],
    /// Those of the marks at which the configuration changed.
    pub changes: &'a [usize],
    /// The hosts outside that show nothing of what they saw.
    pub unobserved: &'a [String],
}

impl<'a> View<'a> {
    /// What arrived from the mark `from` until the next one.
    #[must_use]
    pub fn window(&self, from: usize) -> &'a [Evidence] {
        self.until(self.marks, from)
    }

    /// What arrived from the mark `from` until the configuration changed next: what belongs to a request and may come later
    /// than its answer.
    #[must_use]
    pub fn phase(&self, from: usize) -> &'a [Evidence] {
        self.until(self.changes, from)
    }

    fn until(&self, marks: &[usize], from: usize) -> &'a [Evidence] {
        let end = marks.iter().copied().find(|&m| m > from).unwrap_or(self.evidence.len());
        &self.evidence[from.min(self.evidence.len())..end.min(self.evidence.len())]
    }
}

/// What a claim found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// [`Verdict::Passed`], [`Verdict::Failed`] or [`Verdict::Inconclusive`]; [`Verdict::Skipped`] where it asks what an unobserved host
    /// saw.
    pub verdict: Verdict,
    /// What the evidence had to show.
    pub expected: String,
    /// What it shows.
    pub seen: String,
    /// The pieces that this rests on.
    pub evidence: Vec<EvidenceId>,
    /// Where one of them shows something else than was expected, field by field.
    pub differences: Vec<Difference>,
    /// Where it was seen: `on the hop to external service edition.cnn.com`. Empty where that is clear without words.
    pub place: String,
}

impl Finding {
    /// The evidence shows what is expected.
    #[must_use]
    pub fn holds(expected: impl Into<String>, seen: impl Into<String>, evidence: Vec<EvidenceId>) -> Self {
        Self {
            verdict: Verdict::Passed,
            expected: expected.into(),
            seen: seen.into(),
            evidence,
            differences: Vec::new(),
            place: String::new(),
        }
    }

    /// The evidence shows something else.
    #[must_use]
    pub fn broken(expected: impl Into<String>, seen: impl Into<String>, evidence: Vec<EvidenceId>) -> Self {
        Self { verdict: Verdict::Failed, ..Self::holds(expected, seen, evidence) }
    }

    /// The evidence decides neither way.
    #[must_use]
    pub fn undecided(
        expected: impl Into<String>,
        seen: impl Into<String>,
        evidence: Vec<EvidenceId>,
    ) -> Self {
        Self { verdict: Verdict::Inconclusive, ..Self::holds(expected, seen, evidence) }
    }

    /// What this host saw is asked, and it shows nothing of that. Never a pass: that no evidence is there proves nothing then.
    #[must_use]
    pub fn unobserved(host: &str) -> Self {
        Self {
            verdict: Verdict::Skipped,
            ..Self::holds(
                format!("what {host} saw"),
                format!(
                    "what {host} saw is not known: with --live it is the real host, which shows nothing of it"
                ),
                Vec::new(),
            )
        }
    }

    /// The same, resting on the other sides alone, which its words say.
    fn without_the_side_of(mut self, unobserved: &Self) -> Self {
        if self.verdict == Verdict::Passed && !self.seen.contains(&unobserved.seen) {
            self.seen = format!("{}; {}", self.seen, unobserved.seen);
        }
        self
    }

    /// The same, seen there.
    #[must_use]
    pub fn at(mut self, place: impl Into<String>) -> Self {
        self.place = place.into();
        self
    }

    /// The same, resting on this exchange too: so that a reader finds what was asked even where nothing answered.
    #[must_use]
    pub fn about(mut self, exchange: &EvidenceId) -> Self {
        if !self.evidence.contains(exchange) {
            self.evidence.push(exchange.clone());
        }
        self
    }

    /// One sentence for the report.
    #[must_use]
    pub fn reason(&self) -> String {
        // A requirement is a sentence, and goes on here.
        let expected = self.expected.trim_end_matches('.');
        match self.verdict {
            Verdict::Passed => self.seen.clone(),
            Verdict::Failed if self.place.is_empty() => format!("expected {expected}; saw {}", self.seen),
            Verdict::Failed => format!("{}: expected {expected}; saw {}", self.place, self.seen),
            Verdict::Inconclusive => format!("cannot be decided: {}", self.seen),
            Verdict::Skipped | Verdict::Error => self.seen.clone(),
        }
    }
}

/// What a check demands of the evidence.
#[derive(Clone)]
#[must_use = "a claim that is not judged asserts nothing"]
pub struct Claim {
    judge: Arc<dyn Fn(View<'_>) -> Finding + Send + Sync>,
}

impl Claim {
    /// A claim that is judged by this function, which must depend on nothing but the evidence.
    pub fn new(judge: impl Fn(View<'_>) -> Finding + Send + Sync + 'static) -> Self {
        Self { judge: Arc::new(judge) }
    }

    /// Judges it.
    #[must_use]
    pub fn judge(&self, view: View<'_>) -> Finding {
        (self.judge)(view)
    }

    /// A claim on what this host saw, which an unobserved one leaves without a verdict.
    pub(crate) fn on_the_side_of(
        host: &str,
        judge: impl Fn(View<'_>) -> Finding + Send + Sync + 'static,
    ) -> Self {
        let host = host.to_owned();
        Self::new(
            move |view| {
                if view.unobserved.contains(&host) { Finding::unobserved(&host) } else { judge(view) }
            },
        )
    }

    /// Every one of these holds. The finding is the first that does not, or all of them put together. What asks an unobserved host
    /// leaves the whole without a verdict, unless another part is broken.
    pub fn all(claims: impl IntoIterator<Item = Self>) -> Self {
        let claims: Vec<Self> = claims.into_iter().collect();
        Self::new(move |view| {
            let findings: Vec<Finding> = claims.iter().map(|c| c.judge(view)).collect();
            if findings.is_empty() {
                return Finding::undecided("something to be claimed", "nothing was claimed", Vec::new());
            }
            // A broken part decides, whatever cannot be decided beside it.
            for verdict in [Verdict::Failed, Verdict::Error, Verdict::Inconclusive, Verdict::Skipped] {
                if let Some(first) = findings.iter().find(|f| f.verdict == verdict) {
                    return first.clone();
                }
            }
            let mut evidence = Vec::new();
            for id in findings.iter().flat_map(|f| &f.evidence) {
                if !evidence.contains(id) {
                    evidence.push(id.clone());
                }
            }
            let join = |part: fn(&Finding) -> &str| {
                let mut parts: Vec<&str> = Vec::new();
                for text in findings.iter().map(part) {
                    if !parts.contains(&text) {
                        parts.push(text);
                    }
                }
                parts.join("; ")
            };
            Finding::holds(join(|f| &f.expected), join(|f| &f.seen), evidence)
        })
    }
}

/// How claims are put together; for claims and for what becomes one.
pub trait Claims: Into<Claim> {
    /// Both hold.
    fn and(self, other: impl Into<Claim>) -> Claim {
        Claim::all([self.into(), other.into()])
    }

    /// A negative with its positive twin: the twin differs in the one field under test and must have succeeded, or else
    /// that this claim holds says nothing. A broken claim stays broken.
    fn provided(self, twin_is: &str, twin: impl Into<Claim>) -> Claim {
        let (own_claim, twin, twin_is) = (self.into(), twin.into(), twin_is.to_owned());
        Claim::new(move |view| {
            let own = own_claim.judge(view);
            if own.verdict != Verdict::Passed {
                return own;
            }
            let other = twin.judge(view);
            if matches!(other.verdict, Verdict::Skipped | Verdict::Error) {
                return other;
            }
            if other.verdict == Verdict::Passed {
                let mut evidence = own.evidence;
                evidence.extend(other.evidence);
                return Finding::holds(
                    own.expected,
                    format!("{}; and {twin_is}: {}", own.seen, other.seen),
                    evidence,
                );
            }
            let twin_at = if other.place.is_empty() { String::new() } else { format!("{}, ", other.place) };
            Finding {
                differences: other.differences,
                ..Finding::undecided(
                    own.expected,
                    format!(
                        "{}, but that proves something only if {twin_is} works, and it did not: {twin_at}expected {}, \
                         saw {}",
                        own.seen, other.expected, other.seen
                    ),
                    own.evidence.into_iter().chain(other.evidence).collect(),
                )
            }
        })
    }

    /// And this, on what a host outside saw; where that is not observed, this claim alone decides, and says so. For checks that the
    /// other two sides decide as well.
    fn and_outside(self, external: impl Into<Claim>) -> Claim {
        let (own_claim, external) = (self.into(), external.into());
        let both = own_claim.clone().and(external.clone());
        Claim::new(move |view| {
            let outside = external.judge(view);
            match outside.verdict {
                Verdict::Skipped => own_claim.judge(view).without_the_side_of(&outside),
                Verdict::Passed | Verdict::Failed | Verdict::Inconclusive | Verdict::Error => {
                    both.judge(view)
                }
            }
        })
    }

    /// This claim on what a host outside saw; where that is not observed, the other one in its place, which asks the other sides for
    /// what they can know of it.
    fn or_unobserved(self, instead: impl Into<Claim>) -> Claim {
        let (external, instead) = (self.into(), instead.into());
        Claim::new(move |view| {
            let outside = external.judge(view);
            match outside.verdict {
                Verdict::Skipped => instead.judge(view).without_the_side_of(&outside),
                Verdict::Passed | Verdict::Failed | Verdict::Inconclusive | Verdict::Error => outside,
            }
        })
    }

    /// The claim with words put before what it expects and saw, to tell apart several of a kind.
    fn of(self, what: &str) -> Claim {
        let (claim, what) = (self.into(), what.to_owned());
        Claim::new(move |view| {
            let f = claim.judge(view);
            Finding { expected: format!("{what}: {}", f.expected), seen: format!("{what}: {}", f.seen), ..f }
        })
    }
}

impl<T: Into<Claim>> Claims for T {}
