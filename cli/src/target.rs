//! From a target's name on the command line to the target.

use std::sync::Arc;
use std::time::Duration;

use meshproof_harness::target::Target;
use meshproof_harness::timeouts::{Timeout, Timeouts};
use meshproof_reference::UnknownVariant;
use meshproof_targets::{Settings, UnknownTarget, by_name, default_timeouts};

use crate::exit::Refusal;

/// The timeouts of this target, with those of `--timeout`.
pub(crate) fn timeouts(name: &str, given: &[(Timeout, Duration)]) -> Timeouts {
    let mut timeouts = default_timeouts(name);
    for (timeout, duration) in given {
        timeouts.set(*timeout, *duration);
    }
    timeouts
}

/// The target with this name.
pub(crate) fn target(name: &str, settings: &Settings) -> Result<Arc<dyn Target>, Refusal> {
    by_name(name, settings).map_err(|e| match e {
        UnknownTarget::Name { .. } if name == "adapter" => Refusal::Usage(
            "the target `adapter` needs the command that starts the program: --target adapter:COMMAND (see \
             docs/adapters.md)"
                .to_owned(),
        ),
        UnknownTarget::Variant(e) => unknown_saboteur(&e),
        e @ (UnknownTarget::Name { .. }
        | UnknownTarget::Mutation(_)
        | UnknownTarget::Cluster(_)
        | UnknownTarget::Adapter(_)) => Refusal::Usage(e.to_string()),
    })
}

pub(crate) fn unknown_saboteur(error: &UnknownVariant) -> Refusal {
    Refusal::Usage(format!("{error}\n`meshproof sabotage --list` shows all saboteurs"))
}
