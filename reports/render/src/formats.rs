//! The output formats of a report: each has a name and a file. A stored report can be rendered at any time
//! without a new run.

pub(crate) mod badge;
pub(crate) mod github;
pub(crate) mod junit;
pub(crate) mod markdown;

use std::fmt;
use std::str::FromStr;

use crate::terminal::{Detail, OutputStyle, summary};
use meshproof_model::report::Report;

/// A format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// The HTML page.
    Html,
    /// The report itself; its JSON Schema is published.
    Json,
    /// JUnit XML for continuous integration.
    Junit,
    /// Markdown for a job summary or a pull request comment.
    Markdown,
    /// Workflow commands that create annotations in GitHub Actions.
    Github,
    /// The JSON of a shields.io endpoint badge.
    Badge,
    /// A badge as SVG.
    BadgeSvg,
    /// The terminal summary as plain text.
    Text,
}

/// Why a report cannot be rendered.
#[derive(Debug, thiserror::Error)]
#[error("the report cannot be rendered as {format}: {why}")]
pub struct RenderError {
    /// The format.
    pub format: Format,
    /// The renderer's error message.
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

    /// Its name on the command line.
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
    /// None is known: every report can be rendered in every format.
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
                summary(&mut text, report, None, OutputStyle::PLAIN, Detail::Full)
                    .map_err(|e| failed(e.to_string()))?;
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
            format!("unknown format {text:?}. The formats are: {}", names.join(", "))
        })
    }
}

#[cfg(test)]
mod tests;
