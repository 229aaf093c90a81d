//! Values of options.

use std::time::Duration;

use meshproof_harness::timeouts::{Timeout, UnknownTimeout};

pub(super) fn timeout(text: &str) -> Result<(Timeout, Duration), String> {
    let (name, duration) = text.split_once('=').ok_or("expected NAME=DURATION, for example request=2s")?;
    let timeout = name.parse().map_err(|e: UnknownTimeout| e.to_string())?;
    let duration = humantime::parse_duration(duration)
        .map_err(|e| format!("{duration:?} is not a duration ({e}). Examples: 500ms, 2s, 1m"))?;
    if duration.is_zero() {
        return Err("a timeout must be longer than zero".to_owned());
    }
    Ok((timeout, duration))
}
