//! The evidence of one check on a timeline: one lane per side. Pieces that the verdict rests on are marked,
//! and so are their differences from what was expected.

use maud::{Markup, html};

use super::parts::{brief, line};
use crate::check_evidence::{CheckEvidence, SelectedEvidence};
use crate::evidence_text;
use meshproof_model::evidence::Side;
use meshproof_model::report::{CheckResult, ScenarioResult, Verdict};

const fn lane(side: &Side) -> &'static str {
    match side {
        Side::Workload { .. } => "lane-w",
        Side::Proxy { .. } => "lane-p",
        Side::Service { .. } => "lane-s",
        Side::Suite => "lane-x",
    }
}

/// The timeline. `number` is the index of the scenario in the report, by which the script finds the packed
/// details.
pub(super) fn timeline(
    number: usize,
    scenario: &ScenarioResult,
    check: &CheckResult,
    selected: &CheckEvidence<'_>,
) -> Markup {
    if selected.pieces.is_empty() && selected.missing.is_empty() {
        return html! { p.soft { "No evidence was recorded." } };
    }
    html! {
        div.lanes aria-hidden="true" { span { "workload" } span { "proxies" } span { "services" } }
        ol.timeline {
            @for item in &selected.pieces { (piece(number, scenario, check, item)) }
        }
        @if selected.left_out > 0 { p.soft { "… and " (selected.left_out) " more in report.json." } }
        @for id in &selected.missing { p.soft { "Evidence " (line(&id.0)) " is not in the report." } }
    }
}

fn piece(
    number: usize,
    scenario: &ScenarioResult,
    check: &CheckResult,
    item: &SelectedEvidence<'_>,
) -> Markup {
    let piece = item.piece;
    let broken = matches!(check.verdict, Verdict::Failed | Verdict::Inconclusive);
    let differences = check.differences.iter().filter(|d| d.evidence == piece.id);
    let marked = broken && check.differences.iter().any(|d| d.evidence == piece.id);
    let class = match (marked, item.decides) {
        (true, _) => format!("{} wrong", lane(&piece.side)),
        (false, true) => format!("{} decides", lane(&piece.side)),
        (false, false) => lane(&piece.side).to_owned(),
    };
    html! {
        li class=(class) {
            details.piece data-block=(number) data-piece=(item.index) {
                summary {
                    span.who { (brief(&evidence_text::side(&piece.side, scenario), 120)) }
                    " " span.at title="Time since the start of the scenario." { (evidence_text::when(piece)) }
                    @if item.decides { " " span.rests title="The verdict rests on this piece." {
                        "● decides" } }
                    " " span.what { (brief(&evidence_text::headline(&piece.fact), 400)) }
                }
                div.details {}
            }
            @if broken {
                @for difference in differences {
                    dl.against {
                        dt { "✓ expected" } dd.want { (brief(&difference.expected, 1_000)) }
                        dt { "✗ seen" } dd.got { (brief(&difference.seen, 1_000)) }
                    }
                }
            }
        }
    }
}
