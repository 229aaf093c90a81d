//! Application protocols, as `pkg/config/protocol/instance.go` and `pkg/config/kube/conversion.go` name them.

/// What a port speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1.
    Http,
    /// HTTP/2, gRPC and gRPC-Web, which Istio treats alike.
    Http2,
    /// A forward proxy, only for a Sidecar's egress listener.
    HttpProxy,
    /// HTTP inside TLS of the client's own.
    Https,
    /// TLS of the client's own.
    Tls,
    /// Also Redis, whose filter is off by default.
    Tcp,
    /// MongoDB.
    Mongo,
    /// MySQL.
    MySql,
    /// Istio leaves such ports alone.
    Udp,
    /// No declaration. A sidecar inspects the first bytes.
    Sniffed,
}

impl Protocol {
    /// Reads a protocol's name, in any case. None where Istio does not know it (`protocol.Parse`).
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Some(match name.to_ascii_lowercase().as_str() {
            "http" => Self::Http,
            "http2" | "grpc" | "grpc-web" => Self::Http2,
            "http_proxy" => Self::HttpProxy,
            "https" => Self::Https,
            "tls" => Self::Tls,
            "tcp" | "redis" => Self::Tcp,
            "mongo" => Self::Mongo,
            "mysql" => Self::MySql,
            "udp" => Self::Udp,
            _ => return None,
        })
    }

    /// Of a Kubernetes Service's port (`kube.ConvertProtocol`): `appProtocol`, else the first part of the port's name,
    /// else TCP for well-known ports.
    #[must_use]
    pub fn of_service_port(number: u16, name: &str, app_protocol: &str) -> Self {
        let name = match app_protocol {
            "" => name,
            "kubernetes.io/h2c" => return Self::Http2,
            "kubernetes.io/ws" => return Self::Http,
            "kubernetes.io/wss" => return Self::Https,
            declared => declared,
        };
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
    #[must_use]
    pub fn is_http(self) -> bool {
        matches!(self, Self::Http | Self::Http2 | Self::HttpProxy)
    }

    /// `IsTLS`.
    #[must_use]
    pub fn is_tls(self) -> bool {
        matches!(self, Self::Https | Self::Tls)
    }

    /// `IsTCP`.
    #[must_use]
    pub fn is_tcp(self) -> bool {
        matches!(self, Self::Https | Self::Tls | Self::Tcp | Self::Mongo | Self::MySql)
    }

    /// `IsHTTPOrSniffed`.
    #[must_use]
    pub fn is_http_or_sniffed(self) -> bool {
        self.is_http() || self == Self::Sniffed
    }
}
