//! One adapter process with all that it starts: begun in a process group of its own, and ended as a whole.

use std::io;
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::process::{Child, Command};
use tokio::time::Instant;

/// Set in the environment of an adapter and inherited by all that it starts: a daemon that leaves the process group is
/// found by it.
const TAG: &str = "MESHPROOF_ADAPTER";

/// How often the end of a process that is not our child is looked for; there is nothing to be woken by.
const POLL: Duration = Duration::from_millis(10);

/// What names an adapter's processes.
#[derive(Clone, Debug)]
pub(crate) struct Family {
    leader: u32,
    tag: String,
}

static STARTED: AtomicU64 = AtomicU64::new(0);

/// Starts the adapter.
///
/// # Errors
/// The program does not exist or cannot be executed.
pub(crate) fn start(words: &[String]) -> io::Result<(Child, Family)> {
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
    // A Ctrl-C at the terminal goes to the suite alone, which then tells the adapter to stop.
    #[cfg(unix)]
    command.process_group(0);
    let child = command.spawn()?;
    let leader = child.id().unwrap_or_default();
    Ok((child, Family { leader, tag }))
}

impl Family {
    /// Kills every process of it that is found now.
    pub(crate) fn kill(&self) {
        #[cfg(unix)]
        {
            use rustix::process::{Pid, Signal, kill_process, kill_process_group};
            let pid = |number: u32| i32::try_from(number).ok().and_then(Pid::from_raw);
            if let Some(group) = pid(self.leader) {
                let _nobody_is_left = kill_process_group(group, Signal::KILL);
            }
            for stray in self.alive().into_iter().filter_map(|p| pid(p.number)) {
                let _gone_meanwhile = kill_process(stray, Signal::KILL);
            }
        }
    }

    /// Kills until nothing is left, for at most `limit`.
    pub(crate) async fn end(&self, limit: Duration) {
        let deadline = Instant::now() + limit;
        self.kill();
        // Whoever was being forked while the others were killed is found in the next round.
        while !self.alive().is_empty() && Instant::now() < deadline {
            tokio::time::sleep(POLL).await;
            self.kill();
        }
    }

    /// Waits until nothing of it runs and returns what still does after `limit`.
    pub(crate) async fn gone(&self, limit: Duration) -> Vec<Process> {
        let deadline = Instant::now() + limit;
        loop {
            let alive = self.alive();
            if alive.is_empty() || Instant::now() >= deadline {
                return alive;
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// The processes that carry the tag. Where there is no /proc: the leader's number for its group, if anybody is in
    /// it.
    pub(crate) fn alive(&self) -> Vec<Process> {
        let Ok(entries) = std::fs::read_dir("/proc") else { return self.group_alive() };
        let wanted = format!("{TAG}={}", self.tag).into_bytes();
        let mut found = Vec::new();
        for entry in entries.flatten() {
            let Some(number) = entry.file_name().to_str().and_then(|n| n.parse::<u32>().ok()) else {
                continue;
            };
            // Other users' processes cannot be read, and a zombie's environment is empty.
            let environment = std::fs::read(entry.path().join("environ")).unwrap_or_default();
            if environment.split(|b| *b == 0).any(|variable| variable == wanted) {
                let name = std::fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
                found.push(Process { number, name: name.trim().to_owned() });
            }
        }
        found
    }

    #[cfg(unix)]
    fn group_alive(&self) -> Vec<Process> {
        let group = i32::try_from(self.leader).ok().and_then(rustix::process::Pid::from_raw);
        let alive = group.is_some_and(|g| rustix::process::test_kill_process_group(g).is_ok());
        let process = Process { number: self.leader, name: "process group".to_owned() };
        if alive { vec![process] } else { Vec::new() }
    }

    #[cfg(not(unix))]
    fn group_alive(&self) -> Vec<Process> {
        let _no_groups_here = self.leader;
        Vec::new()
    }
}

/// A process of an adapter.
#[derive(Clone, Debug)]
pub(crate) struct Process {
    number: u32,
    name: String,
}

impl std::fmt::Display for Process {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} (process {})", self.name, self.number)
    }
}
