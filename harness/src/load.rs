//! How busy this machine is.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long a reading counts; Linux renews its average every five seconds.
const FRESH: Duration = Duration::from_secs(1);
/// No machine is taken to be slower than this many times.
const MAX_FACTOR: u32 = 6;

/// How many times longer work takes now than on an idle machine: the processes that wanted to run during the last minute,
/// per processor (proc(5), `/proc/loadavg`), between 1 and 6. 1 where the system does not say.
#[must_use]
pub fn slowdown() -> u32 {
    static LAST: Mutex<Option<(Instant, u32)>> = Mutex::new(None);
    let mut last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((read, factor)) = *last
        && read.elapsed() < FRESH
    {
        return factor;
    }
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let factor = factor(&text, processors);
    *last = Some((Instant::now(), factor));
    factor
}

fn factor(loadavg: &str, processors: usize) -> u32 {
    let load: f64 = loadavg.split(' ').next().and_then(|first| first.parse().ok()).unwrap_or(0.0);
    let processors = u32::try_from(processors).unwrap_or(u32::MAX);
    (1..=MAX_FACTOR).rev().find(|n| load >= f64::from(*n) * f64::from(processors)).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_factor_is_the_load_per_processor_within_bounds() {
        for (loadavg, processors, expected) in [
            ("0.00 0.00 0.00 1/100 7", 2, 1),
            ("3.99 9.00 9.00 1/100 7", 2, 1),
            ("4.00 0.00 0.00 1/100 7", 2, 2),
            ("9.28 8.86 8.71 9/139 20305", 2, 4),
            ("500.00 0.00 0.00 1/100 7", 2, 6),
            ("9.28 8.86 8.71 9/139 20305", 16, 1),
            ("", 2, 1),
            ("a lot", 2, 1),
        ] {
            assert_eq!(factor(loadavg, processors), expected, "{loadavg:?} on {processors}");
        }
    }
}
