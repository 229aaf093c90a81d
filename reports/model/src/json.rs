//! The report as JSON, and its JSON Schema.

use schemars::Schema;
use serde::Deserialize;

use crate::report::{Report, SCHEMA};
use crate::visible::line;

/// The largest report that is read, in bytes. Evidence is bounded when it is recorded, so a run never writes
/// a larger report.
pub const MAX_REPORT_BYTES: usize = 256 * 1024 * 1024;

/// Why a report cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// Larger than [`MAX_REPORT_BYTES`].
    #[error("the report is too large: {bytes} bytes. The limit is {MAX_REPORT_BYTES} bytes")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// Not JSON, or not an object.
    #[error("not a JSON object: {}", line(&.0.to_string()))]
    Json(#[source] serde_json::Error),
    /// The member `schema` is missing.
    #[error("not a meshproof report: the member `schema` is missing. Expected: \"schema\": {SCHEMA:?}")]
    NoSchema,
    /// A version that this meshproof does not support.
    #[error("the report has version {found:?}. This meshproof reads {SCHEMA:?}. {fix}")]
    UnknownSchema {
        /// What `schema` says.
        found: String,
        /// How to fix it.
        fix: &'static str,
    },
    /// The right version, but a member is missing or has the wrong type.
    #[error("the report does not match {SCHEMA:?}: {}", line(&.0.to_string()))]
    Shape(#[source] serde_json::Error),
}

/// Writes a report as indented JSON with a final newline.
///
/// # Errors
/// None is known: every value of the model can be written as JSON.
pub fn to_json(report: &Report) -> Result<String, serde_json::Error> {
    let mut text = serde_json::to_string_pretty(report)?;
    text.push('\n');
    Ok(text)
}

/// Reads a report. `schema` is read first. Unknown members are ignored.
///
/// # Errors
/// The report is too large, is not JSON, has another version, or does not match the schema.
pub fn from_json(json: &[u8]) -> Result<Report, ReadError> {
    #[derive(Deserialize)]
    struct Head {
        #[serde(default)]
        schema: serde_json::Value,
    }
    if json.len() > MAX_REPORT_BYTES {
        return Err(ReadError::TooLarge { bytes: json.len() });
    }
    let head: Head = serde_json::from_slice(json).map_err(ReadError::Json)?;
    let found = head.schema.as_str().ok_or(ReadError::NoSchema)?;
    if found != SCHEMA {
        let version = |schema: &str| schema.strip_prefix("meshproof.report/")?.parse::<u64>().ok();
        let fix = match (version(found), version(SCHEMA)) {
            (Some(theirs), Some(ours)) if theirs > ours => {
                "Use the version of meshproof that wrote it (see `run.meshproof` in the report) or a newer one"
            }
            (Some(_), _) => "Run the suite again, or use the version of meshproof that wrote the report",
            (None, _) => "This is not a version of a meshproof report. Check the file name",
        };
        let found = found.chars().take(100).collect();
        return Err(ReadError::UnknownSchema { found, fix });
    }
    let mut report: Report = serde_json::from_slice(json).map_err(ReadError::Shape)?;
    // They are derived from the checks, and reports of earlier versions lack them.
    report.derive_causes();
    Ok(report)
}

/// The JSON Schema (draft 2020-12) of [`Report`], published as `report-1.schema.json`.
#[must_use]
pub fn schema() -> Schema {
    let mut schema = schemars::schema_for!(Report);
    if let Some(version) = schema.pointer_mut("/properties/schema").and_then(|s| s.as_object_mut()) {
        version.insert("const".to_owned(), SCHEMA.into());
    }
    schema
}

/// The JSON Schema of [`crate::verification::Verification`], published as `verification-1.schema.json`.
#[must_use]
pub fn verification_schema() -> Schema {
    let mut schema = schemars::schema_for!(crate::verification::Verification);
    if let Some(version) = schema.pointer_mut("/properties/schema").and_then(|s| s.as_object_mut()) {
        version.insert("const".to_owned(), crate::verification::SCHEMA.into());
    }
    schema
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::feature::{Feature, ReportedFeature};
    use crate::sample;

    const SCHEMA_FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/schema/report-1.schema.json");

    fn with(pointer: &str, value: serde_json::Value) -> Vec<u8> {
        let mut json = serde_json::to_value(sample::report()).unwrap();
        *json.pointer_mut(pointer).unwrap() = value;
        serde_json::to_vec(&json).unwrap()
    }

    const VERIFICATION_FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/schema/verification-1.schema.json");

    #[test]
    fn the_published_schemas_are_the_generated_ones() {
        for (file, schema) in [(SCHEMA_FILE, schema()), (VERIFICATION_FILE, verification_schema())] {
            let generated = format!("{}\n", serde_json::to_string_pretty(&schema).unwrap());
            if std::env::var_os("MESHPROOF_BLESS").is_some_and(|v| v == "1") {
                std::fs::write(file, &generated).unwrap();
            }
            let published = std::fs::read_to_string(file).unwrap_or_default();
            assert!(
                published == generated,
                "{file} does not match the types. To update it, run\n  \
                 MESHPROOF_BLESS=1 cargo test -p meshproof-model --lib schema"
            );
        }
    }

    #[test]
    fn sample_reports_match_the_schema() {
        let schema = serde_json::to_value(schema()).unwrap();
        let validator = jsonschema::draft202012::new(&schema).unwrap();
        for report in [sample::report(), sample::passing(), sample::partial()] {
            let json = serde_json::to_value(&report).unwrap();
            let problems: Vec<_> = validator.iter_errors(&json).map(|e| e.to_string()).collect();
            assert!(problems.is_empty(), "{problems:#?}");
        }
    }

    #[test]
    fn a_report_with_wrong_values_does_not_match_the_schema() {
        let schema = serde_json::to_value(schema()).unwrap();
        let validator = jsonschema::draft202012::new(&schema).unwrap();
        for (pointer, value) in [
            ("/schema", serde_json::json!("meshproof.report/2")),
            ("/scenarios/0/checks/0/verdict", serde_json::json!("maybe")),
            ("/scenarios/0/evidence/0/fact/kind", serde_json::json!("rumour")),
        ] {
            let json = serde_json::from_slice(&with(pointer, value)).unwrap();
            assert!(!validator.is_valid(&json), "{pointer} is not validated");
        }
    }

    #[test]
    fn a_report_that_was_written_and_read_is_unchanged() {
        let report = sample::report();
        assert_eq!(from_json(to_json(&report).unwrap().as_bytes()).unwrap(), report);
    }

    #[test]
    fn unknown_members_are_ignored() {
        let mut json = serde_json::to_value(sample::report()).unwrap();
        for pointer in ["", "/run", "/scenarios/0", "/scenarios/0/evidence/0/fact", "/scenarios/0/evidence/0"]
        {
            let object = json.pointer_mut(pointer).unwrap().as_object_mut().unwrap();
            object.insert("from-the-future".to_owned(), serde_json::json!([1, {"a": null}]));
        }
        assert_eq!(from_json(&serde_json::to_vec(&json).unwrap()).unwrap(), sample::report());
    }

    #[test]
    fn a_feature_of_another_version_keeps_its_name() {
        let mut json = serde_json::to_value(sample::report()).unwrap();
        json["implementation"]["features"] = serde_json::json!(["teleportation", "sidecar"]);
        json["scenarios"][0]["checks"][0]["feature"] = "teleportation".into();
        let report = from_json(&serde_json::to_vec(&json).unwrap()).unwrap();
        let teleportation = ReportedFeature::Unknown("teleportation".to_owned());
        assert_eq!(report.implementation.features, [teleportation.clone(), Feature::Sidecar.into()]);
        assert_eq!(report.scenarios[0].checks[0].feature, Some(teleportation));
        assert_eq!(serde_json::to_value(&report).unwrap(), json, "it is written as it was read");
    }

    #[test]
    fn a_newer_version_is_rejected_and_the_message_says_what_to_do() {
        let error = from_json(&with("/schema", "meshproof.report/2".into())).unwrap_err();
        insta::assert_snapshot!(error, @r#"the report has version "meshproof.report/2". This meshproof reads "meshproof.report/1". Use the version of meshproof that wrote it (see `run.meshproof` in the report) or a newer one"#);
    }

    #[test]
    fn the_version_is_checked_before_the_other_members() {
        let error = from_json(br#"{"schema": "meshproof.report/2", "all": "different"}"#).unwrap_err();
        assert!(matches!(error, ReadError::UnknownSchema { .. }), "{error}");
        let error = from_json(br#"{"schema": "meshproof.report/1"}"#).unwrap_err();
        assert!(matches!(error, ReadError::Shape(_)), "{error}");
    }

    #[test]
    fn a_file_that_is_not_a_report_is_rejected() {
        for (json, wanted) in [
            ("", "not a JSON object"),
            ("[1]", "the member `schema` is missing"),
            ("{}", "the member `schema` is missing"),
            (r#"{"schema": 1}"#, "the member `schema` is missing"),
            (r#"{"schema": "junit"}"#, "Check the file name"),
        ] {
            let error = from_json(json.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(wanted), "{json}: {error}");
        }
    }

    #[test]
    fn a_message_about_a_hostile_report_is_escaped() {
        let error = from_json(&with("/scenarios/0/checks/0/verdict", sample::HOSTILE.into())).unwrap_err();
        let message = error.to_string();
        assert!(message.contains("alert"), "{message:?}");
        assert!(!message.contains('\x1b'), "{message:?}");
    }

    #[test]
    fn deep_nesting_is_rejected_without_exhausting_the_stack() {
        let json = format!(r#"{{"schema": "meshproof.report/1", "run": {}"#, "[".repeat(1_000_000));
        assert!(matches!(from_json(json.as_bytes()), Err(ReadError::Json(_))));
    }
}
