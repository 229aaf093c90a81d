//! Generated traffic through the mesh, judged by the ledger while it runs.

use std::collections::BTreeSet;
use std::time::Instant;

use futures_util::future::join_all;
use meshproof_model::{Deviation, Difference, Evidence, EvidenceId};

use super::client::Client;
use super::{Stop, micros};
use crate::claim::{Claim, Finding, View};
use crate::ledger::{Entry, Ledger};
use crate::traffic::{Budget, GeneratedExchange, Generator, Traffic, candidates};

/// How many exchanges are in flight together, and judged together.
const BATCH: u64 = 48;
/// How many exchanges are kept as samples of what passed.
const SAMPLES: usize = 2;
/// How many exchanges shrinking may cost.
const MAX_SHRINKING: usize = 120;

/// The result of generated traffic.
#[derive(Clone, Debug)]
#[must_use]
pub struct Generated {
    traffic: Traffic,
    /// How many exchanges were made.
    exchanges: u64,
    samples: Vec<EvidenceId>,
    failure: Option<Failure>,
}

/// An exchange that is not accounted for, as small as it gets.
#[derive(Clone, Debug)]
struct Failure {
    smallest: GeneratedExchange,
    words: String,
    evidence: Vec<EvidenceId>,
    differences: Vec<Difference>,
    deviations: Vec<Deviation>,
    /// How many exchanges of its batch failed.
    in_batch: usize,
}

impl Generated {
    /// Every generated exchange is accounted for.
    pub fn all_accounted_for(&self) -> Claim {
        let this = self.clone();
        Claim::new(move |_| this.finding())
    }

    fn finding(&self) -> Finding {
        let Traffic { seed, .. } = self.traffic;
        let expected = "every generated exchange arrives as it was sent, and its answer comes back as the server gave it";
        let Some(failure) = &self.failure else {
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
}

impl Client<'_> {
    /// Sends generated exchanges to these hosts, as many as the run's budget says, and holds each against the ledger. Stops
    /// at the first batch in which one fails, and makes the failing exchange smaller. Exchanges that pass are counted and
    /// not kept, but for a few.
    ///
    /// The servers must be embedded ones, and the configuration in force must stay the same meanwhile.
    ///
    /// # Errors
    /// As for [`Client::get`].
    pub async fn generated(&self, hosts: &[&str]) -> Result<Generated, Stop> {
        let traffic = self.mesh.setting.traffic;
        let mut generator = Generator::new(traffic.seed, hosts);
        let mut done = Generated { traffic, exchanges: 0, samples: Vec::new(), failure: None };
        let begun = Instant::now();
        loop {
            let left = match traffic.budget {
                Budget::Exchanges(count) => count.saturating_sub(done.exchanges).min(BATCH),
                Budget::Time(limit) if begun.elapsed() < limit => BATCH,
                Budget::Time(_) => 0,
            };
            if left == 0 {
                return Ok(done);
            }
            let batch: Vec<GeneratedExchange> = (0..left).map(|_| generator.next_exchange()).collect();
            // A server that closes a connection may take another request with it, so these exchanges are in flight apart
            // from those that must not fail.
            let (whole, broken): (Vec<_>, Vec<_>) = batch.into_iter().partition(|e| e.answer.is_whole());
            for batch in [whole, broken].into_iter().filter(|batch| !batch.is_empty()) {
                done.exchanges += batch.len() as u64;
                let judged = self.batch(&batch, done.samples.is_empty()).await?;
                done.samples.extend(judged.samples);
                if let Some((first, entry)) = judged.failed.first() {
                    let failure = Failure {
                        smallest: batch[*first].clone(),
                        words: entry.words.clone(),
                        evidence: entry.evidence.clone(),
                        differences: entry.differences.clone(),
                        deviations: entry.deviations.clone(),
                        in_batch: judged.failed.len(),
                    };
                    done.failure = Some(if traffic.shrink { self.shrink(failure).await? } else { failure });
                    return Ok(done);
                }
            }
        }
    }

    /// Tries simpler exchanges for as long as one of them fails, too. One that fails only beside others stays as it is.
    async fn shrink(&self, mut failure: Failure) -> Result<Failure, Stop> {
        let mut tried = 0;
        'smaller: loop {
            for candidate in candidates(&failure.smallest) {
                tried += 1;
                if tried > MAX_SHRINKING {
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

    async fn batch(&self, exchanges: &[GeneratedExchange], keep_samples: bool) -> Result<Judged, Stop> {
        let Self { mesh, from, request: _ } = self;
        let store = &mesh.setting.seat.store;
        let mark = mesh.mark();
        let begun = Instant::now();
        let asking = exchanges.iter().map(|exchange| async {
            let request = exchange.request().map_err(Stop::Suite)?;
            mesh.ask(from, request).await
        });
        let asked = join_all(asking).await.into_iter().collect::<Result<Vec<_>, _>>()?;
        mesh.settled().await?;
        mesh.state().timing.requests_us += micros(begun.elapsed());
        let tokens: Vec<String> = asked.into_iter().map(|a| mesh.reply(from, a, mark).token).collect();
        let mut state = mesh.state();
        let (failed, kept, samples) = store.with(|evidence| {
            let new = evidence.get(mark..).unwrap_or_default();
            let failed = judge(&state.ledger, new, &tokens);
            let mut kept: BTreeSet<EvidenceId> =
                failed.iter().flat_map(|(_, e)| e.evidence.clone()).collect();
            let sampled: Vec<&String> = tokens.iter().take(if keep_samples { SAMPLES } else { 0 }).collect();
            let samples = new.iter().filter(|e| e.token.as_ref().is_some_and(|t| sampled.contains(&t)));
            let samples: Vec<EvidenceId> = samples.map(|e| e.id.clone()).collect();
            kept.extend(samples.iter().cloned());
            (failed, kept, samples)
        });
        store.retire(mark, &kept);
        state.ledger.retired.extend(tokens);
        state.ledger.judged.extend(kept);
        Ok(Judged { failed, samples })
    }
}

/// A batch, judged.
struct Judged {
    /// By the place of the exchange in the batch; what belongs to none is the first's.
    failed: Vec<(usize, Entry)>,
    samples: Vec<EvidenceId>,
}

fn judge(ledger: &Ledger, evidence: &[Evidence], tokens: &[String]) -> Vec<(usize, Entry)> {
    let view = View { evidence, marks: &[], changes: &[], unobserved: &[] };
    let place = |entry: &Entry| {
        let of = evidence.iter().filter(|e| entry.evidence.contains(&e.id)).find_map(|e| e.token.as_ref());
        of.and_then(|token| tokens.iter().position(|t| t == token)).unwrap_or_default()
    };
    ledger.entries(view).into_iter().map(|entry| (place(&entry), entry)).collect()
}
