//! What generated exchanges are made of.

/// Methods of RFC 9110, section 9.3, of RFC 5789, and some that no proxy knows. CONNECT is not forwarded, and TRACE is often
/// refused on purpose.
pub(super) const METHODS: &[&str] = &[
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
    // Case matters (RFC 9110, section 9.1).
    "x-Unknown",
];
/// Pieces of a path. Dot segments and encoded unreserved characters are left out: a proxy may normalize them (RFC 3986,
/// sections 6.2.2.2 and 6.2.2.3; Envoy, `normalize_path`).
pub(super) const SEGMENTS: &[&str] = &[
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
pub(super) const QUERIES: &[&str] = &[
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
pub(super) const HEADERS: &[(&str, &str)] = &[
    ("authorization", "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="),
    ("authorization", "Bearer eyJhbGciOiJub25lIn0.e30."),
    ("cookie", "session=0123456789abcdef"),
    ("cookie", "a=1; b=\"two words\"; c="),
    ("accept", "text/html, application/json;q=0.9, */*;q=0.1"),
    ("accept-language", "de-CH, de;q=0.9, *;q=0.1"),
    ("accept-encoding", "br, gzip;q=0.5"),
    ("if-match", "\"abc\""),
    ("if-range", "W/\"abc\""),
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
    ("x-tab", "a\tb"),
    ("x_underscore", "kept"),
    ("x-api-key", "s3cr3t/+=="),
    ("x-mixed", "MiXeD; A=\"b  c\"/d %20"),
    ("x-json", "{\"a\": [1, 2], \"b\": \"c\"}"),
    ("x-amz-date", "20260101T000000Z"),
    ("soapaction", "\"urn:example#Do\""),
    ("via", "1.0 fred, 1.1 cache.example.com (comment)"),
    ("priority", "u=5, i"),
    ("idempotency-key", "\"8e03978e-40d5-43dd-bc93-6894a57f9324\""),
    ("sec-fetch-mode", "cors"),
    ("forwarded", "for=192.0.2.60;proto=http;by=203.0.113.43"),
    // Some servers take the target or the method from these. No route has a condition on them.
    ("x-original-url", "/elsewhere"),
    ("x-rewrite-url", "/elsewhere"),
    ("x-http-method-override", "DELETE"),
    ("x-many", "one"),
    ("x-many", "two"),
    ("x-many", "Three, four"),
];
/// Fields of one connection: what the Connection field names (RFC 9110, section 7.6.1). A proxy may write a field of the same name for
/// its own connection, so the values are ones that none would choose.
pub(super) const ONE_HOP: &[(&str, &str)] = &[
    ("keep-alive", "timeout=7, max=77"),
    ("proxy-connection", "keep-alive, x-one-hop"),
    ("te", "trailers, x-own;q=0.3"),
    ("x-one-hop", "1"),
    ("proxy-authorization", "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="),
    // An offer to go on in HTTP/2 (RFC 7540, section 3.2), which is never made over TLS (section 3.3).
    ("upgrade", "h2c"),
];
pub(super) const STATUSES: &[u16] = &[
    200, 200, 200, 200, 201, 202, 203, 204, 206, 226, 301, 302, 303, 304, 307, 308, 400, 401, 402, 403, 404,
    405, 409, 410, 412, 413, 416, 421, 422, 425, 429, 451, 500, 501, 507,
    // Unknown ones are forwarded, too (RFC 9110, section 15).
    299, 499, 599,
];
/// Answers' headers that a proxy must leave alone.
pub(super) const ANSWER_HEADERS: &[(&str, &str)] = &[
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
    ("www-authenticate", "Negotiate"),
    ("content-range", "bytes 0-99/200"),
    ("referrer-policy", "no-referrer"),
    ("location", "https://example.com/elsewhere?x=1"),
    ("location", "/relative"),
    ("content-language", "de"),
    ("content-location", "/elsewhere"),
    ("accept-ranges", "bytes"),
    ("allow", "GET, HEAD"),
    ("expires", "0"),
    ("server-timing", "db;dur=53.2, app"),
    ("content-disposition", "attachment; filename=\"a b.txt\""),
    ("strict-transport-security", "max-age=31536000"),
    ("access-control-allow-origin", "*"),
    ("retry-after", "120"),
    ("link", "</a>; rel=preload, </b>; rel=\"next\""),
    ("x-empty", ""),
    ("x_underscore", "kept"),
    ("via", "1.1 origin-cache"),
    ("x-many", "one"),
    ("x-many", "two"),
];

/// Requests' trailer fields.
pub(super) const TRAILERS: &[(&str, &str)] =
    &[("x-checksum", "sha-256=:AAAA:"), ("server-timing", "app;dur=12.5")];
/// What a client says over WebSocket.
pub(super) const MESSAGES: &[&str] =
    &["hello", "twice: hello", "", "{\"a\": [1, 2]}", "Grüezi, 世界", "twice: \u{0}"];
