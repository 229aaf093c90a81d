//! The parts of HTTP messages as the report shows them, bounded.

use http::header::AsHeaderName;
use http::{HeaderMap, Version};
use meshproof_model::Header;

use meshproof_harness::store::{MAX_TEXT, bounded};

/// The number of headers that are kept of one message.
const MAX_HEADERS: usize = 200;

/// The headers of a message, in order, up to [`MAX_TEXT`] bytes in all.
pub(crate) fn headers(map: &HeaderMap) -> Vec<Header> {
    let mut room = MAX_TEXT;
    map.iter()
        .take(MAX_HEADERS)
        .map_while(|(name, value)| {
            room = room.checked_sub(name.as_str().len())?;
            let value = bounded(&String::from_utf8_lossy(value.as_bytes()), room);
            room = room.saturating_sub(value.len());
            Some(Header { name: name.as_str().to_owned(), value })
        })
        .collect()
}

/// The first header of this name, lossily decoded.
pub(crate) fn header(map: &HeaderMap, name: impl AsHeaderName) -> Option<String> {
    map.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
}

/// `HTTP/1.1`, `HTTP/2`.
pub(crate) fn version(version: Version) -> String {
    if version == Version::HTTP_2 { "HTTP/2".to_owned() } else { format!("{version:?}") }
}
