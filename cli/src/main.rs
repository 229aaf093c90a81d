//! The `meshproof` command: the documents' scenarios.

use std::process::ExitCode;

fn main() -> ExitCode {
    meshproof::main_with(meshproof_scenarios::ALL.clone())
}
