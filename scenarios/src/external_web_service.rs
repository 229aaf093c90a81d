//! Istio blog, "Consuming External Web Services": the Bookinfo details service fetches a book from an external
//! service, first by its own HTTPS, then by plain HTTP for which its sidecar opens TLS.

mod mesh_mutual_tls;
mod own_https;
mod policy;
mod unregistered;

use meshproof_harness::claim::{Claim, Claims, Reply};
use meshproof_harness::feature::Feature;
use meshproof_harness::mesh::{Mesh, Stop};
use meshproof_harness::topology::{Application, PlainService, Topology, Workload};

use crate::sites::{self, BOOK_TITLE, BOOKS, REAL_TITLE};

const TARGET: &str = "/books/v1/volumes?q=isbn:0486424618";
const PLAIN: &str = "http://www.googleapis.com/books/v1/volumes?q=isbn:0486424618";
const SECURE: &str = "https://www.googleapis.com/books/v1/volumes?q=isbn:0486424618";
/// What the application shows for the book, asked through the mesh.
const PAGE: &str = "http://details.default.svc.cluster.local:9080/details/0486424618";
/// The other services from which Bookinfo's page is made.
const REVIEWS: &str = "http://reviews.default.svc.cluster.local:9080/reviews/0";
const RATINGS: &str = "http://ratings.default.svc.cluster.local:9080/ratings/0";
const DETAILS_V2: &str = "outbound|9080|v2|details.default.svc.cluster.local";
const ERROR: &str = "Error fetching product details!";

pub(crate) fn topology() -> Topology {
    let sleep = Workload::sleep().dials([80, 443, 9080]);
    // Bookinfo's details v2.
    let details = Application::new(9080, "/details/", BOOKS, "/books/v1/volumes?q=isbn:")
        .plain_if("DO_NOT_ENCRYPT")
        .failure(ERROR);
    let reviews = PlainService::new("reviews", 9080, r#"{"id":"0","reviews":[]}"#);
    let ratings = PlainService::new("ratings", 9080, r#"{"id":0,"ratings":{"Reviewer1":5}}"#);
    Topology::default()
        .workload(sleep)
        .workload(Workload::new("details").label("version", "v2").serves(details))
        .service(reviews)
        .service(ratings)
}

fn shows_book(page: &Reply, title: &str) -> Claim {
    page.ok().body_contains(title).body_lacks(ERROR).into()
}

pub(crate) async fn story(mesh: &Mesh) -> Result<(), Stop> {
    let (sleep, details, sidecar) = (mesh.workload("sleep"), mesh.workload("details"), mesh.proxy("details"));

    mesh.step("Initial setting");
    let certificate = mesh.public_authority().server(BOOKS).issue()?;
    let books = mesh.deploy_external(sites::books(&certificate)).await?;
    let title = books.own(BOOK_TITLE).unwrap_or(REAL_TITLE);
    let direct = books.probe(None).get(PLAIN).await?;
    let blocked = own_https::by_the_application(mesh, &certificate, title).await?;

    mesh.step("Bookinfo with TLS origination to a Google Books web service");
    mesh.set_variable("details", "DO_NOT_ENCRYPT", "true").await?;
    mesh.apply(&["details-v2", "originate"]).await?;
    let originated_page = sleep.get(PAGE).await?;
    let http = details.get(PLAIN).await?;
    let elsewhere = unregistered::with_every_method(mesh).await?;
    // Where the external service is not observed, a book from port 443 proves TLS: a plain request on that port gets none.
    let logged = sidecar.logged(&http).upstream_host(mesh.upstream(BOOKS, 443));
    let on_tls_port = http.ends_with(200).and(logged.where_logged());
    mesh.check(
        "http-by-application-originated",
        shows_book(&originated_page, title)
            .and_outside(books.received(&originated_page))
            .and(books.saw(&http).over_tls().target(TARGET).host(BOOKS).or_unobserved(on_tls_port)),
    )?;
    let hop = mesh.proxy("sleep").logged(&originated_page).status(200).upstream_cluster(DETAILS_V2);
    mesh.check("details-v2-serves-all", shows_book(&originated_page, title).and(hop))?;
    mesh.check("single-response", http.ok().body_contains(title))?;
    mesh.check("one-upstream-request", books.received_only(&http))?;
    mesh.check(
        "no-plaintext-leak",
        books
            .during(&http)
            .no_plaintext(&["/books/v1/volumes", BOOKS])
            .provided("a plain request from outside the mesh", books.during(&direct).saw_in_clear(TARGET))
            .provided("the request itself", http.ends_with(200)),
    )?;
    mesh.check("sni-is-host", books.saw_on(443, &http).server_name(BOOKS))?;
    let logged = sidecar.logged(&http).method("GET").path(TARGET).status(200).authority(BOOKS);
    mesh.check("path-visible-in-log", logged.upstream_host(mesh.upstream(BOOKS, 443)))?;
    let mut default = blocked.claim(mesh, title, &http);
    if let Some(elsewhere) = elsewhere {
        default = default
            .and(elsewhere.provided("the same proxy's request for a registered host", http.ends_with(200)));
    }
    mesh.check("blocked-by-default", default)?;
    policy::own_https(mesh, &certificate, &http).await?;
    policy::books_alone(mesh).await?;

    if mesh.has_feature(Feature::MeshMtls) {
        mesh_mutual_tls::strict_and_off(mesh, title).await?;
    }

    mesh.step("Cleanup of TLS origination to a Google Books web service");
    mesh.delete(&["originate", "details-v2"]).await?;
    let restored = details.get(PLAIN).await?;
    mesh.check(
        "cleanup-restores",
        restored
            .ends_as(&blocked.http)
            .and_outside(books.during(&restored).nothing())
            .provided("the same request before the deletion", http.ends_with(200)),
    )
}
