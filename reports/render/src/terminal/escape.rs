//! Untrusted text for a terminal or a log file.

use std::borrow::Cow;

use crate::text::plural;
use meshproof_model::visible;

/// Untrusted text for one line, escaped and shortened.
pub(super) fn line(text: &str) -> String {
    // GitHub's runner treats `##[...]` as a command anywhere in a line.
    visible::clipped_inside(&visible::line(text), 400).replace("##[", "# #[")
}

/// Untrusted text of several lines, escaped and shortened.
pub(super) fn block(text: &str, max_lines: usize) -> Vec<String> {
    let text = visible::block(text);
    let count = text.lines().count();
    let mut lines: Vec<String> = text.lines().take(max_lines).map(line).collect();
    if count > max_lines {
        lines.push(format!("… ({} in the report)", plural(count - max_lines, "more line")));
    }
    lines
}

/// Escapes a line that GitHub's runner would treat as a command, because it begins with `::` after optional
/// spaces.
pub(super) fn no_command(text: &str) -> Cow<'_, str> {
    if text.trim_start().starts_with("::") { Cow::Owned(format!("\\{text}")) } else { Cow::Borrowed(text) }
}

/// The text, cut to this number of columns.
pub(super) fn cut(text: &str, width: usize) -> Cow<'_, str> {
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
