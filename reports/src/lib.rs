//! The report: its data model, and what renders it.
//!
//! This crate is a leaf. It knows nothing of targets, scenarios or networks: what goes in is a
//! [`Report`], what comes out is text for people or machines. A renderer never asks anything of the
//! implementation that was judged.
//!
//! Words are those of the project's vocabulary: an *implementation* is judged by *scenarios*, each made
//! of *checks*; a check's *verdict* rests on *evidence* from the workload, the proxies and the external
//! services.

#[cfg(test)]
mod arbitrary;
pub mod compare;
mod describe;
pub mod event;
pub mod evidence;
pub mod expectations;
pub mod feature;
pub mod formats;
pub mod html;
pub mod json;
pub mod kills;
mod points;
pub mod report;
#[cfg(any(test, feature = "sample"))]
pub mod sample;
pub mod story;
pub mod terminal;
pub mod visible;
pub mod words;

pub use event::Event;
pub use evidence::{
    AccessLog, Change, Connection, CredentialState, CredentialStatus, Evidence, EvidenceId, Exchange,
    ExchangeError, ExchangeErrorKind, Fact, Header, Hop, HopResult, LogFields, PeerCertificate, Response,
    ServerRequest, Side, TlsFacts,
};
pub use feature::{Feature, UnknownFeature};
pub use json::{from_json, schema, to_json};
pub use report::{
    CheckResult, Difference, Document, ExpectedFailure, ExternalService, Implementation, Level, Report, Run,
    SCHEMA, ScenarioResult, Step, SuiteFault, Tally, Timing, Verdict,
};
