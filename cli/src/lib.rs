//! The `meshproof` command, as a library so that tests and benchmarks run just what the command runs.

pub mod adapter;
pub mod args;
pub mod catalogue;
pub mod cleanup;
pub mod doctor;
pub mod output;
pub mod render;
pub mod run;
pub mod sabotage;
mod signals;

use std::sync::Arc;

use meshproof_harness::target::Target;
use meshproof_targets::{Settings, UnknownTarget, by_name};

use output::{answer, complain};

/// Exit codes: 0 every MUST passed; 1 a MUST failed or is inconclusive; 2 usage; 3 environment or suite error, or
/// nothing was executed.
pub mod exit {
    /// Every MUST passed, or the command did what it was asked.
    pub const OK: u8 = 0;
    /// A MUST failed or is inconclusive.
    pub const FAILED: u8 = 1;
    /// The command line is wrong.
    pub const USAGE: u8 = 2;
    /// The environment or the suite kept the run from its judgement.
    pub const ERROR: u8 = 3;
}

/// Why a command did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// The command line is wrong.
    #[error("{0}")]
    Usage(String),
    /// The environment or the suite is at fault; the message names the mend.
    #[error("{0}")]
    Environment(String),
}

impl Refusal {
    /// The process's exit code.
    #[must_use]
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) => exit::USAGE,
            Self::Environment(_) => exit::ERROR,
        }
    }
}

/// Carries out a command line and returns the exit code.
#[must_use]
pub fn main(arguments: args::Arguments) -> u8 {
    let done = match arguments.command.unwrap_or_default() {
        args::Command::Run(run) => run::command(&run),
        args::Command::List(list) => catalogue::list(&list),
        args::Command::Explain(explain) => catalogue::explain(&explain),
        args::Command::Sabotage(sabotage) => sabotage::command(&sabotage),
        args::Command::Report(render) => render::report(&render),
        args::Command::Compare(compare) => render::compare(&compare),
        args::Command::Baseline(baseline) => render::baseline(&baseline),
        args::Command::Doctor(doctor) => doctor::command(&doctor),
        args::Command::Cleanup(cleanup) => cleanup::command(&cleanup),
        args::Command::Adapter(args::Adapter::Check(check)) => adapter::command(&check),
    };
    output::exit_code(done.unwrap_or_else(|refusal| {
        complain(&refusal.to_string());
        refusal.exit_code()
    }))
}

/// The target of this name.
fn target(name: &str, settings: &Settings) -> Result<Arc<dyn Target>, Refusal> {
    by_name(name, settings).map_err(|e| {
        Refusal::Usage(match e {
            UnknownTarget::Name { .. } if name == "adapter" => {
                "the target adapter takes the command that starts the program: --target adapter:COMMAND (see docs/adapters.md)"
                    .to_owned()
            }
            UnknownTarget::Variant(e) => sabotage::unknown(&e),
            e @ (UnknownTarget::Name { .. }
            | UnknownTarget::Mutation(_)
            | UnknownTarget::Cluster(_)
            | UnknownTarget::Adapter(_)) => e.to_string(),
        })
    })
}

/// The runtime that commands run on.
fn runtime() -> Result<tokio::runtime::Runtime, Refusal> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|e| Refusal::Environment(format!("the runtime cannot start: {e}")))
}
