//! Istio reference, VirtualService, "HTTPMatchRequest" and "HTTPRewrite": which route a request takes, and what the route makes of its
//! path. Each route sets a header of its own, and the ledger knows from the plan which one must arrive.

use meshproof_harness::mesh::{Client, Mesh, Stop};
use meshproof_harness::traffic::{Aspect, GeneratedConnection, GeneratedExchange};

use super::RULED;

/// Targets at and just beside the conditions of the routes.
const TARGETS: [&str; 31] = [
    "/match/order/exact",
    "/match/order",
    "/match/exact",
    "/match/exact/",
    "/match/exact?q=1",
    "/match/exac",
    "/match/exact;v=1",
    "/match/Exact",
    "/match/r1",
    "/match/r12?q=1",
    "/match/r",
    "/match/r1x",
    "/match/xr1",
    "/match/case",
    "/MATCH/CASE",
    "/match/case/",
    "/match/prefix/",
    "/match/prefix",
    "/match/prefix/a%2Fb/c?next=/match/prefix/",
    "/match/prefix/match/prefix/",
    "/match/items/7/of/match/items/8?q=/match/items/9",
    "/match/items/",
    "/match/method",
    "/match/query",
    "/match/query?v=2",
    "/match/query?v=20",
    "/match/query?a=1&v=2",
    "/match/query?V=2",
    "/match/query?v=35",
    "/match/query?v=3",
    "/match/query?v=350",
];
const METHODS: [&str; 4] = ["POST", "PUT", "HEAD", "DELETE"];
/// Values of `x-kind`, on which routes have conditions of each kind.
const KINDS: [&str; 10] = ["a", "A", "ab", "b", "bcd", "xb", "c1", "c1x", "c", "d"];

pub(super) async fn story(mesh: &Mesh, client: &Client<'_>) -> Result<(), Stop> {
    mesh.step("Routes with conditions");
    let at =
        |target: &str| GeneratedExchange { target: target.to_owned(), ..GeneratedExchange::plain(RULED) };
    let with = |target: &str, headers: &[(&str, &str)]| {
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        GeneratedExchange { headers: headers.collect(), ..at(target) }
    };
    let by = |method: &str| GeneratedExchange { method: method.to_owned(), ..at("/match/method") };
    let of_kind = |kind: &str| with("/match/header", &[("x-kind", kind)]);
    let others = [
        with("/match/header", &[("x-kind", "d"), ("x-more", "1")]),
        with("/match/header", &[("x-kind", "d"), ("x-more", "2")]),
        with("/match/without", &[("x-debug", "1")]),
        with("/match/without", &[("x-debug", "10")]),
        at("/match/without"),
    ];
    let exchanges =
        TARGETS.map(at).into_iter().chain(METHODS.map(by)).chain(KINDS.map(of_kind)).chain(others);
    let connections: Vec<_> = exchanges.map(GeneratedConnection::of).collect();
    let asked = client.quiet(&connections).await?;
    mesh.check("routes-matched", asked.accounted_for(Aspect::Preservation))
}
