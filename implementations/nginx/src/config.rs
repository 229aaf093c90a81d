//! nginx's folder and configuration for one external service.

use std::fmt::Write as _;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use meshproof_harness::external::{ExternalSpec, HttpVersions, PlainPort, Refusal, TlsVersions};
use meshproof_harness::run_folder;

/// The template: src/nginx.conf.
const TEMPLATE: &str = include_str!("nginx.conf");

/// The version of an nginx, as three numbers.
pub type Version = (u32, u32, u32);

/// `$ssl_alpn_protocol` came with 1.21.4 (nginx, "ngx_http_ssl_module").
const ALPN_VARIABLE: Version = (1, 21, 4);
/// `http2 on` came with 1.25.1 and replaced `listen ... http2` (nginx, "ngx_http_v2_module").
const HTTP2_DIRECTIVE: Version = (1, 25, 1);

/// The ports of one nginx.
#[derive(Clone, Copy, Debug)]
pub struct Ports {
    /// For plain HTTP.
    pub plain: u16,
    /// For HTTPS.
    pub tls: u16,
    /// For the suite's own requests to nginx.
    pub control: u16,
}

impl Ports {
    /// The documents' ports on which this specification listens, each with nginx's own.
    pub fn of(self, spec: &ExternalSpec) -> impl Iterator<Item = (u16, u16)> + use<> {
        let plain = (spec.plain != PlainPort::Closed).then_some((80, self.plain));
        plain.into_iter().chain(spec.tls.is_some().then_some((443, self.tls)))
    }
}

/// As nginx writes it: `nginx/1.28.0`.
#[must_use]
pub fn version_text((major, minor, patch): Version) -> String {
    format!("nginx/{major}.{minor}.{patch}")
}

/// Where an nginx runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Site {
    /// On this machine, on loopback.
    Machine,
    /// In a container, behind a relay that passes on the addresses of its clients.
    Container {
        /// Whether nginx runs as root, without the right to change its user.
        root: bool,
    },
    /// In a pod, which its clients reach directly; its logs go to its standard output, and its files lie in a folder that it
    /// cannot write.
    Pod,
}

impl Site {
    /// Where nginx writes: its own folder, or what a pod has for that.
    const fn scratch(self, folder: &str) -> &str {
        match self {
            Self::Machine | Self::Container { .. } => folder,
            Self::Pod => POD_SCRATCH,
        }
    }

    fn log(self, folder: &str, name: &str) -> String {
        match self {
            Self::Machine | Self::Container { .. } => format!("{folder}/{name}"),
            // Both in one stream: the order between two streams is not defined.
            Self::Pod => "/dev/stdout".to_owned(),
        }
    }
}

/// The folder in a pod that nginx writes its temporary files into.
pub const POD_SCRATCH: &str = "/tmp";

/// A folder that is removed when this is dropped.
pub struct Folder(PathBuf);

impl Folder {
    /// Makes a folder that only this user can enter.
    pub fn create(parent: &Path, name: &str) -> io::Result<Self> {
        let path = parent.join(name);
        run_folder::create_new_private(&path)?;
        Ok(Self(path.canonicalize()?))
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Removes it and everything in it.
    ///
    /// # Errors
    /// It cannot be removed.
    pub fn remove(&self) -> io::Result<()> {
        match fs::remove_dir_all(&self.0) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
            Ok(()) | Err(_) => Ok(()),
        }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // A second attempt after `remove`, or the only one after a panic. Its error cannot be reported.
        let _cannot_be_reported = self.remove();
    }
}

fn write_private(path: &Path, text: &str) -> io::Result<()> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)?.write_all(text.as_bytes())
}

/// Writes everything that nginx reads into its folder.
///
/// # Errors
/// The specification asks for something that nginx or its configuration language cannot do; or the folder cannot be
/// written.
pub fn write(
    folder: &Path,
    spec: &ExternalSpec,
    ports: Ports,
    nonce: &str,
    version: Version,
    site: Site,
) -> Result<(), String> {
    let text = render(folder, spec, Content::ByPath, ports, nonce, version, site)?;
    let failed = |e: io::Error| format!("cannot write into {}: {e}", folder.display());
    let put = |name: &str, text: &str| write_private(&folder.join(name), text).map_err(failed);
    put("nginx.conf", &text)?;
    if let Some(tls) = &spec.tls {
        put("tls.crt", &tls.certificate)?;
        put("tls.key", &tls.key.0)?;
        if let Some(ca) = &tls.client_ca {
            put("clients.crt", ca)?;
        }
    }
    let pages = folder.join("pages");
    if !pages.exists() {
        fs::create_dir(&pages).map_err(failed)?;
    }
    for (index, page) in spec.pages.iter().enumerate() {
        put(&format!("pages/{index}"), &page.body)?;
    }
    Ok(())
}

/// Which pages are served on which path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// The specification's pages, and 404 elsewhere.
    ByPath,
    /// The specification's first page, on every path.
    Same,
}

/// The configuration file, from the template.
///
/// # Errors
/// The specification asks for something that nginx or its configuration language cannot do.
#[allow(clippy::too_many_arguments, reason = "each stands in the template")]
pub fn render(
    folder: &Path,
    spec: &ExternalSpec,
    content: Content,
    ports: Ports,
    nonce: &str,
    version: Version,
    site: Site,
) -> Result<String, String> {
    let folder = folder.to_str().ok_or("the folder's name is not UTF-8")?;
    for (what, text) in [("folder", folder), ("host", &spec.host)] {
        if text.is_empty() || text.contains(['"', '\'', '\\', '$', ';', '{', '}', '\n', '\r']) {
            return Err(format!("the {what} {text:?} cannot stand in nginx's configuration"));
        }
    }
    let tls = spec.tls.as_ref();
    let http = tls.map_or(HttpVersions::Http1, |tls| tls.http);
    if tls.is_some_and(|tls| !tls.by_name.is_empty()) {
        return Err("nginx presents one certificate here; use the embedded service".to_owned());
    }
    if http == HttpVersions::Http2 {
        return Err("nginx cannot offer HTTP/2 alone; use the embedded service".to_owned());
    }
    let http2 = http == HttpVersions::Both;
    let directive = version >= HTTP2_DIRECTIVE;
    let protocols = match tls.map(|tls| tls.versions).unwrap_or_default() {
        TlsVersions::Both => "TLSv1.2 TLSv1.3",
        TlsVersions::Tls12 => "TLSv1.2",
        TlsVersions::Tls13 => "TLSv1.3",
    };
    let verify_client = match tls.map(|tls| tls.refusal).unwrap_or_default() {
        Refusal::Http400 | Refusal::Alert => "on",
        Refusal::None => "optional_no_ca",
    };
    // The relay's header has the client's own address; nginx itself sees the container engine's.
    let (bind, relayed, remote_addr, remote_port) = match site {
        Site::Machine => ("127.0.0.1", "", "$remote_addr", "$remote_port"),
        Site::Pod => ("0.0.0.0", "", "$remote_addr", "$remote_port"),
        Site::Container { .. } => {
            ("0.0.0.0", " proxy_protocol", "$proxy_protocol_addr", "$proxy_protocol_port")
        }
    };
    let applies = |condition: &str| match condition {
        "pod" => site == Site::Pod,
        "ends" => site == Site::Pod || !spec.keep_alive,
        "container" => matches!(site, Site::Container { .. }),
        "root" => site == Site::Container { root: true },
        "alpn-variable" => version >= ALPN_VARIABLE,
        "plain" => spec.plain != PlainPort::Closed,
        "redirect" => spec.plain == PlainPort::RedirectToHttps,
        "serve" => spec.plain == PlainPort::Serve,
        "tls" => tls.is_some(),
        "clients" => tls.is_some_and(|tls| tls.client_ca.is_some()),
        _ => false,
    };
    let mut text = conditional(TEMPLATE, applies);
    for (name, value) in [
        ("{{folder}}", folder),
        ("{{scratch}}", site.scratch(folder)),
        ("{{access_log}}", &site.log(folder, "access.log")),
        ("{{error_log}}", &site.log(folder, "error.log")),
        ("{{control_log}}", &site.log(folder, "control.log")),
        ("{{host}}", &spec.host),
        ("{{plain_port}}", &ports.plain.to_string()),
        ("{{tls_port}}", &ports.tls.to_string()),
        ("{{control_port}}", &ports.control.to_string()),
        ("{{nonce}}", nonce),
        ("{{bind}}", bind),
        ("{{relayed}}", relayed),
        ("{{remote_addr}}", remote_addr),
        ("{{remote_port}}", remote_port),
        ("{{protocols}}", protocols),
        ("{{verify_client}}", verify_client),
        ("{{http2_old}}", if http2 && !directive { " http2" } else { "" }),
        ("{{http2_new}}", if http2 && directive { "http2 on;" } else { "" }),
        ("{{locations}}", &locations(spec, content)?),
    ] {
        text = text.replace(name, value);
    }
    Ok(text)
}

/// Keeps the lines whose conditions all apply.
fn conditional(template: &str, applies: impl Fn(&str) -> bool) -> String {
    let mut open: Vec<bool> = Vec::new();
    let mut out = String::new();
    for line in template.lines() {
        if let Some(condition) = line.strip_prefix("#if ") {
            open.push(applies(condition));
        } else if line == "#endif" {
            open.pop();
        } else if open.iter().all(|holds| *holds) {
            out.push_str(line);
            out.push('\n');
        }
    }
    out
}

fn locations(spec: &ExternalSpec, content: Content) -> Result<String, String> {
    let plain = |text: &str| {
        let fits = |b: u8| b.is_ascii_graphic() && !b"\"'\\${};".contains(&b) || b == b' ';
        text.bytes().all(fits)
    };
    let mut out = String::new();
    for (index, page) in spec.pages.iter().enumerate() {
        let content_type = page.content_type.replace(';', "");
        if !page.path.starts_with('/') || !plain(&page.path) || !plain(&content_type) {
            return Err(format!("the page {:?} cannot stand in nginx's configuration", page.path));
        }
        let _infallible = write!(
            out,
            "location = \"{}\" {{ default_type \"{}\"; try_files /{index} =404; }}\n        ",
            page.path, page.content_type
        );
    }
    match (content, spec.pages.first()) {
        (Content::Same, Some(page)) => {
            let _infallible =
                write!(out, "location / {{ default_type \"{}\"; try_files /0 =404; }}", page.content_type);
        }
        (Content::ByPath, _) | (Content::Same, None) => out.push_str("location / { return 404; }"),
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_lines_whose_conditions_all_apply_are_kept() {
        let text = "a\n#if x\nb\n#if y\nc\n#endif\nd\n#endif\ne\n";
        assert_eq!(conditional(text, |_| true), "a\nb\nc\nd\ne\n");
        assert_eq!(conditional(text, |name| name == "x"), "a\nb\nd\ne\n");
        assert_eq!(conditional(text, |name| name == "y"), "a\ne\n");
    }
}
