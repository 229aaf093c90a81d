//! What the configuration promises for a request, as far as the implementation declares that it can keep it.

use meshproof_model::{Feature, Hop, Side, TCP};
use url::Url;

use super::Ledger;
use crate::forecast::{Forecast, Promise, Sender, SentRequest};
use crate::workload::authority_of;

/// Whether the implementation declares every feature that this request needs. What it declares it lacks is not judged.
pub(super) fn is_asked_for(ledger: &Ledger, promise: &Promise, hop: &Hop) -> bool {
    let http2 = hop.sent.starts_with("PRI * HTTP/2");
    let web_socket = hop.sent.to_ascii_lowercase().contains("\r\nupgrade: websocket\r\n");
    let of_request = (!http2 || ledger.has(Feature::Http2))
        && (!web_socket || ledger.has(Feature::WebSocket))
        && (hop.method != TCP || ledger.has(Feature::TcpOrigination));
    let of_way = match promise {
        Promise::Arrives(arrival) => arrival.needs.iter().all(|feature| ledger.has(*feature)),
        Promise::Ends { .. } => ledger.has(Feature::RegistryOnly),
        Promise::Open => true,
    };
    of_request && of_way
}

pub(super) fn sender<'a>(ledger: &'a Ledger, side: &'a Side, token: &str) -> Option<Sender<'a>> {
    match side {
        Side::Workload { name } => Some(Sender::Workload(name)),
        Side::Suite => ledger.probes.get(token).map(Sender::Probe),
        Side::Proxy { .. } | Side::Service { .. } => None,
    }
}

pub(super) fn promises(forecast: &dyn Forecast, sender: Sender<'_>, hop: &Hop) -> Vec<Promise> {
    let Ok(url) = Url::parse(&hop.url) else { return vec![Promise::Open] };
    let host = hop.headers.iter().find(|h| h.name == "host").map(|h| h.value.clone());
    let authority = host.unwrap_or_else(|| authority_of(&hop.url).to_owned());
    let headers: Vec<(String, String)> =
        hop.headers.iter().map(|h| (h.name.to_ascii_lowercase(), h.value.clone())).collect();
    let own_name = hop.tls.as_ref().and_then(|tls| tls.server_name.clone());
    let server_name = matches!(url.scheme(), "https" | "tls")
        .then(|| own_name.or_else(|| url.host_str().map(str::to_owned)).unwrap_or_default());
    forecast.all(&SentRequest {
        sender,
        method: &hop.method,
        url: &hop.url,
        authority: &authority,
        server_name: server_name.as_deref(),
        http: hop.method != TCP,
        headers: &headers,
    })
}
