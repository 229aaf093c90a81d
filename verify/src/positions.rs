//! Where in a YAML text each value stands: line and column by JSON pointer, through anchors, aliases and merge keys.

use std::collections::HashMap;
use std::rc::Rc;

use granit_parser::{Event, Parser, Span};

/// A line and a column, both counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Position {
    /// From 1.
    pub(crate) line: usize,
    /// From 1, in characters.
    pub(crate) column: usize,
}

/// A node of a document.
#[derive(Debug)]
pub(crate) struct Node {
    at: Position,
    content: Content,
}

#[derive(Debug)]
enum Content {
    Scalar(String),
    Sequence(Vec<Rc<Node>>),
    Mapping(Vec<(String, Position, Rc<Node>)>),
}

impl Node {
    /// Whether it is an empty document.
    pub(crate) fn is_null(&self) -> bool {
        matches!(&self.content, Content::Scalar(text) if matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL"))
    }

    /// Where a value stands: of a mapping's entry its key, of a sequence's entry its start. Where the pointer leads to
    /// nothing, the nearest thing above it.
    pub(crate) fn position(&self, pointer: &str) -> Position {
        let mut at = self.at;
        let mut node = self;
        for token in pointer.split('/').skip(1) {
            let token = token.replace("~1", "/").replace("~0", "~");
            let Some((found, next)) = node.child(&token, 0) else { break };
            at = found;
            node = next;
        }
        at
    }

    /// An entry, also one that a merge key (`<<`) brings in.
    fn child(&self, token: &str, depth: usize) -> Option<(Position, &Self)> {
        match &self.content {
            Content::Scalar(_) => None,
            Content::Sequence(items) => {
                let item = items.get(token.parse::<usize>().ok()?)?;
                Some((item.at, item))
            }
            Content::Mapping(entries) => {
                let own = entries.iter().rev().find(|(key, ..)| key == token);
                if let Some((_, at, node)) = own {
                    return Some((*at, node));
                }
                if depth > 16 {
                    return None;
                }
                entries.iter().filter(|(key, ..)| key == "<<").find_map(|(_, _, merged)| {
                    match &merged.content {
                        Content::Sequence(several) => several.iter().find_map(|m| m.child(token, depth + 1)),
                        Content::Mapping(_) => merged.child(token, depth + 1),
                        Content::Scalar(_) => None,
                    }
                })
            }
        }
    }
}

/// A collection whose end has not been seen yet.
enum Open {
    Sequence(usize, Position, Vec<Rc<Node>>),
    Mapping(usize, Position, Vec<(String, Position, Rc<Node>)>, Option<(String, Position)>),
}

/// The documents of a stream, in order; an empty document is a null. It stops at the first place that is not YAML: the caller
/// gets the reason from the reader of the values.
pub(crate) fn documents(text: &str) -> Vec<Rc<Node>> {
    let mut documents = Vec::new();
    let mut anchors: HashMap<usize, Rc<Node>> = HashMap::new();
    let mut open: Vec<Open> = Vec::new();
    for event in Parser::new_from_str(text) {
        let Ok((event, span)) = event else { break };
        let at = start(&span);
        #[allow(
            clippy::wildcard_enum_match_arm,
            reason = "the parser may add events; only these carry nodes"
        )]
        let done = match event {
            Event::Scalar(value, _, anchor, _) => {
                let node = Rc::new(Node { at, content: Content::Scalar(value.into_owned()) });
                Some((anchor, node))
            }
            Event::Alias(anchor) => {
                let known = anchors.get(&anchor);
                Some((0, known.map_or_else(|| empty(at), Rc::clone)))
            }
            Event::SequenceStart(_, anchor, _) => {
                open.push(Open::Sequence(anchor, at, Vec::new()));
                None
            }
            Event::MappingStart(_, anchor, _) => {
                open.push(Open::Mapping(anchor, at, Vec::new(), None));
                None
            }
            Event::SequenceEnd | Event::MappingEnd => open.pop().map(closed),
            _ => None,
        };
        let Some((anchor, node)) = done else { continue };
        if anchor != 0 {
            anchors.insert(anchor, Rc::clone(&node));
        }
        match open.last_mut() {
            None => documents.push(node),
            Some(Open::Sequence(_, _, items)) => items.push(node),
            Some(Open::Mapping(_, _, entries, key)) => match key.take() {
                None => {
                    let name = match &node.content {
                        Content::Scalar(text) => text.clone(),
                        Content::Sequence(_) | Content::Mapping(_) => String::new(),
                    };
                    *key = Some((name, at));
                }
                Some((name, place)) => entries.push((name, place, node)),
            },
        }
    }
    documents
}

fn empty(at: Position) -> Rc<Node> {
    Rc::new(Node { at, content: Content::Scalar(String::new()) })
}

fn closed(open: Open) -> (usize, Rc<Node>) {
    match open {
        Open::Sequence(anchor, at, items) => {
            (anchor, Rc::new(Node { at, content: Content::Sequence(items) }))
        }
        Open::Mapping(anchor, at, entries, _) => {
            (anchor, Rc::new(Node { at, content: Content::Mapping(entries) }))
        }
    }
}

fn start(span: &Span) -> Position {
    Position { line: span.start.line().max(1), column: span.start.col() + 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str, document: usize, pointer: &str) -> (usize, usize) {
        let all = documents(text);
        let found = all[document].position(pointer);
        (found.line, found.column)
    }

    #[test]
    fn entries_are_found_by_their_keys_and_items_by_their_start() {
        let text = "a: 1\nb:\n  - x\n  - {c: 2,  d: [3, 4]}\n";
        assert_eq!(at(text, 0, "/a"), (1, 1));
        assert_eq!(at(text, 0, "/b"), (2, 1));
        assert_eq!(at(text, 0, "/b/0"), (3, 5));
        assert_eq!(at(text, 0, "/b/1/d"), (4, 13));
        assert_eq!(at(text, 0, "/b/1/d/1"), (4, 20));
    }

    #[test]
    fn what_is_not_there_is_looked_for_above() {
        assert_eq!(at("a:\n  b: 1\n", 0, "/a/c/d"), (1, 1));
    }

    #[test]
    fn every_document_of_a_stream_has_its_own_lines() {
        let text = "# first\na: 1\n---\n\nb: 2\n---\n---\nc: 3\n";
        assert_eq!(at(text, 0, "/a"), (2, 1));
        assert_eq!(at(text, 1, "/b"), (5, 1));
        assert_eq!(documents(text).len(), 4, "an empty document counts, as it does for the values");
        assert_eq!(at(text, 3, "/c"), (8, 1));
    }

    #[test]
    fn a_field_behind_an_alias_is_where_it_was_written() {
        let text = "p: &p\n  tls: {mode: SIMPLE}\nq: *p\n";
        assert_eq!(at(text, 0, "/q"), (3, 1));
        assert_eq!(at(text, 0, "/q/tls/mode"), (2, 9));
    }

    #[test]
    fn a_field_of_a_merge_key_is_where_it_was_written_unless_overridden() {
        let text = "base: &b\n  x: 1\n  y: 2\nown:\n  <<: *b\n  y: 3\n";
        assert_eq!(at(text, 0, "/own/x"), (2, 3));
        assert_eq!(at(text, 0, "/own/y"), (6, 3));
    }
}
