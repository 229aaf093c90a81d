//! nginx pods: external services, the mesh's plain services, and the workloads' applications.

use std::sync::{Arc, Mutex as StdMutex, PoisonError};

use bytes::Bytes;
use futures_util::future::try_join_all;
use jiff::Timestamp;
use meshproof_harness::external::{Documented, ExternalSpec};
use meshproof_harness::target::TargetError;
use meshproof_harness::timeouts::Timeout;
use meshproof_model::ExternalService;
use meshproof_model::ResourceId;
use meshproof_nginx::{PodLine, PodService};

use super::pods::{POLL, ReadyPod};
use super::readiness::await_pod;
use super::{Address, ClusterInstance, State, environment};
use crate::api::{ApiError, ExecLimits, LogFollower};
use crate::manifests::workload::{APPLICATION, details_configuration};
use crate::manifests::{mesh, nginx};

/// What the images of nginx pods are told as.
const EXTERNAL: &str = "external";

/// An nginx pod, and its log on its way into the evidence.
pub(super) struct Server {
    pub(super) host: String,
    pub(super) address: String,
    pub(super) follower: LogFollower,
    /// The number of an external service; 0 for a plain service.
    number: usize,
    version: Arc<StdMutex<Option<String>>>,
}

impl Server {
    pub(super) fn follow(
        instance: &ClusterInstance,
        service: &PodService,
        pod: &ReadyPod,
        namespace: &str,
        number: usize,
    ) -> Self {
        let log = StdMutex::new(service.log(instance.seat.store.clone()));
        let version: Arc<StdMutex<Option<String>>> = Arc::default();
        let who = name(service.host(), number);
        let (fences, told) = (instance.fences.clone(), version.clone());
        let sink = move |line: &[u8]| {
            let line = String::from_utf8_lossy(line);
            match log.lock().unwrap_or_else(PoisonError::into_inner).line(&line) {
                PodLine::Seen => {}
                PodLine::Fence(token) => fences.saw(&who, &token),
                PodLine::Version(version) => {
                    *told.lock().unwrap_or_else(PoisonError::into_inner) = Some(version);
                }
            }
        };
        let container = pod.container(namespace, nginx::NGINX);
        let follower = instance.api.follow_logs(&container, Timestamp::UNIX_EPOCH, sink);
        Self { host: service.host().to_owned(), address: pod.address.clone(), follower, number, version }
    }

    /// Who logs its fences.
    pub(super) fn name(&self) -> String {
        name(&self.host, self.number)
    }
}

fn name(host: &str, number: usize) -> String {
    format!("nginx {number} for {host}")
}

/// A host of the cluster's own that no document's ServiceEntry defines.
fn in_cluster(host: &str) -> bool {
    host.ends_with(".svc.cluster.local")
}

impl ClusterInstance {
    /// Tells what an nginx pod runs.
    pub(super) fn note_nginx(&self, pod: &ReadyPod) {
        self.noted.ran(&pod.ran, |container| (container == nginx::NGINX).then_some(EXTERNAL));
    }

    pub(super) async fn deploy(
        &self,
        specs: Vec<(ExternalSpec, Documented)>,
    ) -> Result<Vec<ExternalService>, TargetError> {
        if let Some((spec, _)) = specs.iter().find(|(_, documented)| *documented == Documented::Embedded) {
            return Err(TargetError::Unable(format!(
                "{} must show what a stock nginx cannot (the ALPN that a client offers, digests of bodies, trailers), and in a \
                 cluster external services are stock nginx pods; local targets can be asked",
                spec.host
            )));
        }
        if self.is_live() {
            let real = |(spec, _): (ExternalSpec, Documented)| ExternalService {
                host: spec.host,
                kind: ExternalService::LIVE.to_owned(),
                version: "the document's own host".to_owned(),
            };
            return Ok(specs.into_iter().map(real).collect());
        }
        let mut state = self.state.lock().await;
        let mut made = Vec::new();
        for (spec, _) in specs {
            state.deployed += 1;
            let service = PodService::external(spec);
            let objects = nginx::external(&self.plan(), &service, state.deployed).map_err(|reason| {
                TargetError::Unable(format!("{}: {reason}; local targets can be asked", service.host()))
            })?;
            made.push((state.deployed, service, objects));
        }
        let namespace = self.places.outside();
        let pods = try_join_all(made.iter().map(|(number, _, objects)| async move {
            self.apply_all(objects).await?;
            await_pod(&self.api, namespace, &format!("external-{number}"), Timeout::ExternalServiceReady)
                .await
        }));
        let pods = pods.await?;
        let (mut formers, mut versions) = (Vec::new(), Vec::new());
        let token = self.fence_token();
        for ((number, service, _), pod) in made.iter().zip(&pods) {
            self.note_nginx(pod);
            let server = Server::follow(self, service, pod, namespace, *number);
            versions.push(server.version.clone());
            let mut servers = self.servers.lock().await;
            let former = servers.iter().position(|s| s.host == service.host() && s.number > 0);
            formers.extend(former.map(|at| servers.remove(at)));
            servers.push(server);
        }
        // Their logs are read from here on: nothing that they see later is missed.
        self.fence_servers(&token).await?;
        for ((_, service, _), pod) in made.iter().zip(&pods) {
            self.lead(&mut state, service.host(), &pod.address, service.ports()).await?;
        }
        for former in formers {
            self.retire(former).await?;
        }
        let described = made.iter().zip(versions).map(|((_, service, _), version)| {
            let version = version.lock().unwrap_or_else(PoisonError::into_inner).clone();
            ExternalService {
                host: service.host().to_owned(),
                kind: "nginx-pod".to_owned(),
                version: version.unwrap_or_else(|| self.settings.image("external").to_owned()),
            }
        });
        Ok(described.collect())
    }

    /// Makes a host lead to an address, for whoever dials it and for the mesh.
    async fn lead(
        &self,
        state: &mut State,
        host: &str,
        address: &str,
        ports: Vec<u16>,
    ) -> Result<(), TargetError> {
        let pin = in_cluster(host).then(|| mesh::pin(&self.plan(), host, address, &ports));
        let pod = address.to_owned();
        self.set_address(host, Some(Address { dialled: pod.clone(), pod, ports }));
        state.pins.insert(host.to_owned(), address.to_owned());
        let mut changed = self.repin(state).await?;
        if let Some(pin) = pin {
            self.apply(&pin).await?;
            changed = true;
        }
        if changed { self.advance(state, &["ServiceEntry"]).await } else { Ok(()) }
    }

    /// Takes down a server that another took the place of.
    async fn retire(&self, server: Server) -> Result<(), TargetError> {
        let name = format!("external-{}", server.number);
        let namespace = self.places.outside().to_owned();
        for kind in ["Deployment", "ConfigMap", "Secret"] {
            let id = ResourceId { kind: kind.to_owned(), namespace: namespace.clone(), name: name.clone() };
            self.api.delete(&id).await.map_err(ApiError::blame)?;
        }
        let _how = server.follower.stop().await;
        Ok(())
    }

    /// Sets the environment variable of a workload's application: its configuration is written again and taken up.
    pub(super) async fn tell_details(
        &self,
        state: &mut State,
        workload: &str,
        name: &str,
        value: &str,
    ) -> Result<(), TargetError> {
        let workloads = &self.seat.topology.workloads;
        let application = workloads.iter().find(|w| w.name == workload).and_then(|w| w.serves);
        let application = application.filter(|application| application.plain_if == name);
        let found = application.and_then(|a| Some((a, self.proxy(workload)?.client()?)));
        let (application, client) =
            found.ok_or_else(|| environment(format!("{workload} has no application that reads {name}")))?;
        state.told += 1;
        let address = self.dialled(application.host);
        let mark = format!("told {}", state.told);
        let configuration = details_configuration(&application, address.as_deref(), value == "true")
            .replace("return 200;", &format!("return 200 '{mark}';"));
        let server = crate::api::PodRef { container: APPLICATION.to_owned(), ..client.clone() };
        let limits =
            ExecLimits { stdout: 4096, stderr: 4096, time: self.seat.timeouts.get(Timeout::ClusterAnswer) };
        let script = "cat > /tmp/details.conf && nginx -c /tmp/nginx.conf -e /dev/stderr -s reload";
        let words = ["sh", "-c", script].map(str::to_owned);
        let told = self.api.exec(&server, &words, Bytes::from(configuration), limits).await;
        let told = told.map_err(ApiError::blame)?;
        if told.code != Some(0) {
            let words = String::from_utf8_lossy(&told.stderr).into_owned();
            return Err(environment(format!(
                "nginx in {} did not take its configuration: {words}",
                client.pod
            )));
        }
        let limit = self.seat.timeouts.get(Timeout::Applied);
        let ask =
            ["curl", "-q", "-sS", &format!("http://127.0.0.1:{}/ready", application.port)].map(str::to_owned);
        let taken_up = async {
            // By twice the same answer: of two workers, the old one is on its way out.
            let mut times = 0;
            while times < 2 {
                let answer =
                    self.api.exec(&client, &ask, Bytes::new(), limits).await.map_err(ApiError::blame)?;
                times = if answer.stdout == mark.as_bytes() { times + 1 } else { 0 };
                if times == 0 {
                    tokio::time::sleep(POLL).await;
                }
            }
            Ok(())
        };
        tokio::time::timeout(limit, taken_up).await.unwrap_or_else(|_| {
            Err(environment(format!(
                "{workload} did not take up {name} within the timeout `applied` ({limit:?})"
            )))
        })
    }
}
