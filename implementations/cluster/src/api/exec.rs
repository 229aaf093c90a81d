//! Programs run in containers.

use std::time::Duration;

use bytes::Bytes;

/// How much and how long.
#[derive(Clone, Copy, Debug)]
pub struct ExecLimits {
    /// Bytes of standard output that are kept.
    pub stdout: usize,
    /// Bytes of standard error that are kept.
    pub stderr: usize,
    /// From the request to the exit code.
    pub time: Duration,
}

/// What a program said, and how it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExecOutput {
    /// Standard output, at most as much as was asked for.
    pub stdout: Bytes,
    /// Standard error, likewise.
    pub stderr: Bytes,
    /// The exit code; none where the runtime did not tell it.
    pub code: Option<i32>,
    /// Whether either was cut off.
    pub truncated: bool,
}
