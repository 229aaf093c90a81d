//! SARIF 2.1.0 (OASIS), as GitHub's code scanning reads it.

use std::collections::BTreeMap;

use meshproof_model::verification::{Finding, Severity, Verification};
use meshproof_model::visible::{block, clipped, line};
use serde_json::{Value, json};

use super::page_of;

/// Where the pages of the codes are published.
const PAGES: &str = "https://github.com/meshproof/meshproof/blob/main/";

fn text(value: &str) -> String {
    clipped(&line(value), 4_000).into_owned()
}

const fn level(severity: Severity) -> &'static str {
    match severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
        Severity::Note => "note",
    }
}

pub(super) fn sarif(verification: &Verification) -> Result<String, serde_json::Error> {
    let all: Vec<&Finding> = verification.findings.iter().chain(&verification.notes).collect();
    let mut rules: BTreeMap<&str, &Finding> = BTreeMap::new();
    for finding in &all {
        rules.entry(&finding.code).or_insert(finding);
    }
    let index: BTreeMap<&str, usize> = rules.keys().enumerate().map(|(i, c)| (*c, i)).collect();
    let described: Vec<Value> = rules
        .values()
        .map(|f| {
            json!({
                "id": f.code,
                "name": f.name,
                "shortDescription": {"text": f.name.replace('-', " ")},
                "helpUri": format!("{PAGES}{}", page_of(&f.code)),
                "defaultConfiguration": {"level": level(f.severity)},
            })
        })
        .collect();
    let results: Vec<Value> = all
        .iter()
        .map(|f| {
            let mut message = format!("{}. {}.", text(&f.message), text(&f.effect));
            if let Some(fix) = &f.fix {
                message.push_str(&format!("\n\nFix: {}.", text(&fix.summary)));
                if !fix.patch.is_empty() {
                    message.push_str(&format!("\n\n{}", clipped(&block(&fix.patch), 4_000)));
                }
            }
            // What is in a cluster has a name and no file.
            let location = if f.at.is_in_file() {
                json!({
                    "physicalLocation": {
                        "artifactLocation": {"uri": uri(&f.at.file)},
                        "region": {"startLine": f.at.line.max(1), "startColumn": f.at.column.max(1)},
                    },
                    "logicalLocations": [{"fullyQualifiedName": text(&f.resource)}],
                })
            } else {
                json!({"logicalLocations": [{
                    "fullyQualifiedName": text(&f.at.to_string()), "kind": "resource",
                }]})
            };
            json!({
                "ruleId": f.code,
                "ruleIndex": index.get(f.code.as_str()),
                "level": level(f.severity),
                "message": {"text": message},
                "locations": [location],
                // A line may move without the finding being another; two findings about one resource differ in what they say.
                "partialFingerprints": {
                    "meshproof/v1": format!("{} {} {}", f.code, text(&f.resource), text(&f.message)),
                },
            })
        })
        .collect();
    let log = json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": {"driver": {
                "name": "meshproof",
                "version": verification.meshproof,
                "informationUri": "https://github.com/meshproof/meshproof",
                "rules": described,
            }},
            "columnKind": "unicodeCodePoints",
            "results": results,
        }],
    });
    serde_json::to_string_pretty(&log).map(|text| format!("{text}\n"))
}

/// A relative path as a relative reference (RFC 3986), an absolute one as a URI (RFC 8089).
fn uri(path: &str) -> String {
    let mut out = if path.starts_with('/') { "file://".to_owned() } else { String::new() };
    for byte in path.trim_start_matches("./").bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
                out.push(byte.into())
            }
            other => out.push_str(&format!("%{other:02X}")),
        }
    }
    out
}
