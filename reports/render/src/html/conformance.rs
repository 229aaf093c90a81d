//! The page of one report.

use std::collections::HashSet;

use maud::{Markup, html};
use meshproof_model::feature::ReportedFeature;

use super::causes::{self, Anchors};
use super::changes;
use super::check::{ScenarioView, check_id, full_id};
use super::parts::{anchor, badge, brief, class, command, legend, level, line, link, term, terms};
use super::{chart, outcomes, pack, page, request_path};
use crate::conclusion::{conclusion, needs_attention, promise, skips};
use crate::parallel;
use crate::text::{Micros, plural, symbol};
use meshproof_model::report::{CheckResult, Level, Report, ScenarioResult, Tally, Verdict, variants};

/// Renders the page of one report: the overall result, the failures, and every check with its evidence.
#[must_use]
pub fn html(report: &Report) -> String {
    let name = format!("{} {}", report.implementation.name, report.implementation.version);
    let anchors = anchors(report);
    let shown: HashSet<&str> =
        report.causes.iter().filter_map(|c| c.example()).map(|c| c.check.as_str()).collect();
    let views = parallel::map(report.scenarios.len(), |n| ScenarioView::of(n, &report.scenarios[n]));
    let rendered = parallel::map(views.len(), |n| section(&views[n], &shown));
    let passed = conclusion(report).verdict == Verdict::Passed;
    let body = html! {
        a.skip href="#failures" { "Skip to the failures" }
        main {
            (head(report, &name))
            (failures(report, &anchors))
            (about(report, &name))
            (filter())
            details.part open[passed] {
                summary { h2 { (scenarios_title(report)) } }
                (cards(report))
            }
            details.part #all-checks {
                summary { h2 { "Every check with its evidence" } }
                @for section in &rendered { (section) }
            }
            details.part {
                summary { h2 #time { "Time per scenario" } }
                section.time aria-labelledby="time" { (chart::chart(report)) }
            }
            (legend(&[]))
            (terms())
            (request_path::draw::key())
        }
        noscript { p.banner {
            "Without JavaScript, this page shows the causes, and every check with its verdict and reason. The evidence is \
            shown for one check per cause. The report.json file contains all of it." } }
    };
    let data = vec![("evidence".to_owned(), pack::report(&views, &shown))];
    page::HtmlDocument { title: name, script: include_str!("assets/conformance.js"), body, data }.render()
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

/// `Scenarios: 3 of 52 configurations did not pass`.
fn scenarios_title(report: &Report) -> String {
    let bad = report.scenarios.iter().filter(|s| match s.verdict() {
        Verdict::Failed | Verdict::Inconclusive | Verdict::Error => true,
        Verdict::Passed | Verdict::Skipped => false,
    });
    let all = report.scenarios.len();
    match bad.count() {
        0 => format!("Scenarios: none of {} failed", plural(all, "configuration")),
        bad => format!("Scenarios: {bad} of {} did not pass", plural(all, "configuration")),
    }
}

/// Whether the conclusion says something besides how many requirements were met and not met.
fn says_more(report: &Report) -> bool {
    let other = |check: &CheckResult| {
        check.expected_failure.is_some()
            || match check.verdict {
                Verdict::Skipped | Verdict::Error => true,
                Verdict::Passed | Verdict::Failed | Verdict::Inconclusive => false,
            }
    };
    let faults = report.scenarios.iter().any(|s| !s.faults.is_empty());
    faults || report.run.partial || report.checks().next().is_none() || report.checks().any(other)
}

fn section_id(number: usize, scenario: &ScenarioResult) -> String {
    anchor(&scenario.selector(), &format!("s{number}"))
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
                    (badge(conclusion.verdict)) " " span { strong { (line(&promise(report))) }
                        @if says_more(report) { br; span.terse { (line(&conclusion.sentence)) } } }
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
        }
    }
}

/// What only some readers need: below the failures.
fn about(report: &Report, name: &str) -> Markup {
    let run = &report.run;
    html! {
        section aria-label="About this run" {
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
            @if let Some(diagnosis) = &report.diagnosis { (causes::diagnosis(diagnosis)) }
            (causes::cards(report, anchors))
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

/// One card per scenario, with its configurations.
fn cards(report: &Report) -> Markup {
    let mut scenarios: Vec<(&str, Vec<(usize, &ScenarioResult)>)> = Vec::new();
    for (number, result) in report.scenarios.iter().enumerate() {
        match scenarios.iter_mut().find(|(id, _)| *id == result.id) {
            Some((_, known)) => known.push((number, result)),
            None => scenarios.push((&result.id, vec![(number, result)])),
        }
    }
    html! {
        nav #scenarios aria-label="Scenarios" {
            ul.cards {
                @for (id, configurations) in &scenarios {
                    @let worst = configurations.iter().map(|(_, s)| s.verdict()).max();
                    li class=(format!("card {}", class(worst.unwrap_or(Verdict::Skipped)))) {
                        h3 { (brief(id, 100)) }
                        @if let Some((_, first)) = configurations.first() { p { (brief(&first.title, 200)) } }
                        ul.counts { @for (number, result) in configurations { (configuration(*number, result)) } }
                    }
                }
            }
        }
    }
}

/// `✗ sidecar: 2 of 12 passed · 18.9 s`.
fn configuration(number: usize, result: &ScenarioResult) -> Markup {
    let tally = Tally::of(&result.checks, |_| true);
    let name = if result.configuration.is_empty() { &result.id } else { &result.configuration };
    let others = Verdict::ALL.into_iter().filter(|v| *v != Verdict::Passed && tally.count(*v) > 0);
    html! {
        li {
            span class=(class(result.verdict())) { (symbol(result.verdict())) } " "
            a href=(format!("#{}", section_id(number, result))) { (brief(name, 100)) } ": "
            (tally.count(Verdict::Passed)) " of " (tally.total()) " passed"
            @for verdict in others { ", " span class=(class(verdict)) { (tally.count(verdict)) " " (verdict) } }
            span.soft.took { " · " (Micros(result.timing.total_us)) }
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

/// The file with a scenario's story, as a link if it is known where its repository is.
fn story(repository: &str, source: &str) -> Markup {
    let repository = repository.trim_end_matches('/').trim_end_matches(".git");
    html! {
        @if repository.is_empty() { code { (brief(source, 200)) } }
        @else { (link(&format!("{repository}/blob/HEAD/{source}"), source)) }
    }
}

fn section(view: &ScenarioView<'_>, shown: &HashSet<&str>) -> Markup {
    let scenario = view.scenario;
    let is_example = |check: &CheckResult| shown.contains(full_id(scenario, check).as_str());
    html! {
        section.scenario id=(section_id(view.number, scenario)) data-number=(view.number) {
            h2 { (brief(&scenario.selector(), 300)) " " (badge(scenario.verdict())) }
            p { (line(&scenario.title)) ". Document: "
                (link(&scenario.document.url, &scenario.document.title)) "."
                @if let Some(source) = &scenario.source {
                    " Story: " (story(env!("CARGO_PKG_REPOSITORY"), source)) "." } }
            @if let Some(proves) = &scenario.proves {
                p { strong { "What it proves: " } (brief(proves, 1_500)) " " code { "meshproof explain " (brief(&scenario.id, 100)) }
                    " lists its checks." }
            }
            @for fault in &scenario.faults {
                p.fault {
                    (badge(Verdict::Error)) " " (line(&fault.message))
                    @if let Some(step) = &fault.step { span.soft { " (in step “" (line(step)) "”)" } }
                }
            }
            // A check that shows a cause has a picture of its own.
            @if let Some((check, picture)) = request_path::of_scenario(scenario, &view.index)
                .filter(|_| !scenario.checks.iter().any(is_example)) {
                figure {
                    div.scroll tabindex="0" role="group" aria-label="Request path" { (picture.draw()) }
                    figcaption { "Request path of " (brief(scenario.check_name(check), 200))
                        ", drawn from the evidence. " (request_path::draw::key_button()) }
                }
            }
            h3 { "Checks" }
            (outcomes::outcomes(view))
            @for (index, check) in scenario.checks.iter().enumerate() { (view.check(index, check, is_example(check))) }
            (changes::changes(view))
            (surroundings(scenario))
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

#[cfg(test)]
mod tests {
    use super::{says_more, scenarios_title, story};
    use meshproof_model::report::Verdict;
    use meshproof_model::sample;

    #[test]
    fn the_conclusion_is_shown_beside_the_promise_only_where_it_says_more() {
        let mut report = sample::passing();
        assert!(!says_more(&report));
        assert!(scenarios_title(&report).starts_with("Scenarios: none of "));
        report.scenarios[0].checks[0].verdict = Verdict::Failed;
        assert!(!says_more(&report));
        assert!(scenarios_title(&report).contains("configuration"));
        report.scenarios[0].checks[0].verdict = Verdict::Skipped;
        assert!(says_more(&report));
    }

    #[test]
    fn the_story_of_a_scenario_is_a_link_where_the_repository_is_known_and_text_elsewhere() {
        let source = "scenarios/src/credentials.rs";
        assert_eq!(story("", source).into_string(), "<code>scenarios/src/credentials.rs</code>");
        let linked = story("https://example.com/mesh/proof.git", source).into_string();
        assert!(
            linked.contains("href=\"https://example.com/mesh/proof/blob/HEAD/scenarios/src/credentials.rs\""),
            "{linked}"
        );
    }
}
