//! Benign variants: correct but unusual, to prove that no check fails an implementation for its style.

mod connections;
mod handshakes;
mod logs;
mod messages;

use super::definition::Definition;

/// Every benign variant, by what is unusual about it.
pub(super) const TABLES: &[&[Definition]] =
    &[connections::TABLE, handshakes::TABLE, messages::TABLE, logs::TABLE];
