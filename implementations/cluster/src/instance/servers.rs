//! External services, which are nginx pods, and the workloads' applications.

use std::sync::PoisonError;

use bytes::Bytes;
use futures_util::future::try_join_all;
use meshproof_harness::external::{Documented, ExternalSpec};
use meshproof_harness::target::TargetError;
use meshproof_harness::timeouts::Timeout;
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
pub(crate) const ONLY_NGINX: &str = "external services in a cluster are stock nginx pods, which cannot show what this needs (the \
                                     ALPN that a client offers, digests of bodies, trailers); use a local target";

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
        for ((_, service, _), pod) in made.iter().zip(&pods) {
            self.point(&mut state, service.host(), &pod.address, service.ports()).await?;
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

    /// Points a host to an address, for clients and for the mesh.
    async fn point(
        &self,
        state: &mut InForce,
        host: &str,
        address: &str,
        ports: Vec<u16>,
    ) -> Result<(), TargetError> {
        let pin = in_cluster(host).then(|| mesh::pin(&self.context(), host, address, &ports));
        let pod = address.to_owned();
        self.set_address(host, Some(HostAddress { dialled: pod.clone(), pod, ports }));
        state.pins.insert(host.to_owned(), address.to_owned());
        let mut changed = self.repin(state).await?;
        if let Some(pin) = pin {
            self.apply(&pin).await?;
            changed = true;
        }
        if changed { self.advance(state, &["ServiceEntry"]).await } else { Ok(()) }
    }

    /// Removes a server that another one has replaced.
    async fn retire(&self, server: NginxPod) -> Result<(), TargetError> {
        let name = format!("external-{}", server.number);
        let namespace = self.places.outside().to_owned();
        for kind in ["Deployment", "ConfigMap", "Secret"] {
            let id = ResourceId { kind: kind.to_owned(), namespace: namespace.clone(), name: name.clone() };
            self.api.delete(&id).await.map_err(ApiError::blame)?;
        }
        let _end = server.follower.stop().await;
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
        let ask =
            ["curl", "-q", "-sS", &format!("http://127.0.0.1:{}/ready", application.port)].map(str::to_owned);
        let configured = async {
            // The same answer twice in a row: an old worker may still answer while it exits.
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
        tokio::time::timeout(limit, configured).await.unwrap_or_else(|_| {
            Err(environment(format!(
                "{workload} did not apply {name} within the timeout `applied` ({limit:?})"
            )))
        })
    }
}
