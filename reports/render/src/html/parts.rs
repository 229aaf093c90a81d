//! Small pieces that every page is made of.

use maud::{Markup, html};

use super::MAX_VALUE;
use crate::words::symbol;
use meshproof_model::report::{Level, Verdict};
use meshproof_model::visible::{self, clipped};

/// Untrusted text for one line.
pub(super) fn line(text: &str) -> String {
    clipped(&visible::line(text), MAX_VALUE).into_owned()
}

/// Untrusted text for one line that must not be long.
pub(super) fn brief(text: &str, max: usize) -> String {
    clipped(&visible::line(text), max).into_owned()
}

/// A command, with a button that copies it where there is a script.
pub(super) fn command(text: &str) -> Markup {
    html! { div.command { pre { code { (line(text)) } } button.copy type="button" hidden { "Copy" } } }
}

pub(super) const fn class(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Passed => "passed",
        Verdict::Failed => "failed",
        Verdict::Inconclusive => "inconclusive",
        Verdict::Error => "error",
        Verdict::Skipped => "skipped",
    }
}

pub(super) fn badge(verdict: Verdict) -> Markup {
    html! { span class=(format!("verdict {}", class(verdict))) title=(meaning(verdict)) { (symbol(verdict)) " " (verdict) } }
}

pub(super) fn level(level: Level, control: bool) -> Markup {
    html! {
        span.level title=(level_meaning(level)) { (level) }
        @if control { " " span.level title=(CONTROL) { "control" } }
    }
}

/// A link where the address is one of the web, else the bare text: `javascript:` leads nowhere.
pub(super) fn link(url: &str, text: &str) -> Markup {
    let web = url.starts_with("https://") || url.starts_with("http://");
    html! {
        @if web { a href=(url) rel="noreferrer noopener" { (line(text)) } }
        @else { (line(text)) " (" code { (line(url)) } ")" }
    }
}

/// An `id` attribute that a link may name: the id itself where it is of plain characters, else the number.
pub(super) fn anchor(text: &str, number: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '/' | ':' | '_');
    if !text.is_empty() && text.len() <= 200 && text.chars().all(plain) {
        text.to_owned()
    } else {
        number.to_owned()
    }
}

pub(super) const fn meaning(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Passed => "The evidence shows that the requirement holds.",
        Verdict::Failed => "The evidence shows that the requirement does not hold.",
        Verdict::Inconclusive => {
            "The evidence decides neither way, for instance because the positive twin of a negative failed. It counts as a failure."
        }
        Verdict::Error => {
            "The environment or the suite kept the check from being judged; it says nothing of the implementation."
        }
        Verdict::Skipped => "Not asked, for the reason given.",
    }
}

pub(super) const fn level_meaning(level: Level) -> &'static str {
    match level {
        Level::Must => "An absolute requirement (RFC 2119). A failure fails the run.",
        Level::Should => {
            "May be set aside for a good reason (RFC 2119). A failure is shown and does not fail the run."
        }
        Level::May => "Recorded for the reader; never fails the run.",
    }
}

const CONTROL: &str = "Proves that the suite can see what a later check denies.";

/// Terms and what they mean, in the words of the project.
const TERMS: &[(&str, &str)] = &[
    ("implementation", "What is being judged: a service mesh, or a proxy that carries out its resources."),
    ("scenario", "One documented task, told in the document's order: configure, request, observe, clean up."),
    ("configuration", "A variant of a scenario; each is run and reported on its own."),
    ("check", "One named requirement of a scenario, with a level and the document's section."),
    ("control", CONTROL),
    ("verdict", "What the suite concluded about a check."),
    (
        "evidence",
        "What the three sides saw: the workload's exchanges, the proxies' access logs, the external service's connections and requests.",
    ),
    ("workload", "The application that sends requests."),
    ("proxy", "A sidecar, an egress gateway or an ingress gateway of the implementation."),
    ("external service", "The server outside the mesh that TLS is originated to."),
    (
        "token",
        "Names one request. It travels in the User-Agent, so that what the three sides saw can be put together.",
    ),
    (
        "positive twin",
        "The same request with the one field under test right. A refusal proves something only if its twin succeeded.",
    ),
    ("convergence", "From a change of the configuration until the implementation had it in force."),
    (
        "expected failure",
        "A failure that a file of expectations names with its reason; it does not fail the run, and a success does.",
    ),
];

/// Explains every word of the page.
pub(super) fn legend(more: &[(&str, &str)]) -> Markup {
    html! {
        details.legend #legend {
            summary { h2 { "How to read this page" } }
            div {
                dl.terms {
                    @for verdict in Verdict::ALL { dt { (badge(verdict)) } dd { (meaning(verdict)) } }
                    @for level in crate::words::LEVELS { dt { span.level { (level) } } dd { (level_meaning(level)) } }
                    @for (term, what) in TERMS.iter().chain(more) { dt { (term) } dd { (what) } }
                }
            }
        }
    }
}

/// A term with its meaning at hand: opened by pointer, finger or key, and without a script.
pub(super) fn term(name: &str, text: &str) -> Markup {
    html! { button.term type="button" popovertarget=(format!("term-{}", name.replace(' ', "-"))) { (text) } }
}

/// What [`term`] opens; once a page.
pub(super) fn terms() -> Markup {
    html! {
        @for (name, what) in TERMS { div.tip popover id=(format!("term-{}", name.replace(' ', "-"))) { strong { (name) } ": " (what) } }
        @for level in crate::words::LEVELS {
            div.tip popover id=(format!("term-{level}")) { strong { (level) } ": " (level_meaning(level)) }
        }
        @for verdict in Verdict::ALL {
            div.tip popover id=(format!("term-{verdict}")) { strong { (verdict) } ": " (meaning(verdict)) }
        }
    }
}
