//! The data that everything else in meshproof names: evidence, verdicts, the report, the events of a run.
//!
//! This crate holds data and its JSON form, nothing that renders it and nothing that runs. Words are those of the
//! project's vocabulary: an *implementation* is judged by *scenarios*, each made of *checks*; the *verdict* of a check rests
//! on *evidence* from the workload, the proxies and the external services.

pub mod event;
pub mod evidence;
pub mod feature;
pub mod json;
pub mod kills;
pub mod report;
pub mod resource;
#[cfg(any(test, feature = "sample"))]
pub mod sample;
pub mod tls_failure;
pub mod visible;

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
pub use resource::{Resource, ResourceId};
pub use tls_failure::TlsFailure;
