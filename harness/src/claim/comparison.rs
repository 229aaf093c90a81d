//! Claims that compare two exchanges, and figures that are recorded.

use std::time::Duration;

use meshproof_model::{Field, ValueKind};

use super::deviation::{Odd, What};
use super::words::unlike;
use super::{Claim, Finding, Reply};
use crate::store::bounded;

impl Reply {
    /// The last response has the same values of these headers as the last response of `baseline`, which has each of them.
    /// Inconclusive if it does not.
    pub fn answers_with_the_headers_of(&self, baseline: &Self, names: &[&str]) -> Claim {
        let expected =
            format!("the same {} as in the baseline request: {}", names.join(", "), baseline.describe());
        let before = baseline.exchange.last_response();
        let wanted: Option<Vec<(&str, &str)>> =
            names.iter().map(|name| Some((*name, before?.header(name)?))).collect();
        let Some(wanted) = wanted else {
            let why = format!("no response with {}", names.join(", "));
            return self.without_baseline(baseline, expected, &why);
        };
        let response = self.exchange.last_response();
        for (name, value) in wanted {
            let seen = response.and_then(|r| r.header(name));
            let odd = match seen {
                Some(seen) if seen == value => continue,
                Some(seen) => Odd::from(format!("the header {name}: {}", unlike(seen, value))),
                None if response.is_none() => self.came(),
                // A proxy may frame a body anew (RFC 9112, section 6.1); its length is compared as that of the body.
                None if name == "content-length"
                    && response.is_some_and(|r| {
                        r.header("transfer-encoding").is_some() && r.body_bytes.to_string() == value
                    }) =>
                {
                    continue;
                }
                None => Odd::absent(format!("no header {name}")),
            };
            let expected = format!("the header {name}: {}, as in the baseline request", bounded(value, 200));
            return self.fixed(What::of(Field::ResponseHeader).named(name), expected, Err(odd));
        }
        self.fixed(Field::ResponseHeader, expected, Ok(()))
    }

    /// The client wrote this text to its connection in plain text, and got a response.
    pub fn wrote_in_clear(&self, text: &str) -> Claim {
        let clear = self.exchange.hops.iter().any(|h| h.sent.contains(text) && h.response().is_some());
        let words =
            || Odd::being(ValueKind::Tls, format!("{}, without that text in plain text", self.describe()));
        let what = What::of(Field::SentBytes).being(ValueKind::PlainText);
        let expected = format!("an answered request with {text:?} in plain text on the hop to its proxy");
        self.fixed(what, expected, clear.then_some(()).ok_or_else(words))
    }

    /// Records how long this exchange took, and how long `before`, which needed one request more. For a check that never fails;
    /// inconclusive if one of them has another number of requests.
    pub fn duration_recorded_beside(&self, before: &Self) -> Claim {
        let expected = "the durations of one request and of a request with a redirect".to_owned();
        let evidence = vec![before.id.clone(), self.id.clone()];
        let took = |reply: &Self| {
            let requests = super::words::counted(reply.exchange.hops.len(), "request");
            format!("{requests} took {:.1?}", Duration::from_micros(reply.exchange.duration_us))
        };
        let answered = |reply: &Self, hops| {
            reply.exchange.hops.len() == hops
                && reply.exchange.last_response().is_some_and(|r| r.status == 200)
        };
        let seen = format!("before, {}; with origination, {}", took(before), took(self));
        let finding = if answered(before, 2) && answered(self, 1) {
            Finding::holds(expected, seen, evidence)
        } else {
            let odd = self.came();
            let deviation =
                self.deviation(&What::of(Field::Response).being(ValueKind::Success), &expected, &odd);
            let seen = format!("{seen}, and {}", self.describe());
            Finding::undecided(expected, seen, evidence).by([deviation])
        };
        Claim::new(move |_| finding.clone())
    }
}
