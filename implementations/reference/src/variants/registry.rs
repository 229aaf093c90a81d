//! Every variant by its name.

use std::fmt;
use std::str::FromStr;
use std::sync::LazyLock;

use meshproof_harness::names::did_you_mean;

use super::definition::{Definition, VariantBehaviour};
use super::placement::Placement;
use super::{benign, saboteurs};

/// What a variant is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VariantKind {
    /// Broken on purpose: a check must notice it.
    Saboteur,
    /// Correct but unusual: no check may fail because of it.
    Benign,
}

/// A variant of the reference, at all of its proxies or at those of one placement.
#[derive(Clone, Copy)]
pub struct Variant(&'static VariantEntry);

struct VariantEntry {
    name: String,
    kind: VariantKind,
    definition: &'static Definition,
    placement: Option<Placement>,
    /// Whether it is listed, besides being known.
    listed: bool,
}

static ENTRIES: LazyLock<Vec<VariantEntry>> = LazyLock::new(|| {
    let saboteurs = saboteurs::TABLES.iter().map(|table| (VariantKind::Saboteur, *table));
    let benign = benign::TABLES.iter().map(|table| (VariantKind::Benign, *table));
    let definitions = saboteurs
        .chain(benign)
        .flat_map(|(kind, table)| table.iter().map(move |definition| (kind, definition)));
    definitions.flat_map(|(kind, definition)| entries(kind, definition)).collect()
});

/// A definition everywhere and at each placement.
fn entries(kind: VariantKind, definition: &'static Definition) -> Vec<VariantEntry> {
    let everywhere =
        VariantEntry { name: definition.name.to_owned(), kind, definition, placement: None, listed: true };
    let mut all = vec![everywhere];
    // Resources and external services are no proxy's.
    if matches!(definition.behaviour, VariantBehaviour::Resources(_) | VariantBehaviour::ExternalService(_)) {
        return all;
    }
    all.extend(Placement::ALL.map(|placement| VariantEntry {
        name: format!("{}@{}", definition.name, placement.name()),
        kind,
        definition,
        placement: Some(placement),
        listed: definition.placements.contains(&placement),
    }));
    all
}

impl Variant {
    /// Every listed saboteur.
    pub fn saboteurs() -> impl Iterator<Item = Self> {
        Self::listed(VariantKind::Saboteur)
    }

    /// Every listed benign variant.
    pub fn benign() -> impl Iterator<Item = Self> {
        Self::listed(VariantKind::Benign)
    }

    fn listed(kind: VariantKind) -> impl Iterator<Item = Self> {
        ENTRIES.iter().filter(move |e| e.listed && e.kind == kind).map(Self)
    }

    /// Its name on the command line: in kebab-case, with `@PLACEMENT` at one placement; stable.
    #[must_use]
    pub fn name(self) -> &'static str {
        &self.0.name
    }

    /// What it does, in one sentence.
    #[must_use]
    pub fn description(self) -> &'static str {
        self.0.definition.description
    }

    /// What it is for.
    #[must_use]
    pub fn kind(self) -> VariantKind {
        self.0.kind
    }

    /// The only placement at which it differs from the honest reference, if there is one.
    #[must_use]
    pub fn placement(self) -> Option<Placement> {
        self.0.placement
    }

    pub(super) fn behaviour(self) -> VariantBehaviour {
        self.0.definition.behaviour
    }
}

impl PartialEq for Variant {
    fn eq(&self, other: &Self) -> bool {
        self.name() == other.name()
    }
}

impl Eq for Variant {}

impl fmt::Debug for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Variant").field(&self.name()).finish()
    }
}

impl fmt::Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// The reference has no variant of this name.
#[derive(Debug, thiserror::Error)]
#[error("no saboteur is named {name:?}{suggestion}")]
pub struct UnknownVariant {
    /// The name, shortened if it is long.
    pub name: String,
    /// Names similar to it, as the end of a sentence; may be empty.
    pub suggestion: String,
}

impl FromStr for Variant {
    type Err = UnknownVariant;

    fn from_str(name: &str) -> Result<Self, UnknownVariant> {
        if let Some(found) = ENTRIES.iter().find(|e| e.name == name) {
            return Ok(Self(found));
        }
        // The name may come from anywhere: it is bounded before it is compared and repeated.
        let name: String = name.chars().take(100).collect();
        let known = ENTRIES.iter().filter(|e| e.listed).map(|e| e.name.as_str());
        let suggestion = did_you_mean(&name, known);
        Err(UnknownVariant { name, suggestion })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_name_is_unique_kebab_case_and_parses_to_its_variant() {
        let mut names = BTreeSet::new();
        for entry in ENTRIES.iter() {
            let variant = Variant(entry);
            assert!(names.insert(variant.name()), "{variant} twice");
            let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '@';
            assert!(variant.name().chars().all(allowed), "{variant}");
            assert_eq!(variant.name().parse::<Variant>().unwrap(), variant);
            let description = variant.description();
            assert!(description.ends_with('.') && !description.contains('\n'), "{variant}");
        }
    }

    #[test]
    fn unknown_name_is_refused_with_similar_names() {
        let error = "ignore-certifcate".parse::<Variant>().unwrap_err();
        assert!(error.suggestion.contains("ignore-certificate"), "{error}");
        assert_eq!("zzz".parse::<Variant>().unwrap_err().to_string(), "no saboteur is named \"zzz\"");
    }

    #[test]
    fn variant_is_known_at_each_placement_and_listed_where_its_definition_says_so() {
        static DEFINITION: Definition =
            Definition::new("silent", "Does nothing.", VariantBehaviour::LogLine(|_, _, _| {}))
                .also_at(&[Placement::EgressGateway]);
        let all = entries(VariantKind::Benign, &DEFINITION);
        let of =
            |listed| all.iter().filter(|e| e.listed == listed).map(|e| e.name.as_str()).collect::<Vec<_>>();
        assert_eq!(of(true), ["silent", "silent@egress-gateway"]);
        assert_eq!(of(false), ["silent@sidecar", "silent@ingress-gateway"]);
    }

    #[test]
    fn variant_of_the_resources_has_no_placement() {
        assert!("allow-any".parse::<Variant>().is_ok());
        assert!("allow-any@sidecar".parse::<Variant>().is_err());
    }
}
