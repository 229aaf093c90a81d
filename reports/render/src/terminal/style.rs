//! What the output supports, and styled text.

use std::io::IsTerminal;

use anstyle::{AnsiColor, Style};

use crate::text::symbol;
use meshproof_model::report::Verdict;

/// The capabilities of the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutputStyle {
    /// Whether colours are used. No meaning depends on colour alone.
    pub colour: bool,
    /// Whether a line can be redrawn in place.
    pub live: bool,
    /// The width in columns.
    pub width: usize,
}

/// The width if the terminal's width is unknown.
const DEFAULT_WIDTH: usize = 100;

impl OutputStyle {
    /// The capabilities of a file or a pipe.
    pub const PLAIN: Self = Self { colour: false, live: false, width: DEFAULT_WIDTH };

    /// The capabilities of this stream. Colour and redrawing need a terminal. Colour is off if `NO_COLOR` is
    /// not empty (<https://no-color.org>) or `TERM` is `dumb`.
    #[must_use]
    pub fn of(stream: &impl IsTerminal) -> Self {
        let columns = terminal_size::terminal_size().map(|(width, _)| usize::from(width.0));
        let dumb = std::env::var_os("TERM").is_some_and(|t| t == "dumb");
        let no_colour = std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty());
        Self::from_facts(stream.is_terminal(), dumb, no_colour, columns)
    }

    pub(super) fn from_facts(terminal: bool, dumb: bool, no_colour: bool, columns: Option<usize>) -> Self {
        if !terminal {
            return Self::PLAIN;
        }
        // Longer lines are hard to read; shorter lines leave no room next to the labels.
        let width = columns.unwrap_or(DEFAULT_WIDTH).clamp(40, 120);
        Self { colour: !dumb && !no_colour, live: !dumb, width }
    }

    pub(crate) fn paint(self, style: Style, text: &str) -> String {
        if self.colour { format!("{style}{text}{style:#}") } else { text.to_owned() }
    }

    pub(crate) fn bold(self, text: &str) -> String {
        self.paint(Style::new().bold(), text)
    }

    pub(crate) fn dim(self, text: &str) -> String {
        self.paint(Style::new().dimmed(), text)
    }

    /// Symbol and text in the verdict's colour.
    pub(super) fn verdict(self, verdict: Verdict, text: &str) -> String {
        let colour = match verdict {
            Verdict::Passed => AnsiColor::Green,
            Verdict::Failed => AnsiColor::Red,
            Verdict::Inconclusive => AnsiColor::Yellow,
            Verdict::Error => AnsiColor::Magenta,
            Verdict::Skipped => AnsiColor::Cyan,
        };
        let style = Style::new().bold().fg_color(Some(colour.into()));
        self.paint(style, &format!("{} {text}", symbol(verdict)))
    }
}
