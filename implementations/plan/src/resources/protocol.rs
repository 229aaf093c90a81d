//! Application protocols, as `pkg/config/protocol/instance.go` and `pkg/config/kube/conversion.go` name them.

/// What a port speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Http,
    /// Also gRPC, which is HTTP/2.
    Http2,
    Https,
    Tls,
    /// Also the database protocols, which the plan passes on as bytes.
    Tcp,
    /// Nothing says; a sidecar looks at the bytes.
    Sniffed,
}

impl Protocol {
    /// Reads a protocol's name, in any case; none where Istio does not know it (`protocol.Parse`).
    pub(crate) fn parse(name: &str) -> Option<Self> {
        Some(match name.to_ascii_lowercase().as_str() {
            "http" => Self::Http,
            "http2" | "grpc" | "grpc-web" => Self::Http2,
            "https" => Self::Https,
            "tls" => Self::Tls,
            "tcp" | "mongo" | "redis" | "mysql" => Self::Tcp,
            _ => return None,
        })
    }

    /// Of a Kubernetes service's port: what its registry says, else the port name's first part, else what well-known
    /// ports speak (`kube.ConvertProtocol`).
    pub(crate) fn of_service_port(number: u16, name: &str, protocol: &str) -> Self {
        if let Some(known) = Self::parse(protocol) {
            return known;
        }
        let lower = name.to_ascii_lowercase();
        let first = if lower.starts_with("grpc-web") {
            "grpc-web"
        } else {
            lower.split('-').next().unwrap_or_default()
        };
        match (Self::parse(first), number) {
            (Some(known), _) => known,
            (None, 25 | 53 | 3306 | 27017) => Self::Tcp,
            (None, _) => Self::Sniffed,
        }
    }

    /// `IsHTTP`.
    pub(crate) fn is_http(self) -> bool {
        matches!(self, Self::Http | Self::Http2)
    }

    /// `IsTLS`.
    pub(crate) fn is_tls(self) -> bool {
        matches!(self, Self::Https | Self::Tls)
    }

    /// `IsHTTPOrSniffed`.
    pub(crate) fn is_http_or_sniffed(self) -> bool {
        self.is_http() || self == Self::Sniffed
    }
}
