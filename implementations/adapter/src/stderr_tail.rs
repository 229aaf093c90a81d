//! The end of an adapter's stderr, in bounded memory.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncRead, AsyncReadExt};

/// How many bytes are kept as evidence.
const KEPT: usize = 8 * 1024;
/// How many of these bytes an error quotes.
const QUOTED: usize = 1600;

/// The last bytes that an adapter wrote to its stderr. Clones share them.
#[derive(Clone, Default)]
pub(crate) struct StderrTail {
    inner: Arc<Mutex<(VecDeque<u8>, u64)>>,
}

impl StderrTail {
    /// Reads until the pipe ends.
    pub(crate) async fn fill(self, mut pipe: impl AsyncRead + Unpin) {
        let mut chunk = [0; 4096];
        while let Ok(read @ 1..) = pipe.read(&mut chunk).await {
            let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
            inner.0.extend(&chunk[..read]);
            let over = inner.0.len().saturating_sub(KEPT);
            inner.0.drain(..over);
            inner.1 += over as u64;
        }
    }

    /// Everything that is kept; none if the adapter wrote nothing.
    pub(crate) fn text(&self) -> Option<String> {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes: Vec<u8> = inner.0.iter().copied().collect();
        let text = String::from_utf8_lossy(&bytes);
        let text = meshproof_harness::redact::without_keys(text.trim()).into_owned();
        let cut =
            if inner.1 > 0 { format!("({} earlier bytes were dropped)\n", inner.1) } else { String::new() };
        (!text.is_empty()).then(|| format!("{cut}{text}"))
    }

    /// The end of it in quotes, as the last part of an error.
    pub(crate) fn quoted(&self) -> String {
        let Some(text) = self.text() else { return "; it wrote nothing to its stderr".to_owned() };
        let mut start = text.len().saturating_sub(QUOTED);
        while !text.is_char_boundary(start) {
            start += 1;
        }
        format!("; its stderr ends: {:?}", &text[start..])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn of_a_flood_the_end_is_kept_with_the_number_of_dropped_bytes() {
        let mut flood = vec![b'x'; 1 << 20];
        flood.extend_from_slice(b"the end");
        let tail = StderrTail::default();
        tail.clone().fill(flood.as_slice()).await;
        let text = tail.text().unwrap();
        assert!(
            text.ends_with("the end") && text.starts_with("(1040391 earlier bytes were dropped)"),
            "{text}"
        );
        assert!(text.len() < KEPT + 100);
        assert!(tail.quoted().len() < QUOTED + 100);
    }

    #[tokio::test]
    async fn an_empty_stderr_is_mentioned() {
        assert_eq!(StderrTail::default().quoted(), "; it wrote nothing to its stderr");
    }
}
