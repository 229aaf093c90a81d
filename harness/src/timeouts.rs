//! Every timeout of the suite, named after the condition that it bounds. None is a sleep: each wait ends the moment
//! its condition holds.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::load::slowdown;
use crate::names::did_you_mean;

/// One timeout. Set with `--timeout NAME=DURATION`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Timeout {
    /// For one request.
    Request,
    /// For `100 Continue`.
    Continue,
    /// For an external service to start.
    ExternalServiceReady,
    /// For the image of an external service in a container.
    ImageFetched,
    /// For the images of a cluster's pods.
    ImagesPulled,
    /// For the implementation to start.
    ImplementationReady,
    /// For an adapter's `hello`.
    AdapterHello,
    /// For each other answer of an adapter.
    AdapterAnswer,
    /// For an adapter to stop.
    AdapterStop,
    /// For a cluster's API server.
    ClusterAnswer,
    /// For a changed configuration.
    Applied,
    /// For late evidence.
    EvidenceSettled,
    /// For a scenario's removal.
    Teardown,
    /// For a whole scenario.
    Scenario,
}

impl Timeout {
    /// Every timeout, in the order in which `meshproof list --timeouts` shows them.
    pub const ALL: [Self; 14] = [
        Self::Request,
        Self::Continue,
        Self::ExternalServiceReady,
        Self::ImageFetched,
        Self::ImagesPulled,
        Self::ImplementationReady,
        Self::AdapterHello,
        Self::AdapterAnswer,
        Self::AdapterStop,
        Self::ClusterAnswer,
        Self::Applied,
        Self::EvidenceSettled,
        Self::Teardown,
        Self::Scenario,
    ];

    /// Its name: `external-service-ready`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::Continue => "continue",
            Self::ExternalServiceReady => "external-service-ready",
            Self::ImageFetched => "image-fetched",
            Self::ImagesPulled => "images-pulled",
            Self::ImplementationReady => "implementation-ready",
            Self::AdapterHello => "adapter-hello",
            Self::AdapterAnswer => "adapter-answer",
            Self::AdapterStop => "adapter-stop",
            Self::ClusterAnswer => "cluster-answer",
            Self::Applied => "applied",
            Self::EvidenceSettled => "evidence-settled",
            Self::Teardown => "teardown",
            Self::Scenario => "scenario",
        }
    }

    /// The default.
    #[must_use]
    pub const fn default(self) -> Duration {
        Duration::from_secs(match self {
            Self::Continue => 1,
            Self::Request
            | Self::AdapterHello
            | Self::AdapterAnswer
            | Self::AdapterStop
            | Self::EvidenceSettled => 10,
            Self::ExternalServiceReady => 15,
            Self::ImplementationReady | Self::ClusterAnswer | Self::Teardown => 30,
            Self::Applied => 60,
            Self::ImageFetched | Self::ImagesPulled => 300,
            Self::Scenario => 600,
        })
    }

    /// The condition that it bounds.
    #[must_use]
    pub const fn condition(self) -> &'static str {
        match self {
            Self::Request => "a request has its whole response, or its connection failed",
            Self::Continue => {
                "100 Continue has arrived for a request that waits for it; the body is then sent anyway"
            }
            Self::ExternalServiceReady => "an external service accepts connections",
            Self::ImageFetched => "the image of a containerised external service is on this machine",
            Self::ImagesPulled => {
                "the images of a cluster's pods are on their nodes, each time that pods are created"
            }
            Self::ImplementationReady => "the implementation has started",
            Self::AdapterHello => "an adapter has answered `hello`",
            Self::AdapterAnswer => "an adapter has answered a message",
            Self::AdapterStop => "an adapter and everything that it started have exited",
            Self::ClusterAnswer => "a cluster's API server has answered, after retries where they are safe",
            Self::Applied => "a changed configuration takes effect",
            Self::EvidenceSettled => "the access logs of finished requests have arrived",
            Self::Teardown => "everything that a scenario made is gone",
            Self::Scenario => "a scenario has finished",
        }
    }
}

impl fmt::Display for Timeout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Timeout {
    type Err = UnknownTimeout;

    fn from_str(name: &str) -> Result<Self, UnknownTimeout> {
        let found = Self::ALL.into_iter().find(|timeout| timeout.name() == name);
        found.ok_or_else(|| UnknownTimeout(name.to_owned()))
    }
}

/// No timeout has this name. The message suggests similar names and lists all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownTimeout(pub String);

impl fmt::Display for UnknownTimeout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = Timeout::ALL.map(Timeout::name);
        let near = did_you_mean(&self.0, names);
        write!(f, "no timeout is named {:?}{near}; the timeouts are {}", self.0, names.join(", "))
    }
}

impl std::error::Error for UnknownTimeout {}

/// The timeouts of a run.
///
/// A timeout that was not set grows with the load of this machine, so that an implementation is not blamed for a machine that
/// is short of processor time. One that was set is exact.
#[derive(Clone, Debug, Default)]
pub struct Timeouts {
    /// Those that were set, by [`Timeout`] in the order of its declaration.
    set: [Option<Duration>; Timeout::ALL.len()],
}

impl Timeouts {
    /// Sets one timeout.
    pub fn set(&mut self, timeout: Timeout, value: Duration) {
        self.set[timeout as usize] = Some(value);
    }

    /// How long this timeout is now.
    #[must_use]
    pub fn get(&self, timeout: Timeout) -> Duration {
        self.on_a_machine_slowed_down(timeout, slowdown())
    }

    fn on_a_machine_slowed_down(&self, timeout: Timeout, times: u32) -> Duration {
        self.set[timeout as usize].unwrap_or(timeout.default() * times)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_timeout_has_its_own_place_and_reads_back_from_its_name() {
        for (place, timeout) in Timeout::ALL.into_iter().enumerate() {
            assert_eq!(timeout as usize, place, "{timeout}");
            assert_eq!(timeout.name().parse(), Ok(timeout));
        }
        let mut timeouts = Timeouts::default();
        timeouts.set(Timeout::Applied, Duration::from_millis(5));
        assert_eq!(timeouts.get(Timeout::Applied), Duration::from_millis(5));
    }

    #[test]
    fn a_timeout_grows_with_the_load_unless_it_was_set() {
        let mut timeouts = Timeouts::default();
        timeouts.set(Timeout::Applied, Duration::from_millis(5));
        for (times, seconds) in [(1, 10), (4, 40)] {
            let on = |timeout| timeouts.on_a_machine_slowed_down(timeout, times);
            assert_eq!(on(Timeout::Request), Duration::from_secs(seconds));
            assert_eq!(on(Timeout::Applied), Duration::from_millis(5));
        }
    }

    #[test]
    fn a_misspelt_timeout_is_answered_with_near_names_and_all_names() {
        let words = "requst".parse::<Timeout>().unwrap_err().to_string();
        assert!(words.starts_with("no timeout is named \"requst\"; did you mean request?"), "{words}");
        assert!(words.ends_with("teardown, scenario"), "{words}");
    }
}
