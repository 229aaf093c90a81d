//! Lines of a stream from outside the suite: in order, and none longer than a bound.

use std::mem::take;

/// Cuts a stream into lines.
#[derive(Debug)]
pub struct BoundedLines {
    line: Line,
    max: usize,
}

/// One line, or the beginning of one that is too long.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Line {
    /// The line without its end, `\n` or `\r\n`; at most as many bytes as the bound allows.
    pub bytes: Vec<u8>,
    /// How many bytes beyond the bound were dropped.
    pub dropped: usize,
}

impl BoundedLines {
    /// Lines of at most `max` bytes. Of a longer line the beginning is kept.
    #[must_use]
    pub const fn of_at_most(max: usize) -> Self {
        Self { line: Line { bytes: Vec::new(), dropped: 0 }, max }
    }

    /// Takes what has arrived, and passes on each line that is complete.
    pub fn take(&mut self, mut arrived: &[u8], mut complete: impl FnMut(Line)) {
        while let Some(end) = arrived.iter().position(|b| *b == b'\n') {
            self.keep(&arrived[..end]);
            arrived = &arrived[end + 1..];
            let mut line = take(&mut self.line);
            if line.dropped == 0 && line.bytes.ends_with(b"\r") {
                line.bytes.pop();
            }
            complete(line);
        }
        self.keep(arrived);
    }

    /// The line that is not complete yet.
    #[must_use]
    pub const fn rest(&self) -> &Line {
        &self.line
    }

    fn keep(&mut self, bytes: &[u8]) {
        let room = self.max.saturating_sub(self.line.bytes.len());
        let (kept, dropped) = bytes.split_at(room.min(bytes.len()));
        self.line.bytes.extend_from_slice(kept);
        self.line.dropped += dropped.len();
    }
}

impl Line {
    /// The line; the end of one that is too long says how much was dropped.
    #[must_use]
    pub fn noted(mut self) -> Vec<u8> {
        if self.dropped > 0 {
            self.bytes.extend_from_slice(format!("... ({} more bytes)", self.dropped).as_bytes());
        }
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(line: Line) -> String {
        String::from_utf8(line.noted()).unwrap()
    }

    fn cut(max: usize, pieces: &[&str]) -> (Vec<String>, String) {
        let mut lines = BoundedLines::of_at_most(max);
        let mut seen = Vec::new();
        for piece in pieces {
            lines.take(piece.as_bytes(), |line| seen.push(text(line)));
        }
        (seen, text(lines.rest().clone()))
    }

    #[test]
    fn a_line_is_whole_in_whatever_pieces_it_arrives() {
        let (lines, rest) = cut(100, &["on", "e\ntwo\r\n\nth", "ree"]);
        assert_eq!(lines, ["one", "two", ""]);
        assert_eq!(rest, "three");
    }

    #[test]
    fn a_line_beyond_the_bound_is_cut_with_a_note_and_the_next_is_whole() {
        let (lines, rest) = cut(4, &["abcdefg", "hij\nok\n"]);
        assert_eq!(lines, ["abcd... (6 more bytes)", "ok"]);
        assert_eq!(rest, "");
    }

    #[test]
    fn a_line_of_exactly_the_bound_is_whole() {
        assert_eq!(cut(4, &["abcd\nabcde\n"]).0, ["abcd", "abcd... (1 more bytes)"]);
    }
}
