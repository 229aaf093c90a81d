//! `meshproof cleanup`: what a killed run left on this machine, or in a cluster.

use crate::{Refusal, args, exit};
use meshproof_harness::run_folder;
use meshproof_harness::timeouts::Timeouts;
use meshproof_local::external::{CONTAINERS, left_containers};
use meshproof_targets::cluster::{Which, cleanup};
use meshproof_targets::default_timeouts;

/// Finds the containers and folders of runs whose process is gone, ends what still runs in them, and removes them.
///
/// # Errors
/// Something could not be listed or removed; the message names it.
pub fn command(args: &args::Cleanup) -> Result<u8, Refusal> {
    let runtime = crate::runtime()?;
    if args.target.is_some() {
        return in_cluster(args, &runtime);
    }
    let work = std::env::temp_dir();
    let folders = run_folder::leftovers(&work)
        .map_err(|e| Refusal::Environment(format!("{} cannot be read: {e}", work.display())))?;
    if !CONTAINERS {
        crate::answer(
            "containers are not looked for: this meshproof was built without --features container\n",
        );
    }
    let containers = runtime
        .block_on(left_containers(&Timeouts::default()))
        .map_err(|e| Refusal::Environment(format!("the containers cannot be listed: {e}")))?;
    if containers.is_empty() && folders.is_empty() {
        crate::answer("nothing is left of earlier runs\n");
        return Ok(exit::OK);
    }
    let mut failed = Vec::new();
    let mut done = |what: String, remove: &dyn Fn() -> std::io::Result<()>| {
        if args.dry_run {
            crate::answer(&format!("would remove {what}\n"));
        } else if let Err(e) = remove() {
            failed.push(format!("{what}: {e}"));
        } else {
            crate::answer(&format!("removed {what}\n"));
        }
    };
    // Containers first: they work in the folders.
    for container in &containers {
        done(container.describe(), &|| runtime.block_on(container.remove()));
    }
    for folder in &folders {
        done(folder.describe(), &|| folder.remove());
    }
    if failed.is_empty() { Ok(exit::OK) } else { Err(Refusal::Environment(failed.join("\n"))) }
}

/// Finds what carries the suite's labels in the cluster, removes it, and awaits its end.
fn in_cluster(args: &args::Cleanup, runtime: &tokio::runtime::Runtime) -> Result<u8, Refusal> {
    let which = match (&args.run, args.all) {
        (Some(run), _) => Which::Run(run.clone()),
        (None, true) => Which::All,
        (None, false) => Which::OlderThan(args.older_than),
    };
    let options = args.connection.options(&args::Cluster::default());
    let timeouts = default_timeouts("cluster");
    let cleaned = runtime.block_on(cleanup(&options, &timeouts, &which, args.dry_run, crate::answer));
    cleaned.map_err(|e| Refusal::Usage(e.to_string()))?.map_err(Refusal::Environment)?;
    Ok(exit::OK)
}
