//! A scenario's catalogue: what the scenario is called, what it needs of an implementation, and what it checks. It is data: it
//! lies as `catalogue.toml` beside the scenario's manifests, and `list`, `explain` and the report show it.

mod read;

pub use meshproof_model::Level;

use crate::feature::Feature;

pub use read::{CatalogueError, CommonChecks};

/// What there is to know about a scenario without running it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Catalogue {
    /// Stable: `sidecar-origination`. Also the stem of the scenario's file and the name of its fixture folder.
    pub id: String,
    /// One line.
    pub title: String,
    /// A paragraph for readers who do not know the document: what is proved when every check passes. May be empty.
    pub proves: String,
    /// The document's title.
    pub document: String,
    /// Where the document is published.
    pub url: String,
    /// The features that an implementation must declare for the scenario to run at all. Without one of them, every check is
    /// skipped.
    pub features: Vec<Feature>,
    /// The scenario's variants. Each runs and is reported on its own. Never empty.
    pub configurations: Vec<Configuration>,
    /// What the scenario checks, in the order in which a reader of the document meets it.
    pub checks: Vec<Check>,
    /// Whether every check needs the embedded external service ([`crate::external::Documented::Embedded`]), so that nothing needs
    /// to be started where there is none.
    pub needs_embedded: bool,
    /// What the document says that hosts on the internet answer. Empty: the document asks none, so the scenario cannot run
    /// against real hosts.
    pub live: Vec<Promise>,
}

/// A variant of a scenario.
#[derive(Clone, Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Configuration {
    /// Stable: `port-rewrite`.
    pub id: String,
    /// One line.
    pub title: String,
    /// The features that this configuration needs in addition to the scenario's.
    #[serde(default)]
    pub features: Vec<Feature>,
}

/// What a document says that a real host answers to a client that reaches it directly. In a live run
/// ([`crate::external::ExternalChoice::Live`]) the host is asked before the document begins and after it ends, from outside the
/// mesh. If the host answers something else, that is an error of the environment and not a failure of the mesh.
#[derive(Clone, Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Promise {
    /// The URL that is requested. Redirects are followed.
    pub url: String,
    /// The statuses, one per hop.
    pub statuses: Vec<u16>,
    /// Where the first hop redirects to.
    pub location: Option<String>,
    /// The HTTP version of the last response: `HTTP/2`.
    pub version: String,
    /// A text in the last response's body, if the document names one.
    pub body: Option<String>,
}

/// One named requirement.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Check {
    /// Stable within its scenario: `single-response`.
    pub id: String,
    /// How binding the requirement is.
    pub level: Level,
    /// Whether the check is a control: it proves that the suite can see what a later check denies.
    pub control: bool,
    /// The document's section.
    pub section: String,
    /// What must hold.
    pub requirement: String,
    /// Why it matters.
    pub why: String,
    /// Which evidence decides.
    pub observed: String,
    /// The configurations that have the check. Empty: all.
    pub only_in: Vec<String>,
    /// The features that an implementation must declare for the check to be judged, in addition to the scenario's.
    pub features: Vec<Feature>,
}

impl Catalogue {
    /// A catalogue without checks, for a scenario that is written in code alone. Its one configuration is called `only`.
    pub fn new(id: impl Into<String>) -> Self {
        let id = id.into();
        Self {
            title: id.clone(),
            proves: String::new(),
            id,
            document: String::new(),
            url: String::new(),
            features: Vec::new(),
            configurations: vec![Configuration {
                id: "only".to_owned(),
                title: "the only one".to_owned(),
                features: Vec::new(),
            }],
            checks: Vec::new(),
            needs_embedded: false,
            live: Vec::new(),
        }
    }

    /// The same with these checks.
    #[must_use]
    pub fn checks(mut self, checks: impl IntoIterator<Item = Check>) -> Self {
        self.checks.extend(checks);
        self
    }

    /// The same with this promise of a real host.
    #[must_use]
    pub fn live(mut self, promise: Promise) -> Self {
        self.live.push(promise);
        self
    }

    /// The check with this id.
    #[must_use]
    pub fn check(&self, id: &str) -> Option<&Check> {
        self.checks.iter().find(|c| c.id == id)
    }

    /// `scenario/check`.
    #[must_use]
    pub fn check_id(&self, check: &Check) -> String {
        format!("{}/{}", self.id, check.id)
    }

    /// The configuration with this id.
    #[must_use]
    pub fn configuration(&self, id: &str) -> Option<&Configuration> {
        self.configurations.iter().find(|c| c.id == id)
    }

    /// The checks that this configuration has.
    pub fn checks_in(&self, configuration: &str) -> impl Iterator<Item = &Check> {
        self.checks.iter().filter(move |c| c.is_in(configuration))
    }

    /// Every feature that an implementation must declare for this configuration to run at all.
    pub fn needs(&self, configuration: &str) -> impl Iterator<Item = Feature> {
        let of_configuration = self.configuration(configuration).map(|c| c.features.as_slice());
        self.features.iter().chain(of_configuration.unwrap_or_default()).copied()
    }
}

impl Promise {
    /// A host that answers this URL with these statuses, the last one in this HTTP version.
    pub fn new(url: impl Into<String>, statuses: &[u16], version: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            statuses: statuses.to_vec(),
            location: None,
            version: version.into(),
            body: None,
        }
    }

    /// The same with a redirect to this URL as the first hop.
    #[must_use]
    pub fn location(mut self, location: impl Into<String>) -> Self {
        self.location = Some(location.into());
        self
    }

    /// The same with a text in the last response's body.
    #[must_use]
    pub fn body(mut self, text: impl Into<String>) -> Self {
        self.body = Some(text.into());
        self
    }
}

impl Check {
    /// A MUST that every configuration has.
    pub fn must(id: impl Into<String>, section: impl Into<String>, requirement: impl Into<String>) -> Self {
        Self {
            id: id.into(),
            level: Level::Must,
            control: false,
            section: section.into(),
            requirement: requirement.into(),
            why: String::new(),
            observed: String::new(),
            only_in: Vec::new(),
            features: Vec::new(),
        }
    }

    /// The same with another level.
    #[must_use]
    pub fn level(mut self, level: Level) -> Self {
        self.level = level;
        self
    }

    /// The same as a control.
    #[must_use]
    pub fn control(mut self) -> Self {
        self.control = true;
        self
    }

    /// The same with its reason.
    #[must_use]
    pub fn why(mut self, why: impl Into<String>) -> Self {
        self.why = why.into();
        self
    }

    /// The same with the evidence that decides.
    #[must_use]
    pub fn observed(mut self, observed: impl Into<String>) -> Self {
        self.observed = observed.into();
        self
    }

    /// The same for these configurations alone.
    #[must_use]
    pub fn only_in<'a>(mut self, configurations: impl IntoIterator<Item = &'a str>) -> Self {
        self.only_in.extend(configurations.into_iter().map(str::to_owned));
        self
    }

    /// The same, judged only for implementations that declare these features.
    #[must_use]
    pub fn features(mut self, features: impl IntoIterator<Item = Feature>) -> Self {
        self.features.extend(features);
        self
    }

    /// Whether this configuration has the check.
    #[must_use]
    pub fn is_in(&self, configuration: &str) -> bool {
        self.only_in.is_empty() || self.only_in.iter().any(|c| c == configuration)
    }
}
