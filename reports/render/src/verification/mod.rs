//! What `verify` found, for people and programs.

mod cells;
mod documents;
mod page;
mod sarif;
mod terminal;

#[cfg(test)]
mod tests;

use std::fmt;
use std::str::FromStr;

use meshproof_model::verification::{Finding, Verification};

use crate::terminal::OutputStyle;
use crate::text::plural;

pub use terminal::{answer, text};

/// A format of a verification.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum VerificationFormat {
    /// For a terminal.
    Text,
    /// The data itself; its JSON Schema is published.
    Json,
    /// SARIF 2.1.0, for code scanning.
    Sarif,
    /// JUnit XML: one case per kind of finding and file.
    Junit,
    /// For a job summary or a comment.
    Markdown,
    /// Workflow commands that create annotations at the line in GitHub Actions.
    Github,
    /// A page with the flows as pictures.
    Html,
}

impl VerificationFormat {
    /// Every format.
    pub const ALL: [Self; 7] =
        [Self::Text, Self::Json, Self::Sarif, Self::Junit, Self::Markdown, Self::Github, Self::Html];

    /// Its name on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Json => "json",
            Self::Sarif => "sarif",
            Self::Junit => "junit",
            Self::Markdown => "markdown",
            Self::Github => "github",
            Self::Html => "html",
        }
    }

    /// The verification in this format.
    ///
    /// # Errors
    /// None is known.
    pub fn render(self, verification: &Verification) -> Result<String, String> {
        match self {
            Self::Text => Ok(text(verification, OutputStyle::PLAIN)),
            Self::Json => serde_json::to_string_pretty(verification)
                .map(|text| format!("{text}\n"))
                .map_err(|e| e.to_string()),
            Self::Sarif => sarif::sarif(verification).map_err(|e| e.to_string()),
            Self::Junit => documents::junit(verification).map_err(|e| e.to_string()),
            Self::Markdown => Ok(documents::markdown(verification)),
            Self::Github => Ok(documents::annotations(verification)),
            Self::Html => Ok(page::html(verification)),
        }
    }
}

impl fmt::Display for VerificationFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for VerificationFormat {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|f| f.name() == text).ok_or_else(|| {
            let names: Vec<&str> = Self::ALL.iter().map(|f| f.name()).collect();
            format!("unknown format {text:?}. The formats are: {}", names.join(", "))
        })
    }
}

/// How much was read, and where.
pub(crate) fn read_from(verification: &Verification) -> String {
    let resources = plural(verification.resources, "resource");
    match &verification.cluster {
        Some(cluster) => format!("{resources} in {cluster}"),
        None => format!("{resources} in {}", plural(verification.files.len(), "file")),
    }
}

/// The heading of what was not read and is taken to be there.
pub(crate) fn assumed_because(verification: &Verification) -> &'static str {
    match &verification.cluster {
        Some(_) => "Assumed, because it was not found in the cluster",
        None => "Assumed, because the files do not contain it",
    }
}

/// Where a finding is, and about which resource: the place in a cluster says both.
pub(crate) fn place_and_resource(finding: &Finding) -> (String, &str) {
    (finding.at.to_string(), if finding.at.is_in_file() { finding.resource.as_str() } else { "" })
}

/// Where the page of a code is, for people who read elsewhere than in the repository.
pub(crate) fn page_of(code: &str) -> String {
    format!("docs/findings/{code}.md")
}
