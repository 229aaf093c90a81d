//! Answers of the proxy's own.

use http::{HeaderValue, Response, StatusCode, header};

use super::headers::SERVER_NAME;
use crate::failure::UpstreamFailure;
use crate::hooks::{ProxyHooks, UpstreamRefusal};
use crate::response_body::{ResponseBody, ResponseEnd};

/// The connection is closed without an answer.
#[derive(Debug, thiserror::Error)]
#[error("the connection is closed without an answer")]
pub(super) struct ClosedWithoutAnswer;

/// What a request is answered with.
pub(super) type HttpAnswer = Result<Response<ResponseBody>, ClosedWithoutAnswer>;

/// An answer with a text. `bodiless`: the request's method is HEAD.
pub(super) fn local_reply(
    status: StatusCode,
    text: String,
    bodiless: bool,
    mut end: ResponseEnd,
) -> Response<ResponseBody> {
    end.record.entry.status = status.as_u16();
    let has_text = !text.is_empty();
    let length = text.len();
    let mut response = Response::new(ResponseBody::text(text, bodiless, end));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    if has_text {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    }
    if bodiless || has_text {
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    headers.insert(header::SERVER, SERVER_NAME);
    response
}

/// Answers a request that got no response from its upstream.
pub(super) fn upstream_failed(
    failure: &UpstreamFailure,
    bodiless: bool,
    mut end: ResponseEnd,
    hooks: &dyn ProxyHooks,
) -> HttpAnswer {
    let entry = &mut end.record.entry;
    entry.flag = Some(failure.flag());
    entry.details = Some(failure.details().into());
    entry.failure = failure.reason().map(str::to_owned);
    match hooks.refusal(failure) {
        UpstreamRefusal::Status(status) => Ok(local_reply(status, failure.body(), bodiless, end)),
        UpstreamRefusal::Close => Err(ClosedWithoutAnswer),
    }
}
