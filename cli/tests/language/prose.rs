//! The text of a file that people read. Everything else is replaced by spaces, so that offsets and line
//! numbers stay.

use std::cmp::Reverse;
use std::ops::Range;
use std::str::FromStr as _;

use proc_macro2::{TokenStream, TokenTree};

/// How a file is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Comments, documentation, string literals and the names of functions.
    Rust,
    /// Comments only: the values are manifests of published documents.
    Comments,
    /// The whole text.
    Whole,
}

impl Kind {
    /// The kind of a file of the repository, or none if it holds no text of ours.
    pub(crate) fn of(name: &str) -> Option<Self> {
        let file = name.rsplit('/').next().unwrap_or(name);
        let (_, extension) = file.rsplit_once('.').unwrap_or(("", file));
        match extension {
            "rs" => Some(Self::Rust),
            "yaml" => Some(Self::Comments),
            "md" | "toml" | "yml" | "py" | "js" | "css" | "snap" | "sh" | "conf" | "cfg" => Some(Self::Whole),
            // Scripts without an extension.
            _ if name.starts_with(".ci/") => Some(Self::Whole),
            _ => None,
        }
    }
}

/// The prose of a text: as long as the text, with spaces instead of everything else.
pub(crate) fn prose(kind: Kind, text: &str) -> Result<String, String> {
    match kind {
        Kind::Whole => Ok(text.to_owned()),
        Kind::Comments => Ok(comments(text)),
        Kind::Rust => rust(text),
    }
}

/// YAML's comments: from a `#` at the start of a line or after a space to the end of the line.
fn comments(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for line in text.split_inclusive('\n') {
        let start = line
            .match_indices('#')
            .map(|(at, _)| at)
            .find(|at| line[..*at].chars().next_back().is_none_or(char::is_whitespace))
            .unwrap_or(line.trim_end_matches('\n').len());
        blank(&mut out, &line[..start]);
        out.push_str(&line[start..]);
    }
    out
}

/// A token stream has no comments: what lies between two tokens is a comment or space.
fn rust(text: &str) -> Result<String, String> {
    let stream = TokenStream::from_str(text).map_err(|e| e.to_string())?;
    let mut tokens = Vec::new();
    collect(stream, &mut tokens);
    // A documentation comment is several tokens with the same range; the prose comes first.
    tokens.sort_by_key(|(range, is_prose)| (range.start, Reverse(range.end), !is_prose));
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    for (range, is_prose) in tokens {
        let range = range.start.max(at)..range.end.max(at);
        push(&mut out, &text[at..range.start], true);
        push(&mut out, &text[range.clone()], is_prose);
        at = range.end;
    }
    push(&mut out, &text[at..], true);
    Ok(out)
}

fn collect(stream: TokenStream, tokens: &mut Vec<(Range<usize>, bool)>) {
    let mut function = false;
    for token in stream {
        let span = token.span().byte_range();
        match token {
            TokenTree::Group(group)
                if group.stream().into_iter().next().is_some_and(|t| t.span().byte_range() == span) =>
            {
                tokens.push((span, true));
            }
            TokenTree::Group(group) => {
                // The delimiters, so that the gaps between tokens hold nothing but comments.
                tokens.push((group.span_open().byte_range(), false));
                collect(group.stream(), tokens);
                tokens.push((group.span_close().byte_range(), false));
                function = false;
            }
            TokenTree::Ident(ident) => {
                tokens.push((span, function));
                function = ident == "fn";
            }
            TokenTree::Literal(_) => tokens.push((span, true)),
            TokenTree::Punct(_) => tokens.push((span, false)),
        }
    }
}

/// Comment markers, the joints of names and continued lines become spaces: a phrase may go on after them.
fn push(out: &mut String, text: &str, is_prose: bool) {
    if !is_prose {
        return blank(out, text);
    }
    let continued = text.replace("\\\n", " \n");
    for line in continued.split_inclusive('\n') {
        let content = line.trim_start();
        let marker = content.len() - content.trim_start_matches(['/', '!']).len();
        let indent = line.len() - content.len();
        let marker = if content.starts_with("//") { marker } else { 0 };
        blank(out, &line[..indent + marker]);
        out.push_str(&line[indent + marker..].replace('_', " "));
    }
}

fn blank(out: &mut String, text: &str) {
    out.extend(text.bytes().map(|byte| if byte == b'\n' { '\n' } else { ' ' }));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rust_prose_is_comments_documentation_literals_and_function_names() {
        let text = "//! one\nuse told::told; // two\n/// three\nfn four_five(told: &str) { say!(\"six \\\n   seven\", told); /* eight */ }\n";
        let prose = prose(Kind::Rust, text).unwrap();
        assert_eq!(prose.len(), text.len());
        let words: Vec<&str> = prose.split_whitespace().collect();
        assert_eq!(words, ["one", "two", "three", "four", "five", "\"six", "seven\"", "/*", "eight", "*/"]);
    }

    #[test]
    fn of_yaml_only_comments_are_prose() {
        let text = "# one\na: b#c # two\n";
        let prose = prose(Kind::Comments, text).unwrap();
        assert_eq!(prose.split_whitespace().collect::<Vec<_>>(), ["#", "one", "#", "two"]);
        assert_eq!(prose.len(), text.len());
    }
}
