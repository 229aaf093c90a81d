//! The page of one report.

use std::collections::HashSet;

use maud::{Markup, html};
use meshproof_model::feature::ReportedFeature;

use super::causes::{self, Anchors};
use super::manifests::{self, ChangeKind, ChangeView, DiffLine};
use super::parts::{anchor, badge, brief, class, command, legend, level, line, link, term, terms};
use super::{chart, pack, page, request_path, timeline};
use crate::check_evidence::EvidenceIndex;
use crate::conclusion::{conclusion, needs_attention, skips};
use crate::evidence_text;
use crate::parallel;
use crate::text::{Micros, plural, symbol};
use meshproof_model::report::{CheckResult, Level, Report, ScenarioResult, Tally, Verdict, variants};

/// How many lines of one manifest's difference are shown. The packed evidence has the whole manifest.
const MAX_LINES: usize = 24;

/// How much of a reason is shown, in characters. The report's JSON has the whole text.
const MAX_TEXT: usize = 2_500;

/// Renders the page of one report: the overall result, the failures, and every check with its evidence.
#[must_use]
pub fn html(report: &Report) -> String {
    let name = format!("{} {}", report.implementation.name, report.implementation.version);
    let anchors = anchors(report);
    let shown: HashSet<&str> =
        report.causes.iter().filter_map(|c| c.example()).map(|c| c.check.as_str()).collect();
    let rendered = rendered(report, &shown);
    let passed = conclusion(report).verdict == Verdict::Passed;
    let body = html! {
        a.skip href="#failures" { "Skip to the failures" }
        main {
            (head(report, &name))
            (failures(report, &anchors))
            (filter())
            details.part open[passed] {
                summary { h2 { (scenarios_title(report)) } }
                (cards(report))
            }
            details.part #all-checks {
                summary { h2 { "Every check with its evidence" } }
                @for (markup, _) in &rendered { (markup) }
            }
            details.part {
                summary { h2 #time { "Time per scenario" } }
                section.time aria-labelledby="time" { (chart::chart(report)) }
            }
            (legend(&[]))
            (terms())
        }
        noscript { p.banner {
            "Without JavaScript, this page shows everything except the details of each piece of evidence. \
            The report.json file contains them." } }
    };
    let data =
        rendered.into_iter().enumerate().map(|(n, (_, packed))| (format!("block-{n}"), packed)).collect();
    page::HtmlDocument { title: name, script: include_str!("assets/conformance.js"), body, data }.render()
}

/// The sections with their packed evidence, rendered in parallel.
fn rendered(report: &Report, shown: &HashSet<&str>) -> Vec<(Markup, String)> {
    parallel::map(report.scenarios.len(), |n| {
        (section(n, &report.scenarios[n], shown), pack::scenario(&report.scenarios[n]))
    })
}

fn full_id(scenario: &ScenarioResult, check: &CheckResult) -> String {
    format!("{}/{}", scenario.selector(), scenario.check_name(check))
}

fn anchors(report: &Report) -> Anchors<'_> {
    let all = report.scenarios.iter().enumerate().flat_map(|(n, s)| {
        s.checks.iter().enumerate().map(move |(i, c)| (full_id(s, c), (check_id(n, i, s, c), c)))
    });
    // Of two checks with one id, the first is the one that a link finds.
    let mut anchors = Anchors::new();
    for (id, found) in all {
        anchors.entry(id).or_insert(found);
    }
    anchors
}

/// `Scenarios: 3 of 52 did not pass`.
fn scenarios_title(report: &Report) -> String {
    let bad = report.scenarios.iter().filter(|s| match s.verdict() {
        Verdict::Failed | Verdict::Inconclusive | Verdict::Error => true,
        Verdict::Passed | Verdict::Skipped => false,
    });
    format!("Scenarios: {} of {} did not pass", bad.count(), report.scenarios.len())
}

fn section_id(number: usize, scenario: &ScenarioResult) -> String {
    anchor(&scenario.selector(), &format!("s{number}"))
}

fn check_id(number: usize, index: usize, scenario: &ScenarioResult, check: &CheckResult) -> String {
    anchor(&format!("{}/{}", scenario.selector(), scenario.check_name(check)), &format!("s{number}c{index}"))
}

fn head(report: &Report, name: &str) -> Markup {
    let run = &report.run;
    let conclusion = conclusion(report);
    html! {
        header {
            p.kicker { "meshproof · conformance report" }
            h1 { (line(name)) }
            p.soft {
                "target " (brief(&report.implementation.target, 60))
                @for (name, value) in variants(&report.implementation.details) { " · " (brief(name, 60)) " "
                    strong { (brief(value, 120)) } }
                " · " (brief(&run.started, 40)) " · " (Micros(run.duration_us))
            }
            div.verdict-row {
                p class=(format!("conclusion {}", class(conclusion.verdict))) {
                    (badge(conclusion.verdict)) " " span { (line(&conclusion.sentence)) }
                }
                (score(report))
            }
            @if run.partial {
                p.banner role="status" {
                    strong { "! Partial run. " }
                    "The run stopped early ("
                        (line(run.partial_reason.as_deref().unwrap_or("no reason was recorded")))
                        "). Checks that are missing here were not judged."
                }
            }
            details.about {
                summary { "About this run" }
                dl {
                    dt { (term("implementation", "implementation")) } dd { (line(name)) }
                    dt { "target" } dd { (line(&report.implementation.target)) }
                    @if !report.implementation.features.is_empty() {
                        dt { "declared features" } dd { (line(&ReportedFeature::list(&report.implementation.features))) }
                    }
                    @for (name, value) in &report.implementation.details { dt { (line(name)) }
                        dd { (line(value)) } }
                    dt { "run" } dd { (line(&run.id)) ", started " (line(&run.started)) ", took "
                        (Micros(run.duration_us)) }
                    dt { "meshproof" } dd { (line(&run.meshproof)) }
                }
            }
            p.repeat-label { "Repeat the whole run:" }
            (command(&run.command))
        }
    }
}

fn score(report: &Report) -> Markup {
    html! {
        table.score {
            caption { "Checks by level and verdict" }
            thead { tr { th scope="col" { "level" } @for verdict in Verdict::ALL {
                th scope="col" class=(class(verdict)) { (symbol(verdict)) " "
                    (term(&verdict.to_string(), &verdict.to_string())) }
            } } }
            tbody {
                @for level in Level::ALL {
                    @let tally = Tally::of(report.checks(), |c| c.level == level);
                    tr {
                        th scope="row" { (term(&level.to_string(), &level.to_string())) }
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

/// Every check that needs attention, with its reason and a link to it.
fn failures(report: &Report, anchors: &Anchors<'_>) -> Markup {
    let all = || {
        report.scenarios.iter().enumerate().flat_map(|(n, s)| {
            s.checks
                .iter()
                .enumerate()
                .filter(|(_, c)| needs_attention(c) || c.fails_run())
                .map(move |(i, c)| (n, i, s, c))
        })
    };
    let (expected, unexpected): (Vec<_>, Vec<_>) = all().partition(|(_, _, _, c)| c.failed_as_expected());
    let faults: usize = report.scenarios.iter().map(|s| s.faults.len()).sum();
    html! {
        section.looks #failures aria-labelledby="failures-title" {
            h2 #failures-title { "Failures" }
            @if report.run.partial { p.fault { (badge(Verdict::Error)) " " (stopped_early(report)) } }
            @else if unexpected.is_empty() && faults == 0 { p {
                @if judged(report) == 0 { "No check was judged." }
                    @else { "None. No check failed, and no environment or suite error occurred." }
            } }
            (causes::cards(report, anchors))
            @if let Some(diagnosis) = &report.diagnosis { (causes::diagnosis(diagnosis)) }
            @let others: Vec<_> = unexpected.into_iter().filter(|(_, _, _, c)| match c.verdict {
                Verdict::Failed | Verdict::Inconclusive => false,
                Verdict::Passed | Verdict::Skipped | Verdict::Error => true,
            }).collect();
            @if !others.is_empty() { (list(&others)) }
            @if !expected.is_empty() {
                details { summary { (plural(expected.len(), "expected failure")) } (list(&expected)) }
            }
            @for scenario in &report.scenarios { @for fault in &scenario.faults {
                p.fault { (badge(Verdict::Error)) " in " (line(&scenario.selector())) ": "
                    (brief(&fault.message, 1_000)) }
            } }
            @let skips = skips(report);
            @if !skips.is_empty() {
                details { summary { "Checks that were skipped, by reason" }
                    ul.skips { @for reason in &skips { li { (brief(reason, 700)) } } } }
            }
        }
    }
}

fn judged(report: &Report) -> usize {
    let all = Tally::of(report.checks(), |_| true);
    all.total() - all.count(Verdict::Skipped)
}

/// How many checks of a partial run were judged, and how many were not.
fn stopped_early(report: &Report) -> String {
    let (judged, total) = (judged(report), report.checks().count());
    let why = report.run.partial_reason.as_deref().unwrap_or("no reason was recorded");
    let left = match total - judged {
        0 => "Checks that are missing from the report were not judged.".to_owned(),
        1 => "1 check was not judged.".to_owned(),
        n => format!("{n} checks were not judged."),
    };
    format!("The run stopped early ({}): {judged} of {} judged. {left}", line(why), plural(total, "check"))
}

fn list(checks: &[(usize, usize, &ScenarioResult, &CheckResult)]) -> Markup {
    html! {
        ol.failures {
            @for (number, index, scenario, check) in checks {
                li {
                    p {
                        (badge(check.verdict)) " " (level(check.level, check.control)) " "
                        a href=(format!("#{}", check_id(*number, *index, scenario, check))) {
                            (brief(&scenario.selector(), 200)) "/" wbr;
                                (brief(scenario.check_name(check), 200))
                        }
                        @if check.fails_run() && check.verdict == Verdict::Passed { " (expected to fail)" }
                    }
                    p { (brief(&check.reason, 700)) }
                }
            }
        }
    }
}

fn cards(report: &Report) -> Markup {
    html! {
        nav aria-labelledby="scenarios" {
            h2 #scenarios { (term("scenario", "Scenarios")) }
            ul.cards {
                @for (number, scenario) in report.scenarios.iter().enumerate() {
                    @let tally = Tally::of(&scenario.checks, |_| true);
                    li class=(format!("card {}", class(scenario.verdict()))) {
                        h3 { a href=(format!("#{}", section_id(number, scenario))) {
                            (brief(&scenario.id, 100)) @if !scenario.configuration.is_empty() { ":" wbr;
                                (brief(&scenario.configuration, 100)) }
                        } }
                        p { (brief(&scenario.title, 200)) span.soft.took { " · "
                            (Micros(scenario.timing.total_us)) } }
                        p.counts {
                            (badge(scenario.verdict())) " "
                            @for verdict in Verdict::ALL { @if tally.count(verdict) > 0 {
                                span class=(class(verdict)) { (symbol(verdict)) " " (tally.count(verdict)) " "
                                    (verdict) } " "
                            } }
                        }
                    }
                }
            }
        }
    }
}

/// Needs the page's script, and stays hidden without it.
fn filter() -> Markup {
    html! {
        section.filter #filter hidden aria-label="Filter" {
            label { "Search " input #search type="search" placeholder="check, requirement, reason"
                autocomplete="off"; }
            label { "Verdict " select #verdict {
                option value="" { "all" }
                option value="attention" { "needs attention" }
                @for verdict in Verdict::ALL { option value=(verdict) { (verdict) } }
            } }
            label { "Level " select #level {
                option value="" { "all" }
                @for level in Level::ALL { option value=(level) { (level) } }
            } }
            button #unfold type="button" { "Expand all" }
            output #count {}
        }
    }
}

fn section(number: usize, scenario: &ScenarioResult, shown: &HashSet<&str>) -> Markup {
    let evidence_index = EvidenceIndex::of(scenario);
    let history = manifests::history(scenario);
    html! {
        section.scenario id=(section_id(number, scenario)) {
            h2 { (brief(&scenario.selector(), 300)) " " (badge(scenario.verdict())) }
            p { (line(&scenario.title)) ". Document: "
                (link(&scenario.document.url, &scenario.document.title)) "." }
            @for fault in &scenario.faults {
                p.fault {
                    (badge(Verdict::Error)) " " (line(&fault.message))
                    @if let Some(step) = &fault.step { span.soft { " (in step “" (line(step)) "”)" } }
                }
            }
            // A check that shows a cause has a picture of its own.
            @let has_example = scenario.checks.iter().any(|c| shown.contains(full_id(scenario, c).as_str()));
            @if let Some((check, picture)) =
                request_path::of_scenario(scenario, &evidence_index).filter(|_| !has_example) {
                figure {
                    div.scroll tabindex="0" role="group" aria-label="Request path" { (picture.draw()) }
                    figcaption { "Request path of " (brief(scenario.check_name(check), 200))
                        ", drawn from the evidence" (request_path::draw::key()) }
                }
            }
            h3 { "Checks" }
            @for (index, check) in scenario.checks.iter().enumerate() {
                (one(Place { number, index }, scenario, &evidence_index, &history, check, shown)) }
            (changes(number, scenario, &history))
            (surroundings(scenario))
        }
    }
}

/// The last configuration change before the evidence of a check.
fn last_change<'h, 'r>(
    scenario: &ScenarioResult,
    evidence_index: &EvidenceIndex<'_>,
    history: &'h [ChangeView<'r>],
    check: &CheckResult,
) -> Option<(usize, &'h ChangeView<'r>)> {
    let (piece, _) = scenario.last_change(check)?;
    let index = evidence_index.index(&piece.id)?;
    history.iter().enumerate().find(|(_, view)| view.index == index)
}

/// Where a check is in the report.
#[derive(Clone, Copy)]
struct Place {
    /// The scenario.
    number: usize,
    /// The check in it.
    index: usize,
}

/// How many pieces of evidence a check shows that is not the example of a cause. More would make the page too large.
const MAX_PIECES: usize = 6;

fn one(
    Place { number, index }: Place,
    scenario: &ScenarioResult,
    evidence_index: &EvidenceIndex<'_>,
    history: &[ChangeView<'_>],
    check: &CheckResult,
    shown: &HashSet<&str>,
) -> Markup {
    let is_example = shown.contains(full_id(scenario, check).as_str());
    let most = match (is_example, needs_attention(check)) {
        (true, _) => usize::MAX,
        (false, true) => MAX_PIECES,
        (false, false) => MAX_PIECES / 2,
    };
    let longest = if is_example { MAX_TEXT } else { MAX_TEXT / 3 };
    let selected = evidence_index.of_check(check);
    let attention = needs_attention(check) || check.fails_run();
    html! {
        details.check id=(check_id(number, index, scenario, check)) data-verdict=(check.verdict)
            data-level=(check.level) open[is_example] {
            summary {
                (badge(check.verdict)) " " strong { (brief(scenario.check_name(check), 200)) } " "
                    (level(check.level, check.control))
                @if check.failed_as_expected() { " " span.soft { "as expected" } }
                span.why { (brief(&check.requirement, 240)) }
            }
            div.body {
                p class=(format!("reason {}", class(check.verdict))) {
                    strong { (symbol(check.verdict)) " Reason: " } (brief(&check.reason, longest)) }
                dl {
                    dt { "requirement" } dd { (line(&check.requirement)) }
                    dt { "document" } dd { (link(&scenario.document.url, &scenario.document.title)) ", “"
                        (line(&check.section)) "”" }
                    @if check.verdict == Verdict::Skipped {
                        dt { "expected" } dd { (line(&check.expected)) }
                        dt { "seen" } dd { (line(&check.seen)) }
                    } @else {
                        dt { "✓ expected" } dd.want { (line(&check.expected)) }
                        // The reason of a check that passed is what was seen.
                        @if attention { dt { "✗ seen" } dd.got { (brief(&check.seen, longest)) } }
                    }
                    @if let Some(expected) = &check.expected_failure {
                        dt { (term("expected failure", "expected failure")) }
                        dd { (line(&expected.reason)) @if let Some(until) = &expected.until { " (until "
                            (line(until)) ")" } }
                    }
                    @if let Some(feature) = &check.feature { dt { "requires feature" }
                        dd { (line(feature.name())) } }
                    @match last_change(scenario, evidence_index, history, check) {
                        Some((at, view)) => {
                            dt { "last change" } dd { a href=(format!("#change-{number}-{at}")) {
                                (brief(&evidence_text::headline(&scenario.evidence[view.index].fact), 160)) } }
                            @if is_example {
                                dt { "in force" } dd { @if view.in_force.is_empty() { "nothing" }
                                    (brief(&view.in_force.join(", "), 1_000)) }
                            }
                        }
                        None => { dt { "last change" } dd { "none before this evidence was recorded" } }
                    }
                }
                h4 { (term("evidence", "Evidence")) }
                @if is_example {
                    @let picture = request_path::of_check(scenario, evidence_index, check);
                    @if !picture.is_empty() { div.scroll tabindex="0" role="group"
                        aria-label="Request path" { (picture.draw()) } }
                }
                (timeline::timeline(number, scenario, check, &selected, most))
                h4 { "Repeat this check" }
                (command(&check.repeat))
            }
        }
    }
}

/// What each change did to the manifests, step by step.
fn changes(number: usize, scenario: &ScenarioResult, history: &[ChangeView<'_>]) -> Markup {
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
            details.change id=(format!("change-{number}-{at}")) {
                summary { (brief(&evidence_text::headline(&scenario.evidence[view.index].fact), 400)) }
                div.body {
                    @for item in &view.items {
                        p { strong { (kind(item.kind)) } " " (line(&item.name)) }
                        @if !item.lines.is_empty() { (lines(&item.lines)) }
                    }
                    @if let Some(refused) = &view.change.refused { p.fault { "Rejected: " (line(refused)) } }
                    p.soft { "In force after this change: " @if view.in_force.is_empty() { "nothing" }
                        (brief(&view.in_force.join(", "), 2_000)) }
                }
            }
        }
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

fn lines(lines: &[(DiffLine, String)]) -> Markup {
    html! {
        div.diff tabindex="0" role="group" aria-label="Difference" {
            @for (mark, text) in lines.iter().take(MAX_LINES) {
                @match mark {
                    DiffLine::Same => code { "  " (line(text)) },
                    DiffLine::Added => code.added { "+ " (line(text)) },
                    DiffLine::Removed => code.removed { "− " (line(text)) },
                    DiffLine::Gap => code.gap { (text) },
                }
            }
            @if lines.len() > MAX_LINES { code.gap { "… " (lines.len() - MAX_LINES) " more lines" } }
        }
    }
}

fn surroundings(scenario: &ScenarioResult) -> Markup {
    html! {
        details.about {
            summary { "External services, steps and time" }
            div.body {
                @if !scenario.external_services.is_empty() {
                    h4 { (term("external service", "External services")) }
                    ul { @for service in &scenario.external_services {
                        li { (line(&service.host)) ": " (line(&service.version)) " (" (line(&service.kind))
                            ")" }
                    } }
                }
                @if !scenario.steps.is_empty() {
                    h4 { "Steps" }
                    ol { @for step in &scenario.steps { li { (line(&step.title))
                        span.soft { " at " (Micros(step.at_us)) } } } }
                }
                h4 { "Time" }
                dl {
                    @for (name, us, what) in chart::parts(&scenario.timing) { dt { (name) }
                        dd { (Micros(us)) span.soft { ", " (what) } } }
                    dt { "total" } dd { (Micros(scenario.timing.total_us)) }
                }
            }
        }
    }
}
