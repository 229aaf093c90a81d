//! The path of a check's requests: workload, proxies, services, and the transport of each hop. Derived from the evidence
//! alone: a proxy's log line contains the local address of its upstream connection, and the peer that accepted the
//! connection recorded the same address.

use std::collections::BTreeMap;

use maud::{Markup, html};

use super::parts::{brief, line};
use crate::story::{Story, Threads};
use crate::words::needs_attention;
use meshproof_model::evidence::{AccessLog, Evidence, EvidenceId, Fact, LogFields, Side};
use meshproof_model::report::{CheckResult, ScenarioResult};

/// The largest number of nodes that is drawn. A larger picture is not readable.
const MAX_NODES: usize = 12;

/// The transport of a hop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Transport {
    /// Nothing arrived, or no side recorded the transport.
    Unseen,
    Plain,
    Tls,
    Mutual,
}

impl Transport {
    const fn word(self) -> &'static str {
        match self {
            Self::Unseen => "nothing arrived",
            Self::Plain => "plain text",
            Self::Tls => "TLS",
            Self::Mutual => "mutual TLS",
        }
    }

    const fn class(self) -> &'static str {
        match self {
            Self::Unseen => "unseen",
            Self::Plain => "plain",
            Self::Tls => "tls",
            Self::Mutual => "mutual",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Node {
    /// The suite's own client, outside the mesh.
    Suite,
    Client(String),
    Proxy(String),
    Service {
        host: String,
        external: bool,
    },
}

impl Node {
    const fn kind(&self) -> &'static str {
        match self {
            Self::Suite => "client outside the mesh",
            Self::Client(_) => "workload",
            Self::Proxy(_) => "proxy",
            Self::Service { external: true, .. } => "external service",
            Self::Service { external: false, .. } => "mesh service",
        }
    }

    fn title(&self) -> String {
        match self {
            Self::Suite => self.name().to_owned(),
            Self::Client(_) | Self::Proxy(_) | Self::Service { .. } => {
                format!("{} {}", self.kind(), self.name())
            }
        }
    }

    fn service(scenario: &ScenarioResult, host: &str) -> Self {
        Self::Service { host: host.to_owned(), external: scenario.is_external(host) }
    }

    fn name(&self) -> &str {
        match self {
            Self::Suite => "test client",
            Self::Client(name) | Self::Proxy(name) | Self::Service { host: name, .. } => name,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Edge {
    from: usize,
    to: usize,
    transports: Vec<Transport>,
    /// The evidence shows a problem on this hop: a failed handshake, response flags in a log line.
    trouble: bool,
    failing: bool,
}

/// The hops of a check's evidence.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Picture {
    nodes: Vec<Node>,
    edges: Vec<Edge>,
    failing_node: Option<usize>,
}

struct Line<'r> {
    proxy: &'r str,
    fields: &'r LogFields,
}

/// The scenario's picture: that of the first check that needs attention, otherwise the most informative one.
pub(super) fn of_scenario<'r>(
    scenario: &'r ScenarioResult,
    threads: &Threads<'r>,
) -> Option<(&'r CheckResult, Picture)> {
    let pictures = || scenario.checks.iter().map(|c| (c, of_check(scenario, threads, c)));
    let wrong = pictures().find(|(c, p)| needs_attention(c) && p.edges.len() > 1);
    wrong.or_else(|| pictures().max_by_key(|(_, p)| p.worth())).filter(|(_, p)| !p.edges.is_empty())
}

/// The picture of one check.
pub(super) fn of_check<'r>(
    scenario: &'r ScenarioResult,
    threads: &Threads<'r>,
    check: &'r CheckResult,
) -> Picture {
    let story = threads.story(check);
    let mut picture = Picture::default();
    picture.read(scenario, &story);
    if needs_attention(check) {
        picture.mark(scenario, &story, check);
    }
    picture
}

impl Picture {
    /// How informative the picture is.
    fn worth(&self) -> (usize, usize) {
        let tls = self.edges.iter().filter(|e| e.transports.iter().any(|t| *t >= Transport::Tls)).count();
        let clean = self
            .edges
            .iter()
            .filter(|e| e.transports.len() == 1 && e.transports[0] != Transport::Unseen)
            .count();
        (tls + clean, self.edges.len())
    }

    fn node(&mut self, node: Node) -> Option<usize> {
        if let Some(known) = self.nodes.iter().position(|n| *n == node) {
            return Some(known);
        }
        (self.nodes.len() < MAX_NODES).then(|| {
            self.nodes.push(node);
            self.nodes.len() - 1
        })
    }

    fn edge(&mut self, from: Option<usize>, to: Option<usize>, transport: Transport, trouble: bool) {
        let (Some(from), Some(to)) = (from, to) else { return };
        if from == to {
            return;
        }
        match self.edges.iter_mut().find(|e| e.from == from && e.to == to) {
            Some(edge) => {
                edge.trouble |= trouble;
                if !edge.transports.contains(&transport) {
                    edge.transports.push(transport);
                }
            }
            None => self.edges.push(Edge { from, to, transports: vec![transport], trouble, failing: false }),
        }
    }

    fn read(&mut self, scenario: &ScenarioResult, story: &Story<'_>) {
        let pieces: Vec<&Evidence> = story.pieces.iter().map(|b| b.piece).collect();
        let clients: Vec<Node> = pieces.iter().filter_map(|e| client(e)).collect();
        for node in &clients {
            self.node(node.clone());
        }
        let lines: Vec<Line<'_>> = pieces.iter().filter_map(|e| log_line(e)).collect();
        let mutual = configured_mutual(scenario, &pieces);
        for own in &lines {
            let to = self.node(Node::Proxy(own.proxy.to_owned()));
            let before = lines.iter().find(|other| {
                let remote = own.fields.downstream_remote_address.as_ref();
                remote.is_some() && other.fields.upstream_local_address.as_ref() == remote
            });
            let tls = own.fields.requested_server_name.is_some();
            match before {
                Some(before) => {
                    let from = self.node(Node::Proxy(before.proxy.to_owned()));
                    let transport = match (tls, mutual) {
                        (true, true) => Transport::Mutual,
                        (true, false) => Transport::Tls,
                        (false, _) => Transport::Plain,
                    };
                    self.edge(from, to, transport, false);
                }
                None => {
                    // A sidecar has the name of its workload. A gateway accepts requests from any client.
                    let own_client = clients.iter().find(|n| n.name() == own.proxy).or(clients.first());
                    let from = own_client.and_then(|node| self.node(node.clone()));
                    self.edge(from, to, if tls { Transport::Tls } else { Transport::Plain }, false);
                }
            }
        }
        let mut reached = Vec::new();
        for piece in &pieces {
            let Some((host, peer, transport, trouble)) = arrival(piece) else { continue };
            let to = self.node(Node::service(scenario, host));
            let from = self.opener(&lines, &clients, peer);
            self.edge(from, to, transport, trouble);
            reached.push(peer);
        }
        self.what_did_not_arrive(scenario, &lines, &clients, &reached);
    }

    /// The node that opened the connection with this address: the proxy that logged it, otherwise the last proxy without
    /// an outgoing hop.
    fn opener(&mut self, lines: &[Line<'_>], clients: &[Node], peer: &str) -> Option<usize> {
        let logged = lines.iter().find(|l| l.fields.upstream_local_address.as_deref() == Some(peer));
        match (logged, lines.last()) {
            (Some(own), _) => self.node(Node::Proxy(own.proxy.to_owned())),
            (None, Some(_)) => {
                let open = |node: &usize| !self.edges.iter().any(|e| e.from == *node);
                let mut proxies = (0..self.nodes.len()).filter(|n| matches!(self.nodes[*n], Node::Proxy(_)));
                proxies.clone().rfind(open).or_else(|| proxies.next_back())
            }
            (None, None) => clients.first().and_then(|node| self.node(node.clone())),
        }
    }

    /// Adds hops on which nothing arrived: from a proxy that forwarded nothing, and from a client whose request no other
    /// side recorded.
    fn what_did_not_arrive(
        &mut self,
        scenario: &ScenarioResult,
        lines: &[Line<'_>],
        clients: &[Node],
        reached: &[&str],
    ) {
        // A live host records nothing, so it is unknown what arrived there.
        let Some(service) = scenario.external_services.first().filter(|s| s.is_observed()) else { return };
        let ends: Vec<usize> = if lines.is_empty() {
            if reached.is_empty() {
                clients.iter().filter_map(|n| self.node(n.clone())).collect()
            } else {
                vec![]
            }
        } else {
            let stuck = |own: &&Line<'_>| {
                let local = own.fields.upstream_local_address.as_deref();
                let onward = local.is_some_and(|l| {
                    reached.contains(&l)
                        || lines.iter().any(|o| o.fields.downstream_remote_address.as_deref() == Some(l))
                });
                !onward && troubled(own.fields)
            };
            lines.iter().filter(stuck).filter_map(|l| self.node(Node::Proxy(l.proxy.to_owned()))).collect()
        };
        for from in ends {
            if !self.edges.iter().any(|e| e.from == from) {
                let to = self.node(Node::service(scenario, &service.host));
                self.edge(Some(from), to, Transport::Unseen, true);
            }
        }
    }

    /// Marks the hop at which the check fails: the hop into the node that recorded the wrong observation, as far along the
    /// path as the evidence of the verdict reaches.
    fn mark(&mut self, scenario: &ScenarioResult, story: &Story<'_>, check: &CheckResult) {
        let differs = |id: &EvidenceId| check.differences.iter().any(|d| d.evidence == *id);
        let specific = story.pieces.iter().any(|b| differs(&b.piece.id));
        let decisive = story
            .pieces
            .iter()
            .filter(|b| if specific { differs(&b.piece.id) } else { b.decides })
            .max_by_key(|b| crate::compare::rank(&b.piece.side));
        match decisive.map(|b| (&b.piece.side, &b.piece.fact)) {
            Some((Side::Service { host }, _)) => self.fail_into(&Node::service(scenario, host)),
            Some((Side::Proxy { name }, Fact::AccessLog(AccessLog { fields: Some(fields), .. })))
                if troubled(fields) =>
            {
                self.fail_out_of(&Node::Proxy(name.clone()));
            }
            Some((Side::Proxy { name }, _)) => {
                self.failing_node = self.nodes.iter().position(|n| *n == Node::Proxy(name.clone()));
            }
            Some((Side::Suite, _)) if !self.edges.iter().any(|e| e.trouble) => self.fail_out_of(&Node::Suite),
            Some((Side::Workload { .. } | Side::Suite, _)) | None => self.fail_where_trouble_is(check),
        }
    }

    fn fail_into(&mut self, node: &Node) {
        let Some(to) = self.nodes.iter().position(|n| n == node) else { return };
        let troubled = self.edges.iter().any(|e| e.to == to && e.trouble);
        for edge in self.edges.iter_mut().filter(|e| e.to == to && (e.trouble || !troubled)) {
            edge.failing = true;
        }
    }

    fn fail_out_of(&mut self, node: &Node) {
        let from = self.nodes.iter().position(|n| n == node);
        let mut edges = self.edges.iter_mut().filter(|e| Some(e.from) == from).peekable();
        if edges.peek().is_none() {
            self.failing_node = from;
        }
        edges.for_each(|e| e.failing = true);
    }

    /// Used when the verdict rests on the client's evidence alone: marks the hop on which other evidence shows a problem,
    /// otherwise the hop to the service that the reason names, otherwise the last hop.
    fn fail_where_trouble_is(&mut self, check: &CheckResult) {
        if let Some(edge) = self.edges.iter_mut().find(|e| e.trouble) {
            edge.failing = true;
            return;
        }
        let named = |n: &Node| matches!(n, Node::Service { host, .. } if !host.is_empty() && check.reason.contains(host.as_str()));
        let to = self.nodes.iter().position(named);
        let last = self.edges.len().checked_sub(1);
        let at = self.edges.iter().position(|e| Some(e.to) == to).or(last);
        if let Some(edge) = at.and_then(|at| self.edges.get_mut(at)) {
            edge.failing = true;
        }
    }
}

/// The client that sent the request.
fn client(piece: &Evidence) -> Option<Node> {
    piece.fact.as_exchange()?;
    match &piece.side {
        Side::Workload { name } => Some(Node::Client(name.clone())),
        Side::Suite => Some(Node::Suite),
        Side::Proxy { .. } | Side::Service { .. } => None,
    }
}

fn log_line(piece: &Evidence) -> Option<Line<'_>> {
    let Side::Proxy { name } = &piece.side else { return None };
    let fields = piece.fact.as_access_log()?.fields.as_ref()?;
    Some(Line { proxy: name, fields })
}

fn troubled(fields: &LogFields) -> bool {
    !fields.response_flags.is_empty() || fields.response_code.is_some_and(|code| code >= 500)
}

/// What a service recorded about a connection or request: host, peer, transport, and whether it failed.
fn arrival(piece: &Evidence) -> Option<(&str, &str, Transport, bool)> {
    let Side::Service { host } = &piece.side else { return None };
    let of = |tls: &meshproof_model::TlsFacts| {
        if tls.peer_certificate.is_some() { Transport::Mutual } else { Transport::Tls }
    };
    match &piece.fact {
        Fact::Connection(c) => {
            let failed =
                c.tls.as_ref().is_some_and(|t| t.failure.is_some()) || (c.tls_port && c.tls.is_none());
            Some((host, &c.peer, c.tls.as_ref().map_or(Transport::Plain, of), failed))
        }
        Fact::Request(r) => {
            let plain = if r.over_tls { Transport::Tls } else { Transport::Plain };
            Some((host, &r.peer, r.tls.as_ref().map_or(plain, of), false))
        }
        Fact::Exchange(_)
        | Fact::AccessLog(_)
        | Fact::Change(_)
        | Fact::Credential(_)
        | Fact::Note { .. } => None,
    }
}

/// Whether a manifest in force configures Istio mutual TLS. A log line shows that a hop inside the mesh used TLS, but not
/// whether the client presented a certificate.
fn configured_mutual(scenario: &ScenarioResult, pieces: &[&Evidence]) -> bool {
    let until = pieces.iter().map(|e| e.at_us).max().unwrap_or(u64::MAX);
    let mut in_force: BTreeMap<String, bool> = BTreeMap::new();
    for piece in scenario.evidence.iter().filter(|e| e.at_us <= until) {
        let Fact::Change(change) = &piece.fact else { continue };
        for yaml in &change.applied {
            let mutual = yaml.contains("ISTIO_MUTUAL") || yaml.contains("mode: STRICT");
            in_force.insert(crate::describe::manifest_name(yaml), mutual);
        }
        for name in &change.deleted {
            in_force.remove(name);
        }
    }
    in_force.values().any(|mutual| *mutual)
}

const WIDTH: usize = 190;
const GAP: usize = 130;
const HEIGHT: usize = 58;
const SPACE: usize = 34;

/// How many characters of a name fit on one line of a box.
const FITS: usize = 25;

impl Picture {
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

    pub(super) fn is_empty(&self) -> bool {
        self.edges.is_empty()
    }

    /// A text alternative for screen readers.
    fn words(&self) -> String {
        let layers = self.layers();
        let mut edges: Vec<&Edge> = self.edges.iter().collect();
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
    pub(super) fn draw(&self) -> Markup {
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
            svg.picture role="img" aria-label=(brief(&self.words(), 1_000)) viewBox=(format!("0 0 {width} {height}")) width=(width) height=(height) {
                @for edge in &self.edges { (hop(edge, at(edge.from), at(edge.to))) }
                @for (number, node) in self.nodes.iter().enumerate() { (boxed(node, at(number), self.failing_node == Some(number))) }
            }
        }
    }
}

fn hop(edge: &Edge, from: (usize, usize), to: (usize, usize)) -> Markup {
    let (x1, y1) = (from.0 + WIDTH, from.1 + HEIGHT / 2);
    let (x2, y2) = (to.0, to.1 + HEIGHT / 2);
    let strongest = edge.transports.iter().max().copied().unwrap_or(Transport::Unseen);
    let class = format!("hop {}{}", strongest.class(), if edge.failing { " failing" } else { "" });
    let words: Vec<&str> = edge.transports.iter().map(|t| t.word()).collect();
    let (mx, my) = (x1.midpoint(x2), y1.midpoint(y2));
    // Above the line, one line of text per transport.
    let top = my.saturating_sub(7 + 13 * (words.len().saturating_sub(1)));
    html! {
        g class=(class) {
            line x1=(x1) y1=(y1) x2=(x2.saturating_sub(9)) y2=(y2) {}
            @if strongest == Transport::Mutual { line.inner x1=(x1) y1=(y1) x2=(x2.saturating_sub(9)) y2=(y2) {} }
            path d=(format!("M{},{} l-10,-5 v10 z", x2, y2)) {}
            @for (number, word) in words.iter().enumerate() {
                text x=(mx) y=(top + 13 * number) text-anchor="middle" { (word) }
            }
            @if edge.failing { text.cross x=(mx) y=(my + 17) text-anchor="middle" { "✗ fails here" } }
        }
    }
}

fn boxed(node: &Node, (x, y): (usize, usize), failing: bool) -> Markup {
    let class = match node {
        Node::Suite | Node::Client(_) => "client",
        Node::Proxy(_) => "proxy",
        Node::Service { .. } => "service",
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
fn break_at(name: &str) -> Option<usize> {
    let fitting: Vec<(usize, char)> = name.char_indices().take(FITS).collect();
    let dot = fitting.iter().rev().find(|(_, c)| matches!(c, '.' | '-')).map(|(at, _)| at + 1);
    dot.or_else(|| name.char_indices().nth(FITS).map(|(at, _)| at))
}

/// The key to the line styles, once per page.
pub(super) fn key() -> Markup {
    html! {
        ul.key {
            @for transport in [Transport::Plain, Transport::Tls, Transport::Mutual, Transport::Unseen] {
                li {
                    svg width="44" height="10" aria-hidden="true" {
                        g class=(format!("hop {}", transport.class())) {
                            line x1="0" y1="5" x2="44" y2="5" {}
                            @if transport == Transport::Mutual { line.inner x1="0" y1="5" x2="44" y2="5" {} }
                        }
                    }
                    " " (transport.word())
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
