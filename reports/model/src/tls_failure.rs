//! Why TLS failed, typed by the end that refused the other.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How TLS failed, as the end that recorded it knows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum TlsFailure {
    /// This end refused the other one.
    AlertSent {
        /// The alert that it sent, by its name in RFC 8446, section 6: `unknown_ca`.
        alert: String,
    },
    /// The other end refused this one.
    AlertReceived {
        /// The alert that arrived, likewise.
        alert: String,
    },
    /// The other end closed or reset the connection without an alert.
    PeerVanished,
    /// Anything else; the text beside it says what.
    Other,
}

impl TlsFailure {
    /// Whether this end refused the certificate of the other end. Not with `certificate_required`, which is sent where no
    /// certificate came.
    #[must_use]
    pub fn refused_certificate(&self) -> bool {
        const ABOUT_CERTIFICATES: [&str; 7] = [
            "bad_certificate",
            "unsupported_certificate",
            "certificate_revoked",
            "certificate_expired",
            "certificate_unknown",
            "unknown_ca",
            "access_denied",
        ];
        match self {
            Self::AlertSent { alert } => ABOUT_CERTIFICATES.contains(&alert.as_str()),
            Self::AlertReceived { .. } | Self::PeerVanished | Self::Other => false,
        }
    }

    /// The name of the alert with this number in IANA's registry "TLS Alerts"; `alert 200` for one that has no name there.
    #[must_use]
    pub fn alert_name(number: u8) -> String {
        let name = match number {
            0 => "close_notify",
            10 => "unexpected_message",
            20 => "bad_record_mac",
            22 => "record_overflow",
            40 => "handshake_failure",
            42 => "bad_certificate",
            43 => "unsupported_certificate",
            44 => "certificate_revoked",
            45 => "certificate_expired",
            46 => "certificate_unknown",
            47 => "illegal_parameter",
            48 => "unknown_ca",
            49 => "access_denied",
            50 => "decode_error",
            51 => "decrypt_error",
            70 => "protocol_version",
            71 => "insufficient_security",
            80 => "internal_error",
            86 => "inappropriate_fallback",
            90 => "user_canceled",
            109 => "missing_extension",
            110 => "unsupported_extension",
            112 => "unrecognized_name",
            113 => "bad_certificate_status_response",
            115 => "unknown_psk_identity",
            116 => "certificate_required",
            120 => "no_application_protocol",
            unnamed => return format!("alert {unnamed}"),
        };
        name.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_alert_that_was_sent_about_a_certificate_refuses_a_certificate() {
        let sent = |alert: &str| TlsFailure::AlertSent { alert: alert.to_owned() };
        assert!(sent("unknown_ca").refused_certificate());
        for other in [
            sent("certificate_required"),
            sent("decode_error"),
            TlsFailure::AlertReceived { alert: "unknown_ca".to_owned() },
            TlsFailure::PeerVanished,
            TlsFailure::Other,
        ] {
            assert!(!other.refused_certificate(), "{other:?}");
        }
    }
}
