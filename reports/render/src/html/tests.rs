use super::*;
use crate::text::symbol;
use meshproof_model::feature::ReportedFeature;
use meshproof_model::report::{Report, Verdict};
use meshproof_model::sample;
use meshproof_model::visible;

/// The names of all elements and attributes of a page, by a parser that knows one rule of HTML only: outside
/// `<style>` and `<script>`, every `<` begins a tag.
pub(crate) fn markup(page: &str) -> Vec<(String, Vec<String>)> {
    let mut found = vec![];
    for tag in bare(page).split('<').skip(1) {
        let (inside, _) = tag.split_once('>').unwrap_or_else(|| panic!("a tag without end: {tag:.80}"));
        // Attribute values are in double quotes and contain none, so the names are the text between the
        // values.
        let names: String = inside.split('"').step_by(2).collect::<Vec<_>>().join(" ");
        let mut words = names.split_whitespace().map(|w| w.trim_end_matches('=').to_owned());
        found.push((words.next().unwrap_or_default(), words.collect()));
    }
    found
}

/// The page without the content of its `<style>` and `<script>` elements.
fn bare(page: &str) -> String {
    let mut out = String::new();
    let mut rest = page;
    while let Some(at) = ["<style>", "<script"].iter().filter_map(|tag| rest.find(tag)).min() {
        let end = if rest[at..].starts_with("<style>") { "</style>" } else { "</script>" };
        out.push_str(&rest[..at]);
        let (_, after) = rest[at..].split_once(end).unwrap();
        rest = after;
    }
    out + rest
}

pub(crate) fn assert_harmless(page: &str) {
    const ELEMENTS: &str = "!DOCTYPE html head meta title body main header nav section h1 h2 h3 h4 p span \
        strong a ul ol li \
        dl dt dd pre code table caption thead tbody tr th td details summary div label input select option
            button output \
        noscript wbr br figure figcaption dialog svg g line path rect circle text defs pattern";
    const ATTRIBUTES: &str = "html lang charset http-equiv content name class id href rel scope role open \
        aria-label \
        aria-labelledby aria-hidden aria-describedby title hidden type popover popovertarget tabindex for
            value placeholder \
        autocomplete spellcheck colspan data-block data-piece data-check data-change data-number data-verdict data-level data-key data-scenario
            data-d data-c data-to \
        viewBox preserveAspectRatio width height x y x1 y1 x2 y2 cx cy r rx d fill text-anchor patternUnits patternTransform";
    let (elements, attributes): (Vec<&str>, Vec<&str>) =
        (ELEMENTS.split_whitespace().collect(), ATTRIBUTES.split_whitespace().collect());
    for (element, own) in markup(page) {
        let element = element.trim_start_matches('/');
        assert!(elements.contains(&element), "<{element}> does not belong on the page");
        for attribute in own {
            assert!(
                attributes.contains(&attribute.as_str()),
                "{attribute} of <{element}> does not belong there"
            );
        }
    }
    let page = bare(page);
    let hidden = page.chars().find(|&c| c != '\n' && visible::line(&c.to_string()) != c.to_string());
    assert_eq!(hidden, None);
    for href in page.split("href=\"").skip(1) {
        assert!(
            href.starts_with("https://") || href.starts_with("http://") || href.starts_with('#'),
            "{href:.60}"
        );
    }
}

#[test]
fn hostile_text_adds_no_element_no_attribute_and_no_script_address() {
    let page = html(&sample::report());
    assert!(page.contains("&lt;script&gt;"));
    assert_harmless(&page);
}

#[test]
fn a_page_loads_nothing_from_the_network() {
    for page in pages() {
        assert!(page.contains("content=\"default-src 'none'; style-src 'sha256-"));
        for way in [
            "src=",
            "url(h",
            "@import",
            "<link",
            "<img",
            "<iframe",
            "srcset",
            "fetch(",
            "XMLHttpRequest",
            "import(",
        ] {
            assert!(!page.contains(way), "{way} is on the page");
        }
    }
}

#[test]
fn the_policy_names_the_page_s_own_style_and_script_by_their_hashes() {
    use base64::Engine as _;
    for page in pages() {
        for (start, end, directive) in
            [("<style>", "</style>", "style-src"), ("<script>", "</script>", "script-src")]
        {
            let text = page.split_once(start).unwrap().1.split_once(end).unwrap().0;
            let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes());
            let hash = base64::engine::general_purpose::STANDARD.encode(digest);
            assert!(page.contains(&format!("{directive} 'sha256-{hash}'")), "{directive}");
        }
    }
}

fn pages() -> [String; 3] {
    let (report, passing) = (sample::report(), sample::passing());
    [html(&report), comparison(&[&report, &passing], Some(1), true), kill_matrix(&sample::kills())]
}

#[test]
fn hostile_text_reaches_a_comparison_as_text() {
    let page = comparison(&[&sample::report(), &sample::report()], None, true);
    assert_harmless(&page);
    assert!(page.contains("path-based-routing:root-last"));
}

#[test]
fn every_verdict_is_shown_as_a_word_and_a_symbol() {
    let page = html(&sample::report());
    for verdict in Verdict::ALL {
        let badge = format!("class=\"verdict {verdict}\"");
        assert!(
            page.contains(&badge) && page.contains(&format!("{} {verdict}</span>", symbol(verdict))),
            "{badge}"
        );
    }
}

#[test]
fn the_page_contains_conclusion_score_requirement_document_evidence_and_command() {
    let page = html(&sample::report());
    for wanted in [
        "<h1>Istio 1.30.1</h1>",
        "3 of 9 MUST checks passed, 2 failed",
        "<td class=\"failed\">2</td>",
        "exactly one response, 200, and no redirect anywhere",
        "href=\"https://istio.io/latest/docs/tasks/traffic-management/egress/egress-tls-origination/\"",
        "GET http://edition.cnn.com/politics: 301 redirect to https://edition.cnn.com/politics, then 200",
        "upstream 151.101.129.67:80 (outbound|80||edition.cnn.com)",
        "nginx/1.27.4",
        "the log stream of istio-egressgateway was interrupted",
        "meshproof run cluster sidecar-origination --check sidecar-origination/single-response",
        "Evidence e99 is not in the report",
    ] {
        assert!(page.contains(wanted), "{wanted:?} is not on the page");
    }
    let evidence = packed(&page);
    for wanted in
        ["mode: SIMPLE", "meshproof run cluster sidecar-origination --check sidecar-origination/sni-is-host"]
    {
        assert!(evidence.contains(wanted), "{wanted:?} is not in the packed evidence");
    }
}

/// What the page's script unpacks.
fn packed(page: &str) -> String {
    use std::io::Read as _;

    use base64::Engine as _;
    let (_, rest) = page.split_once("id=\"evidence\">").unwrap();
    let bytes = base64::engine::general_purpose::STANDARD.decode(rest.split_once('<').unwrap().0).unwrap();
    let mut text = String::new();
    flate2::read::DeflateDecoder::new(bytes.as_slice()).read_to_string(&mut text).unwrap();
    text
}

#[test]
fn without_javascript_the_page_shows_the_causes_and_every_check_with_its_verdict_and_reason() {
    let report = sample::report();
    let page = bare(&html(&report));
    let text = |text: &str| maud::html! { (parts::line(text)) }.into_string();
    for check in report.checks() {
        assert!(
            page.contains(&text(&check.reason)),
            "the reason of {} is missing: {}",
            check.id,
            check.reason
        );
    }
    for cause in &report.causes {
        assert!(page.contains(&text(&cause.title)), "{}", cause.title);
    }
}

#[test]
fn checks_that_need_attention_are_open_and_others_closed() {
    let page = html(&sample::report());
    let id = |name: &str| format!("id=\"sidecar-origination:target-port/{name}\" data-verdict=");
    let open =
        |name: &str| page.split_once(&id(name)).unwrap().1.split_once('>').unwrap().0.ends_with(" open");
    assert!(open("single-response"), "a failed check is closed");
    assert!(!open("sni-is-host"), "a passed check is open");
}

#[test]
fn the_failures_come_before_the_scenarios() {
    let page = html(&sample::report());
    let at = |text: &str| page.find(text).unwrap_or_else(|| panic!("{text}"));
    assert!(at("3 of 9 MUST checks passed, 2 failed") < at(">Failures<"));
    assert!(at(">Failures<") < at("id=\"scenarios\""));
}

#[test]
fn an_expected_failure_is_listed_apart_from_other_failures() {
    let mut report = sample::passing();
    let check = &mut report.scenarios[0].checks[1];
    check.verdict = Verdict::Failed;
    check.expected_failure =
        Some(meshproof_model::ExpectedFailure { reason: "known since 1.30".to_owned(), until: None });
    let page = html(&report);
    assert!(page.contains("1 expected failure") && page.contains("known since 1.30"));
    assert!(page.contains("None. No check failed"));
}

#[test]
fn a_difference_is_shown_next_to_the_evidence_for_it() {
    let mut report = sample::report();
    let check = &mut report.scenarios[0].checks[1];
    check.differences = vec![meshproof_model::Difference {
        evidence: meshproof_model::EvidenceId("e6".to_owned()),
        expected: "TLS on port 443".to_owned(),
        seen: "plain text on port 443".to_owned(),
    }];
    let page = html(&report);
    let wrong = page.split("lane-s wrong").nth(1).unwrap().split_once("</li>").unwrap().0;
    assert!(wrong.contains("TLS on port 443") && wrong.contains("plain text on port 443"), "{wrong}");
}

#[test]
fn a_partial_run_has_a_banner_and_a_complete_run_has_none() {
    let banner = "<strong>! Partial run. </strong>";
    assert!(html(&sample::partial()).contains(banner));
    assert!(html(&sample::partial()).contains("interrupted (Ctrl-C)"));
    assert!(!html(&sample::passing()).contains(banner));
}

#[test]
fn a_comparison_without_evidence_contains_verdicts_and_no_packed_evidence() {
    let (report, passing) = (sample::report(), sample::passing());
    let (with, without) =
        (comparison(&[&report, &passing], None, true), comparison(&[&report, &passing], None, false));
    assert!(with.contains("id=\"block-0\"") && !without.contains("id=\"block-0\""));
    assert!(without.contains("✗ failed"));
}

#[test]
fn an_address_relative_to_a_page_is_encoded_and_has_no_scheme() {
    let address = |page: &str, file: &str| relative(std::path::Path::new(page), std::path::Path::new(file));
    assert_eq!(address("/a/page.html", "/a/b c/index.html").as_deref(), Some("./b%20c/index.html"));
    assert_eq!(address("/a/b/page.html", "/a/javascript:x").as_deref(), Some("../javascript%3Ax"));
    assert_eq!(address("page.html", "/a"), None);
}

#[test]
fn a_comparison_links_to_local_pages_only() {
    let report = sample::report();
    let mut comparison = crate::compare::compare(&[&report, &report], None);
    comparison.columns[0].page = Some("javascript:alert(1)".to_owned());
    comparison.columns[1].page = Some("../b/index.html".to_owned());
    let page = comparison_page(&comparison, &[&report, &report], false);
    assert!(!page.contains("href=\"javascript") && page.contains("href=\"../b/index.html\""));
}

#[test]
fn a_kill_matrix_names_its_gaps() {
    let matrix = sample::kills();
    let page = kill_matrix(&matrix);
    assert_harmless(&page);
    assert!(
        page.contains("<li>check sidecar-origination/idle</li>")
            && page.contains("<li>saboteur unnoticed</li>")
    );
}

#[test]
fn sample_pages_are_written_to_the_folder_meshproof_pages() {
    let Some(folder) = std::env::var_os("MESHPROOF_PAGES") else { return };
    for (name, report) in
        [("report", sample::report()), ("passing", sample::passing()), ("partial", sample::partial())]
    {
        std::fs::write(std::path::Path::new(&folder).join(name).with_extension("html"), html(&report))
            .unwrap();
    }
    std::fs::write(std::path::Path::new(&folder).join("kills.html"), kill_matrix(&sample::kills())).unwrap();
}

#[test]
fn features_that_this_version_does_not_know_are_shown_by_name() {
    let mut report = sample::report();
    let unknown = |name: &str| ReportedFeature::from(name.to_owned());
    report.implementation.features = vec![unknown("sidecar"), unknown("teleportation")];
    report.scenarios[0].checks[0].feature = Some(unknown("time-travel"));
    let page = html(&report);
    for wanted in [
        "<dt>declared features</dt><dd>sidecar, teleportation</dd>",
        "<dt>requires feature</dt><dd>time-travel</dd>",
    ] {
        assert!(page.contains(wanted), "{wanted:?} is not on the page");
    }
}

#[test]
fn a_page_lists_skipped_checks_with_their_reasons_and_marks_none_as_passed() {
    let mut report = sample::passing();
    for check in &mut report.scenarios[0].checks {
        (check.verdict, check.reason) = (Verdict::Skipped, "no mesh-mtls here".to_owned());
    }
    let page = html(&report);
    let skipped = format!("<li>{} checks skipped: no mesh-mtls here</li>", report.checks().count());
    assert!(page.contains(&skipped) && page.contains("No check was judged."));
    assert!(!page.contains("None. No check failed"));
    assert!(!bare(&page).contains("✓ expected"));
}

#[test]
fn the_page_of_a_partial_run_does_not_say_that_there_are_no_failures() {
    let mut report = sample::partial();
    report.scenarios[0].checks[0].verdict = Verdict::Skipped;
    let page = html(&report);
    let total = report.checks().count();
    let said = format!(
        "The run stopped early (interrupted (Ctrl-C)): {} of {total} checks judged. 1 check was not judged.",
        total - 1
    );
    assert!(page.contains(&said) && !page.contains("None. No check failed"));
}

/// What an implementation leaves that floods its log: as many different lines as these, on which a check
/// rests.
fn flooded(lines: usize, bytes: usize) -> Report {
    let mut report = sample::report();
    let scenario = &mut report.scenarios[0];
    let template = scenario.evidence[3].clone();
    let mut random: u64 = 1;
    let mut noise = || {
        // xorshift64: lines that compress badly.
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        format!("{random:016x}")
    };
    for n in 0..lines {
        let mut piece = template.clone();
        (piece.id, piece.token) = (meshproof_model::EvidenceId(format!("x{n}")), None);
        let meshproof_model::Fact::AccessLog(log) = &mut piece.fact else { unreachable!() };
        log.line = (0..bytes / 16).map(|_| noise()).collect();
        scenario.checks[1].evidence.push(piece.id.clone());
        scenario.evidence.push(piece);
    }
    report
}

#[test]
fn the_page_of_a_flooded_report_is_of_bounded_size() {
    let report = flooded(8_000, 4_096);
    let json = meshproof_model::to_json(&report).unwrap().len();
    let sizes = [html(&report).len(), comparison(&[&report, &sample::passing()], None, true).len()];
    assert!(
        json > 30_000_000 && sizes.iter().all(|size| *size < 4_000_000),
        "{json} as JSON, {sizes:?} as HTML"
    );
}

#[test]
fn every_format_of_a_flooded_report_is_of_bounded_size() {
    use crate::formats::Format;
    let report = flooded(8_000, 4_096);
    for format in Format::ALL.into_iter().filter(|format| *format != Format::Json) {
        let size = format.render(&report).unwrap().len();
        assert!(size < 4_000_000, "{size} as {format}");
    }
}
