//! What a command does when it is told to end.

use tokio::sync::watch;

use crate::exit;
use crate::output::complain;

/// The first signal is told and asks what runs to take itself down; the second ends the process.
pub(crate) async fn watch_signals(interrupt: watch::Sender<Option<String>>, tell: impl FnOnce(&str)) {
    let reason = next_signal().await;
    tell(&reason);
    let _run_is_over = interrupt.send(Some(reason));
    next_signal().await;
    complain("ended without taking everything down; `meshproof cleanup` finds what is left");
    std::process::exit(i32::from(exit::ERROR));
}

/// The next signal that asks for an end, by its name.
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
