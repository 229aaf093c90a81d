//! A scenario's fixture folder: the catalogue and the manifests. Built into a program, or read from a folder.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io;
use std::path::Path;

/// The ending of a manifest's name.
const MANIFEST: &str = ".yaml";

/// The files of a scenario's fixture folder, as text.
#[derive(Clone, Debug, Default)]
pub struct Fixtures {
    place: String,
    files: BTreeMap<String, Cow<'static, str>>,
}

impl Fixtures {
    /// The files of a folder that are built into the program. `place` is what messages call the folder.
    pub fn embedded<N: Into<String>, T: Into<Cow<'static, str>>>(
        place: impl Into<String>,
        files: impl IntoIterator<Item = (N, T)>,
    ) -> Self {
        let files = files.into_iter().map(|(name, text)| (name.into(), text.into())).collect();
        Self { place: place.into(), files }
    }

    /// Reads the manifests (`*.yaml`) and `*.toml` files of a folder.
    ///
    /// # Errors
    /// The folder or one of these files cannot be read, or a file is not UTF-8. The message names it.
    pub fn folder(path: impl AsRef<Path>) -> io::Result<Self> {
        let folder = path.as_ref();
        let named = |path: &Path, e: io::Error| io::Error::new(e.kind(), format!("{}: {e}", path.display()));
        let mut files = BTreeMap::new();
        for entry in std::fs::read_dir(folder).map_err(|e| named(folder, e))? {
            let path = entry.map_err(|e| named(folder, e))?.path();
            let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
            if name.ends_with(MANIFEST) || name.ends_with(".toml") {
                let text = std::fs::read_to_string(&path).map_err(|e| named(&path, e))?;
                files.insert(name.to_owned(), Cow::Owned(text));
            }
        }
        Ok(Self { place: folder.display().to_string(), files })
    }

    /// What messages call the folder.
    #[must_use]
    pub fn place(&self) -> &str {
        &self.place
    }

    /// The text of a file.
    #[must_use]
    pub fn file(&self, name: &str) -> Option<&str> {
        self.files.get(name).map(AsRef::as_ref)
    }

    /// The manifest with this stem.
    #[must_use]
    pub fn manifest(&self, stem: &str) -> Option<&str> {
        self.file(&format!("{stem}{MANIFEST}"))
    }

    /// Every manifest: stem and text, in the order of their names.
    pub fn manifests(&self) -> impl Iterator<Item = (&str, &str)> {
        self.files.iter().filter_map(|(name, text)| Some((name.strip_suffix(MANIFEST)?, text.as_ref())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_gives_what_the_same_files_give_when_they_are_built_in() {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in [("a.yaml", "A"), ("catalogue.toml", "C"), ("notes.md", "N")] {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        let read = Fixtures::folder(folder.path()).unwrap();
        let built_in = Fixtures::embedded("fixtures/s", [("a.yaml", "A"), ("catalogue.toml", "C")]);
        for fixtures in [&read, &built_in] {
            assert_eq!(fixtures.manifests().collect::<Vec<_>>(), [("a", "A")]);
            assert_eq!(fixtures.manifest("a"), Some("A"));
            assert_eq!(fixtures.manifest("b"), None);
            assert_eq!(fixtures.file("catalogue.toml"), Some("C"));
        }
        assert_eq!(read.file("notes.md"), None);
        assert_eq!(built_in.place(), "fixtures/s");
    }

    #[test]
    fn a_folder_that_is_not_there_is_named() {
        let error = Fixtures::folder("/nowhere/at/all").unwrap_err();
        assert!(error.to_string().starts_with("/nowhere/at/all: "), "{error}");
    }
}
