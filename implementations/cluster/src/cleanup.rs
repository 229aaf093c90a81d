//! What earlier runs left in a cluster: found by its labels, removed, and awaited until it is gone.

use meshproof_harness::timeouts::Timeout;
use std::time::Duration;

use futures_util::stream::{self, StreamExt};
use jiff::Timestamp;

use crate::api::{Api, ApiError};
use crate::inventory::{Owned, owned};
use crate::owned::{RUN, of_run};

/// Objects older than this belong to no run that still goes on: a scenario's objects live for as long as the scenario, which the
/// timeouts `images-pulled`, `implementation-ready`, `scenario` and `teardown` bound to half an hour.
pub const ABANDONED: Duration = Duration::from_secs(60 * 60);
/// Removed at once.
const AT_ONCE: usize = 8;

/// Which runs' leftovers are meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Which {
    /// Those of this run.
    Run(String),
    /// Those of any run that are older.
    OlderThan(Duration),
    /// Those of every run, also of one that still goes on.
    All,
}

/// What is there: what is to go, and what is left alone.
///
/// # Errors
/// The cluster's.
pub async fn find(api: &Api, which: &Which, now: Timestamp) -> Result<(Vec<Owned>, Vec<Owned>), ApiError> {
    let selector = match which {
        Which::Run(run) => of_run(run),
        Which::OlderThan(_) | Which::All => RUN.to_owned(),
    };
    let found = owned(api, &selector).await?;
    Ok(found.into_iter().partition(|o| match which {
        Which::Run(_) | Which::All => true,
        Which::OlderThan(age) => o.age(now) >= *age,
    }))
}

/// Removes what was found, what lies in others' namespaces first, and awaits its end (timeout `teardown`); says of each how it went.
pub async fn remove(api: &Api, found: &[Owned], told: impl Fn(&Owned, Result<(), ApiError>) + Sync) {
    let limit = api.timeouts().get(Timeout::Teardown);
    let (namespaces, others): (Vec<&Owned>, Vec<&Owned>) = found.iter().partition(|o| o.is_namespace());
    for group in [others, namespaces] {
        let removals: Vec<_> = group.into_iter().map(|object| removed(api, object, limit)).collect();
        let mut removals = stream::iter(removals).buffer_unordered(AT_ONCE);
        while let Some((object, result)) = removals.next().await {
            told(object, result);
        }
    }
}

async fn removed<'a>(api: &Api, object: &'a Owned, limit: Duration) -> (&'a Owned, Result<(), ApiError>) {
    (object, api.delete_and_wait(&object.id, limit).await)
}
