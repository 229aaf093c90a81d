//! The page that compares several reports.

use maud::{Markup, html};

use super::parts::{badge, brief, class, legend, level, link, terms};
use super::{pack, page};
use crate::compare::{Cell, Column, Comparison, Group, LostCheck, Movement, Row, aligned, compare, rows};
use crate::parallel;
use crate::text::{asked, plural, symbol};
use meshproof_model::report::Report;

/// Renders the page. With `evidence`, the page contains the evidence of each cell; without it, only the
/// verdicts.
#[must_use]
pub fn comparison(reports: &[&Report], baseline: Option<usize>, evidence: bool) -> String {
    page_of(&compare(reports, baseline), reports, evidence)
}

/// As [`comparison`], for a comparison that was computed already, with what it allows to be lost.
#[must_use]
pub fn page_of(comparison: &Comparison, reports: &[&Report], evidence: bool) -> String {
    let data = if evidence { packed(reports) } else { vec![] };
    let title = format!("{} compared", plural(reports.len(), "implementation"));
    let body = html! {
        a.skip href="#matrix" { "Skip to the matrix" }
        main {
            (head(comparison, &title))
            (by_scenario(comparison))
            (bar())
            div.matrix-scroll tabindex="0" role="group" aria-label="Matrix" { (matrix(comparison)) }
            (legend(&[
                ("first divergence", "The first field in which the evidence of two cells differs, in the \
                    order of the request path. A field that a check names as the cause of its failure comes \
                    before all others."),
                ("regression", "The check passed in the baseline and does not pass now."),
                ("lost", "The check passed in the baseline and is now skipped, missing or an error. A lost check is a \
                    regression, unless --allow-lost names it."),
                ("fix", "The check did not pass in the baseline and passes now."),
            ]))
            (terms())
        }
        (dialog(comparison))
        noscript { p.banner {
            "Without JavaScript, this page shows every verdict. The query and the evidence need JavaScript. \
            The page and the JSON of each report contain the evidence too." } }
    };
    page::HtmlDocument { title, script: include_str!("assets/comparison.js"), body, data }.render()
}

fn packed(reports: &[&Report]) -> Vec<(String, String)> {
    let groups = aligned(reports);
    let blocks = parallel::map(groups.len(), |n| pack::group(&groups[n], &rows(&groups[n])));
    blocks.into_iter().enumerate().map(|(n, text)| (format!("block-{n}"), text)).collect()
}

fn head(comparison: &Comparison, title: &str) -> Markup {
    let total = comparison.rows().count();
    let differ = comparison.rows().filter(|(_, r)| r.differs).count();
    html! {
        header {
            p.kicker { "meshproof · comparison" }
            h1 { (title) }
            p {
                strong { (differ) } " of " (plural(total, "check")) " "
                    (if differ == 1 || total == 1 { "has" } else { "have" }) " different verdicts."
                @if comparison.baseline.is_some() {
                    " Compared with the baseline: "
                        strong { (plural(comparison.regressions(), "regression")) }
                    @let lost = comparison.lost().filter(|(_, _, l)| !l.allowed).count();
                    @if lost > 0 { ", of which " strong { (plural(lost, "lost check")) } }
                    ", "
                    strong { (plural(comparison.moved(Movement::Fix), "check")) } " fixed."
                }
            }
            ul.cards {
                @for (number, column) in comparison.columns.iter().enumerate() {
                    li class=(format!("card {}", class(column.verdict))) {
                        h3 {
                            @if let Some(page) = column.page.as_ref().filter(|p| is_local(p)) {
                                a href=(page) { (brief(&column.label(), 160)) }
                            } @else { (brief(&column.label(), 160)) }
                        }
                        p {
                            (badge(column.verdict)) " "
                            (asked(column.must_passed, column.must_asked, column.must_not_asked))
                            @if comparison.baseline == Some(number) { " · " strong { "baseline" } }
                        }
                        p.soft {
                            @if column.label.is_some() { (brief(&implementation(column), 120)) ", " }
                            "target " (brief(&column.target, 40)) ", run " (brief(&column.run, 40)) ", "
                            (brief(&column.started, 40)) ", query name " code { (brief(&column.key, 80)) } }
                    }
                }
            }
        }
    }
}

/// What the heading of a column does not say about the implementation: its version, and its name if the column has another label.
fn implementation(column: &Column) -> String {
    let named = column.label.as_ref().is_none_or(|label| *label == column.name);
    if named { column.variant() } else { format!("{} {}", column.name, column.variant()) }
}

/// The name of a column, and the implementation.
fn heading(column: &Column) -> Markup {
    html! {
        strong { (brief(column.label.as_ref().unwrap_or(&column.name), 60)) } " "
        (brief(&implementation(column), 80))
    }
}

/// Whether the address is one that [`crate::html::relative`] makes: never a scheme, so never a script.
fn is_local(address: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._~/%".contains(c);
    (address.starts_with("./") || address.starts_with("../")) && address.chars().all(plain)
}

/// How many MUST checks of each scenario passed, over all its configurations.
fn by_scenario(comparison: &Comparison) -> Markup {
    html! {
        details.part open {
            summary { h2 { "By scenario" } }
            div.scroll tabindex="0" role="group" aria-label="By scenario" {
                table.roll {
                    caption { "MUST checks that passed, of those that were asked" }
                    thead { tr { th scope="col" { "scenario" }
                        @for column in &comparison.columns { th scope="col" { (heading(column)) } } } }
                    tbody { @for scenario in comparison.by_scenario() { tr {
                        th scope="row" { (brief(&scenario.scenario, 100)) }
                        @for cell in &scenario.cells { td {
                            span class=(class(cell.verdict())) { (symbol(cell.verdict())) "\u{a0}" (cell.text()) }
                            @if cell.regressions > 0 { " " span.moved { (plural(cell.regressions, "regression")) } }
                            @if !cell.missing_features.is_empty() { span.soft.lack {
                                "lacks " (brief(&cell.missing_features.join(", "), 120)) } }
                        } }
                    } } }
                }
            }
        }
    }
}

fn bar() -> Markup {
    html! {
        section.bar #bar hidden aria-label="Query" {
            label { "Query " input #query type="search" autocomplete="off" spellcheck="false"
                placeholder="any:failed level:must" aria-describedby="query-help"; }
            label { input #all type="checkbox"; " Show checks without differences" }
            output #count {}
            p.problem #problem role="alert" {}
            details #query-help {
                summary { "How to query" }
                div.body {
                    p { "Separate terms with spaces; a check is shown if it matches all of them. "
                        code { "-" } " before a term excludes the checks that match it. Separate \
                        alternatives with " code { "|" } "." }
                    dl {
                        dt { code { "NAME:VERDICT" } }
                            dd { "The implementation has this verdict. NAME is the beginning of its name, or "
                            code { "any" } " or " code { "all" } ". VERDICT is " code { "passed" } ", "
                            code { "failed" } ", " code { "inconclusive" } ", " code { "error" } ", "
                            code { "skipped" } " or " code { "missing" } "." }
                        dt { code { "level:must" } } dd { "The level is must, should or may." }
                        dt { code { "scenario:gateway" } } dd {
                            "The name of the scenario contains this text." }
                        dt { code { "is:different" } } dd { "The verdicts differ. Also: "
                            code { "is:control" } ", " code { "is:regression" } ", " code { "is:lost" } ", "
                            code { "is:fix" } "." }
                        dt { "a word" } dd { "The name, requirement or section of the check contains this \
                            word." }
                    }
                }
            }
        }
    }
}

fn matrix(comparison: &Comparison) -> Markup {
    html! {
        table.matrix #matrix {
            caption { "Checks by implementation" }
            thead { tr {
                th scope="col" { "check" }
                @for column in &comparison.columns {
                    th scope="col" data-key=(brief(&column.key, 120)) { (heading(column)) }
                }
            } }
            @for (number, group) in comparison.scenarios.iter().enumerate() {
                (rows_of(number, group, comparison)) }
        }
    }
}

fn rows_of(number: usize, group: &Group, comparison: &Comparison) -> Markup {
    html! {
        tbody data-block=(number) data-scenario=(brief(&group.selector, 200)) {
            tr.group { th scope="rowgroup" colspan=(comparison.columns.len() + 1) {
                (brief(&group.selector, 200)) } }
            @for row in &group.rows { (one(row)) }
        }
    }
}

/// Kept small, because there may be ten thousand cells.
fn one(row: &Row) -> Markup {
    html! {
        tr data-d[row.differs] data-c[row.control] {
            th scope="row" { (level(row.level, false)) " " (brief(&row.name, 120))
                span.sr { ": " (brief(&row.requirement, 300)) " " (brief(&row.section, 120)) } }
            @for (column, cell) in row.cells.iter().enumerate() {
                @match (cell, row.lost_in(column)) {
                    (Some(cell), lost) => (verdict(cell, lost)),
                    // Text alone: only a cell with evidence can be opened.
                    (None, Some(lost)) => { td.missing title=(brief(&lost.reason, 300)) { "· " (lost_mark(lost)) } }
                    (None, None) => { td { "·" } }
                }
            }
        }
    }
}

const fn lost_mark(lost: &LostCheck) -> &'static str {
    if lost.allowed { "lost (allowed)" } else { "⊘ lost" }
}

fn verdict(cell: &Cell, lost: Option<&LostCheck>) -> Markup {
    html! {
        td class=(class(cell.verdict)) {
            button {
                (symbol(cell.verdict)) " " (cell.verdict)
                @if let Some(feature) = &cell.missing_feature { " " span.lack { "lacks " (brief(feature, 40)) } }
                @match (cell.movement, lost) {
                    (Some(Movement::Regression), _) => { " " span.moved { "▼ regression" } },
                    (Some(Movement::Fix), _) => { " " span.moved { "▲ fix" } },
                    (Some(Movement::Lost), Some(lost)) => { " " span.moved { (lost_mark(lost)) } },
                    (Some(Movement::Lost) | None, _) => {},
                }
            }
        }
    }
}

fn dialog(comparison: &Comparison) -> Markup {
    html! {
        dialog #cell aria-labelledby="cell-title" {
            div.top {
                h2 #cell-title {}
                label { "compared with " select #beside {
                    @for (n, column) in comparison.columns.iter().enumerate() {
                    option value=(n) { (brief(&column.label(), 120)) }
                } } }
                button #close type="button" { "Close (Esc)" }
            }
            div #sides {}
        }
        div #documents hidden { @for group in &comparison.scenarios {
            p { (link(&group.document.url, &group.document.title)) } } }
    }
}
