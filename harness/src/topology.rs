//! What a scenario finds in place before its document begins: workloads with their sidecars, gateways, services
//! inside the mesh. A target makes it; the document's resources are applied on top.

use std::collections::BTreeMap;

/// What is in place before the document begins.
#[derive(Clone, Debug, Default)]
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
pub struct Workload {
    /// Also its sidecar's name, and its `app` label.
    pub name: &'static str,
    /// Its namespace.
    pub namespace: &'static str,
    /// The ports it may dial through its sidecar; each is a capture address in a local target.
    pub dials: &'static [u16],
    /// The application that it serves, as Service NAME in its namespace. None: it is a client alone.
    pub serves: Option<Application>,
}

/// An application that calls an external service through its sidecar. `GET {path}ID` makes it send a GET for
/// `https://{host}{target}ID`. It answers with 200: with the external service's body if that answered with 200, else with
/// the JSON object `{"error": failure}`. An ID consists of at most [`Application::MAX_ID`] letters, digits and dashes; all
/// else gets 404.
#[derive(Clone, Copy, Debug)]
pub struct Application {
    /// The port of its Service.
    pub port: u16,
    /// What its own paths begin with: `/details/`.
    pub path: &'static str,
    /// The external service.
    pub host: &'static str,
    /// The start of the target that it requests from the external service, before the ID: `/books/v1/volumes?q=isbn:`.
    pub target: &'static str,
    /// The environment variable that, set to `true`, makes it send plain HTTP to port 80 instead, for the mesh to encrypt. It
    /// then names the port in Host, as some client libraries do.
    pub plain_if: &'static str,
    /// What it says if the external service did not answer with 200.
    pub failure: &'static str,
}

impl Application {
    /// The length of the longest ID.
    pub const MAX_ID: usize = 17;
}

/// A gateway.
#[derive(Clone, Debug)]
pub struct Gateway {
    /// Also the name of its Service.
    pub name: &'static str,
    /// Its namespace; `credentialName`s are looked up there.
    pub namespace: &'static str,
    /// What a `Gateway` resource selects it by.
    pub labels: BTreeMap<String, String>,
    /// The ports of its Service.
    pub ports: &'static [u16],
}

/// A service in the registry, without a sidecar, that the suite runs.
#[derive(Clone, Debug)]
pub struct PlainService {
    /// `welcome`.
    pub name: &'static str,
    /// Its namespace.
    pub namespace: &'static str,
    /// The Service's port; it speaks HTTP/1.1 in plain text.
    pub port: u16,
    /// What it answers to every request.
    pub body: &'static str,
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
        let services = self.services.iter().map(|s| (s.name, s.namespace));
        let applications =
            self.workloads.iter().filter(|w| w.serves.is_some()).map(|w| (w.name, w.namespace));
        services.chain(applications).any(|(name, namespace)| service_host(name, namespace) == host)
    }
}

impl Workload {
    /// The documents' `sleep` pod in the namespace `default`, which dials ports 80 and 443.
    #[must_use]
    pub const fn sleep() -> Self {
        Self { name: "sleep", namespace: "default", dials: &[80, 443], serves: None }
    }
}

impl Gateway {
    fn istio(name: &'static str, selector: &str, ports: &'static [u16]) -> Self {
        let labels =
            BTreeMap::from([("istio".to_owned(), selector.to_owned()), ("app".to_owned(), name.to_owned())]);
        Self { name, namespace: "istio-system", labels, ports }
    }

    /// `istio-egressgateway` in `istio-system`, ports 80 and 443.
    #[must_use]
    pub fn egress() -> Self {
        Self::istio("istio-egressgateway", "egressgateway", &[80, 443])
    }

    /// `istio-ingressgateway` in `istio-system`, port 80.
    #[must_use]
    pub fn ingress() -> Self {
        Self::istio("istio-ingressgateway", "ingressgateway", &[80])
    }
}

/// `NAME.NAMESPACE.svc.cluster.local`.
#[must_use]
pub fn service_host(name: &str, namespace: &str) -> String {
    format!("{name}.{namespace}.svc.cluster.local")
}
