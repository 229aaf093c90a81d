//! The trace of one configuration (`run --trace DIR`): what passed between the suite and the implementation, for a reader who
//! looks for the cause of a failure with tools of their own.
//!
//! A trace is off unless the run asks for it, and costs nothing then. It has bounds, it is in files that only their owner can
//! read, and it never holds a private key. It does hold the session keys of the suite's own TLS connections.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::digest::sha256;
use crate::redact::without_keys;
use crate::run_folder;

/// The file with the bytes of each connection.
pub const CONNECTIONS: &str = "connections.jsonl";
/// The file with the secrets of the suite's TLS connections, in the format of NSS that Wireshark reads (`SSLKEYLOGFILE`).
pub const KEYS: &str = "keys.log";
/// The file with the notes of the run: what an implementation wrote to its stderr, and what the suite noticed.
pub const NOTES: &str = "notes.log";
/// The folder with the files that the implementation and the external services were given or have written.
pub const FILES: &str = "files";
/// The file that names what is missing because of a limit.
pub const LIMITS: &str = "limits.txt";

/// "PRIVATE KEY" in base64, at each of the three places that it can have in a group of three bytes.
const KEYS_IN_BASE64: [&str; 3] = ["UFJJVkFURSBLRV", "BSSVZBVEUgS0VZ", "QUklWQVRFIEtFW"];

/// How large a trace may become.
#[derive(Clone, Copy, Debug)]
struct Limits {
    /// Bytes of the whole trace.
    whole: u64,
    /// Bytes of one file.
    file: u64,
    /// Bytes of one direction of a connection.
    direction: u64,
    /// Bytes of a file that is copied; a larger one is left out.
    copied: u64,
    /// How many files of a folder are looked at.
    entries: usize,
}

const LIMITS_OF_A_RUN: Limits = Limits {
    whole: 64 * 1024 * 1024,
    file: 32 * 1024 * 1024,
    direction: 256 * 1024,
    copied: 1024 * 1024,
    entries: 2000,
};

/// The trace of one configuration. Clones share it.
#[derive(Clone, Default)]
pub struct Trace(Option<Arc<Shared>>);

struct Shared {
    folder: PathBuf,
    started: Instant,
    limits: Limits,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    files: HashMap<String, Written>,
    /// The digest of each copied file's latest content.
    copied: HashMap<PathBuf, String>,
    bytes: u64,
    connections: u64,
    /// The first error.
    problem: Option<String>,
}

struct Written {
    file: File,
    bytes: u64,
    full: bool,
}

impl std::fmt::Debug for Trace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Trace").field(&self.0.as_ref().map(|shared| &shared.folder)).finish()
    }
}

impl Trace {
    /// A trace in a new folder of this name. Its clock starts now.
    ///
    /// # Errors
    /// The folder cannot be made, or something of this name exists.
    pub fn create(parent: &Path, name: &str) -> io::Result<Self> {
        Self::bounded(parent, name, LIMITS_OF_A_RUN)
    }

    fn bounded(parent: &Path, name: &str, limits: Limits) -> io::Result<Self> {
        run_folder::create_private(parent)?;
        let folder = parent.join(file_name(name));
        run_folder::create_new_private(&folder)?;
        let (started, state) = (Instant::now(), Mutex::default());
        Ok(Self(Some(Arc::new(Shared { folder, started, limits, state }))))
    }

    /// When it started; none if it is off.
    #[must_use]
    pub fn started(&self) -> Option<Instant> {
        self.0.as_ref().map(|shared| shared.started)
    }

    /// Adds a line to a file. Private keys in it are withheld.
    pub fn line(&self, file: &str, text: &str) {
        if let Some(shared) = &self.0 {
            shared.append(file, &without_keys(text));
        }
    }

    /// Adds an object to a file of JSON lines, with the time. Private keys in it are withheld.
    pub fn json(&self, file: &str, object: Value) {
        if let Some(shared) = &self.0 {
            shared.json(file, object);
        }
    }

    /// Adds a line to the log of a proxy.
    pub fn proxy_log(&self, proxy: &str, line: &str) {
        if self.0.is_some() {
            self.line(&format!("proxies/{}.log", file_name(proxy)), line);
        }
    }

    /// A connection of the suite. `by` names the end that is the suite's: `client sleep` or `service edition.cnn.com:443`.
    #[must_use]
    pub fn connection(
        &self,
        by: impl FnOnce() -> String,
        local: Option<SocketAddr>,
        peer: Option<SocketAddr>,
    ) -> ConnectionTrace {
        let Some(shared) = &self.0 else { return ConnectionTrace(None) };
        let by = by();
        let number = {
            let mut state = shared.lock();
            state.connections += 1;
            state.connections
        };
        let shown = |address: Option<SocketAddr>| address.map(|a| a.to_string());
        let (local, peer) = (shown(local), shown(peer));
        shared.json(
            CONNECTIONS,
            json!({ "connection": number, "event": "opened", "by": by, "local": local, "peer": peer }),
        );
        ConnectionTrace(Some(Arc::new(Traced {
            shared: Arc::clone(shared),
            number,
            by,
            peer,
            counts: Mutex::default(),
        })))
    }

    /// Copies the text files below a folder that are new or have changed. Private keys in them are withheld; a file that is no
    /// text, or that could hold a key in another form, is left out. Reads and writes files: blocking.
    pub fn copy_files(&self, folder: &Path, label: &str) {
        let Some(shared) = &self.0 else { return };
        let mut entries = 0;
        let mut folders = vec![folder.to_owned()];
        while let Some(current) = folders.pop() {
            for entry in std::fs::read_dir(&current).into_iter().flatten().flatten() {
                entries += 1;
                if entries > shared.limits.entries {
                    return shared
                        .limit(&format!("{FILES}/{label}: only {} files were looked at", entries - 1));
                }
                // Neither a link, which could lead anywhere, nor a pipe, which could block.
                let Ok(kind) = entry.file_type() else { continue };
                if kind.is_dir() {
                    folders.push(entry.path());
                } else if kind.is_file() {
                    shared.copy(&entry.path(), folder, label);
                }
            }
        }
    }

    /// Why something is missing, other than because of a limit.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        self.0.as_ref()?.lock().problem.clone()
    }
}

impl rustls::KeyLog for Trace {
    fn log(&self, label: &str, client_random: &[u8], secret: &[u8]) {
        let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
        self.line(KEYS, &format!("{label} {} {}", hex(client_random), hex(secret)));
    }

    fn will_log(&self, _: &str) -> bool {
        self.0.is_some()
    }
}

/// A name that is valid for a file everywhere.
fn file_name(text: &str) -> String {
    let fit = |c: char| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '-' };
    let name: String = text.chars().map(fit).take(120).collect();
    if name.trim_matches('.').is_empty() { "unnamed".to_owned() } else { name }
}

fn create(path: &Path) -> io::Result<File> {
    if let Some(folder) = path.parent() {
        run_folder::create_private(folder)?;
    }
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn json(&self, file: &str, mut object: Value) {
        let at_us = u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX);
        if let Some(members) = object.as_object_mut() {
            members.insert("at_us".to_owned(), at_us.into());
        }
        self.append(file, &without_keys(&object.to_string()));
    }

    /// One call per line, unbuffered: a run that is killed leaves what it had written.
    fn append(&self, name: &str, line: &str) {
        let mut state = self.lock();
        let more = line.len() as u64 + 1;
        let room = self.limits.whole.saturating_sub(state.bytes) >= more;
        let written = match state.files.entry(name.to_owned()) {
            Entry::Occupied(known) => Ok(known.into_mut()),
            Entry::Vacant(new) => create(&self.folder.join(name))
                .map(|file| new.insert(Written { file, bytes: 0, full: false })),
        };
        let result = written.and_then(|written| {
            if written.full {
                return Ok(Some(0));
            }
            if !room || written.bytes + more > self.limits.file {
                written.full = true;
                return Ok(None);
            }
            written.bytes += more;
            written.file.write_all(format!("{line}\n").as_bytes()).map(|()| Some(more))
        });
        match result {
            Ok(None) => {
                drop(state);
                self.limit(&format!("{name}: the end is missing, the size limit was reached"));
            }
            Ok(Some(count)) => state.bytes += count,
            Err(e) => self.note(&mut state, name, &e),
        }
    }

    fn note(&self, state: &mut State, name: &str, error: &io::Error) {
        let path = self.folder.join(name);
        state.problem.get_or_insert_with(|| format!("{} cannot be written: {error}", path.display()));
    }

    /// Notes that something is left out.
    fn limit(&self, what: &str) {
        let mut options = OpenOptions::new();
        options.append(true).create(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let noted = options
            .open(self.folder.join(LIMITS))
            .and_then(|mut file| file.write_all(format!("{what}\n").as_bytes()));
        if let Err(e) = noted {
            self.note(&mut self.lock(), LIMITS, &e);
        }
    }

    fn copy(&self, path: &Path, folder: &Path, label: &str) {
        let Ok(relative) = path.strip_prefix(folder) else { return };
        let name = format!("{FILES}/{}/{}", file_name(label), relative.display());
        if std::fs::metadata(path).is_ok_and(|facts| facts.len() > self.limits.copied) {
            return self.limit(&format!("{name}: left out, it is larger than {} bytes", self.limits.copied));
        }
        // A file that is removed meanwhile is not missed.
        let Ok(Ok(text)) = std::fs::read(path).map(String::from_utf8) else { return };
        if text.is_empty() || KEYS_IN_BASE64.iter().any(|mark| text.contains(mark)) {
            return;
        }
        let text = without_keys(&text);
        let digest = sha256(text.as_bytes());
        let mut state = self.lock();
        if state.copied.get(relative) == Some(&digest) {
            return;
        }
        if state.bytes + text.len() as u64 > self.limits.whole {
            drop(state);
            return self.limit(&format!("{name}: left out, the size limit was reached"));
        }
        state.copied.insert(relative.to_owned(), digest);
        state.bytes += text.len() as u64;
        let copied = create(&self.folder.join(&name)).and_then(|mut file| file.write_all(text.as_bytes()));
        if let Err(e) = copied {
            self.note(&mut state, &name, &e);
        }
    }
}

/// One connection in a trace. Clones share it; when the last one is dropped, the connection counts as closed.
#[derive(Clone, Default)]
pub struct ConnectionTrace(Option<Arc<Traced>>);

struct Traced {
    shared: Arc<Shared>,
    number: u64,
    by: String,
    peer: Option<String>,
    /// The bytes received and sent.
    counts: Mutex<(u64, u64)>,
}

impl ConnectionTrace {
    /// These bytes were read from the other end.
    pub fn received(&self, bytes: &[u8]) {
        if let Some(traced) = &self.0 {
            let before = traced.count(|counts| &mut counts.0, bytes);
            traced.record("received", before, bytes);
        }
    }

    /// These bytes were written to the other end.
    pub fn sent(&self, bytes: &[u8]) {
        if let Some(traced) = &self.0 {
            let before = traced.count(|counts| &mut counts.1, bytes);
            traced.record("sent", before, bytes);
        }
    }
}

impl Traced {
    fn counts(&self) -> MutexGuard<'_, (u64, u64)> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds to a count, and returns what it was before.
    fn count(&self, which: impl Fn(&mut (u64, u64)) -> &mut u64, bytes: &[u8]) -> u64 {
        let mut counts = self.counts();
        let count = which(&mut counts);
        let before = *count;
        *count += bytes.len() as u64;
        before
    }

    fn record(&self, event: &str, before: u64, bytes: &[u8]) {
        let room = usize::try_from(self.shared.limits.direction.saturating_sub(before)).unwrap_or(usize::MAX);
        if room == 0 {
            return;
        }
        let kept = &bytes[..bytes.len().min(room)];
        let mut object = json!({
            "connection": self.number, "event": event, "by": self.by, "peer": self.peer, "bytes": STANDARD.encode(kept),
        });
        if kept.len() < bytes.len() {
            // The rest of the direction is only counted.
            object["cut"] = true.into();
        }
        self.shared.json(CONNECTIONS, object);
    }
}

impl Drop for Traced {
    fn drop(&mut self) {
        let (received, sent) = *self.counts();
        let object = json!({
            "connection": self.number, "event": "closed", "by": self.by, "peer": self.peer,
            "received_bytes": received, "sent_bytes": sent,
        });
        self.shared.json(CONNECTIONS, object);
    }
}

#[cfg(test)]
mod tests;
