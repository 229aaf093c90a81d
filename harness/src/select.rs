//! From selectors, as they are written on the command line, to what runs.

use crate::names::did_you_mean;
use crate::runner::Selected;
use crate::scenario::Scenario;

/// A selector that matches nothing.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("no {what} is named {name:?}{suggestion}")]
pub struct NoMatch {
    what: String,
    name: String,
    suggestion: String,
}

fn no_match<'a>(what: impl Into<String>, name: &str, known: impl IntoIterator<Item = &'a str>) -> NoMatch {
    NoMatch { what: what.into(), name: name.to_owned(), suggestion: did_you_mean(name, known) }
}

/// The scenario with this id.
///
/// # Errors
/// There is none. The message suggests near names.
pub fn scenario<'a>(scenarios: &'a [Scenario], id: &str) -> Result<&'a Scenario, NoMatch> {
    let found = scenarios.iter().find(|s| s.id() == id);
    found.ok_or_else(|| no_match("scenario", id, scenarios.iter().map(Scenario::id)))
}

/// What these selectors select. Each is `SCENARIO`, `SCENARIO:CONFIGURATION`, `SCENARIO/CHECK` or
/// `SCENARIO:CONFIGURATION/CHECK`. Without selectors, everything is selected. The order is that of `scenarios`.
///
/// # Errors
/// A selector matches nothing. The message suggests near names.
pub fn select(scenarios: &'static [Scenario], selectors: &[String]) -> Result<Vec<Selected>, NoMatch> {
    let mut chosen: Vec<Selected> = Vec::new();
    for selector in selectors {
        let (path, check) = match selector.split_once('/') {
            Some((path, check)) => (path, Some(check)),
            None => (selector.as_str(), None),
        };
        let (id, configuration) = match path.split_once(':') {
            Some((id, configuration)) => (id, Some(configuration)),
            None => (path, None),
        };
        let scenario = scenario(scenarios, id)?;
        let catalogue = &scenario.catalogue;
        if let Some(name) = configuration
            && catalogue.configuration(name).is_none()
        {
            let known = catalogue.configurations.iter().map(|c| c.id.as_str());
            return Err(no_match(format!("configuration of {id}"), name, known));
        }
        if let Some(name) = check
            && catalogue.check(name).is_none()
        {
            let known = catalogue.checks.iter().map(|c| c.id.as_str());
            return Err(no_match(format!("check of {id}"), name, known));
        }
        let mut any = false;
        for c in catalogue.configurations.iter().filter(|c| configuration.is_none_or(|name| name == c.id)) {
            if check.and_then(|name| catalogue.check(name)).is_some_and(|check| !check.is_in(&c.id)) {
                continue;
            }
            any = true;
            add(&mut chosen, scenario, &c.id, check);
        }
        if let (false, Some(name)) = (any, check) {
            let known = catalogue.checks.iter().filter(|c| configuration.is_none_or(|n| c.is_in(n)));
            return Err(no_match(format!("check of {path}"), name, known.map(|c| c.id.as_str())));
        }
    }
    if selectors.is_empty() {
        for scenario in scenarios {
            for c in &scenario.catalogue.configurations {
                add(&mut chosen, scenario, &c.id, None);
            }
        }
    }
    let place = |s: &Selected| {
        let scenario = scenarios.iter().position(|known| known.id() == s.scenario.id());
        let configurations = &s.scenario.catalogue.configurations;
        (scenario, configurations.iter().position(|c| c.id == s.configuration))
    };
    chosen.sort_by_key(place);
    Ok(chosen)
}

/// What these selectors select for a run against real hosts. Without selectors, every scenario whose document names a host on
/// the internet is selected.
///
/// # Errors
/// A selector matches nothing, or selects a scenario whose document names no such host. The message names the scenarios that
/// can run.
pub fn select_live(scenarios: &'static [Scenario], selectors: &[String]) -> Result<Vec<Selected>, NoLive> {
    let is_live = |scenario: &Scenario| !scenario.catalogue.live.is_empty();
    let mut chosen = select(scenarios, selectors)?;
    if selectors.is_empty() {
        chosen.retain(|s| is_live(s.scenario));
    }
    let able = || scenarios.iter().filter(|s| is_live(s)).map(Scenario::id).collect::<Vec<_>>();
    match chosen.iter().find(|s| !is_live(s.scenario)) {
        Some(other) => Err(NoLive::Scenario { id: other.scenario.id(), live: able().join(", ") }),
        None if chosen.is_empty() => Err(NoLive::None),
        None => Ok(chosen),
    }
}

/// A selection that cannot run against real hosts.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoLive {
    /// A selector matches nothing.
    #[error(transparent)]
    NoMatch(#[from] NoMatch),
    /// A scenario's document names no host on the internet.
    #[error(
        "{id} cannot run with --live: its document names no host on the internet. These scenarios can: {live}"
    )]
    Scenario {
        /// The scenario.
        id: &'static str,
        /// The scenarios that can run.
        live: String,
    },
    /// There is no scenario that can run.
    #[error("no scenario can run with --live: no document names a host on the internet")]
    None,
}

fn add(
    chosen: &mut Vec<Selected>,
    scenario: &'static Scenario,
    configuration: &'static str,
    check: Option<&str>,
) {
    let same = |s: &&mut Selected| s.scenario.id() == scenario.id() && s.configuration == configuration;
    let known = chosen.iter_mut().find(same);
    match (known, check) {
        // All of its checks are already selected.
        (Some(Selected { checks: None, .. }), _) => {}
        (Some(selected), None) => selected.checks = None,
        (Some(Selected { checks: Some(checks), .. }), Some(check)) => checks.push(check.to_owned()),
        (None, _) => {
            chosen.push(Selected { scenario, configuration, checks: check.map(|c| vec![c.to_owned()]) });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use super::*;
    use crate::catalogue::{Catalogue, Check, Configuration, Promise};
    use crate::fixtures::Fixtures;
    use crate::mesh::{Mesh, Stop};
    use crate::topology::Topology;

    static SCENARIOS: LazyLock<Vec<Scenario>> = LazyLock::new(|| {
        let named =
            |id: &str| Configuration { id: id.to_owned(), title: String::new(), features: Vec::new() };
        let mut books = Catalogue::new("lend-books")
            .checks([
                Check::must("returned-in-time", "1", "A book comes back."),
                Check::must("no-fee", "1", "It is free.").only_in(["by-post"]),
            ])
            .live(Promise::new("https://books.example/", &[200], "HTTP/2"));
        books.configurations = vec![named("in-person"), named("by-post")];
        let music =
            Catalogue::new("lend-music").checks([Check::must("returned-in-time", "2", "It comes back.")]);
        let scenario = |catalogue| {
            let fixtures = Fixtures::embedded("nowhere", Vec::<(String, String)>::new());
            Scenario::new(catalogue, fixtures, Topology::default(), story)
        };
        vec![scenario(books), scenario(music)]
    });

    async fn story(_: &Mesh) -> Result<(), Stop> {
        Ok(())
    }

    fn owned(selectors: &[&str]) -> Vec<String> {
        selectors.iter().map(|s| (*s).to_owned()).collect()
    }

    fn shown(chosen: &[Selected]) -> Vec<String> {
        let shown = |s: &Selected| {
            let checks = s.checks.as_ref().map(|c| format!("/{}", c.join(","))).unwrap_or_default();
            format!("{}:{}{checks}", s.scenario.id(), s.configuration)
        };
        chosen.iter().map(shown).collect()
    }

    fn selected(selectors: &[&str]) -> Vec<String> {
        shown(&select(&SCENARIOS, &owned(selectors)).unwrap())
    }

    fn refused(selector: &str) -> String {
        select(&SCENARIOS, &owned(&[selector])).err().unwrap().to_string()
    }

    #[test]
    fn without_a_selector_everything_is_selected() {
        assert_eq!(selected(&[]), ["lend-books:in-person", "lend-books:by-post", "lend-music:only"]);
    }

    #[test]
    fn a_scenario_selects_all_its_configurations() {
        assert_eq!(selected(&["lend-books"]), ["lend-books:in-person", "lend-books:by-post"]);
    }

    #[test]
    fn a_check_of_one_configuration_selects_only_that_configuration() {
        assert_eq!(selected(&["lend-books/no-fee"]), ["lend-books:by-post/no-fee"]);
    }

    #[test]
    fn a_scenario_and_one_of_its_checks_select_the_whole_scenario_in_either_order() {
        for order in
            [["lend-music", "lend-music/returned-in-time"], ["lend-music/returned-in-time", "lend-music"]]
        {
            assert_eq!(selected(&order), ["lend-music:only"]);
        }
    }

    #[test]
    fn the_order_is_that_of_the_list_and_not_of_the_selectors() {
        assert_eq!(
            selected(&["lend-music", "lend-books:by-post"]),
            ["lend-books:by-post", "lend-music:only"]
        );
    }

    #[test]
    fn a_selector_that_matches_nothing_is_refused_with_near_names() {
        assert_eq!(
            refused("lend-boks"),
            "no scenario is named \"lend-boks\"; did you mean lend-books or lend-music?"
        );
        assert_eq!(
            refused("lend-books/no-fees"),
            "no check of lend-books is named \"no-fees\"; did you mean no-fee?"
        );
        assert_eq!(
            refused("lend-books:by-pos"),
            "no configuration of lend-books is named \"by-pos\"; did you mean by-post?"
        );
        assert!(
            refused("lend-books:in-person/no-fee")
                .starts_with("no check of lend-books:in-person is named \"no-fee\"")
        );
    }

    #[test]
    fn a_live_run_selects_the_scenarios_whose_document_names_a_real_host() {
        let all = select_live(&SCENARIOS, &[]).unwrap();
        assert_eq!(shown(&all), ["lend-books:in-person", "lend-books:by-post"]);
        let one = select_live(&SCENARIOS, &owned(&["lend-books:by-post/no-fee"])).unwrap();
        assert_eq!(shown(&one), ["lend-books:by-post/no-fee"]);
    }

    #[test]
    fn a_live_run_of_another_scenario_is_refused_with_the_scenarios_that_can_run() {
        let refused = |scenarios, selectors: &[&str]| {
            select_live(scenarios, &owned(selectors)).err().unwrap().to_string()
        };
        assert_eq!(
            refused(&SCENARIOS, &["lend-books", "lend-music"]),
            "lend-music cannot run with --live: its document names no host on the internet. These scenarios can: lend-books"
        );
        assert!(refused(&SCENARIOS, &["lend-boks"]).contains("did you mean lend-books"));
        assert_eq!(
            refused(&[], &[]),
            "no scenario can run with --live: no document names a host on the internet"
        );
    }
}
