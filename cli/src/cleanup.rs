//! `meshproof cleanup`: what a killed run left on this machine.

use crate::{Refusal, args, exit};
use meshproof_harness::run_folder;

/// Finds the folders of runs whose process is gone, ends what still runs in them, and removes them.
///
/// # Errors
/// Something could not be removed; the message names it.
pub fn command(args: &args::Cleanup) -> Result<u8, Refusal> {
    let left = run_folder::leftovers(&std::env::temp_dir()).map_err(|e| {
        Refusal::Environment(format!("{} cannot be read: {e}", std::env::temp_dir().display()))
    })?;
    if left.is_empty() {
        crate::answer("nothing is left of earlier runs\n");
        return Ok(exit::OK);
    }
    let mut failed = Vec::new();
    for leftover in left {
        let what = leftover.describe();
        if args.dry_run {
            crate::answer(&format!("would remove {what}\n"));
        } else if let Err(e) = leftover.remove() {
            failed.push(format!("{what}: {e}"));
        } else {
            crate::answer(&format!("removed {what}\n"));
        }
    }
    if failed.is_empty() { Ok(exit::OK) } else { Err(Refusal::Environment(failed.join("\n"))) }
}
