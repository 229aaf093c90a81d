//! Names that the DestinationRule asks for instead of the host (`subjectAltNames`).

use meshproof_harness::certificates::blueprint::Name;
use meshproof_harness::mesh::{Mesh, Stop};

use super::names::{ADDRESS, URI, named};
use super::pki::Pki;
use crate::placement::Placement;
use crate::presented::Cases;

const SERVER: &str = "identity.example";

pub(super) async fn story(mesh: &Mesh, pki: &Pki) -> Result<(), Stop> {
    mesh.step("Names that the rule asks for");
    let placement = Placement::of(mesh);
    let mut cases = Cases::default();
    let with = |names: &[Name]| named(pki, names);
    let uri = Name::Uri(URI.to_owned());
    let at = |label: &str| format!("{label}.identity.origin.example");
    let (by_uri, by_address) = (at("uri"), at("address"));
    cases.accepts("name-as-configured", &by_uri, &with(&[Name::dns("a.example"), uri])?);
    let other = Name::Uri(format!("{URI}-2"));
    cases.refuses("name-as-configured", &at("another-uri"), &with(&[other])?, &by_uri);
    // With mutual TLS, the rule has the URI alone: names of a kind that a proxy does not know must not be taken for no names.
    if pki.one_way {
        cases.accepts("name-as-configured", &by_address, &with(&[Name::Ip(ADDRESS.to_vec())])?);
        // The name of another host: what the server is asked for stays as the client asks.
        let by_name = at("name");
        cases.accepts("name-as-configured", &by_name, &with(&[Name::dns("partner-api.example")])?);
        let other = Name::Ip(vec![192, 0, 2, 8]);
        cases.refuses("name-as-configured", &at("another-address"), &with(&[other])?, &by_address);
    }
    // With names in the rule, the host is none of them.
    let host = at("the-host");
    cases.refuses("name-as-configured", &host, &with(&[Name::dns(&*host)])?, &by_uri);
    let server = cases.server(SERVER, &pki.own(SERVER)?);
    let server = if pki.one_way { server } else { server.requiring_clients_of(&pki.clients) };
    mesh.deploy_external(server).await?;
    let originate = match (pki.one_way, placement) {
        (true, Placement::Sidecar) => "identity-simple-at-sidecar",
        (true, _) => "identity-simple-at-gateway",
        (false, Placement::Sidecar) => "identity-mutual-at-sidecar",
        (false, _) => "identity-mutual-at-gateway",
    };
    mesh.apply(&[originate]).await?;
    let asked = cases.ask(mesh, SERVER, placement.client(mesh), pki.client.clone()).await?;
    cases.judge(mesh, &asked)
}
