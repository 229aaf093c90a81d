//! Counting pieces of evidence and holding each against conditions; shared by the claims on all three sides.

use meshproof_model::{Difference, EvidenceId};

use super::Finding;

/// How many pieces there must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Count {
    /// So many.
    Exactly(usize),
    /// At least so many.
    AtLeast(usize),
}

type Test<T> = Box<dyn Fn(&T) -> Result<(), String> + Send + Sync>;

/// What pieces of one kind must be like.
pub(super) struct Matcher<T> {
    /// What is counted, in the singular: `request of it at edition.cnn.com`.
    what: String,
    count: Count,
    conditions: Vec<(String, Test<T>)>,
}

impl<T> Matcher<T> {
    pub(super) fn new(what: String, count: Count) -> Self {
        Self { what, count, conditions: Vec::new() }
    }

    /// What is counted.
    pub(super) fn what(&self) -> &str {
        &self.what
    }

    pub(super) fn count(&mut self, count: Count) {
        self.count = count;
    }

    /// Adds a condition; the test returns what it saw instead.
    pub(super) fn demand(
        &mut self,
        expected: impl Into<String>,
        test: impl Fn(&T) -> Result<(), String> + Send + Sync + 'static,
    ) {
        self.conditions.push((expected.into(), Box::new(test)));
    }

    /// Adds a condition that a text is this one.
    pub(super) fn demand_text(
        &mut self,
        name: &'static str,
        expected: &str,
        get: impl Fn(&T) -> Option<String> + Send + Sync + 'static,
    ) {
        let wanted = expected.to_owned();
        self.demand(format!("{name} {expected}"), move |item| match get(item) {
            Some(seen) if seen == wanted => Ok(()),
            Some(seen) => Err(format!("{name} {seen}")),
            None => Err(format!("no {name}")),
        });
    }

    /// `1 request of it at HOST`, `2 requests of it at HOST`.
    fn counted(&self, n: usize) -> String {
        match self.what.split_once(' ') {
            Some((noun, rest)) if n != 1 && noun != "access-log" => format!("{n} {noun}s {rest}"),
            Some(_) | None if n != 1 => format!("{n} {}", self.what.replacen("line", "lines", 1)),
            Some(_) | None => format!("{n} {}", self.what),
        }
    }

    pub(super) fn judge<'a>(
        &self,
        items: &[(&'a EvidenceId, &'a T)],
        describe: impl Fn(&T) -> String,
    ) -> Finding {
        let evidence: Vec<EvidenceId> = items.iter().map(|(id, _)| (*id).clone()).collect();
        let mut expected = match self.count {
            Count::Exactly(0) => format!("no {}", self.what),
            Count::Exactly(n) => format!("exactly {}", self.counted(n)),
            Count::AtLeast(n) => format!("at least {}", self.counted(n)),
        };
        if !self.conditions.is_empty() && self.count != Count::Exactly(0) {
            let conditions: Vec<&str> = self.conditions.iter().map(|(e, _)| e.as_str()).collect();
            expected = format!("{expected} with {}", conditions.join(", "));
        }
        let right_number = match self.count {
            Count::Exactly(n) => items.len() == n,
            Count::AtLeast(n) => items.len() >= n,
        };
        let listed = |most: usize| {
            let shown: Vec<String> = items.iter().take(most).map(|(_, i)| describe(i)).collect();
            let more = items.len().saturating_sub(most);
            if more > 0 { format!("{} and {more} more", shown.join(" | ")) } else { shown.join(" | ") }
        };
        if !right_number {
            let seen = if items.is_empty() {
                format!("no {}", self.what)
            } else {
                format!("{}: {}", self.counted(items.len()), listed(3))
            };
            return Finding::broken(expected, seen, evidence);
        }
        for (id, item) in items {
            let differences: Vec<Difference> = self
                .conditions
                .iter()
                .filter_map(|(expected, test)| {
                    let seen = test(item).err()?;
                    Some(Difference { evidence: (*id).clone(), expected: expected.clone(), seen })
                })
                .collect();
            if !differences.is_empty() {
                let wrong: Vec<&str> = differences.iter().map(|d| d.seen.as_str()).collect();
                let seen = format!("{} in {}", wrong.join(", "), describe(item));
                return Finding { differences, ..Finding::broken(expected, seen, vec![(*id).clone()]) };
            }
        }
        let seen = if items.is_empty() { format!("no {}", self.what) } else { listed(3) };
        Finding::holds(expected, seen, evidence)
    }
}
