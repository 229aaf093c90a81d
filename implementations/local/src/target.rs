//! The local target: a data plane on this machine that carries out plans.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use meshproof_harness::target::{Aftermath, Instance, Seat, Target, TargetError};
use meshproof_harness::timeouts::Timeouts;
use meshproof_model::Implementation;

use crate::data_plane::{DataPlaneFactory, environment};
use crate::external::{ServeProgram, removals_done};
use crate::instance::{LocalInstance, Servers};
use crate::real_hosts::RealHosts;

/// A target whose implementation is a data plane on this machine.
pub struct LocalTarget {
    factory: Arc<dyn DataPlaneFactory>,
    servers: Servers,
    /// The run's, once an instance was started.
    timeouts: OnceLock<Timeouts>,
}

impl LocalTarget {
    /// A target with this data plane. `nginx` is the program to use as a real nginx; if it is absent, the one on PATH.
    #[must_use]
    pub fn new(factory: Arc<dyn DataPlaneFactory>, nginx: Option<PathBuf>) -> Self {
        Self { factory, servers: Servers { nginx, ..Servers::default() }, timeouts: OnceLock::new() }
    }

    /// The same with this image for nginx in a container; if it is absent, the one in `MESHPROOF_NGINX_IMAGE`, else the default.
    #[must_use]
    pub fn with_nginx_image(mut self, image: Option<String>) -> Self {
        self.servers.image = image;
        self
    }

    /// The same with the suite's own servers and the clients of workloads in processes of this program, as a cluster has them
    /// in pods; absent: in this process.
    #[must_use]
    pub fn served_by(mut self, program: Option<ServeProgram>) -> Self {
        self.servers.program = program;
        self
    }

    /// The same with other servers in place of the real hosts, for runs with `--live`.
    #[must_use]
    pub fn with_real_hosts(mut self, real_hosts: RealHosts) -> Self {
        self.servers.real_hosts = real_hosts;
        self
    }
}

#[async_trait]
impl Target for LocalTarget {
    async fn identify(&self) -> Result<Implementation, TargetError> {
        self.factory.identify().await.map_err(Into::into)
    }

    fn side_by_side(&self) -> Option<usize> {
        self.factory.side_by_side()
    }

    async fn start(&self, seat: Seat) -> Result<Box<dyn Instance>, TargetError> {
        self.timeouts.get_or_init(|| seat.timeouts.clone());
        let instance = LocalInstance::start(Arc::clone(&self.factory), seat, self.servers.clone()).await?;
        Ok(Box::new(instance))
    }

    async fn after(&self, _run: &str, _keep: bool) -> Result<Aftermath, TargetError> {
        // A scenario that panicked or was interrupted dropped its containers, which are then removed in the background.
        if let Some(timeouts) = self.timeouts.get() {
            removals_done(timeouts).await.map_err(environment)?;
        }
        Ok(Aftermath::default())
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicBool, Ordering};

    use meshproof_harness::external::{Documented, ExternalChoice, ExternalSpec, PlainPort};
    use meshproof_harness::store::Store;
    use meshproof_harness::topology::{Topology, Workload};
    use meshproof_model::{CredentialStatus, ExternalService};
    use tokio::sync::Barrier;

    use super::*;
    use crate::data_plane::{Boot, DataPlane, DataPlaneError, Update};
    use crate::external::{ExternalError, RunningService};

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
    async fn several_servers_are_applied_by_one_update_and_described_in_their_order() {
        let noted = Noted::default();
        let folder = tempfile::tempdir().unwrap();
        let authority = meshproof_harness::certificates::Authority::new(
            meshproof_harness::certificates::KeyAlgorithm::EcdsaP256,
        );
        let seat = Seat {
            run: "r1".to_owned(),
            name: "s".to_owned(),
            folder: folder.path().to_owned(),
            topology: Topology::default().workload(Workload::sleep()),
            store: Store::new(),
            timeouts: Timeouts::default(),
            external: ExternalChoice::Embedded,
            keep: false,
            public_roots: authority.unwrap().certificate_pem().into(),
        };
        let instance = LocalTarget::new(Arc::new(noted.clone()), None).start(seat).await.unwrap();
        let spec = |host: &str| {
            let spec = ExternalSpec {
                aliases: Vec::new(),
                host: host.to_owned(),
                plain: PlainPort::Serve,
                tls: None,
                ipv6: false,
                tcp: Vec::new(),
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

    /// Notes that it was stopped.
    #[derive(Default)]
    struct Stoppable(AtomicBool);

    #[async_trait]
    impl RunningService for Stoppable {
        fn describe(&self) -> ExternalService {
            ExternalService { host: String::new(), kind: String::new(), version: String::new() }
        }

        fn address(&self, _: u16) -> Option<SocketAddr> {
            None
        }

        async fn settle(&self) -> Result<(), ExternalError> {
            Ok(())
        }

        async fn stop(&self) -> Result<(), ExternalError> {
            self.0.store(true, Ordering::SeqCst);
            Ok(())
        }
    }

    #[tokio::test]
    async fn servers_start_side_by_side_and_if_one_does_not_start_the_others_are_stopped() {
        // Each waits until all are starting.
        let together = Barrier::new(3);
        let servers = [(); 2].map(|()| Arc::new(Stoppable::default()));
        let start = |server: Option<&Arc<Stoppable>>| {
            let (server, together) = (server.cloned(), &together);
            async move {
                together.wait().await;
                let server: Arc<dyn RunningService> = server.ok_or_else(|| environment("no port"))?;
                Ok(server)
            }
        };
        let starting = [Some(&servers[0]), None, Some(&servers[1])].map(start);
        let started = crate::instance::all_or_none(starting, |server| server);
        let limit = std::time::Duration::from_secs(10);
        let failed = tokio::time::timeout(limit, started).await.expect("side by side").err().unwrap();
        assert!(matches!(failed, TargetError::Environment(reason) if reason == "no port"));
        assert!(servers.iter().all(|server| server.0.load(Ordering::SeqCst)));
    }
}
