//! Escapes control and invisible characters in untrusted text, so that it cannot move the cursor, change
//! colours, change the writing direction or hide text.

use std::borrow::Cow;
use std::fmt::Write as _;

/// Text for one line: control characters, including line ends and tabs, become escapes such as `\n` and
/// `\x1b`.
#[must_use]
pub fn line(text: &str) -> Cow<'_, str> {
    shown(text, false)
}

/// Text for several lines: like [`line()`], but line ends (`\n`, `\r\n`) are kept, and a tab becomes four
/// spaces.
#[must_use]
pub fn block(text: &str) -> Cow<'_, str> {
    shown(text, true)
}

/// At most `max` characters of a text and, if it is longer, the number of characters left out.
#[must_use]
pub fn clipped(text: &str, max: usize) -> Cow<'_, str> {
    match text.char_indices().nth(max) {
        None => Cow::Borrowed(text),
        Some((end, _)) => Cow::Owned(format!("{}… ({})", &text[..end], more(text[end..].chars().count()))),
    }
}

/// Like [`clipped()`], but leaves out the middle: the end of a text often contains the most important words.
#[must_use]
pub fn clipped_inside(text: &str, max: usize) -> Cow<'_, str> {
    let count = text.chars().count();
    if count <= max {
        return Cow::Borrowed(text);
    }
    let place = |n: usize| text.char_indices().nth(n).map_or(text.len(), |(at, _)| at);
    let (head, tail) = (max / 2, max - max / 2);
    Cow::Owned(format!("{}… ({}) …{}", &text[..place(head)], more(count - max), &text[place(count - tail)..]))
}

fn more(characters: usize) -> String {
    format!("{characters} more character{}", if characters == 1 { "" } else { "s" })
}

fn shown(text: &str, lines: bool) -> Cow<'_, str> {
    if !text.chars().any(hides) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '\n' if lines => out.push('\n'),
            '\r' if lines && rest.peek() == Some(&'\n') => {}
            '\t' if lines => out.push_str("    "),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c.is_ascii_control() => {
                let _ = write!(out, "\\x{:02x}", u32::from(c));
            }
            c if hides(c) => {
                let _ = write!(out, "\\u{{{:x}}}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    Cow::Owned(out)
}

/// Control characters; the bidirectional controls and invisible characters of Unicode (UAX 9; UTR 36, section
/// 2); line and paragraph separators; tag characters.
fn hides(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escape_sequences_become_text() {
        assert_eq!(line("\x1b[31mred\x07\u{9b}0m\n"), "\\x1b[31mred\\x07\\u{9b}0m\\n");
    }

    #[test]
    fn bidirectional_and_invisible_characters_become_text() {
        assert_eq!(line("a\u{202e}b\u{2066}c\u{200b}\u{feff}"), "a\\u{202e}b\\u{2066}c\\u{200b}\\u{feff}");
    }

    #[test]
    fn a_block_keeps_line_ends_and_escapes_everything_else() {
        assert_eq!(block("GET / HTTP/1.1\r\nhost: x\n\ta\rb\x1b"), "GET / HTTP/1.1\nhost: x\n    a\\rb\\x1b");
    }

    #[test]
    fn text_without_control_characters_is_not_copied() {
        assert!(matches!(line("größer than 5 µs – 日本"), Cow::Borrowed(_)));
    }

    #[test]
    fn clipping_counts_characters_and_states_how_many_are_left_out() {
        assert_eq!(clipped("äöü", 3), "äöü");
        assert_eq!(clipped("äöüß", 3), "äöü… (1 more character)");
        assert_eq!(clipped_inside("äöüß", 4), "äöüß");
        assert_eq!(clipped_inside("äöüß", 3), "ä… (1 more character) …üß");
    }
}
