//! The namespaces of a scenario: the documents' and the run's own, and host names in either.

use std::collections::BTreeMap;

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
    outside: String,
    installed: bool,
}

impl Places {
    /// The namespaces of a seat: for applications, for gateways (its own, or the installation's), and for
    /// what is outside the mesh.
    #[must_use]
    pub fn new(run: &str, seat: &str, gateways: &Gateways) -> Self {
        let own = |suffix: &str| owned::namespace(run, seat, suffix);
        let (gateways, installed) = match gateways {
            Gateways::Own => (own("gateways"), false),
            Gateways::Installed { namespace } => (namespace.clone(), true),
        };
        Self { applications: own("default"), gateways, outside: own("outside"), installed }
    }

    /// The run's namespace for a namespace of the documents.
    #[must_use]
    pub fn of(&self, documented: &str) -> &str {
        match documented {
            APPLICATIONS => &self.applications,
            GATEWAYS => &self.gateways,
            _ => &self.outside,
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
        [self.applications.as_str()].into_iter().chain(gateways).chain([self.outside.as_str()]).collect()
    }

    /// The namespaces of the scenario's proxies, which alone may see its configuration.
    #[must_use]
    pub fn of_proxies(&self) -> [&str; 2] {
        [&self.applications, &self.gateways]
    }

    /// Whether the gateways are those of the installation.
    #[must_use]
    pub const fn gateways_installed(&self) -> bool {
        self.installed
    }

    /// `NAME.default.svc.cluster.local` with the run's namespace; any other host unchanged.
    #[must_use]
    pub fn host(&self, documented: &str) -> String {
        let parts = documented.strip_suffix(CLUSTER).and_then(|rest| rest.rsplit_once('.'));
        match parts {
            Some((name, namespace @ (APPLICATIONS | GATEWAYS))) => {
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
        let names = BTreeMap::from([(&self.applications, APPLICATIONS), (&self.gateways, GATEWAYS)]);
        for (own, documented) in names {
            text = text.replace(&format!(".{own}{CLUSTER}"), &format!(".{documented}{CLUSTER}"));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places() -> Places {
        Places::new("r1", "scope", &Gateways::Own)
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
        let places = Places::new("r1", "scope", &installed);
        assert_eq!(places.of(GATEWAYS), "istio-gateways");
        assert_eq!(places.own(), ["mp-r1-scope-default", "mp-r1-scope-outside"]);
    }
}
