//! Renders reports for people and programs: the HTML page, the terminal, comparisons, JUnit, Markdown,
//! annotations and badges.
//!
//! The input is a [`meshproof_model::Report`], the output is text. A renderer does not know targets,
//! scenarios or networks, and never contacts the implementation under test.

#[cfg(test)]
mod arbitrary;
pub mod check_evidence;
mod comparable;
pub mod compare;
pub mod conclusion;
mod evidence_text;
pub mod expectations;
pub mod formats;
pub mod html;
mod parallel;
pub mod site;
pub mod terminal;
pub mod text;
pub mod verification;
