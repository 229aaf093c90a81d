//! Counting pieces of evidence and testing each for conditions; shared by the claims on all three sides.

use meshproof_model::{Deviation, Difference, EvidenceId, Field, Party, ValueKind};

use super::Finding;
use super::deviation::{Odd, What};
use super::words::{counted, listed, unlike};

/// How many pieces there must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Count {
    /// This number.
    Exactly(usize),
    /// This number or more.
    AtLeast(usize),
}

type Test<T> = Box<dyn Fn(&T) -> Result<(), Odd> + Send + Sync>;

/// What a finding says about pieces of one kind. `request with this token`, received by `external service edition.cnn.com`.
#[derive(Clone)]
pub(super) struct Pieces {
    /// Who saw them: `external service edition.cnn.com`.
    pub(super) actor: String,
    /// What the actor did: `received`.
    pub(super) did: &'static str,
    /// One of them: `request`.
    pub(super) noun: &'static str,
    /// Which of them are meant: `with this token on port 443`.
    pub(super) which: String,
    /// Their number as a field.
    pub(super) field: Field,
    /// The hop on which they are, as far as it is known without a piece.
    pub(super) hop: (Party, Party),
}

impl Pieces {
    /// `2 requests with this token`.
    fn counted(&self, n: usize) -> String {
        format!("{} {}", counted(n, self.noun), self.which)
    }
}

/// What a condition is about, which decides the verb of its sentence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum About {
    /// The piece as a whole: it *had* something.
    Piece,
    /// How it came: it *arrived* in some way.
    Arrival,
    /// The TLS handshake before it: that *had* something.
    Handshake,
}

struct Condition<T> {
    about: About,
    what: What,
    expected: String,
    test: Test<T>,
}

/// The names of one piece in a sentence.
pub(super) struct Subject {
    /// `the request GET /politics from proxy sleep to external service edition.cnn.com`.
    pub(super) piece: String,
    /// `the TLS handshake of proxy sleep with external service edition.cnn.com`.
    pub(super) handshake: String,
    /// Who sent it, and to whom.
    pub(super) hop: (Party, Party),
}

/// What pieces of one kind must be like.
pub(super) struct Matcher<T> {
    pieces: Pieces,
    count: Count,
    conditions: Vec<Condition<T>>,
}

impl<T> Matcher<T> {
    pub(super) fn new(pieces: Pieces, count: Count) -> Self {
        Self { pieces, count, conditions: Vec::new() }
    }

    pub(super) fn count(&mut self, count: Count) {
        self.count = count;
    }

    /// Adds a condition; the test returns what it found instead.
    pub(super) fn demand<E: Into<Odd>>(
        &mut self,
        about: About,
        what: What,
        expected: impl Into<String>,
        test: impl Fn(&T) -> Result<(), E> + Send + Sync + 'static,
    ) {
        let test = Box::new(move |item: &T| test(item).map_err(Into::into));
        self.conditions.push(Condition { about, what, expected: expected.into(), test });
    }

    /// Adds a condition that a text is this one.
    pub(super) fn demand_text(
        &mut self,
        about: About,
        what: What,
        name: &'static str,
        expected: &str,
        get: impl Fn(&T) -> Option<String> + Send + Sync + 'static,
    ) {
        let wanted = expected.to_owned();
        self.demand(about, what, format!("{name} {expected}"), move |item| match get(item) {
            Some(seen) if seen == wanted => Ok(()),
            Some(seen) => Err(Odd::from(format!("{name} {}", unlike(&seen, &wanted)))),
            None => Err(Odd::absent(format!("no {name}"))),
        });
    }

    fn expected(&self) -> String {
        let Pieces { actor, noun, which, .. } = &self.pieces;
        let mut expected = match self.count {
            Count::Exactly(0) => format!("no {noun} {which} at {actor}"),
            Count::Exactly(1) => format!("exactly one {noun} {which} at {actor}"),
            Count::AtLeast(1) => format!("at least one {noun} {which} at {actor}"),
            Count::Exactly(n) => format!("exactly {} at {actor}", self.pieces.counted(n)),
            Count::AtLeast(n) => format!("at least {} at {actor}", self.pieces.counted(n)),
        };
        if !self.conditions.is_empty() && self.count != Count::Exactly(0) {
            let conditions: Vec<&str> = self.conditions.iter().map(|c| c.expected.as_str()).collect();
            expected = format!("{expected}: {}", conditions.join(", "));
        }
        expected
    }

    /// The deviation of a wrong number.
    fn number(&self, seen: usize, first: Option<&EvidenceId>) -> Deviation {
        let expected = match self.count {
            Count::Exactly(0) => ValueKind::Absent,
            Count::Exactly(_) | Count::AtLeast(_) => ValueKind::One,
        };
        let kind = match (seen, self.count) {
            (0, _) => ValueKind::Absent,
            (_, Count::Exactly(0)) => ValueKind::Present,
            (_, Count::Exactly(_) | Count::AtLeast(_)) => ValueKind::Several,
        };
        let what = What::of(self.pieces.field).being(expected);
        let odd = Odd::being(kind, self.pieces.counted(seen));
        Deviation { evidence: first.cloned(), ..what.deviates(&self.pieces.hop, &self.expected(), &odd) }
    }

    pub(super) fn judge<'a>(
        &self,
        items: &[(&'a EvidenceId, &'a T)],
        describe: impl Fn(&T) -> String,
        subject: impl Fn(&T) -> Subject,
    ) -> Finding {
        let evidence: Vec<EvidenceId> = items.iter().map(|(id, _)| (*id).clone()).collect();
        let right_number = match self.count {
            Count::Exactly(n) => items.len() == n,
            Count::AtLeast(n) => items.len() >= n,
        };
        let Pieces { actor, did, .. } = &self.pieces;
        let all = || listed(items.iter().map(|(_, i)| describe(i)));
        if !right_number {
            let number = self.pieces.counted(items.len());
            let seen = match items {
                [] => format!("{actor} {did} {number}"),
                _ => format!("{actor} {did} {number}: {}", all()),
            };
            let number = self.number(items.len(), evidence.first());
            return Finding::broken(self.expected(), seen, evidence).by([number]);
        }
        for (id, item) in items {
            let broken: Vec<(&Condition<T>, Odd)> =
                self.conditions.iter().filter_map(|c| Some((c, (c.test)(item).err()?))).collect();
            if broken.is_empty() {
                continue;
            }
            let difference = |(condition, seen): &(&Condition<T>, Odd)| Difference {
                evidence: (*id).clone(),
                expected: condition.expected.clone(),
                seen: seen.words.clone(),
            };
            let of = subject(item);
            let deviation = |(condition, seen): &(&Condition<T>, Odd)| Deviation {
                evidence: Some((*id).clone()),
                ..condition.what.deviates(&of.hop, &condition.expected, seen)
            };
            let deviations: Vec<Deviation> = broken.iter().map(deviation).collect();
            let expected: Vec<&str> = broken.iter().map(|(c, _)| c.expected.as_str()).collect();
            return Finding {
                differences: broken.iter().map(difference).collect(),
                ..Finding::broken(expected.join(", "), clause(&broken, of), vec![(*id).clone()])
                    .by(deviations)
            };
        }
        let seen = match items {
            [] => format!("{actor} {did} {}", self.pieces.counted(0)),
            _ => format!("{actor} {did} {}", all()),
        };
        Finding::holds(self.expected(), seen, evidence)
    }
}

/// `the request ... arrived in plain text and had Host a.example`.
fn clause<T>(broken: &[(&Condition<T>, Odd)], subject: Subject) -> String {
    let of_handshake = broken.iter().all(|(c, _)| c.about == About::Handshake);
    let of = |wanted: fn(About) -> bool| -> Vec<&str> {
        broken.iter().filter(|(c, _)| wanted(c.about)).map(|(_, seen)| seen.words.as_str()).collect()
    };
    let (arrival, had) = (of(|a| a == About::Arrival), of(|a| a != About::Arrival));
    let mut parts = Vec::new();
    if !arrival.is_empty() {
        parts.push(format!("arrived {}", arrival.join(" and ")));
    }
    if !had.is_empty() {
        parts.push(format!("{} {}", if of_handshake { "carried" } else { "had" }, had.join(", ")));
    }
    let subject = if of_handshake { subject.handshake } else { subject.piece };
    format!("{subject} {}", parts.join(" and "))
}
