//! Badges: the JSON of a shields.io endpoint (<https://shields.io/badges/endpoint-badge>), and an SVG file
//! that needs no server.

use maud::html;
use serde::Serialize;

use crate::conclusion::conclusion;
use crate::text::symbol;
use meshproof_model::report::{Level, Report, Tally, Verdict};

const LABEL: &str = "meshproof";

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ShieldsEndpoint {
    schema_version: u8,
    label: &'static str,
    message: String,
    color: &'static str,
}

/// The verdict as text and numbers, so that the meaning does not depend on colour alone.
pub(crate) fn message(report: &Report) -> (Verdict, String) {
    let verdict = conclusion(report).verdict;
    let must = Tally::of(report.checks(), |c| c.level == Level::Must);
    let not_asked = match must.count(Verdict::Skipped) {
        0 => String::new(),
        n => format!(", {n} not asked"),
    };
    (verdict, format!("{verdict} {}/{} MUST{not_asked}", must.count(Verdict::Passed), must.total()))
}

const fn colour(verdict: Verdict) -> (&'static str, &'static str) {
    match verdict {
        Verdict::Passed => ("success", "#1a7f37"),
        Verdict::Failed | Verdict::Inconclusive => ("critical", "#b3261e"),
        Verdict::Error | Verdict::Skipped => ("inactive", "#6e5494"),
    }
}

pub(super) fn endpoint(report: &Report) -> Result<String, serde_json::Error> {
    let (verdict, message) = message(report);
    let endpoint = ShieldsEndpoint { schema_version: 1, label: LABEL, message, color: colour(verdict).0 };
    Ok(serde_json::to_string_pretty(&endpoint)? + "\n")
}

pub(super) fn svg(report: &Report) -> String {
    let (verdict, message) = message(report);
    draw(verdict, &message)
}

/// The badge with this text.
pub(crate) fn draw(verdict: Verdict, message: &str) -> String {
    let message = format!("{} {message}", symbol(verdict));
    // An estimate for Verdana at 11 px; `textLength` stretches the text to fit.
    let width = |text: &str| text.chars().count() * 7 + 12;
    let (left, right) = (width(LABEL), width(&message));
    let text = |x: usize, text: &str, width: usize| {
        html! { text x=(x) y="14" textLength=(width - 12) { (text) } }
    };
    html! {
        svg xmlns="http://www.w3.org/2000/svg" width=(left + right) height="20" role="img"
            aria-label=(format!("{LABEL}: {message}")) {
            title { (LABEL) ": " (message) }
            clipPath id="r" { rect width=(left + right) height="20" rx="3" {} }
            g clip-path="url(#r)" {
                rect width=(left) height="20" fill="#444c56" {}
                rect x=(left) width=(right) height="20" fill=(colour(verdict).1) {}
            }
            g fill="#fff" font-family="Verdana,DejaVu Sans,sans-serif" font-size="11" {
                (text(6, LABEL, left))
                (text(left + 6, &message, right))
            }
        }
    }
    .into_string()
        + "\n"
}
