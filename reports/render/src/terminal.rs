//! Terminal output: progress during the run, and a summary at its end. Both write to any
//! [`Write`](std::io::Write). In a log file they look the same, except for colour and the progress line that
//! is redrawn in place.

mod comparison;
mod escape;
mod progress;
mod screen;
mod style;
mod summary;
mod suspects;

#[cfg(test)]
mod tests;

pub use comparison::comparison;
pub use progress::{Progress, Verbosity};
pub use style::{Colour, OutputStyle};
pub use summary::{Detail, summary};
