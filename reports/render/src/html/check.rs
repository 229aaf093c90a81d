//! One check on the page of a report. The page itself contains what a reader without JavaScript needs: the verdict, the
//! requirement and the reason, which says what was expected and seen. The check that shows a cause is
//! complete. For all others, the script adds the rest from the packed data when the check is opened.

use std::collections::HashSet;

use maud::{Markup, html};

use super::manifests::{self, ChangeView};
use super::packed::{PackedBody, PackedItem, TextTable};
use super::parts::{anchor, bare_badge, bare_level, brief, class, command, line, link, term};
use super::{request_path, timeline};
use crate::check_evidence::{EvidenceIndex, SelectedEvidence};
use crate::conclusion::needs_attention;
use crate::evidence_text;
use crate::text::symbol;
use meshproof_model::report::{CheckResult, ScenarioResult, Verdict};

/// How much of a reason is shown, in characters. The report's JSON has the whole text.
const MAX_TEXT: usize = 2_500;

/// How many pieces of evidence a check shows that is not the example of a cause. More would make the page too large.
const MAX_PIECES: usize = 24;

/// The same for a check that passed.
const MAX_PIECES_OF_PASSED: usize = 8;

/// A scenario of the report, with what its checks have in common.
pub(super) struct ScenarioView<'r> {
    /// Its index in the report.
    pub(super) number: usize,
    pub(super) scenario: &'r ScenarioResult,
    pub(super) index: EvidenceIndex<'r>,
    pub(super) history: Vec<ChangeView<'r>>,
}

pub(super) fn full_id(scenario: &ScenarioResult, check: &CheckResult) -> String {
    format!("{}/{}", scenario.selector(), scenario.check_name(check))
}

pub(super) fn check_id(
    number: usize,
    index: usize,
    scenario: &ScenarioResult,
    check: &CheckResult,
) -> String {
    anchor(&full_id(scenario, check), &format!("s{number}c{index}"))
}

impl<'r> ScenarioView<'r> {
    pub(super) fn of(number: usize, scenario: &'r ScenarioResult) -> Self {
        let history = manifests::history(scenario);
        Self { number, scenario, index: EvidenceIndex::of(scenario), history }
    }

    /// The last configuration change before the evidence of a check, with its place in the history.
    fn last_change(&self, check: &CheckResult) -> Option<(usize, &ChangeView<'r>)> {
        let piece = self.index.last_change(check)?;
        let index = self.index.index(&piece.id)?;
        self.history.iter().enumerate().find(|(_, view)| view.index == index)
    }

    /// How many pieces of evidence the check shows.
    fn most(check: &CheckResult, is_example: bool) -> usize {
        match (is_example, needs_attention(check)) {
            (true, _) => usize::MAX,
            (false, true) => MAX_PIECES,
            (false, false) => MAX_PIECES_OF_PASSED,
        }
    }

    /// Which pieces of the scenario's evidence its checks show, and whether one of these checks needs attention.
    pub(super) fn shown(&self, examples: &HashSet<&str>) -> Vec<Option<bool>> {
        let mut shown = vec![None; self.scenario.evidence.len()];
        for check in &self.scenario.checks {
            let is_example = examples.contains(full_id(self.scenario, check).as_str());
            let selected = self.index.of_check(check);
            for item in timeline::shown(&selected, Self::most(check, is_example)).0 {
                *shown[item.index].get_or_insert(false) |= is_example || needs_attention(check);
            }
        }
        shown
    }

    /// The check: name and reason, and the rest if it shows a cause.
    pub(super) fn check(&self, index: usize, check: &CheckResult, is_example: bool) -> Markup {
        let longest = if is_example { MAX_TEXT } else { MAX_TEXT / 3 };
        html! {
            details.check id=(check_id(self.number, index, self.scenario, check)) data-verdict=(check.verdict)
                data-level=(check.level) data-check=[(!is_example).then_some(index)] open[is_example] {
                summary {
                    (bare_badge(check.verdict)) " " strong { (brief(self.scenario.check_name(check), 200)) } " "
                        (bare_level(check.level, check.control))
                    @if check.failed_as_expected() { " " span.soft { "as expected" } }
                    span.why { (brief(&check.requirement, 240)) }
                }
                div.body {
                    p class=(format!("reason {}", class(check.verdict))) {
                        strong { (symbol(check.verdict)) " Reason: " } (brief(&check.reason, longest)) }
                    @if is_example { (self.whole(check)) }
                    @else if !more_rows(check).is_empty() { dl { (more(check)) } }
                }
            }
        }
    }

    /// Everything about a check that shows a cause.
    fn whole(&self, check: &CheckResult) -> Markup {
        let selected = self.index.of_check(check);
        let document = &self.scenario.document;
        html! {
            dl {
                (expected_and_seen(check, MAX_TEXT))
                dt { "requirement" } dd { (line(&check.requirement)) }
                dt { "document" } dd { (link(&document.url, &document.title)) ", “" (line(&check.section)) "”" }
                (more(check))
                @match self.last_change(check) {
                    Some((at, view)) => {
                        dt { "last change" } dd { a href=(format!("#change-{}-{at}", self.number)) {
                            (brief(&evidence_text::headline(&self.scenario.evidence[view.index].fact), 160)) } }
                        dt { "configuration" } dd { @if view.in_force.is_empty() { "nothing" }
                            (brief(&view.in_force.join(", "), 1_000)) }
                    }
                    None => { dt { "last change" } dd { (NO_CHANGE) } }
                }
            }
            h4 { (term("evidence", "Evidence")) }
            @let picture = request_path::of_check(self.scenario, &self.index, check);
            @if !picture.is_empty() { div.scroll tabindex="0" role="group"
                aria-label="Request path" { (picture.draw()) } }
            (timeline::timeline(self.scenario, check, &selected, usize::MAX))
            h4 { "Repeat this check" }
            (command(&check.repeat))
        }
    }

    /// What the script adds to a check that is opened; nothing for a check that is complete.
    pub(super) fn packed(
        &self,
        texts: &mut TextTable,
        check: &CheckResult,
        is_example: bool,
    ) -> Option<PackedBody> {
        if is_example {
            return None;
        }
        let mut rows = vec![("expected", &check.expected)];
        // The reason of a check that passed is what was seen.
        if check.verdict != Verdict::Passed {
            rows.push(("seen", &check.seen));
        }
        rows.extend([("requirement", &check.requirement), ("section", &check.section)]);
        let selected = self.index.of_check(check);
        let (items, left_out) = timeline::shown(&selected, Self::most(check, false));
        let change = self.last_change(check);
        Some(PackedBody {
            rows: rows
                .iter()
                .flat_map(|(label, text)| [texts.line(label, None), texts.line(text, None)])
                .collect(),
            change: change.map(|(at, view)| {
                let headline = evidence_text::headline(&self.scenario.evidence[view.index].fact);
                (at, texts.line(&headline, None))
            }),
            items: items.into_iter().map(|item| packed_item(texts, check, item)).collect(),
            left_out,
            missing: selected.missing.iter().map(|id| texts.line(&id.0, None)).collect(),
            repeat: texts.line(&check.repeat, None),
        })
    }
}

/// For a check whose evidence no change precedes. The script has the same words.
const NO_CHANGE: &str = "none before this evidence was recorded";

fn packed_item(texts: &mut TextTable, check: &CheckResult, item: &SelectedEvidence<'_>) -> PackedItem {
    let against = timeline::differences(check, item.piece);
    let against = against.flat_map(|d| [texts.line(&d.expected, None), texts.line(&d.seen, None)]);
    let against = against.collect();
    PackedItem(item.index, u8::from(item.decides), against)
}

fn expected_and_seen(check: &CheckResult, longest: usize) -> Markup {
    html! {
        dt { "✓ expected" } dd.want { (brief(&check.expected, longest)) }
        dt { "✗ seen" } dd.got { (brief(&check.seen, longest)) }
    }
}

fn more(check: &CheckResult) -> Markup {
    html! { @for (label, text) in more_rows(check) { dt { (label) } dd { (line(&text)) } } }
}

/// The rows that few checks have.
fn more_rows(check: &CheckResult) -> Vec<(&'static str, String)> {
    let expected = check.expected_failure.as_ref().map(|e| {
        let until = e.until.as_ref().map(|day| format!(" (until {day})")).unwrap_or_default();
        ("expected failure", format!("{}{until}", e.reason))
    });
    let feature = check.feature.as_ref().map(|f| ("requires feature", f.name().to_owned()));
    expected.into_iter().chain(feature).collect()
}
