//! The suite's own paths, made afresh.

use std::time::Duration;

use meshproof_harness::certificates::Certified;
use meshproof_harness::claim::{Claim, Claims};
use meshproof_harness::mesh::Stop;
use meshproof_vectors::{Expected, Group, Matrix, Vector};

use super::way::{DOMAIN, SECRET, SERVER, Way};
use crate::presented::{Asked, Cases, url};

/// The longest that a path may take.
const LIMIT: Duration = Duration::from_secs(1);
/// How many times as long as another path a slow one takes.
const TIMES: u32 = 4;
/// How often a slow path is asked again.
const TRIES: usize = 3;

pub(super) async fn story(way: &Way<'_>, full: bool) -> Result<(), Stop> {
    let mesh = way.mesh;
    mesh.step("A server with a certificate path for each rule");
    let matrix = Matrix::new(DOMAIN)?;
    let all: Vec<Vector> = Group::all().iter().flat_map(Group::vectors).collect();
    let judged: Vec<&Vector> = all.iter().filter(|v| full || mesh.declares(v.id)).collect();
    let mut cases = Cases::default();
    let mut anchors = Vec::new();
    for vector in &all {
        let is_control = judged.iter().any(|v| v.control == Some(vector.id));
        if is_control || vector.costly || judged.iter().any(|v| v.id == vector.id) {
            let presented = matrix.make(vector)?;
            anchors.extend(presented.anchors);
            cases.asks(&matrix.host(vector), &presented.chain);
        }
    }
    let certificate = way.clients.server(SERVER).issue()?;
    let server = cases.server(SERVER, &certificate);
    let server = if way.client.is_some() { server.requiring_clients_of(&way.clients) } else { server };
    mesh.deploy_external(server).await?;

    mesh.step("Origination");
    let bundle: Vec<&Certified> = std::iter::once(matrix.anchor()).chain(&anchors).collect();
    mesh.create_secret(way.secret(SECRET).ca_bundle(bundle)).await?;
    mesh.apply(way.ways()).await?;
    mesh.apply(&[way.routes(), way.origination()]).await?;
    let asked = cases.ask(mesh, SERVER, way.placement.client(mesh), way.client.clone()).await?;

    mesh.step("Path validation");
    for vector in judged {
        let control = all.iter().find(|v| vector.control == Some(v.id)).map(|v| matrix.host(v));
        mesh.check(vector.id, outcome(&asked, &matrix.host(vector), vector.expected, control.as_deref()))?;
    }
    mesh.check("bounded-time", bounded_time(way, &asked).await?)
}

/// No path takes the proxy long. On a busy machine every path does, so a slow one is asked again, each time beside a typical one with the
/// same outcome. It is slow only if its fastest exchange takes several times as long as the fastest typical one: load makes an exchange
/// longer, never shorter.
pub(super) async fn bounded_time(way: &Way<'_>, asked: &Asked<'_>) -> Result<Claim, Stop> {
    let mesh = way.mesh;
    let client = way.placement.client(mesh);
    let (slowest, reply) = asked.slowest().ok_or_else(|| Stop::Suite("no path was asked".to_owned()))?;
    let mut judged = reply.ended_within(reply.took().max(LIMIT)).of(slowest);
    for host in asked.slower_than(LIMIT) {
        let Some(typical) = asked.typical_like(host) else { continue };
        let mut fastest = client.get(&url(host)).await?;
        let mut beside = client.get(&url(typical)).await?.took();
        for _ in 1..TRIES {
            // Where a typical one takes about as long, the proxy is slow with every path, and asking again shows nothing new.
            if fastest.took() <= LIMIT.max(beside * TIMES / 2) {
                break;
            }
            let again = client.get(&url(host)).await?;
            fastest = if again.took() < fastest.took() { again } else { fastest };
            beside = beside.min(client.get(&url(typical)).await?.took());
        }
        let limit = LIMIT.max(beside * TIMES);
        if fastest.took() > limit {
            judged = fastest.ended_within(limit).of(host);
            break;
        }
    }
    Ok(judged)
}

/// The outcome of a path, in one of three forms: agree, accepts what must be refused, refuses what must be accepted.
pub(super) fn outcome(asked: &Asked<'_>, host: &str, expected: Expected, control: Option<&str>) -> Claim {
    let (accepted, refused) = (asked.accepted(host), asked.refused(host));
    match (expected, control) {
        (Expected::Accepted, _) => accepted.rather_than("refuses what must be accepted", refused),
        (Expected::Refused, None) => refused.rather_than("accepts what must be refused", accepted),
        (Expected::Refused, Some(control)) => refused
            .rather_than("accepts what must be refused", accepted)
            .provided(&format!("the path of {control}"), asked.accepted(control)),
    }
}
