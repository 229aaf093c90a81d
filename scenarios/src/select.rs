//! From the selectors on the command line to what runs.

use meshproof_harness::names::did_you_mean;
use meshproof_harness::runner::Selected;
use meshproof_harness::scenario::Scenario;

use crate::ALL;

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

/// The scenario of this id.
///
/// # Errors
/// There is none; near names are in the message.
pub fn scenario(id: &str) -> Result<&'static Scenario, NoMatch> {
    let found = ALL.iter().find(|s| s.id() == id);
    found.ok_or_else(|| no_match("scenario", id, ALL.iter().map(Scenario::id)))
}

/// What runs for these selectors, each `SCENARIO`, `SCENARIO:CONFIGURATION`, `SCENARIO/CHECK` or
/// `SCENARIO:CONFIGURATION/CHECK`. Without a selector: everything. The order is the catalogue's.
///
/// # Errors
/// A selector matches nothing; near names are in the message.
pub fn select(selectors: &[String]) -> Result<Vec<Selected>, NoMatch> {
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
        let scenario = scenario(id)?;
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
        for scenario in ALL.iter() {
            for c in &scenario.catalogue.configurations {
                add(&mut chosen, scenario, &c.id, None);
            }
        }
    }
    let place = |s: &Selected| {
        let scenario = ALL.iter().position(|known| known.id() == s.scenario.id());
        let configurations = &s.scenario.catalogue.configurations;
        (scenario, configurations.iter().position(|c| c.id == s.configuration))
    };
    chosen.sort_by_key(place);
    Ok(chosen)
}

/// What runs against the documents' own hosts for these selectors. Without a selector: every scenario whose document asks a host on
/// the internet.
///
/// # Errors
/// A selector matches nothing, or a scenario that asks no such host; those that do are in the message.
pub fn select_live(selectors: &[String]) -> Result<Vec<Selected>, NoLive> {
    let mut chosen = select(selectors)?;
    if selectors.is_empty() {
        chosen.retain(|s| !s.scenario.catalogue.live.is_empty());
    }
    match chosen.iter().find(|s| s.scenario.catalogue.live.is_empty()) {
        Some(other) => Err(NoLive::Scenario { id: other.scenario.id(), live: live().join(", ") }),
        None => Ok(chosen),
    }
}

/// The scenarios whose documents ask hosts on the internet.
#[must_use]
pub fn live() -> Vec<&'static str> {
    ALL.iter().filter(|s| !s.catalogue.live.is_empty()).map(Scenario::id).collect()
}

/// A selection that cannot be run against real hosts.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoLive {
    /// A selector that matches nothing.
    #[error(transparent)]
    NoMatch(#[from] NoMatch),
    /// A scenario that asks no host on the internet.
    #[error("{id} asks no host on the internet, so it cannot be run with --live; these can: {live}")]
    Scenario {
        /// Which.
        id: &'static str,
        /// Which can.
        live: String,
    },
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
    use super::*;

    fn selected(selectors: &[&str]) -> Vec<String> {
        let selectors: Vec<String> = selectors.iter().map(|s| (*s).to_owned()).collect();
        let shown = |s: &Selected| {
            let checks = s.checks.as_ref().map(|c| format!("/{}", c.join(","))).unwrap_or_default();
            format!("{}:{}{checks}", s.scenario.id(), s.configuration)
        };
        select(&selectors).unwrap().iter().map(shown).collect()
    }

    #[test]
    fn no_selector_selects_every_configuration_of_every_scenario() {
        let all: usize = ALL.iter().map(|s| s.catalogue.configurations.len()).sum();
        assert_eq!(selected(&[]).len(), all);
    }

    fn shown(chosen: &[Selected]) -> Vec<String> {
        chosen.iter().map(|s| format!("{}:{}", s.scenario.id(), s.configuration)).collect()
    }

    #[test]
    fn a_live_run_selects_the_scenarios_whose_documents_ask_a_real_host() {
        assert_eq!(
            shown(&select_live(&[]).unwrap()),
            [
                "sidecar-origination:port-rewrite",
                "sidecar-origination:target-port",
                "egress-gateway-simple:simple",
                "external-web-service:bookinfo-details",
            ]
        );
        let one = select_live(&["egress-gateway-simple/single-response".to_owned()]).unwrap();
        assert_eq!(shown(&one), ["egress-gateway-simple:simple"]);
    }

    #[test]
    fn a_live_run_of_another_scenario_is_refused_and_the_message_names_those_that_can() {
        let refused = |selectors: &[&str]| {
            let selectors: Vec<String> = selectors.iter().map(|s| (*s).to_owned()).collect();
            select_live(&selectors).err().unwrap().to_string()
        };
        assert_eq!(
            refused(&["sidecar-origination", "egress-gateway-mutual"]),
            "egress-gateway-mutual asks no host on the internet, so it cannot be run with --live; these can: sidecar-origination, \
             egress-gateway-simple, external-web-service"
        );
        assert!(refused(&["sidecar-orignation"]).contains("did you mean sidecar-origination?"));
    }

    #[test]
    fn a_scenario_selects_all_its_configurations() {
        assert_eq!(
            selected(&["sidecar-origination"]),
            ["sidecar-origination:port-rewrite", "sidecar-origination:target-port"]
        );
    }

    #[test]
    fn a_check_of_one_configuration_selects_that_configuration_alone() {
        assert_eq!(
            selected(&["sidecar-origination/https-clients-unaffected"]),
            ["sidecar-origination:target-port/https-clients-unaffected"]
        );
    }

    #[test]
    fn a_scenario_beside_one_of_its_checks_selects_it_whole() {
        for order in [
            ["egress-gateway-simple", "egress-gateway-simple/no-bypass"],
            ["egress-gateway-simple/no-bypass", "egress-gateway-simple"],
        ] {
            assert_eq!(selected(&order), ["egress-gateway-simple:simple"]);
        }
    }

    #[test]
    fn the_order_is_the_catalogues_whatever_was_asked_first() {
        let chosen = selected(&["external-web-service", "sidecar-origination:target-port"]);
        assert_eq!(chosen, ["sidecar-origination:target-port", "external-web-service:bookinfo-details"]);
    }

    #[test]
    fn a_selector_that_matches_nothing_names_near_ones() {
        let message = |selector: &str| select(&[selector.to_owned()]).err().unwrap().to_string();
        assert_eq!(
            message("sidecar-orignation"),
            "no scenario is named \"sidecar-orignation\"; did you mean sidecar-origination?"
        );
        assert_eq!(
            message("sidecar-origination/single-respons"),
            "no check of sidecar-origination is named \"single-respons\"; did you mean single-response?"
        );
        assert_eq!(
            message("sidecar-origination:port-rewrit"),
            "no configuration of sidecar-origination is named \"port-rewrit\"; did you mean port-rewrite?"
        );
        assert!(message("sidecar-origination:port-rewrite/https-clients-unaffected").starts_with(
            "no check of sidecar-origination:port-rewrite is named \"https-clients-unaffected\""
        ));
    }
}
