//! `meshproof run`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use meshproof_harness::external::ExternalChoice;
use meshproof_harness::timeouts::Timeout;
use meshproof_harness::traffic::{Budget, Traffic};
use meshproof_render::formats::Format;
use meshproof_targets::cluster::live;

use super::cluster::{Cluster, Connection};
use super::values::timeout;

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
    /// The most scenarios to run at the same time [default: all; 6 with Envoy; in a cluster 3 per
    /// processor of its nodes]
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
