//! The run on a terminal: progress while it lasts, and a summary at its end. Both write into any
//! [`Write`](std::io::Write) and look the same in a log file, but for colour and the line that changes in place.

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

use crate::words::symbol;
use meshproof_model::report::Verdict;
use meshproof_model::visible;

/// How much progress is shown. The summary is always whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Verbosity {
    /// Nothing.
    Quiet,
    /// One line a scenario.
    #[default]
    Normal,
    /// One line a scenario and one line a check.
    Verbose,
}

/// What the place that is written to can show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Look {
    /// Whether colours are shown. No meaning rests on them alone.
    pub colour: bool,
    /// Whether a line may change in place.
    pub live: bool,
    /// How many columns there are.
    pub width: usize,
}

/// The width of text where nobody says otherwise.
const DEFAULT_WIDTH: usize = 100;

impl Look {
    /// What a file or a pipe can show.
    pub const PLAIN: Self = Self { colour: false, live: false, width: DEFAULT_WIDTH };

    /// What this stream can show: colour and a changing line on a terminal only; no colour where `NO_COLOR` is set to
    /// anything (<https://no-color.org>), neither where `TERM` is `dumb`.
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
        // Wider lines are hard to read, narrower ones leave no room beside the labels.
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

    /// Sign and text in the verdict's colour.
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

/// Untrusted text for one line, harmless and of bearable length.
fn line(text: &str) -> String {
    // GitHub's runner takes `##[...]` for a command wherever it stands in a line.
    visible::clipped_inside(&visible::line(text), 400).replace("##[", "# #[")
}

/// Untrusted text of several lines, harmless and of bearable length.
fn block(text: &str, max_lines: usize) -> Vec<String> {
    let text = visible::block(text);
    let count = text.lines().count();
    let mut lines: Vec<String> = text.lines().take(max_lines).map(line).collect();
    if count > max_lines {
        lines.push(format!("… ({} more lines in the report)", count - max_lines));
    }
    lines
}

/// A line that GitHub's runner would take for a command (it begins with `::`, after any spaces) no longer does.
fn no_command(text: &str) -> Cow<'_, str> {
    if text.trim_start().starts_with("::") { Cow::Owned(format!("\\{text}")) } else { Cow::Borrowed(text) }
}

/// As many columns of a text as there are.
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
