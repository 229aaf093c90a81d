//! What each change of the configuration did to the manifests, step by step. The page contains the headlines; the script adds the
//! differences from the packed data.

use maud::{Markup, html};

use super::check::ScenarioView;
use super::manifests::{ChangeKind, ChangeView, DiffLine};
use super::packed::{PackedChange, PackedResource, TextTable};
use super::parts::brief;
use crate::evidence_text;

/// How many lines of one manifest's difference are shown. The packed evidence has the whole manifest.
const MAX_LINES: usize = 60;

/// The list of changes.
pub(super) fn changes(view: &ScenarioView<'_>) -> Markup {
    let (number, scenario, history) = (view.number, view.scenario, &view.history);
    if history.is_empty() {
        return html! {};
    }
    let step_of = |view: &ChangeView<'_>| scenario.evidence[view.index].step;
    html! {
        h3 { "Configuration changes by step" }
        @for (at, view) in history.iter().enumerate() {
            @let step = step_of(view);
            @if at == 0 || step_of(&history[at - 1]) != step {
                h4 {
                    @match scenario.steps.get(step) {
                        Some(step) => (brief(&step.title, 300)),
                        None => "Before the first step",
                    }
                }
            }
            details.change id=(format!("change-{number}-{at}")) data-change=(at) {
                summary { (brief(&evidence_text::headline(&scenario.evidence[view.index].fact), 400)) }
                div.body {}
            }
        }
    }
}

/// What the script adds to a change that is opened.
pub(super) fn packed(texts: &mut TextTable, view: &ChangeView<'_>) -> PackedChange {
    let resource = |texts: &mut TextTable, item: &super::manifests::ResourceChange| {
        let mut lines = Vec::new();
        for (mark, text) in item.lines.iter().take(MAX_LINES) {
            lines.extend([number(*mark), texts.line(text, None)]);
        }
        if let Some(more) = item.lines.len().checked_sub(MAX_LINES).filter(|n| *n > 0) {
            lines.extend([number(DiffLine::Gap), texts.line(&format!("… {more} more lines"), None)]);
        }
        PackedResource(texts.line(kind(item.kind), None), texts.line(&item.name, None), lines)
    };
    let items = view.items.iter().map(|item| resource(texts, item)).collect();
    let refused = view.change.refused.as_ref().map(|text| texts.line(text, None));
    let in_force = if view.in_force.is_empty() { "nothing".to_owned() } else { view.in_force.join(", ") };
    PackedChange(items, refused, texts.line(&in_force, None))
}

/// The number by which the script knows the kind of a line.
const fn number(mark: DiffLine) -> usize {
    match mark {
        DiffLine::Same => 0,
        DiffLine::Added => 1,
        DiffLine::Removed => 2,
        DiffLine::Gap => 3,
    }
}

const fn kind(kind: ChangeKind) -> &'static str {
    match kind {
        ChangeKind::Created => "+ created",
        ChangeKind::Changed => "± changed",
        ChangeKind::Unchanged => "= applied again without changes:",
        ChangeKind::Deleted => "− deleted",
    }
}
