//! What the suite makes in a cluster, and how it is known again: labels, names, the field manager.

use std::collections::BTreeMap;

use meshproof_harness::digest;

/// The field manager of everything applied.
pub const MANAGER: &str = "meshproof";
/// On everything made: the run's id.
pub const RUN: &str = "meshproof.dev/run";
/// On everything made: the seat's name, `egress-gateway-mutual-rotated`.
pub const SCENARIO: &str = "meshproof.dev/scenario";
/// On namespaces, an annotation: when they were made, RFC 3339.
pub const CREATED: &str = "meshproof.dev/created";

/// The longest name of a namespace, and the longest value of a label (RFC 1123).
const LONGEST: usize = 63;

/// The labels of everything made.
#[must_use]
pub fn labels(run: &str, seat: &str) -> BTreeMap<String, String> {
    BTreeMap::from([
        (RUN.to_owned(), shortened(run, LONGEST)),
        (SCENARIO.to_owned(), shortened(seat, LONGEST)),
    ])
}

/// The label selector of everything that a run made.
#[must_use]
pub fn of_run(run: &str) -> String {
    format!("{RUN}={}", shortened(run, LONGEST))
}

/// `mp-RUN-SEAT-SUFFIX`, at most 63 characters, and different where any of the three is.
#[must_use]
pub fn namespace(run: &str, seat: &str, suffix: &str) -> String {
    let run = shortened(run, 14);
    let room = LONGEST.saturating_sub("mp---".len() + run.len() + suffix.len());
    format!("mp-{run}-{}-{suffix}", shortened(seat, room))
}

/// As it is where it fits; else its beginning and a digest of the whole.
fn shortened(text: &str, most: usize) -> String {
    if text.len() <= most {
        return text.to_owned();
    }
    let digest = &digest::sha256(text.as_bytes())[..8];
    let kept: String = text.chars().take(most.saturating_sub(digest.len() + 1)).collect();
    format!("{}-{digest}", kept.trim_end_matches('-'))
}
