//! Logs of containers, followed.

/// Why a log is followed no longer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogEnd {
    /// [`LogFollower::stop`] was called.
    Stopped,
    /// The container or its pod is gone; in words.
    ContainerEnded(String),
    /// The stream broke off and could not be taken up again; in words.
    Broken(String),
}

/// A log that is being followed. Dropped, it stops.
#[derive(Debug)]
pub struct LogFollower {}

impl LogFollower {
    /// The end, when it has come already.
    #[must_use]
    pub fn ended(&self) -> Option<LogEnd> {
        unimplemented!("follows")
    }

    /// Returns when the log has ended by itself.
    pub async fn wait(&self) -> LogEnd {
        unimplemented!("follows")
    }

    /// Stops and returns how it ended; lines that had arrived have been handed on.
    pub async fn stop(self) -> LogEnd {
        unimplemented!("follows")
    }
}
