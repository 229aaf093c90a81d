//! Evidence for the page's script: each distinct text once, deflated and encoded in base64. Control and
//! invisible characters are escaped here; the script inserts texts into the page as text only.

use std::collections::HashSet;
use std::io::Write as _;

use base64::Engine as _;
use flate2::Compression;
use flate2::write::DeflateEncoder;
use serde::Serialize;

use super::changes;
use super::check::{ScenarioView, full_id};
use super::packed::{PackedBody, PackedChange, TextTable};
use super::parts::MAX_VALUE;
use crate::check_evidence::EvidenceIndex;
use crate::comparable;
use crate::evidence_text;
use meshproof_model::evidence::{Evidence, Fact};
use meshproof_model::report::{CheckResult, ScenarioResult};
use meshproof_model::visible;

/// The most text of one scenario of one report that a page contains, in bytes before compression. The
/// evidence of ordinary scenarios is far smaller; only an implementation that floods its logs or responses
/// reaches it.
const MAX_TEXT: usize = 8 * 1024 * 1024;

/// The same for all scenarios of the page of one report.
const MAX_TEXT_OF_REPORT: usize = 16 * 1024 * 1024;

/// The longest value of a piece that only checks show which passed, in characters. It is shown for orientation; report.json
/// contains the whole value.
const MAX_VALUE_OF_PASSED: usize = 2_000;

/// The level of compression, of at most 9. Higher levels take far longer and save hardly anything.
const LEVEL: u32 = 7;

/// One piece: id, time, side, kind, token, headline, rows (label and value alternate), comparable fields
/// (name and value alternate), the number and the title of its step. All numbers except that of the step are indices
/// into the texts.
#[derive(Serialize)]
struct PackedEvidence(usize, usize, usize, usize, usize, usize, Vec<usize>, Vec<usize>, usize, usize);

fn piece(
    texts: &mut TextTable,
    scenario: &ScenarioResult,
    piece: &Evidence,
    with_fields: bool,
) -> PackedEvidence {
    // The script inserts the token unescaped, so a token that needs escapes is not replaced.
    let token = piece.token.as_deref().filter(|t| visible::line(t) == *t);
    let shown = texts.line(piece.token.as_deref().unwrap_or_default(), None);
    let mut rows = Vec::new();
    match &piece.fact {
        Fact::Exchange(exchange) if exchange.hops.len() > 1 => {
            for (number, hop) in exchange.hops.iter().enumerate() {
                rows.push(texts.line(&format!("request {}", number + 1), None));
                let result = evidence_text::result(&hop.result);
                rows.push(texts.block(&format!("{} {}: {result}", hop.method, hop.url), token));
                for (label, value) in evidence_text::hop_rows(hop) {
                    rows.push(texts.line(label, None));
                    rows.push(texts.block(&value, token));
                }
            }
        }
        Fact::Exchange(_)
        | Fact::AccessLog(_)
        | Fact::Connection(_)
        | Fact::Request(_)
        | Fact::Change(_)
        | Fact::Credential(_) => {
            for (label, value) in evidence_text::rows(&piece.fact) {
                rows.push(texts.line(label, None));
                rows.push(texts.block(&value, token));
            }
        }
        Fact::Note { text } => {
            rows.push(texts.line("note", None));
            rows.push(texts.block(text, token));
        }
    }
    let mut fields = Vec::new();
    if with_fields {
        for (field, value) in comparable::fields(&piece.fact) {
            fields.push(texts.line(&field, None));
            fields.push(texts.line(&value, token));
        }
    }
    PackedEvidence(
        texts.line(&piece.id.0, None),
        texts.line(&evidence_text::when(piece).to_string(), None),
        texts.line(&evidence_text::side(&piece.side, scenario), None),
        texts.line(comparable::kind(&piece.fact), None),
        shown,
        texts.line(&evidence_text::headline(&piece.fact), token),
        rows,
        fields,
        piece.step,
        texts.line(scenario.steps.get(piece.step).map_or("", |s| s.title.as_str()), None),
    )
}

/// One check: reason, expected, seen, repeat, the indices of its evidence, the indices that the verdict rests
/// on, the fields that it failed for (index of the piece and field name alternate), and the indices of its control's
/// evidence.
#[derive(Serialize)]
struct PackedCheck(usize, usize, usize, usize, Vec<usize>, Vec<usize>, Vec<usize>, Vec<usize>);

fn judged(texts: &mut TextTable, evidence_index: &EvidenceIndex<'_>, check: &CheckResult) -> PackedCheck {
    let selected = evidence_index.of_check(check);
    let decides = selected.pieces.iter().filter(|b| b.decides).map(|b| b.index).collect();
    let mut named = Vec::new();
    if !check.differences.is_empty() {
        for item in &selected.pieces {
            let points = comparable::fields(&item.piece.fact);
            for field in comparable::named(check, &item.piece.id, &points) {
                named.extend([item.index, texts.line(&field, None)]);
            }
        }
    }
    PackedCheck(
        texts.line(&check.reason, None),
        texts.line(&check.expected, None),
        texts.line(&check.seen, None),
        texts.line(&check.repeat, None),
        selected.pieces.iter().map(|b| b.index).collect(),
        decides,
        named,
        selected.pieces.iter().filter(|b| b.control).map(|b| b.index).collect(),
    )
}

/// One scenario of a report's page.
#[derive(Serialize)]
struct PackedSection {
    /// The pieces, in the order of the evidence; empty for those that no check shows.
    p: Vec<Option<PackedEvidence>>,
    /// The checks; empty for those that are complete on the page.
    c: Vec<Option<PackedBody>>,
    /// The changes of the configuration.
    h: Vec<PackedChange>,
}

#[derive(Serialize)]
struct PackedReport {
    /// The pieces, in the order of the evidence; empty for those that no check shows.
    p: Vec<Option<PackedEvidence>>,
    /// The checks, in the order of the rows.
    c: Vec<Option<PackedCheck>>,
}

/// The content of a block: texts, and what refers to them by number.
#[derive(Serialize)]
struct PackedBlock<T> {
    /// The texts.
    s: Vec<String>,
    /// One entry per report of a comparison, or per scenario of a report's page.
    k: Vec<T>,
}

/// The pieces that the checks show. Other pieces cannot be opened on the page and are left out.
fn pieces<'r>(
    texts: &mut TextTable,
    evidence_index: &EvidenceIndex<'r>,
    checks: impl Iterator<Item = &'r CheckResult>,
    with_fields: bool,
) -> Vec<Option<PackedEvidence>> {
    let scenario = evidence_index.scenario();
    let mut shown = vec![false; scenario.evidence.len()];
    for check in checks {
        for item in evidence_index.of_check(check).pieces {
            shown[item.index] = true;
        }
    }
    let pieces = scenario.evidence.iter().zip(shown);
    pieces.map(|(e, shown)| shown.then(|| piece(texts, scenario, e, with_fields))).collect()
}

/// Everything that the page of a report does not contain as markup. All scenarios share one list of texts, because they send and
/// receive much the same.
pub(super) fn report(views: &[ScenarioView<'_>], examples: &HashSet<&str>) -> String {
    let mut texts = TextTable::of(0);
    let mut left = MAX_TEXT_OF_REPORT;
    let mut k = Vec::new();
    for view in views {
        texts.left = left.min(MAX_TEXT);
        let granted = texts.left;
        k.push(section(&mut texts, view, examples));
        left -= granted - texts.left;
    }
    packed(&PackedBlock { k, s: texts.list })
}

fn section(texts: &mut TextTable, view: &ScenarioView<'_>, examples: &HashSet<&str>) -> PackedSection {
    let scenario = view.scenario;
    let is_example = |check: &CheckResult| examples.contains(full_id(scenario, check).as_str());
    let mut pieces = Vec::new();
    for (piece, shown) in scenario.evidence.iter().zip(view.shown(examples)) {
        texts.longest = if shown == Some(true) { MAX_VALUE } else { MAX_VALUE_OF_PASSED };
        pieces.push(shown.map(|_| self::piece(texts, scenario, piece, false)));
    }
    texts.longest = MAX_VALUE;
    let checks = scenario.checks.iter();
    PackedSection {
        p: pieces,
        c: checks.map(|check| view.packed(texts, check, is_example(check))).collect(),
        h: view.history.iter().map(|change| changes::packed(texts, change)).collect(),
    }
}

/// The evidence of one scenario in several reports, with the fields that the comparison of two reports needs.
pub(super) fn group(
    columns: &[Option<&ScenarioResult>],
    rows: &[(&str, Vec<Option<&CheckResult>>)],
) -> String {
    let mut texts = TextTable::of(MAX_TEXT * columns.len());
    let k = columns
        .iter()
        .enumerate()
        .map(|(number, scenario)| {
            let scenario = (*scenario)?;
            let evidence_index = EvidenceIndex::of(scenario);
            let checks = rows.iter().filter_map(|(_, row)| row[number]);
            let p = pieces(&mut texts, &evidence_index, checks, true);
            let c =
                rows.iter().map(|(_, row)| Some(judged(&mut texts, &evidence_index, row[number]?))).collect();
            Some(PackedReport { p, c })
        })
        .collect();
    packed(&PackedBlock { k, s: texts.list })
}

fn packed(block: &impl Serialize) -> String {
    // Writing to memory cannot fail, and every value of the model can be written as JSON. The page reports an
    // empty block as unreadable.
    let json = serde_json::to_vec(block).unwrap_or_default();
    let mut deflate = DeflateEncoder::new(Vec::with_capacity(json.len() / 8), Compression::new(LEVEL));
    let bytes = deflate.write_all(&json).and_then(|()| deflate.finish()).unwrap_or_default();
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use flate2::read::DeflateDecoder;

    use super::*;
    use meshproof_model::sample;

    /// The content of the block of a report with only this scenario.
    fn packed_alone(scenario: &ScenarioResult) -> serde_json::Value {
        unpacked(&report(&[ScenarioView::of(0, scenario)], &HashSet::new()))
    }

    fn unpacked(text: &str) -> serde_json::Value {
        let bytes = base64::engine::general_purpose::STANDARD.decode(text).unwrap();
        let mut json = String::new();
        DeflateDecoder::new(bytes.as_slice()).read_to_string(&mut json).unwrap();
        serde_json::from_str(&json).unwrap()
    }

    #[test]
    fn every_piece_that_a_check_shows_is_packed_and_every_text_is_stored_once() {
        let report = sample::report();
        let block = packed_alone(&report.scenarios[0]);
        let pieces = block["k"][0]["p"].as_array().unwrap();
        assert_eq!(pieces.len(), report.scenarios[0].evidence.len());
        // No check of the sample refers to the change, which is shown with the manifests.
        let left_out: Vec<usize> = (0..pieces.len()).filter(|&n| pieces[n].is_null()).collect();
        assert_eq!(left_out, [1]);
        let mut texts: Vec<&str> =
            block["s"].as_array().unwrap().iter().map(|t| t.as_str().unwrap()).collect();
        let count = texts.len();
        texts.sort_unstable();
        texts.dedup();
        assert_eq!(texts.len(), count);
    }

    #[test]
    fn a_token_is_stored_separately_from_the_texts_that_contain_it() {
        let report = sample::report();
        let block = packed_alone(&report.scenarios[0]);
        let texts = block["s"].as_array().unwrap();
        let with: Vec<_> = texts.iter().filter(|t| t.as_str().unwrap().contains("7f3a91-so.00002")).collect();
        assert_eq!(
            with.len(),
            2,
            "the token itself, and the sample's first exchange, which contains the token of another: \
                {with:#?}"
        );
    }

    #[test]
    fn hostile_text_is_escaped_before_it_is_packed() {
        let report = sample::report();
        let block = packed_alone(&report.scenarios[2]);
        for text in block["s"].as_array().unwrap() {
            let text = text.as_str().unwrap();
            let hidden = text.chars().find(|&c| c != '\n' && visible::line(&c.to_string()) != c.to_string());
            assert!(hidden.is_none() || hidden == Some('\u{1}'), "{text:?}");
        }
    }
}
