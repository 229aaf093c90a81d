//! The folder in which a run keeps its files, and the search for what a killed run left.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// Every run's folder begins with this.
pub const PREFIX: &str = "meshproof-";
/// The number of random characters at the end of its name.
const RANDOM: usize = 16;
/// The file in it that holds its process's number.
const OWNER: &str = "owner.pid";

/// The millisecond of this process's latest run id.
static LATEST: AtomicU64 = AtomicU64::new(0);

/// A new run id: short, lower case, ordered by time, and unique, even for runs that begin at the same time in one
/// process.
#[must_use]
pub fn new_run_id() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let now = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
    let later = |latest: u64| now.max(latest + 1);
    let latest = LATEST.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |latest| Some(later(latest)));
    let milliseconds = later(latest.unwrap_or_else(|latest| latest));
    // The process's id beside it: two runs started at once on one machine differ in that.
    let mut value = u128::from(std::process::id() % 46_656) + u128::from(milliseconds) * 46_656;
    let mut digits = Vec::new();
    while value > 0 {
        let digit = u8::try_from(value % 36).unwrap_or_default();
        digits.push(char::from(if digit < 10 { b'0' + digit } else { b'a' + digit - 10 }));
        value /= 36;
    }
    digits.iter().rev().collect()
}

/// Makes the run's folder, which only this user can enter, and notes which process it belongs to. Its name cannot be
/// guessed: in a folder that other users can write to, as the system's folder for temporary files, one of them could otherwise
/// have made it first, and would be given the run's keys.
///
/// # Errors
/// It cannot be made or written to.
pub fn create(work: &Path, run: &str) -> io::Result<PathBuf> {
    let mut builder = tempfile::Builder::new();
    let prefix = format!("{PREFIX}{run}-");
    builder.prefix(&prefix).rand_bytes(RANDOM);
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700));
    let folder = builder.tempdir_in(work)?;
    note_owner(folder.path())?;
    // From here on the run removes it, or leaves it with `--keep`.
    Ok(folder.keep())
}

/// Makes a folder, and the folders above it that are missing. Only this user can enter them. A folder that exists is not changed.
///
/// # Errors
/// It cannot be made.
pub fn create_private(path: &Path) -> io::Result<()> {
    private_folder_builder().recursive(true).create(path)
}

/// Makes a folder that only this user can enter.
///
/// # Errors
/// It cannot be made, or something of this name exists.
pub fn create_new_private(path: &Path) -> io::Result<()> {
    private_folder_builder().create(path)
}

/// Writes a file that only this user can read. An existing one is replaced as a whole.
///
/// # Errors
/// It cannot be written.
pub fn write_private(path: &Path, text: &str) -> io::Result<()> {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let fresh = path.with_extension("new");
    options.open(&fresh)?.write_all(text.as_bytes())?;
    std::fs::rename(fresh, path)
}

fn private_folder_builder() -> std::fs::DirBuilder {
    #[cfg_attr(not(unix), allow(unused_mut, reason = "only Unix has modes"))]
    let mut builder = std::fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder
}

/// Records that a folder belongs to this process. `meshproof cleanup` uses the record to find what a killed process left.
///
/// # Errors
/// It cannot be written to.
pub fn note_owner(folder: &Path) -> io::Result<()> {
    std::fs::write(folder.join(OWNER), std::process::id().to_string())
}

/// Removes the run's folder. What cannot be removed is left for `meshproof cleanup` to find.
pub fn remove(folder: &Path) {
    let _left_for_cleanup = std::fs::remove_dir_all(folder);
}

/// Whether this folder is, or is in, that of a run whose process is still there.
#[must_use]
pub fn is_in_use(folder: &Path) -> bool {
    folder.ancestors().find_map(|f| read_pid(&f.join(OWNER))).is_some_and(is_running)
}

/// What a run left whose process is gone.
#[derive(Debug)]
pub struct Leftover {
    folder: PathBuf,
    processes: Vec<u32>,
}

/// The folders of runs whose process no longer exists.
///
/// # Errors
/// `work` cannot be read.
pub fn leftovers(work: &Path) -> io::Result<Vec<Leftover>> {
    let mut left = Vec::new();
    for entry in std::fs::read_dir(work)? {
        let Ok(entry) = entry else { continue };
        let folder = entry.path();
        let ours = entry.file_name().to_string_lossy().starts_with(PREFIX);
        // Another user's folder proves nothing about a run of this one, whatever files are in it.
        let Some(owner) = (ours && is_own(&entry)).then(|| read_pid(&folder.join(OWNER))).flatten() else {
            continue;
        };
        if !is_running(owner) {
            let processes = pid_files(&folder, 3).into_iter().filter(|pid| works_in(*pid, &folder)).collect();
            left.push(Leftover { folder, processes });
        }
    }
    left.sort_by(|a, b| a.folder.cmp(&b.folder));
    Ok(left)
}

impl Leftover {
    /// For people: the folder, and the processes that still run in it.
    #[must_use]
    pub fn describe(&self) -> String {
        match self.processes.as_slice() {
            [] => self.folder.display().to_string(),
            pids => {
                let pids: Vec<String> = pids.iter().map(u32::to_string).collect();
                format!("{} and process {} in it", self.folder.display(), pids.join(", "))
            }
        }
    }

    /// Stops the processes and removes the folder.
    ///
    /// # Errors
    /// The folder cannot be removed, or a process cannot be ended.
    pub fn remove(&self) -> io::Result<()> {
        for pid in &self.processes {
            // Checked again, because the number may belong to another process by now.
            if works_in(*pid, &self.folder) {
                let status = std::process::Command::new("kill").arg(pid.to_string()).status()?;
                if !status.success() {
                    return Err(io::Error::other(format!("process {pid} could not be stopped")));
                }
            }
        }
        std::fs::remove_dir_all(&self.folder)
    }
}

/// Whether the folder belongs to the user that this process runs as.
#[cfg(unix)]
fn is_own(entry: &std::fs::DirEntry) -> bool {
    use std::os::unix::fs::MetadataExt;
    // Of a link its own owner counts, and it is no folder.
    entry.metadata().is_ok_and(|facts| facts.is_dir() && facts.uid() == rustix::process::geteuid().as_raw())
}

#[cfg(not(unix))]
fn is_own(entry: &std::fs::DirEntry) -> bool {
    entry.file_type().is_ok_and(|kind| kind.is_dir())
}

fn read_pid(path: &Path) -> Option<u32> {
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}

fn is_running(pid: u32) -> bool {
    // Without /proc, `kill -0` shows whether the process exists.
    if Path::new("/proc/self").exists() {
        return Path::new(&format!("/proc/{pid}")).exists();
    }
    let asked = std::process::Command::new("kill").args(["-0", &pid.to_string()]).output();
    asked.is_ok_and(|o| o.status.success())
}

/// The numbers in the files `*.pid` of a folder and its sub-folders.
fn pid_files(folder: &Path, depth: usize) -> Vec<u32> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let is_folder = entry.file_type().is_ok_and(|t| t.is_dir());
        if is_folder && depth > 0 {
            found.extend(pid_files(&path, depth - 1));
        } else if path.extension().is_some_and(|e| e == "pid") && !path.ends_with(OWNER) {
            found.extend(read_pid(&path));
        }
    }
    found
}

/// Whether the command line of the process names the folder: then the run started it.
fn works_in(pid: u32, folder: &Path) -> bool {
    let folder = folder.display().to_string();
    let asked = std::process::Command::new("ps").args(["-o", "args=", "-p", &pid.to_string()]).output();
    std::fs::read(format!("/proc/{pid}/cmdline"))
        .or_else(|_| asked.map(|o| o.stdout))
        .is_ok_and(|line| String::from_utf8_lossy(&line).contains(&folder))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_name_of_a_runs_folder_cannot_be_guessed_and_a_folder_that_is_there_is_not_used() {
        let work = tempfile::tempdir().unwrap();
        let guessed = work.path().join(format!("{PREFIX}r1"));
        std::fs::create_dir(&guessed).unwrap();
        let folders = [(); 2].map(|()| create(work.path(), "r1").unwrap());
        assert_ne!(folders[0], folders[1]);
        assert!(!folders.contains(&guessed));
        assert_eq!(std::fs::read_dir(&guessed).unwrap().count(), 0);
    }

    #[cfg(unix)]
    #[test]
    fn a_runs_folder_is_closed_to_other_users() {
        use std::os::unix::fs::PermissionsExt;
        let work = tempfile::tempdir().unwrap();
        let folder = create(work.path(), "r1").unwrap();
        assert_eq!(std::fs::metadata(folder).unwrap().permissions().mode() & 0o777, 0o700);
    }

    #[test]
    fn the_folder_of_a_killed_run_is_found() {
        let work = tempfile::tempdir().unwrap();
        let folder = create(work.path(), "r1").unwrap();
        assert!(leftovers(work.path()).unwrap().is_empty(), "its process still runs");
        let mut ended = std::process::Command::new("true").spawn().unwrap();
        ended.wait().unwrap();
        std::fs::write(folder.join(OWNER), ended.id().to_string()).unwrap();
        let [left] = leftovers(work.path()).unwrap().try_into().unwrap();
        left.remove().unwrap();
        assert!(!folder.exists());
    }

    #[test]
    fn runs_that_begin_at_the_same_time_in_one_process_have_different_ids() {
        let ids = std::thread::scope(|scope| {
            let many = || (0..200).map(|_| new_run_id()).collect::<Vec<_>>();
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(many)).collect();
            threads.into_iter().flat_map(|t| t.join().unwrap()).collect::<BTreeSet<_>>()
        });
        assert_eq!(ids.len(), 800);
    }
}
