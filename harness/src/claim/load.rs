//! What came of requests that went on while something changed.

use bytes::Bytes;

use super::fidelity::has_body;
use super::{Claim, Finding, Reply};

/// Requests that went on while something changed.
#[derive(Clone, Debug)]
#[must_use]
pub struct Load {
    /// In flight when the change was made: at the server, which withheld half of its answer.
    pub held: Vec<Reply>,
    /// One after another, from before the change until after it; in the order of their ends.
    pub steady: Vec<Reply>,
    /// The body that each of those in flight must get.
    pub(crate) held_body: Bytes,
    /// The body that each of the others must get.
    pub(crate) steady_body: Bytes,
}

impl Load {
    /// Every request was answered with 200 and the whole of its body: a 200 of the proxy's own is no answer.
    pub fn loses_nothing(&self) -> Claim {
        let expected = format!(
            "{} requests in flight when the change is made and {} around it, each answered with 200",
            self.held.len(),
            self.steady.len()
        );
        let ok = |reply: &Reply, body: &Bytes| match reply.exchange.last_response() {
            Some(r) if r.status == 200 => has_body(r, body),
            Some(_) | None => Err(reply.describe()),
        };
        let held =
            self.held.iter().map(|r| (r, ok(r, &self.held_body), "in flight when the change was made"));
        let steady = self.steady.iter().map(|r| (r, ok(r, &self.steady_body), "around the change"));
        let lost: Vec<_> =
            held.chain(steady).filter_map(|(r, ok, when)| Some((r, ok.err()?, when))).collect();
        let finding = match lost.first() {
            _ if self.held.is_empty() || self.steady.is_empty() => {
                Finding::undecided(expected, "no requests", Vec::new())
            }
            None => {
                let all = self.held.iter().chain(&self.steady).map(|r| r.id.clone()).collect();
                let words = format!("{} of {0} requests", self.held.len() + self.steady.len());
                Finding::holds(expected, words, all)
            }
            Some((first, why, when)) => {
                let all = self.held.len() + self.steady.len();
                let ids = lost.iter().map(|(r, ..)| r.id.clone()).collect();
                let seen = format!("{} of {all} requests lost, the first {when}: {why}", lost.len());
                Finding::broken(expected, seen, ids).at(first.place.clone())
            }
        };
        Claim::new(move |_| finding.clone())
    }
}
