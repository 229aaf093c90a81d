//! The first half of the document: the application's own HTTPS, which the mesh blocks or lets pass.

use meshproof_harness::certificates::Issued;
use meshproof_harness::claim::{Claim, Claims, Reply};
use meshproof_harness::mesh::{Mesh, Stop};

use super::{ERROR, PAGE, PLAIN, RATINGS, REVIEWS, SECURE, TARGET, shows_book};
use crate::sites::BOOKS;

/// What the application got while the external service was blocked, and what it got once it was allowed.
pub(super) struct Blocked {
    page: Reply,
    https: Reply,
    pub(super) http: Reply,
    allowed: Reply,
}

impl Blocked {
    /// The requests fail, and nothing reached the external service. `http` is the plain request once it is allowed.
    pub(super) fn claim(&self, mesh: &Mesh, title: &str, http: &Reply) -> Claim {
        let books = mesh.external(BOOKS);
        self.page
            .ok()
            .body_contains(ERROR)
            .body_lacks(title)
            .and(self.https.fails())
            .and(self.http.fails())
            .and_outside(books.during(&self.page).nothing())
            .and_outside(books.during(&self.https).nothing())
            .and_outside(books.during(&self.http).nothing())
            .provided("the same HTTPS request when it is allowed", self.allowed.ends_with(200))
            .provided("the same HTTP request when it is allowed", http.ends_with(200))
    }
}

pub(super) async fn by_the_application(
    mesh: &Mesh,
    certificate: &Issued,
    title: &str,
) -> Result<Blocked, Stop> {
    let (sleep, details, sidecar) = (mesh.workload("sleep"), mesh.workload("details"), mesh.proxy("details"));
    let books = mesh.external(BOOKS);
    let end_to_end = |reply: &Reply| {
        let whole = reply.hop(0).answers(200, "HTTP/2").certificate(books.certificate(certificate));
        whole.and_outside(books.received(reply).server_name(BOOKS).target(TARGET))
    };
    mesh.step("Without an outbound policy");
    let unrestricted = details.get(SECURE).await?;
    mesh.check("allowed-by-todays-default", end_to_end(&unrestricted))?;
    mesh.apply(&["registry-only"]).await?;

    mesh.step("Bookinfo with HTTPS access to a Google Books web service");
    mesh.set_variable("details", "DO_NOT_ENCRYPT", "false").await?;
    mesh.apply(&["details-v2"]).await?;
    let page = sleep.get(PAGE).await?;
    let [reviews, ratings] = sleep.get_each([REVIEWS, RATINGS]).await?;
    let https = details.get(SECURE).await?;
    let http = details.get(PLAIN).await?;

    mesh.step("Enable HTTPS access to a Google Books web service");
    mesh.apply(&["route-by-server-name"]).await?;
    let routed_alone = details.get(SECURE).await?;
    mesh.apply(&["access"]).await?;
    let book = sleep.get(PAGE).await?;
    let allowed = details.get(SECURE).await?;
    mesh.check(
        "https-by-application",
        shows_book(&book, title).and_outside(books.received(&book)).and(end_to_end(&allowed)),
    )?;
    mesh.check("only-sni-visible", sidecar.passed_through(&allowed, BOOKS))?;
    mesh.check(
        "virtual-service-alone",
        routed_alone
            .unlike("the same request with the ServiceEntry too", &allowed)
            .and_outside(books.during(&routed_alone).nothing()),
    )?;
    mesh.delete(&["access"]).await?;
    let disabled = details.get(SECURE).await?;
    mesh.apply(&["access"]).await?;
    let enabled = details.get(SECURE).await?;
    mesh.check(
        "disabled-and-enabled-on-the-fly",
        disabled
            .unlike("the same request with the ServiceEntry created again", &enabled)
            .and_outside(books.during(&disabled).nothing()),
    )?;
    mesh.delete(&["route-by-server-name"]).await?;
    let entered_alone = details.get(SECURE).await?;
    mesh.check("service-entry-alone", end_to_end(&entered_alone))?;

    mesh.step("Cleanup of HTTPS access to a Google Books web service");
    mesh.delete(&["access", "details-v2"]).await?;
    let cleaned = details.get(SECURE).await?;
    mesh.check(
        "first-cleanup-restores",
        cleaned
            .ends_as(&https)
            .and_outside(books.during(&cleaned).nothing())
            .provided("the same request before the deletion", entered_alone.ends_with(200)),
    )?;
    let others = reviews.ok().body_contains("reviews").and(ratings.ok().body_contains("ratings"));
    let error = page.ok().body_contains(ERROR).of("the details");
    mesh.check("other-services-unharmed", error.and(others.of("reviews and ratings")))?;
    Ok(Blocked { page, https, http, allowed })
}
