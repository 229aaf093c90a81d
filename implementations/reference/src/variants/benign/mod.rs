//! Benign variants: correct but unusual, to prove that no check fails an implementation for its style.

mod connections;
mod messages;

use super::definition::Definition;

/// Every benign variant, by what is unusual about it.
pub(super) const TABLES: &[&[Definition]] = &[connections::TABLE, messages::TABLE];
