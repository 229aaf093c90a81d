//! Claims: what a check demands of the evidence. A claim is a pure function of the evidence, so it can be judged
//! when the scenario states it and again at the scenario's end, when late evidence has arrived too.
//!
//! A finding is written as clauses: `seen` says who did what and names the value that decides, `expected` says what the
//! evidence had to show. [`Finding::reason`] makes sentences of them.

mod comparison;
mod conversation;
mod credentials;
pub(crate) mod deviation;
mod duration;
mod external;
mod fidelity;
mod handshake;
mod load;
mod log_values;
mod matcher;
mod opener;
mod proxy;
mod reply;
mod response;
mod window;
mod words;

use std::sync::Arc;

use meshproof_model::{Deviation, Difference, Evidence, EvidenceId, Verdict};

pub use conversation::ConversationLine;
pub use credentials::Credentials;
pub use external::Sighting;
pub(crate) use external::{certificate_refused, received_some};
pub(crate) use fidelity::connections_of;
pub use handshake::nothing_weak_offered;
pub use load::Load;
pub(crate) use log_values::{complete, request_ids_recorded};
pub use matcher::Count;
pub(crate) use opener::{opened_by, recorded};
pub use proxy::{ConnectionLine, Logged, Upstream};
pub use reply::Reply;
pub use response::{HopClaim, OnlyResponse, ServerCertificate};
pub use window::Window;
pub(crate) use words::{Server, ServerPlace, capital};

/// The evidence so far, and where the part of each request begins.
#[derive(Clone, Copy)]
pub struct View<'a> {
    /// In order of arrival.
    pub evidence: &'a [Evidence],
    /// Indices into `evidence` at which the suite began a request or changed the configuration, ascending.
    pub marks: &'a [usize],
    /// The marks at which the configuration changed.
    pub changes: &'a [usize],
    /// The real hosts: what they receive cannot be observed.
    pub unobserved: &'a [String],
}

impl<'a> View<'a> {
    /// What arrived from the mark `from` until the next one.
    #[must_use]
    pub fn window(&self, from: usize) -> &'a [Evidence] {
        self.until(self.marks, from)
    }

    /// What arrived from the mark `from` until the next change of the configuration: evidence of a request may arrive later
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
    /// [`Verdict::Passed`], [`Verdict::Failed`] or [`Verdict::Inconclusive`]; [`Verdict::Skipped`] if the claim is about an
    /// unobserved host.
    pub verdict: Verdict,
    /// What the evidence had to show, as a phrase: `server name edition.cnn.com`.
    pub expected: String,
    /// What it shows, as a clause that names the actor: `workload sleep received status 503 for GET http://...`.
    pub seen: String,
    /// The pieces of evidence that decide.
    pub evidence: Vec<EvidenceId>,
    /// Those of them that belong to the control of a negative claim.
    pub control_evidence: Vec<EvidenceId>,
    /// The fields in which a piece differs from what was expected.
    pub differences: Vec<Difference>,
    /// The same, as types: how the evidence deviates. Of a claim whose control did not succeed, how the control's does.
    pub deviations: Vec<Deviation>,
    /// Where it was seen, if `seen` does not say so: `on the hop to external service edition.cnn.com`.
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
            control_evidence: Vec::new(),
            differences: Vec::new(),
            deviations: Vec::new(),
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

    /// The claim is about what this host received, which cannot be observed. Never a pass: missing evidence proves nothing
    /// then.
    #[must_use]
    pub fn unobserved(host: &str) -> Self {
        Self {
            verdict: Verdict::Skipped,
            ..Self::holds(
                format!("evidence of what {host} received"),
                format!("with --live, {host} is the real host, so the suite cannot observe what it received"),
                Vec::new(),
            )
        }
    }

    /// The same finding, which rests on the other two sides alone and says so.
    fn without_the_side_of(mut self, unobserved: &Self) -> Self {
        if self.verdict == Verdict::Passed && !self.seen.contains(&unobserved.seen) {
            self.seen = format!("{}; {}", self.seen, unobserved.seen);
        }
        self
    }

    /// The same finding, with how the evidence deviates, if it does.
    #[must_use]
    pub fn by(mut self, deviations: impl IntoIterator<Item = Deviation>) -> Self {
        match self.verdict {
            Verdict::Failed | Verdict::Inconclusive => self.deviations.extend(deviations),
            Verdict::Passed | Verdict::Skipped | Verdict::Error => {}
        }
        self
    }

    /// The same finding, seen there.
    #[must_use]
    pub fn at(mut self, place: impl Into<String>) -> Self {
        self.place = place.into();
        self
    }

    /// The same finding with this exchange as evidence too: a reader finds the request even if nothing answered it.
    #[must_use]
    pub fn about(mut self, exchange: &EvidenceId) -> Self {
        if !self.evidence.contains(exchange) {
            self.evidence.push(exchange.clone());
        }
        for deviation in &mut self.deviations {
            deviation.evidence.get_or_insert_with(|| exchange.clone());
        }
        self
    }

    /// What happened, as a clause: with the place, if there is one.
    fn happened(&self) -> String {
        if self.place.is_empty() { self.seen.clone() } else { format!("{}: {}", self.place, self.seen) }
    }

    /// The finding in sentences for the report: what happened, then what was expected.
    #[must_use]
    pub fn reason(&self) -> String {
        match self.verdict {
            Verdict::Passed | Verdict::Skipped | Verdict::Error => words::sentence(&self.seen),
            Verdict::Failed => {
                let happened = words::sentence(&self.happened());
                // A requirement is a sentence already.
                format!("{happened} Expected: {}.", self.expected.trim_end_matches('.'))
            }
            Verdict::Inconclusive => format!("Inconclusive: {}.", self.seen.trim_end_matches('.')),
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
    /// A claim that this function judges. It must depend on nothing but the evidence.
    pub fn new(judge: impl Fn(View<'_>) -> Finding + Send + Sync + 'static) -> Self {
        Self { judge: Arc::new(judge) }
    }

    /// Judges the claim.
    #[must_use]
    pub fn judge(&self, view: View<'_>) -> Finding {
        (self.judge)(view)
    }

    /// A claim about what this host received. It is skipped if the host is not observed.
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

    /// All of these hold. The finding is the first one that does not hold, or all of them joined. A claim about an unobserved
    /// host makes the whole skipped, unless another part is broken.
    pub fn all(claims: impl IntoIterator<Item = Self>) -> Self {
        let claims: Vec<Self> = claims.into_iter().collect();
        Self::new(move |view| {
            let findings: Vec<Finding> = claims.iter().map(|c| c.judge(view)).collect();
            if findings.is_empty() {
                return Finding::undecided(
                    "at least one claim",
                    "the scenario makes no claim here",
                    Vec::new(),
                );
            }
            // A broken part decides, even if other parts are inconclusive.
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
            let mut control_evidence: Vec<EvidenceId> =
                findings.iter().flat_map(|f| f.control_evidence.clone()).collect();
            // What one part judges is not a control, even if it is the control of another part.
            let judges = |id: &EvidenceId| {
                findings.iter().any(|f| f.evidence.contains(id) && !f.control_evidence.contains(id))
            };
            control_evidence.retain(|id| !judges(id));
            let joined = Finding::holds(join(|f| &f.expected), join(|f| &f.seen), evidence);
            Finding { control_evidence, ..joined }
        })
    }
}

/// How claims are combined; for claims and for everything that becomes one.
pub trait Claims: Into<Claim> {
    /// Both hold.
    fn and(self, other: impl Into<Claim>) -> Claim {
        Claim::all([self.into(), other.into()])
    }

    /// A negative claim with its control: the same request with only the field under test changed. If the control did not
    /// succeed, this claim proves nothing and is inconclusive. A broken claim stays broken.
    fn provided(self, control_is: &str, control: impl Into<Claim>) -> Claim {
        let (own_claim, control, control_is) = (self.into(), control.into(), control_is.to_owned());
        Claim::new(move |view| {
            let own = own_claim.judge(view);
            if own.verdict != Verdict::Passed {
                return own;
            }
            let other = control.judge(view);
            let evidence = || own.evidence.iter().chain(&other.evidence).cloned().collect();
            // A piece on which both rest says nothing about the control alone.
            let of_control = other.evidence.iter().filter(|id| !own.evidence.contains(id));
            let control_evidence = of_control.cloned().collect();
            match other.verdict {
                Verdict::Skipped | Verdict::Error => other,
                Verdict::Passed => {
                    let seen = format!("{}; control ({control_is}): {}", own.seen, other.seen);
                    Finding { control_evidence, ..Finding::holds(&own.expected, seen, evidence()) }
                }
                Verdict::Failed | Verdict::Inconclusive => {
                    let seen = without_control(&control_is, &other, &own);
                    let finding = Finding::undecided(&own.expected, seen, evidence());
                    Finding {
                        control_evidence,
                        differences: other.differences,
                        deviations: other.deviations,
                        ..finding
                    }
                }
            }
        })
    }

    /// Both hold, where the second is about what a host outside the mesh received. If the host is not observed, this claim
    /// decides alone, and the finding says so. For checks that the other two sides can decide.
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

    /// This claim about what a host outside the mesh received. If the host is not observed, the other claim replaces it, which
    /// is about what the other two sides can know.
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

    /// One of the two holds: which one, is recorded. For a check on which implementations may differ.
    fn or_recorded(self, other: impl Into<Claim>) -> Claim {
        let (first, second) = (self.into(), other.into());
        Claim::new(move |view| {
            let finding = first.judge(view);
            if finding.verdict != Verdict::Failed {
                return finding;
            }
            let instead = second.judge(view);
            let expected = format!("{}, or else {}", finding.expected, instead.expected);
            Finding { expected, ..instead }
        })
    }

    /// This holds. If the other one holds in its place, the finding begins with `words`.
    fn rather_than(self, words: &str, other: impl Into<Claim>) -> Claim {
        let (claim, other, words) = (self.into(), other.into(), words.to_owned());
        Claim::new(move |view| {
            let finding = claim.judge(view);
            if finding.verdict == Verdict::Passed {
                return Finding { seen: format!("agree: {}", finding.seen), ..finding };
            }
            let instead = other.judge(view);
            if instead.verdict == Verdict::Passed {
                let seen = format!("{words}: {}", instead.seen);
                let broken = Finding::broken(finding.expected, seen, instead.evidence);
                return broken.by(finding.deviations);
            }
            finding
        })
    }

    /// The same claim as one case of several: the finding names it.
    fn of(self, case: &str) -> Claim {
        let (claim, case) = (self.into(), case.to_owned());
        Claim::new(move |view| {
            let f = claim.judge(view);
            Finding { seen: format!("case \"{case}\": {}", f.seen), ..f }
        })
    }
}

/// Why a claim proves nothing: first the cause, which is what happened to the control.
fn without_control(control_is: &str, control: &Finding, own: &Finding) -> String {
    let expected = match control.verdict {
        Verdict::Failed => format!(" (expected: {})", control.expected.trim_end_matches('.')),
        Verdict::Passed | Verdict::Inconclusive | Verdict::Skipped | Verdict::Error => String::new(),
    };
    format!(
        "the control ({control_is}) failed: {}{expected}. Without a control that succeeds, this result cannot be judged: {}",
        control.happened().trim_end_matches('.'),
        own.seen
    )
}

impl<T: Into<Claim>> Claims for T {}
