//! How requests are sent, and how their evidence is complete.

use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::join_all;
use meshproof_harness::target::{Probe, TargetError};
use meshproof_harness::timeouts::Timeout;
use meshproof_harness::token;
use meshproof_harness::workload::RequestSpec;
use meshproof_model::Exchange;
use meshproof_nginx::POD_CONTROL;
use url::Url;

use super::{ClusterInstance, Proxy, environment};
use crate::api::{ApiError, ExecLimits, PodRef};
use crate::curl::{self, MAX_BODY, MAX_TRACE, Way};
use crate::manifests::mesh;
use crate::relocate::NOWHERE;

/// What an exec takes beyond the request itself.
const OVERHEAD: Duration = Duration::from_secs(20);
/// How often the suite asks at the beacon before it says that nobody answers.
const TRIES: usize = 3;

impl ClusterInstance {
    pub(super) async fn send_from(
        &self,
        workload: &str,
        request: &RequestSpec,
    ) -> Result<Exchange, TargetError> {
        let client = self.proxy(workload).filter(|p| !p.is_gateway).and_then(Proxy::client);
        let client = client.ok_or_else(|| environment(format!("the scenario has no workload {workload}")))?;
        let host = host_of(&request.url)?;
        let address = self.dialled(&host);
        self.curl(&client, request, address.as_deref(), None).await
    }

    pub(super) async fn ask_directly(
        &self,
        probe: &Probe,
        request: &RequestSpec,
    ) -> Result<Exchange, TargetError> {
        let unknown = |what: &str| environment(format!("{what}: nothing is there to be asked"));
        let (address, port) = match probe {
            Probe::External if self.is_live() => return self.curl(&self.probe, request, None, None).await,
            Probe::External => {
                let host = host_of(&request.url)?;
                (self.address(&host).ok_or_else(|| unknown(&host))?.pod, None)
            }
            Probe::Gateway { gateway, port } => {
                let address = self.proxy(gateway).and_then(Proxy::address);
                (address.ok_or_else(|| unknown(gateway))?, Some(*port))
            }
            Probe::Workload { workload } => {
                let served = self.proxy(workload).and_then(|p| Some((p.address()?, p.serves?)));
                let (address, port) = served.ok_or_else(|| unknown(workload))?;
                (address, Some(port))
            }
        };
        self.curl(&self.probe, request, Some(&address), port).await
    }

    async fn curl(
        &self,
        client: &PodRef,
        request: &RequestSpec,
        address: Option<&str>,
        port: Option<u16>,
    ) -> Result<Exchange, TargetError> {
        let limit = self.seat.timeouts.get(Timeout::Request);
        let url = self.places.url(&request.url);
        let way = Way { address, port, live: self.is_live() };
        let command = curl::command(request, &url, way, limit)?;
        let limits = ExecLimits { stdout: MAX_BODY, stderr: MAX_TRACE, time: limit + OVERHEAD };
        let begun = Instant::now();
        let output =
            self.api.exec(client, &command.argv, command.stdin, limits).await.map_err(ApiError::blame)?;
        if matches!(output.code, None | Some(2 | 126 | 127)) {
            // 2: curl does not know an option (its manual, "EXIT CODES"); 126 and 127: the shell did not find it.
            let words = meshproof_harness::store::bounded(&String::from_utf8_lossy(&output.stderr), 500);
            return Err(environment(format!(
                "curl cannot be run in {}/{} ({words}): the image must have a curl of 7.88 or later, and sh; see --image workload=",
                client.namespace, client.pod
            )));
        }
        let mut exchange = curl::exchange(request, &url, &output, begun.elapsed());
        exchange.url = self.places.documented(&exchange.url);
        for hop in &mut exchange.hops {
            hop.url = self.places.documented(&hop.url);
            hop.sent = self.places.documented(&hop.sent);
        }
        Ok(exchange)
    }

    /// Asks every proxy at its beacon and every server at the suite's door, and returns when all of them have logged it.
    pub(super) async fn settle_all(&self) -> Result<(), TargetError> {
        let token = self.fence_token();
        let revision = self.state.lock().await.revision;
        let sidecars = join_all(
            self.proxies
                .iter()
                .filter(|p| !p.is_gateway && p.pod().is_some())
                .map(|p| self.ask_beacon(p, revision, &token)),
        );
        let gateways = join_all(
            self.proxies
                .iter()
                .filter(|p| p.is_gateway && p.pod().is_some())
                .map(|p| self.ask_beacon(p, revision, &token)),
        );
        let (sidecars, gateways, servers) = tokio::join!(sidecars, gateways, self.fence_servers(&token));
        let asked: Vec<String> = sidecars.into_iter().chain(gateways).collect::<Result<_, _>>()?;
        servers?;
        let limit = self.seat.timeouts.get(Timeout::EvidenceSettled);
        self.fences.wait(&asked, &token, limit).await.map_err(|silent| {
            TargetError::Gone(format!(
                "{} did not deliver their access logs within the timeout `evidence-settled` ({limit:?})",
                silent.join(", ")
            ))
        })
    }

    /// Sends the token to a proxy's beacon: through the sidecar from beside it, to a gateway from outside. Its name, when it has
    /// answered.
    async fn ask_beacon(&self, proxy: &Proxy, revision: u64, token: &str) -> Result<String, TargetError> {
        let host = mesh::beacon_host(&self.plan(), revision);
        let url = format!("http://{host}:{}/", mesh::BEACON_PORT);
        let (client, address) = if proxy.is_gateway {
            (Some(self.probe.clone()), proxy.address().unwrap_or_default())
        } else {
            (proxy.client(), NOWHERE.to_owned())
        };
        let client = client.ok_or_else(|| environment(format!("{} is not there to be asked", proxy.name)))?;
        let mut seen = String::new();
        for _ in 0..TRIES {
            let exchange = self.curl(&client, &RequestSpec::get(&url, token), Some(&address), None).await?;
            match exchange.last_response() {
                Some(response) if response.status == 200 => return Ok(proxy.name.clone()),
                Some(response) => seen = format!("status {}", response.status),
                None => seen = format!("{:?}", exchange.hops.first().map(|h| &h.result)),
            }
        }
        Err(TargetError::Gone(format!(
            "{} does not answer the suite's own question any more ({seen})",
            proxy.name
        )))
    }

    /// The same for the nginx pods, all in one.
    pub(super) async fn fence_servers(&self, token: &str) -> Result<(), TargetError> {
        let servers: Vec<(String, String)> =
            self.servers.lock().await.iter().map(|s| (s.name(), s.address.clone())).collect();
        if servers.is_empty() {
            return Ok(());
        }
        let limit = self.seat.timeouts.get(Timeout::EvidenceSettled);
        let mut argv: Vec<String> = ["curl", "-q", "-sS"].map(str::to_owned).to_vec();
        argv.extend(["-A".to_owned(), token::user_agent(token), "--max-time".to_owned()]);
        argv.push(limit.as_secs().max(1).to_string());
        for (_, address) in &servers {
            let place = super::socket(address, POD_CONTROL);
            argv.extend([
                "-o".to_owned(),
                "/dev/null".to_owned(),
                format!("http://{place}/fence?token={token}"),
            ]);
        }
        let limits = ExecLimits { stdout: 4096, stderr: 4096, time: limit + OVERHEAD };
        self.api.exec(&self.probe, &argv, Bytes::new(), limits).await.map_err(ApiError::blame)?;
        let names: Vec<String> = servers.into_iter().map(|(name, _)| name).collect();
        self.fences.wait(&names, token, limit).await.map_err(|silent| {
            environment(format!(
                "{} did not deliver their logs within the timeout `evidence-settled` ({limit:?}); see `kubectl logs -n {}`",
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
