//! Certificates and revocation lists from files of the proxy (`caCertificates`, `clientCertificate`, `privateKey`, `caCrl`).

use meshproof_harness::certificates::{Certified, Issued};
use meshproof_harness::claim::{Claim, Claims};
use meshproof_harness::mesh::{Mesh, Stop};

use super::pki::Pki;
use crate::placement::Placement;
use crate::presented::{Asked, Cases};

const SERVER: &str = "files.example";

fn at(label: &str) -> String {
    format!("{label}.files.origin.example")
}

pub(super) async fn story(mesh: &Mesh, pki: &Pki) -> Result<(), Stop> {
    mesh.step("Certificates from files");
    let [first, second, _] = &pki.roots;
    let mut cases = Cases::default();
    let (own, other, named) = (at("first-root"), at("second-root"), at("name-of-another"));
    cases.accepts_as_well("certificates-from-files", &own);
    cases.presents(&own, &pki.own(&own)?);
    cases.refuses(
        "certificates-from-files",
        &other,
        &pki.leaf(&other).issued_by(second)?.with_chain(&[]),
        &own,
    );
    cases.refuses("certificates-from-files", &named, &pki.own("another.example")?, &own);
    let mut revoked = pki.leaf(&at("revoked"));
    revoked.serial = vec![0x52, 0x09];
    let revoked = revoked.issued_by(first)?;
    cases.refuses("list-from-file", &at("revoked"), &revoked.with_chain(&[]), &own);
    // Envoy needs a list of every CA on the path once there is one list at all.
    let lists = first.revocation_list(&[&revoked])? + &second.revocation_list(&[])?;
    let server = cases.server(SERVER, &pki.own(SERVER)?);
    let server = if pki.one_way { server } else { server.requiring_clients_of(&pki.clients) };
    mesh.deploy_external(server).await?;
    let asked = in_force(mesh, &cases, (first, &lists), pki.client.clone()).await?;
    cases.judge(mesh, &asked)?;

    mesh.step("Three replacements");
    let mut rotations = Vec::new();
    for rotation in 1..=3 {
        let (root, accepted, refused) =
            if rotation % 2 == 1 { (second, &other, &own) } else { (first, &own, &other) };
        // A new client certificate each time, as in a renewal.
        let client = if pki.one_way { None } else { Some(pki.other_client()?) };
        let asked = in_force(mesh, &cases, (root, &lists), client).await?;
        let claim = asked.refused(refused).provided("the CA in the file", asked.accepted(accepted));
        rotations.push(asked.accepted(accepted).and(claim).of(&format!("replacement {rotation}")));
    }
    mesh.check("files-replaced", Claim::all(rotations))
}

/// Puts the certificates into the files, and asks every host.
async fn in_force<'a>(
    mesh: &'a Mesh,
    cases: &Cases,
    (root, lists): (&Certified, &str),
    client: Option<Issued>,
) -> Result<Asked<'a>, Stop> {
    let mut files = vec![("roots.pem", root.pem()), ("lists.pem", lists.to_owned())];
    if let Some(client) = &client {
        files.push(("client.pem", client.certificate_pem().to_owned()));
        files.push(("client-key.pem", client.key().0));
    }
    let manifest = if client.is_some() { "files-mutual" } else { "files-simple" };
    mesh.apply_with_files(manifest, "/etc/certificates", &files).await?;
    cases.ask(mesh, SERVER, Placement::of(mesh).client(mesh), client).await
}
