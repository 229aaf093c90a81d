//! The suite's own servers and clients in pods of its image: processes that the suite starts by exec, and speaks to over that
//! stream ([`meshproof_harness::served`]).

use std::net::IpAddr;

use meshproof_harness::external::ExternalSpec;
use meshproof_harness::served::{Listen, Sender, Served, Setup, Towards};
use meshproof_harness::target::{EndedExchange, TargetError};
use meshproof_harness::timeouts::Timeout;
use meshproof_harness::workload::RequestSpec;
use meshproof_model::Exchange;

use super::readiness::await_pod;
use super::ready_pod::ReadyPod;
use super::sessions::{ServedPod, Session};
use super::state::{ClusterInstance, environment};
use crate::api::{ApiError, PodRef};
use crate::curl::Route;
use crate::manifests::served;

impl ClusterInstance {
    /// Whether the suite's own image serves and sends.
    pub(super) fn uses_suite_image(&self) -> bool {
        self.context().suite_image().is_some()
    }

    async fn session(&self, pod: &PodRef, client: Option<Sender>) -> Result<Session, TargetError> {
        let argv = [served::PROGRAM.to_owned(), "serve".to_owned()];
        let (output, input, stream) = self.api.stream(pod, &argv).await.map_err(ApiError::blame)?;
        let who = format!("{}/{}", pod.namespace, pod.pod);
        let setup = Setup { who, client, timeouts: &self.seat.timeouts };
        match Served::begin(output, input, &setup, self.seat.store.clone()).await {
            Ok(served) => Ok(Session::new(served, stream)),
            Err(e) => {
                let image = self.settings.suite_image().unwrap_or_default();
                Err(environment(format!(
                    "{e} ({}). Check that the image {image}, given with --image suite=IMAGE, is one of meshproof and of this version",
                    stream.reason().await
                )))
            }
        }
    }

    /// Starts the pod of an external service, and the service in it.
    pub(super) async fn start_served(
        &self,
        spec: ExternalSpec,
        number: usize,
    ) -> Result<ServedPod, TargetError> {
        let context = self.context();
        self.apply(&served::external(&context, number)).await?;
        let namespace = self.places.outside();
        let app = format!("external-{number}");
        let pod = await_pod(&self.api, namespace, &app, Timeout::ExternalServiceReady).await?;
        self.noted.ran(&pod.ran, |container| (container == served::SERVER).then_some("external"));
        let address = address_for(&spec, &pod)?;
        let session = self.session(&pod.container(namespace, served::SERVER), None).await?;
        let hosts: Vec<String> = [spec.host.clone()].into_iter().chain(spec.aliases.clone()).collect();
        let started = session.served.serve(spec, Listen::Everywhere).await.map_err(environment)?;
        let ports = started.1.into_keys().collect();
        Ok(ServedPod { hosts, number, address, ports, described: started.0, session })
    }

    /// Sends requests from a client's pod over one connection, where `in_line` asks for it.
    pub(super) async fn send_by_suite(
        &self,
        client: &PodRef,
        requests: &[RequestSpec],
        route: Route<'_>,
        in_line: bool,
    ) -> Result<Vec<EndedExchange>, TargetError> {
        let cell = self.clients.of(client);
        let begun = cell.get_or_try_init(|| async {
            let roots = self.seat.public_roots.to_string();
            self.session(client, Some(Sender { name: client.pod.clone(), roots })).await
        });
        let served = &begun.await?.served;
        let address = route.address.unwrap_or_default();
        let address: IpAddr =
            address.parse().map_err(|_| environment(format!("{address:?} is not an address")))?;
        let to = vec![Towards { host: None, port: None, address, at_port: route.port }];
        let moved: Vec<RequestSpec> = requests
            .iter()
            .map(|request| RequestSpec { url: self.places.url(&request.url), ..request.clone() })
            .collect();
        if in_line {
            return served.send_in_line(&moved, to).await.map_err(environment);
        }
        let mut exchanges = Vec::with_capacity(moved.len());
        for request in &moved {
            let exchange = served.send(request, to.clone()).await.map_err(environment)?;
            exchanges.push(EndedExchange::now(exchange));
        }
        Ok(exchanges)
    }

    /// The exchange as the scenario knows its hosts.
    pub(super) fn documented(&self, mut exchange: Exchange) -> Exchange {
        exchange.url = self.places.documented(&exchange.url);
        for hop in &mut exchange.hops {
            hop.url = self.places.documented(&hop.url);
            hop.sent = self.places.documented(&hop.sent);
        }
        exchange
    }
}

/// The address of a pod at which a service is reached that may have to be an IPv6 one.
fn address_for(spec: &ExternalSpec, pod: &ReadyPod) -> Result<String, TargetError> {
    if !spec.ipv6 {
        return Ok(pod.address.clone());
    }
    let ipv6 = pod.addresses.iter().find(|address| address.parse::<IpAddr>().is_ok_and(|ip| ip.is_ipv6()));
    ipv6.cloned().ok_or_else(|| {
        TargetError::Unable(
            "IPv6, which the pods of this cluster do not have: they have IPv4 addresses only".to_owned(),
        )
    })
}
