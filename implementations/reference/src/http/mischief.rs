//! What saboteurs do to a request on its way.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Version};
use meshproof_plan::model::{
    Cluster, Discovery, NameCheck, Origination, ServerName, Trust, UpstreamProtocol, UpstreamTls,
};

use super::forward::{Answered, Shipment, Undone, copy, ship};
use super::headers::FORWARDED_PROTO;
use super::{Context, Outgoing};
use crate::failure::Failure;
use crate::pool::dial;
use crate::routes::without_port;
use crate::saboteurs::Saboteur;
use crate::state::{Upstream, World, lookup};

/// Changes to the request itself.
pub(super) fn outgoing(context: &Context, method: &mut Method, headers: &mut HeaderMap, target: &mut String) {
    let Some(saboteur) = context.saboteur() else { return };
    if saboteur == Saboteur::ForwardedProtoHttp {
        headers.insert(FORWARDED_PROTO, HeaderValue::from_static("http"));
    }
    if saboteur == Saboteur::LeakMeshHeaders {
        for name in ["x-envoy-peer-metadata", "x-istio-attributes", "x-forwarded-client-cert"] {
            headers.insert(HeaderName::from_static(name), HeaderValue::from_static("leaked"));
        }
    }
    if saboteur == Saboteur::DropUnknownHeaders {
        let unknown = |name: &&HeaderName| {
            name.as_str().starts_with("x-")
                && !["x-forwarded-", "x-request-id"].iter().any(|known| name.as_str().starts_with(known))
        };
        let names: Vec<HeaderName> = headers.keys().filter(unknown).cloned().collect();
        names.iter().for_each(|name| drop(headers.remove(name)));
    }
    if saboteur == Saboteur::OneValuePerHeader {
        let last: Vec<_> = headers
            .keys()
            .filter_map(|n| Some((n.clone(), headers.get_all(n).iter().next_back()?.clone())))
            .collect();
        last.into_iter().for_each(|(name, value)| drop(headers.insert(name, value)));
    }
    if saboteur == Saboteur::DropQuery
        && let Some((path, _)) = target.split_once('?')
    {
        *target = path.to_owned();
    }
    if saboteur == Saboteur::NormalizePath {
        *target = target.to_ascii_lowercase();
    }
    if saboteur == Saboteur::MethodToGet && *method == Method::HEAD {
        *method = Method::GET;
    }
    if saboteur == Saboteur::AuthorityWithPort {
        let with_port = headers
            .get(header::HOST)
            .and_then(|h| h.to_str().ok())
            .filter(|h| without_port(h) == *h)
            .and_then(|h| HeaderValue::from_str(&format!("{h}:{}", context.bound.port)).ok());
        if let Some(host) = with_port {
            headers.insert(header::HOST, host);
        }
    }
}

/// Sends a request, with what the saboteur does besides.
pub(super) async fn send(
    context: &Context,
    shipment: &Shipment<'_>,
    request: Outgoing,
) -> Result<Answered, Undone> {
    let Some(saboteur) = context.saboteur() else { return ship(context, shipment, request).await };
    let host = without_port(&shipment.authority).to_owned();
    let spare = shipment.replayable.then(|| copy(&request));
    if saboteur == Saboteur::ProbePlainPort {
        probe(context, &host).await;
    }
    if saboteur == Saboteur::SendTwice {
        if let Some(spare) = spare {
            let _ = ship(context, shipment, spare).await;
        }
        return ship(context, shipment, request).await;
    }
    let sent = ship(context, shipment, request).await;
    let (Some(spare), originates) = (spare, originates(shipment.upstream)) else { return sent };
    match (saboteur, &sent) {
        (Saboteur::FallBackToPlaintext, Err(_)) if originates => {
            detour(context, shipment, &host, 80, spare, sent).await
        }
        (
            Saboteur::BypassWhenGatewayDown,
            Err(Undone {
                failure: Failure::Connect(_) | Failure::NoHealthyUpstream | Failure::NoCluster,
                ..
            }),
        ) if !originates => detour(context, shipment, &host, 443, spare, sent).await,
        (Saboteur::FollowRedirect, Ok((response, _))) if response.status().is_redirection() => {
            let location = response.headers().get(header::LOCATION).and_then(|l| l.to_str().ok());
            let Some(uri) = location.and_then(|l| l.parse::<http::Uri>().ok()) else { return sent };
            let port = if uri.scheme_str() == Some("https") { 443 } else { 80 };
            let host = uri.host().map_or(host, str::to_owned);
            let mut next = spare;
            *next.uri_mut() = uri.path_and_query().map_or(http::Uri::from_static("/"), |p| p.clone().into());
            if let Ok(value) = HeaderValue::from_str(&host) {
                next.headers_mut().insert(header::HOST, value);
            }
            let redirected = Shipment {
                upstream: shipment.upstream,
                authority: host.clone(),
                name_host: host.clone(),
                version: Version::HTTP_11,
                upgrade: false,
                replayable: true,
            };
            detour(context, &redirected, &host, port, next, sent).await
        }
        (_, _) => sent,
    }
}

fn originates(upstream: &Upstream) -> bool {
    matches!(upstream.plan.tls, Some(UpstreamTls::Originate(_)))
}

/// Sends a request straight to a host's port, over TLS on 443 without looking at the certificate. Where the host leads
/// nowhere, `instead` stands.
async fn detour(
    context: &Context,
    shipment: &Shipment<'_>,
    host: &str,
    port: u16,
    request: Outgoing,
    instead: Result<Answered, Undone>,
) -> Result<Answered, Undone> {
    let Some(address) = lookup(&context.state.endpoints, host, port) else { return instead };
    drop(instead);
    let tls = (port == 443).then(|| {
        UpstreamTls::Originate(Origination {
            sni: ServerName::FromHost,
            trust: Trust::Anybody,
            names: NameCheck::ChainOnly,
            client_certificate: None,
            alpn: vec!["http/1.1".to_owned()],
            min_version: None,
            max_version: None,
            credential: None,
        })
    });
    let cluster = Cluster {
        name: shipment.upstream.plan.name.clone(),
        discovery: Discovery::Endpoints(vec![address]),
        protocol: UpstreamProtocol::Http1,
        tls,
    };
    let inputs = cluster.tls.is_some().then_some(crate::tls::inputs::Inputs {
        roots: Ok(crate::tls::inputs::Roots::Anybody),
        client: Ok(None),
        crl: None,
    });
    let world = World {
        boot: &context.shared.boot,
        credentials: &std::collections::BTreeMap::new(),
        endpoints: &[],
        tasks: &context.shared.tasks,
        registry: &context.shared.registry,
        saboteur: None,
    };
    let upstream = Upstream::new(cluster, inputs, &world);
    let straight = Shipment {
        upstream: &upstream,
        authority: shipment.authority.clone(),
        name_host: shipment.name_host.clone(),
        version: Version::HTTP_11,
        upgrade: false,
        replayable: true,
    };
    ship(context, &straight, request).await
}

async fn probe(context: &Context, host: &str) {
    let Some(address) = lookup(&context.state.endpoints, host, 80) else { return };
    let Ok(mut tcp) = dial(address).await else { return };
    let head = format!("HEAD / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    let _ = tokio::io::AsyncWriteExt::write_all(&mut tcp, head.as_bytes()).await;
    // Read to its end, so that the server has seen it before the request itself goes out.
    let answer = &mut tokio::io::AsyncReadExt::take(tcp, 64 * 1024);
    let _ = tokio::time::timeout(
        std::time::Duration::from_secs(2),
        tokio::io::AsyncReadExt::read_to_end(answer, &mut Vec::new()),
    )
    .await;
}
