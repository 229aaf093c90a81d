//! From a process that was started to one that answers.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use meshproof_local::data_plane::DataPlaneError;
use serde_json::Value;

use crate::admin::Line;
use crate::map::bootstrap;
use crate::pauses::Pauses;
use crate::process::Process;

/// Until an Envoy that was started answers. A cold disk and a busy machine are allowed for.
const STARTED: Duration = Duration::from_secs(25);

/// Returns when Envoy answers: its admin interface and its fence.
///
/// # Errors
/// [`DataPlaneError::Environment`]: it did not start; it is ended.
pub(crate) async fn answering(
    process: &Process,
    name: &str,
    folder: &Path,
) -> Result<(Line, Line), DataPlaneError> {
    match tokio::time::timeout(STARTED, ready(process, folder)).await {
        Ok(Ok(lines)) => Ok(lines),
        Ok(Err(why)) => Err(not_started(process, name, &why).await),
        Err(_) => Err(not_started(process, name, &format!("it did not answer within {STARTED:?}")).await),
    }
}

/// Waits until Envoy answers, and finds its fence.
async fn ready(process: &Process, folder: &Path) -> Result<(Line, Line), String> {
    let mut pauses = Pauses::new();
    let admin: SocketAddr = loop {
        if process.ended().is_some() {
            return Err("it ended at its start".to_owned());
        }
        // Written whole or not yet; half an address is no address.
        let told = std::fs::read_to_string(folder.join("admin")).unwrap_or_default();
        match told.trim().parse() {
            Ok(at) => break at,
            Err(_) => pauses.pause().await,
        }
    };
    let admin = Line::to(admin);
    let mut pauses = Pauses::new();
    while !matches!(admin.get("/ready").await, Ok((200, _))) {
        if process.ended().is_some() {
            return Err("it ended at its start".to_owned());
        }
        pauses.pause().await;
    }
    let (_, listeners) = admin.get("/listeners?format=json").await?;
    let listeners: Value =
        serde_json::from_str(&listeners).map_err(|e| format!("its list of listeners: {e}"))?;
    let port = listeners["listener_statuses"]
        .as_array()
        .into_iter()
        .flatten()
        .find(|l| l["name"] == bootstrap::FENCE)
        .and_then(|l| l["local_address"]["socket_address"]["port_value"].as_u64())
        .and_then(|port| u16::try_from(port).ok())
        .ok_or("its list of listeners does not hold the fence")?;
    Ok((admin, Line::to(SocketAddr::from(([127, 0, 0, 1], port)))))
}

async fn not_started(process: &Process, name: &str, why: &str) -> DataPlaneError {
    process.stop().await;
    let how = process.ended().unwrap_or_default();
    let words = last_words(process);
    DataPlaneError::Environment(format!(
        "Envoy for {name} did not start: {why} ({how}){words}; see whether it runs by itself, 1.28 or later"
    ))
}

/// What it said last, if anything that matters.
pub(crate) fn last_words(process: &Process) -> String {
    let words: Vec<String> =
        process.said().words().into_iter().filter(|w| !w.contains("Missing SDS resources")).collect();
    let from = words.len().saturating_sub(5);
    match words.get(from..) {
        None | Some([]) => String::new(),
        Some(last) => format!("; its last words: {}", last.join(" | ")),
    }
}
