//! What a command does when a signal asks it to stop.

use tokio::sync::watch;

use crate::exit;
use crate::output::complain;

/// The first signal calls `report` and asks the run to stop and clean up. The second signal ends the process.
pub(crate) async fn watch_signals(interrupt: watch::Sender<Option<String>>, report: impl FnOnce(&str)) {
    let reason = next_signal().await;
    report(&reason);
    let _run_is_over = interrupt.send(Some(reason));
    next_signal().await;
    complain("ended before everything was cleaned up. `meshproof cleanup` removes what is left");
    std::process::exit(i32::from(exit::ERROR));
}

/// Waits for the next signal that asks the process to stop, and returns its name.
#[cfg(unix)]
pub(crate) async fn next_signal() -> String {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut terminate), Ok(mut hangup)) = (signal(SignalKind::terminate()), signal(SignalKind::hangup()))
    else {
        let _interrupted = tokio::signal::ctrl_c().await;
        return "Ctrl-C".to_owned();
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => "Ctrl-C".to_owned(),
        _ = terminate.recv() => "SIGTERM".to_owned(),
        _ = hangup.recv() => "SIGHUP".to_owned(),
    }
}

#[cfg(not(unix))]
pub(crate) async fn next_signal() -> String {
    let _interrupted = tokio::signal::ctrl_c().await;
    "Ctrl-C".to_owned()
}
