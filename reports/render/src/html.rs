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
mod pack;
mod page;
mod parts;
mod request_path;
mod timeline;

pub use comparison::{comparison, page_of as comparison_page};
pub use conformance::html;
pub use kills::kill_matrix;

/// A page with a body and no script of its own.
pub(crate) fn document(title: String, body: maud::Markup) -> String {
    page::HtmlDocument { title, script: "", body, data: Vec::new() }.render()
}

/// Untrusted text for one line of a page.
pub(crate) fn line_of(text: &str) -> String {
    parts::line(text)
}

/// The same, shortened.
pub(crate) fn brief_of(text: &str, max: usize) -> String {
    parts::brief(text, max)
}

#[cfg(test)]
pub(crate) mod tests;
