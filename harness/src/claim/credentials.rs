//! Claims about the credentials that a proxy reports.

use meshproof_model::{CredentialState, CredentialStatus, EvidenceId, Field, ValueKind};

use super::deviation::{self, Odd, What};
use super::{Claim, Finding};
use crate::certificates::credential_status;

/// What is reported of the certificate of a credential: ` with serial 01, type Cert Chain, valid from 2024-... until 2025-...`.
fn with_certificate(status: &CredentialStatus) -> String {
    let serial = status.serial.as_deref().map(|s| format!("serial {s}"));
    let kind = status.kind.map(|k| format!("type {}", k.name()));
    let from = status.not_before.as_deref().map(|t| format!("valid from {t}"));
    let until = status.not_after.as_deref().map(|t| format!("valid until {t}"));
    let parts: Vec<String> = [serial, kind, from, until].into_iter().flatten().collect();
    if parts.is_empty() { String::new() } else { format!(" with {}", parts.join(", ")) }
}

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
                format!("{} {state}{}", s.name, with_certificate(s))
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

    /// This credential is in use with this certificate (PEM): the serial number is the certificate's, and so are its type and
    /// its validity if the proxy reports them.
    pub fn active(&self, name: &str, certificate: &str) -> Claim {
        let wanted = credential_status(name, Some(certificate));
        let agrees = |seen: &Option<String>, wanted: &Option<String>| seen.is_none() || seen == wanted;
        let holds = self.seen.iter().any(|(_, s)| {
            (&s.name, s.state, &s.serial) == (&wanted.name, wanted.state, &wanted.serial)
                && (s.kind.is_none() || s.kind == wanted.kind)
                && agrees(&s.not_before, &wanted.not_before)
                && agrees(&s.not_after, &wanted.not_after)
        });
        let with = with_certificate(&wanted);
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
