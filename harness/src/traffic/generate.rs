//! Makes exchanges from a seed.

use fastrand::Rng;

use super::answer::{AnswerFraming, AnswerSpec, EVENT};
use super::bag::Bag;
use super::connection::{Aspect, ClientHttp, GeneratedConnection};
use super::elements::{
    ANSWER_HEADERS, HEADERS, MESSAGES, METHODS, ONE_HOP, QUERIES, SEGMENTS, STATUSES, TRAILERS,
};
use super::exchange::GeneratedExchange;

/// Where generated exchanges go, and what they may use.
#[derive(Clone, Copy, Debug)]
pub struct Grammar<'a> {
    /// The hosts; at least one.
    pub hosts: &'a [&'a str],
    /// Those to which connections can be switched over to WebSocket all the way: HTTP/2 needs an extension for that (RFC 8441),
    /// which a server or a hop of the mesh may lack.
    pub web_socket: &'a [&'a str],
    /// Those whose servers speak HTTP/2 alone, so that each request is a stream beside others.
    pub streams: &'a [&'a str],
    /// Those whose servers the proxy must refuse, whenever it is asked and whatever it has done before.
    pub refused: &'a [&'a str],
    /// Whether clients may speak HTTP/2.
    pub http2: bool,
}

/// What a connection is made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Several,
    Http2,
    Http10,
    Segments,
    Events,
    Trailers,
    EarlyHints,
    WebSocket,
    Closes,
    BreaksOff,
    PiecesBreakOff,
    NoAnswer,
    Refused,
    Slow,
    OneHop,
    Large,
    Resets,
    Pipelined,
}

/// Every kind once: with these the traffic begins, so that the least budget has something of each.
const KINDS: &[Kind] = &[
    Kind::Events,
    Kind::Several,
    Kind::Http2,
    Kind::Trailers,
    Kind::WebSocket,
    Kind::Closes,
    Kind::BreaksOff,
    Kind::PiecesBreakOff,
    Kind::NoAnswer,
    Kind::EarlyHints,
    Kind::Segments,
    Kind::Http10,
    Kind::Refused,
    Kind::Slow,
    Kind::OneHop,
    Kind::Large,
    Kind::Resets,
    Kind::Pipelined,
];

/// The length of a WebSocket message that does not fit into usual buffers.
const LARGE_MESSAGE: usize = 50_000;

/// The length of a body that does not fit into usual limits, which are whole mebibytes.
const LARGE_BODY: usize = 9 * 1024 * 1024;
/// The length of such an answer: less than a client reads.
const LARGE_ANSWER: usize = 7 * 1024 * 1024;
/// A cookie for connections over HTTP/2, where each of its pairs is a field of its own.
const DIVISIBLE: &str = "first=1; second=2";
/// How long a stream is open beside one that is reset, in milliseconds.
const BESIDE_MS: u64 = 80;

/// A stream that the server resets between two that it answers a little later. POST: no proxy may repeat them.
fn resets(host: &str) -> GeneratedConnection {
    let post = GeneratedExchange { method: "POST".to_owned(), body: 100, ..GeneratedExchange::plain(host) };
    let beside = GeneratedExchange {
        answer: AnswerSpec { delay_ms: BESIDE_MS, body: 100, ..AnswerSpec::plain() },
        ..post.clone()
    };
    let reset = GeneratedExchange {
        answer: AnswerSpec { framing: AnswerFraming::NoAnswer, ..AnswerSpec::plain() },
        ..post
    };
    let exchanges = vec![beside.clone(), reset, beside];
    GeneratedConnection { client: ClientHttp::Http2, segment: None, exchanges }
}

/// Makes exchanges. The same seed, hosts and grammar make the same ones in the same order.
#[derive(Debug)]
pub struct Generator {
    rng: Rng,
    hosts: Vec<String>,
    web_socket: Vec<String>,
    streams: Vec<String>,
    refused: Vec<String>,
    http2: bool,
    left_out: Vec<Aspect>,
    made: usize,
    large_message_made: bool,
    elements: Elements,
}

/// What comes next of each list.
#[derive(Debug, Default)]
struct Elements {
    methods: Bag,
    segments: Bag,
    queries: Bag,
    headers: Bag,
    statuses: Bag,
    answer_headers: Bag,
}

impl Generator {
    /// Begins with one connection of each kind.
    #[must_use]
    pub fn new(seed: u64, grammar: Grammar<'_>) -> Self {
        let owned = |hosts: &[&str]| hosts.iter().map(|h| (*h).to_owned()).collect();
        let Grammar { hosts, web_socket, streams, refused, http2 } = grammar;
        Self {
            rng: Rng::with_seed(seed),
            hosts: owned(hosts),
            web_socket: owned(web_socket),
            streams: owned(streams),
            refused: owned(refused),
            http2,
            left_out: Vec::new(),
            made: 0,
            large_message_made: false,
            elements: Elements::default(),
        }
    }

    /// From now on, no connection has this aspect. [`Aspect::Preservation`] stays.
    pub fn leave_out(&mut self, aspect: Aspect) {
        self.left_out.push(aspect);
    }

    /// The next connection, with at most so many exchanges.
    pub fn next_connection(&mut self, most: usize) -> GeneratedConnection {
        let kind = match KINDS.get(self.made) {
            Some(kind) => *kind,
            None => self.kind(),
        };
        let aspect = match kind {
            Kind::EarlyHints => Aspect::Interim,
            Kind::BreaksOff | Kind::PiecesBreakOff => Aspect::Truncation,
            Kind::Several
            | Kind::Http2
            | Kind::Http10
            | Kind::Segments
            | Kind::Events
            | Kind::Trailers
            | Kind::WebSocket
            | Kind::Closes
            | Kind::NoAnswer
            | Kind::Refused
            | Kind::Slow
            | Kind::Large
            | Kind::Resets
            | Kind::Pipelined => Aspect::Preservation,
            Kind::OneHop => Aspect::ConnectionFields,
        };
        let kind = if self.left_out.contains(&aspect) { Kind::Several } else { kind };
        self.made += 1;
        let several = if matches!(kind, Kind::Several | Kind::Http2) { self.rng.usize(2..6) } else { 1 };
        let exchanges = (0..several.min(most).max(1)).map(|_| self.exchange()).collect();
        let mut connection = GeneratedConnection { client: ClientHttp::Http1, segment: None, exchanges };
        match kind {
            Kind::Several => {}
            Kind::Http2 if self.http2 => {
                connection.client = ClientHttp::Http2;
                let headers = &mut connection.exchanges[0].headers;
                if headers.iter().all(|(name, _)| name != "cookie") {
                    headers.push(("cookie".to_owned(), DIVISIBLE.to_owned()));
                }
            }
            Kind::Refused => {
                let refusals = self.refusals();
                if !refusals.is_empty() {
                    connection.exchanges = refusals;
                }
            }
            Kind::Pipelined => {
                let count = self.rng.usize(3..6);
                connection.client = ClientHttp::Pipelined;
                connection.exchanges = (0..count).map(|_| self.safe()).collect();
            }
            Kind::Resets => {
                if let (true, Some(host)) = (self.http2, self.one(&self.streams.clone()).cloned()) {
                    connection = resets(&host);
                }
            }
            Kind::Segments => connection.segment = Some(self.rng.usize(1..200)),
            Kind::Http2
            | Kind::Http10
            | Kind::Events
            | Kind::Trailers
            | Kind::EarlyHints
            | Kind::WebSocket
            | Kind::Closes
            | Kind::BreaksOff
            | Kind::PiecesBreakOff
            | Kind::NoAnswer
            | Kind::Slow
            | Kind::OneHop
            | Kind::Large => {
                if kind == Kind::Http10 {
                    connection.client = ClientHttp::Http10;
                }
                if let Some(exchange) = connection.exchanges.first_mut() {
                    self.bend(exchange, kind);
                }
            }
        }
        connection.exchanges.truncate(most.max(1));
        connection
    }

    fn kind(&mut self) -> Kind {
        match self.rng.u8(0..100) {
            0..52 => Kind::Several,
            52..68 => Kind::Http2,
            68..70 => Kind::Refused,
            70..71 => Kind::Pipelined,
            71..72 => Kind::Resets,
            72..73 => Kind::Slow,
            73..76 => Kind::OneHop,
            76..80 => Kind::Segments,
            80..84 => Kind::Trailers,
            84..87 => Kind::EarlyHints,
            87..89 => Kind::Http10,
            89..91 => Kind::Closes,
            91..93 => Kind::BreaksOff,
            93..95 => Kind::PiecesBreakOff,
            95..97 => Kind::NoAnswer,
            97..98 => Kind::Events,
            _ => Kind::WebSocket,
        }
    }

    /// Makes an exchange one of this kind.
    fn bend(&mut self, exchange: &mut GeneratedExchange, kind: Kind) {
        let answers_body = |exchange: &mut GeneratedExchange, least: usize| {
            if exchange.method == "HEAD" {
                exchange.method = "GET".to_owned();
            }
            exchange.answer.status = 200;
            exchange.answer.body = exchange.answer.body.max(least);
        };
        match kind {
            Kind::Http10 => {
                exchange.chunked = false;
                exchange.answer.early_hints = false;
            }
            Kind::Events => {
                answers_body(exchange, 0);
                exchange.answer.body = self.rng.usize(2..7) * EVENT;
                exchange.answer.headers.retain(|(name, _)| !name.starts_with("content-"));
                exchange.answer.headers.push(("content-type".to_owned(), "text/event-stream".to_owned()));
                exchange.answer.framing = AnswerFraming::Events;
            }
            Kind::Trailers => {
                if matches!(exchange.method.as_str(), "GET" | "HEAD" | "OPTIONS" | "DELETE") {
                    exchange.method = "POST".to_owned();
                }
                exchange.body = exchange.body.max(1);
                exchange.chunked = true;
                let trailers = TRAILERS.iter().take(self.rng.usize(1..=TRAILERS.len()));
                exchange.trailers =
                    trailers.map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
            }
            Kind::EarlyHints => {
                exchange.answer.early_hints = true;
                // HAProxy 2.6 cuts off longer answers that follow a 103, though not every time.
                exchange.answer.body = exchange.answer.body.min(10_000);
            }
            Kind::WebSocket => {
                let Some(host) = self.one(&self.web_socket.clone()).cloned() else { return };
                let mut messages: Vec<&str> =
                    (0..self.rng.usize(1..6)).filter_map(|_| self.one(MESSAGES).copied()).collect();
                let large = "large ".repeat(LARGE_MESSAGE / 6);
                if !self.large_message_made {
                    self.large_message_made = true;
                    messages.push(&large);
                }
                *exchange = GeneratedExchange {
                    target: exchange.target.clone(),
                    messages: messages.into_iter().map(str::to_owned).collect(),
                    answer: AnswerSpec {
                        framing: AnswerFraming::WebSocket,
                        status: 101,
                        ..AnswerSpec::plain()
                    },
                    ..GeneratedExchange::plain(&host)
                };
            }
            Kind::Closes => exchange.answer.closes = true,
            Kind::BreaksOff => {
                answers_body(exchange, 2);
                exchange.answer.framing = AnswerFraming::BreaksOff;
            }
            Kind::PiecesBreakOff => {
                answers_body(exchange, 2);
                exchange.answer.framing = AnswerFraming::PiecesBreakOff;
            }
            Kind::NoAnswer => exchange.answer.framing = AnswerFraming::NoAnswer,
            Kind::Slow => exchange.answer.delay_ms = self.rng.u64(30..50),
            Kind::OneHop => {
                // All of them: few exchanges of a small budget are of this kind.
                let mut fields = ONE_HOP.to_vec();
                self.rng.shuffle(&mut fields);
                let names: Vec<&str> = fields.iter().map(|(name, _)| *name).collect();
                let fields = fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
                exchange.headers.extend(fields);
                exchange.headers.push(("connection".to_owned(), names.join(", ")));
            }
            Kind::Large => {
                *exchange = GeneratedExchange {
                    method: "POST".to_owned(),
                    body: LARGE_BODY,
                    chunked: true,
                    answer: AnswerSpec {
                        body: LARGE_ANSWER,
                        framing: AnswerFraming::Pieces,
                        ..AnswerSpec::plain()
                    },
                    ..GeneratedExchange::plain(&exchange.host)
                };
            }
            Kind::Several | Kind::Http2 | Kind::Segments | Kind::Refused | Kind::Resets | Kind::Pipelined => {
            }
        }
    }

    /// One request for each host that must be refused. None has another reason to be refused.
    fn refusals(&mut self) -> Vec<GeneratedExchange> {
        let hosts = self.refused.clone();
        let to = |host: &String| GeneratedExchange {
            target: self.target(),
            headers: self.headers(),
            ..GeneratedExchange::plain(host)
        };
        hosts.iter().map(to).collect()
    }

    /// A request without content, which a client may send before it has the answers to those before.
    fn safe(&mut self) -> GeneratedExchange {
        let mut exchange = self.exchange();
        exchange.method = if self.rng.u8(0..4) == 0 { "HEAD" } else { "GET" }.to_owned();
        (exchange.body, exchange.chunked) = (0, false);
        exchange.answer.body = exchange.answer.body.min(LARGE_MESSAGE);
        exchange
    }

    /// An exchange that any connection can carry.
    fn exchange(&mut self) -> GeneratedExchange {
        let host = self.one(&self.hosts.clone()).cloned().unwrap_or_default();
        let method = self.elements.methods.draw(&mut self.rng, METHODS).copied().unwrap_or("GET").to_owned();
        let mut exchange =
            GeneratedExchange { method, target: self.target(), ..GeneratedExchange::plain(&host) };
        exchange.host_header = match self.rng.u8(0..12) {
            0 => Some(host.to_ascii_uppercase()),
            1 => Some(format!("{host}:80")),
            _ => None,
        };
        exchange.headers = self.headers();
        match exchange.method.as_str() {
            "HEAD" => {}
            // Content has no meaning here, and a proxy may refuse it (RFC 9110, sections 9.3.1, 9.3.5 and 9.3.7); it may not drop it.
            "GET" | "OPTIONS" | "DELETE" => {
                if self.rng.u8(0..6) == 0 {
                    exchange.body = self.rng.usize(1..2000);
                }
            }
            _ => {
                exchange.body = self.length();
                exchange.chunked = exchange.body > 0 && self.rng.bool();
            }
        }
        exchange.answer = self.answer();
        exchange
    }

    fn one<'a, T>(&mut self, from: &'a [T]) -> Option<&'a T> {
        from.get(self.rng.usize(0..from.len().max(1)))
    }

    fn target(&mut self) -> String {
        let mut path = String::new();
        for _ in 0..self.rng.usize(1..5) {
            path.push('/');
            path.push_str(self.elements.segments.draw(&mut self.rng, SEGMENTS).copied().unwrap_or_default());
        }
        match self.rng.u8(0..24) {
            0 => path.push_str(&"/long".repeat(self.rng.usize(1..1600))),
            1 => path.push('?'),
            2..12 => {
                path.push('?');
                path.push_str(
                    self.elements.queries.draw(&mut self.rng, QUERIES).copied().unwrap_or_default(),
                );
            }
            _ => {}
        }
        path
    }

    fn headers(&mut self) -> Vec<(String, String)> {
        let mut headers: Vec<(String, String)> = Vec::new();
        for _ in 0..self.rng.usize(0..8) {
            if let Some((name, value)) = self.elements.headers.draw(&mut self.rng, HEADERS) {
                let again = headers.iter().any(|(n, _)| n == name);
                if !again || *name == "x-many" {
                    headers.push(((*name).to_owned(), (*value).to_owned()));
                }
            }
        }
        match self.rng.u8(0..16) {
            0 => headers.push(("x-large".to_owned(), "v".repeat(self.rng.usize(1000..8000)))),
            1 => headers.extend((0..30).map(|n| (format!("x-number-{n}"), n.to_string()))),
            _ => {}
        }
        headers
    }

    /// Small most of the time, around the sizes of usual buffers sometimes, and now and then as large as a picture or a
    /// document.
    fn length(&mut self) -> usize {
        match self.rng.u16(0..1000) {
            0..350 => 0,
            350..900 => self.rng.usize(1..2000),
            900..985 => self.rng.usize(2000..70_000),
            985..999 => self.rng.usize(70_000..1_500_000),
            _ => 5 * 1024 * 1024,
        }
    }

    fn answer(&mut self) -> AnswerSpec {
        let status = self.elements.statuses.draw(&mut self.rng, STATUSES).copied().unwrap_or(200);
        let mut headers: Vec<(String, String)> = Vec::new();
        for _ in 0..self.rng.usize(0..7) {
            if let Some((name, value)) = self.elements.answer_headers.draw(&mut self.rng, ANSWER_HEADERS) {
                let again = headers.iter().any(|(n, _)| n == name);
                if !again || matches!(*name, "set-cookie" | "x-many") {
                    headers.push(((*name).to_owned(), (*value).to_owned()));
                }
            }
        }
        // Within the smallest buffer that proxies have for the head of an answer (nginx, `proxy_buffer_size`: 4 KiB).
        match self.rng.u8(0..16) {
            0 => headers.push(("x-large".to_owned(), "v".repeat(self.rng.usize(1000..2500)))),
            1 => headers.extend((0..50).map(|n| (format!("x-number-{n}"), n.to_string()))),
            _ => {}
        }
        let body = if matches!(status, 204 | 304) { 0 } else { self.length() };
        let framing = if self.rng.u8(0..3) == 0 { AnswerFraming::Pieces } else { AnswerFraming::Length };
        AnswerSpec { status, headers, body, framing, ..AnswerSpec::plain() }
    }
}

#[cfg(test)]
mod tests;
