//! Unusual requests, responses and refusals.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{StatusCode, response};
use hyper::body::Frame;
use hyper::client::conn::http1;
use hyper_util::server::conn::auto::Http1Builder;

use crate::failure::UpstreamFailure;
use crate::hooks::{BodyFilter, BodyPosition, Filtered, OutgoingHead, ProxyHooks, UpstreamRefusal};
use crate::request_body::RequestBody;
use crate::tasks::PlaneTasks;
use crate::variants::definition::{Definition, VariantBehaviour};

pub(super) const TABLE: &[Definition] = &[
    Definition::new(
        "extra-via",
        "Adds Via to requests and responses (RFC 9110 section 7.6.3).",
        VariantBehaviour::Proxy(|_| Arc::new(ExtraVia)),
    ),
    Definition::new(
        "title-case-headers",
        "Writes header names in title case (RFC 9110 section 5.1: names are case-insensitive).",
        VariantBehaviour::Proxy(|_| Arc::new(TitleCaseHeaders)),
    ),
    Definition::new(
        "own-server-header",
        "Replaces the server's Server header (Envoy's server_header_transformation).",
        VariantBehaviour::ResponseHead(|head| {
            head.headers.insert(header::SERVER, HeaderValue::from_static("unusual-proxy"));
        }),
    ),
    Definition::new(
        "refuse-with-502",
        "Answers 502 where Envoy answers 503 (RFC 9110 section 15.6.3).",
        VariantBehaviour::Proxy(|_| Arc::new(RefuseWith502)),
    ),
    Definition::new(
        "refuse-by-closing",
        "Closes the client's connection where Envoy answers 503.",
        VariantBehaviour::Proxy(|_| Arc::new(RefuseByClosing)),
    ),
    Definition::new(
        "tracing-headers",
        "Adds trace and forwarding headers to requests (Envoy, \"HTTP header manipulation\"; W3C Trace Context).",
        VariantBehaviour::RequestHead(|head| {
            for (name, value) in [
                ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
                ("tracestate", "unusual=1"),
                ("x-b3-sampled", "1"),
                ("forwarded", "for=192.0.2.1"),
                ("x-envoy-expected-rq-timeout-ms", "15000"),
            ] {
                head.headers.insert(name, HeaderValue::from_static(value));
            }
            head.headers.append("x-forwarded-for", HeaderValue::from_static("192.0.2.1"));
        }),
    ),
    Definition::new(
        "own-date-header",
        "Replaces the server's Date header (RFC 9110 section 6.6.1: a recipient that caches or forwards may add it).",
        VariantBehaviour::ResponseHead(|head| {
            head.headers.insert(header::DATE, HeaderValue::from_static("Thu, 05 Nov 2026 10:00:00 GMT"));
        }),
    ),
    Definition::new(
        "envoy-response-headers",
        "Adds Envoy's own headers to responses (Envoy, \"Router\": x-envoy-attempt-count and others).",
        VariantBehaviour::ResponseHead(|head| {
            for (name, value) in [("x-envoy-attempt-count", "1"), ("x-envoy-decorator-operation", "any")] {
                head.headers.insert(name, HeaderValue::from_static(value));
            }
        }),
    ),
    Definition::new(
        "reversed-header-order",
        "Writes fields of different names in the reverse order (RFC 9110 section 5.3).",
        VariantBehaviour::Proxy(|_| Arc::new(ReversedHeaderOrder)),
    ),
    Definition::new(
        "reversed-trailer-order",
        "Writes trailer fields of different names in the reverse order (RFC 9110 section 5.3).",
        VariantBehaviour::Proxy(|_| Arc::new(ReversedTrailerOrder)),
    ),
    Definition::new(
        "combined-field-lines",
        "Joins the lines of a field to a list, but for Set-Cookie and Cookie (RFC 9110 section 5.3).",
        VariantBehaviour::Proxy(|_| Arc::new(CombinedFieldLines)),
    ),
    Definition::new(
        "pragma-as-cache-control",
        "Adds Cache-Control: no-cache to requests with Pragma: no-cache (Go, net/http; RFC 9111 section 5.4).",
        VariantBehaviour::RequestHead(|head| {
            let asked = head.headers.get(header::PRAGMA).is_some_and(|value| value == "no-cache");
            if asked && !head.headers.contains_key(header::CACHE_CONTROL) {
                head.headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
            }
        }),
    ),
    Definition::new(
        "keep-alive-header",
        "Adds Keep-Alive to responses (RFC 9110 section 7.6.1: it belongs to the connection).",
        VariantBehaviour::ResponseHead(|head| {
            head.headers.insert("keep-alive", HeaderValue::from_static("timeout=60"));
        }),
    ),
];

struct ExtraVia;

impl ExtraVia {
    fn add(headers: &mut HeaderMap) {
        headers.append(header::VIA, HeaderValue::from_static("1.1 unusual-proxy"));
    }
}

impl ProxyHooks for ExtraVia {
    fn request_head(&self, head: &mut OutgoingHead<'_>) {
        Self::add(head.headers);
    }

    fn response_head(&self, head: &mut response::Parts) {
        Self::add(&mut head.headers);
    }
}

struct TitleCaseHeaders;

impl ProxyHooks for TitleCaseHeaders {
    fn http1_server(&self, settings: &mut Http1Builder<'_, PlaneTasks>) {
        settings.title_case_headers(true);
    }

    fn http1_client(&self, settings: &mut http1::Builder) {
        settings.title_case_headers(true);
    }
}

struct RefuseWith502;

impl ProxyHooks for RefuseWith502 {
    fn refusal(&self, failure: &UpstreamFailure) -> UpstreamRefusal {
        let status = failure.status();
        let unavailable = status == StatusCode::SERVICE_UNAVAILABLE;
        UpstreamRefusal::Status(if unavailable { StatusCode::BAD_GATEWAY } else { status })
    }
}

struct RefuseByClosing;

impl ProxyHooks for RefuseByClosing {
    fn refusal(&self, failure: &UpstreamFailure) -> UpstreamRefusal {
        let status = failure.status();
        if status == StatusCode::SERVICE_UNAVAILABLE {
            UpstreamRefusal::Close
        } else {
            UpstreamRefusal::Status(status)
        }
    }
}

struct ReversedHeaderOrder;

fn reverse(headers: &mut HeaderMap) {
    let mut names: Vec<HeaderName> = headers.keys().cloned().collect();
    names.reverse();
    let mut reversed = HeaderMap::with_capacity(headers.len());
    for name in names {
        // The values of one field keep their order.
        for value in headers.get_all(&name) {
            reversed.append(name.clone(), value.clone());
        }
    }
    *headers = reversed;
}

impl ProxyHooks for ReversedHeaderOrder {
    fn request_head(&self, head: &mut OutgoingHead<'_>) {
        reverse(head.headers);
    }

    fn response_head(&self, head: &mut response::Parts) {
        reverse(&mut head.headers);
    }
}

struct ReversedTrailerOrder;

impl ProxyHooks for ReversedTrailerOrder {
    fn request_body(&self, _headers: &mut HeaderMap, body: RequestBody) -> RequestBody {
        body.with_trailers(reverse)
    }

    fn response_body(&self, _head: &response::Parts) -> Option<Box<dyn BodyFilter>> {
        Some(Box::new(Self))
    }
}

impl BodyFilter for ReversedTrailerOrder {
    fn frame(&mut self, mut frame: Frame<Bytes>, _position: &BodyPosition) -> Filtered {
        if let Some(trailers) = frame.trailers_mut() {
            reverse(trailers);
        }
        Filtered::Pass(frame)
    }
}

struct CombinedFieldLines;

fn combine(headers: &mut HeaderMap) {
    let several = |name: &&HeaderName| {
        headers.get_all(*name).iter().count() > 1 && ![header::SET_COOKIE, header::COOKIE].contains(name)
    };
    let names: Vec<HeaderName> = headers.keys().filter(several).cloned().collect();
    for name in names {
        let values: Vec<&[u8]> = headers.get_all(&name).iter().map(HeaderValue::as_bytes).collect();
        if let Ok(list) = HeaderValue::from_bytes(&values.join(&b", "[..])) {
            headers.insert(name, list);
        }
    }
}

impl ProxyHooks for CombinedFieldLines {
    fn request_head(&self, head: &mut OutgoingHead<'_>) {
        combine(head.headers);
    }

    fn response_head(&self, head: &mut response::Parts) {
        combine(&mut head.headers);
    }
}
