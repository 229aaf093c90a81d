//! What the mesh can do with requests whose path it sees: only one of the provider's interfaces is allowed.

use meshproof_harness::certificates::Issued;
use meshproof_harness::claim::{Claim, Claims, Reply};
use meshproof_harness::mesh::{Mesh, Stop};

use super::{PLAIN, SECURE};
use crate::sites::BOOKS;

const CALENDAR: &str = "http://www.googleapis.com/calendar/v3/users/me/calendarList";

pub(super) async fn books_alone(mesh: &Mesh) -> Result<(), Stop> {
    mesh.step("A policy by path");
    let (details, books) = (mesh.workload("details"), mesh.external(BOOKS));
    let calendar_before = details.get(CALENDAR).await?;
    mesh.apply(&["books-alone"]).await?;
    let book = details.get(PLAIN).await?;
    let calendar = details.get(CALENDAR).await?;
    mesh.apply(&["originate"]).await?;
    let allowed: Claim = book.ok().and_outside(books.received(&book));
    let reached = books.received(&calendar_before).or_unobserved(book.ends_with(200));
    mesh.check(
        "one-api-allowed-by-path",
        calendar
            .fails()
            .and_outside(books.during(&calendar).nothing())
            .and(allowed)
            .provided("the refused request without the policy", reached),
    )
}

pub(super) async fn own_https(mesh: &Mesh, certificate: &Issued, http: &Reply) -> Result<(), Stop> {
    let books = mesh.external(BOOKS);
    let reply = mesh.workload("details").get(SECURE).await?;
    let whole: Claim = reply.hop(0).answers(200, "HTTP/2").certificate(books.certificate(certificate)).into();
    let not_served = reply.fails().and_outside(books.during(&reply).served_nothing());
    let either = whole.or_recorded(not_served);
    mesh.check(
        "own-https-with-origination",
        either.provided("the application's plain request", http.ends_with(200)),
    )
}
