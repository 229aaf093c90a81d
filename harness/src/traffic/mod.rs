//! Generated traffic: exchanges that a seeded generator makes, for the ledger to judge. Nothing is written by hand per
//! request: what must arrive follows from the request, the configuration in force and the RFCs.

mod answer;
mod bag;
mod connection;
mod elements;
mod exchange;
mod generate;
mod shrink;

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

pub use answer::{AnswerFraming, AnswerSpec, DIRECTIONS, EVENT, events};
pub use connection::{Aspect, ClientHttp, GeneratedConnection};
pub use exchange::GeneratedExchange;
pub use generate::{Generator, Grammar};
pub(crate) use shrink::candidates;

/// How much traffic a scenario generates, and from which seed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Traffic {
    /// The same seed makes the same exchanges in the same order.
    pub seed: u64,
    /// How much is generated in each configuration that does.
    pub budget: Budget,
    /// Whether an exchange that fails is made smaller, which costs further exchanges.
    pub shrink: bool,
}

impl Default for Traffic {
    fn default() -> Self {
        Self { seed: 1, budget: Budget::Exchanges(150), shrink: true }
    }
}

/// How much traffic is generated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Budget {
    /// So many exchanges.
    Exchanges(u64),
    /// As many as fit into this time.
    Time(Duration),
}

impl fmt::Display for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exchanges(count) => write!(f, "{count}"),
            Self::Time(time) => write!(f, "{}s", time.as_secs_f64()),
        }
    }
}

/// Why a text is not a budget.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0:?} is not a budget. Give a number of exchanges (5000) or a time (10s, 500ms, 2m)")]
pub struct BudgetError(String);

impl FromStr for Budget {
    type Err = BudgetError;

    fn from_str(text: &str) -> Result<Self, BudgetError> {
        let wrong = || BudgetError(text.to_owned());
        if let Ok(count) = text.parse::<u64>() {
            return if count > 0 { Ok(Self::Exchanges(count)) } else { Err(wrong()) };
        }
        let time = humantime::parse_duration(text).map_err(|_| wrong())?;
        if time.is_zero() { Err(wrong()) } else { Ok(Self::Time(time)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_is_a_number_of_exchanges_or_a_time() {
        assert_eq!("5000".parse(), Ok(Budget::Exchanges(5000)));
        assert_eq!("10s".parse(), Ok(Budget::Time(Duration::from_secs(10))));
        for wrong in ["", "0", "0s", "-1", "ten", "5x"] {
            let error = wrong.parse::<Budget>().unwrap_err().to_string();
            assert!(error.contains("number of exchanges"), "{error}");
        }
    }
}
