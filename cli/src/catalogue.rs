//! `meshproof list` and `meshproof explain`.

use std::fmt::Write;

use meshproof_harness::catalogue::{Catalogue, Check};
use meshproof_harness::feature::Feature;
use meshproof_harness::mesh::RUNS_UNTIL_STOPPED;
use meshproof_harness::scenario::Scenario;
use meshproof_harness::timeouts::Timeout;
use serde_json::{Value, json};

use crate::args;
use crate::dictionary::{explain_cause, explain_fault, known_faults};
use crate::exit::{self, Refusal};
use crate::kill_matrix::KillMatrix;
use crate::output::{answer, wrapped};
use crate::suite::Suite;

/// Lists scenarios and checks.
///
/// # Errors
/// None so far.
pub fn list(suite: Suite, args: &args::List) -> Result<u8, Refusal> {
    let text = if args.timeouts {
        timeouts()
    } else if args.json {
        format!("{:#}\n", as_json(suite.scenarios))
    } else {
        as_text(suite.scenarios)
    };
    answer(&text);
    Ok(exit::OK)
}

fn timeouts() -> String {
    let mut text = String::new();
    for timeout in Timeout::ALL {
        let default = humantime::format_duration(timeout.default()).to_string();
        let _infallible = writeln!(text, "{timeout:<24} {default:>6}  until {}", timeout.condition());
    }
    text
}

/// Every scenario with its configurations and checks.
#[must_use]
pub fn as_json(scenarios: &[Scenario]) -> Value {
    let check = |s: &Catalogue, c: &Check| {
        json!({
            "id": s.check_id(c),
            "level": c.level,
            "control": c.control,
            "document": s.document,
            "section": c.section,
            "requirement": c.requirement,
            "configurations":
                s.configurations.iter().map(|k| &k.id).filter(|k| c.is_in(k)).collect::<Vec<_>>(),
            "features": c.features,
        })
    };
    let scenario = |s: &Catalogue| {
        json!({
            "id": s.id,
            "title": s.title,
            "features": s.features,
            "live": !s.live.is_empty(),
            "document": { "title": s.document, "url": s.url },
            "configurations": s
                .configurations
                .iter()
                .map(|c| json!({ "id": c.id, "title": c.title }))
                .collect::<Vec<_>>(),
            "checks": s.checks.iter().map(|c| check(s, c)).collect::<Vec<_>>(),
        })
    };
    json!({ "scenarios": scenarios.iter().map(|s| scenario(&s.catalogue)).collect::<Vec<_>>() })
}

/// The same as text.
#[must_use]
pub fn as_text(scenarios: &[Scenario]) -> String {
    let mut text = String::new();
    for s in scenarios.iter().map(|s| &s.catalogue) {
        let _infallible = writeln!(text, "{}  {}", s.id, s.title);
        let live = if s.live.is_empty() { "" } else { "  (live: it can run against its real host)" };
        let _infallible = writeln!(text, "  document: {}{live}", s.document);
        for c in &s.configurations {
            let _infallible = writeln!(text, "  configuration {}: {}", c.id, c.title);
        }
        for c in &s.checks {
            let control = if c.control { " (control)" } else { "" };
            let only = if c.only_in.is_empty() {
                String::new()
            } else {
                format!(" (only {})", c.only_in.join(", "))
            };
            let _infallible = writeln!(
                text,
                "  {:<6} {}{control}{only}  [{}]",
                c.level.to_string(),
                s.check_id(c),
                c.section
            );
        }
        text.push('\n');
    }
    text + &totals(scenarios)
}

/// How many checks a whole run has: each configuration of a scenario has each of its checks, but for those that are for others.
fn totals(scenarios: &[Scenario]) -> String {
    let catalogues = || scenarios.iter().map(|s| &s.catalogue);
    let configurations: usize = catalogues().map(|s| s.configurations.len()).sum();
    let checks: usize = catalogues().map(|s| s.checks.len()).sum();
    let asked: usize = catalogues()
        .flat_map(|s| {
            s.configurations.iter().map(move |k| s.checks.iter().filter(|c| c.is_in(&k.id)).count())
        })
        .sum();
    format!(
        "{} scenarios with {configurations} configurations and {checks} checks. A run asks {asked}: each check once in each of its \
         configurations.\n",
        scenarios.len()
    )
}

/// Explains a scenario or a check.
///
/// # Errors
/// The id matches nothing.
pub fn explain(suite: Suite, args: &args::Explain) -> Result<u8, Refusal> {
    let (path, check) = match args.id.split_once('/') {
        Some((path, check)) => (path, Some(check)),
        None => (args.id.as_str(), None),
    };
    // Every scenario has this check, but no catalogue does, so it is not looked up there.
    let of_every_scenario = check.filter(|name| *name == RUNS_UNTIL_STOPPED.id).map(|_| &*RUNS_UNTIL_STOPPED);
    let selector = if of_every_scenario.is_some() { path } else { &args.id };
    if let Err(refusal) = suite.select(&[selector.to_owned()], false) {
        return explain_another(suite, &args.id, refusal);
    }
    let scenario = path.split_once(':').map_or(path, |(scenario, _)| scenario);
    let catalogue = &suite.scenario(scenario)?.catalogue;
    let text = match of_every_scenario.or_else(|| check.and_then(|name| catalogue.check(name))) {
        Some(check) => explain_check(suite.program, catalogue, check)?,
        None => explain_scenario(catalogue),
    };
    answer(&text);
    Ok(exit::OK)
}

/// Explains what is no selector: a known fault, a cause, or the only check or scenario whose id contains the text.
fn explain_another(suite: Suite, id: &str, refusal: Refusal) -> Result<u8, Refusal> {
    if let Some(text) =
        explain_fault(suite.program, id)?.map_or_else(|| explain_cause(suite.program, id), |t| Ok(Some(t)))?
    {
        answer(&text);
        return Ok(exit::OK);
    }
    let known: Vec<String> = suite
        .scenarios
        .iter()
        .flat_map(|s| {
            let checks = s.catalogue.checks.iter().map(|c| s.catalogue.check_id(c));
            std::iter::once(s.id().to_owned()).chain(checks)
        })
        .chain(known_faults()?.into_iter().map(|f| f.name))
        // A misspelt check of a scenario is not a part of a name.
        .filter(|known| known.contains(id) && !id.is_empty() && !id.contains('/'))
        .collect();
    match known.as_slice() {
        [] if id.contains('/') => Err(refusal),
        [] => Err(Refusal::Usage(format!(
            "nothing is called {id:?}, neither a scenario, nor a check, a known fault or a cause. `{} list` and `{} sabotage \
             --list` show what there is",
            suite.program, suite.program
        ))),
        [only] => explain(suite, &args::Explain { id: only.clone() }),
        several => {
            let list: Vec<&str> = several.iter().take(20).map(String::as_str).collect();
            let more = several.len().saturating_sub(list.len());
            let more = if more > 0 { format!("\n  … and {more} more") } else { String::new() };
            Err(Refusal::Usage(format!("several ids contain {id:?}:\n  {}{more}", list.join("\n  "))))
        }
    }
}

fn explain_scenario(s: &Catalogue) -> String {
    let mut text = format!("{}\n{}\n\n", s.id, s.title);
    if !s.proves.is_empty() {
        let _infallible = writeln!(text, "{}\n", wrapped("", &s.proves));
    }
    let _infallible = writeln!(text, "document: {}\n          {}\n", s.document, s.url);
    for c in &s.configurations {
        let _infallible = writeln!(text, "configuration {}: {}", c.id, c.title);
    }
    for c in &s.checks {
        let _infallible = writeln!(text, "\n{} {}\n  {}", c.level, s.check_id(c), c.requirement);
    }
    text
}

fn explain_check(program: &str, s: &Catalogue, c: &Check) -> Result<String, Refusal> {
    let id = s.check_id(c);
    let mut text = format!("{id}\n\n");
    let mut row = |name: &str, value: &str| {
        let _infallible = writeln!(text, "{}", wrapped(name, value));
    };
    row("requires", &c.requirement);
    row("level", &format!("{}{}", c.level, if c.control { ", a control" } else { "" }));
    row("why", &c.why);
    row("document", &s.document);
    row("section", &c.section);
    row("url", &s.url);
    row("observed", &c.observed);
    if !c.only_in.is_empty() {
        row("only in", &c.only_in.join(", "));
    }
    let features: Vec<Feature> = s.features.iter().chain(&c.features).copied().collect();
    if !features.is_empty() {
        let features = Feature::list(&features);
        row("features", &format!("skipped unless the implementation declares {features}"));
    }
    for (document, part) in meshproof_scenarios::documents::covered_by(&id) {
        let says = part.says.as_deref().unwrap_or_default();
        row("covers", &format!("{}, {}: {says}", document.title, part.place()));
    }
    let saboteurs = match KillMatrix::kept()?.noticed_by(&id) {
        Some(saboteurs) => saboteurs.join(", "),
        None => format!("not recorded; `{program} sabotage` runs every saboteur"),
    };
    row("fails under", &saboteurs);
    // No story judges it, so it cannot be selected by itself.
    let repeat = if c.id == RUNS_UNTIL_STOPPED.id { &s.id } else { &id };
    row("repeat", &format!("{program} run {repeat}"));
    Ok(text)
}
