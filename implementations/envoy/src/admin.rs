//! Questions to an Envoy over HTTP/1.1 on loopback: its admin interface, and the fence.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::Mutex;

/// The longest answer that is read, in bytes.
const MAX_ANSWER: usize = 16 * 1024 * 1024;
/// How long one answer may take.
const ANSWERED: Duration = Duration::from_secs(10);

/// One connection, kept, and opened again when it is gone.
pub(crate) struct Line {
    at: SocketAddr,
    sender: Mutex<Option<SendRequest<Empty<Bytes>>>>,
}

impl Line {
    pub(crate) fn to(at: SocketAddr) -> Self {
        Self { at, sender: Mutex::default() }
    }

    /// The status and the body.
    ///
    /// # Errors
    /// No answer came; in words.
    pub(crate) async fn get(&self, path: &str) -> Result<(u16, String), String> {
        let mut sender = self.sender.lock().await;
        let asked = async {
            if let Some(kept) = sender.as_mut()
                && let Ok(answer) = ask(kept, path).await
            {
                return Ok(answer);
            }
            let stream = TcpStream::connect(self.at).await.map_err(|e| e.to_string())?;
            stream.set_nodelay(true).map_err(|e| e.to_string())?;
            let (mut fresh, connection) = handshake(TokioIo::new(stream)).await.map_err(|e| e.to_string())?;
            tokio::spawn(async move {
                // The answer, or its absence, says it all.
                let _ended = connection.await;
            });
            let answer = ask(&mut fresh, path).await;
            *sender = Some(fresh);
            answer
        };
        match tokio::time::timeout(ANSWERED, asked).await {
            Ok(answer) => answer,
            Err(_) => Err(format!("no answer to {path} within {ANSWERED:?}")),
        }
    }
}

async fn ask(sender: &mut SendRequest<Empty<Bytes>>, path: &str) -> Result<(u16, String), String> {
    sender.ready().await.map_err(|e| e.to_string())?;
    let request = Request::get(path)
        .header(http::header::HOST, "localhost")
        .body(Empty::new())
        .map_err(|e| e.to_string())?;
    let answer = sender.send_request(request).await.map_err(|e| e.to_string())?;
    let status = answer.status().as_u16();
    let body = Limited::new(answer.into_body(), MAX_ANSWER).collect().await.map_err(|e| e.to_string())?;
    Ok((status, String::from_utf8_lossy(&body.to_bytes()).into_owned()))
}
