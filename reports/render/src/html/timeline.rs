//! The evidence of one check on a timeline: one lane per side. Pieces that the verdict rests on are marked,
//! and so are their differences from what was expected.

use maud::{Markup, html};

use super::parts::{brief, line};
use crate::check_evidence::{CheckEvidence, SelectedEvidence};
use crate::evidence_text;
use meshproof_model::evidence::{Evidence, Side};
use meshproof_model::report::{CheckResult, Difference, ScenarioResult, Verdict};

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

/// The pieces to show, at most `most`, and the number of the others. The pieces on which the verdict rests come before those that
/// only belong to the same requests.
pub(super) fn shown<'s, 'r>(
    selected: &'s CheckEvidence<'r>,
    most: usize,
) -> (Vec<&'s SelectedEvidence<'r>>, usize) {
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
    (shown, left_out)
}

/// The differences of a piece that are shown.
pub(super) fn differences<'r>(
    check: &'r CheckResult,
    piece: &'r Evidence,
) -> impl Iterator<Item = &'r Difference> {
    let is_broken = matches!(check.verdict, Verdict::Failed | Verdict::Inconclusive);
    check.differences.iter().filter(move |d| is_broken && d.evidence == piece.id).take(MAX_DIFFERENCES)
}

/// The timeline, with at most `most` pieces.
pub(super) fn timeline(
    scenario: &ScenarioResult,
    check: &CheckResult,
    selected: &CheckEvidence<'_>,
    most: usize,
) -> Markup {
    let (shown, left_out) = shown(selected, most);
    if selected.pieces.is_empty() && selected.missing.is_empty() {
        return html! { p.soft { "No evidence was recorded." } };
    }
    html! {
        div.lanes aria-hidden="true" { span { "workload" } span { "proxies" } span { "services" } }
        ol.timeline {
            @for item in &shown { (piece(scenario, check, item)) }
        }
        @if left_out > 0 { p.soft { "… and " (left_out) " more in report.json." } }
        @for id in &selected.missing { p.soft { "Evidence " (line(&id.0)) " is not in the report." } }
    }
}

fn piece(scenario: &ScenarioResult, check: &CheckResult, item: &SelectedEvidence<'_>) -> Markup {
    let piece = item.piece;
    let differences: Vec<_> = differences(check, piece).collect();
    let marked = !differences.is_empty();
    let class = match (marked, item.decides) {
        (true, _) => format!("{} wrong", lane(&piece.side)),
        (false, true) => format!("{} decides", lane(&piece.side)),
        (false, false) => lane(&piece.side).to_owned(),
    };
    html! {
        li class=(class) {
            details.piece data-piece=(item.index) {
                summary {
                    span.who { (brief(&evidence_text::side(&piece.side, scenario), 120)) }
                    " " span.at { (evidence_text::when(piece)) }
                    @if item.decides { " " span.rests { "● decides" } }
                    " " span.what { (brief(&evidence_text::headline(&piece.fact), 300)) }
                }
                div.details {}
            }
            @for difference in differences {
                dl.against {
                    dt { "✓ expected" } dd.want { (brief(&difference.expected, 1_000)) }
                    dt { "✗ seen" } dd.got { (brief(&difference.seen, 1_000)) }
                }
            }
        }
    }
}
