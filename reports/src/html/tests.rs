use super::*;
use crate::sample;

/// The names of all elements and attributes of a page, by a reader that knows no more than HTML's own rule: outside
/// `<style>`, every `<` begins a tag.
pub(crate) fn markup(page: &str) -> Vec<(String, Vec<String>)> {
    let (before, rest) = page.split_once("<style>").unwrap();
    let (_, after) = rest.split_once("</style>").unwrap();
    let mut found = vec![];
    for tag in [before, after].iter().flat_map(|part| part.split('<').skip(1)) {
        let (inside, _) = tag.split_once('>').unwrap_or_else(|| panic!("a tag without end: {tag:.80}"));
        // Values stand in double quotes and hold none: names are what is left between them.
        let names: String = inside.split('"').step_by(2).collect::<Vec<_>>().join(" ");
        let mut words = names.split_whitespace().map(|w| w.trim_end_matches('=').to_owned());
        found.push((words.next().unwrap_or_default(), words.collect()));
    }
    found
}

pub(crate) fn assert_harmless(page: &str) {
    const ELEMENTS: &[&str] = &[
        "!DOCTYPE", "html", "head", "meta", "title", "body", "main", "header", "nav", "section", "h1", "h2",
        "h3", "p", "span", "strong", "a", "ul", "ol", "li", "dl", "dt", "dd", "pre", "code", "table",
        "thead", "tbody", "tr", "th", "td", "details", "summary", "div",
    ];
    const ATTRIBUTES: &[&str] = &[
        "html",
        "lang",
        "charset",
        "http-equiv",
        "content",
        "name",
        "class",
        "id",
        "href",
        "rel",
        "scope",
        "role",
        "open",
        "aria-label",
    ];
    for (element, attributes) in markup(page) {
        let element = element.trim_start_matches('/');
        assert!(ELEMENTS.contains(&element), "<{element}> does not belong on the page");
        for attribute in attributes {
            assert!(
                ATTRIBUTES.contains(&attribute.as_str()),
                "{attribute} of <{element}> does not belong there"
            );
        }
    }
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
fn the_page_asks_nothing_of_the_network() {
    let page = html(&sample::report());
    assert!(page.contains("content=\"default-src 'none'; style-src 'unsafe-inline'"));
    for way in ["src=", "url(", "@import", "<link", "<img", "<iframe", "srcset"] {
        assert!(!page.contains(way), "{way} is on the page");
    }
}

#[test]
fn every_verdict_is_a_word_and_a_sign() {
    let page = html(&sample::report());
    for verdict in Verdict::ALL {
        let badge =
            format!("<span class=\"verdict {}\">{} {verdict}</span>", class(verdict), symbol(verdict));
        assert!(page.contains(&badge), "{badge}");
    }
}

#[test]
fn a_reader_finds_conclusion_score_requirement_document_evidence_and_command() {
    let page = html(&sample::report());
    for wanted in [
        "<h1>Istio 1.30.1</h1>",
        "2 of 7 MUST checks failed",
        "<td class=\"failed\">2</td>",
        "exactly one response, 200, and no redirect anywhere",
        "href=\"https://istio.io/latest/docs/tasks/traffic-management/egress/egress-tls-origination/\"",
        "Request 2: GET https://edition.cnn.com/politics",
        "location: https://edition.cnn.com/politics",
        "upstream_cluster: outbound|80||edition.cnn.com",
        "CN=client.example.com,O=client organization",
        "nginx/1.27.4",
        "mode: SIMPLE",
        "the log stream of istio-egressgateway broke off",
        "meshproof run cluster sidecar-origination --check sidecar-origination/single-response",
        "Evidence e99 is not in the report",
    ] {
        assert!(page.contains(wanted), "{wanted:?} is not on the page");
    }
}

#[test]
fn checks_that_need_a_look_are_open_and_others_closed() {
    let page = html(&sample::report());
    assert!(page.contains("<details id=\"s0c1\" open>"), "a failed check is closed");
    assert!(page.contains("<details id=\"s0c0\">"), "a passed check is open");
}

#[test]
fn a_partial_run_carries_a_banner_and_a_whole_one_none() {
    let banner = "class=\"banner\"";
    assert!(html(&sample::partial()).contains(banner));
    assert!(html(&sample::partial()).contains("interrupted (Ctrl-C)"));
    assert!(!html(&sample::passing()).contains(banner));
}

#[test]
fn pages_are_written_out_where_somebody_wants_to_look() {
    let Some(folder) = std::env::var_os("MESHPROOF_PAGES") else { return };
    for (name, report) in
        [("report", sample::report()), ("passing", sample::passing()), ("partial", sample::partial())]
    {
        std::fs::write(std::path::Path::new(&folder).join(name).with_extension("html"), html(&report))
            .unwrap();
    }
}
