//! PeerAuthentication.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::common::{MatchLabels, port_number, selector};
use super::problems::Problems;

/// istio.io/api security/v1beta1, PeerAuthentication.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct PeerAuthentication {
    #[serde(default)]
    pub(crate) selector: Option<MatchLabels>,
    #[serde(default)]
    pub(crate) mtls: Option<MutualTls>,
    #[serde(default)]
    pub(crate) port_level_mtls: Option<BTreeMap<String, MutualTls>>,
}

/// PeerAuthentication.MutualTLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct MutualTls {
    #[serde(default)]
    pub(crate) mode: MutualTlsMode,
}

/// PeerAuthentication.MutualTLS.Mode.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(crate) enum MutualTlsMode {
    #[default]
    Unset,
    Disable,
    Permissive,
    Strict,
}

impl PeerAuthentication {
    /// Whether it is for its whole namespace, or the mesh.
    pub(crate) fn selects_all(&self) -> bool {
        self.selector.as_ref().is_none_or(|s| s.match_labels.is_empty())
    }

    /// `ValidatePeerAuthentication` (pkg/config/validation/validation.go).
    pub(crate) fn validate(&self, problems: &mut Problems) {
        if let Some(ports) = &self.port_level_mtls {
            if ports.is_empty() {
                problems.error("port level mTLS, if defined, must have at least one element");
            } else if self.selects_all() {
                problems.error("mesh/namespace peer authentication cannot have port level mTLS");
            }
            for port in ports.keys() {
                let number = port.parse().ok().filter(|n| port_number(*n).is_ok());
                if number.is_none() {
                    problems.error("port must be in range 1..65535");
                }
            }
        }
        if let Some(chosen) = &self.selector {
            let warning = "workload selector specified without labels";
            selector(&chosen.match_labels, warning, problems);
        }
    }
}
