//! What a scenario is: its catalogue, its manifests, what is in place before the document begins, and an async function
//! that follows the document.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use crate::catalogue::{Catalogue, CatalogueError};
use crate::fixtures::Fixtures;
use crate::mesh::{Mesh, Stop};
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
        Self { catalogue, fixtures, topology, story: Arc::new(move |mesh| Box::pin(story.tell(mesh))) }
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
