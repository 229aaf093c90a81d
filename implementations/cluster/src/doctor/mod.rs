//! What a cluster must have before a run can judge its mesh: each finding says what is, and the command that mends it.

mod examine;
mod render;

pub use examine::examine;
pub use render::{as_text, refusal};

/// How a finding bears on a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Weight {
    /// As it must be.
    Good,
    /// Worth knowing; a run works.
    Note,
    /// A run cannot work.
    Lacking,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How it bears on a run.
    pub weight: Weight,
    /// What was looked at: `permissions`.
    pub about: &'static str,
    /// What is.
    pub says: String,
    /// The command that mends it, or what else to do; empty where nothing is to be done.
    pub mend: String,
}

impl Finding {
    fn good(about: &'static str, says: impl Into<String>) -> Self {
        Self { weight: Weight::Good, about, says: says.into(), mend: String::new() }
    }

    fn note(about: &'static str, says: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { weight: Weight::Note, about, says: says.into(), mend: mend.into() }
    }

    fn lacking(about: &'static str, says: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { weight: Weight::Lacking, about, says: says.into(), mend: mend.into() }
    }
}
