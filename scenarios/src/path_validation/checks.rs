//! Each path is a check.

use std::sync::Arc;

use meshproof_harness::catalogue::{Catalogue, Check};
use meshproof_vectors::limbo::LimboVector;
use meshproof_vectors::{Expected, Group, Vector};

const OBSERVED: &str = "The client's exchange, the server's requests and its handshakes.";

/// Which paths are asked.
#[derive(Clone, Debug)]
pub enum Paths {
    /// A part of the suite's own in each configuration: each rule at each placement, each path in one configuration.
    Covering,
    /// All of the suite's own in each configuration.
    Full,
    /// Those of a file.
    File(Arc<Vec<LimboVector>>),
}

/// The catalogue with a check for each path.
pub(crate) fn declare(catalogue: Catalogue, paths: &Paths) -> Catalogue {
    let configurations: Vec<String> = catalogue.configurations.iter().map(|c| c.id.clone()).collect();
    let checks: Vec<Check> = match paths {
        Paths::Covering | Paths::Full => Group::all()
            .iter()
            .flat_map(|group| {
                let configurations = &configurations;
                group.vectors().enumerate().filter_map(move |(place, vector)| match paths {
                    Paths::Full => Some(of_vector(group, &vector)),
                    Paths::Covering | Paths::File(_) if vector.only_full => None,
                    Paths::Covering | Paths::File(_) => {
                        let only = configurations.get(place % configurations.len().max(1));
                        Some(of_vector(group, &vector).only_in(only.map(String::as_str)))
                    }
                })
            })
            .collect(),
        Paths::File(vectors) => vectors.iter().filter(|v| v.not_asked.is_none()).map(of_file).collect(),
    };
    catalogue.checks(checks)
}

fn must(expected: Expected) -> &'static str {
    match expected {
        Expected::Accepted => "The proxy accepts the server.",
        Expected::Refused => "The proxy refuses the server.",
    }
}

fn of_vector(group: &Group, vector: &Vector) -> Check {
    let observed = match vector.control {
        Some(control) => format!("{OBSERVED} Control: the path {control}."),
        None => OBSERVED.to_owned(),
    };
    Check::must(vector.id, group.title, format!("{} {}", must(vector.expected), vector.rule))
        .level(vector.level)
        .why(format!("{}.", vector.source))
        .observed(observed)
}

fn of_file(vector: &LimboVector) -> Check {
    let described = vector.description.trim_end_matches('.');
    let section = vector.name.rsplit_once("::").map_or("vectors", |(group, _)| group);
    Check::must(&vector.id, section, format!("{} {described}.", must(vector.expected)))
        .level(vector.level)
        .why(format!("The vector {} of the file.", vector.name))
        .observed(OBSERVED)
}
