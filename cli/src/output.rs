//! Writes answers to standard output, and reports and pages to files, which can be links, devices or pipes.

use std::fs;
use std::io::{self, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use meshproof_model::Report;
use meshproof_render::formats::Format;
use meshproof_render::terminal::{Colour, OutputStyle};

use crate::exit::{self, Refusal};

/// Why standard output did not take everything. The command goes on: a report must not be lost because its summary
/// cannot be printed.
static UNWRITTEN: OnceLock<String> = OnceLock::new();

/// When colours are used, as the command line says.
static COLOUR: OnceLock<Colour> = OnceLock::new();

/// Sets when colours are used; the first call counts.
pub(crate) fn set_colour(colour: Colour) {
    let _only_the_first = COLOUR.set(colour);
}

/// The capabilities of this stream.
pub(crate) fn style(stream: &impl IsTerminal) -> OutputStyle {
    OutputStyle::of(stream, COLOUR.get().copied().unwrap_or_default())
}

/// A value beside its label, in lines of the terminal's width; without a label, a paragraph. The lines are broken at spaces only, so
/// that names and commands stay whole.
#[must_use]
pub fn wrapped(label: &str, value: &str) -> String {
    let (first, rest) = if label.is_empty() {
        (String::new(), String::new())
    } else {
        (format!("{label:<12} "), " ".repeat(13))
    };
    let options = textwrap::Options::new(style(&std::io::stdout()).width)
        .word_separator(textwrap::WordSeparator::AsciiSpace)
        .word_splitter(textwrap::WordSplitter::NoHyphenation)
        .break_words(false)
        .initial_indent(&first)
        .subsequent_indent(&rest);
    textwrap::fill(value, options)
}

/// Writes a command's answer. A reader that has gone (`meshproof list | head`) is not an error.
pub(crate) fn answer(text: &str) {
    let mut out = io::stdout().lock();
    if let Err(e) = out.write_all(text.as_bytes()).and_then(|()| out.flush())
        && e.kind() != io::ErrorKind::BrokenPipe
    {
        let _only_the_first = UNWRITTEN.set(e.to_string());
    }
}

/// Writes a message to standard error.
pub(crate) fn complain(text: &str) {
    // There is no other place to report this.
    let _unwritten = writeln!(io::stderr(), "meshproof: {text}");
}

/// The exit code of a command that ended with `code`: [`exit::ERROR`] if standard output did not take the whole answer.
pub(crate) fn exit_code(code: u8) -> u8 {
    let Some(error) = UNWRITTEN.get() else { return code };
    complain(&format!("standard output cannot be written to: {error}. The answer is incomplete"));
    exit::ERROR
}

/// Writes a file that the command line names. `option` is the option that names it, for the error message.
///
/// # Errors
/// The file cannot be written.
pub fn write_file(path: &Path, bytes: &[u8], option: &str) -> Result<(), Refusal> {
    replace(path, bytes).map_err(|e| {
        Refusal::Environment(format!(
            "{} cannot be written: {e}. Choose another with {option}",
            path.display()
        ))
    })
}

/// Follows links, and writes directly into anything that is not a regular file, such as a pipe or a device.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    match fs::metadata(path) {
        Ok(there) if there.is_file() => swap(&fs::canonicalize(path)?, bytes),
        Ok(_) => fs::OpenOptions::new().write(true).open(path)?.write_all(bytes),
        // A link to a file that does not exist yet: no reader can see half of it.
        Err(_) if path.is_symlink() => fs::write(path, bytes),
        Err(_) => swap(path, bytes),
    }
}

/// Writes a second file and renames it, so that a reader never sees half a report.
fn swap(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let partial = path.with_extension(format!("{}.partial", std::process::id()));
    fs::write(&partial, bytes).and_then(|()| fs::rename(&partial, path)).inspect_err(|_| {
        let _gone_already = fs::remove_file(&partial);
    })
}

/// The folder for a report, checked to be writable before the run.
pub struct OutFolder(PathBuf);

/// Which of a report's files were written.
pub struct Written {
    /// The file to open: the HTML page, or else `report.json`. `None` if neither was written.
    pub shown: Option<PathBuf>,
    /// What was not written, what was, and the command that writes the rest. `None` if everything was written.
    pub missing: Option<String>,
}

impl OutFolder {
    /// Creates the folder if it does not exist.
    ///
    /// # Errors
    /// The folder cannot be created or written to.
    pub fn open(path: &Path) -> Result<Self, Refusal> {
        let refused = |e: String| {
            Refusal::Environment(format!(
                "the report's folder {} cannot be written to: {e}. Choose another with --out DIR",
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

    /// Writes `report.json` and the formats; without formats, the HTML page. GitHub annotations also go to standard output,
    /// where GitHub looks for them. Files of an earlier run in other formats are removed, because they would show another
    /// run than the report beside them. If `report.json` cannot be written, it goes to a new folder in the temporary
    /// folder.
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
                [] => words.push("nothing of the report was saved except the summary above".to_owned()),
                paths => words.push(format!("saved: {}", shown(paths).join(", "))),
            }
            if let (Some(json), false) = (&json, lost.is_empty()) {
                let asked: String = lost.iter().map(|f| format!(" --format {f}")).collect();
                let [json, out] = [json, &self.0].map(|p| quoted(&p.display().to_string()));
                words.push(format!(
                    "to write the rest without another run: meshproof report {json}{asked} --out {out}"
                ));
            }
            words.join("\n")
        });
        Written { shown: page.or(json), missing }
    }

    /// Writes one format and returns its path.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write_as(&self, report: &Report, format: Format) -> Result<PathBuf, Refusal> {
        let text = format.render(report).map_err(|e| Refusal::Environment(e.to_string()))?;
        let path = self.0.join(format.file_name());
        write_file(&path, text.as_bytes(), "--out DIR")?;
        Ok(path)
    }

    /// Whether an earlier run wrote its report here. Only then are the other files with these names from a run.
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
                complain(&format!("{} is from an earlier run and cannot be removed: {e}", path.display()));
            }
        }
    }
}

fn is_plain_file(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|m| m.is_file())
}

/// Writes `report.json` to a new folder that only its owner can read, because the report contains evidence.
fn write_elsewhere(report: &Report) -> Result<PathBuf, Refusal> {
    let folder = tempfile::Builder::new().prefix("meshproof-report-").tempdir().map_err(|e| {
        let place = std::env::temp_dir();
        Refusal::Environment(format!(
            "no folder can be created in {}: {e}. Choose another temporary folder with TMPDIR",
            place.display()
        ))
    })?;
    let written = OutFolder(folder.path().to_owned()).write_as(report, Format::Json)?;
    let _kept = folder.keep();
    Ok(written)
}

fn shown(paths: &[PathBuf]) -> Vec<String> {
    paths.iter().map(|p| p.display().to_string()).collect()
}

/// Quoted so that a shell reads it as one word.
pub(crate) fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=".contains(c);
    if word.chars().all(plain) { word.to_owned() } else { format!("'{}'", word.replace('\'', r"'\''")) }
}
