//! A connection that switches over to WebSocket, on which every message is sent back.

use std::sync::Arc;

use futures_util::{SinkExt, StreamExt};
use http::header::{HeaderValue, SERVER, UPGRADE};
use http::request::Parts;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWriteExt;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::server::create_response;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

use super::answer::SERVER_NAME;
use super::framing::AnswerBody;
use super::port::Shared;

/// The size limit of a WebSocket message.
const MAX_MESSAGE: usize = 64 * 1024;

/// The path on which connections switch over to WebSocket.
pub(super) const WEB_SOCKET: &str = "/websocket";

/// Switches over as RFC 6455, section 4.2.2, describes it, and sends every message back. The answer to a request that is no
/// WebSocket handshake is 426.
pub(super) fn web_socket(head: Parts, upgrade: OnUpgrade, shared: &Arc<Shared>) -> Response<AnswerBody> {
    let refused = |status| {
        let mut response = Response::new(nothing());
        *response.status_mut() = status;
        response.headers_mut().insert(SERVER, SERVER_NAME);
        if status == StatusCode::UPGRADE_REQUIRED {
            response.headers_mut().insert(UPGRADE, HeaderValue::from_static("websocket"));
        }
        response
    };
    let Ok(switched) = create_response(&Request::from_parts(head, ())) else {
        return refused(StatusCode::UPGRADE_REQUIRED);
    };
    let Some(place) = shared.accepting.place() else {
        return refused(StatusCode::SERVICE_UNAVAILABLE);
    };
    shared.accepting.spawn(async move {
        let _place = place;
        let Ok(stream) = upgrade.await else { return };
        let config =
            WebSocketConfig::default().max_message_size(Some(MAX_MESSAGE)).max_frame_size(Some(MAX_MESSAGE));
        let mut socket =
            WebSocketStream::from_raw_socket(TokioIo::new(stream), Role::Server, Some(config)).await;
        while let Some(Ok(message)) = socket.next().await {
            let has_content = message.is_text() || message.is_binary();
            // The library itself answers a close; nothing follows it.
            if has_content && socket.send(message).await.is_err() {
                return;
            }
        }
        // Sends TLS's close_notify; the other end may be gone.
        let _farewell = socket.get_mut().shutdown().await;
    });
    let (mut parts, ()) = switched.into_parts();
    parts.headers.insert(SERVER, SERVER_NAME);
    Response::from_parts(parts, nothing())
}

fn nothing() -> AnswerBody {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}
