//! Ways to break Envoy's configuration on purpose, to prove that the checks also notice it on a real proxy.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use meshproof_harness::names::did_you_mean;
use meshproof_plan::model::{OriginalDestination, Plan};
use meshproof_plan::mutation;

/// One way in which the configuration is broken before Envoy gets it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mutation {
    /// Originated TLS carries no server name (SNI).
    NoSni,
    /// Envoy accepts any certificate of an external service.
    NoCa,
    /// Envoy presents no client certificate to external services.
    NoClientCertificate,
    /// Envoy sends plain text where it should originate TLS.
    Plaintext,
    /// Port 443 of an external host leads to its port 80.
    WrongPort,
    /// No access-log line is delivered.
    NoLog,
}

impl Mutation {
    /// Every mutation.
    pub const ALL: &'static [Self] =
        &[Self::NoSni, Self::NoCa, Self::NoClientCertificate, Self::Plaintext, Self::WrongPort, Self::NoLog];

    /// The stable name after `envoy:`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::NoSni => "no-sni",
            Self::NoCa => "no-ca",
            Self::NoClientCertificate => "no-client-certificate",
            Self::Plaintext => "plaintext",
            Self::WrongPort => "wrong-port",
            Self::NoLog => "no-log",
        }
    }

    pub(crate) fn apply(self, plan: &mut Plan, endpoints: &[OriginalDestination]) {
        match self {
            Self::NoSni => mutation::no_sni(plan),
            Self::NoCa => mutation::ignore_certificate(plan),
            Self::NoClientCertificate => mutation::no_client_certificate(plan),
            Self::Plaintext => mutation::plaintext_upstream(plan),
            Self::WrongPort => mutation::wrong_upstream_port(plan, endpoints),
            Self::NoLog => {}
        }
    }

    pub(crate) fn details(self) -> BTreeMap<String, String> {
        BTreeMap::from([("mutation".to_owned(), self.name().to_owned())])
    }
}

impl fmt::Display for Mutation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// The error for an unknown mutation name.
#[derive(Debug, thiserror::Error)]
#[error("{name:?} is not a mutation of Envoy{suggestion}; the mutations are {}", names())]
pub struct UnknownMutation {
    /// The unknown name.
    pub name: String,
    /// Similar names, in words.
    pub suggestion: String,
}

fn names() -> String {
    Mutation::ALL.iter().map(|m| m.name()).collect::<Vec<_>>().join(", ")
}

impl FromStr for Mutation {
    type Err = UnknownMutation;

    fn from_str(name: &str) -> Result<Self, UnknownMutation> {
        let name: String = name.chars().take(100).collect();
        Self::ALL.iter().copied().find(|m| m.name() == name).ok_or_else(|| UnknownMutation {
            suggestion: did_you_mean(&name, Self::ALL.iter().map(|m| m.name())),
            name,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_parses_to_its_mutation_and_an_unknown_one_lists_them() {
        for mutation in Mutation::ALL {
            assert_eq!(mutation.name().parse::<Mutation>().unwrap(), *mutation);
        }
        let message = "no-snj".parse::<Mutation>().unwrap_err().to_string();
        assert!(message.contains("no-sni") && message.contains("wrong-port"), "{message}");
    }
}
