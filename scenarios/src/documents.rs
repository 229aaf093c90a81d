//! The documents that the scenarios come from, statement by statement: what each line promises, shows or warns of, and which
//! checks cover it, or why no check can. The data lies in `fixtures/documents/`.

mod page;

use std::sync::LazyLock;

use serde::Deserialize;

pub use page::markdown;

/// The folder of the data.
const FOLDER: &str = "documents";

/// The documents' files, in the order of the scenarios.
const FILES: [&str; 5] = [
    "tls-origination-for-egress-traffic.toml",
    "egress-tls-origination.toml",
    "consuming-external-web-services.toml",
    "path-based-routing.toml",
    "egress-gateways-with-tls-origination.toml",
];

/// Every document.
pub static DOCUMENTS: LazyLock<Vec<Document>> =
    LazyLock::new(|| read().unwrap_or_else(|e| panic!("the built-in documents are broken: {e}")));

/// Why the data cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DocumentError {
    /// There is no such file.
    #[error("fixtures/{FOLDER}/{0} is missing")]
    Missing(&'static str),
    /// It is no document.
    #[error("fixtures/{FOLDER}/{file}: {source}")]
    Syntax {
        /// The file.
        file: &'static str,
        /// With line, column and key.
        source: Box<toml::de::Error>,
    },
}

/// One article.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Document {
    /// Its title, with the edition.
    pub title: String,
    /// Where it is published.
    pub url: String,
    /// The number of lines of its text.
    pub lines: u32,
    /// What its lines state, in their order. Together, the parts cover every line.
    #[serde(rename = "part")]
    pub parts: Vec<Part>,
}

/// What one or more lines state, or that they state nothing.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Part {
    /// `12-14`.
    lines: Option<String>,
    /// For what the article does not say: the section of the current page that says it, or why it is here.
    pub beyond: Option<String>,
    /// What the lines promise, show or warn of, in the suite's words.
    pub says: Option<String>,
    /// The checks that cover it: `scenario/check`.
    #[serde(default)]
    pub checks: Vec<String>,
    /// Why no check covers it.
    pub reason: Option<String>,
    /// What the lines are if they state nothing about a mesh.
    pub nothing: Option<String>,
}

impl Part {
    /// The first and the last line; none for what the article does not say, or if `lines` is not a range.
    #[must_use]
    pub fn range(&self) -> Option<(u32, u32)> {
        let (first, last) = self.lines.as_deref()?.split_once('-')?;
        let range = (first.parse().ok()?, last.parse().ok()?);
        (range.0 <= range.1).then_some(range)
    }

    /// Where the statement is: `lines 12 to 14`, `line 12`, `current page: Cleanup`.
    #[must_use]
    pub fn place(&self) -> String {
        match (self.range(), &self.beyond) {
            (Some((first, last)), _) if first == last => format!("line {first}"),
            (Some((first, last)), _) => format!("lines {first} to {last}"),
            (None, Some(place)) => place.clone(),
            (None, None) => String::new(),
        }
    }
}

/// The statements that this check covers, each with its document.
pub fn covered_by(check: &str) -> impl Iterator<Item = (&'static Document, &'static Part)> {
    let parts = DOCUMENTS.iter().flat_map(|document| document.parts.iter().map(move |part| (document, part)));
    let check = check.to_owned();
    parts.filter(move |(_, part)| part.checks.contains(&check))
}

fn read() -> Result<Vec<Document>, DocumentError> {
    let read = |file: &'static str| {
        let text = meshproof_fixtures::files(FOLDER).find(|(name, _)| *name == file);
        let (_, text) = text.ok_or(DocumentError::Missing(file))?;
        toml::from_str(text).map_err(|source| DocumentError::Syntax { file, source: Box::new(source) })
    };
    FILES.into_iter().map(read).collect()
}
