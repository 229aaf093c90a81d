//! Pages for people, each of them one self-contained file that opens from disk: the report, the comparison of several, and
//! the kill matrix. Style, script and evidence are inside; nothing is asked of the network.
//!
//! Everything that is put in goes through [`maud`], which escapes it, and through [`visible`](meshproof_model::visible), which keeps
//! hidden characters from showing something else than is there. Evidence in full is packed for the page's script, which
//! puts it into the page as text. The Content-Security-Policy forbids what should not be there in any case.

mod chart;
mod comparison;
mod conformance;
mod kills;
mod manifests;
mod pack;
mod page;
mod parts;
mod picture;
mod timeline;

pub use comparison::comparison;
pub use conformance::html;
pub use kills::kill_matrix;

/// The longest text of one value, in characters; the report's JSON has it whole.
const MAX_VALUE: usize = 20_000;

#[cfg(test)]
pub(crate) mod tests;
