//! The suite's own paths, made afresh.

use meshproof_harness::certificates::Certified;
use meshproof_harness::claim::{Claim, Claims};
use meshproof_harness::mesh::Stop;
use meshproof_vectors::{Expected, Group, Matrix, Vector};

use super::{DOMAIN, SECRET, SERVER, Way};
use crate::presented::{Asked, Cases};

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
        if is_control || judged.iter().any(|v| v.id == vector.id) {
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
    Ok(())
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
