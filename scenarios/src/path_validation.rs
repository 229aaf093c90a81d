//! RFC 5280, section 6: which certificate paths a proxy accepts that opens TLS. Each path is one that a rule decides; one server
//! presents them all, each under a name of its own.

mod checks;
mod file;
mod matrix;
mod way;

use meshproof_harness::mesh::{Mesh, Stop};
use meshproof_harness::scenario::{Story, StoryFn};

pub use self::checks::Paths;
pub(crate) use self::checks::declare;
use self::way::Way;

/// The story, which depends on what is asked.
pub(crate) struct PathValidation(pub(crate) Paths);

impl<'a> StoryFn<'a> for PathValidation {
    type Told = Story<'a>;

    fn tell(&self, mesh: &'a Mesh) -> Story<'a> {
        let paths = self.0.clone();
        Box::pin(async move { story(mesh, &paths).await })
    }
}

async fn story(mesh: &Mesh, paths: &Paths) -> Result<(), Stop> {
    let way = Way::new(mesh)?;
    match paths {
        Paths::Covering | Paths::Full => matrix::story(&way, matches!(paths, Paths::Full)).await,
        Paths::File(vectors) => file::story(&way, vectors).await,
    }
}
