//! Why a run does not begin.

use std::path::PathBuf;

/// Why a run did not begin.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The target cannot be used.
    #[error("{0}")]
    Target(String),
    /// The implementation did not identify itself, which is its own fault. No check was executed, so the message appears
    /// once and not once per check.
    #[error("nothing was judged: {0}")]
    Implementation(String),
    /// The run's folder cannot be created.
    #[error("the run's folder {} cannot be created: {source}; set TMPDIR to a folder that you may write to", path.display())]
    Folder {
        /// Where.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The suite's own CA could not be created.
    #[error("the suite's certificate authority could not be created: {0}")]
    Certificates(String),
}
