//! What a page's script finds packed: texts by number, checks and changes.

use std::collections::HashMap;

use meshproof_model::visible::{self, clipped};
use serde::Serialize;

use super::parts::MAX_VALUE;

/// Placeholder for the token of a piece. Tokens differ in every run; with the placeholder, texts that differ
/// only in their token are stored once. No text contains it, because control characters are escaped.
const TOKEN: &str = "\u{1}";

/// Texts up to this length, in bytes, are packed even if the limit is reached.
const SHORT: usize = 200;

/// Replaces the texts beyond the limit.
const LEFT_OUT: &str = "(left out, because this page would become too large; report.json contains it)";

/// A list of distinct texts of limited total length.
pub(super) struct TextTable {
    pub(super) list: Vec<String>,
    index: HashMap<String, usize>,
    /// How much more text fits, in bytes.
    pub(super) left: usize,
    /// The longest value, in characters.
    pub(super) longest: usize,
}

impl TextTable {
    /// An empty table for texts of this total length, in bytes.
    pub(super) fn of(left: usize) -> Self {
        Self { list: Vec::new(), index: HashMap::new(), left, longest: MAX_VALUE }
    }

    pub(super) fn line(&mut self, text: &str, token: Option<&str>) -> usize {
        self.keep(clipped(&visible::line(text), self.longest).into_owned(), token)
    }

    pub(super) fn block(&mut self, text: &str, token: Option<&str>) -> usize {
        self.keep(clipped(&visible::block(text), self.longest).into_owned(), token)
    }

    fn keep(&mut self, text: String, token: Option<&str>) -> usize {
        let text = match token {
            // A short token might occur in a text by chance, so it stays as it is; that costs only space.
            Some(token) if token.len() >= 8 && text.contains(token) => text.replace(token, TOKEN),
            Some(_) | None => text,
        };
        if let Some(&known) = self.index.get(&text) {
            return known;
        }
        if text.len() > SHORT && text.len() > self.left {
            return self.keep(LEFT_OUT.to_owned(), None);
        }
        self.left = self.left.saturating_sub(text.len());
        self.list.push(text.clone());
        self.index.insert(text, self.list.len() - 1);
        self.list.len() - 1
    }
}

/// What the script adds to a check of a report's page when the check is opened.
#[derive(Serialize)]
pub(super) struct PackedBody {
    /// Label and text alternate.
    #[serde(rename = "d")]
    pub(super) rows: Vec<usize>,
    /// The last change before the evidence: its place in the history and its headline.
    #[serde(rename = "l")]
    pub(super) change: Option<(usize, usize)>,
    /// The pieces that are shown.
    #[serde(rename = "e")]
    pub(super) items: Vec<PackedItem>,
    /// The number of pieces that are not shown.
    #[serde(rename = "n")]
    pub(super) left_out: usize,
    /// Ids of evidence that the report does not contain.
    #[serde(rename = "m")]
    pub(super) missing: Vec<usize>,
    /// The command that repeats the check.
    #[serde(rename = "r")]
    pub(super) repeat: usize,
}

/// One piece of a check: its index, 1 if the verdict rests on it, and its differences (expected and seen alternate).
#[derive(Serialize)]
pub(super) struct PackedItem(pub(super) usize, pub(super) u8, pub(super) Vec<usize>);

/// One resource of a change: what happened to it, its name, and the lines of the difference (the kind's number and the text
/// alternate).
#[derive(Serialize)]
pub(super) struct PackedResource(pub(super) usize, pub(super) usize, pub(super) Vec<usize>);

/// One change: its resources, why it was refused, and what was in force after it.
#[derive(Serialize)]
pub(super) struct PackedChange(pub(super) Vec<PackedResource>, pub(super) Option<usize>, pub(super) usize);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_beyond_the_limit_are_left_out_and_short_ones_are_kept() {
        let mut texts = TextTable::of(1_000);
        let long = |n: usize| format!("{n}").repeat(600);
        let packed: Vec<usize> = [long(1), long(2), "short".to_owned(), long(1), long(3)]
            .iter()
            .map(|text| texts.block(text, None))
            .collect();
        let kept: Vec<&str> = packed.iter().map(|&n| texts.list[n].as_str()).collect();
        assert_eq!(kept, [&long(1), LEFT_OUT, "short", &long(1), LEFT_OUT]);
    }
}
