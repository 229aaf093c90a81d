//! Suggestions for a misspelt name.

/// The known names nearest to `name`, best first, at most three; only ones that could have been meant.
#[must_use]
pub fn near<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    let name = name.to_ascii_lowercase();
    let mut scored: Vec<(f64, &str)> = known
        .into_iter()
        .map(|k| {
            let contains = !name.is_empty() && (k.contains(&name) || name.contains(k));
            let score = strsim::jaro_winkler(&name, k);
            (if contains { score.max(0.9) } else { score }, k)
        })
        .filter(|(score, _)| *score > 0.7)
        .collect();
    scored.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.cmp(b.1)));
    scored.dedup_by(|a, b| a.1 == b.1);
    scored.into_iter().take(3).map(|(_, k)| k).collect()
}

/// `; did you mean a, b or c?`, or nothing where no name is near.
#[must_use]
pub fn did_you_mean<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    match near(name, known).as_slice() {
        [] => String::new(),
        [one] => format!("; did you mean {one}?"),
        [first @ .., last] => format!("; did you mean {} or {last}?", first.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_name_brings_the_nearest_first() {
        let known = ["sidecar-origination", "egress-gateway-simple", "egress-gateway-mutual"];
        assert_eq!(near("sidecar-orignation", known)[0], "sidecar-origination");
        assert_eq!(near("mutual", known)[0], "egress-gateway-mutual");
        assert_eq!(
            did_you_mean("egress-gatway", known),
            "; did you mean egress-gateway-mutual or egress-gateway-simple?"
        );
    }

    #[test]
    fn a_name_like_nothing_known_brings_no_suggestion() {
        assert_eq!(did_you_mean("zzz", ["reference", "envoy"]), "");
    }
}
