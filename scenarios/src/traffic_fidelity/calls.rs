//! grpc.io, "gRPC over HTTP2": a call is one HTTP/2 stream, on which messages pass both ways until its trailers say how it ended.

use std::time::Duration;

use meshproof_harness::claim::{Claim, Claims};
use meshproof_harness::external_server::ExternalServer;
use meshproof_harness::grpc::{
    CANCELLED, Call, DEADLINE_EXCEEDED, ECHO, FAIL, LATE, NOT_FOUND, OK, REASON, TIMEOUT,
};
use meshproof_harness::mesh::{Client, External, Mesh, Stop};

use crate::placement::Placement;

/// The messages of a stream.
const TALK: [&str; 3] = ["first", "second", "third"];

pub(super) async fn story(mesh: &Mesh, client: &Client<'_>, server: &External<'_>) -> Result<(), Stop> {
    mesh.step("gRPC over HTTP2");
    let echo = format!("http://http2.example.com{ECHO}");
    let unary = client.clone().calling(Call::of(&["hello"])).get(&echo).await?;
    let received = server.received(&unary).version("HTTP/2").header("te", "trailers");
    let received = received.header("content-type", "application/grpc").messages(&["hello".to_owned()]);
    let answered: Claim = unary.ok().messages(&["hello"]).trailer("grpc-status", OK).into();
    let failed = client.clone().calling(Call::of(&["hello"]));
    let failed = failed.get(&format!("http://http2.example.com{FAIL}")).await?;
    let failure = failed.ok().messages(&["hello"]).trailer("grpc-status", NOT_FOUND);
    let failure: Claim = failure.trailer("grpc-message", REASON).into();
    mesh.check("grpc-unary", answered.and(received).and(failure.of("a call that fails")))?;

    let streams = client.clone().calling(Call::of(&TALK)).get(&echo).await?;
    let answered: Claim = streams.ok().messages(&TALK).trailer("grpc-status", OK).into();
    mesh.check("grpc-streams", answered.and(server.received(&streams).messages(&TALK.map(str::to_owned))))?;

    let impatient = client.clone().header(TIMEOUT, "5S").calling(Call::of(&["hello"]));
    let late = impatient.get(&format!("http://http2.example.com{LATE}")).await?;
    let answered: Claim = late.ok().header("grpc-status", DEADLINE_EXCEEDED).into();
    let deadline = server.received(&late).grpc_timeout(Duration::from_secs(5), late.took());
    mesh.check("grpc-deadline", answered.and(deadline))?;

    let cancelled = client.clone().calling(Call::of(&TALK).cancelled()).get(&echo).await?;
    let noticed = server.received(&cancelled).outcome(CANCELLED);
    mesh.check("grpc-cancellation", cancelled.cancelled_after(TALK.len()).and(noticed))
}

/// `useClientProtocol`. The sidecar decides which version an egress gateway sees, so that nothing is asked there.
pub(super) async fn versions(mesh: &Mesh, client: &Client<'_>, either: ExternalServer) -> Result<(), Stop> {
    mesh.step("Settings for the client's protocol");
    let manifests: &[&str] = match Placement::of(mesh) {
        Placement::Sidecar => &["client-protocol"],
        Placement::IngressGateway => &["client-protocol", "client-protocol-at-gateway"],
        Placement::EgressGateway => return Ok(()),
    };
    let either = mesh.deploy_external(either).await?;
    mesh.apply(manifests).await?;
    let url = "http://either.example.com/bytes/1000";
    let (old, new) = (client.get(url).await?, client.clone().http2().get(url).await?);
    let of_old = old.ok().and(either.received(&old).version("HTTP/1.1"));
    let of_new = new.ok().and(either.received(&new).version("HTTP/2").alpn(Some("h2")));
    mesh.check("client-protocol", of_old.of("HTTP/1.1").and(of_new.of("HTTP/2")))
}
