//! Limits what one scenario adds to a report. All evidence is in memory while claims are judged; only the report leaves
//! some out, and never evidence that decides a verdict.

use std::collections::BTreeSet;
use std::io::{self, Write};

use meshproof_model::{CheckResult, Evidence, EvidenceId, Fact, Side};

/// The maximum size of the evidence of one scenario configuration in a report, in bytes of JSON. The largest scenario of
/// this suite needs 300 KiB with a correct implementation.
pub(crate) const MAX_BYTES: usize = 2 * 1024 * 1024;

/// Counts bytes and keeps none.
struct ByteCount(usize);

impl Write for ByteCount {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn size(evidence: &Evidence) -> usize {
    let mut count = ByteCount(0);
    // A value that cannot be written counts as far as it was written.
    let _unwritable = serde_json::to_writer(&mut count, evidence);
    count.0
}

/// Whether the fact explains the others and is therefore always kept: a configuration change or a note of the suite.
fn is_context(evidence: &Evidence) -> bool {
    matches!(evidence.side, Side::Suite)
}

/// Leaves out evidence beyond `max` bytes, the latest first, and adds a note that says how much. What
/// `checks` cite and what the suite itself recorded stays.
pub(crate) fn bounded(evidence: Vec<Evidence>, checks: &[CheckResult], max: usize) -> Vec<Evidence> {
    let sizes: Vec<usize> = evidence.iter().map(size).collect();
    if sizes.iter().sum::<usize>() <= max {
        return evidence;
    }
    let cited: BTreeSet<&EvidenceId> = checks
        .iter()
        .flat_map(|c| c.evidence.iter().chain(c.differences.iter().map(|d| &d.evidence)))
        .collect();
    let must_stay = |e: &Evidence| cited.contains(&e.id) || is_context(e);
    let needed: usize = evidence.iter().zip(&sizes).filter(|(e, _)| must_stay(e)).map(|(_, size)| size).sum();
    let mut room = max.saturating_sub(needed);
    let (mut pieces, mut bytes) = (0_usize, 0_usize);
    let last = evidence.last().map(|e| (e.at_us, e.step)).unwrap_or_default();
    let issued = evidence.len();
    let mut kept = Vec::new();
    for (piece, size) in evidence.into_iter().zip(sizes) {
        if must_stay(&piece) {
            kept.push(piece);
        } else if size <= room {
            room -= size;
            kept.push(piece);
        } else {
            // Nothing after this piece is kept: a gap in the middle would look as if nothing had happened.
            room = 0;
            pieces += 1;
            bytes += size;
        }
    }
    kept.push(Evidence {
        // Ids are numbered from 1 without gaps, so this one is free.
        id: EvidenceId(format!("e{}", issued + 1)),
        at_us: last.0,
        step: last.1,
        side: Side::Suite,
        token: None,
        fact: Fact::Note {
            text: format!(
                "{pieces} pieces of evidence ({bytes} bytes) were left out of this report, because the \
                 evidence of one scenario may \
                 have {max} bytes. All of it was there when the checks were judged, and everything that a \
                 verdict rests on is kept"
            ),
        },
    });
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(number: usize, side: Side) -> Evidence {
        Evidence {
            id: EvidenceId(format!("e{number}")),
            at_us: 7,
            step: 1,
            side,
            token: None,
            fact: Fact::Note { text: "x".repeat(1000) },
        }
    }

    fn flood() -> Vec<Evidence> {
        let proxy = || Side::Proxy { name: "sleep".to_owned() };
        (1..=100).map(|n| note(n, if n == 99 { Side::Suite } else { proxy() })).collect()
    }

    fn citing(id: &str) -> CheckResult {
        let mut check = meshproof_model::sample::report().scenarios[0].checks[0].clone();
        check.evidence = vec![EvidenceId(id.to_owned())];
        check.differences.clear();
        check
    }

    #[test]
    fn evidence_within_the_bound_is_unchanged() {
        assert_eq!(bounded(flood(), &[], 1 << 20), flood());
    }

    #[test]
    fn beyond_the_bound_the_latest_evidence_is_left_out_and_what_a_verdict_cites_stays() {
        let kept = bounded(flood(), &[citing("e100")], 20_000);
        let ids: Vec<&str> = kept.iter().map(|e| e.id.0.as_str()).collect();
        assert_eq!(&ids[..2], ["e1", "e2"]);
        assert_eq!(&ids[ids.len() - 3..], ["e99", "e100", "e101"]);
        assert!(kept.iter().map(size).sum::<usize>() < 21_000, "{}", ids.len());
        let Fact::Note { text } = &kept.last().unwrap().fact else { panic!("no note") };
        let left_out = 100 - (ids.len() - 1);
        assert!(text.starts_with(&format!("{left_out} pieces of evidence")), "{text}");
    }
}
