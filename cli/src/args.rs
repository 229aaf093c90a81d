//! The command line.

mod cluster;
mod reports;
mod run;
mod values;
mod verify;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use meshproof_harness::timeouts::Timeout;
use meshproof_render::terminal::{Colour, Detail};

pub(crate) use self::cluster::only_for_clusters;
pub use self::cluster::{Cluster, Connection, Gateways};
pub use self::reports::{Baseline, Compare, FailOn, Merge, NamedReport, Render, Site};
pub use self::run::{External, MatrixChoice, Run, Shard};
use self::values::timeout;
pub use self::verify::{FailOnSeverity, Plan, PlanFormat, Verify};

/// Checks what a service mesh really does when it originates TLS for an application.
#[derive(Debug, Parser)]
#[command(version, about, after_help = AFTER_HELP, max_term_width = 100)]
pub struct Arguments {
    /// When to use colours. By default on a terminal, unless NO_COLOR is set; FORCE_COLOR turns them on elsewhere
    #[arg(long, global = true, value_enum, default_value_t = ColorChoice::Auto, value_name = "WHEN")]
    pub color: ColorChoice,
    /// The command; `run` if none is given.
    #[command(subcommand)]
    pub command: Option<Command>,
}

const AFTER_HELP: &str = "\
Examples:
  meshproof                                     Run every scenario on the embedded reference
  meshproof run --target envoy                  Run every scenario on Envoy
  meshproof run SCENARIO/CHECK                  Run one check; `meshproof list` shows the names
  meshproof explain SCENARIO/CHECK              Show what a check requires, and why
  meshproof run --target reference:no-sni       Run on a reference with one known defect, to see failures
  meshproof verify -f manifests/ --static       Find what is wrong with your own configuration

Exit codes:
  0  every MUST passed
  1  a MUST failed or is inconclusive, an expected failure passed, or a comparison found a regression
  2  the command line is wrong
  3  the environment or the suite is at fault, the run was interrupted, or no check (or fewer than asked for) was judged";

/// When colours are used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum ColorChoice {
    /// On a terminal, as NO_COLOR, FORCE_COLOR and TERM say
    #[default]
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

impl From<ColorChoice> for Colour {
    fn from(c: ColorChoice) -> Self {
        match c {
            ColorChoice::Auto => Self::Auto,
            ColorChoice::Always => Self::Always,
            ColorChoice::Never => Self::Never,
        }
    }
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run scenarios against an implementation and write a report
    Run(Box<Run>),
    /// List the scenarios and their checks
    List(List),
    /// Explain a scenario, a check, a known fault or a cause: what it requires, why, which document says so, how it is observed
    Explain(Explain),
    /// Show what Istio makes of resources: for each proxy its listeners, routes and clusters, or why Istio rejects them
    Plan(Plan),
    /// Check your own Istio configuration: where each request goes, what is wrong, and how to fix it
    Verify(Box<Verify>),
    /// Run the scenarios on references with known defects and show which checks fail (the kill matrix)
    Sabotage(Sabotage),
    /// Convert a saved report to another format
    Report(Render),
    /// Compare reports: show which checks differ, and the first difference in their evidence
    Compare(Compare),
    /// Write a static site of many reports: which implementation keeps which promise, in which version
    Site(Site),
    /// Merge the reports of a run's shards into one report
    Merge(Merge),
    /// Print a script that completes the command line in a shell, or with --man the man page
    Completions(Completions),
    /// Write the failures of a report as a file of expected failures, for `run --expect`
    Baseline(Baseline),
    /// Check that a run can work here; print each problem with the command that fixes it
    Doctor(Box<Doctor>),
    /// Remove what killed runs, and runs with --keep, left behind
    Cleanup(Cleanup),
    /// Serve and send for a suite in another process, over standard input and output: what runs in a cluster's pods with
    /// `--image suite=IMAGE` (see docs/cluster.md)
    Serve(Serve),
    /// Tools for adapter authors (see docs/adapters.md)
    #[command(subcommand)]
    Adapter(Adapter),
}

impl Default for Command {
    fn default() -> Self {
        Self::Run(Box::default())
    }
}

/// `meshproof list`.
#[derive(Debug, Args)]
pub struct List {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// List the timeouts instead, with the condition that each one waits for
    #[arg(long, conflicts_with = "json")]
    pub timeouts: bool,
}

/// `meshproof explain`.
#[derive(Debug, Args)]
pub struct Explain {
    /// SCENARIO, SCENARIO/CHECK, a saboteur, the id of a cause, or a part of one of them that no other contains
    pub id: String,
}

/// `meshproof sabotage`.
#[derive(Debug, Args)]
pub struct Sabotage {
    /// The saboteurs to run [default: all]
    #[arg(value_name = "SABOTEUR")]
    pub saboteurs: Vec<String>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Also write the matrix as an HTML page
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// List the saboteurs; run nothing
    #[arg(long)]
    pub list: bool,
}

/// How much a summary shows.
#[must_use]
pub const fn detail(quiet: bool, verbose: u8) -> Detail {
    match (quiet, verbose) {
        (true, _) => Detail::Quiet,
        (false, 0) => Detail::Screen,
        (false, 1) => Detail::Stories,
        (false, _) => Detail::Full,
    }
}

/// `meshproof serve`.
#[derive(Debug, Args)]
pub struct Serve {
    /// Do nothing until SIGTERM: the first process of a pod in which the suite starts others
    #[arg(long)]
    pub wait: bool,
}

/// `meshproof completions`.
#[derive(Debug, Args)]
pub struct Completions {
    /// The shell
    #[arg(value_enum, required_unless_present = "man", conflicts_with = "man")]
    pub shell: Option<clap_complete::Shell>,
    /// Print the man page instead, in roff
    #[arg(long)]
    pub man: bool,
    /// Write the man pages of the program and of each of its commands to this folder
    #[arg(long, value_name = "DIR", requires = "man")]
    pub out: Option<PathBuf>,
}

/// `meshproof adapter`.
#[derive(Debug, Subcommand)]
pub enum Adapter {
    /// Test a program against the adapter contract; print each point that it breaks
    Check(AdapterCheck),
}

/// `meshproof adapter check`.
#[derive(Debug, Args)]
pub struct AdapterCheck {
    /// The command that starts the adapter, as in `--target adapter:COMMAND`: one argument, split into words as by a shell
    pub command: String,
    /// Set a timeout, for example `adapter-stop=2s`; can be repeated
    #[arg(long = "timeout", value_name = "NAME=DURATION", value_parser = timeout)]
    pub timeouts: Vec<(Timeout, Duration)>,
}

/// `meshproof doctor`.
#[derive(Debug, Args)]
pub struct Doctor {
    /// The target to check, as for `run`
    #[arg(long, value_name = "TARGET", default_value = "reference")]
    pub target: String,
    /// With --target cluster: check what `verify --target cluster --namespace NAMESPACE` needs, instead of what a run needs
    #[arg(long, value_name = "NAMESPACE")]
    pub namespace: Option<String>,
    /// The Envoy to check [default: envoy from PATH]
    #[arg(long, value_name = "PATH", env = "MESHPROOF_ENVOY")]
    pub envoy: Option<PathBuf>,
    /// The cluster to use.
    #[command(flatten)]
    pub connection: Connection,
    /// The resources to create in it.
    #[command(flatten)]
    pub cluster: Cluster,
}

/// `meshproof cleanup`.
#[derive(Debug, Args)]
pub struct Cleanup {
    /// Print what would be removed; remove nothing
    #[arg(long)]
    pub dry_run: bool,
    /// `cluster`: clean up in a cluster [default: clean up on this machine]
    #[arg(long, value_name = "TARGET", value_parser = ["cluster"])]
    pub target: Option<String>,
    /// Remove only what this run left in the cluster
    #[arg(long, value_name = "ID", requires = "target", conflicts_with_all = ["older_than", "all"])]
    pub run: Option<String>,
    /// Remove what is older than this in the cluster [default: 1h]
    #[arg(long, value_name = "DURATION", requires = "target", conflicts_with = "all", value_parser = humantime::parse_duration)]
    pub older_than: Option<Duration>,
    /// Remove what any run created in the cluster, including runs that are still going on
    #[arg(long, requires = "target")]
    pub all: bool,
    /// The cluster to use.
    #[command(flatten)]
    pub connection: Connection,
}
