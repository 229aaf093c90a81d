//! The documents, one file per scenario. A scenario's file is its story: what the document has its reader do, in the document's
//! order, and what must then be seen. What the scenario is called and what its checks require is data, beside the manifests
//! that it applies (`fixtures/ID/`).

mod certificate_chains;
mod credentials;
pub mod documents;
mod egress_gateway_access;
mod egress_gateway_mutual;
mod egress_gateway_simple;
mod external_web_service;
mod gateway_termination;
mod generated_traffic;
mod origination_scope;
mod path_based_routing;
mod path_validation;
mod placement;
mod policy_isolation;
mod presented;
mod service_entries;
mod sidecar_origination;
mod sites;
mod tcp_origination;
mod tls_verification;
mod traffic_fidelity;

use std::sync::LazyLock;

use meshproof_harness::catalogue::{Catalogue, CatalogueError, CommonChecks};
use meshproof_harness::fixtures::Fixtures;
use meshproof_harness::scenario::{Scenario, StoryFn};
use meshproof_harness::topology::{Gateway, Topology, Workload};

use self::{egress_gateway_mutual as mutual, egress_gateway_simple as simple};
use path_validation::PathValidation;
pub use path_validation::Paths;
use placement::Placement;

/// Every scenario, in the order of the catalogue.
pub static ALL: LazyLock<Vec<Scenario>> =
    LazyLock::new(|| all().unwrap_or_else(|e| panic!("the built-in catalogue is broken: {e}")));

fn all() -> Result<Vec<Scenario>, CatalogueError> {
    let common = CommonChecks::read(&fixtures(meshproof_fixtures::COMMON))?;
    Ok(vec![
        read("sidecar-origination", &common, sidecar_origination::topology(), sidecar_origination::story)?,
        read("egress-gateway-simple", &common, simple::topology(), simple::story)?,
        read("egress-gateway-mutual", &common, mutual::topology(), mutual::story)?,
        read_placed("egress-gateway-access", &common, egress_gateway_access::story)?,
        read("path-based-routing", &common, path_based_routing::topology(), path_based_routing::story)?,
        read("gateway-termination", &common, gateway_termination::topology(), gateway_termination::story)?,
        read("external-web-service", &common, external_web_service::topology(), external_web_service::story)?,
        read_placed("tls-verification", &common, tls_verification::story)?,
        read_placed("credentials", &common, credentials::story)?,
        read_placed("policy-isolation", &common, policy_isolation::story)?
            .topology_in("sidecar", policy_isolation::sidecar_topology()),
        read_placed("origination-scope", &common, origination_scope::story)?,
        read_placed("certificate-chains", &common, certificate_chains::story)?,
        with_paths(&common, &Paths::Covering)?,
        read_placed("traffic-fidelity", &common, traffic_fidelity::story)?,
        with_topologies("service-entries", &common, service_entries::topology, service_entries::story)?,
        with_topologies("tcp-origination", &common, tcp_origination::topology, tcp_origination::story)?,
        read_placed("generated-traffic", &common, generated_traffic::story)?.that_rests(),
    ])
}

fn read<S>(
    folder: &str,
    common: &CommonChecks,
    topology: Topology,
    story: S,
) -> Result<Scenario, CatalogueError>
where
    S: for<'a> StoryFn<'a> + Send + Sync + 'static,
{
    let fixtures = fixtures(folder);
    let scenario = Scenario::new(Catalogue::read_with(&fixtures, common)?, fixtures, topology, story);
    // A test holds the names of the folder and of the file equal.
    Ok(scenario.with_source(format!("scenarios/src/{}.rs", folder.replace('-', "_"))))
}

/// A scenario whose configurations are placements: each has the proxies that its requests pass.
fn read_placed<S>(folder: &str, common: &CommonChecks, story: S) -> Result<Scenario, CatalogueError>
where
    S: for<'a> StoryFn<'a> + Send + Sync + 'static,
{
    let everything = Topology::default()
        .workload(Workload::sleep())
        .gateway(Gateway::egress())
        .gateway(Gateway::ingress());
    let mut scenario = read(folder, common, everything, story)?;
    let ids: Vec<String> = scenario.catalogue.configurations.iter().map(|c| c.id.clone()).collect();
    for id in ids {
        let topology = Placement::topology(&id);
        scenario = scenario.topology_in(id, topology);
    }
    Ok(scenario)
}

/// A scenario at a sidecar and at egress gateways, each with a topology of its own.
fn with_topologies<S>(
    folder: &str,
    common: &CommonChecks,
    topology: fn(&str) -> Topology,
    story: S,
) -> Result<Scenario, CatalogueError>
where
    S: for<'a> StoryFn<'a> + Send + Sync + 'static,
{
    let scenario = read(folder, common, topology("egress-gateway"), story)?;
    Ok(scenario.topology_in("sidecar", topology("sidecar")))
}

/// These scenarios, with these paths in `path-validation`.
///
/// # Errors
/// The built-in catalogue is broken.
pub fn asking(scenarios: &[Scenario], paths: &Paths) -> Result<Vec<Scenario>, CatalogueError> {
    let common = CommonChecks::read(&fixtures(meshproof_fixtures::COMMON))?;
    let other = with_paths(&common, paths)?;
    Ok(scenarios.iter().map(|s| if s.id() == other.id() { other.clone() } else { s.clone() }).collect())
}

fn with_paths(common: &CommonChecks, paths: &Paths) -> Result<Scenario, CatalogueError> {
    let mut scenario = read_placed("path-validation", common, PathValidation(paths.clone()))?;
    scenario.catalogue = path_validation::declare(scenario.catalogue, paths);
    Ok(scenario)
}

/// A fixture folder, as it is built in.
fn fixtures(folder: &str) -> Fixtures {
    Fixtures::embedded(format!("fixtures/{folder}"), meshproof_fixtures::files(folder))
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_catalogue_is_read() {
        if let Err(e) = super::all() {
            panic!("{e}");
        }
    }
}
