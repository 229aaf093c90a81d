//! What a scenario is: data for `list` and `explain`, and a function that tells the document's story.

use std::future::Future;
use std::pin::Pin;

use meshproof_model::Level;

use crate::mesh::{Mesh, Stop};
use crate::topology::Topology;

/// One documented task.
pub struct Scenario {
    /// Stable: `sidecar-origination`. Also the stem of its file and its fixture folder.
    pub id: &'static str,
    /// One line.
    pub title: &'static str,
    /// The document's title.
    pub document: &'static str,
    /// Where the document is published.
    pub url: &'static str,
    /// What an implementation must declare ([`crate::feature`]) to be asked at all; without one, every check is skipped.
    pub features: &'static [&'static str],
    /// Its variants, each run and reported on its own. Never empty.
    pub configurations: &'static [Configuration],
    /// What it checks, in the order in which a reader of the document meets it.
    pub checks: &'static [Check],
    /// The manifests, by file stem.
    pub fixtures: &'static [(&'static str, &'static str)],
    /// What the document says of the hosts on the internet that it asks; empty: it asks none, and cannot be run against real ones.
    pub live: &'static [Promise],
    /// What is in place before the document begins.
    pub topology: fn() -> Topology,
    /// The story. Every check of the configuration is judged once, unless the function ends early.
    pub run: for<'a> fn(&'a Mesh) -> Story<'a>,
}

/// What a scenario function returns.
pub type Story<'a> = Pin<Box<dyn Future<Output = Result<(), Stop>> + Send + 'a>>;

/// A variant of a scenario.
#[derive(Debug)]
pub struct Configuration {
    /// Stable: `port-rewrite`. One that is called after a feature (`ingress-gateway`: origination happens there) needs that
    /// feature too.
    pub id: &'static str,
    /// One line.
    pub title: &'static str,
}

/// What a document says that a real host answers to whoever asks it with nothing in between. In a live run
/// ([`crate::external::ExternalChoice::Live`]) it is asked before the document begins and after it ends, from outside the mesh: a host
/// that does not keep it is no fault of the mesh's.
#[derive(Clone, Copy, Debug)]
pub struct Promise {
    /// What is asked; redirects are followed.
    pub url: &'static str,
    /// The statuses, one a hop.
    pub statuses: &'static [u16],
    /// Where the first hop redirects to.
    pub location: Option<&'static str>,
    /// The HTTP version of the last answer: `HTTP/2`.
    pub version: &'static str,
    /// A text in the last answer's body, where the document names one.
    pub body: Option<&'static str>,
}

/// One named requirement.
#[derive(Debug)]
pub struct Check {
    /// Stable within its scenario: `single-response`.
    pub id: &'static str,
    /// How binding it is.
    pub level: Level,
    /// Whether it is a control: it proves that the suite can see what a later check denies.
    pub control: bool,
    /// The document's section.
    pub section: &'static str,
    /// What must hold, in one sentence.
    pub requirement: &'static str,
    /// Why anybody should care.
    pub why: &'static str,
    /// Which side's evidence decides.
    pub observed: &'static str,
    /// The configurations that have it; empty: all.
    pub only_in: &'static [&'static str],
    /// The feature that an implementation must declare to be asked, beside those of the scenario.
    pub feature: Option<&'static str>,
    /// Further ones.
    pub features: &'static [&'static str],
}

impl Check {
    /// A MUST that every configuration has.
    #[must_use]
    pub const fn must(id: &'static str, section: &'static str, requirement: &'static str) -> Self {
        Self {
            id,
            level: Level::Must,
            control: false,
            section,
            requirement,
            why: "",
            observed: "",
            only_in: &[],
            feature: None,
            features: &[],
        }
    }

    /// The same with another level.
    #[must_use]
    pub const fn level(mut self, level: Level) -> Self {
        self.level = level;
        self
    }

    /// The same as a control.
    #[must_use]
    pub const fn control(mut self) -> Self {
        self.control = true;
        self
    }

    /// The same with its reason.
    #[must_use]
    pub const fn why(mut self, why: &'static str) -> Self {
        self.why = why;
        self
    }

    /// The same with how it is observed.
    #[must_use]
    pub const fn observed(mut self, observed: &'static str) -> Self {
        self.observed = observed;
        self
    }

    /// The same for some configurations only.
    #[must_use]
    pub const fn only_in(mut self, configurations: &'static [&'static str]) -> Self {
        self.only_in = configurations;
        self
    }

    /// The same, asked only of implementations that declare this feature.
    #[must_use]
    pub const fn feature(mut self, feature: &'static str) -> Self {
        self.feature = Some(feature);
        self
    }

    /// The same, asked only of implementations that declare all of these features.
    #[must_use]
    pub const fn features(mut self, features: &'static [&'static str]) -> Self {
        self.features = features;
        self
    }

    /// Every feature that an implementation must declare to be asked, beside those of the scenario.
    pub fn needs(&self) -> impl Iterator<Item = &'static str> {
        self.feature.into_iter().chain(self.features.iter().copied())
    }

    /// Whether this configuration has it.
    #[must_use]
    pub fn is_in(&self, configuration: &str) -> bool {
        self.only_in.is_empty() || self.only_in.contains(&configuration)
    }
}

impl Scenario {
    /// Every feature that an implementation must declare to be asked at all in this configuration.
    pub fn needs(&self, configuration: &str) -> impl Iterator<Item = &'static str> {
        let called_after = crate::feature::NAMES.iter().find(|name| **name == configuration);
        self.features.iter().chain(called_after).copied()
    }

    /// `scenario/check`.
    #[must_use]
    pub fn check_id(&self, check: &Check) -> String {
        format!("{}/{}", self.id, check.id)
    }

    /// The check of this name.
    #[must_use]
    pub fn check(&self, id: &str) -> Option<&'static Check> {
        self.checks.iter().find(|c| c.id == id)
    }
}
