//! Istio reference, DestinationRule, "ClientTLSSettings": the certificates of daily life. A proxy that opens TLS takes over the
//! application's verification of certificates, with all that servers present and Secrets hold: chains, bundles, names, dates,
//! revocation lists. One server holds all certificates; the proxy must accept or refuse each as RFC 5280 and RFC 9525 say.

mod chains;
mod files;
mod identity;
mod listed;
mod lists;
mod names;
mod pki;
mod secrets;

use meshproof_harness::feature::Feature;
use meshproof_harness::mesh::{Mesh, Stop};

use self::pki::{Pki, SERVER};
use crate::placement::Placement;
use crate::presented::Cases;

pub(crate) async fn story(mesh: &Mesh) -> Result<(), Stop> {
    let placement = Placement::of(mesh);
    let mutual = mesh.configuration().ends_with("-mutual");

    mesh.step("A server with certificates of every kind");
    let pki = Pki::new(mesh)?;
    let mut cases = Cases::default();
    chains::add(&mut cases, &pki)?;
    names::add(&mut cases, &pki)?;
    secrets::add(&mut cases, &pki)?;
    lists::add(&mut cases, &pki)?;
    let server = cases.server(SERVER, &pki.own(SERVER)?);
    mesh.deploy_external(if mutual { server.requiring_clients_of(&pki.clients) } else { server }).await?;

    mesh.step("Origination");
    let ways: &[&str] = match placement {
        Placement::Sidecar => &["servers", "routes-at-sidecar"],
        Placement::EgressGateway => &["servers", "egress-gateway", "routes-at-gateway"],
        Placement::IngressGateway => &["servers", "ingress-gateway", "routes-at-gateway"],
    };
    let originate = match (mutual, placement) {
        (false, Placement::Sidecar) => "simple-at-sidecar",
        (false, _) => "simple-at-gateway",
        (true, Placement::Sidecar) => "mutual-at-sidecar",
        (true, _) => "mutual-at-gateway",
    };
    let mut held = secrets::all(&pki, placement.namespace())?;
    held.extend(lists::secrets(&pki, placement.namespace())?);
    mesh.create_secrets(held).await?;
    // As one change: the routes lead to subsets of the DestinationRule.
    mesh.apply(&[ways, &[originate]].concat()).await?;
    let asked = cases.ask(mesh, SERVER, placement.client(mesh), pki.client.clone()).await?;
    cases.judge(mesh, &asked)?;
    if pki.client.is_some() {
        pki::client_chain(mesh, &pki, &asked).await?;
    }
    if mesh.has_feature(Feature::SanValidation) {
        identity::story(mesh, &pki).await?;
    }
    files::story(mesh, &pki).await
}
