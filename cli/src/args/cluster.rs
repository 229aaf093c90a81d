//! The options for a cluster.

use std::path::PathBuf;

use clap::{ArgMatches, Args, ValueEnum};
use meshproof_targets::cluster::{GATEWAY_NAMESPACE, Options, image, label};

use crate::exit::Refusal;

/// The cluster of `--target cluster`.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "For --target cluster")]
pub struct Connection {
    /// The kubeconfig [default: $KUBECONFIG, or ~/.kube/config]
    #[arg(long, value_name = "FILE", env = "MESHPROOF_KUBECONFIG")]
    pub kubeconfig: Option<PathBuf>,
    /// The context in the kubeconfig [default: the current context]
    #[arg(long, value_name = "NAME", env = "MESHPROOF_CONTEXT")]
    pub context: Option<String>,
}

/// The resources to create in the cluster of `--target cluster`.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "For --target cluster")]
pub struct Cluster {
    /// The revision or tag of the control plane to judge, as in `--target cluster:REVISION` [default: the default one]
    #[arg(long, value_name = "REVISION", env = "MESHPROOF_REVISION")]
    pub revision: Option<String>,
    /// A label for every namespace of the run, for policies that demand one; can be repeated
    #[arg(
        long = "namespace-label",
        value_name = "KEY=VALUE",
        value_parser = label,
        value_delimiter = ',',
        env = "MESHPROOF_NAMESPACE_LABELS"
    )]
    pub namespace_labels: Vec<(String, String)>,
    /// The gateways that carry the traffic
    #[arg(long, value_enum, default_value_t, env = "MESHPROOF_GATEWAYS")]
    pub gateways: Gateways,
    /// The namespace of the installed gateways
    #[arg(long, value_name = "NAMESPACE", default_value = GATEWAY_NAMESPACE, env = "MESHPROOF_GATEWAY_NAMESPACE")]
    pub gateway_namespace: String,
    /// The authority of the external services, which installed gateways must trust: a file with its certificate and key, which is
    /// created if it does not exist [default: a new authority for each run]
    #[arg(long, value_name = "FILE", env = "MESHPROOF_CA")]
    pub ca: Option<PathBuf>,
    /// The image to use for `workload`, `external` or `details`; can be repeated
    #[arg(
        long = "image",
        value_name = "KEY=IMAGE",
        value_parser = image,
        value_delimiter = ',',
        env = "MESHPROOF_IMAGES"
    )]
    pub images: Vec<(String, String)>,
    /// When to pull images: Always, IfNotPresent or Never [default: as Kubernetes does]
    #[arg(long, value_name = "POLICY", env = "MESHPROOF_PULL_POLICY")]
    pub pull_policy: Option<String>,
    /// An image pull Secret to copy into the namespaces of the run; can be repeated
    #[arg(
        long = "pull-secret",
        value_name = "NAMESPACE/NAME",
        value_delimiter = ',',
        env = "MESHPROOF_PULL_SECRETS"
    )]
    pub pull_secrets: Vec<String>,
}

/// The gateways that carry the traffic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Gateways {
    /// Each scenario creates its gateways, in its own namespaces
    #[default]
    Own,
    /// The gateways that are installed in the cluster
    Installed,
}

/// Refuses options for clusters on a command line whose targets are all on this machine: they would have no effect. In the
/// environment they do no harm.
///
/// # Errors
/// There is such an option.
pub(crate) fn only_for_clusters(command: &clap::Command, matches: &ArgMatches) -> Result<(), Refusal> {
    let Some((name @ ("run" | "doctor" | "verify"), given)) = matches.subcommand() else { return Ok(()) };
    let targets: Vec<&String> = ["targets", "target"]
        .into_iter()
        .filter_map(|id| given.try_get_many::<String>(id).ok().flatten())
        .flatten()
        .collect();
    if targets.iter().any(|target| meshproof_targets::is_cluster(target)) {
        return Ok(());
    }
    let options = Connection::augment_args(Cluster::augment_args(clap::Command::new("cluster")));
    let misplaced = options.get_arguments().find(|option| {
        let id = option.get_id().as_str();
        // `verify` has those of the connection alone.
        given.try_contains_id(id).is_ok()
            && given.value_source(id) == Some(clap::parser::ValueSource::CommandLine)
    });
    let Some(option) = misplaced.and_then(clap::Arg::get_long) else { return Ok(()) };
    let targets = targets.iter().map(|t| t.as_str()).collect::<Vec<_>>().join(" and ");
    let targets = if targets.is_empty() { "reference".to_owned() } else { targets };
    let also =
        if option == "image" { ". The image of nginx in a container is set with --nginx-image" } else { "" };
    Err(Refusal::Usage(format!(
        "--{option} is for a cluster, and the target is {targets}. Add --target cluster, or leave --{option} out{also}.\n\
         `{} {name} --help` shows what each option is for",
        command.get_name()
    )))
}

impl Connection {
    /// Combined with the resources to create, as the options of the target.
    #[must_use]
    pub fn options(&self, cluster: &Cluster) -> Options {
        // An empty environment variable counts as unset.
        let set = |text: &Option<String>| text.clone().filter(|t| !t.is_empty());
        Options {
            kubeconfig: self.kubeconfig.clone().filter(|f| !f.as_os_str().is_empty()),
            context: set(&self.context),
            revision: set(&cluster.revision),
            namespace_labels: cluster.namespace_labels.iter().cloned().collect(),
            installed_gateways: (cluster.gateways == Gateways::Installed)
                .then(|| cluster.gateway_namespace.clone()),
            fixed_ca: cluster.ca.is_some(),
            images: cluster.images.iter().cloned().collect(),
            pull_policy: set(&cluster.pull_policy),
            pull_secrets: cluster.pull_secrets.clone(),
        }
    }
}
