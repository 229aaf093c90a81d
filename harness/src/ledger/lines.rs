//! Holds the access logs against the requests: each proxy on a request's way has one line for it, and no other proxy has one.

use std::collections::{BTreeMap, BTreeSet};

use meshproof_model::{Difference, EvidenceId, Feature, HopResult, Side, ValueKind};

use super::Entry;
use super::books::{Account, Asked, LogLine};
use super::deviations;
use super::headers::FieldDifference;
use super::line::{self, Claimed, Member};
use super::sentences;
use crate::claim::deviation;
use crate::forecast::{Arrival, Passage, Promise};

/// One request that a proxy must have a line for.
#[derive(Clone, Copy)]
struct Due<'p, 'a> {
    asked: &'p Asked<'a>,
    claimed: Claimed<'p>,
    /// Whether a line may be missing: a hop before this proxy may have failed.
    optional: bool,
    /// How many lines it may have: a proxy before this one may repeat a request, where that is allowed.
    at_most: usize,
}

impl Account<'_> {
    pub(super) fn lines(&self) -> Vec<Entry> {
        let mut entries = Vec::new();
        if !self.ledger.has(Feature::AccessLog) {
            return entries;
        }
        let members = self.members();
        let mut by_token: BTreeMap<&str, Vec<&Asked<'_>>> = BTreeMap::new();
        for asked in &self.asked {
            by_token.entry(asked.token).or_default().push(asked);
        }
        let mut lines: BTreeMap<&str, Vec<&LogLine<'_>>> = BTreeMap::new();
        for line in &self.logged {
            let Some(token) = line.token else { continue };
            if by_token.contains_key(token) {
                lines.entry(token).or_default().push(line);
            } else if !self.ledger.retired.contains(token) && !self.is_unrecorded(line.token) {
                // A line of a request that was judged may come late.
                let words = format!(
                    "The access log of {} has a line with a token that no client sent: {}.",
                    line.proxy,
                    crate::store::bounded(&line.log.line, 300)
                );
                let stray = deviations::lines(line.proxy, ValueKind::Other, line.id);
                entries.push(Entry::new(words, [line.id.clone()]).by(stray));
            }
        }
        entries.extend(self.asked.iter().filter_map(|asked| self.connection_line(asked)));
        for (token, asked) in &by_token {
            let lines = lines.get(token).map(Vec::as_slice).unwrap_or_default();
            entries.extend(self.lines_of(asked, lines, &members));
        }
        entries
    }

    /// The line of a connection with the client's own TLS, which the last proxy passed on: the proxy's address at the server ties
    /// the two together. It may come later, when the connection ends.
    fn connection_line(&self, asked: &Asked<'_>) -> Option<Entry> {
        let ([Promise::Arrives(arrival)], [received]) =
            (asked.promises.as_slice(), asked.received.as_slice())
        else {
            return None;
        };
        let passage = arrival.proxies.last().filter(|passage| !passage.http)?;
        let peer = &self.received[*received].request.peer;
        let is_own = |line: &&LogLine<'_>| {
            let fields = line.log.fields.as_ref();
            line.proxy == passage.proxy
                && fields
                    .is_some_and(|f| f.method.is_none() && f.upstream_local_address.as_ref() == Some(peer))
        };
        let [line] = self.logged.iter().filter(is_own).collect::<Vec<_>>()[..] else { return None };
        let found = line::of_connection(self.ledger, asked, passage, line.log.fields.as_ref()?);
        (!found.is_empty()).then(|| contradiction(&passage.proxy, asked, line, found))
    }

    /// What each proxy's log format contains: a member that one line has, every line must have.
    fn members(&self) -> BTreeMap<&str, BTreeSet<Member>> {
        let flagged = self.ledger.flagged.iter();
        let mut members: BTreeMap<&str, BTreeSet<Member>> =
            flagged.map(|proxy| (proxy.as_str(), BTreeSet::from([Member::ResponseFlags]))).collect();
        for line in &self.logged {
            if let Some(fields) = line.log.fields.as_ref().filter(|fields| fields.method.is_some()) {
                members.entry(line.proxy).or_default().extend(line::members(fields));
            }
        }
        members
    }

    /// Judges the lines of the requests with one token: redirects and repeats have it in common.
    fn lines_of(
        &self,
        asked: &[&Asked<'_>],
        lines: &[&LogLine<'_>],
        members: &BTreeMap<&str, BTreeSet<Member>>,
    ) -> Vec<Entry> {
        if let [only] = asked
            && !only.foreseen
        {
            return self.lines_without_promise(only, lines);
        }
        let mut due: BTreeMap<&str, Vec<Due<'_, '_>>> = BTreeMap::new();
        for asked in asked {
            match self.due(asked) {
                Some(of_one) => {
                    for (proxy, one) in of_one {
                        due.entry(proxy).or_default().push(one);
                    }
                }
                None => return Vec::new(),
            }
        }
        let Some(first) = asked.first() else { return Vec::new() };
        let mut entries = Vec::new();
        for (proxy, due) in &due {
            let own: Vec<&LogLine<'_>> = lines.iter().filter(|l| l.proxy == *proxy).copied().collect();
            let known = members.get(proxy).cloned().unwrap_or_default();
            entries.extend(self.lines_at(proxy, due, &own, &known));
        }
        if let [only] = asked {
            entries.extend(Self::between_proxies(only, lines));
        }
        for line in lines.iter().filter(|l| !due.contains_key(l.proxy)) {
            let words = format!(
                "The access log of {} has a line for {}, which does not pass this proxy.",
                line.proxy,
                sentences::described(first)
            );
            let stray = deviations::lines(line.proxy, ValueKind::Other, line.id);
            entries.push(Entry::new(words, [line.id.clone(), first.id.clone()]).by(stray));
        }
        entries
    }

    /// Two proxies on the way have a connection in common, and each logs its addresses.
    fn between_proxies(asked: &Asked<'_>, lines: &[&LogLine<'_>]) -> Vec<Entry> {
        let [Promise::Arrives(arrival)] = asked.promises.as_slice() else { return Vec::new() };
        // A proxy may take its client's address from this field (Envoy, `use_remote_address`).
        if asked.hop.headers.iter().any(|h| h.name == "x-forwarded-for") {
            return Vec::new();
        }
        // With several lines, it is not known which of them belong together.
        let only_of = |proxy: &str| match lines.iter().filter(|l| l.proxy == proxy).collect::<Vec<_>>()[..] {
            [line] => Some(*line),
            _ => None,
        };
        let judged = arrival.proxies.windows(2).filter_map(|pair| {
            let [before, after] = pair else { return None };
            let (before, line) = (only_of(&before.proxy)?, only_of(&after.proxy)?);
            let found = line::between(before.log.fields.as_ref()?, line.log.fields.as_ref()?);
            (!found.is_empty()).then(|| contradiction(line.proxy, asked, line, found))
        });
        judged.collect()
    }

    /// What can be said where the target does not work out what the configuration promises, as in a cluster: every line names the
    /// request's method, and the workload's own proxy has one line at most, with the status that the workload received.
    fn lines_without_promise(&self, asked: &Asked<'_>, lines: &[&LogLine<'_>]) -> Vec<Entry> {
        let Side::Workload { name } = asked.side else { return Vec::new() };
        let of_requests = || {
            let fields = lines.iter().filter_map(|line| Some((*line, line.log.fields.as_ref()?)));
            fields.filter(|(_, fields)| fields.method.is_some())
        };
        let own: Vec<EvidenceId> =
            of_requests().filter(|(l, _)| l.proxy == name).map(|(l, _)| l.id.clone()).collect();
        let mut entries = Vec::new();
        if own.len() > 1 {
            let (count, request) = (own.len(), sentences::described(asked));
            let words = format!("The access log of {name} has {count} lines for {request}.");
            let several = deviations::lines(name, ValueKind::Several, asked.id);
            let ids = own.iter().cloned().chain([asked.id.clone()]);
            entries.push(Entry::new(words, ids).by(several));
        }
        let judged = of_requests().filter_map(|(line, fields)| {
            let found = line::without_promise(asked, fields, line.proxy == name);
            (!found.is_empty()).then(|| contradiction(line.proxy, asked, line, found))
        });
        entries.extend(judged);
        entries
    }

    fn lines_at(
        &self,
        proxy: &str,
        due: &[Due<'_, '_>],
        own: &[&LogLine<'_>],
        members: &BTreeSet<Member>,
    ) -> Vec<Entry> {
        let Some(first) = due.first() else { return Vec::new() };
        let least = due.iter().filter(|d| !d.optional).count();
        let most: usize = due.iter().map(|d| d.at_most).sum();
        if own.len() < least || own.len() > most {
            let lines = match own.len() {
                0 => "no line".to_owned(),
                1 => "1 line".to_owned(),
                n => format!("{n} lines"),
            };
            let sent = match due.len() {
                1 => String::new(),
                n => format!(", which was sent {n} times"),
            };
            let words = format!(
                "The access log of {proxy} has {lines} for {}{sent}.",
                sentences::described(first.asked)
            );
            let ids: Vec<EvidenceId> =
                own.iter().map(|l| l.id.clone()).chain([first.asked.id.clone()]).collect();
            let kind = if own.is_empty() { ValueKind::Absent } else { ValueKind::Several };
            return vec![Entry::new(words, ids).by(deviations::lines(proxy, kind, first.asked.id))];
        }
        // Lines of one token need not be in the order of its requests.
        let mut left: Vec<&Due<'_, '_>> = due.iter().collect();
        let mut wrong = Vec::new();
        for line in own {
            let Some(fields) = &line.log.fields else { continue };
            let differences =
                |due: &Due<'_, '_>| line::differences(self.ledger, due.asked, due.claimed, fields, members);
            match left.iter().position(|due| differences(due).is_empty()) {
                Some(place) if left.len() > 1 || left[place].at_most == 1 => drop(left.remove(place)),
                Some(_) => {}
                None => wrong.push(line),
            }
        }
        let judged = wrong.into_iter().filter_map(|line| {
            let due = left.first().copied().unwrap_or(first);
            let fields = line.log.fields.as_ref()?;
            let found = line::differences(self.ledger, due.asked, due.claimed, fields, members);
            Some(contradiction(proxy, due.asked, line, found))
        });
        judged.collect()
    }

    /// By proxy: the lines that this request must have. Absent if it cannot be said, as during a change of the configuration.
    fn due<'p, 'a>(&'p self, asked: &'p Asked<'a>) -> Option<Vec<(&'p str, Due<'p, 'a>)>> {
        let [promise] = asked.promises.as_slice() else { return None };
        // The lines of connections have no token; see `connection_line`.
        if asked.is_conversation() {
            return Some(Vec::new());
        }
        let answered = asked.hop.response().is_some();
        match promise {
            Promise::Open => None,
            Promise::Ends { proxies, .. } => {
                if !asked.received.is_empty() || !answered {
                    return None;
                }
                Some(due_of_failure(asked, proxies.iter().map(String::as_str), true, None))
            }
            Promise::Arrives(arrival) if asked.received.is_empty() => {
                let status = asked.hop.response().map_or(0, |r| r.status);
                let names = arrival.proxies.iter().filter(|p| p.http).map(|p| p.proxy.as_str());
                // Envoy logs nothing of a message that it refuses to parse, such as one with an unknown method, and RFC 9110
                // (section 15.6.2) has 501 for those.
                let logged = status >= 500 && status != 501;
                let last = arrival.proxies.last().map(|passage| passage.proxy.as_str());
                (status >= 400).then(|| due_of_failure(asked, names, logged, last))
            }
            Promise::Arrives(arrival) => self.due_of_arrival(asked, arrival),
        }
    }

    fn due_of_arrival<'p, 'a>(
        &'p self,
        asked: &'p Asked<'a>,
        arrival: &'p Arrival,
    ) -> Option<Vec<(&'p str, Due<'p, 'a>)>> {
        let requests = || asked.received.iter().map(|place| self.received[*place].request);
        // What a proxy logs of a server that gives no answer, or that breaks off in the middle of one, is not what the proxy
        // before it makes of that.
        let answers = || requests().filter_map(|r| r.answer.as_ref());
        let broke_off = answers().any(|answer| answer.breaks_off);
        // Nor is what a proxy logs of an answer that it did not wait for.
        let timed_out = answers().any(|answer| arrival.is_too_late(answer));
        // HAProxy logs nothing of an HTTP/2 request whose stream is reset before there is an answer.
        let unanswered = requests().any(|r| r.status == 0 && !r.is_conversation());
        if !unanswered && (broke_off || timed_out) {
            return asked.outcome_is_the_proxys().then(|| due_of_cut(asked, arrival, !timed_out));
        }
        if unanswered || !matches!(asked.hop.result, HopResult::Response(_)) {
            return None;
        }
        let peer = match asked.received.as_slice() {
            [only] => Some(self.received[*only].request.peer.as_str()),
            [] | [..] => None,
        };
        let request_id = match asked.received.as_slice() {
            // Only a service that records its answers records all headers.
            [only] => Some(self.received[*only].request).filter(|r| r.answer.is_some()),
            [] | [..] => None,
        };
        let request_id = request_id.and_then(|request| request.header("x-request-id"));
        let waited_ms = answers().map(|a| a.waited_ms).min().unwrap_or(0);
        let due = |(place, passage)| {
            let last = place + 1 == arrival.proxies.len();
            let peer = peer.filter(|_| last);
            let claimed =
                Claimed::Arrival { arrival, passage, first: place == 0, peer, last, request_id, waited_ms };
            let at_most = if place == 0 { 1 } else { asked.received.len() };
            (passage.proxy.as_str(), Due { asked, claimed, optional: false, at_most })
        };
        Some(arrival.proxies.iter().enumerate().filter(|(_, p)| p.http).map(due).collect())
    }
}

/// The lines of a request whose answer ended early: each proxy has one, whatever it says of the answer. `waited`: none gave up
/// before the server did, or a later proxy may still be at it.
fn due_of_cut<'p, 'a>(
    asked: &'p Asked<'a>,
    arrival: &'p Arrival,
    waited: bool,
) -> Vec<(&'p str, Due<'p, 'a>)> {
    let due = |(place, passage): (usize, &'p Passage)| {
        let claimed = Claimed::Cut { arrival, first: place == 0 };
        let at_most = at_most(place);
        (passage.proxy.as_str(), Due { asked, claimed, optional: place > 0 && !waited, at_most })
    };
    arrival.proxies.iter().enumerate().filter(|(_, p)| p.http).map(due).collect()
}

/// The lines of a request that the client's own proxy, or another one on the way, answered with a failure. `logged`: the first one
/// has a line. `last`: the proxy that was to reach the server, if there is a server.
fn due_of_failure<'p, 'a>(
    asked: &'p Asked<'a>,
    proxies: impl Iterator<Item = &'p str>,
    logged: bool,
    last: Option<&'p str>,
) -> Vec<(&'p str, Due<'p, 'a>)> {
    let due = |(place, name): (usize, &'p str)| {
        let claimed = Claimed::Failure { first: place == 0, at_upstream: last == Some(name) };
        let at_most = at_most(place);
        (name, Due { asked, claimed, optional: place > 0 || !logged, at_most })
    };
    proxies.enumerate().map(due).collect()
}

/// How many lines a failed request has at most at the proxy in this place: the one before it may repeat what failed (Istio's default
/// retry policy).
const fn at_most(place: usize) -> usize {
    // So many that a sum of several does not overflow.
    if place == 0 { 1 } else { usize::MAX / 1024 }
}

fn contradiction(proxy: &str, asked: &Asked<'_>, line: &LogLine<'_>, found: Vec<FieldDifference>) -> Entry {
    let words = format!(
        "The access log of {proxy} says {} of {}.",
        sentences::differences(&found.iter().collect::<Vec<_>>()),
        sentences::described(asked)
    );
    let hop = (deviation::proxy(proxy), deviation::proxy(proxy));
    let deviations = found.iter().map(|d| d.deviation(&hop, line.id)).collect();
    let differences = found
        .into_iter()
        .map(|d| Difference { evidence: line.id.clone(), expected: d.expected, seen: d.seen })
        .collect();
    Entry { differences, deviations, ..Entry::new(words, [line.id.clone(), asked.id.clone()]) }
}
