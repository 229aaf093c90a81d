//! The report as one HTML page: self-contained, without scripts, without a request to anywhere.
//!
//! Everything that is put in goes through [`maud`], which escapes it, and through [`visible`], which keeps hidden
//! characters from showing something else than is there. The Content-Security-Policy forbids what should not be there
//! in any case.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use crate::describe::{self, Row};
use crate::evidence::{Evidence, Fact, Hop};
use crate::report::{CheckResult, Report, ScenarioResult, Tally, Timing, Verdict};
use crate::visible::{self, clipped};
use crate::words::{LEVELS, Micros, conclusion, needs_a_look, symbol};

const STYLE: &str = include_str!("html.css");

/// Styles of its own and nothing else: no script, no image, no form, no frame, no base address, no connection
/// (Content Security Policy Level 3).
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'";

/// The longest text of one value, in characters; the report's JSON has it whole.
const MAX_VALUE: usize = 20_000;

/// Renders the page.
#[must_use]
pub fn html(report: &Report) -> String {
    let implementation = &report.implementation;
    let name = format!("{} {}", implementation.name, implementation.version);
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(POLICY);
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="referrer" content="no-referrer";
                title { (line(&name)) " – meshproof" }
                style { (PreEscaped(STYLE)) }
            }
            body {
                main {
                    (head(report, &name))
                    (overview(report))
                    @for (number, scenario) in report.scenarios.iter().enumerate() { (section(number, scenario)) }
                }
            }
        }
    };
    page.into_string()
}

/// Untrusted text for one line.
fn line(text: &str) -> String {
    clipped(&visible::line(text), MAX_VALUE).into_owned()
}

/// Untrusted text of several lines.
fn block(text: &str) -> Markup {
    html! { pre { (clipped(&visible::block(text), MAX_VALUE)) } }
}

const fn class(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Passed => "passed",
        Verdict::Failed => "failed",
        Verdict::Inconclusive => "inconclusive",
        Verdict::Error => "error",
        Verdict::Skipped => "skipped",
    }
}

fn badge(verdict: Verdict) -> Markup {
    html! { span class=(format!("verdict {}", class(verdict))) { (symbol(verdict)) " " (verdict) } }
}

/// A link where the address is one of the web, else the bare text: `javascript:` leads nowhere.
fn link(url: &str, text: &str) -> Markup {
    let web = url.starts_with("https://") || url.starts_with("http://");
    html! {
        @if web { a href=(url) rel="noreferrer noopener" { (line(text)) } }
        @else { (line(text)) " (" code { (line(url)) } ")" }
    }
}

fn head(report: &Report, name: &str) -> Markup {
    let run = &report.run;
    let conclusion = conclusion(report);
    html! {
        header {
            p.soft { "meshproof, a conformance report on" }
            h1 { (line(name)) }
            p class=(format!("conclusion {}", class(conclusion.verdict))) {
                (badge(conclusion.verdict)) span { (line(&conclusion.sentence)) }
            }
            @if run.partial {
                p.banner role="status" {
                    strong { "! Partial run. " }
                    (line(run.partial_reason.as_deref().unwrap_or("No reason was recorded."))) ". What is missing was not judged."
                }
            }
            (score(report))
            dl {
                dt { "target" } dd { (line(&report.implementation.target)) }
                @if !report.implementation.features.is_empty() {
                    dt { "declared features" } dd { (line(&report.implementation.features.join(", "))) }
                }
                @for (name, value) in &report.implementation.details { dt { (line(name)) } dd { (line(value)) } }
                dt { "run" } dd { (line(&run.id)) ", started " (line(&run.started)) ", took " (Micros(run.duration_us)) ", meshproof " (line(&run.meshproof)) }
                dt { "repeat" } dd { (block(&run.command)) }
            }
        }
    }
}

fn score(report: &Report) -> Markup {
    html! {
        table.score {
            thead { tr { th scope="col" { "level" } @for verdict in Verdict::ALL { th scope="col" class=(class(verdict)) { (symbol(verdict)) " " (verdict) } } } }
            tbody {
                @for level in LEVELS {
                    @let tally = Tally::of(report.checks(), |c| c.level == level);
                    tr {
                        th scope="row" { (level) }
                        @for verdict in Verdict::ALL {
                            @let count = tally.count(verdict);
                            td class=(if count == 0 { "zero" } else { class(verdict) }) { (count) }
                        }
                    }
                }
            }
        }
    }
}

fn overview(report: &Report) -> Markup {
    html! {
        nav aria-label="Scenarios" {
            h3 { "Scenarios" }
            ul {
                @for (number, scenario) in report.scenarios.iter().enumerate() {
                    li { a href=(format!("#s{number}")) { (line(&scenario.selector())) } " " (badge(scenario.verdict())) }
                }
            }
        }
    }
}

fn section(number: usize, scenario: &ScenarioResult) -> Markup {
    html! {
        section id=(format!("s{number}")) {
            h2 { (line(&scenario.selector())) " " (badge(scenario.verdict())) }
            p { (line(&scenario.title)) }
            p.soft { "From " (link(&scenario.document.url, &scenario.document.title)) }
            @if !scenario.faults.is_empty() {
                h3 { "Faults of the environment or the suite" }
                ul { @for fault in &scenario.faults {
                    li { (line(&fault.message)) @if let Some(step) = &fault.step { span.soft { " (in step \"" (line(step)) "\")" } } }
                } }
            }
            (table(number, scenario))
            h3 { "What the checks rest on" }
            @for (index, check) in scenario.checks.iter().enumerate() { (details(number, index, scenario, check)) }
            @if !scenario.external_services.is_empty() {
                h3 { "External services" }
                ul { @for service in &scenario.external_services {
                    li { (line(&service.host)) ": " (line(&service.version)) " (" (line(&service.kind)) ")" }
                } }
            }
            @if !scenario.steps.is_empty() {
                h3 { "Steps" }
                ol { @for step in &scenario.steps { li { (line(&step.title)) span.soft { " at " (Micros(step.at_us)) } } } }
            }
            h3 { "Where the time went" }
            (timing(&scenario.timing))
        }
    }
}

fn table(number: usize, scenario: &ScenarioResult) -> Markup {
    html! {
        table.checks {
            thead { tr { th scope="col" { "check" } th scope="col" { "level" } th scope="col" { "verdict" } th scope="col" { "reason" } } }
            tbody {
                @for (index, check) in scenario.checks.iter().enumerate() {
                    tr {
                        td { a href=(format!("#s{number}c{index}")) { (line(short(scenario, check))) } }
                        td.level { (check.level) @if check.control { span.soft { " control" } } }
                        td.v { (badge(check.verdict)) }
                        td { (clipped(&visible::line(&check.reason), 300)) }
                    }
                }
            }
        }
    }
}

/// The check's name within its scenario.
fn short<'c>(scenario: &ScenarioResult, check: &'c CheckResult) -> &'c str {
    check.id.strip_prefix(scenario.id.as_str()).and_then(|rest| rest.strip_prefix('/')).unwrap_or(&check.id)
}

fn details(number: usize, index: usize, scenario: &ScenarioResult, check: &CheckResult) -> Markup {
    html! {
        details id=(format!("s{number}c{index}")) open[needs_a_look(check)] {
            summary { (badge(check.verdict)) " " (line(&check.id)) " " span.soft { (check.level) } }
            div {
                dl {
                    dt { "requirement" } dd { (line(&check.requirement)) }
                    dt { "document" } dd { (link(&scenario.document.url, &scenario.document.title)) ", “" (line(&check.section)) "”" }
                    dt { "reason" } dd { (line(&check.reason)) }
                    dt { "expected" } dd { (line(&check.expected)) }
                    dt { "seen" } dd { (line(&check.seen)) }
                    @if let Some(feature) = &check.feature { dt { "needs feature" } dd { (line(feature)) } }
                    @if let Some((piece, _)) = scenario.last_change(check) {
                        dt { "last change" } dd { (line(&describe::headline(&piece.fact))) }
                    }
                    dt { "repeat" } dd { (block(&check.repeat)) }
                }
                @for id in &check.evidence {
                    @match scenario.evidence(id) {
                        Some(piece) => (evidence(scenario, piece)),
                        None => p.soft { "Evidence " (line(&id.0)) " is not in the report." },
                    }
                }
                @if needs_a_look(check) && let Some((piece, _)) = scenario.last_change(check) && !check.evidence.contains(&piece.id) {
                    (evidence(scenario, piece))
                }
            }
        }
    }
}

fn evidence(scenario: &ScenarioResult, piece: &Evidence) -> Markup {
    let step = scenario.steps.get(piece.step).map(|s| s.title.as_str());
    html! {
        details {
            summary {
                strong { (clipped(&visible::line(&describe::side(&piece.side)), 200)) } " "
                (clipped(&visible::line(&describe::headline(&piece.fact)), 400))
            }
            div {
                p.soft {
                    (line(&piece.id.0)) ", at " (Micros(piece.at_us))
                    @if let Some(step) = step { ", in step \"" (line(step)) "\"" }
                    @if let Some(token) = &piece.token { ", token " code { (line(token)) } }
                }
                @match &piece.fact {
                    Fact::Exchange(exchange) => {
                        @for (number, hop) in exchange.hops.iter().enumerate() { (hop_markup(number + 1, hop)) }
                    },
                    Fact::Note { text } => (block(text)),
                    Fact::AccessLog(_) | Fact::Connection(_) | Fact::Request(_) | Fact::Change(_) | Fact::Credential(_) => (rows(describe::rows(&piece.fact))),
                }
            }
        }
    }
}

fn hop_markup(number: usize, hop: &Hop) -> Markup {
    html! {
        h3 { "Request " (number) ": " (line(&hop.method)) " " (line(&hop.url)) }
        p { "gave " (line(&describe::result(&hop.result))) }
        (rows(describe::hop_rows(hop)))
    }
}

fn rows(rows: Vec<Row>) -> Markup {
    html! { dl { @for (label, value) in rows { dt { (label) } dd { (block(&value)) } } } }
}

fn timing(timing: &Timing) -> Markup {
    let parts = [
        ("setup", timing.setup_us),
        ("convergence", timing.convergence_us),
        ("requests", timing.requests_us),
        ("teardown", timing.teardown_us),
        ("total", timing.total_us),
    ];
    html! { ul.timing { @for (name, us) in parts { li { span.soft { (name) } " " (Micros(us)) } } } }
}

#[cfg(test)]
pub(crate) mod tests;
