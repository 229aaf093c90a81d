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

/// Like [`clipped()`], but leaves out the middle: the end of a text often contains the most important words. It is cut between
/// sentences, or else between words, where there are any.
#[must_use]
pub fn clipped_inside(text: &str, max: usize) -> Cow<'_, str> {
    let count = text.chars().count();
    if count <= max {
        return Cow::Borrowed(text);
    }
    let place = |n: usize| text.char_indices().nth(n).map_or(text.len(), |(at, _)| at);
    // The last gap that leaves enough for the other end, but not so early that little is left of this one.
    let head = last_gap(&text[place(max / 4)..place(2 * max / 3)]).map(|gap| place(max / 4) + gap);
    let head = head.unwrap_or_else(|| place(max / 2));
    let room = max - text[..head].chars().count();
    let (least, most) = (place(count - room / 3), place(count - room));
    let tail = first_gap(&text[most..least]).map_or(most, |gap| most + gap);
    let left_out = more(text[head..tail].chars().count());
    let apart = |at: usize| text[at..].starts_with(' ') || text[..at].ends_with(' ');
    let (before, after) = (if apart(head) { " " } else { "" }, if apart(tail) { " " } else { "" });
    let (head, tail) = (text[..head].trim_end(), text[tail..].trim_start());
    Cow::Owned(format!("{head}{before}… ({left_out}) …{after}{tail}"))
}

/// The last end of a sentence, or else of a word.
fn last_gap(text: &str) -> Option<usize> {
    text.rfind(". ").map(|stop| stop + 1).or_else(|| text.rfind(' '))
}

/// The first beginning of a sentence, or else of a word.
fn first_gap(text: &str) -> Option<usize> {
    text.find(". ").map(|stop| stop + 1).or_else(|| text.find(' ')).map(|gap| gap + 1)
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

    #[test]
    fn the_middle_is_left_out_between_sentences_or_else_between_words() {
        let sentences = "One is short. Two is longer than that. Three is left out. Four is the last one.";
        assert_eq!(
            clipped_inside(sentences, 40),
            "One is short. … (45 more characters) … Four is the last one."
        );
        let words = "one two three four five six seven eight nine ten";
        assert_eq!(clipped_inside(words, 20), "one two … (33 more characters) … nine ten");
    }
}
