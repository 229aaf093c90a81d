//! Reads nginx's logs into evidence.
//!
//! What nginx cannot show: the other end's port of a connection that brought no request, the ALPN that a client
//! offered, and the bytes themselves of a request outside TLS (its request line and Host stand for them).

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use meshproof_model::{
    Connection, EvidenceId, Fact, Header, PeerCertificate, ServerRequest, Side, TlsFacts, TlsFailure,
};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use serde::Deserialize;

use crate::config::{Ports, Site};
use meshproof_harness::certificates::describe;
use meshproof_harness::external::ExternalSpec;
use meshproof_harness::store::{MAX_TEXT, Store, bounded};
use meshproof_harness::token::token_of;

/// How much of a log is read at a time. The rest is read the next time.
const MAX_READ: u64 = 32 * 1024 * 1024;

/// How much of nginx's own output goes into an error.
const MAX_QUOTED: usize = 2000;

/// The logs of one nginx.
pub struct NginxLogs {
    access: Tail,
    errors: Tail,
    recorder: Recorder,
}

impl NginxLogs {
    /// Reads the logs in this folder into `store`.
    #[must_use]
    pub fn new(folder: &Path, spec: &ExternalSpec, ports: Ports, site: Site, store: Store) -> Self {
        Self {
            access: Tail::new(folder.join("access.log")),
            errors: Tail::new(folder.join("error.log")),
            recorder: Recorder::new(store, spec, ports, site),
        }
    }

    /// Turns what was written since the last time into evidence. It blocks: a log may have many MiB of new lines. `mark`: the
    /// token of a request to the suite's own door whose line must be there.
    ///
    /// # Errors
    /// The logs cannot be read, or the line with the mark is missing: nginx goes on without an error if it cannot write a log.
    pub fn collect(&mut self, mark: Option<&str>) -> io::Result<()> {
        let mut marked = mark.is_none();
        loop {
            let lines = self.access.lines()?;
            let more = !lines.is_empty();
            for line in lines {
                match flush_marker(&line) {
                    Some(found) => marked |= mark == Some(found.as_str()),
                    None => self.recorder.access(&line),
                }
            }
            if marked || !more {
                break;
            }
        }
        for line in self.errors.lines()? {
            self.recorder.error(&line);
        }
        if marked {
            return Ok(());
        }
        let folder = self.access.path.parent().unwrap_or(&self.access.path);
        Err(io::Error::other(format!(
            "a line that nginx must have written is missing. Check whether the disk of {} is full",
            folder.display()
        )))
    }
}

/// The token of a flush marker, which is a request of the suite itself, if this is its line in the access log.
#[must_use]
pub fn flush_marker(line: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct FlushMarkerLine {
        flush_marker: String,
    }
    // No other line is parsed for it.
    let own = line.starts_with("{\"flush_marker\"");
    own.then(|| serde_json::from_str::<FlushMarkerLine>(line).ok()).flatten().map(|own| own.flush_marker)
}

/// The end of what the nginx of this folder wrote about itself.
#[must_use]
pub fn output(folder: &Path) -> String {
    let read = |name: &str| std::fs::read(folder.join(name)).unwrap_or_default();
    let bytes = [read("stderr.log"), read("error.log")].concat();
    let tail = &bytes[bytes.len().saturating_sub(MAX_QUOTED)..];
    String::from_utf8_lossy(tail).trim().to_owned()
}

/// A growing file, read line by line.
struct Tail {
    path: PathBuf,
    offset: u64,
}

impl Tail {
    fn new(path: PathBuf) -> Self {
        Self { path, offset: 0 }
    }

    /// The whole lines that were written since the last time.
    fn lines(&mut self) -> io::Result<Vec<String>> {
        let mut file = match File::open(&self.path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            opened => opened?,
        };
        file.seek(SeekFrom::Start(self.offset))?;
        let mut bytes = Vec::new();
        file.take(MAX_READ).read_to_end(&mut bytes)?;
        let whole = bytes.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
        self.offset += whole as u64;
        Ok(bytes[..whole]
            .split(|b| *b == b'\n')
            .filter(|line| !line.is_empty())
            .map(|line| String::from_utf8_lossy(line).into_owned())
            .collect())
    }
}

/// One line of the access log; the template's `log_format evidence`. A value that nginx lacks is empty.
#[derive(Deserialize)]
struct Line {
    connection: String,
    remote_addr: String,
    remote_port: String,
    server_port: String,
    request: String,
    method: String,
    target: String,
    protocol: String,
    status: String,
    tls: TlsPart,
    headers: serde_json::Map<String, serde_json::Value>,
}

#[derive(Deserialize)]
struct TlsPart {
    protocol: String,
    cipher: String,
    server_name: String,
    alpn: Option<String>,
    client_verify: String,
    client_subject: String,
    client_issuer: String,
    client_serial: String,
    client_certificate: String,
}

/// Turns log lines into evidence.
pub struct Recorder {
    store: Store,
    side: Side,
    /// nginx's port, the documents' port, whether it speaks TLS.
    ports: Vec<(u16, u16, bool)>,
    asks_clients: bool,
    site: Site,
    connections: BTreeMap<u64, EvidenceId>,
}

impl Recorder {
    /// Records what the logs of this service say.
    #[must_use]
    pub fn new(store: Store, spec: &ExternalSpec, ports: Ports, site: Site) -> Self {
        let documented = match site {
            Site::Machine | Site::Container { .. } => (80, 443),
            // A pod uses the documents' own ports.
            Site::Pod => (ports.plain, ports.tls),
        };
        Self {
            store,
            side: Side::Service { host: spec.host.clone() },
            ports: vec![(ports.plain, documented.0, false), (ports.tls, documented.1, true)],
            asks_clients: spec.tls.as_ref().is_some_and(|tls| tls.client_ca.is_some()),
            site,
            connections: BTreeMap::new(),
        }
    }

    fn documented(&self, port: &str) -> Option<(u16, bool)> {
        let port: u16 = port.parse().ok()?;
        self.ports.iter().find(|(own, ..)| *own == port).map(|&(_, documented, tls)| (documented, tls))
    }

    /// One line of the access log.
    pub fn access(&mut self, text: &str) {
        let readable = serde_json::from_str::<Line>(text).map_err(|e| e.to_string());
        if let Err(reason) = readable.and_then(|line| self.request(line)) {
            let text =
                bounded(&format!("nginx's access log has an unreadable line ({reason}): {text}"), MAX_TEXT);
            self.store.record(self.side.clone(), None, Fact::Note { text });
        }
    }

    fn request(&mut self, line: Line) -> Result<(), String> {
        let (port, tls_port) = self.documented(&line.server_port).ok_or("an unknown port")?;
        let number: u64 = line.connection.parse().map_err(|_| "the connection is no number")?;
        let status = line.status.parse().map_err(|_| "the status is no number")?;
        let tls = self.tls_facts(&line.tls);
        let headers: Vec<Header> = line
            .headers
            .into_iter()
            .filter_map(|(name, value)| {
                let value = value.as_str().filter(|value| !value.is_empty())?;
                Some(Header { name, value: bounded(value, MAX_TEXT) })
            })
            .collect();
        let header = |name: &str| headers.iter().find(|h| h.name == name).map(|h| h.value.clone());
        let authority = header("host").unwrap_or_default();
        let token = header("user-agent").and_then(|agent| token_of(&agent).map(|token| bounded(token, 200)));
        // In the usual form: `[::1]:1234`.
        let peer = match line.remote_addr.contains(':') {
            true => format!("[{}]:{}", line.remote_addr, line.remote_port),
            false => format!("{}:{}", line.remote_addr, line.remote_port),
        };
        let (store, side) = (&self.store, &self.side);
        self.connections.entry(number).or_insert_with(|| {
            let clear_bytes = match (&tls, authority.as_str()) {
                (Some(_), _) => String::new(),
                (None, "") => line.request.clone(),
                (None, host) => format!("{}\r\nHost: {host}\r\n", line.request),
            };
            let clear_bytes = bounded(&clear_bytes, MAX_TEXT);
            let fact =
                Connection { number, port, tls_port, peer: peer.clone(), clear_bytes, tls: tls.clone() };
            store.record(side.clone(), None, Fact::Connection(fact))
        });
        if line.method.is_empty() {
            // It could not be read as a request.
            return Ok(());
        }
        let version = match line.protocol.as_str() {
            "HTTP/2.0" => "HTTP/2".to_owned(),
            other => other.to_owned(),
        };
        let fact = ServerRequest {
            connection: number,
            port,
            over_tls: tls.is_some(),
            peer,
            method: line.method,
            target: bounded(&line.target, MAX_TEXT),
            authority,
            version,
            headers,
            status,
            body_bytes: None,
            body_sha256: None,
            trailers: Vec::new(),
            messages: Vec::new(),
            tls,
            answer: None,
        };
        self.store.record(self.side.clone(), token, Fact::Request(fact));
        Ok(())
    }

    fn tls_facts(&self, line: &TlsPart) -> Option<TlsFacts> {
        let given = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let version = given(&line.protocol)?;
        Some(TlsFacts {
            server_name: given(&line.server_name),
            alpn_offered: None,
            weak_offers: None,
            alpn: line.alpn.as_deref().and_then(given),
            version: Some(version),
            cipher: given(&line.cipher).map(|name| standard_cipher(&name)),
            peer_certificate: client_certificate(line),
            peer_verification: given(&line.client_verify).filter(|_| self.asks_clients),
            failure: None,
            failure_kind: None,
            // The lines do not say it.
            resumed: false,
        })
    }

    /// One line of the error log. Lines about a connection without a request become evidence.
    pub fn error(&mut self, text: &str) {
        let Some((number, words, server_port)) = connection_line(text) else { return };
        let Some((port, tls_port)) = self.documented(server_port) else { return };
        let failure = (words.contains("SSL_do_handshake() failed") || words.contains("in SSL handshake"))
            .then(|| bounded(words, MAX_TEXT));
        if let Some(id) = self.connections.get(&number) {
            if failure.is_some() {
                self.store.amend(id, |fact| {
                    if let Fact::Connection(c) = fact {
                        let tls = c.tls.get_or_insert_default();
                        tls.failure_kind = failure.as_deref().map(failure_of);
                        tls.failure = failure;
                    }
                });
            }
            return;
        }
        let client = text.rsplit_once(", client: ").map_or("", |(_, rest)| rest);
        let peer = match self.site {
            Site::Machine | Site::Pod => client.split(',').next().unwrap_or_default().to_owned(),
            // The line has the address that the relay came from, and the relay listens on loopback alone.
            Site::Container { .. } => Ipv4Addr::LOCALHOST.to_string(),
        };
        let tls = failure.map(|failure| TlsFacts {
            failure_kind: Some(failure_of(&failure)),
            failure: Some(failure),
            ..TlsFacts::default()
        });
        let fact = Connection { number, port, tls_port, peer, clear_bytes: String::new(), tls };
        let id = self.store.record(self.side.clone(), None, Fact::Connection(fact));
        self.connections.insert(number, id);
    }
}

/// The connection's number, nginx's words, and the port, of an error-log line that is about a connection before its
/// first request: `... [info] 7#7: *4 client closed connection while waiting for request, client: 127.0.0.1, server:
/// 127.0.0.1:20001`.
fn connection_line(text: &str) -> Option<(u64, &str, &str)> {
    let (_, rest) = text.split_once(": *")?;
    let (number, rest) = rest.split_once(' ')?;
    let (words, rest) = rest.split_once(", client: ")?;
    let (_, server) = rest.split_once(", server: ")?;
    let server = server.split(',').next().unwrap_or(server);
    let (_, port) = server.rsplit_once(':')?;
    Some((number.parse().ok()?, words, port))
}

/// How a handshake failed, by nginx's words for it: OpenSSL's error queue, an errno, or that the client closed the connection.
/// nginx refuses no client's certificate in the handshake (`ngx_ssl_verify_callback` accepts every one): what is left is
/// [`TlsFailure::Other`].
fn failure_of(words: &str) -> TlsFailure {
    // OpenSSL has this for an alert that it received, and only then (`ssl3_read_bytes`, `SSL_AD_REASON_OFFSET`).
    if let Some((_, number)) = words.rsplit_once("SSL alert number ") {
        let digits: String = number.chars().take_while(char::is_ascii_digit).collect();
        let alert = digits.parse().map_or(digits, TlsFailure::alert_name);
        return TlsFailure::AlertReceived { alert };
    }
    let vanished = ["peer closed connection in SSL handshake", "reset by peer", "unexpected eof"];
    if vanished.iter().any(|words_of_it| words.contains(words_of_it)) {
        return TlsFailure::PeerVanished;
    }
    TlsFailure::Other
}

/// The client's certificate as nginx saw it: names and serial number as nginx wrote them, the rest from the certificate.
fn client_certificate(line: &TlsPart) -> Option<PeerCertificate> {
    if line.client_serial.is_empty() && line.client_certificate.is_empty() {
        return None;
    }
    let pem = percent_encoding::percent_decode_str(&line.client_certificate).collect::<Vec<_>>();
    let whole = CertificateDer::from_pem_slice(&pem).ok().and_then(|der| describe(&der)).unwrap_or_default();
    Some(PeerCertificate {
        subject: line.client_subject.clone(),
        issuer: line.client_issuer.clone(),
        serial: line.client_serial.clone(),
        ..whole
    })
}

/// IANA's names for OpenSSL's names of the TLS 1.2 suites that rustls and BoringSSL offer too (OpenSSL, "ciphers",
/// section "Cipher suite names"). Those of TLS 1.3 are the same in both.
fn standard_cipher(name: &str) -> String {
    match name {
        "ECDHE-ECDSA-AES128-GCM-SHA256" => "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
        "ECDHE-ECDSA-AES256-GCM-SHA384" => "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
        "ECDHE-ECDSA-CHACHA20-POLY1305" => "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
        "ECDHE-RSA-AES128-GCM-SHA256" => "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
        "ECDHE-RSA-AES256-GCM-SHA384" => "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
        "ECDHE-RSA-CHACHA20-POLY1305" => "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
        other => other,
    }
    .to_owned()
}
