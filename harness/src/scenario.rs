//! What a scenario is: its catalogue, its manifests, what is in place before the document begins, and an async function
//! that follows the document.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use crate::catalogue::{Catalogue, CatalogueError};
use crate::fixtures::Fixtures;
use crate::manifest;
use crate::mesh::{Mesh, Stop};
use crate::target::Needs;
use crate::topology::Topology;

/// One documented task.
///
/// ```no_run
/// use meshproof_harness::claim::Claims;
/// use meshproof_harness::fixtures::Fixtures;
/// use meshproof_harness::mesh::{Mesh, Stop};
/// use meshproof_harness::scenario::Scenario;
/// use meshproof_harness::topology::{Topology, Workload};
///
/// fn payments() -> Result<Scenario, Box<dyn std::error::Error>> {
///     let fixtures = Fixtures::folder(concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/payments"))?;
///     let topology = Topology::default().workload(Workload::sleep());
///     Ok(Scenario::read(fixtures, topology, story)?)
/// }
///
/// async fn story(mesh: &Mesh) -> Result<(), Stop> {
///     mesh.step("An application asks for a payment");
///     let reply = mesh.workload("sleep").get("http://payments.example/charge").await?;
///     mesh.check("single-response", reply.only_response().is(200))
/// }
/// ```
#[derive(Clone)]
#[non_exhaustive]
pub struct Scenario {
    /// What it is called, what it needs, what it checks.
    pub catalogue: Catalogue,
    /// Its manifests.
    pub fixtures: Fixtures,
    /// What is in place before the document begins.
    pub topology: Topology,
    /// The file with the story, as a path in the repository of the suite.
    pub source: Option<String>,
    /// Whether the story lets time pass ([`Mesh::resting`]).
    pub rests: bool,
    /// By configuration, where it differs.
    topologies: BTreeMap<String, Topology>,
    story: Arc<dyn for<'a> Fn(&'a Mesh) -> Story<'a> + Send + Sync>,
}

/// A story that is running.
pub type Story<'a> = Pin<Box<dyn Future<Output = Result<(), Stop>> + Send + 'a>>;

/// An `async fn(&Mesh) -> Result<(), Stop>`. It must judge every check of the configuration once, unless it ends early.
pub trait StoryFn<'a> {
    /// The function's future.
    type Told: Future<Output = Result<(), Stop>> + Send + 'a;

    /// Runs the story.
    fn tell(&self, mesh: &'a Mesh) -> Self::Told;
}

impl<'a, F, T> StoryFn<'a> for F
where
    F: Fn(&'a Mesh) -> T,
    T: Future<Output = Result<(), Stop>> + Send + 'a,
{
    type Told = T;

    fn tell(&self, mesh: &'a Mesh) -> T {
        self(mesh)
    }
}

impl Scenario {
    /// A scenario from its parts.
    pub fn new<S>(catalogue: Catalogue, fixtures: Fixtures, topology: Topology, story: S) -> Self
    where
        S: for<'a> StoryFn<'a> + Send + Sync + 'static,
    {
        let story: Arc<dyn for<'a> Fn(&'a Mesh) -> Story<'a> + Send + Sync> =
            Arc::new(move |mesh| Box::pin(story.tell(mesh)));
        Self { catalogue, fixtures, topology, topologies: BTreeMap::new(), source: None, rests: false, story }
    }

    /// A scenario whose catalogue is `catalogue.toml` among its fixtures.
    ///
    /// # Errors
    /// There is no such file, or it is not a catalogue.
    pub fn read<S>(fixtures: Fixtures, topology: Topology, story: S) -> Result<Self, CatalogueError>
    where
        S: for<'a> StoryFn<'a> + Send + Sync + 'static,
    {
        Ok(Self::new(Catalogue::read(&fixtures)?, fixtures, topology, story))
    }

    /// The same, with the file of its story, which reports then name.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<String>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// The same, and it is among the first to begin, because its story lets time pass.
    #[must_use]
    pub fn that_rests(mut self) -> Self {
        self.rests = true;
        self
    }

    /// The same, and in this configuration another topology is in place: a proxy that no request passes costs time, and an
    /// implementation may not have it.
    #[must_use]
    pub fn topology_in(mut self, configuration: impl Into<String>, topology: Topology) -> Self {
        self.topologies.insert(configuration.into(), topology);
        self
    }

    /// What is in place in this configuration before the document begins.
    #[must_use]
    pub fn topology_of(&self, configuration: &str) -> &Topology {
        self.topologies.get(configuration).unwrap_or(&self.topology)
    }

    /// What a configuration needs of the place of the run, as far as the catalogue and the manifests say it.
    #[must_use]
    pub fn needs(&self, configuration: &str) -> Needs {
        let at_gateways = !self.topology_of(configuration).gateways.is_empty();
        Needs {
            embedded: self.catalogue.needs_embedded,
            system_roots_at_gateways: at_gateways && self.uses_system_roots(),
        }
    }

    /// Whether a DestinationRule originates one-way TLS without naming an authority: the proxy's system roots then decide.
    fn uses_system_roots(&self) -> bool {
        fn within(value: &serde_json::Value) -> bool {
            let named = |key| value.get(key).is_some();
            let own = value.get("mode").is_some_and(|mode| mode == "SIMPLE")
                && !named("credentialName")
                && !named("caCertificates")
                && !named("insecureSkipVerify");
            own || match value {
                serde_json::Value::Object(object) => object.values().any(within),
                serde_json::Value::Array(list) => list.iter().any(within),
                serde_json::Value::Null
                | serde_json::Value::Bool(_)
                | serde_json::Value::Number(_)
                | serde_json::Value::String(_) => false,
            }
        }
        let rules = self
            .fixtures
            .manifests()
            .flat_map(|(stem, text)| manifest::read(stem, text, "default").unwrap_or_default());
        rules.filter(|resource| resource.kind() == "DestinationRule").any(|rule| within(rule.spec()))
    }

    /// The catalogue's id.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.catalogue.id
    }

    /// Runs the story to its end, or until it stops early.
    pub fn tell<'a>(&self, mesh: &'a Mesh) -> Story<'a> {
        (self.story)(mesh)
    }
}

impl fmt::Debug for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scenario").field("id", &self.catalogue.id).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::{Gateway, Workload};

    #[test]
    fn a_configuration_may_have_a_topology_of_its_own() {
        let fixtures = Fixtures::embedded("fixtures/sample", [("none.yaml", "")]);
        let topology = Topology::default().workload(Workload::sleep());
        let own = Topology::default().gateway(Gateway::ingress());
        let scenario =
            Scenario::new(Catalogue::new("sample"), fixtures, topology, |_: &Mesh| async { Ok(()) })
                .topology_in("ingress-gateway", own);
        let counts = |configuration| {
            let topology = scenario.topology_of(configuration);
            (topology.workloads.len(), topology.gateways.len())
        };
        assert_eq!(counts("ingress-gateway"), (0, 1));
        assert_eq!(counts("sidecar"), (1, 0));
    }
}
