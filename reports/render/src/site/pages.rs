//! The pages of the site.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use maud::{Markup, html};

use super::{SiteCheck, SiteFile, SiteReport, SiteScenario};
use crate::compare::slug;
use crate::formats::badge;
use crate::html::{brief_of as brief, document, legend_of, line_of as line, link_of, verdict_of};
use crate::text::{asked, plural, symbol};
use meshproof_model::report::{Level, Verdict};

/// All pages and badges.
pub(super) fn all(reports: &[SiteReport]) -> Vec<SiteFile> {
    let histories = histories(reports);
    let columns = columns(&histories);
    let mut files = vec![
        SiteFile { path: "index.html".to_owned(), content: index(&histories, &columns) },
        SiteFile { path: "requirements.html".to_owned(), content: requirements(&columns) },
    ];
    for (name, history) in &histories {
        let Some(latest) = history.last() else { continue };
        let slug = slug(name);
        files.push(SiteFile {
            path: format!("implementations/{slug}.html"),
            content: implementation(name, history),
        });
        let badge = badge::draw(latest.verdict, &latest.badge);
        files.push(SiteFile { path: format!("badges/{slug}.svg"), content: badge });
    }
    files
}

/// Compares version numbers as people do: 1.9 comes before 1.10.
fn by_version(a: &str, b: &str) -> Ordering {
    let parts = |text: &str| -> Vec<(u64, String)> {
        text.split(['.', '-', '+', ' '])
            .map(|part| {
                let digits: String = part.chars().take_while(char::is_ascii_digit).collect();
                (digits.parse().unwrap_or(0), part[digits.len()..].to_owned())
            })
            .collect()
    };
    parts(a).cmp(&parts(b))
}

/// The reports of each implementation, oldest version first, and within a version the oldest run first.
fn histories(reports: &[SiteReport]) -> BTreeMap<&str, Vec<&SiteReport>> {
    let mut histories: BTreeMap<&str, Vec<&SiteReport>> = BTreeMap::new();
    for report in reports {
        histories.entry(&report.implementation).or_default().push(report);
    }
    for history in histories.values_mut() {
        history.sort_by(|a, b| {
            by_version(&a.version, &b.version).then_with(|| (&a.started, &a.run).cmp(&(&b.started, &b.run)))
        });
    }
    histories
}

/// The latest report of each version of each implementation.
fn columns<'r>(histories: &BTreeMap<&str, Vec<&'r SiteReport>>) -> Vec<&'r SiteReport> {
    let mut columns: Vec<&SiteReport> = Vec::new();
    for report in histories.values().flatten() {
        match columns.last_mut() {
            Some(last) if last.implementation == report.implementation && last.version == report.version => {
                *last = report;
            }
            Some(_) | None => columns.push(report),
        }
    }
    columns
}

/// The MUST checks of one scenario in one report, over all its configurations.
#[derive(Default)]
struct Count {
    passed: usize,
    asked: usize,
    not_asked: usize,
}

impl Count {
    fn of<'c>(checks: impl Iterator<Item = &'c SiteCheck>) -> Self {
        let mut count = Self::default();
        for check in checks.filter(|c| c.level == Level::Must) {
            match check.verdict {
                Verdict::Passed => {
                    count.passed += 1;
                    count.asked += 1;
                }
                Verdict::Failed | Verdict::Inconclusive | Verdict::Error => count.asked += 1,
                Verdict::Skipped => count.not_asked += 1,
            }
        }
        count
    }

    const fn verdict(&self) -> Verdict {
        match (self.asked, self.passed) {
            (0, _) => Verdict::Skipped,
            (asked, passed) if asked == passed => Verdict::Passed,
            _ => Verdict::Failed,
        }
    }

    fn cell(&self) -> Markup {
        let verdict = self.verdict();
        let text = match (self.asked, self.not_asked) {
            (0, 0) => "no MUST check".to_owned(),
            (0, n) => format!("{n} not asked"),
            (asked, 0) => format!("{}/{asked}", self.passed),
            (asked, n) => format!("{}/{asked}, {n} not asked", self.passed),
        };
        html! { span class=(verdict) { (symbol(verdict)) " " (text) } }
    }
}

/// The scenarios of all columns in the order of their first appearance, each with its title.
fn scenarios<'r>(columns: &[&'r SiteReport]) -> Vec<(&'r str, &'r SiteScenario)> {
    let mut found: Vec<(&str, &SiteScenario)> = Vec::new();
    for scenario in columns.iter().flat_map(|c| &c.scenarios) {
        let id = id_of(&scenario.selector);
        if found.iter().all(|(known, _)| *known != id) {
            found.push((id, scenario));
        }
    }
    found
}

fn id_of(selector: &str) -> &str {
    selector.split(':').next().unwrap_or(selector)
}

fn header(title: &str, up: &str) -> Markup {
    html! {
        header {
            p.kicker { "meshproof · " a href=(format!("{up}index.html")) { "implementations" } " · "
                a href=(format!("{up}requirements.html")) { "requirements" } }
            h1 { (line(title)) }
        }
    }
}

fn column_head(column: &SiteReport, up: &str) -> Markup {
    html! {
        th scope="col" {
            a href=(format!("{up}implementations/{}.html", slug(&column.implementation))) {
                strong { (brief(&column.implementation, 60)) } }
            " " (brief(&column.version, 40))
        }
    }
}

fn index(histories: &BTreeMap<&str, Vec<&SiteReport>>, columns: &[&SiteReport]) -> String {
    let title = "Who does what the documents promise?";
    let body = html! {
        main {
            (header(title, "./"))
            p { (plural(histories.len(), "implementation")) " in " (plural(columns.len(), "version"))
                ". A cell says how many MUST checks of the scenario passed, of those that were asked. Click it to see the \
                evidence." }
            ul.cards {
                @for (name, history) in histories {
                    @if let Some(latest) = history.last() {
                        li class=(format!("card {}", latest.verdict)) {
                            h3 { a href=(format!("./implementations/{}.html", slug(name))) { (brief(name, 80)) }
                                " " (brief(&latest.version, 40)) }
                            p { (verdict_of(latest.verdict)) " "
                                (asked(latest.must_passed, latest.must_asked, latest.must_not_asked)) }
                            p.soft { (brief(&latest.started, 40)) }
                        }
                    }
                }
            }
            h2 { "By scenario" }
            div.matrix-scroll tabindex="0" role="group" aria-label="Matrix" {
                table.matrix {
                    thead { tr { th scope="col" { "scenario" }
                        @for column in columns { (column_head(column, "./")) } } }
                    tbody {
                        @for (id, scenario) in scenarios(columns) {
                            tr {
                                th scope="row" { a href=(format!("./requirements.html#{}", slug(id))) { (brief(id, 80)) }
                                    " " span.soft { (brief(&scenario.title, 160)) } }
                                @for column in columns { (scenario_cell(column, id)) }
                            }
                        }
                    }
                }
            }
            (legend_of())
        }
    };
    document(title.to_owned(), body)
}

fn scenario_cell(column: &SiteReport, id: &str) -> Markup {
    let own: Vec<&SiteScenario> = column.scenarios.iter().filter(|s| id_of(&s.selector) == id).collect();
    let checks = || own.iter().flat_map(|s| &s.checks);
    let count = Count::of(checks());
    let worst = checks().max_by_key(|c| c.verdict);
    html! {
        td class=(count.verdict()) {
            @match worst {
                Some(check) => a href=(evidence(column, check, "./")) { (count.cell()) },
                None => span.soft { "· not in this report" },
            }
        }
    }
}

/// The address of a check's evidence.
fn evidence(report: &SiteReport, check: &SiteCheck, up: &str) -> String {
    format!("{up}{}/{}#{}", report.folder(), SiteReport::PAGE, check.anchor)
}

fn requirements(columns: &[&SiteReport]) -> String {
    let title = "Requirements";
    let body = html! {
        main {
            (header(title, "./"))
            p { "One row per check of a scenario's configuration. Click a verdict to see its evidence." }
            @for (id, scenario) in scenarios(columns) {
                details.part id=(slug(id)) open {
                    summary { h2 { (brief(id, 80)) } }
                    p { (line(&scenario.title)) ". Document: "
                        (link_of(&scenario.document.url, &scenario.document.title)) "." }
                    div.matrix-scroll tabindex="0" role="group" aria-label=(brief(id, 80)) {
                        table.matrix {
                            thead { tr { th scope="col" { "check" }
                                @for column in columns { (column_head(column, "./")) } } }
                            @for (selector, names) in rows(columns, id) {
                                tbody {
                                    tr.group { th scope="rowgroup" colspan=(columns.len() + 1) { (brief(selector, 160)) } }
                                    @for check in names { (requirement(columns, selector, check)) }
                                }
                            }
                        }
                    }
                }
            }
            (legend_of())
        }
    };
    document(title.to_owned(), body)
}

/// The configurations of a scenario with their checks, each once, in the order of the first report that has them.
fn rows<'r>(columns: &[&'r SiteReport], id: &str) -> Vec<(&'r str, Vec<&'r SiteCheck>)> {
    let mut rows: Vec<(&str, Vec<&SiteCheck>)> = Vec::new();
    for scenario in columns.iter().flat_map(|c| &c.scenarios).filter(|s| id_of(&s.selector) == id) {
        let at = rows.iter().position(|(selector, _)| *selector == scenario.selector).unwrap_or_else(|| {
            rows.push((&scenario.selector, Vec::new()));
            rows.len() - 1
        });
        for check in &scenario.checks {
            if rows[at].1.iter().all(|known| known.name != check.name) {
                rows[at].1.push(check);
            }
        }
    }
    rows
}

fn requirement(columns: &[&SiteReport], selector: &str, check: &SiteCheck) -> Markup {
    let of = |column: &&SiteReport| -> Option<SiteCheck> {
        let scenario = column.scenarios.iter().find(|s| s.selector == selector)?;
        scenario.checks.iter().find(|c| c.name == check.name).cloned()
    };
    html! {
        tr {
            th scope="row" { span.level { (check.level) } " " (brief(&check.name, 120)) " "
                span.soft { (brief(&check.requirement, 240)) } }
            @for column in columns {
                @match of(column) {
                    Some(own) => td class=(own.verdict) title=(brief(&own.reason, 300)) {
                        a href=(evidence(column, &own, "./")) { (symbol(own.verdict)) " " (own.verdict) } },
                    None => td { "·" },
                }
            }
        }
    }
}

fn implementation(name: &str, history: &[&SiteReport]) -> String {
    let slug = slug(name);
    let latest = history.last();
    let body = html! {
        main {
            (header(name, "../"))
            @if let Some(latest) = latest {
                p class=(format!("conclusion {}", latest.verdict)) {
                    (verdict_of(latest.verdict)) " " span { (brief(&latest.version, 60)) ": "
                        (asked(latest.must_passed, latest.must_asked, latest.must_not_asked)) "." }
                }
                p { "Badge: " a href=(format!("../badges/{slug}.svg")) { (brief(&latest.badge, 120)) } ". For a README: "
                    code { "![meshproof](badges/" (slug) ".svg)" } }
            }
            h2 { "History" }
            div.scroll tabindex="0" role="group" aria-label="History" {
                table.roll {
                    thead { tr { th scope="col" { "version" } th scope="col" { "run" } th scope="col" { "result" }
                        th scope="col" { "MUST checks" } th scope="col" { "compared with the run before" } } }
                    tbody { @for (at, report) in history.iter().enumerate().rev() { tr {
                        th scope="row" { (brief(&report.version, 60)) }
                        td { a href=(format!("../{}/{}", report.folder(), SiteReport::PAGE)) { (brief(&report.started, 40)) }
                            span.soft { " meshproof " (brief(&report.meshproof, 30)) } }
                        td { (verdict_of(report.verdict)) }
                        td { (asked(report.must_passed, report.must_asked, report.must_not_asked)) }
                        td { @match at.checked_sub(1).map(|before| moved(history[before], report)) {
                            Some(moved) => (moved),
                            None => "·",
                        } }
                    } } }
                }
            }
            @if let Some(latest) = latest { (failures(latest)) }
            (legend_of())
        }
    };
    document(name.to_owned(), body)
}

/// How many checks changed: `1 worse, 2 better, 3 not asked any more`.
fn moved(before: &SiteReport, now: &SiteReport) -> String {
    let verdicts = |report: &SiteReport| -> BTreeMap<(String, String), Verdict> {
        let checks = report.scenarios.iter().flat_map(|s| s.checks.iter().map(move |c| (s, c)));
        checks.map(|(s, c)| ((s.selector.clone(), c.name.clone()), c.verdict)).collect()
    };
    let (old, new) = (verdicts(before), verdicts(now));
    let is_bad = |verdict: Verdict| matches!(verdict, Verdict::Failed | Verdict::Inconclusive);
    let (mut worse, mut better, mut lost, mut added) = (0, 0, 0, 0);
    for (check, verdict) in &old {
        match new.get(check) {
            Some(now) if *verdict == Verdict::Passed && is_bad(*now) => worse += 1,
            Some(Verdict::Passed) if is_bad(*verdict) => better += 1,
            Some(Verdict::Skipped | Verdict::Error) | None if *verdict == Verdict::Passed => lost += 1,
            Some(
                Verdict::Passed | Verdict::Failed | Verdict::Inconclusive | Verdict::Skipped | Verdict::Error,
            )
            | None => {}
        }
    }
    added += new.keys().filter(|check| !old.contains_key(*check)).count();
    let counts = [(worse, "worse"), (better, "better"), (lost, "not asked any more"), (added, "new")];
    let parts: Vec<String> =
        counts.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{n} {what}")).collect();
    if parts.is_empty() { "the same".to_owned() } else { parts.join(", ") }
}

fn failures(report: &SiteReport) -> Markup {
    let checks = report.scenarios.iter().flat_map(|s| s.checks.iter().map(move |c| (s, c)));
    let bad: Vec<_> = checks
        .filter(|(_, c)| matches!(c.verdict, Verdict::Failed | Verdict::Inconclusive | Verdict::Error))
        .collect();
    html! {
        h2 { "What did not pass in " (brief(&report.version, 60)) }
        @if bad.is_empty() { p { "Nothing." } }
        ul.failures {
            @for (scenario, check) in bad {
                li { (verdict_of(check.verdict)) " " span.level { (check.level) } " "
                    a href=(evidence(report, check, "../")) { (brief(&scenario.selector, 160)) "/" (brief(&check.name, 120)) }
                    p { (brief(&check.reason, 400)) } }
            }
        }
        h2 { "By scenario" }
        ul {
            @for (id, scenario) in scenarios(&[report]) {
                @let own = report.scenarios.iter().filter(|s| id_of(&s.selector) == id).flat_map(|s| &s.checks);
                li { (brief(id, 80)) ": " (Count::of(own).cell()) " " span.soft { (brief(&scenario.title, 160)) } }
            }
        }
    }
}
