//! What people and machines read of a report: the HTML page, the terminal, comparisons, JUnit, Markdown, annotations and badges.
//!
//! What goes in is a [`meshproof_model::Report`], what comes out is text. A renderer knows nothing of targets, scenarios or
//! networks, and asks nothing of the implementation that was judged.

#[cfg(test)]
mod arbitrary;
pub mod compare;
mod describe;
pub mod expectations;
pub mod formats;
pub mod html;
mod points;
pub mod story;
pub mod terminal;
pub mod words;
