//! Which proxies use a credential, what they report and log of it, and what they do with one that does not serve.

use meshproof_harness::certificates::{Authority, Issued, KeyAlgorithm};
use meshproof_harness::claim::{Claims, Reply};
use meshproof_harness::mesh::{Mesh, Stop};
use meshproof_harness::secret::Secret;

use super::{HOST, URL};
use crate::placement::Placement;

/// `appeared` was sent with this client certificate.
pub(super) async fn the_certificate(
    mesh: &Mesh,
    ca: &Authority,
    appeared: &Reply,
    client: &Issued,
) -> Result<(), Stop> {
    let (proxy, nginx) = (Placement::of(mesh).proxy(mesh), mesh.external(HOST));
    let anonymous = nginx.probe(None).get(&format!("https://{HOST}/")).await?;
    mesh.check(
        "server-demands-certificate",
        anonymous
            .only_response()
            .is(400)
            .body_contains("No required SSL certificate was sent")
            .provided("the proxy's request with the certificate", appeared.ok()),
    )?;
    let credentials = proxy.credentials().await?;
    mesh.check(
        "credential-active",
        credentials
            .active("kubernetes://client-credential", client.certificate_pem())
            .and(credentials.active("kubernetes://client-credential-cacert", ca.certificate_pem())),
    )?;
    let shown =
        appeared.ok().body_contains("Welcome to nginx!").and(nginx.received(appeared).server_name(HOST));
    let logged = proxy.logged(appeared).method("GET").path("/").status(200).authority(HOST);
    let logged = logged.upstream_host(mesh.upstream(HOST, 443));
    mesh.check("welcome-page", shown)?;
    mesh.check("originating-proxy-logs", logged)
}

pub(super) async fn other_secrets(
    mesh: &Mesh,
    ca: &Authority,
    client: &Issued,
    appeared: &Reply,
) -> Result<(), Stop> {
    mesh.step("A credential of an unrelated CA");
    let placement = Placement::of(mesh);
    let (apps, nginx) = (placement.client(mesh), mesh.external(HOST));
    let credential =
        |client: &Issued| Secret::new(placement.namespace(), "client-credential").key_pair(client).ca(ca);
    let stranger = Authority::new(KeyAlgorithm::EcdsaP256)?.client("client.example.com").issue()?;
    mesh.create_secret(credential(&stranger)).await?;
    let untrusted = apps.get(URL).await?;
    mesh.create_secret(credential(client)).await?;
    mesh.check(
        "untrusted-client-refused",
        untrusted
            .unlike("the same request with the right credential", appeared)
            .and(nginx.during(&untrusted).refused_client(&stranger)),
    )
}

/// Istio gives a sidecar the credential of a rule only if the rule selects its workload (pilot/pkg/networking/core/cluster_tls.go):
/// otherwise every sidecar of the namespace would need the Secret.
pub(super) async fn a_rule_without_a_selector(mesh: &Mesh, appeared: &Reply) -> Result<(), Stop> {
    mesh.step("A DestinationRule without workloadSelector");
    let nginx = mesh.external(HOST);
    mesh.apply(&["originate-without-selector"]).await?;
    let unselected = mesh.workload("sleep").get(URL).await?;
    mesh.apply(&["originate-at-sidecar"]).await?;
    mesh.check(
        "selector-required-at-sidecar",
        unselected
            .unlike("the same request with a workloadSelector", appeared)
            .and(nginx.during(&unselected).served_nothing()),
    )
}
