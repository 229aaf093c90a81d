//! How a scenario says which external service it needs: `Site::at(HOST).certificate(&certificate).html("/", PAGE)`.

use crate::certificates::{Authority, Issued};
use crate::conversation::TcpProtocol;
use crate::external::{
    Documented, ExternalSpec, HttpVersions, NamedCertificate, Page, PlainPort, PrivateKeyPem, Refusal,
    TcpPort, TlsPort, TlsVersions,
};

/// A site on the internet that a document uses: every kind of server is suitable.
#[derive(Debug)]
pub struct Site;

impl Site {
    /// A server for this host, with both ports closed. Every connection takes one request after another.
    pub fn at(host: impl Into<String>) -> ExternalServer {
        ExternalServer::of(host.into(), Documented::Site)
    }
}

/// The nginx that a document deploys: a real one, if it is installed.
#[derive(Debug)]
pub struct Nginx;

impl Nginx {
    /// A server for this host, with both ports closed. Every connection takes one request after another.
    pub fn at(host: impl Into<String>) -> ExternalServer {
        ExternalServer::of(host.into(), Documented::Nginx)
    }
}

/// The external service that a scenario needs, for [`crate::mesh::Mesh::deploy_external`].
#[derive(Clone, Debug)]
#[must_use]
pub struct ExternalServer {
    spec: ExternalSpec,
    documented: Documented,
}

impl ExternalServer {
    fn of(host: String, documented: Documented) -> Self {
        let spec = ExternalSpec {
            host,
            aliases: Vec::new(),
            plain: PlainPort::Closed,
            tls: None,
            ipv6: false,
            tcp: Vec::new(),
            pages: Vec::new(),
            keep_alive: true,
        };
        Self { spec, documented }
    }

    /// Serves HTTPS on port 443 with this certificate.
    pub fn certificate(mut self, certificate: &Issued) -> Self {
        self.spec.tls = Some(TlsPort {
            certificate: certificate.certificate_pem().to_owned(),
            key: certificate.key(),
            client_ca: None,
            refusal: Refusal::default(),
            versions: TlsVersions::default(),
            http: HttpVersions::default(),
            by_name: Vec::new(),
        });
        self
    }

    /// Answers for these hosts, too, at the same address: clients tell them apart by server name and Host. Its certificate must
    /// hold their names. The evidence of all of them is that of the first host.
    pub fn also_for(mut self, hosts: &[&str]) -> Self {
        self.spec.aliases = hosts.iter().map(|host| (*host).to_owned()).collect();
        self
    }

    fn tls(mut self, change: impl FnOnce(&mut TlsPort)) -> Self {
        if let Some(tls) = &mut self.spec.tls {
            change(tls);
        }
        self
    }

    /// Presents this certificate to clients that ask for this server name, and is the suite's own server: a stock nginx reads
    /// the certificates that it presents. After [`Self::certificate`].
    pub fn certificate_for(self, server_name: &str, certificate: &Issued) -> Self {
        self.chain_for(server_name, certificate.certificate_pem(), certificate.key())
    }

    /// The same, with the chain as it is sent, in PEM.
    pub fn chain_for(self, server_name: &str, chain: &str, key: PrivateKeyPem) -> Self {
        let server_name = server_name.to_ascii_lowercase();
        let named = NamedCertificate { server_name, certificate: chain.to_owned(), key };
        self.tls(|tls| tls.by_name.push(named)).embedded()
    }

    /// Requires client certificates of this CA. After [`Self::certificate`].
    pub fn requiring_clients_of(self, ca: &Authority) -> Self {
        self.tls(|tls| tls.client_ca = Some(ca.certificate_pem().to_owned()))
    }

    /// Asks for a client certificate of this CA, and serves every client all the same. After [`Self::certificate`].
    pub fn asking_clients_of(self, ca: &Authority) -> Self {
        self.requiring_clients_of(ca).tls(|tls| tls.refusal = Refusal::None)
    }

    /// Offers these TLS versions. After [`Self::certificate`].
    pub fn tls_versions(self, versions: TlsVersions) -> Self {
        self.tls(|tls| tls.versions = versions)
    }

    /// Offers these HTTP versions by ALPN. After [`Self::certificate`].
    pub fn http_versions(self, versions: HttpVersions) -> Self {
        self.tls(|tls| tls.http = versions)
    }

    /// Answers plain requests on port 80 with 301 to the same URL with `https`.
    pub fn redirecting_to_https(mut self) -> Self {
        self.spec.plain = PlainPort::RedirectToHttps;
        self
    }

    /// Serves on port 80, in plain text, what it serves on port 443.
    pub fn serving_in_clear(mut self) -> Self {
        self.spec.plain = PlainPort::Serve;
        self
    }

    /// Closes port 80, as it is at first.
    pub fn closed_in_clear(mut self) -> Self {
        self.spec.plain = PlainPort::Closed;
        self
    }

    /// Serves this text as HTML. The query of a request does not matter; paths without a page get 404.
    pub fn html(self, path: &str, body: &str) -> Self {
        self.page(path, "text/html", body)
    }

    /// Serves this text as JSON.
    pub fn json(self, path: &str, body: &str) -> Self {
        self.page(path, "application/json", body)
    }

    /// Serves this text as it is.
    pub fn text(self, path: &str, body: &str) -> Self {
        self.page(path, "text/plain", body)
    }

    fn page(mut self, path: &str, content_type: &'static str, body: &str) -> Self {
        self.spec.pages.push(Page {
            path: path.to_owned(),
            content_type: content_type.into(),
            body: body.to_owned(),
        });
        self
    }

    /// Speaks something else than HTTP on this port: inside TLS, with the settings of the HTTPS port so far, if it has one, and
    /// otherwise in plain text. It is the suite's own server then.
    pub fn speaking(mut self, number: u16, protocol: TcpProtocol) -> Self {
        let mut tls = self.spec.tls.clone();
        if let Some(tls) = tls.as_mut().filter(|tls| tls.refusal == Refusal::Http400) {
            tls.refusal = Refusal::Alert;
        }
        self.spec.tcp.push(TcpPort { number, protocol, tls });
        self.embedded()
    }

    /// Listens on IPv6, and on IPv6 alone. It is the suite's own server then.
    pub fn on_ipv6(mut self) -> Self {
        self.spec.ipv6 = true;
        self.embedded()
    }

    /// Closes every connection after one request.
    pub fn one_request_per_connection(mut self) -> Self {
        self.spec.keep_alive = false;
        self
    }

    /// The suite's own server, whatever kind of server the run asks for: the scenario needs evidence or behaviour that a stock
    /// nginx cannot give ([`Documented::Embedded`]).
    pub fn embedded(mut self) -> Self {
        self.documented = Documented::Embedded;
        self
    }

    /// The host that it answers for.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.spec.host
    }

    /// What a target deploys.
    #[must_use]
    pub fn into_parts(self) -> (ExternalSpec, Documented) {
        (self.spec, self.documented)
    }
}

impl From<(ExternalSpec, Documented)> for ExternalServer {
    fn from((spec, documented): (ExternalSpec, Documented)) -> Self {
        Self { spec, documented }
    }
}
