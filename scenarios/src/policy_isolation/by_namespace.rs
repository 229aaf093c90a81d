//! Two namespaces have a rule and a Secret each for the same host, under the same names.

use meshproof_harness::certificates::{Authority, Issued};
use meshproof_harness::claim::{Claim, Claims};
use meshproof_harness::mesh::{Mesh, Stop};
use meshproof_harness::secret::Secret;
use meshproof_harness::topology::{Topology, Workload};

use crate::placement::Placement;

const OTHER: &str = "payments";

/// The sidecar's topology, with a workload in another namespace.
pub(crate) fn topology() -> Topology {
    Placement::topology("sidecar").workload(Workload::new(OTHER).in_namespace(OTHER))
}

/// `own` is the certificate that the workload `sleep` presents to `host`.
pub(super) async fn story(mesh: &Mesh, host: &str, clients: &Authority, own: &Issued) -> Result<(), Stop> {
    mesh.step("A rule and a Secret of the same names in another namespace");
    let theirs = clients.client("payments.example.com").serial(3).issue()?;
    let secret = Secret::new(OTHER, "client-credential").key_pair(&theirs).ca(mesh.public_authority());
    mesh.create_secret(secret).await?;
    mesh.apply(&["by-namespace"]).await?;
    let server = mesh.external(host);
    let mut claims = Vec::new();
    for turn in 1..=2 {
        for (workload, certificate) in [("sleep", own), (OTHER, &theirs)] {
            let reply = mesh.workload(workload).get(&format!("http://{host}/")).await?;
            let presented = server.received(&reply).client_certificate(certificate);
            claims.push(reply.ok().and(presented).of(&format!("turn {turn}, workload {workload}")));
        }
    }
    mesh.check("client-certificate-by-namespace", Claim::all(claims))
}
