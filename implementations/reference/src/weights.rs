//! A choice among clusters by weight.

use std::sync::atomic::{AtomicU64, Ordering};

use meshproof_plan::model::WeightedCluster;

/// Clusters that take turns, so that the shares are exact over each round.
pub(crate) struct WeightedTurns {
    clusters: Vec<WeightedCluster>,
    turn: AtomicU64,
}

impl WeightedTurns {
    pub(crate) fn new(clusters: &[WeightedCluster]) -> Self {
        Self { clusters: clusters.to_vec(), turn: AtomicU64::new(0) }
    }

    /// Every cluster that may be chosen.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.clusters.iter().map(|c| c.cluster.as_str())
    }

    /// The position and the name of the next cluster; none where there is no cluster.
    pub(crate) fn next(&self) -> Option<(usize, &str)> {
        let total: u64 = self.clusters.iter().map(|c| u64::from(c.weight)).sum();
        let named = |i: usize| self.clusters.get(i).map(|c| (i, c.cluster.as_str()));
        let Some(round) = std::num::NonZeroU64::new(total) else { return named(0) };
        let mut point = self.turn.fetch_add(1, Ordering::Relaxed) % round;
        for (i, choice) in self.clusters.iter().enumerate() {
            let weight = u64::from(choice.weight);
            if point < weight {
                return named(i);
            }
            point -= weight;
        }
        None
    }
}
