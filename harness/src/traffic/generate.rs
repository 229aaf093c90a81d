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
];

/// The length of a WebSocket message that does not fit into usual buffers.
const LARGE_MESSAGE: usize = 50_000;

/// Makes exchanges. The same seed, hosts and grammar make the same ones in the same order.
#[derive(Debug)]
pub struct Generator {
    rng: Rng,
    hosts: Vec<String>,
    web_socket: Vec<String>,
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
        let Grammar { hosts, web_socket, refused, http2 } = grammar;
        Self {
            rng: Rng::with_seed(seed),
            hosts: owned(hosts),
            web_socket: owned(web_socket),
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
            | Kind::Slow => Aspect::Preservation,
            Kind::OneHop => Aspect::ConnectionFields,
        };
        let kind = if self.left_out.contains(&aspect) { Kind::Several } else { kind };
        self.made += 1;
        let several = if matches!(kind, Kind::Several | Kind::Http2) { self.rng.usize(2..6) } else { 1 };
        let exchanges = (0..several.min(most).max(1)).map(|_| self.exchange()).collect();
        let mut connection = GeneratedConnection { client: ClientHttp::Http1, segment: None, exchanges };
        match kind {
            Kind::Several => {}
            Kind::Http2 if self.http2 => connection.client = ClientHttp::Http2,
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
            | Kind::Refused
            | Kind::Slow
            | Kind::OneHop => {
                if kind == Kind::Http10 {
                    connection.client = ClientHttp::Http10;
                }
                if let Some(exchange) = connection.exchanges.first_mut() {
                    self.bend(exchange, kind);
                }
            }
        }
        connection
    }

    fn kind(&mut self) -> Kind {
        match self.rng.u8(0..100) {
            0..52 => Kind::Several,
            52..68 => Kind::Http2,
            68..72 => Kind::Refused,
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
            Kind::EarlyHints => exchange.answer.early_hints = true,
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
            Kind::Refused => {
                let Some(host) = self.one(&self.refused.clone()).cloned() else { return };
                // A request that no proxy has another reason to refuse.
                let headers = std::mem::take(&mut exchange.headers);
                *exchange = GeneratedExchange {
                    target: exchange.target.clone(),
                    headers,
                    ..GeneratedExchange::plain(&host)
                };
            }
            Kind::Slow => exchange.answer.delay_ms = self.rng.u64(30..50),
            Kind::OneHop => {
                let first = self.rng.usize(0..ONE_HOP.len());
                let fields = ONE_HOP.iter().cycle().skip(first).take(self.rng.usize(1..=ONE_HOP.len()));
                let names: Vec<&str> = fields.clone().map(|(name, _)| *name).collect();
                exchange
                    .headers
                    .extend(fields.map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
                exchange.headers.push(("connection".to_owned(), names.join(", ")));
            }
            Kind::Several | Kind::Http2 | Kind::Segments => {}
        }
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
mod tests {
    use super::*;

    const ALL: Grammar<'_> = Grammar {
        hosts: &["a.example", "b.example"],
        web_socket: &["b.example"],
        refused: &["refused.example"],
        http2: true,
    };

    #[test]
    fn the_same_seed_makes_the_same_exchanges_and_another_seed_others() {
        let make = |seed| {
            let mut generator = Generator::new(seed, ALL);
            (0..200).map(|_| generator.next_connection(48)).collect::<Vec<_>>()
        };
        assert_eq!(make(7), make(7));
        assert_ne!(make(7), make(8));
    }

    #[test]
    fn every_generated_connection_can_be_sent_and_read_back_from_its_case() {
        let mut generator = Generator::new(3, ALL);
        for _ in 0..2000 {
            let connection = generator.next_connection(4);
            assert!((1..=4).contains(&connection.exchanges.len()));
            assert_eq!(connection.requests().unwrap().len(), connection.exchanges.len());
            assert_eq!(serde_json::from_str::<GeneratedConnection>(&connection.case()).unwrap(), connection);
            for exchange in &connection.exchanges {
                let header = exchange.answer.to_header();
                assert_eq!(AnswerSpec::from_header(&header).as_ref(), Some(&exchange.answer));
            }
        }
    }

    #[test]
    fn the_first_exchanges_have_something_of_everything() {
        let mut generator = Generator::new(1, ALL);
        let first: Vec<_> = (0..KINDS.len()).map(|_| generator.next_connection(48)).collect();
        let exchanges = || first.iter().flat_map(|connection| &connection.exchanges);
        let framed = |framing| exchanges().any(|e| e.answer.framing == framing);
        for framing in [
            AnswerFraming::Events,
            AnswerFraming::WebSocket,
            AnswerFraming::BreaksOff,
            AnswerFraming::PiecesBreakOff,
            AnswerFraming::NoAnswer,
        ] {
            assert!(framed(framing), "{framing:?}");
        }
        assert!(exchanges().any(|e| !e.trailers.is_empty()));
        assert!(exchanges().any(|e| e.answer.early_hints) && exchanges().any(|e| e.answer.closes));
        assert!(first.iter().any(|c| c.segment.is_some()));
        assert!(first.iter().any(|c| c.client == ClientHttp::Http2 && c.exchanges.len() > 1));
        assert!(first.iter().any(|c| c.client == ClientHttp::Http10));
        assert!(
            exchanges().any(|e| e.host == "refused.example") && exchanges().any(|e| e.answer.delay_ms > 0)
        );
        assert!(exchanges().any(|e| e.headers.iter().any(|(name, _)| name == "connection")));
        assert!(exchanges().any(|e| e.messages.iter().any(|message| message.len() > 40_000)));
    }

    #[test]
    fn the_default_budget_has_every_element() {
        let mut generator = Generator::new(1, ALL);
        let mut exchanges = Vec::new();
        while exchanges.len() < 150 {
            exchanges.extend(generator.next_connection(150).exchanges);
        }
        let has = |what: &dyn Fn(&GeneratedExchange) -> bool| exchanges.iter().any(what);
        for method in METHODS {
            assert!(has(&|e| e.method == *method), "{method}");
        }
        for part in SEGMENTS.iter().chain(QUERIES) {
            assert!(has(&|e| e.target.contains(part)), "{part}");
        }
        for status in STATUSES {
            assert!(has(&|e| e.answer.status == *status), "{status}");
        }
        let among = |headers: &[(String, String)], (n, v): &(&str, &str)| {
            headers.iter().any(|h| h.0 == *n && h.1 == *v)
        };
        for header in HEADERS {
            assert!(has(&|e| among(&e.headers, header)), "{header:?}");
        }
        for header in ANSWER_HEADERS {
            assert!(has(&|e| among(&e.answer.headers, header)), "{header:?}");
        }
        assert!(has(&|e| e.answer.headers.iter().any(|(name, _)| name == "x-large")));
        assert!(has(&|e| e.answer.headers.iter().any(|(name, _)| name == "x-number-49")));
    }

    #[test]
    fn what_is_left_out_is_not_generated_any_more() {
        let mut generator = Generator::new(1, ALL);
        generator.leave_out(Aspect::Interim);
        generator.leave_out(Aspect::Truncation);
        generator.leave_out(Aspect::ConnectionFields);
        for _ in 0..500 {
            assert_eq!(generator.next_connection(48).aspect(), Aspect::Preservation);
        }
    }

    #[test]
    fn what_an_implementation_lacks_is_not_generated() {
        let mut generator = Generator::new(1, Grammar { web_socket: &[], http2: false, ..ALL });
        for _ in 0..500 {
            let connection = generator.next_connection(48);
            assert_ne!(connection.client, ClientHttp::Http2);
            assert!(connection.exchanges.iter().all(|e| e.messages.is_empty()));
        }
    }
}
