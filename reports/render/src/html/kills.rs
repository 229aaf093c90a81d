//! The page of the kill matrix.

use maud::{Markup, html};

use super::page;
use super::parts::{brief, legend, level, line, terms};
use crate::text::plural;
use meshproof_model::kills::KillMatrix;

/// Renders the page: one row per check, one column per saboteur, and a mark where the check detects the
/// saboteur.
#[must_use]
pub fn kill_matrix(matrix: &KillMatrix) -> String {
    let title = "Kill matrix".to_owned();
    let body = html! {
        a.skip href="#matrix" { "Skip to the matrix" }
        main {
            (head(matrix))
            section.bar #bar hidden aria-label="Search" {
                label { "Search " input #query type="search" autocomplete="off"
                    placeholder="check or saboteur"; }
                output #count {}
            }
            div.matrix-scroll tabindex="0" role="group" aria-label="Matrix" { (grid(matrix)) }
            section aria-labelledby="saboteurs" {
                h2 #saboteurs { "Saboteurs" }
                @for (number, saboteur) in matrix.saboteurs.iter().enumerate() {
                    @let detected = matrix.detecting(saboteur);
                    details.saboteur id=(format!("saboteur-{number}")) {
                        summary { strong { (brief(&saboteur.name, 120)) } ": "
                            (brief(&saboteur.description, 300)) " "
                            span.soft { "detected by " (plural(detected.len(), "check")) } }
                        div.body { ul { @for check in detected { li { (brief(check, 300)) } } } }
                    }
                }
            }
            @if !matrix.benign.is_empty() {
                section aria-labelledby="benign" {
                    h2 #benign { "Benign variants" }
                    p { "Correct implementations with unusual habits. No MUST check may fail because of them." }
                    ul { @for variant in &matrix.benign {
                        @let alarms = matrix.false_alarms.get(&variant.name).into_iter().flatten();
                        @let alarms: Vec<&String> = alarms.collect();
                        li { strong { (brief(&variant.name, 120)) } ": " (brief(&variant.description, 300)) " "
                            @if alarms.is_empty() { span.soft { "passes" } }
                            @else { "fails " @for check in alarms { (brief(check, 300)) " " } } }
                    } }
                }
            }
            (legend(&[
                ("saboteur", "The reference implementation, deliberately broken in one named way, to prove \
                    that a check can fail."),
                ("detects", "The check does not pass when the saboteur is active."),
            ]))
            (terms())
        }
    };
    page::HtmlDocument { title, script: include_str!("assets/kills.js"), body, data: vec![] }.render()
}

fn head(matrix: &KillMatrix) -> Markup {
    let (idle, unnoticed, alarming) = (matrix.idle_checks(), matrix.unnoticed(), matrix.alarming());
    html! {
        header {
            p.kicker { "meshproof · kill matrix" }
            h1 { "Can every check fail?" }
            p { "The reference implementation was deliberately broken in "
                strong { (plural(matrix.saboteurs.len(), "way")) } ". "
                strong { (plural(matrix.checks.len(), "check")) }
                " judged each broken variant. A check that detects no saboteur may be unable to fail. A \
                saboteur that no check detects is a gap in the suite." }
            @if idle.is_empty() && unnoticed.is_empty() && alarming.is_empty() {
                @if matrix.whole {
                    p.conclusion.passed {
                        span.verdict { "✓ yes" } " "
                        span { "Every check detects at least one saboteur, and every saboteur is detected \
                            by at least one check." }
                    }
                } @else {
                    p.conclusion.skipped {
                        span.verdict { "- not computed" } " "
                        span { "Each of these saboteurs is detected. Run all saboteurs to learn whether \
                            every check can fail." }
                    }
                }
            } @else {
                p.conclusion.failed { span.verdict { "✗ not all" } " " span {
                    (plural(idle.len(), "check")) " without a saboteur that it detects, "
                        (plural(unnoticed.len(), "saboteur")) " that no check detects."
                    @if !alarming.is_empty() {
                        " " (plural(alarming.len(), "benign variant")) " that a check fails."
                    }
                } }
                details open { summary { "Gaps" } div.body { ul {
                    @for check in &idle { li { "check " (line(&check.id)) } }
                    @for saboteur in &unnoticed { li { "saboteur " (line(&saboteur.name)) } }
                    @for variant in &alarming { li { "benign variant " (line(&variant.name)) } }
                } } }
            }
        }
    }
}

fn grid(matrix: &KillMatrix) -> Markup {
    html! {
        table.matrix.kills #matrix {
            caption { "● the check detects the saboteur" }
            thead { tr {
                th scope="col" { "check" }
                @for (number, saboteur) in matrix.saboteurs.iter().enumerate() {
                    th scope="col" class=(if matrix.detecting(saboteur).is_empty() { "none" } else { "" }) {
                        button type="button" data-to=(format!("saboteur-{number}"))
                            title=(line(&saboteur.description)) { (brief(&saboteur.name, 60)) }
                    }
                }
            } }
            tbody {
                @for check in &matrix.checks {
                    tr {
                        th scope="row" title=(line(&check.requirement)) { (level(check.level, false)) " "
                            (brief(&check.id, 160)) }
                        @for saboteur in &matrix.saboteurs {
                            @if matrix.detects(&check.id, &saboteur.name) {
                                td.hit { "●" span.sr { " detects" } } } @else { td {} }
                        }
                    }
                }
            }
        }
    }
}
