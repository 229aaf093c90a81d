//! A report within text, such as the log of a pod, where nothing else is left of a run: compressed, in the form of PEM (RFC 7468).

use std::io::{Read, Write};

use flate2::Compression;
use flate2::read::ZlibDecoder;
use flate2::write::ZlibEncoder;
use meshproof_model::json::MAX_REPORT_BYTES;
use pem::Pem;

/// The label of the block.
const LABEL: &str = "MESHPROOF REPORT";

/// The text of `report.json` as a block of lines.
///
/// # Errors
/// It cannot be compressed.
pub fn packed(report: &str) -> std::io::Result<String> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(report.as_bytes())?;
    let config = pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF);
    Ok(pem::encode_config(&Pem::new(LABEL, encoder.finish()?), config))
}

/// Whether a text has such a block.
#[must_use]
pub fn is_packed(text: &[u8]) -> bool {
    !text.trim_ascii_start().starts_with(b"{") && begins(text) > 0
}

/// How many blocks begin in it.
fn begins(text: &[u8]) -> usize {
    let begin = format!("-----BEGIN {LABEL}-----");
    text.split(|byte| *byte == b'\n').filter(|line| line.trim_ascii() == begin.as_bytes()).count()
}

/// The reports in a text, in its order, each as `report.json` has it.
///
/// # Errors
/// A block is cut or damaged, or a report is too large. In words.
pub fn unpacked(text: &[u8]) -> Result<Vec<Vec<u8>>, String> {
    unpacked_of_at_most(MAX_REPORT_BYTES, text)
}

fn unpacked_of_at_most(most: usize, text: &[u8]) -> Result<Vec<Vec<u8>>, String> {
    let cut = |why: &str| {
        format!(
            "a block {LABEL} is cut or damaged{why}; save the whole log, for example with `kubectl logs --tail=-1`"
        )
    };
    let blocks = pem::parse_many(text).map_err(|e| cut(&format!(" ({e})")))?;
    let blocks: Vec<Pem> = blocks.into_iter().filter(|block| block.tag() == LABEL).collect();
    if blocks.len() < begins(text) {
        return Err(cut(""));
    }
    let unpack = |block: &Pem| {
        let mut report = Vec::new();
        ZlibDecoder::new(block.contents())
            .take(most as u64 + 1)
            .read_to_end(&mut report)
            .map_err(|e| cut(&format!(" ({e})")))?;
        if report.len() > most {
            return Err(format!("a report is larger than {} MiB", most >> 20));
        }
        Ok(report)
    };
    blocks.iter().map(unpack).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test says what is wrong by panicking")]

    use super::*;

    #[test]
    fn reports_are_found_in_the_logs_of_several_pods() {
        let reports = [r#"{"a":1}"#.to_owned(), format!("{{\"b\":\"{}\"}}", "x".repeat(10_000))];
        let mut log = "note: something\n".to_owned();
        for report in &reports {
            log.push_str("3 checks passed\n");
            log.push_str(&packed(report).unwrap());
        }
        assert!(log.lines().all(|line| line.len() <= 80) && log.len() < 1000, "{log}");
        let found = unpacked(log.as_bytes()).unwrap();
        assert_eq!(found, reports.map(String::into_bytes));
        assert!(is_packed(log.as_bytes()) && !is_packed(b"{}"));
    }

    #[test]
    fn a_block_that_is_cut_or_damaged_is_said_so() {
        let whole = packed(&"{\"a\":1}".repeat(100)).unwrap();
        let cut = &whole[..whole.len() / 2];
        assert!(unpacked(cut.as_bytes()).unwrap_err().contains("save the whole log"));
        let mut lines: Vec<&str> = whole.lines().collect();
        let damaged = lines[1].chars().rev().collect::<String>();
        lines[1] = &damaged;
        assert!(unpacked(lines.join("\n").as_bytes()).unwrap_err().contains("damaged"));
    }

    #[test]
    fn a_report_that_unpacks_without_end_is_refused() {
        let huge = packed(&" ".repeat(1025)).unwrap();
        assert!(unpacked_of_at_most(1024, huge.as_bytes()).unwrap_err().contains("larger than"));
    }
}
