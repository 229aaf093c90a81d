//! HTML pages: the report, the comparison of several reports, and the kill matrix. Each page is one
//! self-contained file that opens from disk. It contains its style, script and evidence, and loads nothing
//! from the network.
//!
//! Untrusted text passes through [`maud`], which escapes markup, and through
//! [`visible`](meshproof_model::visible), which makes hidden characters visible. The full evidence is packed
//! for the page's script, which inserts it as text. The Content-Security-Policy forbids everything else.

mod causes;
mod chart;
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

#[cfg(test)]
pub(crate) mod tests;
