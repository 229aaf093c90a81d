//! Faults that a route injects (`fault` of an HTTPRoute). The plan passes them over, because they change nothing about TLS; what
//! happens to a request depends on them.

use serde_json::Value;

use crate::raw;
use crate::request::RouteOf;
use crate::world::World;

/// What a route does to its requests besides routing them.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Fault {
    /// The status of `abort`, and the share of the requests that get it, in percent.
    pub(crate) abort: Option<(u16, f64)>,
    /// How long `delay` lets requests wait, in words.
    pub(crate) delay: Option<String>,
}

/// The fault that a route injects, and where it is written.
pub(crate) fn fault_of<'r>(world: &World, route: &'r RouteOf) -> Option<(&'r RouteOf, Fault)> {
    let service = world.get(&route.service)?;
    let written = service.0.pointer(&format!("{}/fault", route.pointer()))?;
    let fault = Fault { abort: abort(written), delay: delay(written) };
    (fault.abort.is_some() || fault.delay.is_some()).then_some((route, fault))
}

/// `translateFault` (pilot/pkg/networking/core/route/route.go): without a percentage every request is aborted; with
/// `grpcStatus`, the answer is 200 with that status in it, so that only `httpStatus` is a status here.
fn abort(fault: &Value) -> Option<(u16, f64)> {
    let abort = fault.get("abort")?;
    let status = raw::port(abort, "/httpStatus").unwrap_or(200);
    share(abort).map(|share| (status, share))
}

fn delay(fault: &Value) -> Option<String> {
    let delay = fault.get("delay")?;
    let time = [raw::text(delay, "/fixedDelay"), raw::text(delay, "/exponentialDelay")];
    let time = time.into_iter().find(|t| !t.is_empty())?;
    share(delay).map(|share| {
        if share >= 100.0 { time.to_owned() } else { format!("{time} for {}", share_text(share)) }
    })
}

/// The share of requests in percent; none: no request.
fn share(fault: &Value) -> Option<f64> {
    let share = match (fault.pointer("/percentage"), fault.get("percent")) {
        (Some(percentage), _) => percentage.get("value").and_then(Value::as_f64).unwrap_or_default(),
        (None, Some(percent)) => percent.as_f64().unwrap_or_default(),
        (None, None) => 100.0,
    };
    (share > 0.0).then_some(share)
}

/// A share for people.
pub(crate) fn share_text(share: f64) -> String {
    if share >= 100.0 { "every request".to_owned() } else { format!("{share} % of the requests") }
}
