//! How a scenario says which Secret it needs: `Secret::new(NAMESPACE, NAME).key_pair(&client).ca(&ca)`.

use meshproof_model::Resource;

use crate::certificates::{Authority, Issued};

/// A generic Secret, as `kubectl create secret generic` makes it. Istio supports two spellings of its keys.
#[derive(Clone)]
#[must_use]
pub struct Secret {
    namespace: String,
    name: String,
    entries: serde_json::Map<String, serde_json::Value>,
}

impl Secret {
    /// An empty Secret.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { namespace: namespace.into(), name: name.into(), entries: serde_json::Map::new() }
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
            "apiVersion": "v1", "kind": "Secret", "type": "Opaque",
            "metadata": {"name": self.name, "namespace": self.namespace},
            "stringData": self.entries,
        }))
    }
}
