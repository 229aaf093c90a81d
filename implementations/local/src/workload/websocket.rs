//! A conversation over WebSocket.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use meshproof_harness::workload::{MAX_BODY_KEPT, answers_to};
use meshproof_model::ExchangeError;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::{Message, Role, WebSocketConfig};

use super::failure::sorted;
use super::prepared::CLOSING;

/// The number of WebSocket messages that are kept.
const MAX_MESSAGES: usize = 64;
/// How long a client says nothing between two WebSocket messages.
pub(super) const SILENCE: Duration = Duration::from_millis(3);

/// Sends messages, each when the one before was answered, and closes as RFC 6455, section 7, describes it.
pub(super) async fn converse(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    messages: Vec<String>,
    silence: Duration,
) -> Result<Vec<String>, ExchangeError> {
    let config =
        WebSocketConfig::default().max_message_size(Some(MAX_BODY_KEPT)).max_frame_size(Some(MAX_BODY_KEPT));
    let mut socket = WebSocketStream::from_raw_socket(stream, Role::Client, Some(config)).await;
    let mut heard: Vec<String> = Vec::new();
    let mut awaited = 0;
    for message in messages {
        if awaited > 0 {
            // Both ends are silent now and then, as people and their programs are.
            tokio::time::sleep(silence).await;
        }
        awaited += answers_to(&message).len();
        socket.send(Message::text(message)).await.map_err(|e| sorted(&e))?;
        while heard.len() < awaited.min(MAX_MESSAGES) {
            let Some(message) = socket.next().await else { return Ok(heard) };
            let message = message.map_err(|e| sorted(&e))?;
            if message.is_text() || message.is_binary() {
                heard.push(String::from_utf8_lossy(&message.into_data()).into_owned());
            }
        }
    }
    // The answer counts even if closing fails.
    let closing = async {
        socket.close(None).await?;
        while let Some(late) = socket.next().await {
            let late = late?;
            if (late.is_text() || late.is_binary()) && heard.len() < MAX_MESSAGES {
                heard.push(String::from_utf8_lossy(&late.into_data()).into_owned());
            }
        }
        Ok::<_, tokio_tungstenite::tungstenite::Error>(())
    };
    let _closed = tokio::time::timeout(CLOSING, closing).await;
    Ok(heard)
}
