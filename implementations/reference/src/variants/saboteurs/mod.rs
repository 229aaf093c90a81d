//! Saboteurs: each breaks one thing, to prove that a check can fail.

mod accounts;
mod external;
mod listeners;
mod log;
mod misread;
mod outage;
mod plan;
mod requests;
mod responses;
mod secrets;
mod sending;
mod stale;
mod verification;
mod way_out;

use super::definition::Definition;

/// Every saboteur, by what it breaks.
pub(super) const TABLES: &[&[Definition]] = &[
    misread::TABLE,
    plan::TABLE,
    way_out::TABLE,
    stale::TABLE,
    secrets::TABLE,
    outage::TABLE,
    verification::TABLE,
    listeners::TABLE,
    requests::TABLE,
    sending::TABLE,
    responses::TABLE,
    log::TABLE,
    external::TABLE,
    accounts::TABLE,
];
