//! Every target by its name: what `--target` and `MESHPROOF_TARGET` take.

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

/// The choices, with what each is.
pub const CHOICES: &[(&str, &str)] = &[
    ("reference", "the embedded data plane; nothing needs to be installed"),
    ("envoy", "Envoy processes on this machine, one a proxy, configured as istiod would"),
    (
        "cluster",
        "whatever speaks Istio's API in a Kubernetes cluster (needs a build with `--features cluster`; see docs/cluster.md)",
    ),
    ("adapter:COMMAND", "any program that speaks the adapter contract (see docs/adapters.md)"),
    (
        "reference:SABOTEUR",
        "the reference, broken on purpose in one way (see `meshproof sabotage --list`); SABOTEUR@sidecar, @egress-gateway or \
         @ingress-gateway breaks it at one placement only",
    ),
    (
        "envoy:MUTATION",
        "the same, told something else: no-sni, no-ca, no-client-certificate, plaintext, wrong-port, no-log",
    ),
];

/// What targets may be told.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// The nginx to use as an external service; absent: the one on PATH.
    pub nginx: Option<PathBuf>,
    /// The image to use for nginx in a container; absent: `MESHPROOF_NGINX_IMAGE`, else that of nginx's makers.
    pub nginx_image: Option<String>,
    /// How local targets find the real hosts, and whom those must be certified by (`--live`).
    pub real_hosts: RealHosts,
    /// The Envoy to run; absent: `MESHPROOF_ENVOY`, else the one on PATH.
    pub envoy: Option<PathBuf>,
    /// Which cluster, and what is put into it.
    pub cluster: cluster::Options,
    /// How long a program that is judged may take.
    pub timeouts: Timeouts,
}

/// Conditions that take longer in a cluster: images are pulled, pods scheduled, namespaces emptied before they go.
const IN_A_CLUSTER: &[(Timeout, u64)] = &[
    (Timeout::Request, 15),
    (Timeout::ExternalServiceReady, 120),
    (Timeout::ImplementationReady, 240),
    (Timeout::EvidenceSettled, 30),
    (Timeout::Teardown, 180),
    (Timeout::Scenario, 900),
];

/// The timeouts that a target is given where nobody says otherwise.
#[must_use]
pub fn default_timeouts(target: &str) -> Timeouts {
    let mut timeouts = Timeouts::default();
    if target == "cluster" {
        for (timeout, seconds) in IN_A_CLUSTER {
            timeouts.set(*timeout, Duration::from_secs(*seconds));
        }
    }
    timeouts
}

/// No target has this name.
#[derive(Debug, thiserror::Error)]
pub enum UnknownTarget {
    /// The name is not among [`CHOICES`].
    #[error("no target is named {name:?}{suggestion}\nthe targets are:\n{}", choices())]
    Name {
        /// What was asked for.
        name: String,
        /// Near names.
        suggestion: String,
    },
    /// The reference has no such variant.
    #[error(transparent)]
    Variant(#[from] UnknownVariant),
    /// Envoy cannot be broken in this way.
    #[error(transparent)]
    Mutation(#[from] UnknownMutation),
    /// This build knows no clusters, or the options for it are none.
    #[error(transparent)]
    Cluster(#[from] cluster::Unusable),
    /// The adapter's command is none.
    #[error(transparent)]
    Adapter(#[from] BadCommand),
}

fn choices() -> String {
    CHOICES.iter().map(|(name, what)| format!("  {name:<20} {what}")).collect::<Vec<_>>().join("\n")
}

/// The target of this name.
///
/// # Errors
/// There is none; the message lists the choices.
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
        None if name == "cluster" => Ok(cluster::target(&settings.cluster, &settings.timeouts)?),
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
    fn an_unknown_saboteur_names_near_ones() {
        assert!(refusal("reference:no-snj").contains("no-sni"));
    }

    #[test]
    fn an_adapter_without_a_command_says_what_to_write() {
        assert!(refusal("adapter:").contains("adapter:COMMAND"));
        assert!(refusal("adapter:a 'b").contains("quote"));
        assert!(by_name("adapter:python3 'my adapter.py'", &Settings::default()).is_ok());
    }

    #[test]
    fn a_cluster_gets_more_time_and_nobody_else_does() {
        for (timeout, _) in IN_A_CLUSTER {
            let [cluster, envoy] = ["cluster", "envoy"].map(|target| default_timeouts(target).get(*timeout));
            assert!(cluster > envoy, "{timeout}");
        }
    }

    #[cfg(not(feature = "cluster"))]
    #[test]
    fn a_build_without_clusters_says_how_to_make_one_with_them() {
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
