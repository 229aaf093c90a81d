//! `meshproof doctor`: what keeps a run from working here, and the command that mends it.

use meshproof_harness::target::TargetError;
use meshproof_targets::{Settings, cluster, default_timeouts};

use crate::{Refusal, args, exit, runtime};

/// Looks, and says what it sees. Nothing is changed.
///
/// # Errors
/// The target is none, or there is nothing that could be looked at.
pub fn command(args: &args::Doctor) -> Result<u8, Refusal> {
    let name = args.target.as_deref().unwrap_or("cluster");
    let timeouts = default_timeouts(name);
    let options = args.connection.options(&args.cluster);
    if name == "cluster" {
        let unasked = |words: String| match &args.target {
            Some(_) => words,
            None => format!(
                "{words}\nwithout --target a cluster is looked at; --target reference, envoy or \
                 adapter:COMMAND looks at another"
            ),
        };
        let told = runtime()?.block_on(cluster::doctor(&options, &timeouts));
        let told = told
            .map_err(|e| Refusal::Usage(unasked(e.to_string())))?
            .map_err(|e| Refusal::Environment(unasked(e)))?;
        crate::answer(&told.text);
        return Ok(if told.fit { exit::OK } else { exit::ERROR });
    }
    let settings = Settings { timeouts, cluster: options, ..Settings::default() };
    let target = crate::target(name, &settings)?;
    let found = runtime()?
        .block_on(target.identify())
        .map_err(|e: TargetError| Refusal::Environment(e.to_string()))?;
    crate::answer(&format!("good     {} {}\n\na run can work here\n", found.name, found.version));
    Ok(exit::OK)
}
