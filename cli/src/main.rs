//! The `meshproof` command: the documents' scenarios.

use std::process::ExitCode;

/// A run allocates from many tasks at once, for which the C library's allocator takes a fifth of the processor time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    meshproof::main_with(meshproof_scenarios::ALL.clone())
}
