//! `meshproof verify` and `meshproof plan`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use meshproof_harness::timeouts::Timeout;
use meshproof_model::verification::Severity;
use meshproof_render::verification::VerificationFormat;

use super::cluster::Connection;
use super::values::timeout;

/// `meshproof plan`.
#[derive(Debug, Args)]
pub struct Plan {
    /// A file or folder of Kubernetes resources in YAML or JSON, `-` for standard input; can be repeated. A folder is read with
    /// all folders in it. The plan adds what the files lack: a pod for each Service, a workload `sleep` with a sidecar, and in
    /// the text form the Services of gateways
    #[arg(short = 'f', long = "file", value_name = "FILE|DIR", required = true)]
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
