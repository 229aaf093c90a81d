//! curl's command line.

use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;
use meshproof_harness::target::TargetError;
use meshproof_harness::token;
use meshproof_harness::workload::{
    Delivery, HttpChoice, MAX_BODY_READ, MAX_HEAD, MAX_HOPS, Method, RequestSpec,
};

use super::trace::MARK;
use crate::manifests::{ROOTS_FOLDER, ROOTS_KEY};

/// How curl names standard error as the file of a trace.
const STANDARD_ERROR: &str = "%";
/// How many bytes of a trace are read: four and a half for each byte of a head, for every hop, and the bodies
/// of redirects. A longer trace is cut, which the exchange says.
pub const MAX_TRACE: usize = 5 * MAX_HEAD * MAX_HOPS;
/// How many bytes of a body are read.
pub const MAX_BODY: usize = MAX_BODY_READ as usize;

/// The program that is run in the pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CurlCommand {
    /// Program and arguments. They contain no secret, because other processes of the pod can read them.
    pub argv: Vec<String>,
    /// Standard input: the client's certificate and key, if any, then the body.
    pub stdin: Bytes,
}

/// Where curl connects to, and which authorities it trusts.
#[derive(Clone, Copy, Debug, Default)]
pub struct Route<'a> {
    /// The address of every connection, whatever host the URL names; a sidecar captures it and routes by
    /// server name and Host, so that no name server needs to know the host. Absent: the address that the
    /// cluster's name servers give.
    pub address: Option<&'a str>,
    /// A port other than the URL's.
    pub port: Option<u16>,
    /// The host is the document's own: curl trusts the authorities of its image and not the suite's, and the
    /// page may be large.
    pub live: bool,
}

/// curl's command line for a request.
///
/// # Errors
/// [`TargetError::Unable`]: curl cannot send such a request.
pub fn command(
    request: &RequestSpec,
    url: &str,
    route: Route<'_>,
    limit: Duration,
) -> Result<CurlCommand, TargetError> {
    if let Some(what) = beyond_curl(request) {
        return Err(TargetError::Unable(format!(
            "the workload of a cluster is a stock curl, which cannot send {what}"
        )));
    }
    let mut argv: Vec<String> =
        ["curl", "-q", "-sS", "--globoff", "--path-as-is", "--noproxy", "*", "--trace", STANDARD_ERROR]
            .map(str::to_owned)
            .to_vec();
    let mut option = |words: &[&str]| argv.extend(words.iter().map(|w| (*w).to_owned()));
    option(&["--write-out", &format!("%{{stderr}}\n{MARK}\n%{{certs}}")]);
    option(&["--max-time", &format!("{:.3}", limit.as_secs_f64())]);
    let port = route.port.map(|p| p.to_string()).unwrap_or_default();
    if let Some(address) = route.address {
        option(&["--connect-to", &format!("::{}:{port}", bracketed(address))]);
    }
    if !route.live {
        option(&["--cacert", &format!("{ROOTS_FOLDER}/{ROOTS_KEY}")]);
    }
    if request.accept_any_server {
        option(&["-k"]);
    }
    if request.follow_redirects {
        option(&["-L", "--max-redirs", &(MAX_HOPS - 1).to_string()]);
    }
    match (request.http, url.starts_with("https:")) {
        (HttpChoice::Negotiated, _) => {}
        // curl sends no request before the answer to the one before has come.
        (HttpChoice::Http1 | HttpChoice::Pipelined, _) => option(&["--http1.1"]),
        (HttpChoice::Http10, _) => option(&["--http1.0"]),
        (HttpChoice::Http2, true) => option(&["--http2"]),
        (HttpChoice::Http2, false) => option(&["--http2-prior-knowledge"]),
    }
    option(&["-A", &token::user_agent(&request.token)]);
    for (name, value) in &request.headers {
        option(&["-H", &format!("{name}: {value}")]);
    }
    if let Some(host) = &request.host_header {
        option(&["-H", &format!("Host: {host}")]);
    }
    if request.method == Method::HEAD {
        option(&["-I"]);
    } else if request.method != Method::GET || !request.body.is_empty() {
        option(&["-X", request.method.as_str()]);
    }
    if !request.body.is_empty() {
        let named = |name: &str| request.headers.iter().any(|(n, _)| n.eq_ignore_ascii_case(name));
        option(&["--data-binary", "@-"]);
        if !named("content-type") {
            option(&["-H", "Content-Type:"]);
        }
        option(&[
            "-H",
            if request.delivery == Delivery::Expecting { "Expect: 100-continue" } else { "Expect:" },
        ]);
        if request.delivery == Delivery::Pieces {
            option(&["-H", "Transfer-Encoding: chunked"]);
        }
    }
    option(&["--", url]);
    let Some(identity) = &request.identity else {
        let argv = if route.live { without_bodies(argv) } else { argv };
        return Ok(CurlCommand { argv, stdin: request.body.clone() });
    };
    let pem = format!("{}\n{}", identity.certificate, identity.key.0);
    // The file exists for the length of the request, and only its owner can read it.
    let script = "set -eu; umask 077; d=$(mktemp -d); trap 'rm -rf \"$d\"' EXIT; n=$1; shift; \
                  head -c \"$n\" > \"$d/identity.pem\"; c=$1; shift; code=0; \"$c\" -E \"$d/identity.pem\" \
                  \"$@\" || code=$?; \
                  exit $code";
    let mut wrapped = vec!["sh".to_owned(), "-c".to_owned(), script.to_owned(), "sh".to_owned()];
    wrapped.push(pem.len().to_string());
    // curl heeds `-q` only as its first argument.
    wrapped.extend(argv);
    let stdin = [pem.as_bytes(), request.body.as_ref()].concat();
    Ok(CurlCommand { argv: wrapped, stdin: stdin.into() })
}

/// The same without the bytes of received bodies in the trace: a page of several megabytes, at sixteen bytes
/// per line, would take longer than a request may. A line that begins with `<` or `=` heads the lines that
/// follow it. curl writes the trace to a file descriptor of its own, because it does not buffer what it
/// writes to standard error.
fn without_bodies(mut argv: Vec<String>) -> Vec<String> {
    let script = "set -u; exec 3>&1; w=$(mktemp); trap 'rm -f \"$w\"' EXIT; \
                  code=$({ { \"$@\" 5>&1 >&3 2>\"$w\"; echo $? >&4; } | \
                  sed -n '/^[<=]/h;G;/\\n<= Recv data/!P' >&2; } 4>&1); cat \"$w\" >&2; exit \"$code\"";
    if let Some(to) = argv.iter_mut().find(|word| *word == STANDARD_ERROR) {
        "/dev/fd/5".clone_into(to);
    }
    let mut wrapped = ["sh", "-c", script, "sh"].map(str::to_owned).to_vec();
    wrapped.extend(argv);
    wrapped
}

fn bracketed(address: &str) -> String {
    match address.parse::<IpAddr>() {
        Ok(IpAddr::V6(address)) => format!("[{address}]"),
        Ok(IpAddr::V4(_)) | Err(_) => address.to_owned(),
    }
}

fn beyond_curl(request: &RequestSpec) -> Option<&'static str> {
    if request.websocket.is_some() {
        Some("a WebSocket message")
    } else if request.times > 1 {
        Some("several requests over one connection")
    } else if request.segment.is_some() {
        Some("a request in several writes")
    } else if !request.trailers.is_empty() {
        Some("trailers of a request")
    } else if request.server_name.is_some() {
        Some("a server name other than the URL's host")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use meshproof_harness::external::PrivateKeyPem;
    use meshproof_harness::workload::ClientIdentity;

    fn to(address: &str) -> Route<'_> {
        Route { address: Some(address), ..Route::default() }
    }

    fn words(request: &RequestSpec) -> Vec<String> {
        command(request, &request.url, to("10.1.0.7"), Duration::from_secs(10)).unwrap().argv
    }

    fn has(argv: &[String], wanted: &[&str]) -> bool {
        argv.windows(wanted.len()).any(|w| w == wanted)
    }

    #[test]
    fn a_request_has_the_url_last_and_goes_to_the_address_on_the_urls_port() {
        let argv = words(&RequestSpec::get("http://edition.cnn.com/politics", "r-s.00001"));
        assert!(has(&argv, &["--connect-to", "::10.1.0.7:"]));
        assert!(has(&argv, &["-A", "meshproof/r-s.00001"]));
        assert!(has(&argv, &["--", "http://edition.cnn.com/politics"]));
        assert!(!has(&argv, &["-L"]) && !has(&argv, &["-X", "GET"]));
    }

    #[test]
    fn an_ipv6_address_is_in_brackets() {
        let request = RequestSpec::get("http://a.example/", "t");
        let route = Route { port: Some(8080), ..to("fd00::7") };
        let argv = command(&request, &request.url, route, Duration::from_secs(1)).unwrap().argv;
        assert!(has(&argv, &["--connect-to", "::[fd00::7]:8080"]));
    }

    #[test]
    fn a_request_to_a_real_host_is_resolved_by_name_servers_and_trusts_the_authorities_of_the_image() {
        let request = RequestSpec::get("https://edition.cnn.com/politics", "t");
        let route = Route { live: true, ..Route::default() };
        let argv = command(&request, &request.url, route, Duration::from_secs(1)).unwrap().argv;
        for absent in ["--connect-to", "--cacert", "-k", "%"] {
            assert!(!has(&argv, &[absent]), "{absent} in {argv:?}");
        }
        let argv = command(&request, &request.url, to("10.1.0.7"), Duration::from_secs(1)).unwrap().argv;
        assert!(has(&argv, &["--cacert", "/etc/meshproof-roots/ca-certificates.crt"]));
    }

    #[cfg(unix)]
    #[test]
    fn a_large_page_is_left_out_of_the_trace_and_everything_else_and_the_exit_code_are_kept() {
        // Writes what curl writes, in its order: the trace, the body, the messages after the trace.
        let curl = r#"printf '== Info: a\n=> Send header, 3 bytes\n0000: 47 45 54 GET\n<= Recv header, 2 bytes\n0000: 0d 0a ..\n' > "$1"
                      printf '<= Recv data, 4 bytes\n0000: 42 4f 44 59 BODY\n0010: 42 BODY\n<= Recv header, 1 bytes\n0000: 41 A\n' >> "$1"
                      printf 'the body'; printf '\n== Meshproof\nthe certificates\ncurl: (18) cut\n' >&2; exit 18"#;
        let argv = ["sh", "-c", curl, "curl", STANDARD_ERROR].map(str::to_owned).to_vec();
        let wrapped = without_bodies(argv);
        let output = std::process::Command::new(&wrapped[0]).args(&wrapped[1..]).output().unwrap();
        assert_eq!(output.status.code(), Some(18));
        assert_eq!(String::from_utf8_lossy(&output.stdout), "the body");
        let kept = "== Info: a\n=> Send header, 3 bytes\n0000: 47 45 54 GET\n<= Recv header, 2 bytes\n0000: \
            0d 0a ..\n\
                    <= Recv header, 1 bytes\n0000: 41 A\n\n== Meshproof\nthe certificates\ncurl: (18) cut\n";
        assert_eq!(String::from_utf8_lossy(&output.stderr), kept);
    }

    #[test]
    fn a_key_is_never_an_argument() {
        let identity =
            ClientIdentity { certificate: "CERTIFICATE".to_owned(), key: PrivateKeyPem("SECRET".to_owned()) };
        let request = RequestSpec { identity: Some(identity), ..RequestSpec::get("https://a.example/", "t") };
        let command = command(&request, &request.url, to("10.1.0.7"), Duration::from_secs(1)).unwrap();
        assert!(!command.argv.concat().contains("SECRET"));
        assert_eq!(command.stdin, "CERTIFICATE\nSECRET");
        assert!(has(&command.argv, &["sh", "18", "curl", "-q"]));
    }

    #[test]
    fn a_request_that_curl_cannot_send_is_unsupported_by_the_target() {
        let request = RequestSpec { times: 2, ..RequestSpec::get("http://a.example/", "t") };
        let refused = command(&request, &request.url, to("10.1.0.7"), Duration::from_secs(1));
        assert!(matches!(refused, Err(TargetError::Unable(_))));
    }
}
