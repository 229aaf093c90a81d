//! The fault dictionary: the kept kill matrix says which checks each known fault breaks, and `faults.toml` what is typically
//! misconfigured behind it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use meshproof_model::Report;
use meshproof_model::diagnosis::{KnownFault, diagnose};
use meshproof_reference::Variant;
use serde::Deserialize;

use crate::exit::Refusal;
use crate::kill_matrix::KillMatrix;
use crate::output::wrapped;

/// What is known about a fault besides the checks that it breaks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct FaultNotes {
    /// The ids of causes that a run with the fault typically shows.
    #[serde(default)]
    pub causes: BTreeSet<String>,
    /// By platform: the mistake in its configuration.
    #[serde(flatten)]
    pub misconfigurations: BTreeMap<String, String>,
}

/// The notes, as kept in the repository.
pub const NOTES: &str = include_str!("../faults.toml");

/// The notes by the name of the fault, without a placement.
///
/// # Errors
/// The file in the repository is not valid.
pub fn notes() -> Result<BTreeMap<String, FaultNotes>, Refusal> {
    toml::from_str(NOTES).map_err(|e| Refusal::Environment(format!("cli/faults.toml: {e}")))
}

/// Every known fault.
///
/// # Errors
/// A file in the repository is not valid.
pub fn known_faults() -> Result<Vec<KnownFault>, Refusal> {
    let matrix = KillMatrix::kept()?;
    let notes = notes()?;
    let fault = |(name, breaks): (&String, &BTreeSet<String>)| {
        let base = name.split('@').next().unwrap_or(name);
        let of = notes.get(base).cloned().unwrap_or_default();
        KnownFault {
            name: name.clone(),
            description: name.parse::<Variant>().map(|v| described(&v, name, matrix)).unwrap_or_default(),
            breaks: breaks.clone(),
            causes: matrix.causes.get(name).cloned().unwrap_or_default(),
            typical: of.causes,
            misconfigurations: of.misconfigurations,
        }
    };
    Ok(matrix.kills.iter().map(fault).collect())
}

/// What a fault does, and where.
fn described(variant: &Variant, name: &str, matrix: &KillMatrix) -> String {
    let does = variant.description();
    match name.split_once('@') {
        Some((_, place)) => format!("{does} Only at the {}.", place.replace('-', " ")),
        None => {
            let at = format!("{name}@");
            let placed =
                matrix.kills.range(at.clone()..).next().is_some_and(|(next, _)| next.starts_with(&at));
            if placed { format!("{does} At every proxy.") } else { does.to_owned() }
        }
    }
}

/// Compares a report with the known faults, if a check failed.
///
/// # Errors
/// A file in the repository is not valid.
pub fn diagnose_report(report: &mut Report) -> Result<(), Refusal> {
    let unexpected = report.causes.iter().any(|c| c.unexpected().next().is_some());
    report.diagnosis = None;
    if unexpected {
        let mut symptoms = report.symptoms();
        // Of a check that the matrix does not have, it is not known which faults break it.
        let known = &KillMatrix::kept()?.checks;
        symptoms.broken.retain(|check| known.contains(check));
        symptoms.passed.retain(|check| known.contains(check));
        report.diagnosis = Some(diagnose(&known_faults()?, &symptoms));
    }
    Ok(())
}

/// Explains a known fault: what it does, which checks it breaks, and what is typically misconfigured behind it. None if there is no
/// such fault.
///
/// # Errors
/// A file in the repository is not valid.
pub fn explain_fault(program: &str, name: &str) -> Result<Option<String>, Refusal> {
    let faults = known_faults()?;
    let Some(fault) = faults.iter().find(|f| f.name == name) else { return Ok(None) };
    let mut text = format!("{name}, a known fault\n\n{}\n", wrapped("does", &fault.description));
    for (platform, mistake) in &fault.misconfigurations {
        let _infallible = writeln!(text, "{}", wrapped(platform, mistake));
    }
    let causes = if fault.causes.is_empty() { &fault.typical } else { &fault.causes };
    let mut row = |label: &str, values: &BTreeSet<String>| {
        let values: Vec<&str> = values.iter().map(String::as_str).collect();
        if !values.is_empty() {
            let _infallible = writeln!(text, "{}", wrapped(label, &values.join(", ")));
        }
    };
    row("causes", causes);
    row("breaks", &fault.breaks);
    let _infallible = writeln!(text, "{:<12} {program} run --target reference:{name}", "see");
    Ok(Some(text))
}

/// Explains a cause by its id: which known faults show it. None if no known fault does.
///
/// # Errors
/// A file in the repository is not valid.
pub fn explain_cause(program: &str, id: &str) -> Result<Option<String>, Refusal> {
    let faults = known_faults()?;
    let shows = |f: &&KnownFault| f.causes.contains(id) || f.typical.contains(id);
    let showing: Vec<&KnownFault> = faults.iter().filter(shows).filter(|f| !f.name.contains('@')).collect();
    if showing.is_empty() {
        return Ok(None);
    }
    let mut text = format!("{id}, a cause of failures. Known faults that show it:\n\n");
    for fault in showing {
        let _infallible = writeln!(text, "{:<32} {}", fault.name, fault.description);
    }
    let _infallible = writeln!(text, "\n`{program} explain FAULT` shows what is typically misconfigured.");
    Ok(Some(text))
}
