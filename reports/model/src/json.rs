//! The report as JSON, and the schema that says what may be in it.

use schemars::Schema;
use serde::Deserialize;

use crate::report::{Report, SCHEMA};
use crate::visible::line;

/// The largest report that is read, in bytes. A scenario's evidence is bounded where it is recorded, so a report of this
/// size was not written by a run.
pub const MAX_REPORT_BYTES: usize = 256 * 1024 * 1024;

/// Why a report cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// Larger than [`MAX_REPORT_BYTES`].
    #[error("the report has {bytes} bytes; at most {MAX_REPORT_BYTES} are read")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// Not JSON at all, or no object.
    #[error("not a JSON object: {}", line(&.0.to_string()))]
    Json(#[source] serde_json::Error),
    /// There is no `schema`.
    #[error("not a meshproof report: it has no text `schema`; a report begins with \"schema\": {SCHEMA:?}")]
    NoSchema,
    /// A version that this meshproof does not know.
    #[error("the report is of version {found:?}, this meshproof reads {SCHEMA:?}: {mend}")]
    UnknownSchema {
        /// What `schema` says.
        found: String,
        /// What to do about it.
        mend: &'static str,
    },
    /// The right version, and something in it is missing or wrong.
    #[error("the report does not follow {SCHEMA:?}: {}", line(&.0.to_string()))]
    Shape(#[source] serde_json::Error),
}

/// Writes a report as JSON, indented, with a line end.
///
/// # Errors
/// None is known: the model holds nothing that JSON lacks.
pub fn to_json(report: &Report) -> Result<String, serde_json::Error> {
    let mut text = serde_json::to_string_pretty(report)?;
    text.push('\n');
    Ok(text)
}

/// Reads a report. `schema` is looked at before anything else; members that this version does not know are skipped.
///
/// # Errors
/// Too large, not JSON, another version, or not what the schema says.
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
        let mend = match (version(found), version(SCHEMA)) {
            (Some(theirs), Some(ours)) if theirs > ours => {
                "read it with the meshproof that wrote it (`run.meshproof` names it), or a newer one"
            }
            (Some(_), _) => "run the suite again, or read it with the meshproof that wrote it",
            (None, _) => "this is no version of meshproof's report; check which file was given",
        };
        let found = found.chars().take(100).collect();
        return Err(ReadError::UnknownSchema { found, mend });
    }
    serde_json::from_slice(json).map_err(ReadError::Shape)
}

/// The JSON Schema (draft 2020-12) of [`Report`], as `reports/model/schema/report-1.schema.json` holds it.
#[must_use]
pub fn schema() -> Schema {
    let mut schema = schemars::schema_for!(Report);
    if let Some(version) = schema.pointer_mut("/properties/schema").and_then(|s| s.as_object_mut()) {
        version.insert("const".to_owned(), SCHEMA.into());
    }
    schema
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;

    const SCHEMA_FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/schema/report-1.schema.json");

    fn with(pointer: &str, value: serde_json::Value) -> Vec<u8> {
        let mut json = serde_json::to_value(sample::report()).unwrap();
        *json.pointer_mut(pointer).unwrap() = value;
        serde_json::to_vec(&json).unwrap()
    }

    #[test]
    fn the_published_schema_is_the_generated_one() {
        let generated = format!("{}\n", serde_json::to_string_pretty(&schema()).unwrap());
        if std::env::var_os("MESHPROOF_BLESS").is_some_and(|v| v == "1") {
            std::fs::write(SCHEMA_FILE, &generated).unwrap();
        }
        let published = std::fs::read_to_string(SCHEMA_FILE).unwrap_or_default();
        assert!(
            published == generated,
            "{SCHEMA_FILE} is not what the types say; rewrite it with\n  \
             MESHPROOF_BLESS=1 cargo test -p meshproof-reports --lib schema"
        );
    }

    #[test]
    fn sample_reports_follow_the_schema() {
        let schema = serde_json::to_value(schema()).unwrap();
        let validator = jsonschema::draft202012::new(&schema).unwrap();
        for report in [sample::report(), sample::passing(), sample::partial()] {
            let json = serde_json::to_value(&report).unwrap();
            let problems: Vec<_> = validator.iter_errors(&json).map(|e| e.to_string()).collect();
            assert!(problems.is_empty(), "{problems:#?}");
        }
    }

    #[test]
    fn a_report_of_another_shape_does_not_follow_the_schema() {
        let schema = serde_json::to_value(schema()).unwrap();
        let validator = jsonschema::draft202012::new(&schema).unwrap();
        for (pointer, value) in [
            ("/schema", serde_json::json!("meshproof.report/2")),
            ("/scenarios/0/checks/0/verdict", serde_json::json!("maybe")),
            ("/scenarios/0/evidence/0/fact/kind", serde_json::json!("rumour")),
        ] {
            let json = serde_json::from_slice(&with(pointer, value)).unwrap();
            assert!(!validator.is_valid(&json), "{pointer} is not looked at");
        }
    }

    #[test]
    fn a_report_read_back_is_the_report_written() {
        let report = sample::report();
        assert_eq!(from_json(to_json(&report).unwrap().as_bytes()).unwrap(), report);
    }

    #[test]
    fn unknown_members_are_skipped() {
        let mut json = serde_json::to_value(sample::report()).unwrap();
        for pointer in ["", "/run", "/scenarios/0", "/scenarios/0/evidence/0/fact", "/scenarios/0/evidence/0"]
        {
            let object = json.pointer_mut(pointer).unwrap().as_object_mut().unwrap();
            object.insert("from-the-future".to_owned(), serde_json::json!([1, {"a": null}]));
        }
        assert_eq!(from_json(&serde_json::to_vec(&json).unwrap()).unwrap(), sample::report());
    }

    #[test]
    fn a_newer_version_is_refused_with_the_mend() {
        let error = from_json(&with("/schema", "meshproof.report/2".into())).unwrap_err();
        insta::assert_snapshot!(error, @r#"the report is of version "meshproof.report/2", this meshproof reads "meshproof.report/1": read it with the meshproof that wrote it (`run.meshproof` names it), or a newer one"#);
    }

    #[test]
    fn the_version_is_looked_at_before_the_shape() {
        let error = from_json(br#"{"schema": "meshproof.report/2", "all": "different"}"#).unwrap_err();
        assert!(matches!(error, ReadError::UnknownSchema { .. }), "{error}");
        let error = from_json(br#"{"schema": "meshproof.report/1"}"#).unwrap_err();
        assert!(matches!(error, ReadError::Shape(_)), "{error}");
    }

    #[test]
    fn what_is_no_report_is_refused() {
        for (json, wanted) in [
            ("", "not a JSON object"),
            ("[1]", "has no text `schema`"),
            ("{}", "has no text `schema`"),
            (r#"{"schema": 1}"#, "has no text `schema`"),
            (r#"{"schema": "junit"}"#, "check which file was given"),
        ] {
            let error = from_json(json.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(wanted), "{json}: {error}");
        }
    }

    #[test]
    fn a_message_about_a_hostile_report_is_harmless_to_print() {
        let error = from_json(&with("/scenarios/0/checks/0/verdict", sample::HOSTILE.into())).unwrap_err();
        let message = error.to_string();
        assert!(message.contains("alert"), "{message:?}");
        assert!(!message.contains('\x1b'), "{message:?}");
    }

    #[test]
    fn deep_nesting_is_refused_without_exhausting_the_stack() {
        let json = format!(r#"{{"schema": "meshproof.report/1", "run": {}"#, "[".repeat(1_000_000));
        assert!(matches!(from_json(json.as_bytes()), Err(ReadError::Json(_))));
    }
}
