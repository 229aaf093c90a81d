//! Lines of bounded length from a pipe.

use std::collections::VecDeque;

use meshproof_harness::lines::{BoundedLines, Line};
use tokio::io::{AsyncBufRead, AsyncBufReadExt};

/// Reads lines. Cancelling a read loses nothing.
pub(crate) struct LineReader<R> {
    reader: R,
    lines: BoundedLines,
    complete: VecDeque<Line>,
}

/// Why there is no line.
#[derive(Debug)]
pub(crate) enum NoLine {
    /// The other end closed the pipe.
    End,
    /// The line is longer than the bound.
    TooLong,
}

impl<R: AsyncBufRead + Unpin> LineReader<R> {
    pub(crate) const fn new(reader: R, max: usize) -> Self {
        Self { reader, lines: BoundedLines::of_at_most(max), complete: VecDeque::new() }
    }

    /// The next line without its line end, which the last line may lack.
    pub(crate) async fn next(&mut self) -> Result<Vec<u8>, NoLine> {
        loop {
            if let Some(line) = self.complete.pop_front() {
                return if line.dropped > 0 { Err(NoLine::TooLong) } else { Ok(line.bytes) };
            }
            // A line without an end would otherwise be read for ever.
            if self.lines.rest().dropped > 0 {
                return Err(NoLine::TooLong);
            }
            // A pipe that cannot be read has no writer.
            let chunk = self.reader.fill_buf().await.unwrap_or_default();
            if chunk.is_empty() {
                // Ends the last line, if there is one.
                if self.lines.rest().bytes.is_empty() {
                    return Err(NoLine::End);
                }
                self.lines.take(b"\n", |line| self.complete.push_back(line));
                continue;
            }
            self.lines.take(chunk, |line| self.complete.push_back(line));
            let used = chunk.len();
            self.reader.consume(used);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn all(bytes: &[u8], max: usize) -> (Vec<String>, bool) {
        let mut lines = LineReader::new(bytes, max);
        let mut seen = Vec::new();
        loop {
            match lines.next().await {
                Ok(line) => seen.push(String::from_utf8(line).unwrap()),
                Err(NoLine::End) => return (seen, false),
                Err(NoLine::TooLong) => return (seen, true),
            }
        }
    }

    #[tokio::test]
    async fn lines_come_without_their_line_ends_which_the_last_may_lack() {
        assert_eq!(all(b"a\n\nb", 10).await, (vec!["a".into(), String::new(), "b".into()], false));
    }

    #[tokio::test]
    async fn a_line_of_the_maximum_length_is_read_and_a_longer_one_is_not() {
        assert_eq!(all(b"12345\n123456\n", 5).await, (vec!["12345".into()], true));
    }
}
