//! Generated traffic through the mesh, judged by the ledger while it runs.

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use meshproof_model::{Deviation, Difference, Evidence, EvidenceId, Fact, Side};

use super::client::Client;
use super::{Stop, micros};
use crate::claim::{Claim, Finding, View};
use crate::ledger::{Entry, Ledger};
use crate::traffic::{
    AnswerFraming, Aspect, Budget, GeneratedConnection, Generator, Grammar, Traffic, candidates,
};

/// How many exchanges are in flight together, and judged together.
const BATCH: usize = 64;
/// How many exchanges are kept as samples of what passed.
const SAMPLES: usize = 2;
/// How many connections shrinking may cost, and how long it may go on.
const MAX_SHRINKING: (usize, Duration) = (120, Duration::from_secs(5));

/// The result of generated traffic.
#[derive(Clone, Debug)]
#[must_use]
pub struct Generated {
    traffic: Traffic,
    /// How many exchanges were made.
    exchanges: u64,
    /// How many of them were answered by events, one at a time.
    streams: u64,
    samples: Vec<EvidenceId>,
    failures: Vec<Failure>,
    held_up: Option<HeldUp>,
}

/// A connection with an exchange that is not accounted for, as small as it gets.
#[derive(Clone, Debug)]
struct Failure {
    smallest: GeneratedConnection,
    words: String,
    evidence: Vec<EvidenceId>,
    differences: Vec<Difference>,
    deviations: Vec<Deviation>,
    /// How many exchanges of its batch failed.
    in_batch: usize,
}

/// A stream of events that did not reach its client one by one.
#[derive(Clone, Debug)]
struct HeldUp {
    words: String,
    evidence: Vec<EvidenceId>,
}

impl Generated {
    /// Every generated exchange is accounted for: those that put this aspect to the test.
    pub fn accounted_for(&self, aspect: Aspect) -> Claim {
        let this = self.clone();
        Claim::new(move |_| this.finding(aspect))
    }

    /// Each event of a stream reaches the client before the server sends the next.
    pub fn events_arrive_one_by_one(&self) -> Claim {
        let this = self.clone();
        Claim::new(move |_| this.one_by_one())
    }

    fn failure(&self, aspect: Aspect) -> Option<&Failure> {
        self.failures.iter().find(|failure| failure.smallest.aspect() == aspect)
    }

    fn finding(&self, aspect: Aspect) -> Finding {
        let Traffic { seed, .. } = self.traffic;
        let expected = match aspect {
            Aspect::Preservation => {
                "every generated exchange arrives as it was sent, and its answer comes back as the server gave it"
            }
            Aspect::Interim => "the final answer that follows 103 comes back as the server gave it",
            Aspect::ConnectionFields => {
                "fields that the Connection field of a request names do not reach the server"
            }
            Aspect::Truncation => "an answer that breaks off does not look complete to the client",
        };
        let Some(failure) = self.failure(aspect) else {
            let seen = format!("{} generated exchanges (seed {seed}) are accounted for", self.exchanges);
            return Finding::holds(expected, seen, self.samples.clone());
        };
        let seen = format!(
            "{} The smallest exchange that fails: {} Regression case: {} It puts to the test that {}. Found after {} \
             exchanges with seed {seed}; in its batch {} failed.",
            failure.words,
            failure.smallest.curl(),
            failure.smallest.case(),
            failure.smallest.rules().join("; and that "),
            self.exchanges,
            failure.in_batch,
        );
        let broken = Finding::broken(expected, seen, failure.evidence.clone());
        let broken = broken.by(failure.deviations.clone());
        Finding { differences: failure.differences.clone(), ..broken }
    }

    fn one_by_one(&self) -> Finding {
        let expected = "each event of a stream reaches the client before the server sends the next";
        match &self.held_up {
            Some(held_up) => Finding::broken(expected, held_up.words.clone(), held_up.evidence.clone()),
            None if self.streams == 0 => {
                Finding::undecided(expected, "no stream of events ended", Vec::new())
            }
            None => {
                let seen = format!("the events of {} streams reached the client one by one", self.streams);
                Finding::holds(expected, seen, self.samples.clone())
            }
        }
    }

    fn take(&mut self, judged: &mut Judged) {
        self.samples.append(&mut judged.samples);
        self.streams += judged.streams;
        self.held_up = self.held_up.take().or(judged.held_up.take());
    }
}

impl Client<'_> {
    /// Sends generated exchanges, as many as the run's budget says, and holds each against the ledger. Makes a failing
    /// connection smaller. After a failure of [`Aspect::Preservation`] it stops; after another one it goes on without
    /// connections of that aspect. Exchanges that pass are counted and not kept, but for a few.
    ///
    /// The servers must be embedded ones, and the configuration in force must stay the same meanwhile.
    ///
    /// # Errors
    /// As for [`Client::get`].
    pub async fn generated(&self, grammar: Grammar<'_>) -> Result<Generated, Stop> {
        let traffic = self.mesh.setting.traffic;
        let mut generator = Generator::new(traffic.seed, grammar);
        let mut done = Generated {
            traffic,
            exchanges: 0,
            streams: 0,
            samples: Vec::new(),
            failures: Vec::new(),
            held_up: None,
        };
        let begun = Instant::now();
        // A server that closes a connection may take another request with it, so these exchanges are in flight apart from those
        // that must not fail. They are few, and wait until they make a batch.
        let mut ending = Vec::new();
        loop {
            let left = match traffic.budget {
                Budget::Exchanges(count) => {
                    let made = done.exchanges + ending.len() as u64;
                    usize::try_from(count.saturating_sub(made)).map_or(BATCH, |left| left.min(BATCH))
                }
                Budget::Time(limit) if begun.elapsed() < limit => BATCH,
                Budget::Time(_) => 0,
            };
            let mut whole = Vec::new();
            let mut exchanges = 0;
            while exchanges < left {
                let connection = generator.next_connection(left - exchanges);
                exchanges += connection.exchanges.len();
                if connection.ends_connections() { ending.push(connection) } else { whole.push(connection) }
            }
            let first = done.exchanges == 0;
            let apart = if ending.len() >= BATCH / 4 || left == 0 || first {
                std::mem::take(&mut ending)
            } else {
                Vec::new()
            };
            // After the others, so that what a closed connection leaves behind shows in the next batch.
            for batch in [whole, apart].into_iter().filter(|batch| !batch.is_empty()) {
                done.exchanges += batch.iter().map(|c| c.exchanges.len() as u64).sum::<u64>();
                let mut judged = self.batch(&batch, done.samples.is_empty()).await?;
                done.take(&mut judged);
                for (place, entry) in &judged.failed {
                    if done.failure(batch[*place].aspect()).is_some() {
                        continue;
                    }
                    let failure = Failure {
                        smallest: batch[*place].clone(),
                        words: entry.words.clone(),
                        evidence: entry.evidence.clone(),
                        differences: entry.differences.clone(),
                        deviations: entry.deviations.clone(),
                        in_batch: judged.failed.len(),
                    };
                    let failure = if traffic.shrink { self.shrink(failure).await? } else { failure };
                    let aspect = failure.smallest.aspect();
                    if done.failure(aspect).is_none() {
                        done.failures.push(failure);
                        generator.leave_out(aspect);
                    }
                }
                if done.failure(Aspect::Preservation).is_some() {
                    return Ok(done);
                }
            }
            if left == 0 {
                return Ok(done);
            }
        }
    }

    /// Sends exchanges on which neither side sends anything for a while, and holds each against the ledger. Other scenarios may run
    /// meanwhile. Nothing is made smaller.
    ///
    /// # Errors
    /// As for [`Client::get`].
    pub async fn quiet(&self, connections: &[GeneratedConnection]) -> Result<Generated, Stop> {
        let judged = self.mesh.resting(self.batch(connections, true)).await?;
        let failed = judged.failed.len();
        let failures = judged.failed.into_iter().map(|(place, entry)| Failure {
            smallest: connections[place].clone(),
            words: entry.words,
            evidence: entry.evidence,
            differences: entry.differences,
            deviations: entry.deviations,
            in_batch: failed,
        });
        Ok(Generated {
            traffic: self.mesh.setting.traffic,
            exchanges: connections.iter().map(|c| c.exchanges.len() as u64).sum(),
            streams: judged.streams,
            samples: judged.samples,
            failures: failures.collect(),
            held_up: judged.held_up,
        })
    }

    /// Tries simpler connections for as long as one of them fails, too. One that fails only beside others stays as it is.
    async fn shrink(&self, mut failure: Failure) -> Result<Failure, Stop> {
        let (mut tried, begun) = (0, Instant::now());
        'smaller: loop {
            for candidate in candidates(&failure.smallest) {
                tried += 1;
                if tried > MAX_SHRINKING.0 || begun.elapsed() > MAX_SHRINKING.1 {
                    return Ok(failure);
                }
                let mut judged = self.batch(std::slice::from_ref(&candidate), false).await?;
                if let Some((_, entry)) = judged.failed.pop() {
                    let Entry { words, evidence, differences, deviations } = entry;
                    let in_batch = failure.in_batch;
                    failure =
                        Failure { smallest: candidate, words, evidence, differences, deviations, in_batch };
                    continue 'smaller;
                }
            }
            return Ok(failure);
        }
    }

    async fn batch(&self, connections: &[GeneratedConnection], keep_samples: bool) -> Result<Judged, Stop> {
        let Self { mesh, from, request: _ } = self;
        let store = &mesh.setting.seat.store;
        let mark = mesh.mark();
        let begun = Instant::now();
        let asking = connections.iter().map(|connection| async {
            let requests = connection.requests().map_err(Stop::Suite)?;
            mesh.ask_in_line(from, requests).await
        });
        let asked = join_all(asking).await.into_iter().collect::<Result<Vec<_>, _>>()?;
        mesh.settled().await?;
        mesh.state().timing.requests_us += micros(begun.elapsed());
        let mut places = HashMap::new();
        for (place, asked) in asked.into_iter().enumerate() {
            for asked in asked {
                places.insert(mesh.record(from, asked), place);
            }
        }
        let mut state = mesh.state();
        let (judged, kept) = store.with(|evidence| {
            let new = evidence.get(mark..).unwrap_or_default();
            let failed = judge(&state.ledger, new, &places);
            let samples = if keep_samples { samples(new, &places) } else { Vec::new() };
            let streams = connections.iter().flat_map(|c| &c.exchanges);
            let streams = streams.filter(|e| e.answer.framing == AnswerFraming::Events).count() as u64;
            let judged = Judged { failed, samples, streams, held_up: held_up(new) };
            let kept = judged.evidence();
            (judged, kept)
        });
        let dropped = store.retire(mark, &kept);
        for token in places.into_keys() {
            state.ledger.probes.remove(&token);
            state.ledger.retired.insert(token);
        }
        state.ledger.judged.extend(kept);
        for piece in &dropped {
            if let (Side::Proxy { name }, Fact::AccessLog(log)) = (&piece.side, &piece.fact)
                && log.fields.as_ref().is_some_and(|fields| !fields.response_flags.is_empty())
            {
                state.ledger.flagged.insert(name.clone());
            }
            if let (Side::Service { host }, Fact::Connection(connection)) = (&piece.side, &piece.fact)
                && let Some(name) = connection.tls.as_ref().and_then(|tls| tls.server_name.clone())
            {
                state.ledger.retired_names.insert((host.clone(), connection.port, name.to_ascii_lowercase()));
            }
        }
        drop(state);
        drop(dropped);
        Ok(judged)
    }
}

/// A batch, judged.
struct Judged {
    /// By the place of the connection in the batch; what belongs to none is the first's.
    failed: Vec<(usize, Entry)>,
    samples: Vec<EvidenceId>,
    streams: u64,
    held_up: Option<HeldUp>,
}

impl Judged {
    fn evidence(&self) -> BTreeSet<EvidenceId> {
        let failed = self.failed.iter().flat_map(|(_, entry)| &entry.evidence);
        let held_up = self.held_up.iter().flat_map(|held_up| &held_up.evidence);
        failed.chain(&self.samples).chain(held_up).cloned().collect()
    }
}

fn judge(ledger: &Ledger, evidence: &[Evidence], places: &HashMap<String, usize>) -> Vec<(usize, Entry)> {
    let view = View { evidence, marks: &[], changes: &[], unobserved: &[] };
    let place = |entry: &Entry| {
        let of = evidence.iter().filter(|e| entry.evidence.contains(&e.id)).find_map(|e| e.token.as_ref());
        of.and_then(|token| places.get(token)).copied().unwrap_or_default()
    };
    ledger.entries(view).into_iter().map(|entry| (place(&entry), entry)).collect()
}

/// All evidence of the first few exchanges.
fn samples(evidence: &[Evidence], places: &HashMap<String, usize>) -> Vec<EvidenceId> {
    let mut tokens: Vec<&String> = places.keys().collect();
    tokens.sort();
    tokens.truncate(SAMPLES);
    let of = |e: &&Evidence| e.token.as_ref().is_some_and(|token| tokens.contains(&token));
    evidence.iter().filter(of).map(|e| e.id.clone()).collect()
}

/// The first answer of which the server sent more although the client did not have all before.
fn held_up(evidence: &[Evidence]) -> Option<HeldUp> {
    let requests = evidence.iter().filter_map(|e| Some((e.token.as_ref(), e.fact.as_request()?)));
    let mut held_up = requests.filter_map(|(token, r)| Some((token?, r, r.answer.as_ref()?.held_up_after?)));
    let (token, request, after) = held_up.next()?;
    let words = format!(
        "{} had sent {after} bytes of events in answer to {} {}, and the client did not have them when the server stopped \
         waiting and sent the rest",
        request.authority, request.method, request.target
    );
    let of = evidence.iter().filter(|e| e.token.as_ref() == Some(token));
    Some(HeldUp { words, evidence: of.map(|e| e.id.clone()).collect() })
}
