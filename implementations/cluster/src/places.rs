//! The namespaces of a scenario: the documents' and the run's own, and host names in either.

use std::collections::BTreeMap;

use meshproof_harness::topology::Topology;

use crate::owned;
use crate::settings::Gateways;

/// The documents' namespace of the gateways.
pub const GATEWAYS: &str = "istio-system";
/// The documents' namespace of applications.
pub const APPLICATIONS: &str = "default";

const CLUSTER: &str = ".svc.cluster.local";

/// The namespaces of one scenario.
#[derive(Clone, Debug)]
pub struct Places {
    applications: String,
    gateways: String,
    /// Further ones with proxies, by the documents' names.
    further: BTreeMap<String, String>,
    outside: String,
    installed: bool,
}

impl Places {
    /// The namespaces of a seat: for applications, for gateways (its own, or the installation's), for each other
    /// namespace in which the topology has a workload or a gateway, and for what is outside the mesh.
    #[must_use]
    pub fn new(run: &str, seat: &str, gateways: &Gateways, topology: &Topology) -> Self {
        let own = |suffix: &str| owned::namespace(run, seat, suffix);
        let (gateways, installed) = match gateways {
            Gateways::Own => (own("gateways"), false),
            Gateways::Installed { namespace } => (namespace.clone(), true),
        };
        let workloads = topology.workloads.iter().map(|workload| &workload.namespace);
        let further = workloads
            .chain(topology.gateways.iter().map(|gateway| &gateway.namespace))
            .filter(|documented| ![APPLICATIONS, GATEWAYS].contains(&documented.as_str()))
            .map(|documented| (documented.clone(), own(&format!("in-{documented}"))))
            .collect();
        Self { applications: own("default"), gateways, further, outside: own("outside"), installed }
    }

    /// The run's namespace for a namespace of the documents.
    #[must_use]
    pub fn of(&self, documented: &str) -> &str {
        match documented {
            APPLICATIONS => &self.applications,
            GATEWAYS => &self.gateways,
            _ => self.further.get(documented).unwrap_or(&self.outside),
        }
    }

    /// The namespace of the external services and of the suite's own client.
    #[must_use]
    pub fn outside(&self) -> &str {
        &self.outside
    }

    /// The namespaces that are created for the scenario and deleted after it.
    #[must_use]
    pub fn own(&self) -> Vec<&str> {
        let gateways = (!self.installed).then_some(self.gateways.as_str());
        self.of_sidecars().chain(gateways).chain([self.outside.as_str()]).collect()
    }

    /// The namespaces of the scenario's proxies, which alone may see its configuration.
    #[must_use]
    pub fn of_proxies(&self) -> Vec<&str> {
        self.of_sidecars().chain([self.gateways.as_str()]).collect()
    }

    /// Those in which a workload may stand.
    pub fn of_sidecars(&self) -> impl Iterator<Item = &str> {
        [&self.applications].into_iter().chain(self.further.values()).map(String::as_str)
    }

    /// Whether the gateways are those of the installation.
    #[must_use]
    pub const fn gateways_installed(&self) -> bool {
        self.installed
    }

    /// `NAME.default.svc.cluster.local` with the run's namespace; a host of a namespace without proxies unchanged.
    #[must_use]
    pub fn host(&self, documented: &str) -> String {
        let parts = documented.strip_suffix(CLUSTER).and_then(|rest| rest.rsplit_once('.'));
        match parts {
            Some((name, namespace)) if self.of(namespace) != self.outside => {
                format!("{name}.{}{CLUSTER}", self.of(namespace))
            }
            Some(_) | None => documented.to_owned(),
        }
    }

    /// The same for the host of a URL.
    #[must_use]
    pub fn url(&self, documented: &str) -> String {
        let Some((scheme, rest)) = documented.split_once("//") else { return documented.to_owned() };
        let end = rest.find([':', '/', '?', '#']).unwrap_or(rest.len());
        format!("{scheme}//{}{}", self.host(&rest[..end]), &rest[end..])
    }

    /// A text from the cluster with the documents' names, as checks compare it: in host names, the run's
    /// namespaces become the documents'.
    #[must_use]
    pub fn documented(&self, text: &str) -> String {
        let mut text = text.to_owned();
        let further = self.further.iter().map(|(documented, own)| (own, documented.as_str()));
        let names = [(&self.applications, APPLICATIONS), (&self.gateways, GATEWAYS)];
        for (own, documented) in names.into_iter().chain(further) {
            text = text.replace(&format!(".{own}{CLUSTER}"), &format!(".{documented}{CLUSTER}"));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use meshproof_harness::topology::{Gateway, Workload};

    fn places() -> Places {
        Places::new("r1", "scope", &Gateways::Own, &Topology::default())
    }

    #[test]
    fn a_namespace_with_a_workload_or_a_gateway_is_one_of_the_runs_own_and_any_other_is_outside() {
        let topology = Topology::default()
            .workload(Workload::new("payments").in_namespace("payments"))
            .gateway(Gateway::new("team-egressgateway").in_namespace("team"));
        let places = Places::new("r1", "scope", &Gateways::Own, &topology);
        assert_eq!(places.of("payments"), "mp-r1-scope-in-payments");
        assert_eq!(places.of("team"), "mp-r1-scope-in-team");
        assert_eq!(places.of("mesh-external"), places.outside());
        let proxies =
            ["default", "in-payments", "in-team", "gateways"].map(|end| format!("mp-r1-scope-{end}"));
        assert_eq!(places.of_proxies(), proxies.each_ref().map(String::as_str));
        assert_eq!(places.own(), [&proxies[..], &[places.outside().to_owned()]].concat());
        let host = "team-egressgateway.team.svc.cluster.local";
        assert_eq!(places.documented(&places.host(host)), host);
        assert_ne!(places.host(host), host);
    }

    #[test]
    fn hosts_of_the_documents_namespaces_move_and_all_others_stay() {
        let places = places();
        let moved = places.host("istio-egressgateway.istio-system.svc.cluster.local");
        assert_eq!(moved, "istio-egressgateway.mp-r1-scope-gateways.svc.cluster.local");
        for stays in ["edition.cnn.com", "my-nginx.mesh-external.svc.cluster.local", "welcome", "default"] {
            assert_eq!(places.host(stays), stays);
        }
    }

    #[test]
    fn only_the_host_of_a_url_moves() {
        let url = "http://details.default.svc.cluster.local:9080/1?at=a.default.svc.cluster.local";
        let moved =
            "http://details.mp-r1-scope-default.svc.cluster.local:9080/1?at=a.default.svc.cluster.local";
        assert_eq!(places().url(url), moved);
        assert_eq!(places().url("http://example.com"), "http://example.com");
    }

    #[test]
    fn texts_of_the_cluster_are_read_with_the_documents_names() {
        let line = "outbound|80|cnn|istio-egressgateway.mp-r1-scope-gateways.svc.cluster.local";
        let read = places().documented(line);
        assert_eq!(read, "outbound|80|cnn|istio-egressgateway.istio-system.svc.cluster.local");
    }

    #[test]
    fn the_installations_gateways_keep_their_namespace_which_is_not_one_of_the_runs() {
        let installed = Gateways::Installed { namespace: "istio-gateways".to_owned() };
        let places = Places::new("r1", "scope", &installed, &Topology::default());
        assert_eq!(places.of(GATEWAYS), "istio-gateways");
        assert_eq!(places.own(), ["mp-r1-scope-default", "mp-r1-scope-outside"]);
    }
}
