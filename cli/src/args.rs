//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use meshproof_harness::external::ExternalChoice;
use meshproof_harness::names::did_you_mean;
use meshproof_harness::timeouts::NAMED;
use meshproof_model::Level;
use meshproof_render::formats::Format;
use meshproof_targets::cluster::{GATEWAY_NAMESPACE, Options, image, live};

/// Judges what a service mesh does when it opens TLS on an application's behalf.
#[derive(Debug, Parser)]
#[command(version, about, after_help = AFTER_HELP, max_term_width = 100)]
pub struct Arguments {
    /// What to do; without a command, `run`.
    #[command(subcommand)]
    pub command: Option<Command>,
}

const AFTER_HELP: &str = "Without a command, all scenarios run against the embedded reference.

Exit codes: 0 every MUST passed; 1 a MUST failed or is inconclusive; 2 usage; 3 environment or suite error, or nothing was executed.";

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run scenarios against an implementation and write a report
    Run(Box<Run>),
    /// List the scenarios and their checks
    List(List),
    /// Explain a scenario or a check: what it demands, why, where the document says so, how it is observed
    Explain(Explain),
    /// Break the reference in every known way and show which checks notice (the kill matrix)
    Sabotage(Sabotage),
    /// Render a report again, in any format, without running anything
    Report(Render),
    /// Put reports side by side: which checks differ, and what diverges first
    Compare(Compare),
    /// Write the file of expected failures (`run --expect`) that a report's failures make
    Baseline(Baseline),
    /// Say what keeps a run from working here, and the command that mends it
    Doctor(Box<Doctor>),
    /// Find and remove what a killed run left behind
    Cleanup(Cleanup),
    /// For authors of an adapter (see docs/adapters.md)
    #[command(subcommand)]
    Adapter(Adapter),
}

impl Default for Command {
    fn default() -> Self {
        Self::Run(Box::default())
    }
}

/// `meshproof run`.
#[derive(Debug, Args)]
pub struct Run {
    /// What to run: SCENARIO, SCENARIO:CONFIGURATION, SCENARIO/CHECK or SCENARIO:CONFIGURATION/CHECK; without any,
    /// everything
    #[arg(value_name = "SCENARIO")]
    pub selectors: Vec<String>,
    /// How to reach the implementation: `reference`, `reference:SABOTEUR`, `envoy`, `cluster`, or `adapter:COMMAND`; several of them are run
    /// one after the other and compared
    #[arg(long = "target", value_name = "TARGET", default_value = "reference")]
    pub targets: Vec<String>,
    /// Which external services to use
    #[arg(long, value_enum, default_value_t = External::Auto)]
    pub external: External,
    /// Where the report is written
    #[arg(long, value_name = "DIR", default_value = "meshproof-report")]
    pub out: PathBuf,
    /// What is written besides report.json: html, junit, markdown, github, badge, badge-svg, text; may be repeated
    /// [default: html]
    #[arg(long = "format", value_name = "FORMAT")]
    pub formats: Vec<Format>,
    /// Checks that are known to fail, as `meshproof baseline` writes them: such a failure does not fail the run, and a
    /// success does
    #[arg(long, value_name = "FILE")]
    pub expect: Option<PathBuf>,
    /// How many scenarios run side by side [default: all]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub jobs: Option<u16>,
    /// Stop at the first check that fails the run
    #[arg(long)]
    pub fail_fast: bool,
    /// Leave the run's working folder behind for a look
    #[arg(long)]
    pub keep: bool,
    /// Set a timeout, such as `request=2s`; see `meshproof list --timeouts`
    #[arg(long = "timeout", value_name = "NAME=DURATION", value_parser = timeout)]
    pub timeouts: Vec<(&'static str, Duration)>,
    /// Take manifests from DIR/SCENARIO/NAME.yaml where they exist, instead of the built-in ones
    #[arg(long, value_name = "DIR")]
    pub fixtures: Option<PathBuf>,
    /// The nginx to use [default: the one on PATH]
    #[arg(long, value_name = "PATH", env = "MESHPROOF_NGINX")]
    pub nginx: Option<PathBuf>,
    /// The image to use for `--external container` [default: docker.io/library/nginx:1.28.0]
    #[arg(long, value_name = "IMAGE", env = "MESHPROOF_NGINX_IMAGE")]
    pub nginx_image: Option<String>,
    /// The Envoy to run for `--target envoy` [default: the one on PATH]
    #[arg(long, value_name = "PATH", env = "MESHPROOF_ENVOY")]
    pub envoy: Option<PathBuf>,
    /// Show nothing but the summary
    #[arg(short, long, conflicts_with = "verbose")]
    pub quiet: bool,
    /// Show one line a check
    #[arg(short, long)]
    pub verbose: bool,
    /// Which cluster
    #[command(flatten)]
    pub connection: Connection,
    /// What is put into it
    #[command(flatten)]
    pub cluster: Cluster,
    /// Ask the documents' own hosts on the internet, not pods in the cluster: only sidecar-origination, egress-gateway-simple and
    /// external-web-service, and only what workload and proxies can tell of them
    #[arg(long, env = "MESHPROOF_LIVE", value_parser = live, help_heading = "For --target cluster")]
    pub live: bool,
}

impl Default for Run {
    fn default() -> Self {
        Self {
            selectors: Vec::new(),
            targets: vec!["reference".to_owned()],
            external: External::Auto,
            out: PathBuf::from("meshproof-report"),
            formats: Vec::new(),
            expect: None,
            jobs: None,
            fail_fast: false,
            keep: false,
            timeouts: Vec::new(),
            fixtures: None,
            nginx: None,
            nginx_image: None,
            envoy: None,
            connection: Connection::default(),
            cluster: Cluster::default(),
            live: false,
            quiet: false,
            verbose: false,
        }
    }
}

/// Which external services to use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum External {
    /// A real nginx where the document uses one and it is installed; else the embedded service
    #[default]
    Auto,
    /// The embedded service for everything
    Embedded,
    /// A real nginx for everything; it must be installed
    Nginx,
    /// A real nginx in a container for everything; Docker or Podman must run
    Container,
}

impl From<External> for ExternalChoice {
    fn from(e: External) -> Self {
        match e {
            External::Auto => Self::Auto,
            External::Embedded => Self::Embedded,
            External::Nginx => Self::Nginx,
            External::Container => Self::Container,
        }
    }
}

/// `meshproof list`.
#[derive(Debug, Args)]
pub struct List {
    /// As JSON
    #[arg(long)]
    pub json: bool,
    /// The timeouts instead, with the condition that each bounds
    #[arg(long, conflicts_with = "json")]
    pub timeouts: bool,
}

/// `meshproof explain`.
#[derive(Debug, Args)]
pub struct Explain {
    /// SCENARIO or SCENARIO/CHECK
    pub id: String,
}

/// `meshproof sabotage`.
#[derive(Debug, Args)]
pub struct Sabotage {
    /// Only these saboteurs
    #[arg(value_name = "SABOTEUR")]
    pub saboteurs: Vec<String>,
    /// As JSON
    #[arg(long)]
    pub json: bool,
    /// Write the matrix as a page too
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// List the saboteurs without running them
    #[arg(long)]
    pub list: bool,
}

/// `meshproof report`.
#[derive(Debug, Args)]
pub struct Render {
    /// A report.json, or the folder that a run left
    pub report: PathBuf,
    /// As what: html, json, junit, markdown, github, badge, badge-svg, text; may be repeated with --out [default: text]
    #[arg(long = "format", value_name = "FORMAT")]
    pub formats: Vec<Format>,
    /// The folder that the files go to; without it, the one format goes to standard output
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Checks that are known to fail, as for `run`
    #[arg(long, value_name = "FILE")]
    pub expect: Option<PathBuf>,
    /// Give the exit code that a run has, where checks down to this level are binding [default: the exit code is 0]
    #[arg(long, value_enum, value_name = "LEVEL")]
    pub fail_on: Option<FailOn>,
}

/// Down to which level a failed check is a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum FailOn {
    /// As a run takes it: a failed MUST alone
    Must,
    /// A failed SHOULD too
    Should,
    /// Any failed check
    May,
}

impl From<FailOn> for Level {
    fn from(f: FailOn) -> Self {
        match f {
            FailOn::Must => Self::Must,
            FailOn::Should => Self::Should,
            FailOn::May => Self::May,
        }
    }
}

/// `meshproof compare`.
#[derive(Debug, Default, Args)]
pub struct Compare {
    /// Each a report.json, or the folder that a run left
    #[arg(required = true, value_name = "REPORT")]
    pub reports: Vec<PathBuf>,
    /// Mark regressions and fixes against this report; a regression gives exit code 1
    #[arg(long, value_name = "REPORT")]
    pub baseline: Option<PathBuf>,
    /// As JSON
    #[arg(long)]
    pub json: bool,
    /// Write the comparison as a page too
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Leave the evidence out of the page
    #[arg(long, requires = "html")]
    pub no_evidence: bool,
    /// Show the checks without a difference too
    #[arg(long, conflicts_with = "json")]
    pub all: bool,
}

/// `meshproof baseline`.
#[derive(Debug, Args)]
pub struct Baseline {
    /// A report.json, or the folder that a run left
    pub report: PathBuf,
    /// The file to write; without it, standard output
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

/// `meshproof adapter`.
#[derive(Debug, Subcommand)]
pub enum Adapter {
    /// Exercise the adapter contract on a program and say what is wrong in its answers
    Check(AdapterCheck),
}

/// `meshproof adapter check`.
#[derive(Debug, Args)]
pub struct AdapterCheck {
    /// What starts the adapter, as for `--target adapter:COMMAND`: one argument, split as a shell splits words
    pub command: String,
    /// Set a timeout, such as `adapter-stop=2s`
    #[arg(long = "timeout", value_name = "NAME=DURATION", value_parser = timeout)]
    pub timeouts: Vec<(&'static str, Duration)>,
}

/// Which cluster is meant by `--target cluster`.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "For --target cluster")]
pub struct Connection {
    /// The kubeconfig [default: KUBECONFIG, else ~/.kube/config]
    #[arg(long, value_name = "FILE", env = "MESHPROOF_KUBECONFIG")]
    pub kubeconfig: Option<PathBuf>,
    /// The context in it [default: its current one]
    #[arg(long, value_name = "NAME", env = "MESHPROOF_CONTEXT")]
    pub context: Option<String>,
}

/// What is put into the cluster of `--target cluster`.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "For --target cluster")]
pub struct Cluster {
    /// Whose gateways carry the documents' traffic
    #[arg(long, value_enum, default_value_t, env = "MESHPROOF_GATEWAYS")]
    pub gateways: Gateways,
    /// Where the installed gateways live
    #[arg(long, value_name = "NAMESPACE", default_value = GATEWAY_NAMESPACE, env = "MESHPROOF_GATEWAY_NAMESPACE")]
    pub gateway_namespace: String,
    /// Another image for `workload`, `external` or `details`; may be repeated
    #[arg(
        long = "image",
        value_name = "KEY=IMAGE",
        value_parser = image,
        value_delimiter = ',',
        env = "MESHPROOF_IMAGES"
    )]
    pub images: Vec<(String, String)>,
    /// When images are pulled: Always, IfNotPresent or Never [default: Kubernetes's own]
    #[arg(long, value_name = "POLICY", env = "MESHPROOF_PULL_POLICY")]
    pub pull_policy: Option<String>,
    /// A Secret that images are pulled with, copied from its namespace into the run's own; may be repeated
    #[arg(
        long = "pull-secret",
        value_name = "NAMESPACE/NAME",
        value_delimiter = ',',
        env = "MESHPROOF_PULL_SECRETS"
    )]
    pub pull_secrets: Vec<String>,
    /// What the report calls the implementation [default: what it says of itself]
    #[arg(long, value_name = "NAME", env = "MESHPROOF_NAME")]
    pub name: Option<String>,
}

/// Whose gateways carry the documents' traffic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Gateways {
    /// Each scenario makes its own, in namespaces of its own
    #[default]
    Own,
    /// Those of the installation
    Installed,
}

impl Connection {
    /// With what is put into the cluster, as the target takes it.
    #[must_use]
    pub fn options(&self, cluster: &Cluster) -> Options {
        // A variable that is set to nothing says nothing.
        let said = |text: &Option<String>| text.clone().filter(|t| !t.is_empty());
        Options {
            kubeconfig: self.kubeconfig.clone().filter(|f| !f.as_os_str().is_empty()),
            context: said(&self.context),
            installed_gateways: (cluster.gateways == Gateways::Installed)
                .then(|| cluster.gateway_namespace.clone()),
            images: cluster.images.iter().cloned().collect(),
            pull_policy: said(&cluster.pull_policy),
            pull_secrets: cluster.pull_secrets.clone(),
            name: said(&cluster.name),
        }
    }
}

/// `meshproof doctor`.
#[derive(Debug, Args)]
pub struct Doctor {
    /// The target that a run would use [default: cluster]
    #[arg(long, value_name = "TARGET")]
    pub target: Option<String>,
    /// Which cluster
    #[command(flatten)]
    pub connection: Connection,
    /// What is put into it
    #[command(flatten)]
    pub cluster: Cluster,
}

/// `meshproof cleanup`.
#[derive(Debug, Args)]
pub struct Cleanup {
    /// Show what would be removed, and remove nothing
    #[arg(long)]
    pub dry_run: bool,
    /// `cluster`: what is left in a cluster; without it, what is left on this machine
    #[arg(long, value_name = "TARGET", value_parser = ["cluster"])]
    pub target: Option<String>,
    /// What this run left, in a cluster
    #[arg(long, value_name = "ID", requires = "target", conflicts_with_all = ["older_than", "all"])]
    pub run: Option<String>,
    /// What is older, in a cluster [default: 1h]
    #[arg(long, value_name = "DURATION", requires = "target", conflicts_with = "all", value_parser = humantime::parse_duration)]
    pub older_than: Option<Duration>,
    /// What any run left in a cluster, also one that still goes on
    #[arg(long, requires = "target")]
    pub all: bool,
    /// Which cluster
    #[command(flatten)]
    pub connection: Connection,
}

fn timeout(text: &str) -> Result<(&'static str, Duration), String> {
    let (name, duration) = text.split_once('=').ok_or("it must be NAME=DURATION, such as request=2s")?;
    let known = NAMED.iter().find(|(known, ..)| *known == name).map(|(known, ..)| *known);
    let known = known.ok_or_else(|| {
        let names: Vec<&str> = NAMED.iter().map(|(n, ..)| *n).collect();
        format!(
            "no timeout is named {name:?}{}; the timeouts are {}",
            did_you_mean(name, names.iter().copied()),
            names.join(", ")
        )
    })?;
    let duration = humantime::parse_duration(duration)
        .map_err(|e| format!("{duration:?} is no duration ({e}); write 500ms, 2s or 1m"))?;
    if duration.is_zero() {
        return Err("a timeout must be longer than nothing".to_owned());
    }
    Ok((known, duration))
}
