//! The paths of a file. Each has anchors, revocation lists and a name of its own, and so a Secret and a subset.

use meshproof_harness::claim::Claim;
use meshproof_harness::external::PrivateKeyPem;
use meshproof_harness::manifest::Resource;
use meshproof_harness::mesh::Stop;
use meshproof_harness::target::ConfigChange;
use meshproof_vectors::limbo::LimboVector;
use meshproof_vectors::{Expected, Group, Matrix, Vector};
use serde_json::{Value, json};

use super::matrix::{bounded_time, outcome};
use super::way::{DOMAIN, SERVER, Way};
use crate::presented::Cases;

/// How many paths are asked together: each is a Secret and a cluster of its own at the proxy.
const TOGETHER: usize = 64;
/// The subset of the path that shows that paths are accepted at all.
const CONTROL: &str = "control";

pub(super) async fn story(way: &Way<'_>, vectors: &[LimboVector]) -> Result<(), Stop> {
    let asked: Vec<&LimboVector> = vectors.iter().filter(|v| v.not_asked.is_none()).collect();
    for vector in vectors.iter().filter(|v| v.not_asked.is_some()) {
        let why = vector.not_asked.unwrap_or_default();
        way.mesh.note(format!("{} is not asked: {why}", vector.name));
    }
    way.mesh.apply(way.ways()).await?;
    let mut bounded = Vec::new();
    for (number, part) in asked.chunks(TOGETHER).enumerate() {
        way.mesh.step(&format!("Part {} of the file", number + 1));
        bounded.push(ask(way, part).await?);
    }
    way.mesh.check("bounded-time", Claim::all(bounded))
}

/// Judges each path. Returns whether the proxy took long for one of them.
async fn ask(way: &Way<'_>, part: &[&LimboVector]) -> Result<Claim, Stop> {
    let mesh = way.mesh;
    let matrix = Matrix::new(DOMAIN)?;
    let control: Vector = Group::all()
        .iter()
        .flat_map(Group::vectors)
        .find(|v| v.expected == Expected::Accepted)
        .ok_or_else(|| Stop::Suite("no path must be accepted".to_owned()))?;
    let control_host = format!("{CONTROL}.{DOMAIN}");
    let presented = matrix.make(&control)?;
    let mut cases = Cases::default();
    let mut secrets = vec![way.secret(CONTROL).ca_bundle([matrix.anchor()]).into_resource()];
    cases.asks(&control_host, &presented.chain);
    let mut subsets = vec![subset(way, CONTROL, &control_host, Some(&matrix.host(&control)))];
    let mut routes = vec![route(CONTROL, &control_host)];
    // A label of a host has at most 63 characters, and the ids of vectors have more.
    let named: Vec<(String, String)> =
        (0..part.len()).map(|n| (format!("v{n}"), format!("v{n}.{DOMAIN}"))).collect();
    for (vector, (name, host)) in part.iter().zip(&named) {
        cases.asks_chain(host, &vector.chain, PrivateKeyPem(vector.key.clone()));
        let secret = way.secret(name).ca_text(&vector.anchors);
        let secret = if vector.lists.is_empty() { secret } else { secret.revocation_list(&vector.lists) };
        secrets.push(secret.into_resource());
        subsets.push(subset(way, name, host, vector.peer_name.as_deref()));
        routes.push(route(name, host));
    }
    let certificate = way.clients.server(SERVER).issue()?;
    let server = cases.server(SERVER, &certificate);
    let server = if way.client.is_some() { server.requiring_clients_of(&way.clients) } else { server };
    mesh.deploy_external(server).await?;
    let mut apply = secrets;
    apply.extend(changed(way, way.origination(), "subsets", &subsets)?);
    apply.extend(changed(way, way.routes(), "http", &routes)?);
    mesh.change(ConfigChange { apply, delete: Vec::new() }).await?;

    let asked = cases.ask(mesh, SERVER, way.placement.client(mesh), way.client.clone()).await?;
    for (vector, (_, host)) in part.iter().zip(&named) {
        mesh.check(&vector.id, outcome(&asked, host, vector.expected, Some(&control_host)))?;
    }
    bounded_time(way, &asked).await
}

/// A fixture's resources with another field.
fn changed(way: &Way<'_>, fixture: &str, field: &str, value: &[Value]) -> Result<Vec<Resource>, Stop> {
    let mut resources = way.mesh.fixture(fixture, "default")?;
    for resource in &mut resources {
        if let Some(spec) = resource.0.get_mut("spec").and_then(Value::as_object_mut) {
            spec.insert(field.to_owned(), value.to_vec().into());
        }
    }
    Ok(resources)
}

fn subset(way: &Way<'_>, name: &str, host: &str, peer_name: Option<&str>) -> Value {
    let mode = if way.client.is_some() { "MUTUAL" } else { "SIMPLE" };
    let mut tls = json!({"mode": mode, "credentialName": name, "sni": host});
    if let Some(peer_name) = peer_name {
        tls["subjectAltNames"] = json!([peer_name]);
    }
    json!({"name": name, "trafficPolicy": {"tls": tls}})
}

fn route(subset: &str, host: &str) -> Value {
    json!({
        "match": [{"authority": {"exact": host}}],
        "route": [{"destination": {"host": SERVER, "subset": subset, "port": {"number": 80}}}],
    })
}
