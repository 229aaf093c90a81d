//! One adapter process with everything that it starts: started in a session of its own, and ended as a whole.

use std::io;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use meshproof_harness::backoff::Backoff;
use meshproof_local::child::{ChildWrapper, in_own_session};
use tokio::process::Command;
use tokio::time::Instant;

/// Set in the environment of an adapter and inherited by everything that it starts. It identifies a daemon
/// that has left the session.
const TAG: &str = "MESHPROOF_ADAPTER";

/// The first and the longest delay between two looks at processes that are not our children: nothing
/// announces their exit.
const POLL: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(160));

/// What identifies an adapter's processes.
#[derive(Clone, Debug)]
pub(crate) struct ProcessTree {
    leader: u32,
    tag: String,
    /// From then on the leader's number may belong to another process.
    leader_reaped: Arc<AtomicBool>,
}

static STARTED: AtomicU64 = AtomicU64::new(0);

/// Starts the adapter.
///
/// # Errors
/// The program does not exist or cannot be executed.
pub(crate) fn start(words: &[String]) -> io::Result<(Box<dyn ChildWrapper>, ProcessTree)> {
    let Some((program, arguments)) = words.split_first() else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "no command"));
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    let number = STARTED.fetch_add(1, Ordering::Relaxed);
    let tag = format!("{}-{number}-{now}", std::process::id());
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env(TAG, &tag)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let child = in_own_session(command).spawn()?;
    let leader = child.id().unwrap_or_default();
    Ok((child, ProcessTree { leader, tag, leader_reaped: Arc::default() }))
}

impl ProcessTree {
    /// Notes that the leader has exited and its status was read.
    pub(crate) fn leader_was_reaped(&self) {
        self.leader_reaped.store(true, Ordering::Relaxed);
    }

    /// Kills every process that is found now. Reads all of /proc: blocking.
    pub(crate) fn kill(&self) {
        #[cfg(unix)]
        {
            use rustix::process::{Pid, Signal, kill_process, kill_process_group};
            let pid = |number: u32| i32::try_from(number).ok().and_then(Pid::from_raw);
            if let Some(group) = pid(self.leader)
                && !self.leader_reaped.load(Ordering::Relaxed)
            {
                let _already_empty = kill_process_group(group, Signal::KILL);
            }
            for process in self.alive().into_iter().filter_map(|p| pid(p.number)) {
                let _already_gone = kill_process(process, Signal::KILL);
            }
        }
    }

    /// Kills until nothing is left or the deadline has passed.
    pub(crate) async fn end(&self, deadline: Instant) {
        // A process that is forked while the others are killed is found in the next round.
        self.poll(deadline, |tree| {
            tree.kill();
            tree.alive()
        })
        .await;
    }

    /// Waits until nothing runs. Returns what still runs at the deadline.
    pub(crate) async fn wait_until_gone(&self, deadline: Instant) -> Vec<AdapterProcess> {
        self.poll(deadline, Self::alive).await
    }

    /// Repeats `look` on a thread for blocking work until it finds nothing or the deadline has passed.
    async fn poll(&self, deadline: Instant, look: fn(&Self) -> Vec<AdapterProcess>) -> Vec<AdapterProcess> {
        let mut backoff = Backoff::new(POLL.0, POLL.1);
        loop {
            let tree = self.clone();
            let found = tokio::task::spawn_blocking(move || look(&tree)).await.unwrap_or_default();
            if found.is_empty() || Instant::now() >= deadline {
                return found;
            }
            backoff.wait().await;
        }
    }

    /// The processes of the session and those that carry the tag. Where there is no /proc: the process group,
    /// as one.
    fn alive(&self) -> Vec<AdapterProcess> {
        let Ok(entries) = std::fs::read_dir("/proc") else { return self.group_alive() };
        let wanted = format!("{TAG}={}", self.tag).into_bytes();
        let mut found = Vec::new();
        for entry in entries.flatten() {
            let Some(number) = entry.file_name().to_str().and_then(|n| n.parse::<u32>().ok()) else {
                continue;
            };
            let stat = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
            let Some(stat) = Stat::parse(&stat) else { continue };
            // A zombie runs no more; it waits for its parent to read its status.
            if stat.state == "Z" {
                continue;
            }
            let tagged = || {
                // The environment of another user's process cannot be read.
                let environment = std::fs::read(entry.path().join("environ")).unwrap_or_default();
                environment.split(|b| *b == 0).any(|variable| variable == wanted)
            };
            if stat.session == self.leader || tagged() {
                found.push(AdapterProcess { number, name: stat.name.to_owned() });
            }
        }
        found
    }

    #[cfg(unix)]
    fn group_alive(&self) -> Vec<AdapterProcess> {
        let group = i32::try_from(self.leader).ok().and_then(rustix::process::Pid::from_raw);
        let alive = group.is_some_and(|g| rustix::process::test_kill_process_group(g).is_ok());
        let process = AdapterProcess { number: self.leader, name: "process group".to_owned() };
        if alive { vec![process] } else { Vec::new() }
    }

    #[cfg(not(unix))]
    fn group_alive(&self) -> Vec<AdapterProcess> {
        let _no_groups_here = self.leader;
        Vec::new()
    }
}

/// The fields of `/proc/PID/stat` that matter here (proc(5)).
struct Stat<'a> {
    name: &'a str,
    state: &'a str,
    session: u32,
}

impl<'a> Stat<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        // The name is in parentheses and may itself contain spaces and parentheses.
        let (before, after) = text.rsplit_once(") ")?;
        let (_, name) = before.split_once('(')?;
        let mut fields = after.split(' ');
        let state = fields.next()?;
        let session = fields.nth(2)?.parse().ok()?;
        Some(Self { name, state, session })
    }
}

/// A process of an adapter.
#[derive(Clone, Debug)]
pub(crate) struct AdapterProcess {
    number: u32,
    name: String,
}

impl std::fmt::Display for AdapterProcess {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} (process {})", self.name, self.number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_session_is_read_behind_a_name_with_spaces_and_parentheses() {
        let stat = Stat::parse("42 (a ) b) S 1 40 7 0 -1 4194304").unwrap();
        assert_eq!((stat.name, stat.state, stat.session), ("a ) b", "S", 7));
        assert!(Stat::parse("").is_none());
    }
}
