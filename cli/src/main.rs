//! The `meshproof` command.

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    ExitCode::from(meshproof::main(meshproof::args::Arguments::parse()))
}
