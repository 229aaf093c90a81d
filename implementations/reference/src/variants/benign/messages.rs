//! Unusual requests, responses and refusals.

use std::sync::Arc;

use http::header::{self, HeaderMap, HeaderValue};
use http::{StatusCode, response};
use hyper::client::conn::http1;
use hyper_util::server::conn::auto::Http1Builder;

use crate::failure::UpstreamFailure;
use crate::hooks::{OutgoingHead, ProxyHooks, UpstreamRefusal};
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
