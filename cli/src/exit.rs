//! Exit codes, and why a command did not do what it was asked.

/// Every MUST passed, or the command did what it was asked.
pub const OK: u8 = 0;
/// A MUST failed or is inconclusive.
pub const FAILED: u8 = 1;
/// The command line is wrong.
pub const USAGE: u8 = 2;
/// The environment or the suite is at fault, or no check was executed.
pub const ERROR: u8 = 3;

/// Why a command did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// The command line is wrong.
    #[error("{0}")]
    Usage(String),
    /// The environment or the suite is at fault. The message says how to fix it.
    #[error("{0}")]
    Environment(String),
}

impl Refusal {
    /// The process's exit code.
    #[must_use]
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) => USAGE,
            Self::Environment(_) => ERROR,
        }
    }
}
