//! Draws a request path as SVG.

use std::collections::BTreeMap;

use maud::{Markup, html};

use super::{HopTransport, PathHop, PathNode, RequestPath};
use crate::html::parts::{brief, line};

const WIDTH: usize = 190;
const GAP: usize = 130;
const HEIGHT: usize = 58;
const SPACE: usize = 34;

/// How many characters of a name fit on one line of a box.
pub(super) const FITS: usize = 25;

impl RequestPath {
    /// The column of each node: one more than that of its predecessor.
    fn layers(&self) -> Vec<usize> {
        let mut layers = vec![0; self.nodes.len()];
        // Bounded by the number of nodes, so that contradictory evidence that forms a cycle terminates too.
        for _ in 0..self.nodes.len() {
            for edge in &self.edges {
                layers[edge.to] = layers[edge.to].max(layers[edge.from] + 1).min(self.nodes.len());
            }
        }
        // Removes the gaps that a cycle may leave.
        let mut used: Vec<usize> = layers.clone();
        used.sort_unstable();
        used.dedup();
        layers.iter().map(|l| used.binary_search(l).unwrap_or(0)).collect()
    }

    pub(in crate::html) fn is_empty(&self) -> bool {
        self.edges.is_empty()
    }

    /// A text alternative for screen readers.
    pub(super) fn words(&self) -> String {
        let layers = self.layers();
        let mut edges: Vec<&PathHop> = self.edges.iter().collect();
        edges.sort_by_key(|e| layers[e.from]);
        let hops: Vec<String> = edges
            .into_iter()
            .map(|e| {
                let how: Vec<&str> = e.transports.iter().map(|t| t.word()).collect();
                let fails = if e.failing { " (the failing hop)" } else { "" };
                format!(
                    "{} to {}: {}{fails}",
                    self.nodes[e.from].title(),
                    self.nodes[e.to].title(),
                    how.join(", then ")
                )
            })
            .collect();
        let at =
            self.failing_node.map(|n| format!("; fails at {}", self.nodes[n].title())).unwrap_or_default();
        format!("{}{at}", hops.join("; "))
    }

    /// The picture.
    pub(in crate::html) fn draw(&self) -> Markup {
        let layers = self.layers();
        let mut rows = vec![0; self.nodes.len()];
        let mut filled: BTreeMap<usize, usize> = BTreeMap::new();
        for (node, layer) in layers.iter().enumerate() {
            let row = filled.entry(*layer).or_default();
            rows[node] = *row;
            *row += 1;
        }
        let columns = layers.iter().max().map_or(1, |l| l + 1);
        let height = filled.values().max().copied().unwrap_or(1) * (HEIGHT + SPACE) + 6;
        let width = columns * WIDTH + columns.saturating_sub(1) * GAP + 6;
        let at =
            |node: usize| (3 + layers[node] * (WIDTH + GAP), 3 + SPACE / 2 + rows[node] * (HEIGHT + SPACE));
        html! {
            svg.picture role="img" aria-label=(brief(&self.words(), 1_000))
                viewBox=(format!("0 0 {width} {height}")) width=(width) height=(height) {
                @for edge in &self.edges { (hop(edge, at(edge.from), at(edge.to))) }
                @for (number, node) in self.nodes.iter().enumerate() {
                    (boxed(node, at(number), self.failing_node == Some(number))) }
            }
        }
    }
}

fn hop(edge: &PathHop, from: (usize, usize), to: (usize, usize)) -> Markup {
    let (x1, y1) = (from.0 + WIDTH, from.1 + HEIGHT / 2);
    let (x2, y2) = (to.0, to.1 + HEIGHT / 2);
    let strongest = edge.transports.iter().max().copied().unwrap_or(HopTransport::Unseen);
    let class = format!("hop {}{}", strongest.class(), if edge.failing { " failing" } else { "" });
    let words: Vec<&str> = edge.transports.iter().map(|t| t.word()).collect();
    let (mx, my) = (x1.midpoint(x2), y1.midpoint(y2));
    // Above the line, one line of text per transport.
    let top = my.saturating_sub(7 + 13 * (words.len().saturating_sub(1)));
    html! {
        g class=(class) {
            line x1=(x1) y1=(y1) x2=(x2.saturating_sub(9)) y2=(y2) {}
            @if strongest == HopTransport::Mutual { line.inner x1=(x1) y1=(y1) x2=(x2.saturating_sub(9))
                y2=(y2) {} }
            path d=(format!("M{},{} l-10,-5 v10 z", x2, y2)) {}
            @for (number, word) in words.iter().enumerate() {
                text x=(mx) y=(top + 13 * number) text-anchor="middle" { (word) }
            }
            @if edge.failing { text.cross x=(mx) y=(my + 17) text-anchor="middle" { "✗ fails here" } }
        }
    }
}

fn boxed(node: &PathNode, (x, y): (usize, usize), failing: bool) -> Markup {
    let class = match node {
        PathNode::Suite | PathNode::Client(_) => "client",
        PathNode::Proxy(_) => "proxy",
        PathNode::Service { .. } => "service",
    };
    let name = brief(node.name(), 2 * FITS);
    let cut = if name.chars().count() <= FITS { None } else { break_at(&name) };
    let (first, second) = cut.map_or((name.as_str(), ""), |at| name.split_at(at));
    let class = if failing { format!("box {class} failing") } else { format!("box {class}") };
    let round = if class.contains("service") { 2 } else { 10 };
    html! {
        g class=(class) {
            title { (line(&node.title())) }
            rect x=(x) y=(y) width=(WIDTH) height=(HEIGHT) rx=(round) {}
            text.kind x=(x + 10) y=(y + 16) { (node.kind()) @if failing { " ✗ fails here" } }
            text x=(x + 10) y=(y + if second.is_empty() { 38 } else { 32 }) { (first) }
            @if !second.is_empty() { text x=(x + 10) y=(y + 48) { (brief(second, FITS)) } }
        }
    }
}

/// Where a long name is wrapped: after the last dot or dash that fits on the first line.
pub(super) fn break_at(name: &str) -> Option<usize> {
    let fitting: Vec<(usize, char)> = name.char_indices().take(FITS).collect();
    let dot = fitting.iter().rev().find(|(_, c)| matches!(c, '.' | '-')).map(|(at, _)| at + 1);
    dot.or_else(|| name.char_indices().nth(FITS).map(|(at, _)| at))
}

/// Shows the key.
pub(in crate::html) fn key_button() -> Markup {
    html! { button.term type="button" popovertarget="term-lines" { "What the lines mean" } }
}

/// The key to the line styles, which [`key_button`] shows; once per page.
pub(in crate::html) fn key() -> Markup {
    html! {
        ul.key.tip popover id="term-lines" {
            @for transport in HopTransport::ALL {
                li {
                    svg width="44" height="10" aria-hidden="true" {
                        g class=(format!("hop {}", transport.class())) {
                            line x1="0" y1="5" x2="44" y2="5" {}
                            @if transport == HopTransport::Mutual { line.inner x1="0" y1="5" x2="44"
                                y2="5" {} }
                        }
                    }
                    " " (transport.word())
                }
            }
        }
    }
}
