//! The data that every crate of meshproof shares: evidence, verdicts, the report, and the events of a run.
//!
//! This crate contains data and its JSON form. It contains no renderer and runs nothing.
//!
//! An *implementation* is judged by *scenarios*, which consist of *checks*. The *verdict* of a check rests on
//! *evidence* from the workload, the proxies and the external services.

mod access_log;
pub mod cause;
mod credential;
pub mod deviation;
pub mod diagnosis;
pub mod event;
pub mod evidence;
pub mod feature;
pub mod json;
pub mod kills;
pub mod names;
pub mod report;
pub mod resource;
mod result;
#[cfg(any(test, feature = "sample"))]
pub mod sample;
pub mod tls_failure;
pub mod verification;
pub mod visible;

pub use cause::{Cause, CausedCheck, causes};
pub use credential::{CertificateKind, CredentialState, CredentialStatus};
pub use deviation::{Deviation, Field, Party, Role, ValueKind};
pub use event::Event;
pub use evidence::{
    AccessLog, Change, Connection, Evidence, EvidenceId, Exchange, ExchangeError, ExchangeErrorKind, Fact,
    Header, Hop, HopResult, LogFields, PeerCertificate, Response, ServerAnswer, ServerRequest, Side, TCP,
    TlsFacts,
};
pub use feature::{Feature, ReportedFeature, UnknownFeature};
pub use json::{from_json, schema, to_json};
pub use report::{
    CheckResult, Difference, Document, ExpectedFailure, ExternalService, Implementation, Level, Report, Run,
    SCHEMA, ScenarioResult, Step, SuiteFault, Tally, Timing, Verdict,
};
pub use resource::{Resource, ResourceId};
pub use tls_failure::TlsFailure;
