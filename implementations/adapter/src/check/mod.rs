//! `meshproof adapter check`: the contract alone, exercised on one adapter, without any scenario. It says what is wrong in
//! the adapter's answers before a scenario turns it into a puzzle.

mod questions;
mod world;

use meshproof_harness::timeouts::Timeouts;

use crate::{Adapter, BadCommand};

/// One point of the contract.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Point {
    /// Stable: `hello`, `address-taken`.
    pub id: &'static str,
    /// What must hold, in one sentence.
    pub demands: &'static str,
    /// Whether it does.
    pub outcome: Outcome,
}

/// Whether a point of the contract is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is; what was seen.
    Kept(String),
    /// It is not; what is wrong.
    Broken(String),
    /// It was not asked; why.
    NotAsked(String),
}

/// Why an adapter could not be checked at all.
#[derive(Debug, thiserror::Error)]
pub enum Unchecked {
    /// There is no such command line.
    #[error(transparent)]
    Command(#[from] BadCommand),
    /// The program cannot be run, or the suite's own server cannot.
    #[error("{0}")]
    Environment(String),
}

/// Exercises the contract on the adapter that this command line starts. Every point is in the answer once, in the order of
/// [`POINTS`].
///
/// # Errors
/// The adapter could not be asked anything.
pub async fn check(command: &str, timeouts: &Timeouts) -> Result<Vec<Point>, Unchecked> {
    let adapter = Adapter::new(command, timeouts)?;
    let mut asked = questions::ask_all(&adapter, timeouts).await?;
    let point = |&(id, demands): &(&'static str, &'static str)| {
        let gone = || Outcome::NotAsked("the adapter was gone before".to_owned());
        Point { id, demands, outcome: asked.remove(id).unwrap_or_else(gone) }
    };
    Ok(POINTS.iter().map(point).collect())
}

/// Every point: name and demand.
pub const POINTS: &[(&str, &str)] = &[
    ("hello", "It answers `hello` with its name, its version, its features and the contract's version."),
    ("features-known", "Every feature that it declares is one that the suite knows."),
    ("unknown-members", "Members of a message that it does not know are ignored."),
    ("apply-empty", "It applies a plan without proxies and repeats the revision."),
    (
        "apply-listens",
        "It applies a plan with a listener; when it says `applied`, a request there is answered by the cluster.",
    ),
    ("log-delivered", "When it says `settled`, the log line of every answered request has been sent, once."),
    (
        "log-readable",
        "The log line is in a format that the suite reads, with method, path, status, User-Agent and upstream address.",
    ),
    ("apply-changes", "When it says `applied`, the next request is handled by the new plan."),
    (
        "address-taken",
        "A plan with an address that is taken is not `applied`, and the plan before stays in force.",
    ),
    ("credential-status", "It answers `credentials` for the proxy that was asked."),
    ("listener-closes", "A proxy that is in the plan no more listens no more."),
    ("stop", "Told to stop, it answers `stopped`, exits, and leaves nothing running and nothing listening."),
    ("end-of-input", "When its standard input ends without `stop`, it exits and leaves nothing running."),
];
