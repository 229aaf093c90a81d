//! The secrets of one proxy as files that Envoy reads over SDS.
//!
//! A secret that appears or changes does so in its file, as istiod pushes it. One that is deleted is another matter: over SDS
//! nothing can be taken back (Envoy keeps what it has), so the cluster is pointed at a new, empty file, and has no secret.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use crate::files;
use crate::map::file_name;
use crate::map::secrets::{Content, Held, response};

#[derive(Debug, Default)]
pub(crate) struct Vault {
    entries: BTreeMap<String, Entry>,
    written: u64,
}

#[derive(Debug)]
struct Entry {
    content: Option<Content>,
    generation: u64,
    held: Held,
    /// Files that earlier configurations may still use.
    outdated: Vec<PathBuf>,
}

impl Vault {
    /// Writes what is new of these secrets.
    ///
    /// # Errors
    /// A file cannot be written.
    pub(crate) fn fill(&mut self, folder: &Path, used: BTreeMap<String, Option<Content>>) -> io::Result<()> {
        for (name, content) in used {
            if self.entries.get(&name).is_some_and(|e| e.content == content) {
                continue;
            }
            self.written += 1;
            let version = format!("s{}", self.written);
            let before = self.entries.remove(&name);
            let taken_back = content.is_none() && before.as_ref().is_some_and(|e| e.content.is_some());
            let (generation, mut outdated, path) = match before {
                Some(e) if !taken_back => (e.generation, e.outdated, e.held.path),
                Some(mut e) => {
                    e.outdated.push(e.held.path);
                    // Never a file that was used before: its content would come back.
                    (self.written, e.outdated, file(folder, &name, self.written))
                }
                None => (self.written, Vec::new(), file(folder, &name, self.written)),
            };
            outdated.retain(|p| *p != path);
            files::replace(&path, &response(&name, &version, content.as_ref()))?;
            self.entries.insert(name, Entry { content, generation, held: Held { path, version }, outdated });
        }
        Ok(())
    }

    /// How clusters refer to them.
    pub(crate) fn held(&self) -> BTreeMap<String, Held> {
        self.entries.iter().map(|(name, e)| (name.clone(), e.held.clone())).collect()
    }

    /// The version that Envoy must have of each secret that there is.
    pub(crate) fn present(&self) -> BTreeMap<String, String> {
        let there = self.entries.iter().filter(|(_, e)| e.content.is_some());
        there.map(|(name, e)| (name.clone(), e.held.version.clone())).collect()
    }

    /// Whether a secret that is in use has nothing in it.
    pub(crate) fn is_absent(&self, name: &str) -> bool {
        self.entries.get(name).is_some_and(|e| e.content.is_none())
    }

    /// Removes what no configuration uses any more, with its keys. Returns whether there was any.
    pub(crate) fn forget(&mut self, used: impl Fn(&str) -> bool) -> bool {
        let mut any = false;
        self.entries.retain(|name, entry| {
            for path in entry.outdated.drain(..) {
                any = true;
                remove(&path);
            }
            let keep = used(name);
            if !keep {
                any |= entry.content.is_some();
                remove(&entry.held.path);
            }
            keep
        });
        any
    }
}

fn file(folder: &Path, name: &str, generation: u64) -> PathBuf {
    folder.join(file_name("sds", &format!("{name}#{generation}")))
}

fn remove(path: &Path) {
    // It goes with the run's folder at the latest.
    let _left = std::fs::remove_file(path);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(text: &str) -> Option<Content> {
        Some(Content::Pair { certificate: text.to_owned(), key: "KEY".to_owned() })
    }

    fn one(content: Option<Content>) -> BTreeMap<String, Option<Content>> {
        BTreeMap::from([("kubernetes://c".to_owned(), content)])
    }

    #[test]
    fn a_rotated_secret_keeps_its_file_and_a_deleted_one_gets_another() {
        let folder = tempfile::tempdir().unwrap();
        let mut vault = Vault::default();
        let mut states = Vec::new();
        for content in [None, pair("1"), pair("2"), None, pair("3")] {
            vault.fill(folder.path(), one(content)).unwrap();
            states.push(vault.held()["kubernetes://c"].clone());
        }
        assert_eq!(states[0].path, states[1].path);
        assert_eq!(states[1].path, states[2].path);
        assert_ne!(states[2].path, states[3].path);
        assert_eq!(states[3].path, states[4].path);
        let versions: std::collections::BTreeSet<&String> = states.iter().map(|s| &s.version).collect();
        assert_eq!(versions.len(), 5);
        assert!(std::fs::read_to_string(&states[2].path).unwrap().contains("KEY"));
        assert!(vault.forget(|_| true));
        assert!(!states[2].path.exists(), "the key of a deleted secret is still on disk");
        assert!(states[4].path.exists());
    }

    #[test]
    fn what_is_used_no_more_is_forgotten_with_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let mut vault = Vault::default();
        vault.fill(folder.path(), one(pair("1"))).unwrap();
        assert!(vault.forget(|_| false));
        assert!(vault.held().is_empty());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
