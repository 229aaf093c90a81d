//! Saboteurs: each breaks one thing, to prove that a check can fail.

mod accounts;
mod external;
mod gateways;
mod identities;
mod listeners;
mod log;
mod misread;
mod old_tls;
mod outage;
mod plan;
mod requests;
mod responses;
mod secrets;
mod sending;
mod stale;
mod streams;
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
    gateways::TABLE,
    identities::TABLE,
    listeners::TABLE,
    requests::TABLE,
    sending::TABLE,
    old_tls::TABLE,
    responses::TABLE,
    log::TABLE,
    external::TABLE,
    accounts::TABLE,
    streams::TABLE,
];
