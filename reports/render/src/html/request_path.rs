//! The path of a check's requests: workload, proxies, services, and the transport of each hop. Derived from
//! the evidence alone: a proxy's log line contains the local address of its upstream connection, and the peer
//! that accepted the connection recorded the same address.

use crate::check_evidence::{CheckEvidence, EvidenceIndex};
use crate::conclusion::needs_attention;
use meshproof_model::evidence::{AccessLog, Evidence, EvidenceId, Fact, LogFields, Side};
use meshproof_model::report::{CheckResult, ScenarioResult};

pub(super) mod draw;

/// The largest number of nodes that is drawn. A larger picture is not readable.
const MAX_NODES: usize = 12;

/// The transport of a hop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum HopTransport {
    /// Nothing arrived, or no side recorded the transport.
    Unseen,
    Plain,
    Tls,
    Mutual,
}

impl HopTransport {
    /// In the order of the key.
    const ALL: [Self; 4] = [Self::Plain, Self::Tls, Self::Mutual, Self::Unseen];

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
enum PathNode {
    /// The suite's own client, outside the mesh.
    Suite,
    Client(String),
    Proxy(String),
    Service {
        host: String,
        external: bool,
    },
}

impl PathNode {
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
struct PathHop {
    from: usize,
    to: usize,
    transports: Vec<HopTransport>,
    /// The evidence shows a problem on this hop: a failed handshake, response flags in a log line.
    trouble: bool,
    failing: bool,
}

/// The hops of a check's evidence.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct RequestPath {
    nodes: Vec<PathNode>,
    edges: Vec<PathHop>,
    failing_node: Option<usize>,
}

struct ProxyLogLine<'r> {
    proxy: &'r str,
    fields: &'r LogFields,
}

/// The scenario's picture: that of the first check that needs attention, otherwise the most informative one.
pub(super) fn of_scenario<'r>(
    scenario: &'r ScenarioResult,
    evidence_index: &EvidenceIndex<'r>,
) -> Option<(&'r CheckResult, RequestPath)> {
    let pictures = || scenario.checks.iter().map(|c| (c, of_check(scenario, evidence_index, c)));
    let wrong = pictures().find(|(c, p)| needs_attention(c) && p.edges.len() > 1);
    wrong.or_else(|| pictures().max_by_key(|(_, p)| p.worth())).filter(|(_, p)| !p.edges.is_empty())
}

/// The picture of one check.
pub(super) fn of_check<'r>(
    scenario: &'r ScenarioResult,
    evidence_index: &EvidenceIndex<'r>,
    check: &'r CheckResult,
) -> RequestPath {
    let selected = evidence_index.of_check(check);
    let mut picture = RequestPath::default();
    picture.read(scenario, evidence_index, &selected);
    if needs_attention(check) {
        picture.mark(scenario, &selected, check);
    }
    picture
}

impl RequestPath {
    /// How informative the picture is.
    fn worth(&self) -> (usize, usize) {
        let tls = self.edges.iter().filter(|e| e.transports.iter().any(|t| *t >= HopTransport::Tls)).count();
        let clean = self
            .edges
            .iter()
            .filter(|e| e.transports.len() == 1 && e.transports[0] != HopTransport::Unseen)
            .count();
        (tls + clean, self.edges.len())
    }

    fn node(&mut self, node: PathNode) -> Option<usize> {
        if let Some(known) = self.nodes.iter().position(|n| *n == node) {
            return Some(known);
        }
        (self.nodes.len() < MAX_NODES).then(|| {
            self.nodes.push(node);
            self.nodes.len() - 1
        })
    }

    fn edge(&mut self, from: Option<usize>, to: Option<usize>, transport: HopTransport, trouble: bool) {
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
            None => {
                self.edges.push(PathHop { from, to, transports: vec![transport], trouble, failing: false })
            }
        }
    }

    fn read(
        &mut self,
        scenario: &ScenarioResult,
        evidence_index: &EvidenceIndex<'_>,
        selected: &CheckEvidence<'_>,
    ) {
        let pieces: Vec<&Evidence> = selected.pieces.iter().map(|b| b.piece).collect();
        let clients: Vec<PathNode> = pieces.iter().filter_map(|e| client(e)).collect();
        for node in &clients {
            self.node(node.clone());
        }
        let lines: Vec<ProxyLogLine<'_>> = pieces.iter().filter_map(|e| log_line(e)).collect();
        // A log line shows that a hop inside the mesh used TLS, but not whether the client presented a certificate.
        let mutual = evidence_index.is_mutual_at(pieces.iter().map(|e| e.at_us).max().unwrap_or(u64::MAX));
        for own in &lines {
            let to = self.node(PathNode::Proxy(own.proxy.to_owned()));
            let before = lines.iter().find(|other| {
                let remote = own.fields.downstream_remote_address.as_ref();
                remote.is_some() && other.fields.upstream_local_address.as_ref() == remote
            });
            let tls = own.fields.requested_server_name.is_some();
            match before {
                Some(before) => {
                    let from = self.node(PathNode::Proxy(before.proxy.to_owned()));
                    let transport = match (tls, mutual) {
                        (true, true) => HopTransport::Mutual,
                        (true, false) => HopTransport::Tls,
                        (false, _) => HopTransport::Plain,
                    };
                    self.edge(from, to, transport, false);
                }
                None => {
                    // A sidecar has the name of its workload. A gateway accepts requests from any client.
                    let own_client = clients.iter().find(|n| n.name() == own.proxy).or(clients.first());
                    let from = own_client.and_then(|node| self.node(node.clone()));
                    self.edge(from, to, if tls { HopTransport::Tls } else { HopTransport::Plain }, false);
                }
            }
        }
        let mut reached = Vec::new();
        for piece in &pieces {
            let Some((host, peer, transport, trouble)) = arrival(piece) else { continue };
            let to = self.node(PathNode::service(scenario, host));
            let from = self.opener(&lines, &clients, peer);
            self.edge(from, to, transport, trouble);
            reached.push(peer);
        }
        self.what_did_not_arrive(scenario, &lines, &clients, &reached);
    }

    /// The node that opened the connection with this address: the proxy that logged it, otherwise the last
    /// proxy without an outgoing hop.
    fn opener(&mut self, lines: &[ProxyLogLine<'_>], clients: &[PathNode], peer: &str) -> Option<usize> {
        let logged = lines.iter().find(|l| l.fields.upstream_local_address.as_deref() == Some(peer));
        match (logged, lines.last()) {
            (Some(own), _) => self.node(PathNode::Proxy(own.proxy.to_owned())),
            (None, Some(_)) => {
                let open = |node: &usize| !self.edges.iter().any(|e| e.from == *node);
                let mut proxies =
                    (0..self.nodes.len()).filter(|n| matches!(self.nodes[*n], PathNode::Proxy(_)));
                proxies.clone().rfind(open).or_else(|| proxies.next_back())
            }
            (None, None) => clients.first().and_then(|node| self.node(node.clone())),
        }
    }

    /// Adds hops on which nothing arrived: from a proxy that forwarded nothing, and from a client whose
    /// request no other side recorded.
    fn what_did_not_arrive(
        &mut self,
        scenario: &ScenarioResult,
        lines: &[ProxyLogLine<'_>],
        clients: &[PathNode],
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
            let stuck = |own: &&ProxyLogLine<'_>| {
                let local = own.fields.upstream_local_address.as_deref();
                let onward = local.is_some_and(|l| {
                    reached.contains(&l)
                        || lines.iter().any(|o| o.fields.downstream_remote_address.as_deref() == Some(l))
                });
                !onward && troubled(own.fields)
            };
            lines
                .iter()
                .filter(stuck)
                .filter_map(|l| self.node(PathNode::Proxy(l.proxy.to_owned())))
                .collect()
        };
        for from in ends {
            if !self.edges.iter().any(|e| e.from == from) {
                let to = self.node(PathNode::service(scenario, &service.host));
                self.edge(Some(from), to, HopTransport::Unseen, true);
            }
        }
    }

    /// Marks the hop at which the check fails: the hop into the node that recorded the wrong observation, as
    /// far along the path as the evidence of the verdict reaches.
    fn mark(&mut self, scenario: &ScenarioResult, selected: &CheckEvidence<'_>, check: &CheckResult) {
        let differs = |id: &EvidenceId| check.differences.iter().any(|d| d.evidence == *id);
        let specific = selected.pieces.iter().any(|b| differs(&b.piece.id));
        let decisive = selected
            .pieces
            .iter()
            .filter(|b| if specific { differs(&b.piece.id) } else { b.decides })
            .max_by_key(|b| b.piece.side.path_position());
        match decisive.map(|b| (&b.piece.side, &b.piece.fact)) {
            Some((Side::Service { host }, _)) => self.fail_into(&PathNode::service(scenario, host)),
            Some((Side::Proxy { name }, Fact::AccessLog(AccessLog { fields: Some(fields), .. })))
                if troubled(fields) =>
            {
                self.fail_out_of(&PathNode::Proxy(name.clone()));
            }
            Some((Side::Proxy { name }, _)) => {
                self.failing_node = self.nodes.iter().position(|n| *n == PathNode::Proxy(name.clone()));
            }
            Some((Side::Suite, _)) if !self.edges.iter().any(|e| e.trouble) => {
                self.fail_out_of(&PathNode::Suite)
            }
            Some((Side::Workload { .. } | Side::Suite, _)) | None => self.fail_where_trouble_is(check),
        }
    }

    fn fail_into(&mut self, node: &PathNode) {
        let Some(to) = self.nodes.iter().position(|n| n == node) else { return };
        let troubled = self.edges.iter().any(|e| e.to == to && e.trouble);
        for edge in self.edges.iter_mut().filter(|e| e.to == to && (e.trouble || !troubled)) {
            edge.failing = true;
        }
    }

    fn fail_out_of(&mut self, node: &PathNode) {
        let from = self.nodes.iter().position(|n| n == node);
        let mut edges = self.edges.iter_mut().filter(|e| Some(e.from) == from).peekable();
        if edges.peek().is_none() {
            self.failing_node = from;
        }
        edges.for_each(|e| e.failing = true);
    }

    /// Used when the verdict rests on the client's evidence alone: marks the hop on which other evidence
    /// shows a problem, otherwise the hop to the service that the reason names, otherwise the last hop.
    fn fail_where_trouble_is(&mut self, check: &CheckResult) {
        if let Some(edge) = self.edges.iter_mut().find(|e| e.trouble) {
            edge.failing = true;
            return;
        }
        let named = |n: &PathNode| matches!(n, PathNode::Service { host, .. } if !host.is_empty() && check.reason.contains(host));
        let to = self.nodes.iter().position(named);
        let last = self.edges.len().checked_sub(1);
        let at = self.edges.iter().position(|e| Some(e.to) == to).or(last);
        if let Some(edge) = at.and_then(|at| self.edges.get_mut(at)) {
            edge.failing = true;
        }
    }
}

/// The client that sent the request.
fn client(piece: &Evidence) -> Option<PathNode> {
    piece.fact.as_exchange()?;
    match &piece.side {
        Side::Workload { name } => Some(PathNode::Client(name.clone())),
        Side::Suite => Some(PathNode::Suite),
        Side::Proxy { .. } | Side::Service { .. } => None,
    }
}

fn log_line(piece: &Evidence) -> Option<ProxyLogLine<'_>> {
    let Side::Proxy { name } = &piece.side else { return None };
    let fields = piece.fact.as_access_log()?.fields.as_ref()?;
    Some(ProxyLogLine { proxy: name, fields })
}

fn troubled(fields: &LogFields) -> bool {
    !fields.response_flags.is_empty() || fields.response_code.is_some_and(|code| code >= 500)
}

/// What a service recorded about a connection or request: host, peer, transport, and whether it failed.
fn arrival(piece: &Evidence) -> Option<(&str, &str, HopTransport, bool)> {
    let Side::Service { host } = &piece.side else { return None };
    let of = |tls: &meshproof_model::TlsFacts| {
        if tls.peer_certificate.is_some() { HopTransport::Mutual } else { HopTransport::Tls }
    };
    match &piece.fact {
        Fact::Connection(c) => {
            let failed =
                c.tls.as_ref().is_some_and(|t| t.failure.is_some()) || (c.tls_port && c.tls.is_none());
            Some((host, &c.peer, c.tls.as_ref().map_or(HopTransport::Plain, of), failed))
        }
        Fact::Request(r) => {
            let plain = if r.over_tls { HopTransport::Tls } else { HopTransport::Plain };
            Some((host, &r.peer, r.tls.as_ref().map_or(plain, of), false))
        }
        Fact::Exchange(_)
        | Fact::AccessLog(_)
        | Fact::Change(_)
        | Fact::Credential(_)
        | Fact::Note { .. } => None,
    }
}

#[cfg(test)]
mod tests;
