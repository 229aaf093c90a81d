//! The outcomes of a scenario with many checks, at a glance: a row per section of the document, a column per level.

use maud::{Markup, html};
use meshproof_model::report::{CheckResult, Level};

use super::check::{ScenarioView, check_id};
use super::parts::{brief, class};
use crate::text::symbol;

/// With fewer checks, the list of them is short enough.
const MANY: usize = 25;

/// Nothing for a scenario with few checks.
pub(super) fn outcomes(view: &ScenarioView<'_>) -> Markup {
    let checks = &view.scenario.checks;
    if checks.len() < MANY {
        return html! {};
    }
    let mut sections: Vec<(&str, Vec<(usize, &CheckResult)>)> = Vec::new();
    for (index, check) in checks.iter().enumerate() {
        match sections.iter_mut().find(|(section, _)| *section == check.section) {
            Some((_, known)) => known.push((index, check)),
            None => sections.push((&check.section, vec![(index, check)])),
        }
    }
    let levels: Vec<Level> =
        Level::ALL.into_iter().filter(|level| checks.iter().any(|c| c.level == *level)).collect();
    html! {
        div.scroll tabindex="0" role="group" aria-label="Outcomes by section" {
            table.outcomes {
                caption { "Outcomes by section; each mark leads to its check" }
                thead { tr { th scope="col" { "section" } @for level in &levels { th scope="col" { (level) } } } }
                tbody {
                    @for (section, checks) in &sections {
                        tr {
                            th scope="row" { (brief(section, 100)) }
                            @for level in &levels {
                                td { @for (index, check) in checks.iter().filter(|(_, c)| c.level == *level) {
                                    (mark(view, *index, check)) " "
                                } }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn mark(view: &ScenarioView<'_>, index: usize, check: &CheckResult) -> Markup {
    let name = format!("{}: {}", brief(view.scenario.check_name(check), 200), check.verdict);
    html! {
        a class=(class(check.verdict)) href=(format!("#{}", check_id(view.number, index, view.scenario, check)))
            title=(name) aria-label=(name) { (symbol(check.verdict)) }
    }
}

#[cfg(test)]
mod tests {
    use meshproof_model::report::Verdict;

    use super::*;

    #[test]
    fn many_checks_are_shown_by_section_and_few_are_not() {
        let mut scenario = meshproof_model::sample::report().scenarios.swap_remove(0);
        let first = scenario.checks[0].clone();
        scenario.checks = (0..MANY)
            .map(|number| CheckResult {
                id: format!("{}/path-{number}", scenario.id),
                section: if number % 2 == 0 { "Even paths" } else { "Odd paths" }.to_owned(),
                verdict: if number == 3 { Verdict::Failed } else { Verdict::Passed },
                level: Level::Must,
                ..first.clone()
            })
            .collect();
        let page = outcomes(&ScenarioView::of(0, &scenario)).into_string();
        assert_eq!(page.matches("<tr>").count(), 3, "{page}");
        assert!(page.contains("aria-label=\"path-3: failed\""), "{page}");
        scenario.checks.truncate(MANY - 1);
        assert_eq!(outcomes(&ScenarioView::of(0, &scenario)).into_string(), "");
    }
}
