//! The saboteur that falls back to an old version of TLS.

use async_trait::async_trait;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::plan::originates;
use crate::hooks::{SendHook, SendResult, UpstreamAccess};
use crate::request_body::OutgoingRequest;
use crate::routes::without_port;
use crate::variants::definition::{Definition, VariantBehaviour};
use crate::variants::placement::Placement;

pub(super) const TABLE: &[Definition] = &[Definition::new(
    "offer-old-tls",
    "Offers TLS 1.0 to a server after a handshake with it failed.",
    VariantBehaviour::Sending(&OfferOldTls),
)
.also_at(&Placement::ALL)];

struct OfferOldTls;

#[async_trait]
impl SendHook for OfferOldTls {
    async fn send(&self, upstream: &dyn UpstreamAccess, request: OutgoingRequest) -> SendResult {
        let sent = upstream.send(request).await;
        let facts = upstream.facts();
        if sent.is_err()
            && originates(facts.cluster)
            && let Some(address) = upstream.endpoint(without_port(facts.authority), 443)
            && let Ok(mut tcp) = TcpStream::connect(address).await
            && tcp.write_all(&client_hello()).await.is_ok()
        {
            // The server's answer, whatever it is.
            let _refused = tcp.read(&mut [0; 64]).await;
        }
        sent
    }
}

/// A ClientHello of TLS 1.0 (RFC 2246, section 7.4.1.2), with TLS_RSA_WITH_AES_128_CBC_SHA alone.
fn client_hello() -> Vec<u8> {
    let mut hello = vec![22, 3, 1, 0, 45, 1, 0, 0, 41, 3, 1];
    hello.extend([7; 32]);
    hello.extend([0, 0, 2, 0, 0x2f, 1, 0]);
    hello
}
