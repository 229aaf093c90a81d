//! Every code has a page, and every page a code.

#![allow(clippy::unwrap_used, reason = "a test says what went wrong by panicking")]

use std::collections::BTreeSet;
use std::path::Path;

use meshproof_verify::CODES;

#[test]
fn pages_and_codes_are_equal() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/findings");
    let pages: BTreeSet<String> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .filter(|n| n != "README.md")
        .collect();
    let codes: BTreeSet<String> = CODES.iter().map(|c| format!("{}.md", c.code)).collect();
    assert_eq!(pages, codes);
    let index = std::fs::read_to_string(folder.join("README.md")).unwrap();
    for code in CODES {
        let page = std::fs::read_to_string(folder.join(format!("{}.md", code.code))).unwrap();
        let head = format!("# {} {}\n\n{}. Severity: {}.\n", code.code, code.name, code.title, code.severity);
        assert!(page.starts_with(&head), "{} does not begin with:\n{head}", code.code);
        let row =
            format!("| [{0}]({0}.md) | {1} | {2} | {3} |", code.code, code.name, code.severity, code.title);
        assert!(index.contains(&row), "docs/findings/README.md lacks:\n{row}");
    }
}
