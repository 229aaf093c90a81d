//! nginx in a pod as an external service, for targets that run one in a cluster: what it is given to read, and how its log
//! becomes evidence. The same configuration and the same facts as of the process and the container.

use std::path::Path;

use crate::config::{self, Content, Ports, Site, Version};
use crate::log::{Recorder, flush_marker};
use meshproof_harness::external::{ExternalSpec, Page, PlainPort, PrivateKeyPem};
use meshproof_harness::store::Store;

/// The folder in which the pod finds its files.
pub const POD_FOLDER: &str = "/etc/meshproof";
/// The port of the suite's own door in the pod: `/flush-marker?token=TOKEN` is answered with 200 and logged; any other path: 404.
pub const POD_CONTROL: u16 = 9181;

/// The oldest nginx that the configuration is for; a newer one warns of `listen ... http2` and takes it.
const VERSION: Version = (1, 22, 0);
/// The documents' ports, as they are.
const PORTS: Ports = Ports { plain: 80, tls: 443, control: POD_CONTROL };

/// What an nginx in a pod serves.
#[derive(Clone, Debug)]
pub struct PodService {
    spec: ExternalSpec,
    content: Content,
    ports: Ports,
}

/// The files of such a pod, by name in [`POD_FOLDER`].
#[derive(Clone, Debug)]
pub struct PodFiles {
    /// The public files: `nginx.conf`, and the pages.
    pub public: Vec<(String, String)>,
    /// Certificates, and the key.
    pub private: Vec<(String, PrivateKeyPem)>,
}

impl PodService {
    /// An external service, on the documents' ports.
    #[must_use]
    pub fn external(spec: ExternalSpec) -> Self {
        Self { spec, content: Content::ByPath, ports: PORTS }
    }

    /// A plain service inside the mesh, which gives the same answer to every request.
    #[must_use]
    pub fn same(host: &str, port: u16, body: &str) -> Self {
        let page = Page { path: "/".to_owned(), content_type: "text/plain".into(), body: body.to_owned() };
        let spec = ExternalSpec {
            aliases: Vec::new(),
            host: host.to_owned(),
            plain: PlainPort::Serve,
            tls: None,
            ipv6: false,
            tcp: Vec::new(),
            pages: vec![page],
            keep_alive: true,
        };
        Self { spec, content: Content::Same, ports: Ports { plain: port, ..PORTS } }
    }

    /// The host that it answers for.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.spec.host
    }

    /// The ports on which it serves.
    #[must_use]
    pub fn ports(&self) -> Vec<u16> {
        self.ports.of(&self.spec).map(|(_, own)| own).collect()
    }

    /// What it is given to read.
    ///
    /// # Errors
    /// The specification asks for something that nginx or its configuration language cannot do.
    pub fn files(&self) -> Result<PodFiles, String> {
        let folder = Path::new(POD_FOLDER);
        let text = config::render(folder, &self.spec, self.content, self.ports, "pod", VERSION, Site::Pod)?;
        let mut public = vec![("nginx.conf".to_owned(), text)];
        let pages = self.spec.pages.iter().enumerate();
        public.extend(pages.map(|(index, page)| (format!("pages/{index}"), page.body.clone())));
        let mut private = Vec::new();
        if let Some(tls) = &self.spec.tls {
            private.push(("tls.crt".to_owned(), PrivateKeyPem(tls.certificate.clone())));
            private.push(("tls.key".to_owned(), tls.key.clone()));
            private
                .extend(tls.client_ca.iter().map(|ca| ("clients.crt".to_owned(), PrivateKeyPem(ca.clone()))));
        }
        Ok(PodFiles { public, private })
    }

    /// Reads the pod's log into `store`.
    #[must_use]
    pub fn log(&self, store: Store) -> PodLog {
        PodLog { recorder: Recorder::new(store, &self.spec, self.ports, Site::Pod) }
    }
}

/// What a line of a pod's log was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PodLine {
    /// A request, or a message about a connection. Its facts are in the store.
    Seen,
    /// A request of the suite itself with this token: everything that was answered before it is in the store.
    FlushMarker(String),
    /// The version of nginx: `nginx/1.28.0`.
    Version(String),
}

/// Turns the lines of a pod's standard output into evidence.
pub struct PodLog {
    recorder: Recorder,
}

impl PodLog {
    /// One line, without its end.
    pub fn line(&mut self, text: &str) -> PodLine {
        if text.starts_with('{') {
            if let Some(token) = flush_marker(text) {
                return PodLine::FlushMarker(token);
            }
            self.recorder.access(text);
            return PodLine::Seen;
        }
        // `2026/01/01 00:00:00 [notice] 1#1: nginx/1.28.0`, at its start.
        if let Some((_, version)) = text.split_once("[notice]").and_then(|(_, rest)| rest.split_once(": "))
            && version.starts_with("nginx/")
            && version.len() < 40
        {
            return PodLine::Version(version.to_owned());
        }
        self.recorder.error(text);
        PodLine::Seen
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use meshproof_model::Fact;

    fn plain() -> PodService {
        PodService::same("welcome.default.svc.cluster.local", 8080, "Hello")
    }

    #[test]
    fn a_flush_marker_a_version_and_a_request_are_distinguished() {
        let store = Store::new();
        let mut log = plain().log(store.clone());
        assert_eq!(
            log.line(r#"{"flush_marker":"run-seat.00001"}"#),
            PodLine::FlushMarker("run-seat.00001".to_owned())
        );
        let start = "2026/01/01 00:00:00 [notice] 1#1: nginx/1.28.0";
        assert_eq!(log.line(start), PodLine::Version("nginx/1.28.0".to_owned()));
        assert!(store.is_empty());
        let request = r#"{"connection":"7","remote_addr":"10.0.0.9","remote_port":"1","server_port":"8080","request":"GET / HTTP/1.1","method":"GET","target":"/","protocol":"HTTP/1.1","status":"200","tls":{"protocol":"","cipher":"","server_name":"","alpn":"","client_verify":"","client_subject":"","client_issuer":"","client_serial":"","client_certificate":""},"headers":{"host":"example.com","user-agent":"meshproof/run-seat.00002"}}"#;
        assert_eq!(log.line(request), PodLine::Seen);
        let ports: Vec<u16> =
            store.with(|all| all.iter().filter_map(|e| e.fact.as_request().map(|r| r.port)).collect());
        assert_eq!(ports, [8080], "the pod's port is the documented one");
    }

    #[test]
    fn a_connection_without_a_request_is_evidence_with_the_address_that_it_came_from() {
        let store = Store::new();
        let spec = ExternalSpec {
            aliases: Vec::new(),
            host: "edition.cnn.com".to_owned(),
            plain: PlainPort::RedirectToHttps,
            tls: None,
            ipv6: false,
            tcp: Vec::new(),
            pages: Vec::new(),
            keep_alive: true,
        };
        let line = "2026/01/01 00:00:00 [info] 7#7: *4 client closed connection while waiting for request, client: 10.0.0.9, server: 0.0.0.0:80";
        PodService::external(spec).log(store.clone()).line(line);
        let peers: Vec<String> = store.with(|all| {
            all.iter()
                .filter_map(|e| match &e.fact {
                    Fact::Connection(c) => Some(c.peer.clone()),
                    Fact::Exchange(_)
                    | Fact::AccessLog(_)
                    | Fact::Request(_)
                    | Fact::Change(_)
                    | Fact::Credential(_)
                    | Fact::Note { .. } => None,
                })
                .collect()
        });
        assert_eq!(peers, ["10.0.0.9"]);
    }

    #[test]
    fn the_pod_writes_one_stream_keeps_no_connection_and_answers_everything_alike() {
        let files = plain().files().unwrap();
        let conf = &files.public[0].1;
        for line in [
            "listen 0.0.0.0:8080;",
            "keepalive_timeout 0;",
            "error_log \"/dev/stdout\" info;",
            "access_log \"/dev/stdout\" evidence;",
            "access_log \"/dev/stdout\" flush_marker;",
            "location / { default_type \"text/plain\"; try_files /0 =404; }",
            "pid \"/tmp/nginx.pid\";",
        ] {
            assert!(conf.contains(line), "{line} is missing in\n{conf}");
        }
        assert!(!conf.contains("{{") && files.private.is_empty());
    }
}
