//! A static site of many reports: which implementation keeps which promise, in which version, since when. It consists of files
//! only, works from disk and from any web server, and grows by one report at a time: what the site needs of a report is kept beside
//! the report's page.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::compare::slug;
use crate::conclusion::conclusion;
use crate::formats::badge;
use crate::html::check_anchor;
use meshproof_model::report::{Document, Level, Report, Tally, Verdict, variants};

mod pages;

/// The version of [`SiteReport`]'s JSON, found in its `schema` field.
pub const SCHEMA: &str = "meshproof.site/1";

/// What the site shows of one report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SiteReport {
    /// [`SCHEMA`].
    pub schema: String,
    /// The implementation: its name and variant, or the name that the user gave it. Its reports are its history.
    pub implementation: String,
    /// Its version.
    pub version: String,
    /// How the suite reached it.
    pub target: String,
    /// The run's id.
    pub run: String,
    /// RFC 3339, UTC.
    pub started: String,
    /// The version of meshproof.
    pub meshproof: String,
    /// The overall result.
    pub verdict: Verdict,
    /// The number of MUST checks that passed.
    pub must_passed: usize,
    /// The number of MUST checks that were executed.
    pub must_asked: usize,
    /// The number of MUST checks that were skipped.
    pub must_not_asked: usize,
    /// The text of the badge.
    pub badge: String,
    /// The scenario configurations.
    pub scenarios: Vec<SiteScenario>,
}

/// One scenario configuration of a report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SiteScenario {
    /// `scenario` or `scenario:configuration`.
    pub selector: String,
    /// Its title.
    pub title: String,
    /// The document that it comes from.
    pub document: Document,
    /// Its checks.
    pub checks: Vec<SiteCheck>,
}

/// One check of a report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SiteCheck {
    /// Its name within the scenario.
    pub name: String,
    /// How binding it is.
    pub level: Level,
    /// What it requires.
    pub requirement: String,
    /// The verdict.
    pub verdict: Verdict,
    /// Why, if it did not pass.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// Where the report's page shows it: the fragment of the address.
    pub anchor: String,
}

/// A file of the site: its path below the site's folder, with `/`, and its content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SiteFile {
    /// Its path.
    pub path: String,
    /// Its content.
    pub content: String,
}

impl SiteReport {
    /// What the site shows of this report. `name` replaces the implementation's name and variant.
    #[must_use]
    pub fn of(report: &Report, name: Option<&str>) -> Self {
        let own = &report.implementation;
        let variant: String = variants(&own.details).map(|(_, value)| format!(" · {value}")).collect();
        let must = Tally::of(report.checks(), |c| c.level == Level::Must);
        let scenarios = report.scenarios.iter().enumerate().map(|(number, scenario)| SiteScenario {
            selector: scenario.selector(),
            title: scenario.title.clone(),
            document: scenario.document.clone(),
            checks: scenario
                .checks
                .iter()
                .enumerate()
                .map(|(index, check)| SiteCheck {
                    name: scenario.check_name(check).to_owned(),
                    level: check.level,
                    requirement: check.requirement.clone(),
                    verdict: check.verdict,
                    reason: if check.verdict == Verdict::Passed {
                        String::new()
                    } else {
                        check.reason.clone()
                    },
                    anchor: check_anchor(number, index, scenario, check),
                })
                .collect(),
        });
        Self {
            schema: SCHEMA.to_owned(),
            implementation: name.map_or_else(|| format!("{}{variant}", own.name), str::to_owned),
            version: own.version.clone(),
            target: own.target.clone(),
            run: report.run.id.clone(),
            started: report.run.started.clone(),
            meshproof: report.run.meshproof.clone(),
            verdict: conclusion(report).verdict,
            must_passed: must.count(Verdict::Passed),
            must_asked: must.total() - must.count(Verdict::Skipped),
            must_not_asked: must.count(Verdict::Skipped),
            badge: badge::message(report).1,
            scenarios: scenarios.collect(),
        }
    }

    /// The folder of this report in the site, which has [`Self::PAGE`] and [`Self::SUMMARY`].
    #[must_use]
    pub fn folder(&self) -> String {
        format!("reports/{}/{}", slug(&self.implementation), slug(&self.run))
    }

    /// The report's page in its folder.
    pub const PAGE: &'static str = "index.html";

    /// This data in its folder, as JSON.
    pub const SUMMARY: &'static str = "summary.json";
}

/// The pages and badges of the site, which is all but the folders of the reports. Reports of one implementation are its history;
/// of several reports of one version the latest counts.
#[must_use]
pub fn site(reports: &[SiteReport]) -> Vec<SiteFile> {
    pages::all(reports)
}

#[cfg(test)]
mod tests;
