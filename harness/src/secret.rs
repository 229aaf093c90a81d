//! How a scenario says which Secret it needs: `Secret::new(NAMESPACE, NAME).key_pair(&client).ca(&ca)`.

use meshproof_model::Resource;

use crate::certificates::{Authority, Certified, Issued};

fn bundle<'a>(roots: impl IntoIterator<Item = &'a Certified>) -> String {
    roots.into_iter().map(Certified::pem).collect()
}

/// A generic Secret, as `kubectl create secret generic` makes it. Istio supports two spellings of its keys.
#[derive(Clone)]
#[must_use]
pub struct Secret {
    namespace: String,
    name: String,
    kind: &'static str,
    entries: serde_json::Map<String, serde_json::Value>,
}

impl Secret {
    /// An empty Secret.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self {
            namespace: namespace.into(),
            name: name.into(),
            kind: "Opaque",
            entries: serde_json::Map::new(),
        }
    }

    fn entry(mut self, key: &str, text: impl Into<String>) -> Self {
        self.entries.insert(key.to_owned(), text.into().into());
        self
    }

    /// With `tls.key` and `tls.crt`.
    pub fn key_pair(self, certificate: &Issued) -> Self {
        self.entry("tls.key", certificate.key().0).entry("tls.crt", certificate.certificate_pem())
    }

    /// With `ca.crt`.
    pub fn ca(self, ca: &Authority) -> Self {
        self.entry("ca.crt", ca.certificate_pem())
    }

    /// With these CA certificates and nothing else of them, as `ca.crt`.
    pub fn ca_bundle<'a>(self, roots: impl IntoIterator<Item = &'a Certified>) -> Self {
        self.entry("ca.crt", bundle(roots))
    }

    /// With these CA certificates as `cacert`, Istio's own spelling.
    pub fn generic_ca_bundle<'a>(self, roots: impl IntoIterator<Item = &'a Certified>) -> Self {
        self.entry("cacert", bundle(roots))
    }

    /// With these CA certificates in PEM, as `ca.crt`.
    pub fn ca_text(self, pem: &str) -> Self {
        self.entry("ca.crt", pem)
    }

    /// With the type `kubernetes.io/tls`, as `kubectl create secret tls` and cert-manager make it.
    pub fn of_tls_type(self) -> Self {
        Self { kind: "kubernetes.io/tls", ..self }
    }

    /// With a revocation list in PEM ([`Authority::revocation_list`]), as `ca.crl`.
    pub fn revocation_list(self, list: &str) -> Self {
        self.entry("ca.crl", list)
    }

    /// With `key` and `cert`, Istio's own spelling.
    pub fn generic_key_pair(self, certificate: &Issued) -> Self {
        self.entry("key", certificate.key().0).entry("cert", certificate.certificate_pem())
    }

    /// With `cacert`, Istio's own spelling.
    pub fn generic_ca(self, ca: &Authority) -> Self {
        self.entry("cacert", ca.certificate_pem())
    }

    /// The Secret as a resource.
    #[must_use]
    pub fn into_resource(self) -> Resource {
        Resource(serde_json::json!({
            "apiVersion": "v1", "kind": "Secret", "type": self.kind,
            "metadata": {"name": self.name, "namespace": self.namespace},
            "stringData": self.entries,
        }))
    }
}
