//! The page of the kill matrix: why to trust the suite.

use maud::{Markup, html};

use super::page;
use super::parts::{brief, legend, level, line, terms};
use crate::words::plural;
use meshproof_model::kills::KillMatrix;

/// Renders the page: a row a check, a column a saboteur, a mark where the check notices it.
#[must_use]
pub fn kill_matrix(matrix: &KillMatrix) -> String {
    let title = "Kill matrix".to_owned();
    let body = html! {
        a.skip href="#matrix" { "Skip to the matrix" }
        main {
            (head(matrix))
            section.bar #bar hidden aria-label="Search" {
                label { "Search " input #query type="search" autocomplete="off" placeholder="check or saboteur"; }
                output #count {}
            }
            div.matrix-scroll tabindex="0" role="group" aria-label="Matrix" { (grid(matrix)) }
            section aria-labelledby="saboteurs" {
                h2 #saboteurs { "The saboteurs" }
                @for (number, saboteur) in matrix.saboteurs.iter().enumerate() {
                    @let noticed: Vec<&str> = matrix.kills.get(&saboteur.name).into_iter().flatten().map(String::as_str).collect();
                    details.saboteur id=(format!("saboteur-{number}")) {
                        summary { strong { (brief(&saboteur.name, 120)) } ": " (brief(&saboteur.description, 300)) " " span.soft { "noticed by " (plural(noticed.len(), "check")) } }
                        div.body { ul { @for check in noticed { li { (brief(check, 300)) } } } }
                    }
                }
            }
            (legend(&[
                ("saboteur", "The reference implementation, broken on purpose in one named way, to prove that a check can fail."),
                ("notices", "The check does not pass when the saboteur is at work."),
            ]))
            (terms())
        }
    };
    page::Page { title, script: include_str!("assets/kills.js"), body, data: vec![] }.render()
}

fn head(matrix: &KillMatrix) -> Markup {
    let (idle, unnoticed) = (matrix.idle_checks(), matrix.unnoticed());
    html! {
        header {
            p.kicker { "meshproof · kill matrix" }
            h1 { "Can every check fail?" }
            p { "The reference implementation was broken on purpose in " strong { (plural(matrix.saboteurs.len(), "way")) } ", and " strong { (plural(matrix.checks.len(), "check")) } " judged each. A check that notices nothing could not fail; a fault that nobody notices is a gap in the suite." }
            @if idle.is_empty() && unnoticed.is_empty() {
                p.conclusion.passed {
                    span.verdict { "✓ " @if matrix.whole { "yes" } @else { "so far" } } " "
                    span {
                        @if matrix.whole { "Every check notices at least one saboteur, and every saboteur is noticed by at least one check." }
                        @else { "Each of these saboteurs is noticed; only a run of all of them shows whether every check can fail." }
                    }
                }
            } @else {
                p.conclusion.failed { span.verdict { "✗ not all" } " " span {
                    (plural(idle.len(), "check")) " without a saboteur that it notices, " (plural(unnoticed.len(), "saboteur")) " that no check notices."
                } }
                details open { summary { "The gaps" } div.body { ul {
                    @for check in &idle { li { "check " (line(&check.id)) } }
                    @for saboteur in &unnoticed { li { "saboteur " (line(&saboteur.name)) } }
                } } }
            }
        }
    }
}

fn grid(matrix: &KillMatrix) -> Markup {
    html! {
        table.matrix.kills #matrix {
            caption { "● where the check notices the saboteur" }
            thead { tr {
                th scope="col" { "check" }
                @for (number, saboteur) in matrix.saboteurs.iter().enumerate() {
                    th scope="col" class=(if matrix.kills.get(&saboteur.name).is_none_or(std::collections::BTreeSet::is_empty) { "none" } else { "" }) {
                        button type="button" data-to=(format!("saboteur-{number}")) title=(line(&saboteur.description)) { (brief(&saboteur.name, 60)) }
                    }
                }
            } }
            tbody {
                @for check in &matrix.checks {
                    tr {
                        th scope="row" title=(line(&check.requirement)) { (level(check.level, false)) " " (brief(&check.id, 160)) }
                        @for saboteur in &matrix.saboteurs {
                            @if matrix.notices(&check.id, &saboteur.name) { td.hit { "●" span.sr { " notices" } } } @else { td {} }
                        }
                    }
                }
            }
        }
    }
}
