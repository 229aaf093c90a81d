//! What the embedded service can do besides serving pages: the forms of body and connection that a mesh has to pass on.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use http::{Method, StatusCode};
use meshproof_harness::digest::{MAX_SAMPLE, sample};
use meshproof_harness::holding::HELD_BODY;
use tokio::sync::watch;

use super::answer::Answer;
use super::framing::{Framing, Held, Withheld};

/// The number of keys under which answers are withheld at a time.
const MAX_HOLDS: usize = 64;
/// The length limit of a key.
const MAX_KEY: usize = 200;

/// A path with a behaviour, answered once the request's body has arrived.
pub(super) fn answer(method: &Method, path: &str) -> Option<Answer> {
    let (name, size) = match path.strip_prefix('/')?.split_once('/') {
        Some((name, size)) => (name, Some(size.parse::<usize>().ok().filter(|size| *size <= MAX_SAMPLE)?)),
        None => (path.strip_prefix('/')?, None),
    };
    let (body, framing) = match (name, size) {
        ("bytes", Some(size)) => (sample(size), Framing::Length),
        ("chunked", Some(size)) => (sample(size), Framing::Pieces),
        ("trailers", Some(size)) => (sample(size), Framing::PiecesWithChecksum),
        ("no-content", None) => (Bytes::new(), Framing::Length),
        (_, _) => return None,
    };
    if method != Method::GET && method != Method::HEAD {
        return Some(Answer::method_not_allowed());
    }
    let status = if name == "no-content" { StatusCode::NO_CONTENT } else { StatusCode::OK };
    Some(Answer { framing, ..Answer::new(status, "text/plain", body) })
}

/// Requests whose answers are withheld, by a key that the scenario chose.
#[derive(Default)]
pub(super) struct Holds(Mutex<BTreeMap<String, watch::Sender<Held>>>);

impl Holds {
    /// `/hold/KEY` is answered in full after a request for `/release/KEY`, and `/held/KEY/N` when N answers are withheld.
    pub(super) async fn answer(&self, method: &Method, path: &str) -> Option<Answer> {
        let parts: Vec<&str> = path.strip_prefix('/')?.split('/').collect();
        let (verb, key, number) = match parts.as_slice() {
            ["hold", key] => ("hold", *key, 0),
            ["release", key] => ("release", *key, 0),
            ["held", key, number] => ("held", *key, number.parse::<usize>().ok()?),
            _ => return None,
        };
        if method != Method::GET {
            return Some(Answer::method_not_allowed());
        }
        let Some(held) = self.of(key) else {
            return Some(Answer::nginx_page(StatusCode::SERVICE_UNAVAILABLE, None));
        };
        match verb {
            "hold" => {
                let framing = Framing::Withheld(Withheld::new(held));
                let answer = Answer::new(StatusCode::OK, "text/plain", sample(HELD_BODY));
                return Some(Answer { framing, ..answer });
            }
            "held" => {
                let _enough = held.subscribe().wait_for(|h| h.requests >= number).await.is_ok();
            }
            _ => held.send_modify(|h| h.released = true),
        }
        Some(Answer::new(StatusCode::OK, "text/plain", "done\n"))
    }

    fn of(&self, key: &str) -> Option<watch::Sender<Held>> {
        let mut holds = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !holds.contains_key(key) && (holds.len() >= MAX_HOLDS || key.len() > MAX_KEY) {
            return None;
        }
        Some(holds.entry(key.to_owned()).or_insert_with(|| watch::Sender::new(Held::default())).clone())
    }
}
