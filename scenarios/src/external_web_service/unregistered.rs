//! A host of which the mesh knows nothing, on a port on which it knows others: then the proxy reads the requests before it blocks
//! them.

use meshproof_harness::claim::{Claim, Claims};
use meshproof_harness::mesh::{Mesh, Stop};
use meshproof_harness::workload::Method;

use crate::sites;

const HOST: &str = "unregistered.example";

/// With every method, a request fails and does not reach the host. None where hosts cannot be invented.
pub(super) async fn with_every_method(mesh: &Mesh) -> Result<Option<Claim>, Stop> {
    if !mesh.can_invent_hosts() {
        return Ok(None);
    }
    let certificate = mesh.public_authority().server(HOST).issue()?;
    let server = mesh.deploy_external(sites::origin(HOST, &certificate).serving_in_clear()).await?;
    let mut claims = Vec::new();
    for method in
        [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::OPTIONS]
    {
        let reply =
            mesh.workload("details").method(method.clone()).get("http://unregistered.example/").await?;
        let blocked = reply.fails().and_outside(server.during(&reply).nothing());
        claims.push(blocked.of(&format!("{method} to an unregistered host")));
    }
    Ok(Some(Claim::all(claims)))
}
