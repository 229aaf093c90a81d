//! Saboteurs that change responses.

use bytes::Bytes;
use http::HeaderValue;
use hyper::body::Frame;
use meshproof_harness::grpc;

use crate::hooks::{BodyFilter, BodyPosition, Filtered};
use crate::variants::definition::{Definition, VariantBehaviour};
use crate::variants::placement::Placement;

pub(super) const TABLE: &[Definition] = &[
    Definition::new(
        "drop-grpc-encoding",
        "Drops the header that says how the messages of a gRPC answer are encoded.",
        VariantBehaviour::ResponseHead(|head| drop(head.headers.remove(grpc::ENCODING))),
    )
    .also_at(&Placement::ALL),
    Definition::new(
        "drop-trailers",
        "Drops the trailers of responses.",
        VariantBehaviour::ResponseBody(|| {
            each(|frame, _| if frame.is_trailers() { Filtered::End } else { Filtered::Pass(frame) })
        }),
    )
    .also_at(&Placement::ALL),
    Definition::new(
        "truncate-large-body",
        "Drops what exceeds 64 KiB of a response's body.",
        VariantBehaviour::ResponseBody(|| {
            each(|frame, at| match frame.is_data() && at.sent > 64 * 1024 {
                true => Filtered::Abort,
                false => Filtered::Pass(frame),
            })
        }),
    )
    .also_at(&Placement::ALL),
    Definition::new(
        "cut-chunked-body",
        "Ends a response without announced length after its first piece, as if it were complete.",
        VariantBehaviour::ResponseBody(|| {
            each(|frame, at| match frame.is_data() && !at.length_known && !at.last {
                true => Filtered::Last(frame),
                false => Filtered::Pass(frame),
            })
        }),
    )
    .also_at(&Placement::ALL),
    Definition::new(
        "drop-long-response-headers",
        "Drops the fields of responses that have more than 999 bytes.",
        VariantBehaviour::ResponseHead(|head| {
            let long = head.headers.iter().filter(|(_, value)| value.len() > 999);
            for name in long.map(|(name, _)| name.clone()).collect::<Vec<_>>() {
                head.headers.remove(name);
            }
        }),
    )
    .also_at(&Placement::ALL),
    Definition::new(
        "calls-always-succeed",
        "Ends every gRPC call with the status OK.",
        VariantBehaviour::ResponseBody(|| {
            each(|mut frame, _| {
                if let Some(status) = frame.trailers_mut().and_then(|trailers| trailers.get_mut(grpc::STATUS))
                {
                    *status = HeaderValue::from_static(grpc::OK);
                }
                Filtered::Pass(frame)
            })
        }),
    )
    .also_at(&Placement::ALL),
];

/// A filter without state.
struct EachFrame<F>(F);

impl<F> BodyFilter for EachFrame<F>
where
    F: Fn(Frame<Bytes>, &BodyPosition) -> Filtered + Send + Sync,
{
    fn frame(&mut self, frame: Frame<Bytes>, position: &BodyPosition) -> Filtered {
        (self.0)(frame, position)
    }
}

fn each(filter: fn(Frame<Bytes>, &BodyPosition) -> Filtered) -> Box<dyn BodyFilter> {
    Box::new(EachFrame(filter))
}
