//! The features that scenarios and checks need of an implementation.

use meshproof_model::Implementation;
pub use meshproof_model::feature::{Feature, ReportedFeature, UnknownFeature};

/// The first of `needed` that is not among `declared`.
#[must_use]
pub fn missing(needed: impl IntoIterator<Item = Feature>, declared: &[ReportedFeature]) -> Option<Feature> {
    needed.into_iter().find(|needed| !declared.contains(&(*needed).into()))
}

/// The key under which [`Implementation::details`] may say why a feature is not declared.
#[must_use]
pub fn undeclared(feature: Feature) -> String {
    format!("without {feature}")
}

/// What a skipped check says.
#[must_use]
pub fn why_skipped(feature: Feature, implementation: &Implementation) -> String {
    match implementation.details.get(&undeclared(feature)) {
        Some(why) => format!("the feature {feature} is not available: {why}"),
        None => format!("the implementation does not declare the feature {feature}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_feature_that_is_not_declared_is_the_missing_one() {
        use Feature::{AccessLog, MeshMtls, Sidecar, TlsPassthrough};
        let declared = [Sidecar, AccessLog].map(ReportedFeature::from);
        assert_eq!(missing([Sidecar, TlsPassthrough, MeshMtls], &declared), Some(TlsPassthrough));
        assert_eq!(missing([Sidecar, AccessLog], &declared), None);
        assert_eq!(missing([], &declared), None);
    }
}
