//! A connection that switches over to WebSocket, on which every message is answered.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use http::header::{HeaderValue, SERVER, UPGRADE};
use http::request::Parts;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use meshproof_harness::workload::answers_to;
use meshproof_model::ServerAnswer;
use tokio::io::AsyncWriteExt;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::create_response;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

use super::answer::SERVER_NAME;
use super::framing::AnswerBody;
use super::record::RequestRecord;
use crate::http_facts;

/// The size limit of a WebSocket message.
const MAX_MESSAGE: usize = 64 * 1024;

/// The number of messages that are recorded of each side.
const MAX_RECORDED: usize = 64;
/// How long the server says nothing before it says more than it was asked.
const SILENCE: Duration = Duration::from_millis(3);

/// The path on which connections switch over to WebSocket.
pub(super) const WEB_SOCKET: &str = "/websocket";

/// Switches over as RFC 6455, section 4.2.2, describes it, and answers every message ([`answers_to`]). The answer to a request
/// that is no WebSocket handshake is 426.
pub(super) fn web_socket(head: Parts, upgrade: OnUpgrade, entry: RequestRecord) -> Response<AnswerBody> {
    let refused = |status: StatusCode| {
        entry.amend(|r| r.status = status.as_u16());
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
    let accepting = Arc::clone(&entry.shared.accepting);
    let Some(place) = accepting.place() else {
        return refused(StatusCode::SERVICE_UNAVAILABLE);
    };
    let (mut parts, ()) = switched.into_parts();
    parts.headers.insert(SERVER, SERVER_NAME);
    entry.amend(|r| {
        r.status = parts.status.as_u16();
        r.answer = Some(ServerAnswer {
            status: parts.status.as_u16(),
            headers: http_facts::headers(&parts.headers),
            body_bytes: 0,
            body_sha256: None,
            trailers: Vec::new(),
            breaks_off: false,
            closes: false,
            held_up_after: None,
            messages: Vec::new(),
            informational: Vec::new(),
            waited_ms: 0,
        });
    });
    accepting.spawn(async move {
        let _place = place;
        let Ok(stream) = upgrade.await else { return };
        let config =
            WebSocketConfig::default().max_message_size(Some(MAX_MESSAGE)).max_frame_size(Some(MAX_MESSAGE));
        let mut socket =
            WebSocketStream::from_raw_socket(TokioIo::new(stream), Role::Server, Some(config)).await;
        while let Some(Ok(message)) = socket.next().await {
            // The library itself answers a close and a ping.
            if !message.is_text() && !message.is_binary() {
                continue;
            }
            let answers: Vec<Message> = match message.to_text() {
                Ok(text) if message.is_text() => answers_to(text).into_iter().map(Message::text).collect(),
                Ok(_) | Err(_) => vec![message.clone()],
            };
            entry.amend(|r| keep(&mut r.messages, &message));
            for (number, answer) in answers.into_iter().enumerate() {
                if number > 0 {
                    tokio::time::sleep(SILENCE).await;
                }
                entry.amend(|r| r.answer.iter_mut().for_each(|sent| keep(&mut sent.messages, &answer)));
                if socket.send(answer).await.is_err() {
                    return;
                }
            }
        }
        // Sends TLS's close_notify; the other end may be gone.
        let _farewell = socket.get_mut().shutdown().await;
    });
    Response::from_parts(parts, nothing())
}

fn keep(messages: &mut Vec<String>, message: &Message) {
    if messages.len() < MAX_RECORDED {
        messages.push(String::from_utf8_lossy(&message.clone().into_data()).into_owned());
    }
}

fn nothing() -> AnswerBody {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}
