//! Where evidence is kept while a scenario runs.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::delivery::Deliveries;
use crate::trace::{NOTES, Trace};
use jiff::{SignedDuration, Timestamp};
use meshproof_model::{Evidence, EvidenceId, Fact, Side};

/// The maximum number of pieces of evidence per scenario; pieces beyond it are counted but not kept. A scenario with many checks may
/// have more, see [`Store::with_room_for`].
pub const MAX_EVIDENCE: usize = 20_000;

/// How many pieces of evidence there is room for per check.
const PER_CHECK: usize = 16;

/// The maximum number of bytes that are kept of one log line, header block or clear text.
pub const MAX_TEXT: usize = 16 * 1024;

/// The evidence of one scenario configuration. Clones share it; every side writes, in the order of arrival.
#[derive(Clone)]
pub struct Store {
    started: Instant,
    inner: Arc<Mutex<Inner>>,
    deliveries: Deliveries,
    trace: Trace,
    room: usize,
    observer: Option<Observer>,
}

/// Is shown each piece of evidence when it is recorded, and again when it is amended.
type Observer = Arc<dyn Fn(&Evidence) + Send + Sync>;

#[derive(Default)]
struct Inner {
    evidence: Vec<Evidence>,
    /// The number in the id of each piece of evidence, in the same order, which is ascending.
    numbers: Vec<u64>,
    step: usize,
    dropped: u64,
    issued: u64,
}

impl Default for Store {
    fn default() -> Self {
        Self::new()
    }
}

impl Store {
    /// An empty store; its clock starts now.
    #[must_use]
    pub fn new() -> Self {
        Self::traced(Trace::default())
    }

    /// An empty store that also writes log lines and notes to this trace. Both have one clock.
    #[must_use]
    pub fn traced(trace: Trace) -> Self {
        let started = trace.started().unwrap_or_else(Instant::now);
        Self {
            started,
            inner: Arc::default(),
            deliveries: Deliveries::default(),
            trace,
            room: MAX_EVIDENCE,
            observer: None,
        }
    }

    /// A store whose evidence is kept elsewhere: `observer` is shown each piece when it is recorded, and again when it is
    /// amended. So the store keeps only the latest pieces, which may still be amended.
    #[must_use]
    pub fn forwarding(deliveries: Deliveries, observer: impl Fn(&Evidence) + Send + Sync + 'static) -> Self {
        Self { deliveries, observer: Some(Arc::new(observer)), ..Self::new() }
    }

    /// With room for the evidence of so many checks. The limit is there for implementations that flood, not for scenarios with
    /// thousands of checks.
    #[must_use]
    pub fn with_room_for(self, checks: usize) -> Self {
        Self { room: MAX_EVIDENCE.max(checks.saturating_mul(PER_CHECK)), ..self }
    }

    /// How many pieces of evidence are kept.
    #[must_use]
    pub const fn room(&self) -> usize {
        self.room
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A writer that panicked left complete entries, because each entry is pushed in one operation.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// When the scenario started, by this machine's clock.
    #[must_use]
    pub fn started_at(&self) -> Timestamp {
        let elapsed = SignedDuration::from_micros(i64::try_from(self.now_us()).unwrap_or_default());
        Timestamp::now().saturating_sub(elapsed).unwrap_or_else(|_| Timestamp::now())
    }

    /// Microseconds since the scenario started.
    #[must_use]
    pub fn now_us(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// How much of the answers that are on their way has reached the clients.
    #[must_use]
    pub fn deliveries(&self) -> &Deliveries {
        &self.deliveries
    }

    /// Where the bytes of connections and the files of the implementation go, if the run asks for a trace.
    #[must_use]
    pub fn trace(&self) -> &Trace {
        &self.trace
    }

    /// Keeps one fact and returns its id. Facts beyond [`Store::room`] are counted and not kept.
    #[allow(clippy::must_use_candidate, reason = "most callers do not need the id")]
    pub fn record(&self, side: Side, token: Option<String>, fact: Fact) -> EvidenceId {
        self.record_at(self.now_us(), side, token, fact)
    }

    /// Keeps one fact that happened at this time (microseconds since the scenario started).
    #[allow(clippy::must_use_candidate, reason = "most callers record and go on")]
    pub fn record_at(&self, at_us: u64, side: Side, token: Option<String>, fact: Fact) -> EvidenceId {
        if let (Side::Proxy { name }, Fact::AccessLog(log)) = (&side, &fact) {
            self.trace.proxy_log(name, &log.line);
        }
        if let Fact::Note { text } = &fact {
            self.trace.line(NOTES, text);
        }
        let mut inner = self.lock();
        inner.issued += 1;
        let id = EvidenceId(format!("e{}", inner.issued));
        if self.observer.is_some() && inner.evidence.len() >= self.room {
            let oldest = inner.evidence.len() / 2;
            inner.evidence.drain(..oldest);
            inner.numbers.drain(..oldest);
        }
        if inner.evidence.len() < self.room {
            let step = inner.step;
            let number = inner.issued;
            inner.numbers.push(number);
            let piece = Evidence { id: id.clone(), at_us, step, side, token, fact };
            self.show(&piece);
            inner.evidence.push(piece);
        } else {
            inner.dropped += 1;
        }
        id
    }

    /// Changes a fact that is not complete yet, such as a connection whose handshake has now failed.
    pub fn amend(&self, id: &EvidenceId, change: impl FnOnce(&mut Fact)) {
        let mut inner = self.lock();
        let number = id.0.strip_prefix('e').and_then(|number| number.parse::<u64>().ok());
        let place = number.and_then(|number| inner.numbers.binary_search(&number).ok());
        if let Some(e) = place.and_then(|place| inner.evidence.get_mut(place)) {
            change(&mut e.fact);
            self.show(e);
        }
    }

    /// Under the lock, so that the observer sees every version of a piece in their order.
    fn show(&self, piece: &Evidence) {
        if let Some(observer) = &self.observer {
            observer(piece);
        }
    }

    /// Takes out what was recorded from this mark on, but for these pieces. What is taken out does not count as lost.
    #[must_use]
    pub fn retire(&self, from: usize, kept: &BTreeSet<EvidenceId>) -> Vec<Evidence> {
        let mut inner = self.lock();
        let from = from.min(inner.evidence.len());
        let new = inner.evidence.split_off(from);
        let numbers = inner.numbers.split_off(from);
        let mut retired = Vec::with_capacity(new.len());
        for (e, number) in new.into_iter().zip(numbers) {
            if kept.contains(&e.id) {
                inner.evidence.push(e);
                inner.numbers.push(number);
            } else {
                retired.push(e);
            }
        }
        retired
    }

    /// From now on, evidence belongs to this step.
    pub fn set_step(&self, step: usize) {
        self.lock().step = step;
    }

    /// How many facts did not fit.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.lock().dropped
    }

    /// How many facts are kept; a mark for [`Store::with`] slices.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lock().evidence.len()
    }

    /// Whether nothing was recorded yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Reads all evidence, in order of arrival, under the lock.
    pub fn with<T>(&self, read: impl FnOnce(&[Evidence]) -> T) -> T {
        read(&self.lock().evidence)
    }

    /// Takes everything out, for the report.
    #[must_use]
    pub fn take(&self) -> Vec<Evidence> {
        let mut inner = self.lock();
        inner.numbers.clear();
        std::mem::take(&mut inner.evidence)
    }
}

/// Cuts a text to at most `max` bytes at a character boundary and says how much was cut.
#[must_use]
pub fn bounded(text: &str, max: usize) -> String {
    if text.len() <= max {
        return text.to_owned();
    }
    let mut end = max;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}... ({} more bytes)", &text[..end], text.len() - end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_forwarding_store_shows_every_piece_and_every_change_and_keeps_the_latest() {
        let shown = Arc::new(Mutex::new(Vec::new()));
        let keep = Arc::clone(&shown);
        let store = Store::forwarding(Deliveries::default(), move |piece| {
            let Fact::Note { text } = &piece.fact else { return };
            keep.lock().unwrap().push(format!("{} {text}", piece.id.0));
        });
        let store = Store { room: 2, ..store };
        let note = |text: &str| store.record(Side::Suite, None, Fact::Note { text: text.to_owned() });
        let ids = ["a", "b", "c"].map(note);
        for id in &ids {
            store.amend(id, |fact| {
                if let Fact::Note { text } = fact {
                    text.push('!');
                }
            });
        }
        assert_eq!(
            *shown.lock().unwrap(),
            ["e1 a", "e2 b", "e3 c", "e2 b!", "e3 c!"],
            "the oldest is not kept"
        );
        assert_eq!((store.len(), store.dropped()), (2, 0));
    }

    #[test]
    fn a_fact_is_amended_by_its_id_although_earlier_ones_were_dropped() {
        let store = Store::new();
        let note = |text: &str| Fact::Note { text: text.to_owned() };
        let ids: Vec<EvidenceId> =
            ["a", "b", "c", "d"].iter().map(|text| store.record(Side::Suite, None, note(text))).collect();
        let retired = store.retire(1, &BTreeSet::from([ids[2].clone()]));
        assert_eq!(retired.iter().map(|e| &e.id).collect::<Vec<_>>(), [&ids[1], &ids[3]]);
        let late = store.record(Side::Suite, None, note("e"));
        for id in ids.iter().chain([&late]) {
            store.amend(id, |fact| {
                if let Fact::Note { text } = fact {
                    text.push('!');
                }
            });
        }
        let texts: Vec<String> = store
            .take()
            .into_iter()
            .filter_map(|e| if let Fact::Note { text } = e.fact { Some(text) } else { None })
            .collect();
        assert_eq!(texts, ["a!", "c!", "e!"]);
    }
}
