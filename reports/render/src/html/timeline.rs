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

/// How many differences of one piece are shown.
const MAX_DIFFERENCES: usize = 5;

/// The timeline, with at most `most` pieces. `number` is the index of the scenario in the report, by which the script finds the packed
/// details.
pub(super) fn timeline(
    number: usize,
    scenario: &ScenarioResult,
    check: &CheckResult,
    selected: &CheckEvidence<'_>,
    most: usize,
) -> Markup {
    // The pieces on which the verdict rests come before those that only belong to the same requests.
    let decisive = selected.pieces.iter().filter(|p| p.decides).count();
    let others = most.saturating_sub(decisive);
    let mut seen = (0, 0);
    let shown: Vec<_> = selected
        .pieces
        .iter()
        .filter(|item| {
            let (count, limit) = if item.decides { (&mut seen.0, most) } else { (&mut seen.1, others) };
            *count += 1;
            *count <= limit
        })
        .collect();
    let left_out = selected.left_out + selected.pieces.len() - shown.len();
    if selected.pieces.is_empty() && selected.missing.is_empty() {
        return html! { p.soft { "No evidence was recorded." } };
    }
    html! {
        div.lanes aria-hidden="true" { span { "workload" } span { "proxies" } span { "services" } }
        ol.timeline {
            @for item in &shown { (piece(number, scenario, check, item)) }
        }
        @if left_out > 0 { p.soft { "… and " (left_out) " more in report.json." } }
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
                    " " span.at { (evidence_text::when(piece)) }
                    @if item.decides { " " span.rests { "● decides" } }
                    " " span.what { (brief(&evidence_text::headline(&piece.fact), 300)) }
                }
                div.details {}
            }
            @if broken {
                @for difference in differences.take(MAX_DIFFERENCES) {
                    dl.against {
                        dt { "✓ expected" } dd.want { (brief(&difference.expected, 1_000)) }
                        dt { "✗ seen" } dd.got { (brief(&difference.seen, 1_000)) }
                    }
                }
            }
        }
    }
}
