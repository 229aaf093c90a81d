//! Waiting for a started process until it answers.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use meshproof_local::data_plane::DataPlaneError;
use reqwest::StatusCode;
use serde_json::Value;

use crate::backoff::backoff;
use crate::http_client::HttpClient;
use crate::map::bootstrap;
use crate::process::EnvoyProcess;

/// The longest that Envoy may take to answer after its start, also from a cold disk on a busy machine.
const START_TIMEOUT: Duration = Duration::from_secs(25);

/// Waits until Envoy answers and returns clients for its admin interface and its flush marker.
///
/// # Errors
/// [`DataPlaneError::Environment`]: Envoy did not start. Its process is ended.
pub(crate) async fn ready(
    process: &EnvoyProcess,
    name: &str,
    folder: &Path,
) -> Result<(HttpClient, HttpClient), DataPlaneError> {
    let why = match tokio::time::timeout(START_TIMEOUT, clients(process, folder)).await {
        Ok(Ok(clients)) => return Ok(clients),
        Ok(Err(why)) => why,
        Err(_) => format!(
            "it did not answer within {} s. This machine may be too busy: close other programs or run with \
             fewer --jobs",
            START_TIMEOUT.as_secs()
        ),
    };
    process.stop().await;
    if let Some(error) = inotify_limit(process, name) {
        return Err(error);
    }
    let status = process.exited().unwrap_or_default();
    Err(DataPlaneError::Environment(format!(
        "Envoy for {name} did not start: {why} ({status}){}",
        latest_messages(process)
    )))
}

async fn clients(process: &EnvoyProcess, folder: &Path) -> Result<(HttpClient, HttpClient), String> {
    let exited = || process.exited().map_or(Ok(()), |_| Err("it exited at its start".to_owned()));
    let mut delays = backoff();
    let admin: SocketAddr = loop {
        exited()?;
        // The file may not be there yet, or be half written; half an address does not parse.
        let written = tokio::fs::read_to_string(folder.join("admin")).await.unwrap_or_default();
        match written.trim().parse() {
            Ok(address) => break address,
            Err(_) => delays.wait().await,
        }
    };
    let admin = HttpClient::new(admin)?;
    let mut delays = backoff();
    while !matches!(admin.get("/ready").await, Ok((StatusCode::OK, _))) {
        exited()?;
        delays.wait().await;
    }
    let (_, listeners) = admin.get("/listeners?format=json").await?;
    let listeners: Value =
        serde_json::from_str(&listeners).map_err(|e| format!("its list of listeners cannot be read: {e}"))?;
    let port = listeners["listener_statuses"]
        .as_array()
        .into_iter()
        .flatten()
        .find(|l| l["name"] == bootstrap::FLUSH_MARKER)
        .and_then(|l| l["local_address"]["socket_address"]["port_value"].as_u64())
        .and_then(|port| u16::try_from(port).ok())
        .ok_or("its list of listeners does not contain the flush marker")?;
    Ok((admin, HttpClient::new(SocketAddr::from(([127, 0, 0, 1], port)))?))
}

/// The error for an Envoy that ended because this machine allows no further watch of a file.
pub(crate) fn inotify_limit(process: &EnvoyProcess, name: &str) -> Option<DataPlaneError> {
    process.output().ran_out_of_inotify().then(|| {
        let limit = std::fs::read_to_string("/proc/sys/fs/inotify/max_user_instances").unwrap_or_default();
        let limit = limit.trim().parse::<u64>().map(|n| format!(" ({n})")).unwrap_or_default();
        DataPlaneError::Environment(format!(
            "Envoy for {name} ended because this user has used up the inotify instances that Linux allows: \
             the limit is \
             fs.inotify.max_user_instances{limit}, and each configuration file that Envoy watches takes \
             one. Raise it with \
             `sudo sysctl fs.inotify.max_user_instances=1024`, or run with fewer --jobs"
        ))
    })
}

/// The latest messages of the process that matter, for the end of an error; empty where there are none.
pub(crate) fn latest_messages(process: &EnvoyProcess) -> String {
    let mut messages = process.output().messages();
    messages.retain(|m| !m.trim().is_empty() && !m.contains("Missing SDS resources"));
    match messages.get(messages.len().saturating_sub(5)..) {
        None | Some([]) => String::new(),
        Some(latest) => format!(". Its latest messages: {}", latest.join(" | ")),
    }
}
