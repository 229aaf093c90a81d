//! The documents' external services: what each serves.

use meshproof_harness::certificates::Issued;
use meshproof_harness::claim::{Claim, Claims};
use meshproof_harness::external_server::{ExternalServer, Nginx, Site};
use meshproof_harness::mesh::{External, Mesh, Stop};
use meshproof_harness::workload::Method;

/// The identity that an impostor claims: the workload's own. The certificate's issuer must decide, not the name in it.
pub(crate) const SLEEP_IDENTITY: &str = "spiffe://cluster.local/ns/default/sa/sleep";

/// The news site of the documents.
pub(crate) const CNN: &str = "edition.cnn.com";
/// What its front page of politics says.
pub(crate) const CNN_POLITICS: &str = "<!DOCTYPE html><title>Politics</title><h1>Politics of the day</h1>";

/// The news site, which redirects plain requests to `https`.
pub(crate) fn cnn(certificate: &Issued) -> ExternalServer {
    Site::at(CNN).certificate(certificate).redirecting_to_https().html("/politics", CNN_POLITICS)
}

/// Sends it a GET and a HEAD for a target that is easily altered, and claims that they arrived as they were sent.
pub(crate) async fn request_preserved(mesh: &Mesh, cnn: &External<'_>) -> Result<Claim, Stop> {
    let target = "/Politics/Today~1?Edition=World&q=a%20b+c&empty=";
    let url = format!("http://{CNN}{target}");
    let get = mesh.workload("sleep").get(&url).await?;
    let head = mesh.workload("sleep").method(Method::HEAD).get(&url).await?;
    let get_arrived = cnn.received(&get).method("GET").authority(CNN).target(target);
    Ok(get_arrived.and(cnn.received(&head).method("HEAD").authority(CNN).target(target)))
}

/// The nginx of "Egress Gateways with TLS Origination", which serves over TLS only.
pub(crate) fn nginx(host: &str, certificate: &Issued) -> ExternalServer {
    let welcome = "<!DOCTYPE html>\n<html>\n<head>\n<title>Welcome to nginx!</title>\n</head>\n\
                   <body>\n<h1>Welcome to nginx!</h1>\n</body>\n</html>\n";
    // TLS authenticates a connection once, when it is opened, and a proxy may keep an open connection in use after its credential
    // has changed. With a new connection for each request, each request shows which credential is in force.
    Nginx::at(host).certificate(certificate).html("/", welcome).one_request_per_connection()
}

/// The S3 bucket of the document on routing by path.
pub(crate) const BUCKET: &str = "samplebucket1234.s3.ap-southeast-2.amazonaws.com";
/// The name in its certificate.
pub(crate) const BUCKETS: &str = "*.s3.ap-southeast-2.amazonaws.com";
/// Its OpenID configuration.
pub(crate) const OPENID_CONFIGURATION: &str =
    r#"{"issuer":"https://example.com","jwks_uri":"https://example.com/oauth/discovery/keys"}"#;
/// Its keys.
pub(crate) const DISCOVERY_KEYS: &str = r#"{"keys":[{"kty":"EC","crv":"P-256","kid":"sample"}]}"#;

/// The bucket: two documents and paths that begin with theirs, over TLS only.
pub(crate) fn bucket(certificate: &Issued) -> ExternalServer {
    Site::at(BUCKET)
        .certificate(certificate)
        .json("/.well-known/openid-configuration", OPENID_CONFIGURATION)
        .json("/.well-known/openid-configuration/v2", OPENID_CONFIGURATION)
        .json("/oauth/discovery/keys", DISCOVERY_KEYS)
        .json("/oauth/discovery/keys/sample", DISCOVERY_KEYS)
        .json("/oauth/discovery/keys-of-old", DISCOVERY_KEYS)
}

/// The books service of "Consuming External Web Services".
pub(crate) const BOOKS: &str = "www.googleapis.com";
/// The title of ISBN 0486424618.
pub(crate) const BOOK_TITLE: &str = "The Comedy of Errors";
/// What every book in the real service's answer has.
pub(crate) const REAL_TITLE: &str = "\"title\"";

/// The books service, which redirects plain requests to `https`, and another interface of the same provider.
pub(crate) fn books(certificate: &Issued) -> ExternalServer {
    let body = format!(
        r#"{{"kind":"books#volumes","totalItems":1,"items":[{{"volumeInfo":{{"title":"{BOOK_TITLE}","publisher":"Courier Corporation","pageCount":64,"language":"en"}}}}]}}"#
    );
    Site::at(BOOKS)
        .certificate(certificate)
        .redirecting_to_https()
        .json("/books/v1/volumes", &body)
        .json("/calendar/v3/users/me/calendarList", r#"{"kind":"calendar#calendarList","items":[]}"#)
}

/// The page of [`origin`].
pub(crate) const REPORT: &str = "/private/report";

/// A server that serves one page over TLS, with its host in it, and redirects plain requests to `https`.
pub(crate) fn origin(host: &str, certificate: &Issued) -> ExternalServer {
    Site::at(host)
        .certificate(certificate)
        .redirecting_to_https()
        .text(REPORT, &format!("{host}, for your eyes only"))
}
