//! Sending requests, and waiting until their evidence is complete.

use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::join_all;
use meshproof_harness::target::{EndedExchange, Probe, TargetError};
use meshproof_harness::timeouts::Timeout;
use meshproof_harness::token;
use meshproof_harness::workload::RequestSpec;
use meshproof_model::Exchange;
use meshproof_nginx::POD_CONTROL;
use url::Url;

use super::state::{ClusterInstance, ScenarioProxy, environment, socket};
use crate::api::{ApiError, ExecLimits, PodRef};
use crate::curl::{self, MAX_BODY, MAX_TRACE, Route};
use crate::manifests::mesh;
use crate::relocate::NOWHERE;

/// What an exec takes beyond the request itself.
const OVERHEAD: Duration = Duration::from_secs(20);
/// How often a flush marker is sent to a proxy that does not answer.
const MAX_ATTEMPTS: usize = 3;

impl ClusterInstance {
    pub(super) async fn send_from(
        &self,
        workload: &str,
        request: &RequestSpec,
    ) -> Result<Exchange, TargetError> {
        let client = self.client_of(workload)?;
        if request.conversation.is_some() && !self.uses_suite_image() {
            return Err(TargetError::Unable(
                "the workload of a cluster is a stock curl, which holds no conversations over TCP; with --image suite=IMAGE it \
                 is the suite's own client"
                    .to_owned(),
            ));
        }
        let host = host_of(&request.url)?;
        let address = self.dialled_by(workload, &host);
        self.exchange(&client, request, address.as_deref(), None).await
    }

    fn client_of(&self, workload: &str) -> Result<PodRef, TargetError> {
        let client = self.proxy(workload).filter(|p| !p.is_gateway).and_then(ScenarioProxy::client);
        client.ok_or_else(|| environment(format!("the scenario has no workload {workload}")))
    }

    pub(super) async fn send_all_from(
        &self,
        workload: &str,
        requests: &[RequestSpec],
    ) -> Result<Vec<EndedExchange>, TargetError> {
        let mut addresses = Vec::new();
        for request in requests {
            addresses.push(self.dialled_by(workload, &host_of(&request.url)?));
        }
        let one = addresses.first().cloned().flatten();
        if !self.uses_suite_image() || one.is_none() || addresses.iter().any(|address| *address != one) {
            let mut exchanges = Vec::with_capacity(requests.len());
            for request in requests {
                exchanges.push(EndedExchange::now(self.send_from(workload, request).await?));
            }
            return Ok(exchanges);
        }
        let route = Route { address: one.as_deref(), ..Route::default() };
        self.in_line(&self.client_of(workload)?, requests, route).await
    }

    async fn in_line(
        &self,
        client: &PodRef,
        requests: &[RequestSpec],
        route: Route<'_>,
    ) -> Result<Vec<EndedExchange>, TargetError> {
        let ended = self.send_by_suite(client, requests, route, true).await?;
        let documented =
            |one: EndedExchange| EndedExchange { exchange: self.documented(one.exchange), ended: one.ended };
        Ok(ended.into_iter().map(documented).collect())
    }

    pub(super) async fn ask_all_directly(
        &self,
        probe: &Probe,
        requests: &[RequestSpec],
    ) -> Result<Vec<EndedExchange>, TargetError> {
        let mut places = Vec::new();
        if self.uses_suite_image() {
            for request in requests {
                places.push(self.place_of(probe, request)?);
            }
        }
        match places.first().cloned().flatten() {
            Some((address, port)) if places.iter().all(|p| *p == places[0]) => {
                let route = Route { address: Some(&address), port, ..Route::default() };
                self.in_line(&self.probe, requests, route).await
            }
            Some(_) | None => {
                let mut exchanges = Vec::with_capacity(requests.len());
                for request in requests {
                    exchanges.push(EndedExchange::now(self.ask_directly(probe, request).await?));
                }
                Ok(exchanges)
            }
        }
    }

    pub(super) async fn ask_directly(
        &self,
        probe: &Probe,
        request: &RequestSpec,
    ) -> Result<Exchange, TargetError> {
        match self.place_of(probe, request)? {
            None => self.exchange(&self.probe, request, None, None).await,
            Some((address, port)) => self.exchange(&self.probe, request, Some(&address), port).await,
        }
    }

    /// The address that a probe's URL stands for, and its port where that is not the URL's; none if name servers know it.
    fn place_of(
        &self,
        probe: &Probe,
        request: &RequestSpec,
    ) -> Result<Option<(String, Option<u16>)>, TargetError> {
        let unknown = |what: &str| environment(format!("the scenario has no running server for {what}"));
        Ok(Some(match probe {
            Probe::External if self.is_live() => return Ok(None),
            Probe::External => {
                let host = host_of(&request.url)?;
                (self.address(&host).ok_or_else(|| unknown(&host))?.pod, None)
            }
            Probe::Gateway { gateway, port } => {
                let address = self.proxy(gateway).and_then(ScenarioProxy::address);
                (address.ok_or_else(|| unknown(gateway))?, Some(*port))
            }
            Probe::Workload { workload } => {
                let served = self.proxy(workload).and_then(|p| Some((p.address()?, p.serves?)));
                let (address, port) = served.ok_or_else(|| unknown(workload))?;
                (address, Some(port))
            }
        }))
    }

    /// Sends a request from a client's pod, by the suite's own client or by curl.
    pub(super) async fn exchange(
        &self,
        client: &PodRef,
        request: &RequestSpec,
        address: Option<&str>,
        port: Option<u16>,
    ) -> Result<Exchange, TargetError> {
        let limit = self.seat.timeouts.get(Timeout::Request);
        let url = self.places.url(&request.url);
        let route = Route { address, port, live: self.is_live() };
        if self.uses_suite_image() {
            let mut sent = self.send_by_suite(client, std::slice::from_ref(request), route, false).await?;
            let sent = sent.pop().ok_or_else(|| environment("the suite's client sent nothing"))?;
            return Ok(self.documented(sent.exchange));
        }
        let command = curl::command(request, &url, route, limit)?;
        let limits = ExecLimits { stdout: MAX_BODY, stderr: MAX_TRACE, time: limit + OVERHEAD };
        let begun = Instant::now();
        let output =
            self.api.exec(client, &command.argv, command.stdin, limits).await.map_err(ApiError::blame)?;
        let exchange = curl::exchange(request, &url, &output, begun.elapsed());
        let exchange = exchange
            .map_err(|words| environment(format!("in {}/{}: {words}", client.namespace, client.pod)))?;
        Ok(self.documented(exchange))
    }

    /// Sends a flush marker to every proxy and every server, and returns when all of them have logged it.
    pub(super) async fn settle_all(&self) -> Result<(), TargetError> {
        let token = self.flush_token();
        let revision = self.state.lock().await.revision;
        let sidecars = join_all(
            self.proxies
                .iter()
                .filter(|p| !p.is_gateway && p.pod().is_some())
                .map(|p| self.flush_proxy(p, revision, &token)),
        );
        let gateways = join_all(
            self.proxies
                .iter()
                .filter(|p| p.is_gateway && p.pod().is_some())
                .map(|p| self.flush_proxy(p, revision, &token)),
        );
        let served = async {
            let servers = self.served.lock().await;
            let settled = join_all(servers.iter().map(|server| server.session.served.settle())).await;
            settled.into_iter().collect::<Result<(), _>>().map_err(environment)
        };
        let (sidecars, gateways, servers, served) =
            tokio::join!(sidecars, gateways, self.flush_servers(&token), served);
        served?;
        let asked: Vec<String> = sidecars.into_iter().chain(gateways).collect::<Result<_, _>>()?;
        servers?;
        let Ok(logs) = &self.injection.access_logs else { return Ok(()) };
        let limit = self.seat.timeouts.get(Timeout::EvidenceSettled);
        self.flush_markers.wait(&asked, &token, limit).await.map_err(|silent| {
            let refused = self.rejections.quoted(silent.iter().map(String::as_str));
            environment(format!(
                "the access log of {} does not show the suite's own request within the timeout `{}` ({limit:?}){refused}. \
                 Check whether the mesh configuration's provider {} writes its access log where `kubectl logs` shows it, in the \
                 format that `meshproof doctor --target cluster` names",
                silent.join(", "),
                Timeout::EvidenceSettled,
                logs.provider
            ))
        })
    }

    /// Sends the token to a proxy's marker: through a sidecar from the container beside it, to a gateway from
    /// outside. Returns its name when it has answered.
    async fn flush_proxy(
        &self,
        proxy: &ScenarioProxy,
        revision: u64,
        token: &str,
    ) -> Result<String, TargetError> {
        let host = mesh::marker_host(&self.context(), revision);
        let url = format!("http://{host}:{}/", mesh::MARKER_PORT);
        let (client, address) = if proxy.is_gateway {
            (Some(self.probe.clone()), proxy.address().unwrap_or_default())
        } else {
            (proxy.client(), NOWHERE.to_owned())
        };
        let client = client.ok_or_else(|| environment(format!("the proxy {} is not running", proxy.name)))?;
        let mut seen = String::new();
        for _ in 0..MAX_ATTEMPTS {
            let exchange =
                self.exchange(&client, &RequestSpec::get(&url, token), Some(&address), None).await?;
            match exchange.last_response() {
                Some(response) if response.status == 200 => return Ok(proxy.name.clone()),
                Some(response) => seen = format!("status {}", response.status),
                None => seen = format!("{:?}", exchange.hops.first().map(|h| &h.result)),
            }
        }
        let refused = self.rejections.quoted([proxy.name.as_str()]);
        Err(environment(format!(
            "{} does not answer the suite's own request for {host} ({seen}){refused}. Check which policies, EnvoyFilters \
             and other resources of the whole mesh apply to it: `istioctl proxy-config routes {}.{}`",
            proxy.name,
            proxy.pod().map(|pod| pod.pod).unwrap_or_default(),
            proxy.namespace
        )))
    }

    /// The same for the nginx pods, with one curl for all.
    pub(super) async fn flush_servers(&self, token: &str) -> Result<(), TargetError> {
        let servers: Vec<(String, String)> =
            self.servers.lock().await.iter().map(|s| (s.name(), s.address.clone())).collect();
        if servers.is_empty() {
            return Ok(());
        }
        let limit = self.seat.timeouts.get(Timeout::EvidenceSettled);
        if self.uses_suite_image() {
            for (_, address) in &servers {
                let url = format!("http://{}/flush-marker?token={token}", socket(address, POD_CONTROL));
                self.exchange(&self.probe, &RequestSpec::get(&url, token), Some(address), None).await?;
            }
            return self.await_flushed(servers, token).await;
        }
        let mut argv: Vec<String> = ["curl", "-q", "-sS"].map(str::to_owned).to_vec();
        argv.extend(["-A".to_owned(), token::user_agent(token), "--max-time".to_owned()]);
        argv.push(limit.as_secs().max(1).to_string());
        for (_, address) in &servers {
            let place = socket(address, POD_CONTROL);
            argv.extend([
                "-o".to_owned(),
                "/dev/null".to_owned(),
                format!("http://{place}/flush-marker?token={token}"),
            ]);
        }
        let limits = ExecLimits { stdout: 4096, stderr: 4096, time: limit + OVERHEAD };
        self.api.exec(&self.probe, &argv, Bytes::new(), limits).await.map_err(ApiError::blame)?;
        self.await_flushed(servers, token).await
    }

    async fn await_flushed(&self, servers: Vec<(String, String)>, token: &str) -> Result<(), TargetError> {
        let limit = self.seat.timeouts.get(Timeout::EvidenceSettled);
        let names: Vec<String> = servers.into_iter().map(|(name, _)| name).collect();
        self.flush_markers.wait(&names, token, limit).await.map_err(|silent| {
            environment(format!(
                "{} did not write their logs within the timeout `evidence-settled` ({limit:?}); see `kubectl \
                 logs -n {}`",
                silent.join(", "),
                self.places.outside()
            ))
        })
    }
}

fn host_of(url: &str) -> Result<String, TargetError> {
    let parsed = Url::parse(url).map_err(|e| environment(format!("{url} is not a URL: {e}")))?;
    let host = parsed.host_str().ok_or_else(|| environment(format!("{url} names no host")))?;
    Ok(host.to_ascii_lowercase())
}
