//! `meshproof cleanup`: removes what killed runs left on this machine or in a cluster.

use meshproof_harness::run_folder;
use meshproof_harness::timeouts::Timeouts;
use meshproof_local::external::{CONTAINERS, left_containers};
use meshproof_targets::cluster::{CleanupScope, cleanup};
use meshproof_targets::default_timeouts;

use crate::args;
use crate::exit::{self, Refusal};
use crate::output::answer;
use crate::runtime::runtime;

/// Finds the containers and folders of runs whose process has ended, stops the processes that still use them, and removes them.
///
/// # Errors
/// Something cannot be listed or removed. The message names it.
pub fn command(args: &args::Cleanup) -> Result<u8, Refusal> {
    let runtime = runtime()?;
    if args.target.is_some() {
        return in_cluster(args, &runtime);
    }
    let work = std::env::temp_dir();
    let folders = run_folder::leftovers(&work)
        .map_err(|e| Refusal::Environment(format!("{} cannot be read: {e}", work.display())))?;
    if !CONTAINERS {
        answer("Containers are not checked: this program was built without --features container.\n");
    }
    let containers = runtime
        .block_on(left_containers(&Timeouts::default()))
        .map_err(|e| Refusal::Environment(format!("the containers cannot be listed: {e}")))?;
    if containers.is_empty() && folders.is_empty() {
        answer("Earlier runs left nothing behind.\n");
        return Ok(exit::OK);
    }
    let mut failed = Vec::new();
    let mut done = |what: String, remove: &dyn Fn() -> std::io::Result<()>| {
        if args.dry_run {
            answer(&format!("would remove {what}\n"));
        } else if let Err(e) = remove() {
            failed.push(format!("{what}: {e}"));
        } else {
            answer(&format!("removed {what}\n"));
        }
    };
    // Containers first: they use the folders.
    for container in &containers {
        done(container.describe(), &|| runtime.block_on(container.remove()));
    }
    for folder in &folders {
        done(folder.describe(), &|| folder.remove());
    }
    if failed.is_empty() { Ok(exit::OK) } else { Err(Refusal::Environment(failed.join("\n"))) }
}

/// Finds what has the suite's labels in the cluster, removes it, and waits until it is gone.
fn in_cluster(args: &args::Cleanup, runtime: &tokio::runtime::Runtime) -> Result<u8, Refusal> {
    let which = match (&args.run, args.all) {
        (Some(run), _) => CleanupScope::Run(run.clone()),
        (None, true) => CleanupScope::All,
        (None, false) => CleanupScope::OlderThan(args.older_than),
    };
    let options = args.connection.options(&args::Cluster::default());
    let timeouts = default_timeouts("cluster");
    let cleaned = runtime.block_on(cleanup(&options, &timeouts, &which, args.dry_run, answer));
    let cleaned = cleaned.map_err(|e| Refusal::Usage(e.to_string()))?;
    // A killed run has left its folder too.
    for folder in run_folder::leftovers(&std::env::temp_dir()).unwrap_or_default() {
        answer(&format!("left on this machine, `meshproof cleanup` removes it: {}\n", folder.describe()));
    }
    cleaned.map_err(Refusal::Environment)?;
    Ok(exit::OK)
}
