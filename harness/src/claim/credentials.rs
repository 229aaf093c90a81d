//! Claims on what a proxy says of its credentials.

use meshproof_model::{CredentialState, CredentialStatus, EvidenceId};

use super::{Claim, Finding};

/// What a proxy said of its credentials at one moment.
#[derive(Clone, Debug)]
pub struct Credentials {
    proxy: String,
    asked: bool,
    seen: Vec<(EvidenceId, CredentialStatus)>,
}

impl Credentials {
    pub(crate) fn new(proxy: &str, asked: bool, seen: Vec<(EvidenceId, CredentialStatus)>) -> Self {
        Self { proxy: proxy.to_owned(), asked, seen }
    }

    fn describe(&self) -> String {
        if self.seen.is_empty() {
            return format!("no credentials at {}", self.proxy);
        }
        let words: Vec<String> = self
            .seen
            .iter()
            .map(|(_, s)| {
                let state = match s.state {
                    CredentialState::Active => "ACTIVE",
                    CredentialState::Warming => "WARMING",
                };
                let serial = s.serial.as_deref().map(|s| format!(" serial {s}")).unwrap_or_default();
                format!("{} {state}{serial}", s.name)
            })
            .collect();
        words.join(", ")
    }

    fn fixed(&self, expected: String, holds: bool) -> Claim {
        let ids: Vec<EvidenceId> = self.seen.iter().map(|(id, _)| id.clone()).collect();
        let finding = if holds {
            Finding::holds(expected, self.describe(), ids)
        } else {
            Finding::broken(expected, self.describe(), ids)
        }
        .at(format!("at proxy {}", self.proxy));
        Claim::new(move |_| finding.clone())
    }

    /// This one is in use, with this serial where one is given.
    pub fn active(&self, name: &str, serial: Option<&str>) -> Claim {
        let holds = self.seen.iter().any(|(_, s)| {
            s.name == name
                && s.state == CredentialState::Active
                && serial.is_none_or(|wanted| s.serial.as_deref() == Some(wanted))
        });
        let with = serial.map(|s| format!(" with serial {s}")).unwrap_or_default();
        self.fixed(format!("{} to report {name} ACTIVE{with}", self.proxy), holds)
    }

    /// This one is not in use. An implementation that does not show its credentials is taken at the word of its traffic.
    pub fn gone(&self, name: &str) -> Claim {
        let holds = !self.seen.iter().any(|(_, s)| s.name == name && s.state == CredentialState::Active);
        let expected = format!("{} not to report {name} ACTIVE", self.proxy);
        if self.asked {
            return self.fixed(expected, holds);
        }
        let finding =
            Finding::holds(expected, "the implementation does not show its credentials", Vec::new());
        Claim::new(move |_| finding.clone())
    }
}
