//! What a scenario finds in place before its document begins: workloads with their sidecars, gateways, services
//! inside the mesh. A target makes it; the document's resources are applied on top.

use std::collections::BTreeMap;
use std::net::IpAddr;

/// What is in place before the document begins.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Topology {
    /// Applications with a sidecar each.
    pub workloads: Vec<Workload>,
    /// Gateways, each a proxy without an application.
    pub gateways: Vec<Gateway>,
    /// Services in the mesh's registry that the suite runs without a sidecar, to be called from inside.
    pub services: Vec<PlainService>,
}

/// An application with a sidecar.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Workload {
    /// Also its sidecar's name, and its `app` label.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// The labels of its pods besides `app`, by which a DestinationRule's subsets select them.
    pub labels: BTreeMap<String, String>,
    /// The ports it may dial through its sidecar; each is a capture address in a local target.
    pub dials: Vec<u16>,
    /// The addresses with a port that it may dial, where Istio tells services apart by their address; each is a capture address
    /// of its own in a local target.
    pub dials_at: Vec<(IpAddr, u16)>,
    /// The application that it serves, as Service NAME in its namespace. None: it is a client alone.
    pub serves: Option<Application>,
}

/// An application that calls an external service through its sidecar. `GET {path}ID` makes it send a GET for
/// `https://{host}{target}ID`. It answers with 200: with the external service's body if that answered with 200, else with
/// the JSON object `{"error": failure}`. An ID consists of at most [`Application::MAX_ID`] letters, digits and dashes; all
/// else gets 404.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Application {
    /// The port of its Service.
    pub port: u16,
    /// What its own paths begin with: `/details/`.
    pub path: String,
    /// The external service.
    pub host: String,
    /// The start of the target that it requests from the external service, before the ID: `/books/v1/volumes?q=isbn:`.
    pub target: String,
    /// The environment variable that, set to `true`, makes it send plain HTTP to port 80 instead, for the mesh to encrypt. It
    /// then names the port in Host, as some client libraries do. None: it always sends HTTPS.
    pub plain_if: Option<String>,
    /// What it says if the external service did not answer with 200.
    pub failure: String,
}

/// A gateway.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Gateway {
    /// Also the name of its Service.
    pub name: String,
    /// Its namespace; `credentialName`s are looked up there.
    pub namespace: String,
    /// What a `Gateway` resource selects it by.
    pub labels: BTreeMap<String, String>,
    /// The ports of its Service.
    pub ports: Vec<u16>,
}

/// A service in the registry, without a sidecar, that the suite runs.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PlainService {
    /// `welcome`.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// The Service's port; it speaks HTTP/1.1 in plain text.
    pub port: u16,
    /// What it answers to every request.
    pub body: String,
}

impl Topology {
    /// With this workload.
    #[must_use]
    pub fn workload(mut self, workload: Workload) -> Self {
        self.workloads.push(workload);
        self
    }

    /// With this gateway.
    #[must_use]
    pub fn gateway(mut self, gateway: Gateway) -> Self {
        self.gateways.push(gateway);
        self
    }

    /// With this service inside the mesh.
    #[must_use]
    pub fn service(mut self, service: PlainService) -> Self {
        self.services.push(service);
        self
    }

    /// Whether one of its servers has this host name: then the server is a mesh service, not an external one.
    #[must_use]
    pub fn serves(&self, host: &str) -> bool {
        self.served_hosts().any(|served| served == host)
    }

    /// The host names of its servers.
    pub fn served_hosts(&self) -> impl Iterator<Item = String> {
        let services = self.services.iter().map(|s| (&s.name, &s.namespace));
        let applications =
            self.workloads.iter().filter(|w| w.serves.is_some()).map(|w| (&w.name, &w.namespace));
        services.chain(applications).map(|(name, namespace)| service_host(name, namespace))
    }
}

impl Workload {
    /// A client in the namespace `default`, which dials ports 80 and 443.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            namespace: "default".to_owned(),
            labels: BTreeMap::new(),
            dials: vec![80, 443],
            dials_at: Vec::new(),
            serves: None,
        }
    }

    /// The documents' `sleep` pod in the namespace `default`, which dials ports 80 and 443.
    #[must_use]
    pub fn sleep() -> Self {
        Self::new("sleep")
    }

    /// The same in this namespace.
    #[must_use]
    pub fn in_namespace(mut self, namespace: impl Into<String>) -> Self {
        self.namespace = namespace.into();
        self
    }

    /// The same, and its pods have this label.
    #[must_use]
    pub fn label(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.labels.insert(name.into(), value.into());
        self
    }

    /// The same, and these are the ports that it may dial.
    #[must_use]
    pub fn dials(mut self, ports: impl Into<Vec<u16>>) -> Self {
        self.dials = ports.into();
        self
    }

    /// The same, and it may dial these addresses with a port.
    #[must_use]
    pub fn dials_at(mut self, addresses: impl Into<Vec<(IpAddr, u16)>>) -> Self {
        self.dials_at = addresses.into();
        self
    }

    /// The same, and it serves this application.
    #[must_use]
    pub fn serves(mut self, application: Application) -> Self {
        self.serves = Some(application);
        self
    }
}

impl Application {
    /// The length of the longest ID.
    pub const MAX_ID: usize = 17;

    /// An application on this port. `GET {path}ID` makes it send a GET for `https://{host}{target}ID`.
    #[must_use]
    pub fn new(
        port: u16,
        path: impl Into<String>,
        host: impl Into<String>,
        target: impl Into<String>,
    ) -> Self {
        Self {
            port,
            path: path.into(),
            host: host.into(),
            target: target.into(),
            plain_if: None,
            failure: "not found".to_owned(),
        }
    }

    /// The same, and this environment variable, set to `true`, makes it send plain HTTP.
    #[must_use]
    pub fn plain_if(mut self, variable: impl Into<String>) -> Self {
        self.plain_if = Some(variable.into());
        self
    }

    /// The same, and this is what it says if the external service did not answer with 200.
    #[must_use]
    pub fn failure(mut self, failure: impl Into<String>) -> Self {
        self.failure = failure.into();
        self
    }
}

impl Gateway {
    /// A gateway in the namespace `istio-system` with ports 80 and 443. A `Gateway` resource selects it by the label `istio`, which
    /// is its name.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        let name = name.into();
        let labels =
            BTreeMap::from([("app", &name), ("istio", &name)].map(|(k, v)| (k.to_owned(), v.clone())));
        Self { name, namespace: "istio-system".to_owned(), labels, ports: vec![80, 443] }
    }

    /// `istio-egressgateway` in `istio-system`, ports 80 and 443.
    #[must_use]
    pub fn egress() -> Self {
        Self::new("istio-egressgateway").label("istio", "egressgateway")
    }

    /// `istio-ingressgateway` in `istio-system`, port 80.
    #[must_use]
    pub fn ingress() -> Self {
        Self::new("istio-ingressgateway").label("istio", "ingressgateway").ports([80])
    }

    /// The same in this namespace.
    #[must_use]
    pub fn in_namespace(mut self, namespace: impl Into<String>) -> Self {
        self.namespace = namespace.into();
        self
    }

    /// The same with this label.
    #[must_use]
    pub fn label(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.labels.insert(name.into(), value.into());
        self
    }

    /// The name that a port of its Service has, as in Istio's gateway charts. Sidecars derive the protocol from it.
    #[must_use]
    pub const fn port_name(port: u16) -> &'static str {
        match port {
            443 => "https",
            15443 => "tls",
            _ => "http2",
        }
    }

    /// The same, and these are the ports of its Service. At most one of them is neither 443 nor 15443, because names are unique.
    #[must_use]
    pub fn ports(mut self, ports: impl Into<Vec<u16>>) -> Self {
        self.ports = ports.into();
        self
    }
}

impl PlainService {
    /// A service in the namespace `default` that answers every request with this body.
    #[must_use]
    pub fn new(name: impl Into<String>, port: u16, body: impl Into<String>) -> Self {
        Self { name: name.into(), namespace: "default".to_owned(), port, body: body.into() }
    }

    /// The same in this namespace.
    #[must_use]
    pub fn in_namespace(mut self, namespace: impl Into<String>) -> Self {
        self.namespace = namespace.into();
        self
    }
}

/// `NAME.NAMESPACE.svc.cluster.local`.
#[must_use]
pub fn service_host(name: &str, namespace: &str) -> String {
    format!("{name}.{namespace}.svc.cluster.local")
}
