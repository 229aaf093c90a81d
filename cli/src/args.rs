//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use meshproof_harness::traffic::{Budget, Traffic};

use crate::exit::Refusal;
use clap::{ArgMatches, Args, Parser, Subcommand, ValueEnum};
use meshproof_harness::external::ExternalChoice;
use meshproof_harness::timeouts::{Timeout, UnknownTimeout};
use meshproof_model::Level;
use meshproof_model::verification::Severity;
use meshproof_render::compare::ComparisonFormat;
use meshproof_render::formats::Format;
use meshproof_render::terminal::{Colour, Detail};
use meshproof_render::verification::VerificationFormat;
use meshproof_targets::cluster::{GATEWAY_NAMESPACE, Options, image, label, live};

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

/// `meshproof run`.
#[derive(Debug, Args)]
pub struct Run {
    /// What to run: SCENARIO, SCENARIO:CONFIGURATION, SCENARIO/CHECK or SCENARIO:CONFIGURATION/CHECK [default: all, or as many as the target allows]
    #[arg(value_name = "SCENARIO")]
    pub selectors: Vec<String>,
    /// The implementation to test: `reference`, `reference:SABOTEUR`, `envoy`, `envoy:MUTATION`, `cluster` or
    /// `adapter:COMMAND`. If repeated, the targets run one after the other and are compared
    #[arg(long = "target", value_name = "TARGET", default_value = "reference")]
    pub targets: Vec<String>,
    /// The kind of server that plays the external services
    #[arg(long, value_enum, default_value_t = External::Auto)]
    pub external: External,
    /// Use the documents' real hosts on the internet as external services. Runs only scenarios whose document names such a
    /// host (`meshproof list` marks them as live), and skips checks that only the host could decide
    #[arg(long, env = "MESHPROOF_LIVE", value_parser = live)]
    pub live: bool,
    /// The folder to write the report to
    #[arg(long, value_name = "DIR", default_value = "meshproof-report")]
    pub out: PathBuf,
    /// What the report calls the implementation [default: the name that it reports]
    #[arg(long, value_name = "NAME", env = "MESHPROOF_NAME", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub name: Option<String>,
    /// A format to write besides report.json: html, junit, markdown, github, badge, badge-svg or text; can be repeated
    /// [default: html]
    #[arg(long = "format", value_name = "FORMAT")]
    pub formats: Vec<Format>,
    /// A file of expected failures, as `meshproof baseline` writes it. A listed check that fails does not fail the run;
    /// a listed check that passes does
    #[arg(long, value_name = "FILE")]
    pub expect: Option<PathBuf>,
    /// The most scenarios to run at the same time [default: two per processor on this machine, all in a cluster]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub jobs: Option<u16>,
    /// Stop at the first check that fails the run
    #[arg(long)]
    pub fail_fast: bool,
    /// Exit with 3 if fewer than this number of checks were judged: a run that asks less than it should must not pass
    #[arg(long, value_name = "N")]
    pub min_checks: Option<usize>,
    /// Exit with 3 unless these were judged: SCENARIO, SCENARIO:CONFIGURATION, SCENARIO/CHECK or
    /// SCENARIO:CONFIGURATION/CHECK; can be repeated
    #[arg(long, value_name = "CHECKS")]
    pub must_ask: Vec<String>,
    /// Use this profile of meshproof.toml [default: the profile `default`, if there is one]
    #[arg(long, value_name = "NAME")]
    pub profile: Option<String>,
    /// Read profiles from this file [default: meshproof.toml in the working directory, if it exists]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Print what would run, one check per line; run nothing
    #[arg(long)]
    pub list: bool,
    /// Run only the checks that did not pass in the report in the folder --out
    #[arg(long, conflicts_with = "selectors")]
    pub last_failed: bool,
    /// Run N times, each with its own folder below --out, and name the checks whose verdict differs
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub repeat: Option<u16>,
    /// Run only the K-th of N parts of the selection; `merge` makes one report of them. `index/N` takes K from the variable
    /// JOB_COMPLETION_INDEX, which counts from 0, of a Kubernetes Job
    #[arg(long, value_name = "K/N", value_parser = shard)]
    pub shard: Option<Shard>,
    /// Also print report.json, packed into a block of text, for a place whose log is all that is left of it. `report`, `compare`
    /// and `merge` read it from the log
    #[arg(long)]
    pub print_report: bool,
    /// Write the events of the run to this file as JSON lines, as they happen
    #[arg(long, value_name = "FILE")]
    pub events: Option<PathBuf>,
    /// Write a trace of each configuration to this folder, which must be new or empty: the bytes of the suite's connections, the
    /// logs and configurations of the proxies, and the conversation with an adapter. It contains the secrets of the suite's own
    /// TLS sessions and all that was sent in them, so only you can read it
    #[arg(long, value_name = "DIR")]
    pub trace: Option<PathBuf>,
    /// Keep the run's working folder, and print its path
    #[arg(long)]
    pub keep: bool,
    /// Set a timeout, for example `request=2s`; `meshproof list --timeouts` shows all; can be repeated
    #[arg(long = "timeout", value_name = "NAME=DURATION", value_parser = timeout)]
    pub timeouts: Vec<(Timeout, Duration)>,
    /// The seed of generated traffic. The same seed generates the same exchanges in the same order
    #[arg(long, value_name = "N", default_value_t = Traffic::default().seed)]
    pub seed: u64,
    /// How much traffic each configuration of the scenario `generated-traffic` generates: a number of exchanges (5000) or a
    /// time (10s)
    #[arg(long, value_name = "BUDGET", default_value_t = Traffic::default().budget)]
    pub budget: Budget,
    /// Which certificate paths the scenario `path-validation` asks: `covering` asks each path in one configuration, `full` asks
    /// every path, and those on which practice differs, in every configuration
    #[arg(long, value_name = "PATHS", value_enum, default_value_t)]
    pub matrix: MatrixChoice,
    /// Ask the certificate paths of this file in the format of x509-limbo instead. Without selectors, only the scenario
    /// `path-validation` runs
    #[arg(long, value_name = "FILE", conflicts_with = "matrix")]
    pub vectors: Option<PathBuf>,
    /// Use the manifest DIR/SCENARIO/NAME.yaml, if it exists, instead of the built-in one
    #[arg(long, value_name = "DIR")]
    pub fixtures: Option<PathBuf>,
    /// The nginx program to use [default: nginx on PATH]
    #[arg(long, value_name = "PATH", env = "MESHPROOF_NGINX")]
    pub nginx: Option<PathBuf>,
    /// The container image for `--external container` [default: docker.io/library/nginx:1.28.0]
    #[arg(long, value_name = "IMAGE", env = "MESHPROOF_NGINX_IMAGE")]
    pub nginx_image: Option<String>,
    /// The Envoy program for `--target envoy` [default: envoy on PATH]
    #[arg(long, value_name = "PATH", env = "MESHPROOF_ENVOY")]
    pub envoy: Option<PathBuf>,
    /// Print only the verdict line and the causes of failures
    #[arg(short, long, conflicts_with = "verbose")]
    pub quiet: bool,
    /// Print the evidence of one check per cause; with -vv, the evidence of every check that failed
    #[arg(short, long, action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// The cluster to use.
    #[command(flatten)]
    pub connection: Connection,
    /// The resources to create in it.
    #[command(flatten)]
    pub cluster: Cluster,
}

impl Default for Run {
    fn default() -> Self {
        Self {
            selectors: Vec::new(),
            targets: vec!["reference".to_owned()],
            external: External::Auto,
            name: None,
            out: PathBuf::from("meshproof-report"),
            formats: Vec::new(),
            expect: None,
            jobs: None,
            fail_fast: false,
            min_checks: None,
            must_ask: Vec::new(),
            profile: None,
            config: None,
            list: false,
            last_failed: false,
            repeat: None,
            shard: None,
            print_report: false,
            events: None,
            trace: None,
            keep: false,
            timeouts: Vec::new(),
            seed: Traffic::default().seed,
            budget: Traffic::default().budget,
            matrix: MatrixChoice::default(),
            vectors: None,
            fixtures: None,
            nginx: None,
            nginx_image: None,
            envoy: None,
            connection: Connection::default(),
            cluster: Cluster::default(),
            live: false,
            quiet: false,
            verbose: 0,
        }
    }
}

/// Which of the suite's own certificate paths are asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum MatrixChoice {
    /// Each rule at each placement, each path in one configuration.
    #[default]
    Covering,
    /// Every path in every configuration.
    Full,
}

/// The kind of server that plays the external services.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum External {
    /// A real nginx where the document uses nginx and nginx is installed; otherwise the embedded server
    #[default]
    Auto,
    /// The embedded server for every external service
    Embedded,
    /// A real nginx for every external service; nginx must be installed
    Nginx,
    /// A real nginx in a container for every external service; Docker or Podman must be running
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

/// `meshproof plan`.
#[derive(Debug, Args)]
pub struct Plan {
    /// A file of Kubernetes resources in YAML, `-` for standard input; can be repeated. The plan adds what the files lack: a pod
    /// for each Service, a workload `sleep` with a sidecar, and in the text form the Services of gateways
    #[arg(short = 'f', long = "file", value_name = "FILE", required = true)]
    pub files: Vec<PathBuf>,
    /// How to print the plan
    #[arg(long, value_enum, default_value_t = PlanFormat::Text)]
    pub format: PlanFormat,
}

/// `meshproof plan --format`.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum PlanFormat {
    /// A tree with one branch per proxy: its listeners by port, the routes of each by host, and its clusters. `fallthrough` is
    /// where a connection goes that no other rule takes; `forward` names clusters with their weights, and `retry` the conditions and
    /// the number of attempts
    Text,
    /// JSON, in a form that can be compared with what istiod sends its proxies
    Json,
}

/// `meshproof verify`.
#[derive(Debug, Args)]
#[command(after_help = VERIFY_HELP)]
pub struct Verify {
    /// A file or folder of Kubernetes resources in YAML or JSON, `-` for standard input; can be repeated. A folder is read with
    /// all folders in it. Services of gateways and sidecars that the files lack are made up
    #[arg(
        short = 'f',
        long = "file",
        value_name = "FILE|DIR",
        required_unless_present = "namespace",
        conflicts_with = "namespace"
    )]
    pub files: Vec<PathBuf>,
    /// Judge only these checks of the proof, as its report names them, for example `verify:only/every-request-accounted-for`
    #[arg(value_name = "CHECK", conflicts_with_all = ["only_static", "ask"])]
    pub checks: Vec<String>,
    /// With --target cluster: the namespace to verify, by the resources that are in force there. The cluster is only read
    #[arg(long, value_name = "NAMESPACE")]
    pub namespace: Option<String>,
    /// Only read and plan; send no request
    #[arg(long = "static")]
    pub only_static: bool,
    /// Follow one request instead, and show each decision on its way with the line of YAML that made it, for example
    /// "sleep http://edition.cnn.com/politics"
    #[arg(long, value_name = "PROXY URL", conflicts_with_all = ["write", "out"])]
    pub ask: Option<String>,
    /// How to print the result: text, json, sarif, junit, markdown, github or html
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub format: VerificationFormat,
    /// Also write the result in this format to this file, for example `sarif=meshproof.sarif`; can be repeated
    #[arg(long = "write", value_name = "FORMAT=FILE", value_parser = written)]
    pub write: Vec<(VerificationFormat, PathBuf)>,
    /// The lowest severity of a finding that makes the exit code 1
    #[arg(long, value_enum, value_name = "SEVERITY", default_value_t = FailOnSeverity::Error)]
    pub fail_on: FailOnSeverity,
    /// With -f, the implementation that carries the requests of the proof: `reference` or `envoy`. `cluster` (or
    /// `cluster:REVISION`) with --namespace: read the resources from the cluster [default: reference]
    #[arg(long, value_name = "TARGET")]
    pub target: Option<String>,
    /// With --target cluster, the implementation on this machine that carries the requests of the proof, which is given a copy
    /// of the configuration: `reference` or `envoy`
    #[arg(
        long,
        value_name = "TARGET",
        default_value = "reference",
        conflicts_with = "only_static",
        requires = "namespace"
    )]
    pub prove_with: String,
    /// The folder for the proof's report: its page, report.json and junit.xml [default: none is written]
    #[arg(long, value_name = "DIR", conflicts_with = "only_static")]
    pub out: Option<PathBuf>,
    /// The Envoy program for `--target envoy` [default: envoy on PATH]
    #[arg(long, value_name = "PATH", env = "MESHPROOF_ENVOY")]
    pub envoy: Option<PathBuf>,
    /// Set a timeout of the proof, for example `request=2s`; can be repeated
    #[arg(long = "timeout", value_name = "NAME=DURATION", value_parser = timeout)]
    pub timeouts: Vec<(Timeout, Duration)>,
    /// The cluster to read.
    #[command(flatten)]
    pub connection: Connection,
}

const VERIFY_HELP: &str = "\
Examples:
  meshproof verify -f manifests/                  Find what is wrong, and prove the rest with real requests
  meshproof verify -f manifests/ --static         Only read and plan
  helm template chart | meshproof verify -f - --static
  kubectl get gateways,virtualservices,destinationrules,serviceentries -A -o yaml | meshproof verify -f - --static
  meshproof verify --target cluster --namespace shop --static
                                                  Verify what is in force in a namespace; the cluster is only read
  meshproof verify -f app.yaml --ask \"sleep http://edition.cnn.com/politics\"
  meshproof verify -f manifests/ --static --format github --write sarif=meshproof.sarif

Exit codes:
  0  no finding of the severity of --fail-on or above, and every check of the proof passed
  1  there is such a finding, or a check of the proof failed or is inconclusive
  2  the command line or the input is wrong
  3  a file cannot be read or written, or the proof could not run: add --static where no request can be proved";

/// The lowest severity that fails the command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum FailOnSeverity {
    /// Only errors
    Error,
    /// Errors and warnings
    Warning,
    /// Everything, notes included
    Note,
}

impl From<FailOnSeverity> for Severity {
    fn from(f: FailOnSeverity) -> Self {
        match f {
            FailOnSeverity::Error => Self::Error,
            FailOnSeverity::Warning => Self::Warning,
            FailOnSeverity::Note => Self::Note,
        }
    }
}

fn written(text: &str) -> Result<(VerificationFormat, PathBuf), String> {
    let (format, file) =
        text.split_once('=').ok_or("expected FORMAT=FILE, for example sarif=meshproof.sarif")?;
    Ok((format.parse()?, PathBuf::from(file)))
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

/// `meshproof report`.
#[derive(Debug, Args)]
pub struct Render {
    /// A report.json, the folder that a run wrote it to, or `-` for standard input
    pub report: PathBuf,
    /// The format: html, json, junit, markdown, github, badge, badge-svg or text; can be repeated with --out [default: the summary of a run]
    #[arg(long = "format", value_name = "FORMAT")]
    pub formats: Vec<Format>,
    /// The folder to write the files to; without it, the one format goes to standard output
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// A file of expected failures, as for `run`
    #[arg(long, value_name = "FILE")]
    pub expect: Option<PathBuf>,
    /// Exit as a run would if a failed check of this level or above failed it [default: always exit with 0]
    #[arg(long, value_enum, value_name = "LEVEL")]
    pub fail_on: Option<FailOn>,
    /// Exit with 3 if fewer than this number of checks were judged
    #[arg(long, value_name = "N")]
    pub min_checks: Option<usize>,
    /// Print only the verdict line and the causes of failures
    #[arg(short, long, conflicts_with_all = ["verbose", "formats"])]
    pub quiet: bool,
    /// Print the evidence of one check per cause; with -vv, the evidence of every check that failed
    #[arg(short, long, action = clap::ArgAction::Count, conflicts_with = "formats")]
    pub verbose: u8,
}

/// The lowest level whose failed checks fail the command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum FailOn {
    /// Only a failed MUST, as in a run
    Must,
    /// A failed MUST or SHOULD
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
    /// The reports: each is a report.json, or the folder that a run wrote it to. NAME=REPORT calls it NAME in the comparison
    #[arg(required = true, value_name = "[NAME=]REPORT", value_parser = named)]
    pub reports: Vec<NamedReport>,
    /// Mark regressions and fixes relative to this report; with a regression the exit code is 1. A check that passed in the
    /// baseline and is now skipped, missing or an error is lost, which is a regression
    #[arg(long, value_name = "[NAME=]REPORT", value_parser = named)]
    pub baseline: Option<NamedReport>,
    /// Accept that checks are lost: SCENARIO, SCENARIO:CONFIGURATION, SCENARIO/CHECK or SCENARIO:CONFIGURATION/CHECK; can be
    /// repeated
    #[arg(long, value_name = "CHECKS", requires = "baseline")]
    pub allow_lost: Vec<String>,
    /// How to print the comparison: text, markdown, junit, json or html [default: text]
    #[arg(long, value_name = "FORMAT", conflicts_with = "json")]
    pub format: Option<ComparisonFormat>,
    /// Print JSON; the same as --format json
    #[arg(long)]
    pub json: bool,
    /// Also write the comparison in this format to this file, for example `junit=comparison.xml`; can be repeated
    #[arg(long = "write", value_name = "FORMAT=FILE", value_parser = written_comparison)]
    pub write: Vec<(ComparisonFormat, PathBuf)>,
    /// Exit with 3 if fewer than this number of checks were judged in every report
    #[arg(long, value_name = "N")]
    pub min_checks: Option<usize>,
    /// Also write the comparison as an HTML page
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Leave the evidence out of the HTML page
    #[arg(long, requires = "html")]
    pub no_evidence: bool,
    /// Also show checks that do not differ
    #[arg(long, conflicts_with_all = ["json", "format"])]
    pub all: bool,
}

/// A report, and what the user calls it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedReport {
    /// The name, if the user gave one.
    pub name: Option<String>,
    /// The file or folder.
    pub path: PathBuf,
}

/// `NAME=REPORT` or `REPORT`. A path that exists is a path, even with an equals sign in it.
fn named(text: &str) -> Result<NamedReport, String> {
    match text.split_once('=') {
        Some((name, path)) if !std::path::Path::new(text).exists() => {
            if name.trim().is_empty() || path.is_empty() {
                return Err("expected NAME=REPORT, for example before=meshproof-report".to_owned());
            }
            Ok(NamedReport { name: Some(name.to_owned()), path: PathBuf::from(path) })
        }
        Some(_) | None => Ok(NamedReport { name: None, path: PathBuf::from(text) }),
    }
}

fn written_comparison(text: &str) -> Result<(ComparisonFormat, PathBuf), String> {
    let (format, file) =
        text.split_once('=').ok_or("expected FORMAT=FILE, for example junit=comparison.xml")?;
    Ok((format.parse()?, PathBuf::from(file)))
}

/// `meshproof site`.
#[derive(Debug, Args)]
pub struct Site {
    /// The reports to add: each is a report.json, or the folder that a run wrote it to. NAME=REPORT adds it to the history of
    /// the implementation NAME
    #[arg(value_name = "[NAME=]REPORT", value_parser = named)]
    pub reports: Vec<NamedReport>,
    /// The folder of the site. Reports that it has already stay in it
    #[arg(long, value_name = "DIR", required = true)]
    pub out: PathBuf,
}

/// `meshproof merge`.
#[derive(Debug, Args)]
pub struct Merge {
    /// The reports: each is a report.json, the folder that a run wrote it to, or the log of runs with --print-report
    #[arg(required = true, value_name = "REPORT")]
    pub reports: Vec<PathBuf>,
    /// The folder to write the merged report to
    #[arg(long, value_name = "DIR", default_value = "meshproof-report")]
    pub out: PathBuf,
    /// A format to write besides report.json, as for `run`; can be repeated [default: html]
    #[arg(long = "format", value_name = "FORMAT")]
    pub formats: Vec<Format>,
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

/// A part of a run: the K-th of N.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    /// From 1 to `of`.
    pub number: usize,
    /// How many parts there are.
    pub of: usize,
}

/// Set in the pods of a Job with `completionMode: Indexed`, from 0 (Kubernetes, "Indexed Job for Parallel Processing").
const COMPLETION_INDEX: &str = "JOB_COMPLETION_INDEX";

fn shard(text: &str) -> Result<Shard, String> {
    shard_at(text, std::env::var(COMPLETION_INDEX).ok().as_deref())
}

fn shard_at(text: &str, index: Option<&str>) -> Result<Shard, String> {
    let wrong =
        || format!("{text:?} is no shard. Expected: K/N with K from 1 to N, for example 1/3, or index/N");
    let (number, of) = text.split_once('/').ok_or_else(wrong)?;
    let of = of.parse().map_err(|_| wrong())?;
    let number = if number == "index" {
        let index = index.ok_or_else(|| {
            format!("{text:?} needs the variable {COMPLETION_INDEX}, which a Job with completionMode: Indexed sets")
        })?;
        let index: usize =
            index.parse().map_err(|_| format!("{COMPLETION_INDEX} is {index:?}, not a number"))?;
        if index >= of {
            return Err(format!(
                "{COMPLETION_INDEX} is {index}, so the Job has more than {of} completions; give --shard index/N their number"
            ));
        }
        index + 1
    } else {
        number.parse().map_err(|_| wrong())?
    };
    if (1..=of).contains(&number) { Ok(Shard { number, of }) } else { Err(wrong()) }
}

/// `meshproof baseline`.
#[derive(Debug, Args)]
pub struct Baseline {
    /// A report.json, or the folder that a run wrote it to
    pub report: PathBuf,
    /// The file to write [default: standard output]
    #[arg(long, value_name = "FILE")]
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

fn timeout(text: &str) -> Result<(Timeout, Duration), String> {
    let (name, duration) = text.split_once('=').ok_or("expected NAME=DURATION, for example request=2s")?;
    let timeout = name.parse().map_err(|e: UnknownTimeout| e.to_string())?;
    let duration = humantime::parse_duration(duration)
        .map_err(|e| format!("{duration:?} is not a duration ({e}). Examples: 500ms, 2s, 1m"))?;
    if duration.is_zero() {
        return Err("a timeout must be longer than zero".to_owned());
    }
    Ok((timeout, duration))
}

#[cfg(test)]
mod shard_tests {
    use super::*;

    #[test]
    fn a_shard_is_given_or_taken_from_the_completion_index_which_counts_from_0() {
        assert_eq!(shard_at("2/3", None), Ok(Shard { number: 2, of: 3 }));
        assert_eq!(shard_at("index/3", Some("2")), Ok(Shard { number: 3, of: 3 }));
        for (text, index, words) in [
            ("0/3", None, "K from 1 to N"),
            ("4/3", None, "K from 1 to N"),
            ("index/3", None, "completionMode: Indexed"),
            ("index/3", Some("3"), "more than 3 completions"),
            ("index/3", Some("x"), "not a number"),
            ("index", Some("1"), "index/N"),
        ] {
            assert!(shard_at(text, index).unwrap_err().contains(words), "{text} {index:?}");
        }
    }
}
