//! What a report can be rendered as: one name a format, one file each. A report that was kept is rendered again at any time,
//! without running anything.

mod badge;
mod github;
mod junit;
mod markdown;

use std::fmt;
use std::str::FromStr;

use crate::terminal::{Look, summary};
use meshproof_model::report::Report;

/// A format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// The page for people.
    Html,
    /// The report itself; its schema is published.
    Json,
    /// JUnit XML, as continuous integration reads it.
    Junit,
    /// Markdown for a job summary or a comment on a pull request.
    Markdown,
    /// Workflow commands by which GitHub Actions annotates a run.
    Github,
    /// The JSON of a shields.io endpoint badge.
    Badge,
    /// A badge as SVG.
    BadgeSvg,
    /// The summary that a terminal shows.
    Text,
}

/// Why a report cannot be rendered.
#[derive(Debug, thiserror::Error)]
#[error("the report cannot be rendered as {format}: {why}")]
pub struct RenderError {
    /// As what.
    pub format: Format,
    /// The words of whatever renders it.
    pub why: String,
}

impl Format {
    /// Every format.
    pub const ALL: [Self; 8] = [
        Self::Html,
        Self::Json,
        Self::Junit,
        Self::Markdown,
        Self::Github,
        Self::Badge,
        Self::BadgeSvg,
        Self::Text,
    ];

    /// Its name on a command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Html => "html",
            Self::Json => "json",
            Self::Junit => "junit",
            Self::Markdown => "markdown",
            Self::Github => "github",
            Self::Badge => "badge",
            Self::BadgeSvg => "badge-svg",
            Self::Text => "text",
        }
    }

    /// The name of its file in a report's folder.
    #[must_use]
    pub const fn file_name(self) -> &'static str {
        match self {
            Self::Html => "index.html",
            Self::Json => "report.json",
            Self::Junit => "junit.xml",
            Self::Markdown => "summary.md",
            Self::Github => "annotations.txt",
            Self::Badge => "badge.json",
            Self::BadgeSvg => "badge.svg",
            Self::Text => "summary.txt",
        }
    }

    /// Renders the report.
    ///
    /// # Errors
    /// None is known: every format takes every report.
    pub fn render(self, report: &Report) -> Result<String, RenderError> {
        let failed = |why: String| RenderError { format: self, why };
        match self {
            Self::Html => Ok(crate::html::html(report)),
            Self::Json => meshproof_model::json::to_json(report).map_err(|e| failed(e.to_string())),
            Self::Junit => junit::junit(report).map_err(|e| failed(e.to_string())),
            Self::Markdown => Ok(markdown::markdown(report)),
            Self::Github => Ok(github::annotations(report)),
            Self::Badge => badge::endpoint(report).map_err(|e| failed(e.to_string())),
            Self::BadgeSvg => Ok(badge::svg(report)),
            Self::Text => {
                let mut text = Vec::new();
                summary(&mut text, report, None, Look::PLAIN).map_err(|e| failed(e.to_string()))?;
                String::from_utf8(text).map_err(|e| failed(e.to_string()))
            }
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|f| f.name() == text).ok_or_else(|| {
            let names: Vec<&str> = Self::ALL.iter().map(|f| f.name()).collect();
            format!("no format is named {text:?}; the formats are {}", names.join(", "))
        })
    }
}

#[cfg(test)]
mod tests;
