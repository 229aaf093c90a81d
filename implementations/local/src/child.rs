//! Programs that local targets start: how they are found, and how they are kept away from the terminal.

use std::ffi::OsStr;
use std::path::PathBuf;

pub use process_wrap::tokio::{ChildWrapper, CommandWrap};
use tokio::process::Command;

/// The first executable file of this name in the folders of PATH.
#[must_use]
pub fn on_path(name: &str) -> Option<PathBuf> {
    in_folders(name, &std::env::var_os("PATH")?)
}

/// The first executable file of this name in these folders, written as in PATH.
#[must_use]
pub fn in_folders(name: &str, folders: &OsStr) -> Option<PathBuf> {
    let folder = std::env::current_dir().unwrap_or_default();
    which::which_in(name, Some(folders), folder).ok()
}

/// The command in a session of its own. So it has no terminal: it can neither write to it nor receive its Ctrl-C, which the suite
/// handles by stopping what it started. Elsewhere than on Unix the command is not changed.
#[must_use]
pub fn in_own_session(command: Command) -> CommandWrap {
    #[cfg_attr(not(unix), allow(unused_mut, reason = "only Unix has sessions"))]
    let mut command = CommandWrap::from(command);
    #[cfg(unix)]
    command.wrap(process_wrap::tokio::ProcessSession);
    command
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_first_executable_file_is_found() {
        let folders = [(); 3].map(|()| tempfile::tempdir().unwrap());
        for (folder, mode) in folders.iter().zip([0o644, 0o755, 0o755]) {
            let file = folder.path().join("nginx");
            std::fs::write(&file, "").unwrap();
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
        }
        let path = std::env::join_paths(folders.iter().map(tempfile::TempDir::path)).unwrap();
        assert_eq!(in_folders("nginx", &path), Some(folders[1].path().join("nginx")));
        assert_eq!(in_folders("haproxy", &path), None);
    }
}
