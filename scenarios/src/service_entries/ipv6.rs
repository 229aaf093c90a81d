//! Servers with IPv6 addresses. It comes last: where the machine has no IPv6, the checks are skipped and say so.

use meshproof_harness::certificates::{Authority, KeyAlgorithm};
use meshproof_harness::claim::{Claim, Claims};
use meshproof_harness::mesh::{Mesh, Stop};

use super::{MANY, site};
use crate::placement::Placement;

pub(super) async fn story(mesh: &Mesh, placement: Placement) -> Result<(), Stop> {
    mesh.step("IPv6");
    let client = mesh.workload("sleep");
    let public = mesh.public_authority();
    let six = public.server("six.example").with_san(["six.example", "literal.example"]).issue()?;
    let dual = public.server("dual.example").issue()?;
    mesh.deploy_externals(vec![
        site("six.example", &six).also_for(&["2001:db8::1"]).on_ipv6(),
        site("dual.example", &dual).also_for(&["203.0.113.6"]),
        site("six.dual.example", &dual).also_for(&["2001:db8::6"]).on_ipv6(),
    ])
    .await?;
    let [six, dual, six_of_dual] =
        ["six.example", "dual.example", "six.dual.example"].map(|h| mesh.external(h));
    mesh.apply(&["ipv6"]).await?;
    let reply = client.get("http://six.example/").await?;
    let received = six.received(&reply).host("six.example").server_name("six.example");
    let logged = placement.proxy(mesh).logged(&reply).upstream_host(mesh.upstream("six.example", 443));
    let served = reply.ok().and(received).and(logged);
    let many = client.get_all(&vec!["http://dual.example/"; MANY]).await?;
    let all = Claim::all(many.iter().map(|reply| reply.ok().into()));
    let both =
        dual.received_some(&many, "dual.example").and(six_of_dual.received_some(&many, "dual.example"));
    mesh.check("dual-stack", all.and(both))?;
    if placement == Placement::Sidecar {
        mesh.apply(&["ipv6-literal"]).await?;
        let literal = client.get("http://[2001:db8::80]/").await?;
        let received = six.received(&literal).host("[2001:db8::80]").server_name("literal.example");
        mesh.check("ipv6-literal-host", literal.ok().and(received))?;
    }
    // In the place of the server, one whose certificate no public CA has issued.
    let unknown = Authority::named("A private CA", "not among the roots", KeyAlgorithm::EcdsaP256)?;
    let untrusted = site("six.example", &unknown.server("six.example").issue()?).on_ipv6();
    mesh.deploy_external(untrusted.also_for(&["2001:db8::1"])).await?;
    let refused = client.get("http://six.example/").await?;
    let unserved = refused.fails().and(six.never_received(&refused)).and(six.during(&refused).reached());
    mesh.check("ipv6-endpoint", served.clone().and(unserved.provided("a certificate of a public CA", served)))
}
