//! LineReader of bounded length from a pipe.

use tokio::io::{AsyncBufRead, AsyncBufReadExt};

/// Reads lines. Cancelling a read loses nothing.
pub(crate) struct LineReader<R> {
    reader: R,
    partial: Vec<u8>,
    max: usize,
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
        Self { reader, partial: Vec::new(), max }
    }

    /// The next line without its line end, which the last line may lack.
    pub(crate) async fn next(&mut self) -> Result<Vec<u8>, NoLine> {
        loop {
            // A pipe that cannot be read has no writer.
            let chunk = self.reader.fill_buf().await.unwrap_or_default();
            if chunk.is_empty() {
                let last = std::mem::take(&mut self.partial);
                return if last.is_empty() { Err(NoLine::End) } else { Ok(last) };
            }
            let end = chunk.iter().position(|b| *b == b'\n');
            let part = &chunk[..end.unwrap_or(chunk.len())];
            if self.partial.len() + part.len() > self.max {
                return Err(NoLine::TooLong);
            }
            self.partial.extend_from_slice(part);
            let used = part.len() + usize::from(end.is_some());
            self.reader.consume(used);
            if end.is_some() {
                return Ok(std::mem::take(&mut self.partial));
            }
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
