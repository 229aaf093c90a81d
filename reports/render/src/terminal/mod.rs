//! Terminal output: progress during the run, and a summary at its end. Both write to any [`Write`](std::io::Write). In a
//! log file they look the same, except for colour and the progress line that is redrawn in place.

mod comparison;
mod progress;
mod summary;

#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::io::IsTerminal;

use anstyle::{AnsiColor, Style};

pub use comparison::comparison;
pub use progress::Progress;
pub use summary::summary;

use crate::words::{plural, symbol};
use meshproof_model::report::Verdict;
use meshproof_model::visible;

/// How much progress is shown. The summary is always complete.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Verbosity {
    /// Nothing.
    Quiet,
    /// One line per scenario.
    #[default]
    Normal,
    /// One line per scenario and one line per check.
    Verbose,
}

/// The capabilities of the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Look {
    /// Whether colours are used. No meaning depends on colour alone.
    pub colour: bool,
    /// Whether a line can be redrawn in place.
    pub live: bool,
    /// The width in columns.
    pub width: usize,
}

/// The width if the terminal's width is unknown.
const DEFAULT_WIDTH: usize = 100;

impl Look {
    /// The capabilities of a file or a pipe.
    pub const PLAIN: Self = Self { colour: false, live: false, width: DEFAULT_WIDTH };

    /// The capabilities of this stream. Colour and redrawing need a terminal. Colour is off if `NO_COLOR` is not empty
    /// (<https://no-color.org>) or `TERM` is `dumb`.
    #[must_use]
    pub fn of(stream: &impl IsTerminal) -> Self {
        let columns = terminal_size::terminal_size().map(|(width, _)| usize::from(width.0));
        let dumb = std::env::var_os("TERM").is_some_and(|t| t == "dumb");
        let no_colour = std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty());
        Self::from_facts(stream.is_terminal(), dumb, no_colour, columns)
    }

    fn from_facts(terminal: bool, dumb: bool, no_colour: bool, columns: Option<usize>) -> Self {
        if !terminal {
            return Self::PLAIN;
        }
        // Longer lines are hard to read; shorter lines leave no room next to the labels.
        let width = columns.unwrap_or(DEFAULT_WIDTH).clamp(40, 120);
        Self { colour: !dumb && !no_colour, live: !dumb, width }
    }

    fn paint(self, style: Style, text: &str) -> String {
        if self.colour { format!("{style}{text}{style:#}") } else { text.to_owned() }
    }

    fn bold(self, text: &str) -> String {
        self.paint(Style::new().bold(), text)
    }

    fn dim(self, text: &str) -> String {
        self.paint(Style::new().dimmed(), text)
    }

    /// Symbol and text in the verdict's colour.
    fn verdict(self, verdict: Verdict, text: &str) -> String {
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

/// Untrusted text for one line, escaped and shortened.
fn line(text: &str) -> String {
    // GitHub's runner treats `##[...]` as a command anywhere in a line.
    visible::clipped_inside(&visible::line(text), 400).replace("##[", "# #[")
}

/// Untrusted text of several lines, escaped and shortened.
fn block(text: &str, max_lines: usize) -> Vec<String> {
    let text = visible::block(text);
    let count = text.lines().count();
    let mut lines: Vec<String> = text.lines().take(max_lines).map(line).collect();
    if count > max_lines {
        lines.push(format!("… ({} in the report)", plural(count - max_lines, "more line")));
    }
    lines
}

/// Escapes a line that GitHub's runner would treat as a command, because it begins with `::` after optional spaces.
fn no_command(text: &str) -> Cow<'_, str> {
    if text.trim_start().starts_with("::") { Cow::Owned(format!("\\{text}")) } else { Cow::Borrowed(text) }
}

/// The text, cut to this number of columns.
fn cut(text: &str, width: usize) -> Cow<'_, str> {
    use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};
    if text.width() <= width {
        return Cow::Borrowed(text);
    }
    let mut columns = 0;
    let end = text.char_indices().find(|(_, c)| {
        columns += c.width().unwrap_or(0);
        columns >= width
    });
    Cow::Owned(format!("{}…", &text[..end.map_or(text.len(), |(at, _)| at)]))
}
