//! HTML pages: the report, the comparison of several reports, and the kill matrix. Each page is one
//! self-contained file that opens from disk. It contains its style, script and evidence, and loads nothing
//! from the network.
//!
//! Untrusted text passes through [`maud`], which escapes markup, and through
//! [`visible`](meshproof_model::visible), which makes hidden characters visible. The full evidence is packed
//! for the page's script, which inserts it as text. The Content-Security-Policy forbids everything else.

mod causes;
mod changes;
mod chart;
mod check;
mod comparison;
mod conformance;
mod kills;
mod manifests;
mod outcomes;
mod pack;
mod packed;
mod page;
mod parts;
mod request_path;
mod timeline;

pub use comparison::{comparison, page_of as comparison_page};
pub use conformance::html;
pub use kills::kill_matrix;
pub(crate) use parts::{bare_badge, class};

/// The address of a file relative to the page that names it, with everything encoded that is not plain (RFC 3986, section 2.3).
/// `None` if one of the paths is not absolute or not UTF-8.
#[must_use]
pub fn relative(page: &std::path::Path, file: &std::path::Path) -> Option<String> {
    if !page.is_absolute() || !file.is_absolute() {
        return None;
    }
    let (from, to): (Vec<_>, Vec<_>) = (page.parent()?.components().collect(), file.components().collect());
    let shared = from.iter().zip(&to).take_while(|(a, b)| a == b).count();
    let mut parts = vec!["..".to_owned(); from.len() - shared];
    if parts.is_empty() {
        parts.push(".".to_owned());
    }
    for part in &to[shared..] {
        let mut encoded = String::new();
        for byte in part.as_os_str().to_str()?.bytes() {
            if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
                encoded.push(char::from(byte));
            } else {
                encoded.push_str(&format!("%{byte:02X}"));
            }
        }
        parts.push(encoded);
    }
    Some(parts.join("/"))
}

/// A page with a body and no script of its own.
pub(crate) fn document(title: String, body: maud::Markup) -> String {
    // For tests in a browser: the script that all pages share has run.
    let script = "document.documentElement.dataset.ready = \"yes\";";
    page::HtmlDocument { title, script, body, data: Vec::new() }.render()
}

/// Untrusted text for one line of a page.
pub(crate) fn line_of(text: &str) -> String {
    parts::line(text)
}

/// A verdict with its meaning.
pub(crate) fn verdict_of(verdict: meshproof_model::Verdict) -> maud::Markup {
    parts::badge(verdict)
}

/// A link, if the address is one of the web.
pub(crate) fn link_of(url: &str, text: &str) -> maud::Markup {
    parts::link(url, text)
}

/// The definitions of the terms that pages use.
pub(crate) fn legend_of() -> maud::Markup {
    parts::legend(&[])
}

/// Where the page of a report shows a check.
pub(crate) fn check_anchor(
    number: usize,
    index: usize,
    scenario: &meshproof_model::ScenarioResult,
    check: &meshproof_model::CheckResult,
) -> String {
    check::check_id(number, index, scenario, check)
}

/// The same, shortened.
pub(crate) fn brief_of(text: &str, max: usize) -> String {
    parts::brief(text, max)
}

#[cfg(test)]
pub(crate) mod tests;
