//! How the suite's objects in a cluster are recognized: labels, names, the field manager.

use std::collections::BTreeMap;

use meshproof_harness::digest;

/// The field manager of everything applied.
pub const MANAGER: &str = "meshproof";
/// The label of everything created: the run's id.
pub const RUN: &str = "meshproof.dev/run";
/// The label of everything created: the seat's name, `egress-gateway-mutual-rotated`.
pub const SCENARIO: &str = "meshproof.dev/scenario";
/// The annotation of namespaces: when they were created, RFC 3339.
pub const CREATED: &str = "meshproof.dev/created";

/// The longest name of a namespace, and the longest value of a label (RFC 1123).
const LONGEST: usize = 63;

/// The labels of everything that is created.
#[must_use]
pub fn labels(run: &str, seat: &str) -> BTreeMap<String, String> {
    BTreeMap::from([
        (RUN.to_owned(), shortened(run, LONGEST)),
        (SCENARIO.to_owned(), shortened(seat, LONGEST)),
    ])
}

/// The label selector of everything that a run created.
#[must_use]
pub fn of_run(run: &str) -> String {
    format!("{RUN}={}", shortened(run, LONGEST))
}

/// `mp-RUN-SEAT-SUFFIX`, at most 63 characters, and different where any of the three differs.
#[must_use]
pub fn namespace(run: &str, seat: &str, suffix: &str) -> String {
    let run = shortened(run, 14);
    let room = LONGEST.saturating_sub("mp---".len() + run.len() + suffix.len());
    format!("mp-{run}-{}-{suffix}", shortened(seat, room))
}

/// Unchanged where it fits; otherwise its beginning and a digest of the whole.
fn shortened(text: &str, most: usize) -> String {
    if text.len() <= most {
        return text.to_owned();
    }
    let digest = &digest::sha256(text.as_bytes())[..8];
    let kept: String = text.chars().take(most.saturating_sub(digest.len() + 1)).collect();
    format!("{}-{digest}", kept.trim_end_matches('-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUN_ID: &str = "h5k2m9x0q1zz";

    #[test]
    fn a_namespace_has_run_scenario_and_purpose_in_its_name_where_they_fit() {
        assert_eq!(
            namespace(RUN_ID, "egress-gateway-simple", "default"),
            "mp-h5k2m9x0q1zz-egress-gateway-simple-default"
        );
    }

    #[test]
    fn long_names_are_cut_to_what_kubernetes_accepts_and_stay_different() {
        let seat = |end: &str| format!("{}-{end}", "a-scenario-with-a-name".repeat(4));
        let one = namespace(RUN_ID, &seat("one"), "gateways");
        let other = namespace(RUN_ID, &seat("other"), "gateways");
        assert_ne!(one, other);
        for name in [&one, &other, &namespace(&"r".repeat(90), &seat("one"), "outside")] {
            assert!(name.len() <= 63, "{name}");
            assert!(!name.contains("--") && !name.ends_with('-'), "{name}");
            assert!(name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-'), "{name}");
        }
    }

    #[test]
    fn the_selector_of_a_run_has_the_value_of_its_label() {
        let run = "r".repeat(90);
        let labels = labels(&run, "seat");
        assert_eq!(of_run(&run), format!("{RUN}={}", labels[RUN]));
        assert!(labels[RUN].len() <= 63);
    }
}
