//! The secrets of one proxy as files that Envoy reads over SDS.
//!
//! A secret that appears or changes does so in its file, as istiod pushes it. A deleted secret is different:
//! SDS cannot take a secret back (Envoy keeps what it has). So its cluster is pointed at a new, empty file
//! and has no secret.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use crate::files;
use crate::map::file_name;
use crate::map::secrets::{SecretContent, SecretFile, response};

/// Every secret of one proxy.
#[derive(Debug, Default)]
pub(crate) struct SecretFiles {
    entries: BTreeMap<String, SecretEntry>,
    written: u64,
}

#[derive(Debug)]
struct SecretEntry {
    content: Option<SecretContent>,
    generation: u64,
    file: SecretFile,
    /// Files that earlier configurations may still use.
    outdated: Vec<PathBuf>,
}

impl SecretFiles {
    /// Writes the secrets whose content is new.
    ///
    /// # Errors
    /// A file cannot be written.
    pub(crate) fn write(
        &mut self,
        folder: &Path,
        used: BTreeMap<String, Option<SecretContent>>,
    ) -> io::Result<()> {
        for (name, content) in used {
            if self.entries.get(&name).is_some_and(|e| e.content == content) {
                continue;
            }
            self.written += 1;
            let version = format!("s{}", self.written);
            let before = self.entries.remove(&name);
            let deleted = content.is_none() && before.as_ref().is_some_and(|e| e.content.is_some());
            let (generation, mut outdated, path) = match before {
                Some(e) if !deleted => (e.generation, e.outdated, e.file.path),
                Some(mut e) => {
                    e.outdated.push(e.file.path);
                    // Never a file that was used before: Envoy would read its old content again.
                    (self.written, e.outdated, path_of(folder, &name, self.written))
                }
                None => (self.written, Vec::new(), path_of(folder, &name, self.written)),
            };
            outdated.retain(|p| *p != path);
            files::replace(&path, &response(&name, &version, content.as_ref()))?;
            let file = SecretFile { path, version };
            self.entries.insert(name, SecretEntry { content, generation, file, outdated });
        }
        Ok(())
    }

    /// How clusters refer to the secrets.
    pub(crate) fn references(&self) -> BTreeMap<String, SecretFile> {
        self.entries.iter().map(|(name, e)| (name.clone(), e.file.clone())).collect()
    }

    /// The version that Envoy must have of each secret that exists.
    pub(crate) fn present(&self) -> BTreeMap<String, String> {
        let present = self.entries.iter().filter(|(_, e)| e.content.is_some());
        present.map(|(name, e)| (name.clone(), e.file.version.clone())).collect()
    }

    /// Whether a secret is in use and does not exist.
    pub(crate) fn is_absent(&self, name: &str) -> bool {
        self.entries.get(name).is_some_and(|e| e.content.is_none())
    }

    /// Removes the files that no configuration uses any more, with their keys. Returns whether there were
    /// any.
    pub(crate) fn remove_unused(&mut self, used: impl Fn(&str) -> bool) -> bool {
        let mut any = false;
        self.entries.retain(|name, entry| {
            for path in entry.outdated.drain(..) {
                any = true;
                remove(&path);
            }
            let keep = used(name);
            if !keep {
                any |= entry.content.is_some();
                remove(&entry.file.path);
            }
            keep
        });
        any
    }
}

fn path_of(folder: &Path, name: &str, generation: u64) -> PathBuf {
    folder.join(file_name("sds", &format!("{name}#{generation}")))
}

fn remove(path: &Path) {
    // At the latest it is removed with the run's folder.
    let _kept = std::fs::remove_file(path);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(text: &str) -> Option<SecretContent> {
        Some(SecretContent::Pair { certificate: text.to_owned(), key: "KEY".to_owned() })
    }

    fn one(content: Option<SecretContent>) -> BTreeMap<String, Option<SecretContent>> {
        BTreeMap::from([("kubernetes://c".to_owned(), content)])
    }

    #[test]
    fn a_rotated_secret_keeps_its_file_and_a_deleted_one_gets_another() {
        let folder = tempfile::tempdir().unwrap();
        let mut files = SecretFiles::default();
        let mut states = Vec::new();
        for content in [None, pair("1"), pair("2"), None, pair("3")] {
            files.write(folder.path(), one(content)).unwrap();
            states.push(files.references()["kubernetes://c"].clone());
        }
        assert_eq!(states[0].path, states[1].path);
        assert_eq!(states[1].path, states[2].path);
        assert_ne!(states[2].path, states[3].path);
        assert_eq!(states[3].path, states[4].path);
        let versions: std::collections::BTreeSet<&String> = states.iter().map(|s| &s.version).collect();
        assert_eq!(versions.len(), 5);
        assert!(std::fs::read_to_string(&states[2].path).unwrap().contains("KEY"));
        assert!(files.remove_unused(|_| true));
        assert!(!states[2].path.exists(), "the key of a deleted secret is still on disk");
        assert!(states[4].path.exists());
    }

    #[test]
    fn an_unused_secret_is_removed_with_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let mut files = SecretFiles::default();
        files.write(folder.path(), one(pair("1"))).unwrap();
        assert!(files.remove_unused(|_| false));
        assert!(files.references().is_empty());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
