//! The documents' external services: what each serves.

use meshproof_harness::certificates::Issued;
use meshproof_harness::external::{
    ExternalSpec, HttpVersions, Page, PlainPort, Refusal, TlsPort, TlsVersions,
};
use meshproof_harness::scenario::Promise;

/// The news site of documents 000, 001 and 004.
pub(crate) const CNN: &str = "edition.cnn.com";
/// What its front page of politics says.
pub(crate) const CNN_POLITICS: &str = "<!DOCTYPE html><title>Politics</title><h1>Politics of the day</h1>";

/// What documents 001 and 004 show of it.
pub(crate) const CNN_ANSWERS: &[Promise] = &[Promise {
    url: "http://edition.cnn.com/politics",
    statuses: &[301, 200],
    location: Some("https://edition.cnn.com/politics"),
    version: "HTTP/2",
    body: None,
}];

fn tls(certificate: &Issued, client_ca: Option<&str>) -> TlsPort {
    TlsPort {
        certificate: certificate.certificate_pem().to_owned(),
        key: certificate.key(),
        client_ca: client_ca.map(str::to_owned),
        refusal: Refusal::Http400,
        versions: TlsVersions::Both,
        http: HttpVersions::Both,
    }
}

fn page(path: &str, content_type: &'static str, body: &str) -> Page {
    Page { path: path.to_owned(), content_type, body: body.to_owned() }
}

/// A site that answers 301 to `https` on port 80 and serves on port 443.
pub(crate) fn cnn(certificate: &Issued) -> ExternalSpec {
    ExternalSpec {
        host: CNN.to_owned(),
        plain: PlainPort::RedirectToHttps,
        tls: Some(tls(certificate, None)),
        pages: vec![page("/politics", "text/html", CNN_POLITICS)],
        keep_alive: true,
    }
}

/// The nginx of document 004, which demands a client certificate of `client_ca`.
pub(crate) fn nginx(host: &str, certificate: &Issued, client_ca: &str) -> ExternalSpec {
    let welcome = "<!DOCTYPE html>\n<html>\n<head>\n<title>Welcome to nginx!</title>\n</head>\n\
                   <body>\n<h1>Welcome to nginx!</h1>\n</body>\n</html>\n";
    ExternalSpec {
        host: host.to_owned(),
        plain: PlainPort::Closed,
        tls: Some(tls(certificate, Some(client_ca))),
        pages: vec![page("/", "text/html", welcome)],
        // An open connection keeps the certificates that it was opened with (TLS knows no others), and a proxy may go on using it. Where
        // each request has its own, it shows which credential is in force.
        keep_alive: false,
    }
}

/// The bucket of document 003.
pub(crate) const BUCKET: &str = "samplebucket1234.s3.ap-southeast-2.amazonaws.com";
/// Its OpenID configuration.
pub(crate) const OPENID_CONFIGURATION: &str =
    r#"{"issuer":"https://example.com","jwks_uri":"https://example.com/oauth/discovery/keys"}"#;
/// Its keys.
pub(crate) const DISCOVERY_KEYS: &str = r#"{"keys":[{"kty":"EC","crv":"P-256","kid":"sample"}]}"#;

/// The bucket: two documents and their sub-paths, over TLS alone.
pub(crate) fn bucket(certificate: &Issued) -> ExternalSpec {
    let json = "application/json";
    ExternalSpec {
        host: BUCKET.to_owned(),
        plain: PlainPort::Closed,
        tls: Some(tls(certificate, None)),
        pages: vec![
            page("/.well-known/openid-configuration", json, OPENID_CONFIGURATION),
            page("/.well-known/openid-configuration/v2", json, OPENID_CONFIGURATION),
            page("/oauth/discovery/keys", json, DISCOVERY_KEYS),
            page("/oauth/discovery/keys/sample", json, DISCOVERY_KEYS),
            page("/oauth/discovery/keys-of-old", json, DISCOVERY_KEYS),
        ],
        keep_alive: true,
    }
}

/// The books service of document 002.
pub(crate) const BOOKS: &str = "www.googleapis.com";
/// The title of ISBN 0486424618.
pub(crate) const BOOK_TITLE: &str = "The Comedy of Errors";

/// What document 002 shows of its answer: a book has a title, whichever it is.
pub(crate) const REAL_TITLE: &str = "\"title\"";
/// What the real one answers.
pub(crate) const BOOKS_ANSWERS: &[Promise] = &[Promise {
    url: "https://www.googleapis.com/books/v1/volumes?q=isbn:0486424618",
    statuses: &[200],
    location: None,
    version: "HTTP/2",
    body: Some(REAL_TITLE),
}];

/// The books service: plain requests are sent to `https`.
pub(crate) fn books(certificate: &Issued) -> ExternalSpec {
    let body = format!(
        r#"{{"kind":"books#volumes","totalItems":1,"items":[{{"volumeInfo":{{"title":"{BOOK_TITLE}","publisher":"Courier Corporation","pageCount":64,"language":"en"}}}}]}}"#
    );
    ExternalSpec {
        host: BOOKS.to_owned(),
        plain: PlainPort::RedirectToHttps,
        tls: Some(tls(certificate, None)),
        pages: vec![page("/books/v1/volumes", "application/json", &body)],
        keep_alive: true,
    }
}

/// A server outside that serves one page over TLS, with its name in it, and sends plain requests there.
pub(crate) fn origin(host: &str, certificate: &Issued) -> ExternalSpec {
    ExternalSpec {
        host: host.to_owned(),
        plain: PlainPort::RedirectToHttps,
        tls: Some(tls(certificate, None)),
        pages: vec![page("/private/report", "text/plain", &format!("{host}, for your eyes only"))],
        keep_alive: true,
    }
}
