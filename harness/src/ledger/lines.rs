//! Holds each access-log line against what the two ends saw.

use meshproof_model::{Deviation, EvidenceId, Feature, Field, HopResult, LogFields, ValueKind};

use super::Entry;
use super::account::{Account, Asked, LogLine};
use super::headers::FieldDifference;
use crate::claim::deviation::{self, Odd, What};
use crate::forecast::{Arrival, Passage, Promise};

/// What a logged duration may exceed the client's by: both round to milliseconds, and a proxy also counts what it does after
/// the client has its answer.
const DURATION_SLACK_MS: u64 = 1000;

impl Account<'_> {
    pub(super) fn lines(&self) -> Vec<Entry> {
        let mut entries = Vec::new();
        if !self.ledger.has(Feature::AccessLog) {
            return entries;
        }
        for asked in &self.asked {
            entries.extend(self.lines_of(asked));
        }
        let known =
            |line: &&LogLine<'_>| line.token.is_none_or(|token| self.asked.iter().any(|a| a.token == token));
        for line in self.logged.iter().filter(|line| !known(line)) {
            // A line of a request that was judged may come late.
            let retired = line.token.is_some_and(|token| self.ledger.retired.contains(token));
            if retired || self.is_unrecorded(line.token) {
                continue;
            }
            let words = format!(
                "The access log of {} has a line with a token that no client sent: {}. Expected: no such line.",
                line.proxy,
                crate::store::bounded(&line.log.line, 300)
            );
            let stray = number(line.proxy, ValueKind::Other, line.id);
            entries.push(Entry::new(words, [line.id.clone()]).by(stray));
        }
        entries
    }

    fn lines_of(&self, asked: &Asked<'_>) -> Vec<Entry> {
        // Several requests with one token (redirects, repeats) cannot be distinguished in the log, nor can a request during a
        // change of the configuration.
        let [Promise::Arrives(arrival)] = asked.promises.as_slice() else { return Vec::new() };
        let answered = asked.received.iter().all(|place| self.received[*place].request.status != 0);
        if self.asked.iter().filter(|a| a.token == asked.token).count() != 1
            || !self.is_received(asked)
            || !answered
        {
            return Vec::new();
        }
        let lines: Vec<&LogLine<'_>> = self.logged.iter().filter(|l| l.token == Some(asked.token)).collect();
        let mut entries = Vec::new();
        for passage in arrival.proxies.iter().filter(|p| p.http) {
            let own: Vec<&&LogLine<'_>> = lines.iter().filter(|l| l.proxy == passage.proxy).collect();
            match own.as_slice() {
                [line] => entries.extend(self.line(asked, arrival, passage, line)),
                [] => {
                    let words = format!(
                        "The access log of {} has no line for {}. Expected: one line.",
                        passage.proxy,
                        asked.describe()
                    );
                    let none = number(passage.proxy.as_str(), ValueKind::Absent, asked.id);
                    entries.push(Entry::new(words, [asked.id.clone()]).by(none));
                }
                several => {
                    let words = format!(
                        "The access log of {} has {} lines for {}. Expected: one line.",
                        passage.proxy,
                        several.len(),
                        asked.describe()
                    );
                    let many = number(passage.proxy.as_str(), ValueKind::Several, asked.id);
                    entries.push(Entry::new(words, several.iter().map(|l| l.id.clone())).by(many));
                }
            }
        }
        for line in lines.iter().filter(|l| arrival.proxies.iter().all(|p| p.proxy != l.proxy)) {
            let words = format!(
                "The access log of {} has a line for {}, which does not pass this proxy. Expected: no such line.",
                line.proxy,
                asked.describe()
            );
            let stray = number(line.proxy, ValueKind::Other, line.id);
            entries.push(Entry::new(words, [line.id.clone(), asked.id.clone()]).by(stray));
        }
        entries
    }

    fn line(
        &self,
        asked: &Asked<'_>,
        arrival: &Arrival,
        passage: &Passage,
        line: &LogLine<'_>,
    ) -> Option<Entry> {
        let fields = line.log.fields.as_ref()?;
        let differences = self.differences(asked, arrival, passage, fields);
        if differences.is_empty() {
            return None;
        }
        let sentences: Vec<String> = differences
            .iter()
            .map(|d| format!("The line says {}. Expected: {}.", d.seen, d.expected))
            .collect();
        let words = format!(
            "The access log of {} contradicts what was seen of {}. {}",
            passage.proxy,
            asked.describe(),
            sentences.join(" ")
        );
        let hop = (deviation::proxy(line.proxy), deviation::proxy(line.proxy));
        let deviations = differences.iter().map(|d| d.deviation(&hop, line.id)).collect();
        let of_entry = differences
            .into_iter()
            .map(|d| meshproof_model::Difference {
                evidence: line.id.clone(),
                expected: d.expected,
                seen: d.seen,
            })
            .collect();
        Some(Entry {
            differences: of_entry,
            deviations,
            ..Entry::new(words, [line.id.clone(), asked.id.clone()])
        })
    }

    fn differences(
        &self,
        asked: &Asked<'_>,
        arrival: &Arrival,
        passage: &Passage,
        fields: &LogFields,
    ) -> Vec<FieldDifference> {
        let mut found = Vec::new();
        let mut differ = |name: &str, want: &str, have: Option<&str>| {
            if let Some(have) = have
                && want != have
            {
                let what = What::of(Field::LogField).named(name);
                let (want, have) = (format!("{name} {want}"), format!("{name} {have}"));
                found.push(FieldDifference::of(what, ValueKind::Other, want, have));
            }
        };
        differ("method", &asked.hop.method, fields.method.as_deref());
        let is_last = arrival.proxies.last() == Some(passage);
        if is_last && let [received] = asked.received.as_slice() {
            let request = self.received[*received].request;
            differ("upstream host", &passage.upstream, fields.upstream_host.as_deref());
            if self.ledger.has(Feature::UpstreamLocalAddress) {
                differ("upstream local address", &request.peer, fields.upstream_local_address.as_deref());
            }
        }
        differ(
            "upstream cluster",
            &cluster(&passage.cluster),
            fields.upstream_cluster.as_deref().map(cluster).as_deref(),
        );
        // What a proxy logs of an answer that broke off is not what the proxy before it makes of that.
        let answers = asked.received.iter().filter_map(|place| self.received[*place].request.answer.as_ref());
        let broke_off = answers.into_iter().any(|answer| answer.breaks_off);
        if let HopResult::Response(response) = &asked.hop.result
            && !broke_off
        {
            let status = response.status.to_string();
            differ("response code", &status, fields.response_code.map(|c| c.to_string()).as_deref());
            // After an upgrade the bytes are the conversation's.
            if response.status != 101 {
                let sent = response.body_bytes.to_string();
                differ("bytes sent", &sent, fields.bytes_sent.map(|n| n.to_string()).as_deref());
                if let Some(body) = asked.hop.body_bytes {
                    let received = body.to_string();
                    differ(
                        "bytes received",
                        &received,
                        fields.bytes_received.map(|n| n.to_string()).as_deref(),
                    );
                }
            }
            let longest = asked.exchange.duration_us / 1000 + DURATION_SLACK_MS;
            if let Some(logged) = fields.duration_ms.filter(|logged| *logged > longest) {
                found.push(FieldDifference::of(
                    What::of(Field::LogField).named("duration"),
                    ValueKind::Other,
                    format!("a duration of at most {longest} ms"),
                    format!("a duration of {logged} ms"),
                ));
            }
        }
        found
    }
}

/// A wrong number of lines of a request.
fn number(proxy: &str, seen: ValueKind, evidence: &EvidenceId) -> Deviation {
    let hop = (deviation::proxy(proxy), deviation::proxy(proxy));
    let what = What::of(Field::LogLine).being(ValueKind::One);
    let odd = Odd::being(seen, "another number of access-log lines");
    Deviation { evidence: Some(evidence.clone()), ..what.deviates(&hop, "one access-log line", &odd) }
}

/// A cluster's name without the alternative spelling that newer Istio versions log (`outbound|443||host;`).
fn cluster(name: &str) -> String {
    name.trim_end_matches(';').to_owned()
}
