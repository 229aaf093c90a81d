//! What a command does when a signal asks it to stop.

use tokio::sync::watch;

use crate::exit;
use crate::output::complain;

/// The first signal calls `report` and asks the run to stop and clean up. The second signal ends the process.
pub(crate) async fn watch_signals(interrupt: watch::Sender<Option<String>>, report: impl FnOnce(&str)) {
    let mut signals = Signals::listen();
    let reason = signals.next().await;
    report(&reason);
    let _run_is_over = interrupt.send(Some(reason));
    signals.next().await;
    complain("ended before everything was cleaned up. `meshproof cleanup` removes what is left");
    std::process::exit(i32::from(exit::ERROR));
}

/// Waits for the next signal that asks the process to stop, and returns its name.
pub(crate) async fn next_signal() -> String {
    Signals::listen().next().await
}

/// The signals that ask the process to stop, from [`Signals::listen`] on. The first process of a container must listen before it says
/// that it is ready: a signal that nothing listens to does not end such a process.
#[cfg(unix)]
pub(crate) struct Signals {
    terminate: Option<tokio::signal::unix::Signal>,
    hangup: Option<tokio::signal::unix::Signal>,
    interrupt: Option<tokio::signal::unix::Signal>,
}

#[cfg(unix)]
impl Signals {
    /// Begins to listen, in a runtime. A signal that cannot be listened to ends the process, as it does by default.
    pub(crate) fn listen() -> Self {
        use tokio::signal::unix::{SignalKind, signal};
        Self {
            terminate: signal(SignalKind::terminate()).ok(),
            hangup: signal(SignalKind::hangup()).ok(),
            interrupt: signal(SignalKind::interrupt()).ok(),
        }
    }

    /// Waits for the next signal, and returns its name.
    pub(crate) async fn next(&mut self) -> String {
        async fn received(signal: &mut Option<tokio::signal::unix::Signal>) {
            match signal {
                Some(signal) => drop(signal.recv().await),
                None => std::future::pending().await,
            }
        }
        let name = tokio::select! {
            () = received(&mut self.interrupt) => "Ctrl-C",
            () = received(&mut self.terminate) => "SIGTERM",
            () = received(&mut self.hangup) => "SIGHUP",
        };
        name.to_owned()
    }
}

/// The signal that asks the process to stop where there is only one.
#[cfg(not(unix))]
pub(crate) struct Signals;

#[cfg(not(unix))]
impl Signals {
    pub(crate) fn listen() -> Self {
        Self
    }

    pub(crate) async fn next(&mut self) -> String {
        let _interrupted = tokio::signal::ctrl_c().await;
        "Ctrl-C".to_owned()
    }
}
