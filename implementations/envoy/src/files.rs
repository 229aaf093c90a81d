//! Files that Envoy watches: replaced as a whole, for their owner's eyes alone.

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::path::Path;

use serde::Serialize;

/// Replaces a file by a rename, which is what Envoy's file subscriptions notice
/// (`FilesystemSubscriptionImpl`, `Watcher::Events::MovedTo`).
///
/// # Errors
/// It cannot be written.
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

/// Makes a folder for its owner's eyes alone.
///
/// # Errors
/// It cannot be made.
pub(crate) fn folder(path: &Path) -> io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.recursive(true).create(path)
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_file_is_for_its_owners_eyes_alone_also_after_it_was_replaced() {
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
