//! Lines of a stream: whole, in order, and none longer than a bound.

/// Cuts a stream into lines.
pub(crate) struct BoundedLines {
    kept: Vec<u8>,
    most: usize,
    lost: usize,
}

impl BoundedLines {
    /// Lines of at most `most` bytes; of a longer one the beginning is kept, and a note of how much was lost.
    pub(crate) fn of_at_most(most: usize) -> Self {
        Self { kept: Vec::new(), most, lost: 0 }
    }

    /// Takes what has arrived and hands on every line that is complete, without its line feed.
    pub(crate) fn take(&mut self, mut arrived: &[u8], mut line: impl FnMut(&[u8])) {
        while let Some(end) = arrived.iter().position(|b| *b == b'\n') {
            self.keep(&arrived[..end]);
            arrived = &arrived[end + 1..];
            self.finish(&mut line);
        }
        self.keep(arrived);
    }

    /// The beginning of a line that is not complete.
    pub(crate) fn rest(&self) -> &[u8] {
        &self.kept
    }

    fn keep(&mut self, bytes: &[u8]) {
        let room = self.most.saturating_sub(self.kept.len());
        let (kept, lost) = bytes.split_at(room.min(bytes.len()));
        self.kept.extend_from_slice(kept);
        self.lost += lost.len();
    }

    fn finish(&mut self, line: &mut impl FnMut(&[u8])) {
        if self.lost > 0 {
            self.kept.extend_from_slice(format!("... ({} more bytes)", self.lost).as_bytes());
        }
        line(self.kept.strip_suffix(b"\r").unwrap_or(&self.kept));
        self.kept.clear();
        self.lost = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(most: usize, pieces: &[&str]) -> (Vec<String>, String) {
        let mut lines = BoundedLines::of_at_most(most);
        let mut seen = Vec::new();
        for piece in pieces {
            lines.take(piece.as_bytes(), |line| seen.push(String::from_utf8_lossy(line).into_owned()));
        }
        (seen, String::from_utf8_lossy(lines.rest()).into_owned())
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
}
