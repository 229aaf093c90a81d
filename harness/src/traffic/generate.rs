//! Makes exchanges from a seed.

use fastrand::Rng;

use super::answer::{AnswerFraming, AnswerSpec};
use super::exchange::GeneratedExchange;

/// Methods of RFC 9110, section 9.3, of RFC 5789, and some that no proxy knows. CONNECT is not forwarded, and TRACE is often
/// refused on purpose.
const METHODS: &[&str] = &[
    "GET",
    "GET",
    "GET",
    "HEAD",
    "POST",
    "PUT",
    "DELETE",
    "OPTIONS",
    "PATCH",
    "PROPFIND",
    "REPORT",
    "BREW",
    "X-UNKNOWN",
];
/// Pieces of a path. Dot segments and encoded unreserved characters are left out: a proxy may normalize them (RFC 3986,
/// sections 6.2.2.2 and 6.2.2.3; Envoy, `normalize_path`).
const SEGMENTS: &[&str] = &[
    "politics",
    "Politics",
    "a%20b",
    "%C3%A9t%C3%A9",
    "%E2%82%AC",
    "a;v=1",
    "x%2Fy",
    "a+b",
    "~me",
    "a:b",
    "a@b",
    "$&'()*,=",
    "",
    "very-long-segment",
    "..a",
    "%25",
];
const QUERIES: &[&str] = &[
    "",
    "q=1",
    "q=a%20b+c",
    "a=1&a=2&b",
    "x=%26%3D%2F",
    "next=https://example.com/?a=b",
    "empty=",
    "%C3%BC=%C3%A4",
    "a[]=1",
    "?",
    "q=%2e%2e",
];
/// Requests' headers that a proxy must leave alone.
const HEADERS: &[(&str, &str)] = &[
    ("authorization", "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="),
    ("authorization", "Bearer eyJhbGciOiJub25lIn0.e30."),
    ("cookie", "session=0123456789abcdef"),
    ("cookie", "a=1; b=\"two words\"; c="),
    ("accept-language", "de-CH, de;q=0.9, *;q=0.1"),
    ("accept-encoding", "br, gzip;q=0.5"),
    ("if-none-match", "\"abc\", W/\"def\""),
    ("if-modified-since", "Sat, 29 Oct 1994 19:43:31 GMT"),
    ("range", "bytes=0-99,200-"),
    ("referer", "https://example.com/from?here=1"),
    ("origin", "https://example.com"),
    ("content-language", "en, fr"),
    ("cache-control", "no-cache, max-age=0"),
    ("pragma", "no-cache"),
    ("prefer", "return=minimal; wait=10"),
    ("x-empty", ""),
    ("x-utf8", "Grüezi, 世界"),
    ("x_underscore", "kept"),
    ("x-api-key", "s3cr3t/+=="),
    ("x-mixed", "MiXeD; A=\"b  c\"/d %20"),
    ("x-json", "{\"a\": [1, 2], \"b\": \"c\"}"),
    ("x-amz-date", "20260101T000000Z"),
    ("soapaction", "\"urn:example#Do\""),
    ("x-many", "one"),
    ("x-many", "two"),
    ("x-many", "Three, four"),
];
const STATUSES: &[u16] = &[
    200, 200, 200, 200, 201, 202, 204, 206, 301, 302, 303, 304, 307, 308, 400, 401, 402, 403, 404, 409, 410,
    412, 413, 416, 422, 429, 451, 500, 501,
];
/// Answers' headers that a proxy must leave alone.
const ANSWER_HEADERS: &[(&str, &str)] = &[
    ("content-type", "text/html; charset=utf-8"),
    ("content-type", "application/json"),
    ("content-type", "text/event-stream"),
    ("content-encoding", "x-unknown"),
    ("set-cookie", "a=1; Path=/; Secure; HttpOnly"),
    ("set-cookie", "b=2; Expires=Wed, 09 Jun 2027 10:18:14 GMT"),
    ("set-cookie", "c="),
    ("etag", "\"33a64df5\""),
    ("last-modified", "Tue, 22 Feb 2022 22:22:22 GMT"),
    ("cache-control", "private, max-age=60"),
    ("vary", "accept-encoding, accept-language"),
    ("www-authenticate", "Basic realm=\"a, b\", Bearer"),
    ("location", "https://example.com/elsewhere?x=1"),
    ("location", "/relative"),
    ("content-language", "de"),
    ("content-disposition", "attachment; filename=\"a b.txt\""),
    ("strict-transport-security", "max-age=31536000"),
    ("access-control-allow-origin", "*"),
    ("retry-after", "120"),
    ("link", "</a>; rel=preload, </b>; rel=\"next\""),
    ("x-empty", ""),
    ("x_underscore", "kept"),
    ("x-many", "one"),
    ("x-many", "two"),
];

/// Makes exchanges. The same seed and hosts make the same ones in the same order.
#[derive(Debug)]
pub struct Generator {
    rng: Rng,
    hosts: Vec<String>,
}

impl Generator {
    /// For exchanges with these hosts; at least one.
    #[must_use]
    pub fn new(seed: u64, hosts: &[&str]) -> Self {
        Self { rng: Rng::with_seed(seed), hosts: hosts.iter().map(|h| (*h).to_owned()).collect() }
    }

    /// The next exchange.
    pub fn next_exchange(&mut self) -> GeneratedExchange {
        let host = self.one(&self.hosts.clone()).cloned().unwrap_or_default();
        let method = self.one(METHODS).copied().unwrap_or("GET").to_owned();
        let mut exchange =
            GeneratedExchange { method, target: self.target(), ..GeneratedExchange::plain(&host) };
        exchange.host_header = match self.rng.u8(0..12) {
            0 => Some(host.to_ascii_uppercase()),
            1 => Some(format!("{host}:80")),
            _ => None,
        };
        exchange.headers = self.headers();
        // A body of GET or HEAD has no meaning (RFC 9110, section 9.3.1), and a proxy may refuse it.
        if !matches!(exchange.method.as_str(), "GET" | "HEAD" | "OPTIONS" | "DELETE") {
            exchange.body = self.length();
            exchange.chunked = exchange.body > 0 && self.rng.bool();
        }
        exchange.answer = self.answer(exchange.method == "HEAD");
        if exchange.body == 0 && exchange.answer.is_whole() && self.rng.u8(0..8) == 0 {
            exchange.times = self.rng.usize(2..5);
        }
        exchange
    }

    fn one<'a, T>(&mut self, from: &'a [T]) -> Option<&'a T> {
        from.get(self.rng.usize(0..from.len().max(1)))
    }

    fn target(&mut self) -> String {
        let mut path = String::new();
        for _ in 0..self.rng.usize(1..5) {
            path.push('/');
            path.push_str(self.one(SEGMENTS).copied().unwrap_or_default());
        }
        match self.rng.u8(0..24) {
            0 => path.push_str(&"/long".repeat(self.rng.usize(1..1600))),
            1 => path.push('?'),
            2..12 => {
                path.push('?');
                path.push_str(self.one(QUERIES).copied().unwrap_or_default());
            }
            _ => {}
        }
        path
    }

    fn headers(&mut self) -> Vec<(String, String)> {
        let mut headers: Vec<(String, String)> = Vec::new();
        for _ in 0..self.rng.usize(0..8) {
            if let Some((name, value)) = self.one(HEADERS) {
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

    /// Small most of the time, and around the sizes of usual buffers else.
    fn length(&mut self) -> usize {
        match self.rng.u8(0..20) {
            0..6 => 0,
            6..16 => self.rng.usize(1..2000),
            16..19 => self.rng.usize(2000..70_000),
            _ => self.rng.usize(70_000..1_500_000),
        }
    }

    fn answer(&mut self, to_head: bool) -> AnswerSpec {
        let status = self.one(STATUSES).copied().unwrap_or(200);
        let mut headers: Vec<(String, String)> = Vec::new();
        for _ in 0..self.rng.usize(0..7) {
            if let Some((name, value)) = self.one(ANSWER_HEADERS) {
                let again = headers.iter().any(|(n, _)| n == name);
                if !again || matches!(*name, "set-cookie" | "x-many") {
                    headers.push(((*name).to_owned(), (*value).to_owned()));
                }
            }
        }
        let body = if matches!(status, 204 | 304) { 0 } else { self.length() };
        let framing = match self.rng.u8(0..30) {
            0 if body > 1 && !to_head => AnswerFraming::BreaksOff,
            1 => AnswerFraming::NoAnswer,
            2..10 => AnswerFraming::Pieces,
            _ => AnswerFraming::Length,
        };
        AnswerSpec { status, headers, body, framing }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_makes_the_same_exchanges_and_another_seed_others() {
        let make = |seed| {
            let mut generator = Generator::new(seed, &["a.example", "b.example"]);
            (0..200).map(|_| generator.next_exchange()).collect::<Vec<_>>()
        };
        assert_eq!(make(7), make(7));
        assert_ne!(make(7), make(8));
    }

    #[test]
    fn every_generated_exchange_can_be_sent_and_read_back_from_its_case() {
        let mut generator = Generator::new(3, &["a.example"]);
        for _ in 0..2000 {
            let exchange = generator.next_exchange();
            exchange.request().unwrap();
            assert_eq!(serde_json::from_str::<GeneratedExchange>(&exchange.case()).unwrap(), exchange);
            assert_eq!(
                AnswerSpec::from_header(&exchange.answer.to_header()).as_ref(),
                Some(&exchange.answer)
            );
        }
    }
}
