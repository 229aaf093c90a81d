//! From the name of a target (`--target`, `MESHPROOF_TARGET`) to the target.

pub mod cluster;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use meshproof_adapter::{Adapter, BadCommand};
use meshproof_envoy::{Envoy, Mutation, UnknownMutation};
use meshproof_harness::names::did_you_mean;
use meshproof_harness::target::Target;
use meshproof_harness::timeouts::{Timeout, Timeouts};
use meshproof_local::LocalTarget;
use meshproof_local::data_plane::DataPlaneFactory;
use meshproof_local::real_hosts::RealHosts;
use meshproof_reference::{Reference, UnknownVariant, Variant};

/// The names of the targets, each with a description.
pub const CHOICES: &[(&str, &str)] = &[
    ("reference", "the embedded data plane; needs nothing installed"),
    ("envoy", "Envoy processes on this machine, one per proxy, configured as istiod would configure them"),
    (
        "cluster",
        "an implementation of Istio's API in a Kubernetes cluster (needs a build with `--features cluster`; see docs/cluster.md)",
    ),
    ("cluster:REVISION", "the control plane of this revision or tag, in a cluster that has several"),
    ("adapter:COMMAND", "a program that implements the adapter contract (see docs/adapters.md)"),
    (
        "reference:SABOTEUR",
        "the reference with one known defect (see `meshproof sabotage --list`); with SABOTEUR@sidecar, @egress-gateway or \
         @ingress-gateway it has the defect at one placement only",
    ),
    (
        "envoy:MUTATION",
        "Envoy with one wrong configuration: no-sni, no-ca, no-client-certificate, plaintext, wrong-port or no-log",
    ),
];

/// The settings of targets.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// The nginx program for external services. Default: nginx on PATH.
    pub nginx: Option<PathBuf>,
    /// The image for nginx in a container. Default: `MESHPROOF_NGINX_IMAGE`, or the official nginx image.
    pub nginx_image: Option<String>,
    /// How local targets find the real hosts, and which authorities must have issued their certificates (`--live`).
    pub real_hosts: RealHosts,
    /// The Envoy program. Default: `MESHPROOF_ENVOY`, or envoy on PATH.
    pub envoy: Option<PathBuf>,
    /// The cluster, and the resources to create in it.
    pub cluster: cluster::Options,
    /// The timeouts for the program under test.
    pub timeouts: Timeouts,
}

/// Timeouts, in seconds, of conditions that take longer in a cluster: it pulls images, schedules pods, and empties namespaces
/// before it deletes them.
const IN_A_CLUSTER: &[(Timeout, u64)] = &[
    (Timeout::Request, 15),
    (Timeout::ExternalServiceReady, 120),
    (Timeout::ImplementationReady, 240),
    (Timeout::EvidenceSettled, 30),
    (Timeout::Teardown, 180),
    (Timeout::Scenario, 900),
];

/// The default timeouts of a target.
#[must_use]
pub fn default_timeouts(target: &str) -> Timeouts {
    let mut timeouts = Timeouts::default();
    if is_cluster(target) {
        for (timeout, seconds) in IN_A_CLUSTER {
            timeouts.set(*timeout, Duration::from_secs(*seconds));
        }
    }
    timeouts
}

/// Whether the target with this name is in a Kubernetes cluster: `cluster` or `cluster:REVISION`.
#[must_use]
pub fn is_cluster(target: &str) -> bool {
    target == "cluster" || target.strip_prefix("cluster:").is_some_and(|revision| !revision.is_empty())
}

/// A target that does not exist.
#[derive(Debug, thiserror::Error)]
pub enum UnknownTarget {
    /// The name is not among [`CHOICES`].
    #[error("no target is named {name:?}{suggestion}\nThe targets are:\n{}", choices())]
    Name {
        /// The name.
        name: String,
        /// A suggestion of near names, or nothing.
        suggestion: String,
    },
    /// There is no such variant of the reference.
    #[error(transparent)]
    Variant(#[from] UnknownVariant),
    /// There is no such mutation of Envoy.
    #[error(transparent)]
    Mutation(#[from] UnknownMutation),
    /// This build has no support for clusters, or the options for the cluster are wrong.
    #[error(transparent)]
    Cluster(#[from] cluster::Unusable),
    /// The command of the adapter is not valid.
    #[error(transparent)]
    Adapter(#[from] BadCommand),
}

fn choices() -> String {
    CHOICES.iter().map(|(name, what)| format!("  {name:<20} {what}")).collect::<Vec<_>>().join("\n")
}

/// The target with this name.
///
/// # Errors
/// There is no such target. The message lists the targets.
pub fn by_name(name: &str, settings: &Settings) -> Result<Arc<dyn Target>, UnknownTarget> {
    let on = |factory: Arc<dyn DataPlaneFactory>| -> Arc<dyn Target> {
        let target = LocalTarget::new(factory, settings.nginx.clone());
        let target = target.with_real_hosts(settings.real_hosts.clone());
        Arc::new(target.with_nginx_image(settings.nginx_image.clone()))
    };
    let local = |reference: Reference| on(Arc::new(reference));
    match name.split_once(':') {
        None if name == "reference" => Ok(local(Reference::new())),
        Some(("reference", variant)) => Ok(local(Reference::varied(variant.parse::<Variant>()?))),
        None if name == "envoy" => Ok(on(Arc::new(Envoy::new(settings.envoy.clone())))),
        Some(("envoy", mutation)) => {
            Ok(on(Arc::new(Envoy::mutated(settings.envoy.clone(), mutation.parse::<Mutation>()?))))
        }
        None | Some(("cluster", _)) if is_cluster(name) => {
            Ok(cluster::target(&settings.cluster.clone().of(name), &settings.timeouts)?)
        }
        Some(("adapter", command)) => Ok(on(Arc::new(Adapter::new(command, &settings.timeouts)?))),
        _ => Err(UnknownTarget::Name {
            name: name.to_owned(),
            suggestion: did_you_mean(name, ["reference", "envoy", "cluster", "adapter"]),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(name: &str) -> String {
        by_name(name, &Settings::default()).err().unwrap().to_string()
    }

    #[test]
    fn an_unknown_target_lists_the_choices_and_the_near_name() {
        let message = refusal("refrence");
        assert!(message.contains("did you mean reference?"), "{message}");
        assert!(message.contains("the embedded data plane"), "{message}");
    }

    #[test]
    fn an_unknown_saboteur_is_refused_with_near_names() {
        assert!(refusal("reference:no-snj").contains("no-sni"));
    }

    #[test]
    fn an_adapter_without_a_valid_command_is_refused_with_the_form_to_write() {
        assert!(refusal("adapter:").contains("adapter:COMMAND"));
        assert!(refusal("adapter:a 'b").contains("quote"));
        assert!(by_name("adapter:python3 'my adapter.py'", &Settings::default()).is_ok());
    }

    #[test]
    fn a_cluster_has_longer_timeouts_than_other_targets() {
        for (timeout, _) in IN_A_CLUSTER {
            for target in ["cluster", "cluster:1-31"] {
                assert!(default_timeouts(target).get(*timeout) > timeout.default(), "{timeout}");
            }
        }
    }

    #[cfg(not(feature = "cluster"))]
    #[test]
    fn a_build_without_cluster_support_names_the_feature_to_build_with() {
        assert!(refusal("cluster").contains("--features cluster"), "{}", refusal("cluster"));
    }

    #[test]
    fn every_variant_of_the_reference_is_a_target() {
        for variant in Variant::saboteurs().chain(Variant::benign()) {
            assert!(by_name(&format!("reference:{variant}"), &Settings::default()).is_ok());
        }
    }

    #[test]
    fn every_mutation_of_envoy_is_a_target_and_listed() {
        let listed = CHOICES.iter().find(|(name, _)| *name == "envoy:MUTATION").unwrap().1;
        for mutation in Mutation::ALL {
            assert!(by_name(&format!("envoy:{mutation}"), &Settings::default()).is_ok());
            assert!(listed.contains(mutation.name()), "{mutation}");
        }
        assert!(refusal("envoy:no-snj").contains("no-sni"));
        assert!(refusal("envoi").contains("did you mean envoy?"));
    }
}
