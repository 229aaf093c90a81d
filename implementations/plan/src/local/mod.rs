//! The local target: one data plane on this machine, given plans. It needs no root, no redirection of packets and no
//! name server: a workload reaches its sidecar through capture addresses on loopback, and host names lead to loopback
//! addresses by a table.

mod instance;
mod seat;

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use meshproof_harness::target::{Instance, Seat, Target, TargetError};
use meshproof_model::Implementation;

use crate::data_plane::{DataPlaneError, DataPlaneFactory};

/// What a real nginx is started from.
#[derive(Clone, Default)]
struct Servers {
    nginx: Option<PathBuf>,
    image: Option<String>,
}

/// A target whose implementation is a data plane on this machine.
pub struct LocalTarget {
    factory: Arc<dyn DataPlaneFactory>,
    servers: Servers,
}

impl LocalTarget {
    /// A target on this data plane. `nginx` is the program to use for a real nginx; absent: the one on PATH.
    #[must_use]
    pub fn new(factory: Arc<dyn DataPlaneFactory>, nginx: Option<PathBuf>) -> Self {
        Self { factory, servers: Servers { nginx, image: None } }
    }

    /// The same with this image for nginx in a container; absent: `MESHPROOF_NGINX_IMAGE`, else the harness's own choice.
    #[must_use]
    pub fn with_nginx_image(mut self, image: Option<String>) -> Self {
        self.servers.image = image;
        self
    }
}

#[async_trait]
impl Target for LocalTarget {
    async fn identify(&self) -> Result<Implementation, TargetError> {
        self.factory.identify().await.map_err(Into::into)
    }

    async fn start(&self, seat: Seat) -> Result<Box<dyn Instance>, TargetError> {
        let instance =
            instance::LocalInstance::start(Arc::clone(&self.factory), seat, self.servers.clone()).await?;
        Ok(Box::new(instance))
    }
}

impl From<DataPlaneError> for TargetError {
    fn from(e: DataPlaneError) -> Self {
        match e {
            DataPlaneError::Refused(words) => Self::Refused(words),
            DataPlaneError::Unsupported(words) => Self::Unsupported(words),
            DataPlaneError::Gone(words) => Self::Gone(words),
            DataPlaneError::Environment(words) => Self::Environment(words),
        }
    }
}

fn environment(e: impl std::fmt::Display) -> TargetError {
    TargetError::Environment(e.to_string())
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use meshproof_harness::external::{Documented, ExternalChoice, ExternalSpec, PlainPort};
    use meshproof_harness::store::Store;
    use meshproof_harness::timeouts::Timeouts;
    use meshproof_harness::topology::{Topology, Workload};
    use meshproof_model::CredentialStatus;

    use super::*;
    use crate::data_plane::{Boot, DataPlane, Update};

    /// Takes note of the hosts that each update knows.
    #[derive(Clone, Default)]
    struct Noted(Arc<Mutex<Vec<Vec<String>>>>);

    #[async_trait]
    impl DataPlaneFactory for Noted {
        async fn identify(&self) -> Result<Implementation, DataPlaneError> {
            let word = || "noted".to_owned();
            Ok(Implementation {
                name: word(),
                version: word(),
                target: word(),
                features: Vec::new(),
                details: Default::default(),
            })
        }

        async fn start(&self, _: Boot) -> Result<Box<dyn DataPlane>, DataPlaneError> {
            Ok(Box::new(self.clone()))
        }
    }

    #[async_trait]
    impl DataPlane for Noted {
        async fn apply(&self, update: Update<'_>) -> Result<(), DataPlaneError> {
            let mut hosts: Vec<String> = update.endpoints.iter().map(|e| e.host.clone()).collect();
            hosts.dedup();
            self.0.lock().unwrap().push(hosts);
            Ok(())
        }

        async fn credentials(&self, _: &str) -> Result<Vec<CredentialStatus>, DataPlaneError> {
            Ok(Vec::new())
        }

        async fn settle(&self) -> Result<(), DataPlaneError> {
            Ok(())
        }

        async fn stop(&self) -> Result<(), DataPlaneError> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn several_servers_are_taken_up_by_one_update_and_told_in_their_order() {
        let noted = Noted::default();
        let folder = tempfile::tempdir().unwrap();
        let authority = meshproof_harness::certificates::Authority::new(
            meshproof_harness::certificates::KeyAlgorithm::EcdsaP256,
        );
        let seat = Seat {
            run: "r1".to_owned(),
            name: "s".to_owned(),
            folder: folder.path().to_owned(),
            topology: Topology { workloads: vec![Workload::sleep()], ..Topology::default() },
            store: Store::new(),
            timeouts: Timeouts::default(),
            external: ExternalChoice::Embedded,
            keep: false,
            public_roots: authority.unwrap().certificate_pem().into(),
        };
        let instance = LocalTarget::new(Arc::new(noted.clone()), None).start(seat).await.unwrap();
        let spec = |host: &str| {
            let spec = ExternalSpec {
                host: host.to_owned(),
                plain: PlainPort::Serve,
                tls: None,
                pages: Vec::new(),
                keep_alive: true,
            };
            (spec, Documented::Site)
        };
        let described = instance.deploy_externals(["b.example", "a.example"].map(spec).into()).await.unwrap();
        assert_eq!(described.iter().map(|d| d.host.as_str()).collect::<Vec<_>>(), ["b.example", "a.example"]);
        assert!(instance.upstream_address("a.example", 80).is_some());
        instance.stop().await.unwrap();
        let updates = noted.0.lock().unwrap().clone();
        assert_eq!(updates, [vec![], vec!["a.example".to_owned(), "b.example".to_owned()]]);
    }
}
