//! What earlier runs left in a cluster: found by its labels, deleted, and waited for until it is gone.

use std::time::Duration;

use futures_util::stream::{self, StreamExt};
use jiff::Timestamp;
use meshproof_harness::timeouts::Timeout;

use crate::api::{ApiError, ClusterClient};
use crate::inventory::{Owned, owned};
use crate::owned::{RUN, of_run};

/// Objects older than this belong to no running scenario: a scenario's objects exist for as long as the
/// scenario, which the timeouts `images-pulled`, `implementation-ready`, `scenario` and `teardown` bound to
/// half an hour.
pub const ABANDONED: Duration = Duration::from_secs(60 * 60);
/// How many objects are removed concurrently.
const AT_ONCE: usize = 8;

/// Which runs' objects are removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CleanupScope {
    /// Those of this run.
    Run(String),
    /// Those of any run that are older than this.
    OlderThan(Duration),
    /// Those of every run, even of one that is still running.
    All,
}

/// The objects to remove, and those to leave.
///
/// # Errors
/// The cluster's.
pub async fn find(
    api: &ClusterClient,
    scope: &CleanupScope,
    now: Timestamp,
) -> Result<(Vec<Owned>, Vec<Owned>), ApiError> {
    let selector = match scope {
        CleanupScope::Run(run) => of_run(run),
        CleanupScope::OlderThan(_) | CleanupScope::All => RUN.to_owned(),
    };
    let found = owned(api, &selector).await?;
    Ok(found.into_iter().partition(|o| match scope {
        CleanupScope::Run(_) | CleanupScope::All => true,
        CleanupScope::OlderThan(age) => o.age(now) >= *age,
    }))
}

/// Removes objects, those outside the suite's namespaces first, waits until they are gone (timeout
/// `teardown`), and reports each result.
pub async fn remove(
    api: &ClusterClient,
    found: &[Owned],
    report: impl Fn(&Owned, Result<(), ApiError>) + Sync,
) {
    let limit = api.timeouts().get(Timeout::Teardown);
    let (namespaces, others): (Vec<&Owned>, Vec<&Owned>) = found.iter().partition(|o| o.is_namespace());
    for group in [others, namespaces] {
        let removals: Vec<_> = group.into_iter().map(|object| removed(api, object, limit)).collect();
        let mut removals = stream::iter(removals).buffer_unordered(AT_ONCE);
        while let Some((object, result)) = removals.next().await {
            report(object, result);
        }
    }
}

async fn removed<'a>(
    api: &ClusterClient,
    object: &'a Owned,
    limit: Duration,
) -> (&'a Owned, Result<(), ApiError>) {
    (object, api.delete_and_wait(&object.id, limit).await)
}
