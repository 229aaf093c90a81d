//! Where answers, reports and pages go: standard output, and files that may be links, devices or pipes.

use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use meshproof_model::Report;
use meshproof_render::formats::Format;

use crate::{Refusal, exit};

/// Why standard output did not take everything. What a command has begun is carried through all the same: a report must
/// not be lost because its summary could not be shown.
static UNWRITTEN: OnceLock<String> = OnceLock::new();

/// Writes a command's answer; a reader that went away (`meshproof list | head`) is no fault.
pub(crate) fn answer(text: &str) {
    let mut out = io::stdout().lock();
    if let Err(e) = out.write_all(text.as_bytes()).and_then(|()| out.flush())
        && e.kind() != io::ErrorKind::BrokenPipe
    {
        let _said_once = UNWRITTEN.set(e.to_string());
    }
}

/// Says something beside a command's answer.
pub(crate) fn complain(text: &str) {
    // Nowhere else to say it.
    let _unsaid = writeln!(io::stderr(), "meshproof: {text}");
}

/// The exit code of a command whose own is this one: another where its answer did not reach standard output.
pub(crate) fn exit_code(code: u8) -> u8 {
    let Some(error) = UNWRITTEN.get() else { return code };
    complain(&format!("standard output cannot be written to: {error}; the answer is not whole"));
    exit::ERROR
}

/// Writes a file that the command line asks for; `mend` is how to ask for another.
///
/// # Errors
/// It cannot be written.
pub fn write_file(path: &Path, bytes: &[u8], mend: &str) -> Result<(), Refusal> {
    replace(path, bytes)
        .map_err(|e| Refusal::Environment(format!("{} cannot be written: {e}; name {mend}", path.display())))
}

/// Writes to what is named: through links, and straight into what is no regular file, such as a pipe or a device.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    match fs::metadata(path) {
        Ok(there) if there.is_file() => swap(&fs::canonicalize(path)?, bytes),
        Ok(_) => fs::OpenOptions::new().write(true).open(path)?.write_all(bytes),
        // A link to what does not exist yet: there is nothing that a reader could see half of.
        Err(_) if path.is_symlink() => fs::write(path, bytes),
        Err(_) => swap(path, bytes),
    }
}

/// Writes beside the file and renames, so that a reader never sees half a report.
fn swap(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let beside = path.with_extension(format!("{}.partial", std::process::id()));
    fs::write(&beside, bytes).and_then(|()| fs::rename(&beside, path)).inspect_err(|_| {
        let _gone_already = fs::remove_file(&beside);
    })
}

/// The folder that a report goes to, found writable before the run.
pub struct OutFolder(PathBuf);

/// What became of a report's files.
pub struct Written {
    /// What a reader may open: the page, else `report.json`; none where neither could be written.
    pub shown: Option<PathBuf>,
    /// What could not be written, what could, and how to make up for it; none where all is written.
    pub missing: Option<String>,
}

impl OutFolder {
    /// Makes the folder where it does not exist.
    ///
    /// # Errors
    /// It cannot be made or written to.
    pub fn open(path: &Path) -> Result<Self, Refusal> {
        let refused = |e: String| {
            Refusal::Environment(format!(
                "the report's folder {} cannot be written to: {e}; name another with --out DIR",
                path.display()
            ))
        };
        if path.exists() && !path.is_dir() {
            return Err(refused("it is a file, not a folder".to_owned()));
        }
        fs::create_dir_all(path).map_err(|e| refused(e.to_string()))?;
        let probe = path.join(format!(".meshproof-{}", std::process::id()));
        fs::write(&probe, b"").and_then(|()| fs::remove_file(&probe)).map_err(|e| refused(e.to_string()))?;
        Ok(Self(path.to_owned()))
    }

    /// Writes `report.json` and the formats, without any the page. What GitHub annotates by is written to standard output
    /// too, where GitHub looks for it. The files of an earlier run's other formats are removed: they would tell of another
    /// run than the report beside them. Where `report.json` itself cannot be written, it goes to a fresh folder among the
    /// temporary ones.
    #[must_use]
    pub fn write(&self, report: &Report, formats: &[Format]) -> Written {
        let formats = if formats.is_empty() { &[Format::Html] } else { formats };
        let earlier = self.holds_a_report();
        let (mut saved, mut page, mut lost) = (Vec::new(), None, Vec::new());
        let mut faults = Vec::new();
        let json = match self.write_as(report, Format::Json) {
            Ok(json) => Some(json),
            Err(e) => {
                faults.push(e.to_string());
                let elsewhere = write_elsewhere(report);
                elsewhere.map_err(|e| faults.push(e.to_string())).ok()
            }
        };
        saved.extend(json.clone());
        for &format in formats.iter().filter(|f| **f != Format::Json) {
            match self.write_as(report, format) {
                Ok(path) => {
                    if format == Format::Html {
                        page = Some(path.clone());
                    }
                    saved.push(path);
                }
                Err(e) => {
                    faults.push(e.to_string());
                    lost.push(format);
                }
            }
            if format == Format::Github {
                match format.render(report) {
                    Ok(text) => answer(&text),
                    Err(e) => faults.push(e.to_string()),
                }
            }
        }
        if earlier && json.as_ref().is_some_and(|j| j.starts_with(&self.0)) {
            self.remove_all_but(&saved);
        }
        let missing = (!faults.is_empty()).then(|| {
            let mut words = faults;
            match saved.as_slice() {
                [] => words.push("nothing of the report is saved but the summary above".to_owned()),
                paths => words.push(format!("saved: {}", shown(paths).join(", "))),
            }
            if let (Some(json), false) = (&json, lost.is_empty()) {
                let asked: String = lost.iter().map(|f| format!(" --format {f}")).collect();
                let [json, out] = [json, &self.0].map(|p| quoted(&p.display().to_string()));
                words.push(format!(
                    "the rest, without another run: meshproof report {json}{asked} --out {out}"
                ));
            }
            words.join("\n")
        });
        Written { shown: page.or(json), missing }
    }

    /// Writes one format and returns its path.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write_as(&self, report: &Report, format: Format) -> Result<PathBuf, Refusal> {
        let text = format.render(report).map_err(|e| Refusal::Environment(e.to_string()))?;
        let path = self.0.join(format.file_name());
        write_file(&path, text.as_bytes(), "another folder with --out DIR")?;
        Ok(path)
    }

    /// Whether an earlier run has left its report here: only then are the other files of these names its own too.
    fn holds_a_report(&self) -> bool {
        let path = self.0.join(Format::Json.file_name());
        let mut head = Vec::new();
        is_plain_file(&path)
            && fs::File::open(&path).and_then(|file| file.take(200).read_to_end(&mut head)).is_ok()
            && String::from_utf8_lossy(&head).contains("\"meshproof.report/")
    }

    fn remove_all_but(&self, saved: &[PathBuf]) {
        let stale = Format::ALL.iter().map(|f| self.0.join(f.file_name()));
        for path in stale.filter(|path| !saved.contains(path) && is_plain_file(path)) {
            if let Err(e) = fs::remove_file(&path) {
                complain(&format!("{} is of an earlier run and cannot be removed: {e}", path.display()));
            }
        }
    }
}

fn is_plain_file(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|m| m.is_file())
}

/// Writes `report.json` to a folder of its own, for its owner's eyes only: evidence is in it.
fn write_elsewhere(report: &Report) -> Result<PathBuf, Refusal> {
    let folder = std::env::temp_dir().join(format!("meshproof-report-{}", report.run.id));
    let mut builder = fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(&folder).map_err(|e| {
        Refusal::Environment(format!("{} cannot be made: {e}; name another with TMPDIR", folder.display()))
    })?;
    OutFolder(folder.clone()).write_as(report, Format::Json).inspect_err(|_| {
        let _nothing_is_in_it = fs::remove_dir(&folder);
    })
}

fn shown(paths: &[PathBuf]) -> Vec<String> {
    paths.iter().map(|p| p.display().to_string()).collect()
}

/// As a shell takes it for one word.
pub(crate) fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=".contains(c);
    if word.chars().all(plain) { word.to_owned() } else { format!("'{}'", word.replace('\'', r"'\''")) }
}
