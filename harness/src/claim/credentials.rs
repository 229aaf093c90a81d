//! Claims about the credentials that a proxy reports.

use meshproof_model::{CredentialState, CredentialStatus, EvidenceId, Field, ValueKind};

use super::deviation::{self, Odd, What};
use super::{Claim, Finding};

/// The credentials that a proxy reported at one moment.
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
            return format!("proxy {} reports no credentials", self.proxy);
        }
        let words: Vec<String> = self
            .seen
            .iter()
            .map(|(_, s)| {
                let state = match s.state {
                    CredentialState::Active => "ACTIVE",
                    CredentialState::Warming => "WARMING",
                };
                let serial = s.serial.as_deref().map(|s| format!(" with serial {s}")).unwrap_or_default();
                format!("{} {state}{serial}", s.name)
            })
            .collect();
        format!("proxy {} reports {}", self.proxy, words.join(", "))
    }

    fn fixed(&self, wanted: ValueKind, expected: String, holds: bool) -> Claim {
        let ids: Vec<EvidenceId> = self.seen.iter().map(|(id, _)| id.clone()).collect();
        let finding = if holds {
            Finding::holds(expected, self.describe(), ids)
        } else {
            let seen = if wanted == ValueKind::Absent { ValueKind::Present } else { ValueKind::Absent };
            let hop = (deviation::proxy(&self.proxy), deviation::proxy(&self.proxy));
            let what = What::of(Field::Credential).being(wanted);
            let odd = what.deviates(&hop, &expected, &Odd::being(seen, self.describe()));
            Finding::broken(expected, self.describe(), ids).by([odd])
        };
        Claim::new(move |_| finding.clone())
    }

    /// This credential is in use, with this serial if one is given.
    pub fn active(&self, name: &str, serial: Option<&str>) -> Claim {
        let holds = self.seen.iter().any(|(_, s)| {
            s.name == name
                && s.state == CredentialState::Active
                && serial.is_none_or(|wanted| s.serial.as_deref() == Some(wanted))
        });
        let with = serial.map(|s| format!(" with serial {s}")).unwrap_or_default();
        self.fixed(ValueKind::Present, format!("proxy {} reports {name} ACTIVE{with}", self.proxy), holds)
    }

    /// This credential is not in use. If the implementation does not report its credentials, only its traffic decides.
    pub fn gone(&self, name: &str) -> Claim {
        let holds = !self.seen.iter().any(|(_, s)| s.name == name && s.state == CredentialState::Active);
        let expected = format!("proxy {} does not report {name} ACTIVE", self.proxy);
        if self.asked {
            return self.fixed(ValueKind::Absent, expected, holds);
        }
        let finding =
            Finding::holds(expected, "the implementation does not report its credentials", Vec::new());
        Claim::new(move |_| finding.clone())
    }
}
