//! What is asked of one host, and what must become of it.

/// The page of every server.
pub(super) const PAGE: &str = "/private/report";

/// What it says.
pub(super) const TEXT: &str = "for your eyes only";

/// What must become of a request.
pub(super) enum Outcome {
    Accepted,
    /// The other host differs in the one thing under test, and must be accepted.
    Refused {
        shown_for: String,
        unlike: String,
    },
    Recorded,
}

/// One host, and what must become of a request for it.
pub(super) struct Case {
    pub(super) check: &'static str,
    pub(super) host: String,
    pub(super) outcome: Outcome,
}
