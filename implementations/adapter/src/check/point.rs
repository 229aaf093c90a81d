//! The points of the contract that are tested.

use crate::command::BadCommand;

/// One point of the contract, tested.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContractPoint {
    /// Stable: `hello`, `address-taken`.
    pub id: &'static str,
    /// What the contract demands, in one sentence.
    pub demands: &'static str,
    /// Whether the adapter keeps it.
    pub outcome: Outcome,
}

/// Whether an adapter keeps a point of the contract.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It does. The observation.
    Kept(String),
    /// It does not. What is wrong.
    Broken(String),
    /// The point was not tested. The reason.
    NotAsked(String),
}

/// Why an adapter could not be tested at all.
#[derive(Debug, thiserror::Error)]
pub enum Unchecked {
    /// The text is not a command line.
    #[error(transparent)]
    Command(#[from] BadCommand),
    /// The program cannot be run, or the suite's own server cannot.
    #[error("{0}")]
    Environment(String),
}

/// Every point: its id and what it demands.
pub const POINTS: &[(&str, &str)] = &[
    ("hello", "It answers `hello` with its name, its version, its features and the version of the contract."),
    ("features-known", "It declares only features that the suite knows."),
    ("unknown-members", "It ignores members of a message that it does not know."),
    ("apply-empty", "It applies a plan without proxies and repeats the revision."),
    (
        "apply-listens",
        "It applies a plan with a listener. After `applied`, the cluster answers a request to that listener.",
    ),
    ("log-delivered", "Before `settled`, it sends the log line of every answered request once."),
    (
        "log-readable",
        "The log line is in a format that the suite reads, with method, path, status, User-Agent and \
         upstream address.",
    ),
    ("apply-changes", "After `applied`, the new plan handles the next request."),
    (
        "address-taken",
        "It does not answer `applied` to a plan with an address that is in use, and the earlier plan stays \
         in force.",
    ),
    ("credential-status", "It answers `credentials` for the proxy in the question."),
    ("listener-closes", "A proxy that the plan no longer contains stops listening."),
    ("stop", "After `stop`, it answers `stopped`, exits, and leaves no process and no listener."),
    (
        "end-of-input",
        "When its standard input ends without `stop`, it exits and leaves no process and no listener.",
    ),
];
