//! Runs independent work on all processors.

use std::ops::Range;

/// Calls `work` for each of `0..count`, split over one thread per processor, and returns the results in
/// order.
///
/// # Panics
/// If `work` panics; the panic is propagated.
pub(crate) fn map<T: Send>(count: usize, work: impl Fn(usize) -> T + Sync) -> Vec<T> {
    std::thread::scope(|scope| {
        let work = &work;
        let threads: Vec<_> =
            ranges(count).map(|range| scope.spawn(move || range.map(work).collect::<Vec<_>>())).collect();
        let results = threads.into_iter().map(|t| t.join().unwrap_or_else(|p| std::panic::resume_unwind(p)));
        results.flatten().collect()
    })
}

/// Splits `0..n` into one range per processor.
fn ranges(n: usize) -> impl Iterator<Item = Range<usize>> {
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let size = n.div_ceil(processors.min(n.max(1))).max(1);
    (0..n).step_by(size).map(move |start| start..(start + size).min(n))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_in_order() {
        for count in [0, 1, 2, 7, 100] {
            assert_eq!(map(count, |n| n * 2), (0..count).map(|n| n * 2).collect::<Vec<_>>());
        }
    }
}
