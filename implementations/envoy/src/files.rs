//! The files that Envoy watches: replaced as a whole, readable by their owner only.

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::path::Path;

use serde::Serialize;

/// Replaces a file by renaming another one to it, which is the event that Envoy's file subscriptions watch
/// for (`FilesystemSubscriptionImpl`, `Watcher::Events::MovedTo`).
///
/// # Errors
/// The file cannot be written.
pub(crate) fn replace(path: &Path, value: &impl Serialize) -> io::Result<()> {
    let text = serde_json::to_vec(value)?;
    let beside = path.with_extension("partial");
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(&beside)?;
    file.write_all(&text)?;
    drop(file);
    std::fs::rename(&beside, path)
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn only_the_owner_can_read_a_file_also_after_it_was_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret.json");
        for n in 0..2 {
            replace(&path, &serde_json::json!({"n": n})).unwrap();
            assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        }
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "{\"n\":1}");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
