//! The page `docs/coverage.md`.

use std::fmt::Write as _;

use super::{Document, Part};

/// The documents' statements with their checks, as Markdown.
#[must_use]
pub fn markdown(documents: &[Document]) -> String {
    let mut page = String::from(
        "# Coverage of the documents\n\n\
         Each statement of the documents that the suite comes from, in the suite's own words: what a line promises, shows or warns \
         of, and the checks that cover it, or the reason why no check can. `meshproof explain SCENARIO/CHECK` describes a check.\n\n\
         Line numbers are those of the article's text as it was read for the suite. Lines that are missing here state nothing \
         about a mesh: titles, tables of contents, and how to install what the task needs.\n\n\
         This page is written from `fixtures/documents/`. After a change there:\n\n\
         ```console\n\
         $ MESHPROOF_BLESS=1 cargo test -p meshproof-scenarios --test documents\n\
         ```\n\n\
         | document | statements | with checks | with a reason |\n| --- | --- | --- | --- |\n",
    );
    for document in documents {
        let (checked, reasoned) = numbers(document);
        let row = format!("{} | {} | {checked} | {reasoned}", document.title, checked + reasoned);
        let _infallible = writeln!(page, "| {row} |");
    }
    for document in documents {
        let _infallible = write!(
            page,
            "\n## {}\n\n<{}>\n\n| where | statement | covered by |\n| --- | --- | --- |\n",
            document.title, document.url
        );
        for (part, says) in document.parts.iter().filter_map(|part| Some((part, part.says.as_deref()?))) {
            let _infallible = writeln!(page, "| {} | {} | {} |", part.place(), cell(says), covered(part));
        }
    }
    page
}

/// How many statements have checks, and how many have a reason alone.
fn numbers(document: &Document) -> (usize, usize) {
    let statements = || document.parts.iter().filter(|part| part.says.is_some());
    let checked = statements().filter(|part| !part.checks.is_empty()).count();
    (checked, statements().count() - checked)
}

fn covered(part: &Part) -> String {
    let checks: Vec<String> = part.checks.iter().map(|check| format!("`{check}`")).collect();
    let reason = part.reason.as_deref().map(|reason| format!("No check: {}", cell(reason)));
    checks.into_iter().chain(reason).collect::<Vec<_>>().join("<br>")
}

/// A text in one cell of a table.
fn cell(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|")
}
