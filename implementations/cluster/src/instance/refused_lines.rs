//! A refusal in a proxy's output that has several lines: Envoy may print the whole resource before it says what is wrong with it.

use meshproof_harness::store::bounded;

use crate::dump;

/// How many lines of a resource are passed over.
const MAX_LINES: usize = 20_000;
/// How many bytes of a cause are kept.
const MAX_CAUSE: usize = 2000;

/// The refusal that the last lines were of, if it has not said yet what is wrong.
#[derive(Debug, Default)]
pub(super) struct RefusedLines(Option<Begun>);

#[derive(Debug)]
struct Begun {
    /// `RouteConfiguration`.
    kind: String,
    /// The resource's name, as soon as it was printed.
    name: Option<String>,
    lines: usize,
}

/// What one line means for the refusals.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// A part of the resource that was refused.
    Resource,
    /// A whole refusal, in words.
    Refusal(String),
    /// Nothing.
    Other,
}

impl RefusedLines {
    /// Takes the next line of the output.
    pub(super) fn line(&mut self, line: &str) -> Line {
        if let Some(begun) = &mut self.0 {
            if let Some(cause) = line.strip_prefix(": ") {
                let cause = cause.split('\t').next().unwrap_or(cause);
                let words = bounded(cause.trim(), MAX_CAUSE);
                let name = begun.name.as_ref().map(|name| format!(" {name}")).unwrap_or_default();
                let words = format!("{}{name}: {words}", begun.kind);
                self.0 = None;
                return Line::Refusal(words);
            }
            begun.lines += 1;
            if begun.lines <= MAX_LINES && !begins_a_message(line) {
                if begun.name.is_none() {
                    begun.name = line.strip_prefix("name: ").map(|name| bounded(name.trim_matches('"'), 200));
                }
                return Line::Resource;
            }
            self.0 = None;
        }
        let Some(words) = dump::rejected(line) else { return Line::Other };
        match words.split_once(": ") {
            // The mark of protobuf's text format for people, which has no cause before it.
            Some((kind, rest)) if rest.starts_with("goo.gle/") => {
                self.0 = Some(Begun { kind: kind.to_owned(), name: None, lines: 0 });
                Line::Resource
            }
            Some(_) | None => Line::Refusal(words),
        }
    }
}

/// Whether a line begins with a time, a bracket or a brace, as messages and access logs do; the lines of a resource do not.
fn begins_a_message(line: &str) -> bool {
    let mut bytes = line.bytes();
    match bytes.next() {
        Some(b'[' | b'{') => true,
        Some(first) => first.is_ascii_digit() && bytes.next().is_some_and(|second| second.is_ascii_digit()),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As Envoy 1.40 prints it.
    const OF_SEVERAL_LINES: &[&str] = &[
        "2026-01-01T00:00:00Z\twarning\tenvoy config grpc.cc:160\tgRPC config for \
         type.googleapis.com/envoy.config.route.v3.RouteConfiguration rejected: goo.gle/debugstr    ",
        "name: \"http.18999\"",
        "virtual_hosts {",
        "  name: \"direct.example:18999\"",
        "}",
        "ignore_port_in_host_matching: true",
        ": Proto constraint validation failed (caused by ClusterSpecifier: is required)\tthread=12",
    ];

    #[test]
    fn a_refusal_of_several_lines_is_quoted_by_its_name_and_its_cause() {
        let mut lines = RefusedLines::default();
        let read: Vec<Line> = OF_SEVERAL_LINES.iter().map(|line| lines.line(line)).collect();
        let words = "RouteConfiguration http.18999: Proto constraint validation failed (caused by \
                     ClusterSpecifier: is required)";
        assert_eq!(read.last(), Some(&Line::Refusal(words.to_owned())));
        assert!(read[..read.len() - 1].iter().all(|line| *line == Line::Resource));
        assert_eq!(lines.line(": anything"), Line::Other);
    }

    #[test]
    fn a_refusal_of_one_line_and_a_message_after_an_interrupted_one_are_quoted_as_they_are() {
        let mut lines = RefusedLines::default();
        let one = "gRPC config for type.googleapis.com/a.Secret rejected: no key";
        assert_eq!(lines.line(one), Line::Refusal("Secret: no key".to_owned()));
        lines.line(OF_SEVERAL_LINES[0]);
        assert_eq!(lines.line("[2026-01-01T00:00:00.000Z] \"GET / HTTP/1.1\" 200"), Line::Other);
        lines.line(OF_SEVERAL_LINES[0]);
        assert_eq!(lines.line("2026-01-01T00:00:00Z\tinfo\tready"), Line::Other);
        assert_eq!(lines.line("virtual_hosts {"), Line::Other);
    }
}
