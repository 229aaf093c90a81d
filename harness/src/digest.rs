//! Digests of bodies, and a body whose digest is known in advance.

use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError};

use aws_lc_rs::digest;
use bytes::Bytes;

/// The largest [`sample`], in bytes.
pub const MAX_SAMPLE: usize = 8 * 1024 * 1024;

/// A SHA-256 that is updated while the bytes pass.
#[derive(Clone)]
pub struct Sum(digest::Context);

impl Default for Sum {
    fn default() -> Self {
        Self(digest::Context::new(&digest::SHA256))
    }
}

impl Sum {
    /// Adds bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// Lower-case hex.
    #[must_use]
    pub fn finish(self) -> String {
        let digit = |half: u8| char::from_digit(u32::from(half), 16).unwrap_or_default();
        let digest = self.0.finish();
        digest.as_ref().iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 0x0f)]).collect()
    }
}

/// SHA-256 of these bytes in lower-case hex.
#[must_use]
pub fn sha256(bytes: &[u8]) -> String {
    let mut sum = Sum::default();
    sum.update(bytes);
    sum.finish()
}

/// This many bytes (at most [`MAX_SAMPLE`]) of numbered lines. A part that is lost, duplicated or out of order changes the
/// digest, and the text shows where. The embedded external service answers with the same bytes.
#[must_use]
pub fn sample(bytes: usize) -> Bytes {
    const LINE: usize = 64;
    let bytes = bytes.min(MAX_SAMPLE);
    let mut text = String::with_capacity(bytes + LINE);
    for number in 0..bytes.div_ceil(LINE) {
        let _infallible =
            writeln!(text, "{:09} the quick brown fox jumps over the lazy dog, 42 times", number);
    }
    text.truncate(bytes);
    text.into()
}

/// So many bytes (at most [`MAX_SAMPLE`]) of every value, among them NUL and line ends, in an order that does not repeat for
/// 64 KiB. A longer sample begins with a shorter one.
#[must_use]
pub fn binary_sample(bytes: usize) -> Bytes {
    static LONGEST: Mutex<Bytes> = Mutex::new(Bytes::new());
    let bytes = bytes.min(MAX_SAMPLE);
    let mut longest = LONGEST.lock().unwrap_or_else(PoisonError::into_inner);
    if longest.len() < bytes {
        let byte = |at: usize| u8::try_from((at.wrapping_mul(167) ^ (at >> 8)) & 0xff).unwrap_or_default();
        *longest = (0..bytes.next_power_of_two().min(MAX_SAMPLE)).map(byte).collect::<Vec<u8>>().into();
    }
    longest.slice(..bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_has_its_length_and_no_two_of_its_lines_are_the_same() {
        for bytes in [0, 1, 64, 65, 100_000] {
            assert_eq!(sample(bytes).len(), bytes);
        }
        let text = String::from_utf8(sample(100_000).to_vec()).unwrap();
        let lines: std::collections::BTreeSet<&str> = text.lines().collect();
        assert_eq!(lines.len(), text.lines().count());
        assert_eq!(sample(usize::MAX).len(), MAX_SAMPLE);
    }

    #[test]
    fn the_digest_is_sha256_in_lower_case_hex() {
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(sha256(b""), empty);
    }
}
