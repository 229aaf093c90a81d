//! What the plan is made from, and what comes out.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use meshproof_model::Resource;

use crate::mesh::ProxyConfig;
use crate::model::{Credential, OriginalDestination, Plan};

/// Everything that decides what the proxies must do.
#[derive(Clone, Copy)]
pub struct Input<'a> {
    /// All resources in force, in order of creation. Istio's kinds and Secrets count; other kinds (Service, Deployment,
    /// Namespace, ConfigMap, Telemetry) are left alone.
    pub resources: &'a [Resource],
    /// The Kubernetes services.
    pub registry: &'a [Service],
    /// Workloads that a ServiceEntry's `workloadSelector` may select, besides the WorkloadEntries among `resources`.
    pub workloads: &'a [Workload],
    /// The proxies that are running.
    pub proxies: &'a [Proxy],
    /// Where the `host:port`s outside the mesh lead on this machine.
    pub endpoints: &'a [OriginalDestination],
    /// The mesh-wide settings.
    pub mesh: &'a MeshConfig,
}

/// A Kubernetes service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Service {
    /// `istio-egressgateway.istio-system.svc.cluster.local`.
    pub host: String,
    /// Its namespace.
    pub namespace: String,
    /// Its ports.
    pub ports: Vec<ServicePort>,
    /// Its ClusterIP, as far as known.
    pub address: Option<String>,
    /// Whether it is headless: `clusterIP: None`.
    pub headless: bool,
    /// The target of an ExternalName Service.
    pub external_name: Option<String>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its selector; empty: its endpoints come from elsewhere.
    pub selector: BTreeMap<String, String>,
    /// The annotation `networking.istio.io/exportTo`; empty: the mesh's default.
    pub export_to: Vec<String>,
    /// Its place in the order of creation among [`Input::resources`].
    pub created: usize,
}

/// A port of a Kubernetes service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServicePort {
    /// What clients dial.
    pub number: u16,
    /// May be empty.
    pub name: String,
    /// `appProtocol`, or a protocol's name; empty: the port's name decides, and without a prefix that Istio
    /// knows the first bytes do.
    pub protocol: String,
    /// `targetPort` where it is a number other than `number`.
    pub target_port: Option<u16>,
    /// Whether it is a UDP port.
    pub udp: bool,
    /// Where it leads on this machine.
    pub endpoints: Vec<Endpoint>,
}

/// One address behind a service's port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// On this machine.
    pub address: SocketAddr,
    /// The SPIFFE identity of its service account, where it is known.
    pub identity: Option<String>,
    /// Whether its pod is labelled `security.istio.io/tlsMode: istio`. Sidecar injection sets this label; the
    /// gateways' charts do not.
    pub mesh_tls: bool,
    /// The labels of its pod.
    pub labels: BTreeMap<String, String>,
}

/// A pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workload {
    /// Its namespace.
    pub namespace: String,
    /// Its IP address.
    pub address: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// The SPIFFE identity of its service account.
    pub identity: Option<String>,
}

/// What a proxy is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyKind {
    /// Beside an application.
    Sidecar,
    /// On its own; `Gateway` resources select it.
    Gateway,
}

/// A running proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proxy {
    /// Unique within a scenario.
    pub name: String,
    /// Where it lives; its Secrets are those of this namespace.
    pub namespace: String,
    /// What it is.
    pub kind: ProxyKind,
    /// Its pod's labels.
    pub labels: BTreeMap<String, String>,
    /// `spiffe://TRUST-DOMAIN/ns/NAMESPACE/sa/ACCOUNT`.
    pub identity: String,
    /// Of a sidecar: each captured port, and the address that stands for its capture.
    pub outbound: Vec<(u16, SocketAddr)>,
    /// Of a sidecar: captured addresses with their port, and the address that stands for the capture of each.
    pub addressed: Vec<(IpAddr, u16, SocketAddr)>,
    /// Of a sidecar: the ports that its application serves.
    pub inbound: Vec<Inbound>,
    /// Of a gateway: each port of its Service, and the address to listen on for it.
    pub servers: Vec<(u16, SocketAddr)>,
}

/// A port that an application serves behind its sidecar.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inbound {
    /// The application's port.
    pub port: u16,
    /// Where the sidecar listens for it.
    pub bind: SocketAddr,
    /// Where the application listens.
    pub application: SocketAddr,
}

/// The mesh-wide settings (Istio's MeshConfig).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MeshConfig {
    /// `cluster.local`.
    pub trust_domain: String,
    /// `istio-system`.
    pub root_namespace: String,
    /// What happens to traffic for hosts that are not in the registry.
    pub outbound: OutboundPolicy,
    /// Whether the proxies can speak mutual TLS among themselves. Where they cannot, PERMISSIVE means plain text, so that
    /// mesh TLS is in the plan only where a resource demands it.
    pub mesh_tls: bool,
    /// Whether the proxies can speak HTTP/2 to servers. Where they cannot, the name of a port alone asks for none between
    /// two proxies.
    pub http2: bool,
    /// `h2UpgradePolicy: UPGRADE`.
    pub h2_upgrade: bool,
    /// `enableAutoMtls`.
    pub auto_mtls: bool,
    /// `defaultServiceExportTo`; empty: `*`.
    pub service_export_to: Vec<String>,
    /// `defaultVirtualServiceExportTo`; empty: `*`.
    pub virtual_service_export_to: Vec<String>,
    /// `defaultDestinationRuleExportTo`; empty: `*`.
    pub destination_rule_export_to: Vec<String>,
    /// `defaultHttpRetryPolicy`, of routes without `retries`; absent: Istio's own.
    pub retries: Option<RetryPolicy>,
}

/// How failed requests are repeated.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RetryPolicy {
    /// How often at most; 0: never.
    pub attempts: i32,
    /// `retryOn`; empty: Istio's own conditions.
    pub on: String,
}

impl Default for MeshConfig {
    fn default() -> Self {
        Self {
            trust_domain: "cluster.local".to_owned(),
            root_namespace: "istio-system".to_owned(),
            outbound: OutboundPolicy::AllowAny,
            mesh_tls: true,
            http2: true,
            h2_upgrade: false,
            auto_mtls: true,
            service_export_to: Vec::new(),
            virtual_service_export_to: Vec::new(),
            destination_rule_export_to: Vec::new(),
            retries: None,
        }
    }
}

/// What happens to traffic for hosts that are not in the registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutboundPolicy {
    /// It passes, as it is.
    AllowAny,
    /// It is refused.
    RegistryOnly,
}

/// The result of resolving resources.
#[derive(Clone, Debug, Default)]
pub struct Resolution {
    /// What every proxy must do.
    pub plan: Plan,
    /// What istiod would send to every proxy; `plan` is made from it.
    pub proxies: Vec<ProxyConfig>,
    /// By the proxy's name: what its `credentialName`s lead to. A name without a usable Secret is absent.
    pub credentials: BTreeMap<String, Vec<Credential>>,
    /// By host, the addresses that ServiceEntries give it, in their order. A client that finds such a name by one of them
    /// reaches the listener of the first service that has the address.
    pub addresses: BTreeMap<String, Vec<String>>,
    /// What istiod would log or report in a resource's status without refusing it.
    pub warnings: Vec<String>,
}
