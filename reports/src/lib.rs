//! The report's data model and its renderers.
//!
//! This crate depends on no other crate of the workspace. It does not know targets, scenarios or networks. Its input is a
//! [`Report`], its output is text for people or programs. A renderer never contacts the implementation under test.
//!
//! An *implementation* is judged by *scenarios*, which consist of *checks*. The *verdict* of a check rests on *evidence*
//! from the workload, the proxies and the external services.

#[cfg(test)]
mod arbitrary;
pub mod compare;
mod describe;
pub mod event;
pub mod evidence;
pub mod expectations;
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
pub use json::{from_json, schema, to_json};
pub use report::{
    CheckResult, Difference, Document, ExpectedFailure, ExternalService, Implementation, Level, Report, Run,
    SCHEMA, ScenarioResult, Step, SuiteFault, Tally, Timing, Verdict,
};
