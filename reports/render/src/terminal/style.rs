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

/// When colours are used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Colour {
    /// On a terminal, as the environment says.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// What decides the capabilities.
#[derive(Clone, Copy, Debug)]
pub(super) struct Facts {
    pub(super) terminal: bool,
    pub(super) dumb: bool,
    pub(super) no_colour: bool,
    pub(super) force_colour: bool,
    pub(super) columns: Option<usize>,
    pub(super) colour: Colour,
}

/// The width if the terminal's width is unknown.
const DEFAULT_WIDTH: usize = 100;

impl OutputStyle {
    /// The capabilities of a file or a pipe.
    pub const PLAIN: Self = Self { colour: false, live: false, width: DEFAULT_WIDTH };

    /// The capabilities of this stream. Redrawing needs a terminal, and so does colour, unless it is asked for: by `colour`, or by
    /// `FORCE_COLOR` (<https://force-color.org>). Colour is off if `NO_COLOR` is not empty (<https://no-color.org>) or `TERM` is
    /// `dumb`. The width is `COLUMNS`, or else that of the terminal.
    #[must_use]
    pub fn of(stream: &impl IsTerminal, colour: Colour) -> Self {
        let is_set = |name: &str| std::env::var_os(name).is_some_and(|v| !v.is_empty());
        let columns = std::env::var("COLUMNS").ok().and_then(|c| c.parse().ok()).filter(|c| *c > 0);
        let of_terminal = || terminal_size::terminal_size().map(|(width, _)| usize::from(width.0));
        let terminal = stream.is_terminal();
        Self::from_facts(&Facts {
            terminal,
            dumb: std::env::var_os("TERM").is_some_and(|t| t == "dumb"),
            no_colour: is_set("NO_COLOR"),
            force_colour: is_set("FORCE_COLOR") && std::env::var_os("FORCE_COLOR").is_none_or(|v| v != "0"),
            columns: columns.or_else(|| of_terminal().filter(|_| terminal)),
            colour,
        })
    }

    pub(super) fn from_facts(facts: &Facts) -> Self {
        let Facts { terminal, dumb, no_colour, force_colour, columns, colour } = *facts;
        // Longer lines are hard to read; shorter lines leave no room next to the labels.
        let width = columns.unwrap_or(DEFAULT_WIDTH).clamp(40, 120);
        let colour = match colour {
            Colour::Always => true,
            Colour::Never => false,
            Colour::Auto => !no_colour && (force_colour || (terminal && !dumb)),
        };
        Self { colour, live: terminal && !dumb, width }
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
