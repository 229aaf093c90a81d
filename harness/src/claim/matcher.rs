//! Counting pieces of evidence and holding each against conditions; shared by the claims on all three sides.

use meshproof_reports::EvidenceId;

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
    /// What is counted, in the plural: `requests at edition.cnn.com`.
    what: String,
    count: Count,
    conditions: Vec<(String, Test<T>)>,
}

impl<T> Matcher<T> {
    pub(super) fn new(what: String, count: Count) -> Self {
        Self { what, count, conditions: Vec::new() }
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

    pub(super) fn judge<'a>(
        &self,
        items: &[(&'a EvidenceId, &'a T)],
        describe: impl Fn(&T) -> String,
    ) -> Finding {
        let evidence: Vec<EvidenceId> = items.iter().map(|(id, _)| (*id).clone()).collect();
        let number = match self.count {
            Count::Exactly(0) => "no".to_owned(),
            Count::Exactly(n) => format!("exactly {n}"),
            Count::AtLeast(n) => format!("at least {n}"),
        };
        let mut expected = format!("{number} {}", self.what);
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
                format!("{} {}: {}", items.len(), self.what, listed(3))
            };
            return Finding::broken(expected, seen, evidence);
        }
        for (id, item) in items {
            let wrong: Vec<String> = self.conditions.iter().filter_map(|(_, test)| test(item).err()).collect();
            if !wrong.is_empty() {
                let seen = format!("{} in {}", wrong.join(", "), describe(item));
                return Finding::broken(expected, seen, vec![(*id).clone()]);
            }
        }
        let seen = if items.is_empty() { format!("no {}", self.what) } else { listed(3) };
        Finding::holds(expected, seen, evidence)
    }
}
