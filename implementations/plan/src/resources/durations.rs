//! Durations, as Go reads them (`time.ParseDuration`), and what istiod asks of them.

use std::time::Duration;

use super::problems::Problems;

/// Reads `1h`, `1m`, `1.5s`, `100ms`, `10us` and their sums, in nanoseconds; `0` needs no unit, and a sign is allowed.
///
/// # Errors
/// Go's words for what is no duration.
pub(crate) fn nanoseconds(text: &str) -> Result<i64, String> {
    let invalid = || format!("time: invalid duration {text:?}");
    let (negative, mut rest) = match text.strip_prefix(['-', '+']) {
        Some(rest) => (text.starts_with('-'), rest),
        None => (false, text),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut total: i128 = 0;
    while !rest.is_empty() {
        let number_ends = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let (whole, after) = rest.split_at(number_ends);
        let (fraction, after) = match after.strip_prefix('.') {
            Some(after) => after.split_at(after.find(|c: char| !c.is_ascii_digit()).unwrap_or(after.len())),
            None => ("", after),
        };
        if whole.is_empty() && fraction.is_empty() {
            return Err(invalid());
        }
        let unit_ends = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, next) = after.split_at(unit_ends);
        let scale: i128 = match unit {
            "" => return Err(format!("time: missing unit in duration {text:?}")),
            "ns" => 1,
            "us" | "\u{b5}s" | "\u{3bc}s" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            unit => return Err(format!("time: unknown unit {unit:?} in duration {text:?}")),
        };
        let whole: i128 = if whole.is_empty() { 0 } else { whole.parse().map_err(|_| invalid())? };
        // More digits than these are less than a nanosecond of an hour.
        let digits = &fraction[..fraction.len().min(18)];
        let part: i128 = if digits.is_empty() { 0 } else { digits.parse().map_err(|_| invalid())? };
        let parts = 10_i128.pow(u32::try_from(digits.len()).unwrap_or(18));
        let value = whole.checked_mul(scale).ok_or_else(invalid)? + part * scale / parts;
        total += value;
        if total > i128::from(i64::MAX) {
            return Err(invalid());
        }
        rest = next;
    }
    let total = i64::try_from(total).map_err(|_| invalid())?;
    Ok(if negative { -total } else { total })
}

/// A duration of the API; one below zero is nothing.
///
/// # Errors
/// Not a duration.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    nanoseconds(text).map(|n| Duration::from_nanos(u64::try_from(n).unwrap_or_default()))
}

/// `agent.ValidateDuration`.
pub(crate) fn check_duration(text: &str, problems: &mut Problems) {
    let Ok(value) = nanoseconds(text) else { return };
    if value < 1_000_000 {
        problems.error("duration must be greater than 1ms");
    } else if value % 1_000_000 != 0 {
        problems.error("only durations to ms precision are supported");
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{duration, nanoseconds};

    #[test]
    fn durations_are_those_of_go() {
        let read = |text: &str| nanoseconds(text).unwrap();
        assert_eq!(
            (read("1h1m1.5s"), read(".5s"), read("1.s")),
            (3_661_500_000_000, 500_000_000, 1_000_000_000)
        );
        assert_eq!((read("0"), read("-1s"), read("+5ms")), (0, -1_000_000_000, 5_000_000));
        assert_eq!((read("10us"), read("10\u{b5}s"), read("3ns")), (10_000, 10_000, 3));
        assert_eq!(duration("-1s"), Ok(Duration::ZERO));
    }

    #[test]
    fn what_is_no_duration_is_refused_in_the_words_of_go() {
        let refused = |text: &str| nanoseconds(text).unwrap_err();
        assert_eq!(refused("5"), "time: missing unit in duration \"5\"");
        assert_eq!(refused("1d"), "time: unknown unit \"d\" in duration \"1d\"");
        assert_eq!(refused("1e3s"), "time: unknown unit \"e\" in duration \"1e3s\"");
        for text in ["", "soon", ".s", " 5s", "9999999999h", "--1s"] {
            assert_eq!(refused(text), format!("time: invalid duration {text:?}"));
        }
    }
}
