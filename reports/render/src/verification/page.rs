//! The page: findings, and the flows as pictures.

use maud::{Markup, html};
use meshproof_model::verification::{Finding, Flow, Outcome, Severity, Verification};
use meshproof_model::{Report, Verdict};

use super::cells::{HEADINGS, cells, sentence};
use super::{assumed_because, place_and_resource, read_from};
use crate::conclusion::conclusion;
use crate::html::{bare_badge, class, document, line_of};
use crate::text::plural;

/// How many flows are drawn. JSON has all.
const MAX_FLOWS: usize = 1_000;

/// One file that opens offline.
#[must_use]
pub(super) fn html(verification: &Verification) -> String {
    let title = "Verification".to_owned();
    let body = html! {
        a.skip href="#flows" { "Skip to the flows" }
        main {
            p.kicker { "meshproof verify" }
            h1 { (head(verification)) }
            p.soft { (line_of(&read_from(verification))) }
            @for finding in &verification.findings { (one(finding)) }
            @if let Some(proof) = &verification.proof { (proved(proof)) }
            (list("Not proved", &verification.not_proved))
            h2 #flows { "Where requests go" }
            @for flow in verification.flows.iter().take(MAX_FLOWS) { (drawn(flow)) }
            h2 #table { "The same as a table" }
            div.matrix-scroll tabindex="0" role="group" aria-label="Flows" { table {
                thead { tr { @for heading in HEADINGS { th scope="col" { (heading) } } } }
                tbody {
                    @for flow in verification.flows.iter().take(MAX_FLOWS) {
                        tr { @for cell in cells(flow) { td { (line_of(&cell)) } } }
                    }
                }
            } }
            @if !verification.notes.is_empty() {
                h2 #notes { "Notes" }
                ul { @for note in &verification.notes {
                    li { code { (note.code) } " " (line_of(&note.at.to_string())) ": " (line_of(&note.message)) ". "
                        (line_of(&note.effect)) "." }
                } }
            }
            (list(assumed_because(verification), &verification.assumed))
            (list("Not examined, because it does not change TLS", &verification.passed_over))
        }
    };
    document(title, body)
}

fn head(verification: &Verification) -> String {
    let count = |s: Severity| verification.findings.iter().filter(|f| f.severity == s).count();
    let proof = match verification.proof.as_ref().map(|report| conclusion(report).verdict) {
        None => "",
        Some(Verdict::Passed) => ", and the proof passed",
        Some(Verdict::Failed) => ", and the proof failed",
        Some(_) => ", and the proof reached no conclusion",
    };
    let (errors, warnings) = (count(Severity::Error), count(Severity::Warning));
    format!("{}, {}{proof}", plural(errors, "error"), plural(warnings, "warning"))
}

/// What real requests showed. Their evidence is in the report's own page.
fn proved(report: &Report) -> Markup {
    let conclusion = conclusion(report);
    html! {
        h2 #proof { "What real requests showed" }
        p class=(format!("conclusion {}", class(conclusion.verdict))) {
            (bare_badge(conclusion.verdict)) " " (line_of(&report.implementation.name)) ": " (conclusion.sentence) "."
        }
        dl { @for check in report.checks() {
            dt { (bare_badge(check.verdict)) " " (line_of(&check.requirement)) }
            dd { (line_of(&check.reason)) }
        } }
    }
}

fn list(title: &str, items: &[String]) -> Markup {
    html! {
        @if !items.is_empty() {
            h2 { (title) }
            ul { @for item in items { li { (line_of(item)) } } }
        }
    }
}

fn one(finding: &Finding) -> Markup {
    let class = match finding.severity {
        Severity::Error => "reason failed",
        Severity::Warning => "reason inconclusive",
        Severity::Note => "reason",
    };
    html! {
        section aria-label=(finding.code) {
            h3 { (finding.severity) " " (finding.code) " " (line_of(&finding.name)) }
            @let (at, resource) = place_and_resource(finding);
            p.soft { code { (line_of(&at)) } " " (line_of(resource)) }
            p class=(class) { (line_of(&finding.message)) ". " (line_of(&finding.effect)) "." }
            @if let Some(proof) = &finding.proof { p { "Proof: " (line_of(proof)) } }
            @if let Some(fix) = &finding.fix {
                p { strong { "Fix: " } (line_of(&fix.summary)) "."
                    @if fix.confirmed { " Planned again with it, the fault is gone." } }
                @if !fix.patch.is_empty() { pre { code { (meshproof_model::visible::block(&fix.patch)) } } }
            }
        }
    }
}

/// Boxes and arrows: the client's proxy, each further proxy, the server.
fn drawn(flow: &Flow) -> Markup {
    let (class, end, edge) = match &flow.outcome {
        Outcome::Originated { to, inside_clients_tls: false, .. } => {
            ("passed", to.as_str(), "TLS by the proxy")
        }
        Outcome::Originated { to, .. } => ("failed", to.as_str(), "TLS in TLS"),
        Outcome::OwnTls { to } => ("passed", to.as_str(), "the client's TLS"),
        Outcome::PlainText { to } => ("failed", to.as_str(), "plain text"),
        Outcome::Mesh { to, encrypted: true } => ("passed", to.as_str(), "mesh TLS"),
        Outcome::Mesh { to, encrypted: false } => ("skipped", to.as_str(), "inside the cluster"),
        Outcome::Fails { .. } => ("failed", "no server", "ends"),
        Outcome::Answered { .. } => ("skipped", "no server", "answered"),
        Outcome::Unknown { .. } => ("skipped", "unknown", "unknown"),
    };
    let mut boxes: Vec<&str> = vec![&flow.from];
    boxes.extend(flow.hops.iter().skip(1).map(|h| h.proxy.as_str()));
    let count = boxes.len() + 1;
    let width = 240 * count;
    html! {
        figure.flow {
            figcaption { code { (line_of(&flow.shown())) } " " (line_of(&sentence(flow))) }
            svg class=(class) viewBox=(format!("0 0 {width} 56")) width=(width) height="56" role="img"
                aria-label=(line_of(&sentence(flow))) {
                @for (i, name) in boxes.iter().chain(std::iter::once(&end)).enumerate() {
                    rect x=(i * 240 + 2) y="16" width="156" height="28" rx="4" fill="none" stroke="currentColor" {}
                    text x=(i * 240 + 80) y="35" text-anchor="middle" font-size="12" fill="currentColor" {
                        (crate::html::brief_of(name, 24)) }
                    @if i + 1 < count {
                        @let label = if i + 2 == count { edge } else { "hop" };
                        line x1=(i * 240 + 158) y1="30" x2=(i * 240 + 238) y2="30" stroke="currentColor" {}
                        text x=(i * 240 + 199) y="24" text-anchor="middle" font-size="10" fill="currentColor" { (label) }
                        path d=(format!("M{} 26 l6 4 l-6 4", i * 240 + 233)) fill="none" stroke="currentColor" {}
                    }
                }
            }
        }
    }
}
