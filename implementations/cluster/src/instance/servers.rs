//! External services, which are nginx pods, and the workloads' applications.

use std::sync::PoisonError;

use bytes::Bytes;
use futures_util::future::try_join_all;
use meshproof_harness::external::{Documented, ExternalSpec};
use meshproof_harness::target::TargetError;
use meshproof_harness::timeouts::Timeout;
use meshproof_harness::workload::RequestSpec;
use meshproof_model::ExternalService;
use meshproof_model::ResourceId;
use meshproof_nginx::PodService;

use super::nginx_pod::NginxPod;
use super::readiness::await_pod;
use super::ready_pod::{POLL, ReadyPod};
use super::state::{ClusterInstance, Configured, HostAddress, InForce, environment};
use crate::api::{ApiError, ExecLimits, PodRef};
use crate::manifests::workload::{APPLICATION, application_configuration};
use crate::manifests::{mesh, nginx};

/// Whether it is a host of the cluster itself, which no document's ServiceEntry defines.
fn in_cluster(host: &str) -> bool {
    host.ends_with(".svc.cluster.local")
}

/// Why no external service in a cluster is the embedded one.
pub(crate) const ONLY_NGINX: &str = "without the suite's own image, external services in a cluster are stock nginx pods, which cannot \
                                     show what this needs (such as the ALPN that a client offers, digests of bodies and trailers); \
                                     give the image with --image suite=IMAGE, or use a local target";

impl ClusterInstance {
    pub(super) fn follow_nginx(
        &self,
        service: &PodService,
        pod: &ReadyPod,
        namespace: &str,
        number: usize,
    ) -> NginxPod {
        let (store, markers) = (&self.seat.store, &self.flush_markers);
        NginxPod::follow(&self.api, store, markers, service, pod, namespace, number)
    }

    pub(super) async fn deploy(
        &self,
        specs: Vec<(ExternalSpec, Documented)>,
    ) -> Result<Vec<ExternalService>, TargetError> {
        if self.uses_suite_image() {
            return self.deploy_served(specs).await;
        }
        if specs.iter().any(|(_, documented)| *documented == Documented::Embedded) {
            return Err(TargetError::Unable(ONLY_NGINX.to_owned()));
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
            let objects = nginx::external(&self.context(), &service, state.deployed).map_err(|reason| {
                TargetError::Unable(format!("{}: {reason}; use a local target", service.host()))
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
        let token = self.flush_token();
        for ((number, service, _), pod) in made.iter().zip(&pods) {
            self.note_nginx(pod);
            let server = self.follow_nginx(service, pod, namespace, *number);
            versions.push(server.version());
            let mut servers = self.servers.lock().await;
            let former = servers.iter().position(|s| s.host == service.host() && s.number > 0);
            formers.extend(former.map(|at| servers.remove(at)));
            servers.push(server);
        }
        // Their logs are followed from here on: nothing that they log later is missed.
        self.flush_servers(&token).await?;
        let hosts = made.iter().zip(&pods).map(|((_, service, _), pod)| {
            let address = HostAddress::of_pod(&pod.address, service.ports());
            (service.host().to_owned(), address)
        });
        self.point(&mut state, hosts.collect()).await?;
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

    /// The same with pods of the suite's own image.
    async fn deploy_served(
        &self,
        specs: Vec<(ExternalSpec, Documented)>,
    ) -> Result<Vec<ExternalService>, TargetError> {
        let mut state = self.state.lock().await;
        let first = state.deployed + 1;
        state.deployed += specs.len();
        let numbered = specs.into_iter().zip(first..);
        let started = numbered.map(|((spec, _), number)| self.start_served(spec, number));
        let started = try_join_all(started).await?;
        let described = started.iter().map(|server| server.described.clone()).collect();
        let mut hosts = Vec::new();
        let mut formers = Vec::new();
        for server in started {
            let address = HostAddress::of_pod(&server.address, server.ports.clone());
            hosts.extend(server.hosts.iter().map(|host| (host.clone(), address.clone())));
            let mut served = self.served.lock().await;
            let former = served.iter().position(|former| former.hosts.first() == server.hosts.first());
            formers.extend(former.map(|at| served.remove(at)));
            served.push(server);
        }
        self.point(&mut state, hosts).await?;
        for former in formers {
            former.session.served.stop().await.map_err(environment)?;
            self.remove_external(former.number, &["Deployment"]).await?;
        }
        Ok(described)
    }

    /// Points hosts to addresses, for clients and for the mesh.
    async fn point(&self, state: &mut InForce, hosts: Vec<(String, HostAddress)>) -> Result<(), TargetError> {
        let mut pins = Vec::new();
        for (host, address) in hosts {
            if in_cluster(&host) {
                let context = self.context();
                pins.push(mesh::pin(&context, &host, &address.pod, &address.ports));
                pins.extend(mesh::plaintext(&context, self.places.outside(), &host));
            }
            state.pins.insert(host.clone(), address.pod.clone());
            self.set_address(&host, Some(address));
        }
        let mut changed = self.repin(state).await?;
        for pin in pins {
            self.apply(&pin).await?;
            changed = true;
        }
        if changed { self.advance(state, &["ServiceEntry"]).await } else { Ok(()) }
    }

    /// Removes a server that another one has replaced.
    async fn retire(&self, server: NginxPod) -> Result<(), TargetError> {
        self.remove_external(server.number, &["Deployment", "ConfigMap", "Secret"]).await?;
        let _end = server.follower.stop().await;
        Ok(())
    }

    async fn remove_external(&self, number: usize, kinds: &[&str]) -> Result<(), TargetError> {
        let name = format!("external-{number}");
        let namespace = self.places.outside().to_owned();
        for kind in kinds {
            let (kind, namespace, name) = ((*kind).to_owned(), namespace.clone(), name.clone());
            self.api.delete(&ResourceId { kind, namespace, name }).await.map_err(ApiError::blame)?;
        }
        Ok(())
    }

    /// Configures applications again whose external service has another address now, as name resolution would show them.
    pub(super) async fn redirect_applications(&self, state: &mut InForce) -> Result<(), TargetError> {
        for (workload, configured) in state.applications.clone() {
            let workloads = &self.seat.topology.workloads;
            let application = workloads.iter().find(|w| w.name == workload).and_then(|w| w.serves.as_ref());
            let address = application.and_then(|a| self.dialled_by(&workload, &a.host));
            if address != configured.address {
                let (name, value) = &configured.variable;
                self.set_application_variable(state, &workload, name, value).await?;
            }
        }
        Ok(())
    }

    /// Sets an environment variable of a workload's application: its server is configured accordingly. Returns when
    /// the new configuration answers.
    pub(super) async fn set_application_variable(
        &self,
        state: &mut InForce,
        workload: &str,
        name: &str,
        value: &str,
    ) -> Result<(), TargetError> {
        let workloads = &self.seat.topology.workloads;
        let application = workloads.iter().find(|w| w.name == workload).and_then(|w| w.serves.clone());
        let application = application.filter(|application| application.plain_if.as_deref() == Some(name));
        let found = application.and_then(|a| Some((a, self.proxy(workload)?.client()?)));
        let (application, client) = found.ok_or_else(|| {
            environment(format!("{workload} has no application that reads the variable {name}"))
        })?;
        state.application_revision += 1;
        let address = self.dialled_by(workload, &application.host);
        let variable = (name.to_owned(), value.to_owned());
        state.applications.insert(workload.to_owned(), Configured { variable, address: address.clone() });
        let mark = format!("revision {}", state.application_revision);
        let configuration = application_configuration(&application, address.as_deref(), value == "true")
            .replace("return 200;", &format!("return 200 '{mark}';"));
        let server = PodRef { container: APPLICATION.to_owned(), ..client.clone() };
        let time = self.seat.timeouts.get(Timeout::ClusterAnswer);
        let limits = ExecLimits { stdout: 4096, stderr: 4096, time };
        let script = "cat > /tmp/details.conf && nginx -c /tmp/nginx.conf -e /dev/stderr -s reload";
        let argv = ["sh", "-c", script].map(str::to_owned);
        let output = self.api.exec(&server, &argv, Bytes::from(configuration), limits).await;
        let output = output.map_err(ApiError::blame)?;
        if output.code != Some(0) {
            let words = String::from_utf8_lossy(&output.stderr).into_owned();
            return Err(environment(format!("nginx in {} refused its configuration: {words}", client.pod)));
        }
        let limit = self.seat.timeouts.get(Timeout::Applied);
        let ready =
            RequestSpec::get(format!("http://127.0.0.1:{}/ready", application.port), self.flush_token());
        let configured = async {
            // The same answer twice in a row: an old worker may still answer while it exits.
            let mut times = 0;
            while times < 2 {
                let answer = self.exchange(&client, &ready, Some("127.0.0.1"), None).await?;
                let says = answer.last_response().is_some_and(|response| response.body == mark);
                times = if says { times + 1 } else { 0 };
                if times == 0 {
                    tokio::time::sleep(POLL).await;
                }
            }
            Ok(())
        };
        tokio::time::timeout(limit, configured).await.unwrap_or_else(|_| {
            Err(environment(format!(
                "{workload} did not apply {name} within the timeout `applied` ({limit:?})"
            )))
        })
    }
}
