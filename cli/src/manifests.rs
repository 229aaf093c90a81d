//! Files of manifests that a command line names, for every command that reads them.

use std::collections::BTreeSet;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use meshproof_verify::{InputError, Source};

use crate::exit::Refusal;

/// How many files are read at most.
const MAX_FILES: usize = 20_000;

/// What files of manifests are called.
const EXTENSIONS: [&str; 3] = ["yaml", "yml", "json"];

/// Every file that is named or found, in order. `-` is standard input; a folder is read with all folders in it.
///
/// # Errors
/// A file cannot be read, is too large or is not text, or a folder holds no manifest.
pub fn sources(paths: &[PathBuf]) -> Result<Vec<Source>, Refusal> {
    let mut all = Vec::new();
    for path in paths {
        let name = path.display().to_string();
        if path == Path::new("-") {
            let mut bytes = Vec::new();
            std::io::stdin().read_to_end(&mut bytes).map_err(|e| unreadable("standard input", &e))?;
            all.push(source("standard input", bytes, false)?);
        } else if path.is_dir() {
            let mut found = BTreeSet::new();
            collect(path, 0, &mut found)?;
            if found.is_empty() {
                return Err(Refusal::Usage(format!(
                    "{name} holds no *.yaml, *.yml or *.json file. Name the folder of the manifests, or the files"
                )));
            }
            for file in found {
                let name = file.display().to_string();
                let bytes = std::fs::read(&file).map_err(|e| unreadable(&name, &e))?;
                all.push(source(&name, bytes, true)?);
            }
        } else {
            let bytes = std::fs::read(path).map_err(|e| unreadable(&name, &e))?;
            all.push(source(&name, bytes, false)?);
        }
    }
    Ok(all)
}

fn source(name: &str, bytes: Vec<u8>, found: bool) -> Result<Source, Refusal> {
    let text = meshproof_verify::text(name, bytes).map_err(|e: InputError| Refusal::Usage(e.to_string()))?;
    Ok(Source { name: name.to_owned(), text, found })
}

fn unreadable(name: &str, error: &std::io::Error) -> Refusal {
    Refusal::Environment(format!("{name} cannot be read: {error}. Check the name and its permissions"))
}

/// The manifests of a folder and of those in it, by name. Hidden folders are left out, and links to folders are not followed.
fn collect(folder: &Path, depth: usize, found: &mut BTreeSet<PathBuf>) -> Result<(), Refusal> {
    let name = folder.display().to_string();
    if depth > 32 {
        return Ok(());
    }
    for entry in std::fs::read_dir(folder).map_err(|e| unreadable(&name, &e))? {
        let entry = entry.map_err(|e| unreadable(&name, &e))?;
        let (path, kind) = (entry.path(), entry.file_type().map_err(|e| unreadable(&name, &e))?);
        let hidden = entry.file_name().to_string_lossy().starts_with('.');
        if kind.is_dir() {
            if !hidden {
                collect(&path, depth + 1, found)?;
            }
            continue;
        }
        let manifest = path.extension().and_then(|e| e.to_str()).is_some_and(|e| EXTENSIONS.contains(&e));
        if manifest && path.is_file() {
            found.insert(path);
        }
        if found.len() > MAX_FILES {
            return Err(Refusal::Usage(format!(
                "{name} holds more than {MAX_FILES} files. Name a smaller folder"
            )));
        }
    }
    Ok(())
}
