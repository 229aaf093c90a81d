//! Claims about requests that were sent while the configuration changed.

use bytes::Bytes;
use meshproof_model::{Deviation, Field, ValueKind};

use super::deviation::{self, Odd, What};
use super::fidelity::has_body;
use super::words::counted;
use super::{Claim, Finding, Reply};

/// Requests that were sent while the configuration changed.
#[derive(Clone, Debug)]
#[must_use]
pub struct Load {
    /// In flight when the change was made: the server had sent half of the response and held back the rest.
    pub held: Vec<Reply>,
    /// Sent one after another from before the change until after it, in the order in which they ended.
    pub steady: Vec<Reply>,
    /// The body that each request in flight must get.
    pub(crate) held_body: Bytes,
    /// The body that each other request must get.
    pub(crate) steady_body: Bytes,
}

impl Load {
    /// Every request was answered with 200 and its whole body. The body shows that the answer is the server's and not the
    /// proxy's.
    pub fn loses_nothing(&self) -> Claim {
        let all = self.held.len() + self.steady.len();
        let expected = format!(
            "status 200 and the whole body for {} in flight when the change was made and {} around the change",
            counted(self.held.len(), "request"),
            counted(self.steady.len(), "request")
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
                Finding::undecided(expected, "the suite sent no requests", Vec::new())
            }
            None => {
                let ids = self.held.iter().chain(&self.steady).map(|r| r.id.clone()).collect();
                Finding::holds(expected, format!("all {} were answered", counted(all, "request")), ids)
            }
            Some((first, why, when)) => {
                let ids = lost.iter().map(|(r, ..)| r.id.clone()).collect();
                let seen = format!(
                    "{} lost {} of {all} requests, the first {when}: it received {why}",
                    first.client,
                    lost.len()
                );
                let what = What::of(Field::Response).being(ValueKind::Success);
                let kind = deviation::outcome(&first.exchange);
                let hop = (deviation::client(&first.client), deviation::some_proxy());
                let odd = what.deviates(&hop, &expected, &Odd::being(kind, why));
                let odd = Deviation { evidence: Some(first.id.clone()), ..odd };
                Finding::broken(expected, seen, ids).by([odd])
            }
        };
        Claim::new(move |_| finding.clone())
    }
}
