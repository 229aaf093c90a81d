//! The correlation token, which connects the evidence of the three sides about one request. The workload puts it into
//! its User-Agent, which every default access-log format shows.

use std::sync::atomic::{AtomicU64, Ordering};

/// The product name in the User-Agent.
pub const PRODUCT: &str = "meshproof";

/// Makes tokens that are unique within a run: `RUN-SCENARIO.N`.
#[derive(Debug)]
pub struct Tokens {
    prefix: String,
    next: AtomicU64,
}

impl Tokens {
    /// Tokens that begin with `prefix` (letters, digits and `-`).
    #[must_use]
    pub fn new(prefix: impl Into<String>) -> Self {
        Self { prefix: prefix.into(), next: AtomicU64::new(1) }
    }

    /// A new token.
    #[must_use]
    pub fn next(&self) -> String {
        // Zero-padded: no token is a prefix of another, and requests are equal in length.
        format!("{}.{:05}", self.prefix, self.next.fetch_add(1, Ordering::Relaxed))
    }
}

/// The User-Agent that carries `token`: `meshproof/TOKEN`.
#[must_use]
pub fn user_agent(token: &str) -> String {
    format!("{PRODUCT}/{token}")
}

/// The token in a User-Agent, if it is one of ours (an application may have added a product of its own around it).
#[must_use]
pub fn token_of(user_agent: &str) -> Option<&str> {
    let start = user_agent.find("meshproof/")? + PRODUCT.len() + 1;
    let rest = &user_agent[start..];
    let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '-' || c == '.')).unwrap_or(rest.len());
    (end > 0).then(|| &rest[..end])
}
