//! Saboteurs: each breaks one thing, to prove that a check can fail.

mod accounts;
mod bytes;
mod chains;
mod documents;
mod entries;
mod external;
mod forged_hop;
mod gateways;
mod identities;
mod isolation;
mod lapses;
mod listeners;
mod log;
mod misread;
mod names;
mod old_tls;
mod outage;
mod plan;
mod repeats;
mod requests;
mod responses;
mod rules;
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
    chains::TABLE,
    names::TABLE,
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
    isolation::TABLE,
    forged_hop::TABLE,
    repeats::TABLE,
    documents::TABLE,
    bytes::TABLE,
    entries::TABLE,
    lapses::TABLE,
    rules::TABLE,
];
