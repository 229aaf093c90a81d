//! The `meshproof` command as a library. A program with scenarios of its own is one call of [`main_with`]:
//!
//! ```no_run
//! fn main() -> std::process::ExitCode {
//!     meshproof::main_with(vec![/* Scenario::read(...) */])
//! }
//! ```

pub mod adapter;
pub mod args;
mod authority;
pub mod catalogue;
pub mod cleanup;
pub mod dictionary;
pub mod doctor;
pub mod events;
pub mod exit;
pub mod flaky;
pub mod kill_matrix;
pub mod manifests;
pub mod merge;
pub mod output;
pub mod packed;
pub mod plan;
pub mod profile;
pub mod reports;
pub mod run;
mod runtime;
pub mod sabotage;
pub mod serve;
mod signals;
pub mod site;
pub mod suite;
mod target;
pub mod verify;

use std::path::Path;
use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches};
use meshproof_harness::scenario::Scenario;

use args::{Adapter, Arguments, Command};
use exit::Refusal;
use suite::Suite;

/// The command for these scenarios: `list`, `explain`, `run`, `sabotage` and all others, with the process's arguments. Help and
/// messages call the program by the name that it was started with.
///
/// Call it once, as the whole of `main`: the scenarios stay in memory until the process exits. The exit code is one of those in
/// [`exit`]. `--help`, `--version` and a wrong command line end the process.
#[must_use]
pub fn main_with(scenarios: Vec<Scenario>) -> ExitCode {
    let path = std::env::args_os().next();
    let program = path.as_deref().and_then(|p| Path::new(p).file_stem()?.to_str()).unwrap_or("meshproof");
    // A program that was started by its path is not on PATH, so a command that repeats a run needs the path.
    let called = path.as_deref().and_then(|p| p.to_str()).filter(|p| p.contains(std::path::is_separator));
    let called = called.map_or_else(|| program.to_owned(), output::quoted);
    let suite =
        Suite { program: program.to_owned().leak(), called: called.leak(), scenarios: scenarios.leak() };
    let command = Arguments::command().name(suite.program).bin_name(suite.program);
    let line: Vec<_> = std::env::args_os().collect();
    let matches = command.clone().get_matches_from(&line);
    let matches = match checked(&command, matches, &line) {
        Ok(matches) => matches,
        Err(refusal) => {
            output::complain(&refusal.to_string());
            return ExitCode::from(refusal.exit_code());
        }
    };
    let arguments = Arguments::from_arg_matches(&matches).unwrap_or_else(|e| e.exit());
    ExitCode::from(run_command(suite, arguments))
}

/// The command line with what the profile adds. Options of another target than the one that runs are refused.
fn checked(
    command: &clap::Command,
    matches: clap::ArgMatches,
    line: &[std::ffi::OsString],
) -> Result<clap::ArgMatches, Refusal> {
    let matches = match profile::complete(command, &matches, line)? {
        Some(completed) => command.clone().try_get_matches_from(completed).map_err(|e| {
            let words = e.to_string();
            let first = words.lines().next().unwrap_or_default().trim_start_matches("error: ");
            Refusal::Usage(format!("{first}\nThe command line was completed by a profile (docs/profiles.md)"))
        })?,
        None => matches,
    };
    args::only_for_clusters(command, &matches)?;
    Ok(matches)
}

/// Prints a script that completes the command line in this shell, or the man page.
fn completions(program: &'static str, args: &args::Completions) -> Result<u8, Refusal> {
    let mut command = Arguments::command().name(program).bin_name(program);
    let mut text = Vec::new();
    if let Some(folder) = &args.out {
        let unwritable = |e: std::io::Error| {
            Refusal::Environment(format!("the man pages cannot be written to {}: {e}", folder.display()))
        };
        std::fs::create_dir_all(folder).map_err(unwritable)?;
        clap_mangen::generate_to(command, folder).map_err(unwritable)?;
        return Ok(exit::OK);
    }
    match args.shell {
        Some(shell) => clap_complete::generate(shell, &mut command, program, &mut text),
        None => clap_mangen::Man::new(command)
            .render(&mut text)
            .map_err(|e| Refusal::Environment(format!("the man page cannot be written: {e}")))?,
    }
    output::answer(&String::from_utf8_lossy(&text));
    Ok(exit::OK)
}

/// Runs a parsed command line and returns the exit code.
#[must_use]
pub fn run_command(suite: Suite, arguments: Arguments) -> u8 {
    output::set_colour(arguments.color.into());
    let done = match arguments.command.unwrap_or_default() {
        Command::Run(run) => run::command(suite, &run),
        Command::List(list) => catalogue::list(suite, &list),
        Command::Explain(explain) => catalogue::explain(suite, &explain),
        Command::Plan(args) => plan::command(&args),
        Command::Verify(args) => verify::command(&args),
        Command::Sabotage(sabotage) => sabotage::command(suite, &sabotage),
        Command::Report(render) => reports::report(suite, &render),
        Command::Compare(compare) => reports::compare(&compare),
        Command::Site(args) => site::command(&args),
        Command::Merge(merge) => merge::command(suite, &merge),
        Command::Completions(shell) => completions(suite.program, &shell),
        Command::Baseline(baseline) => reports::baseline(&baseline),
        Command::Doctor(doctor) => doctor::command(&doctor),
        Command::Cleanup(cleanup) => cleanup::command(&cleanup),
        Command::Serve(args) => serve::command(&args),
        Command::Adapter(Adapter::Check(check)) => adapter::command(&check),
    };
    output::exit_code(done.unwrap_or_else(|refusal: Refusal| {
        output::complain(&refusal.to_string());
        refusal.exit_code()
    }))
}
