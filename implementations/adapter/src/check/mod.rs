//! `meshproof adapter check`: tests the contract alone on one adapter, without any scenario. It shows what is
//! wrong in the adapter's answers before that causes confusing failures in a scenario.

mod bench;
mod point;
mod questions;

use meshproof_harness::timeouts::Timeouts;

use crate::data_plane::Adapter;

pub use point::{ContractPoint, Outcome, POINTS, Unchecked};

/// Tests the contract on the adapter that this command line starts. The result has every point once, in the
/// order of [`POINTS`].
///
/// # Errors
/// The adapter cannot be started, or the suite's own server cannot.
pub async fn check(command: &str, timeouts: &Timeouts) -> Result<Vec<ContractPoint>, Unchecked> {
    let adapter = Adapter::new(command, timeouts)?;
    let mut outcomes = questions::ask_all(&adapter, timeouts).await?;
    let point = |&(id, demands): &(&'static str, &'static str)| {
        let ended = || {
            Outcome::NotAsked(
                "an earlier point was not kept, without which this one cannot be asked".to_owned(),
            )
        };
        ContractPoint { id, demands, outcome: outcomes.remove(id).unwrap_or_else(ended) }
    };
    Ok(POINTS.iter().map(point).collect())
}
