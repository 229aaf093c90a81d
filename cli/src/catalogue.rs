//! `meshproof list` and `meshproof explain`.

use meshproof_harness::feature::Feature;
use std::fmt::Write;

use meshproof_harness::catalogue::{Catalogue, Check};
use meshproof_harness::scenario::Scenario;
use meshproof_harness::timeouts::Timeout;
use meshproof_scenarios::{ALL, select};
use serde_json::{Value, json};

use crate::{Refusal, args, exit, sabotage};

/// Where names that match nothing are to be looked up.
pub(crate) const SEE_LIST: &str = "`meshproof list` shows all scenarios, configurations and checks";

/// Lists scenarios and checks.
///
/// # Errors
/// None so far.
pub fn list(args: &args::List) -> Result<u8, Refusal> {
    let text = if args.timeouts {
        timeouts()
    } else if args.json {
        format!("{:#}\n", as_json())
    } else {
        as_text()
    };
    crate::answer(&text);
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
pub fn as_json() -> Value {
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
    let scenario = |s: &Scenario| {
        let s = &s.catalogue;
        json!({
            "id": s.id,
            "title": s.title,
            "features": s.features,
            "document": { "title": s.document, "url": s.url },
            "configurations": s
                .configurations
                .iter()
                .map(|c| json!({ "id": c.id, "title": c.title }))
                .collect::<Vec<_>>(),
            "checks": s.checks.iter().map(|c| check(s, c)).collect::<Vec<_>>(),
        })
    };
    json!({ "scenarios": ALL.iter().map(scenario).collect::<Vec<_>>() })
}

/// The same for people.
#[must_use]
pub fn as_text() -> String {
    let mut text = String::new();
    for s in ALL.iter().map(|s| &s.catalogue) {
        let _infallible = writeln!(text, "{}  {}", s.id, s.title);
        let _infallible = writeln!(text, "  document: {}", s.document);
        for c in &s.configurations {
            let _infallible = writeln!(text, "  configuration {}: {}", c.id, c.title);
        }
        for c in &s.checks {
            let control = if c.control { " (control)" } else { "" };
            let _infallible =
                writeln!(text, "  {:<6} {}{control}  [{}]", c.level.to_string(), s.check_id(c), c.section);
        }
        text.push('\n');
    }
    text
}

/// Explains a scenario or a check.
///
/// # Errors
/// The id matches nothing.
pub fn explain(args: &args::Explain) -> Result<u8, Refusal> {
    let (id, check) = match args.id.split_once('/') {
        Some((scenario, check)) => (scenario, Some(check)),
        None => (args.id.as_str(), None),
    };
    // The selection knows what to say about names that match nothing.
    select::select(std::slice::from_ref(&args.id)).map_err(|e| Refusal::Usage(format!("{e}\n{SEE_LIST}")))?;
    let id = id.split_once(':').map_or(id, |(id, _)| id);
    let catalogue = &select::scenario(id).map_err(|e| Refusal::Usage(e.to_string()))?.catalogue;
    let text = match check.and_then(|name| catalogue.check(name)) {
        Some(check) => explain_check(catalogue, check)?,
        None => explain_scenario(catalogue),
    };
    crate::answer(&text);
    Ok(exit::OK)
}

fn explain_scenario(s: &Catalogue) -> String {
    let mut text = format!("{}\n{}\n\ndocument: {}\n          {}\n\n", s.id, s.title, s.document, s.url);
    for c in &s.configurations {
        let _infallible = writeln!(text, "configuration {}: {}", c.id, c.title);
    }
    for c in &s.checks {
        let _infallible = writeln!(text, "\n{} {}\n  {}", c.level, s.check_id(c), c.requirement);
    }
    text
}

fn explain_check(s: &Catalogue, c: &Check) -> Result<String, Refusal> {
    let mut text = format!("{}\n\n", s.check_id(c));
    let mut row = |name: &str, value: &str| {
        let _infallible = writeln!(text, "{name:<12} {value}");
    };
    row("demands", &c.requirement);
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
        row("features", &format!("asked only of implementations that declare {}", Feature::list(&features)));
    }
    let killers = sabotage::killers_of(&s.check_id(c))?;
    row("fails under", &killers.join(", "));
    row("repeat", &format!("meshproof run {}", s.check_id(c)));
    Ok(text)
}
