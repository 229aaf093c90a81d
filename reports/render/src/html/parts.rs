//! Elements that several pages share.

use maud::{Markup, html};

use crate::text::symbol;
use meshproof_model::report::{Level, Verdict};
use meshproof_model::visible::{self, clipped};

/// The longest text of one value, in characters. The report's JSON contains the whole value.
pub(super) const MAX_VALUE: usize = 20_000;

/// Untrusted text for one line.
pub(super) fn line(text: &str) -> String {
    clipped(&visible::line(text), MAX_VALUE).into_owned()
}

/// Untrusted text for one line, shortened to `max` characters.
pub(super) fn brief(text: &str, max: usize) -> String {
    clipped(&visible::line(text), max).into_owned()
}

/// A command with a copy button, which appears when the page's script runs.
pub(super) fn command(text: &str) -> Markup {
    html! { div.command { pre { code { (line(text)) } } button.copy type="button" hidden { "Copy" } } }
}

pub(crate) const fn class(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Passed => "passed",
        Verdict::Failed => "failed",
        Verdict::Inconclusive => "inconclusive",
        Verdict::Error => "error",
        Verdict::Skipped => "skipped",
    }
}

pub(super) fn badge(verdict: Verdict) -> Markup {
    html! { span class=(format!("verdict {}", class(verdict)))
    title=(meaning(verdict)) { (symbol(verdict)) " " (verdict) } }
}

/// As [`badge`], for what a page has hundreds of: the script adds the meaning.
pub(crate) fn bare_badge(verdict: Verdict) -> Markup {
    html! { span class=(format!("verdict {}", class(verdict))) { (symbol(verdict)) " " (verdict) } }
}

/// As [`level`], without the meaning, which the script adds.
pub(super) fn bare_level(level: Level, control: bool) -> Markup {
    html! { span.level { (level) } @if control { " " span.level { "control" } } }
}

pub(super) fn level(level: Level, control: bool) -> Markup {
    html! {
        span.level title=(level_meaning(level)) { (level) }
        @if control { " " span.level title=(CONTROL) { "control" } }
    }
}

/// A link if the address is an HTTP or HTTPS URL, otherwise plain text. A `javascript:` address never becomes
/// a link.
pub(super) fn link(url: &str, text: &str) -> Markup {
    let is_web = url.starts_with("https://") || url.starts_with("http://");
    html! {
        @if is_web { a href=(url) rel="noreferrer noopener" { (line(text)) } }
        @else { (line(text)) " (" code { (line(url)) } ")" }
    }
}

/// An `id` attribute for links: the text itself if it has only plain characters, otherwise `number`.
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
            "The evidence proves neither success nor failure, for example because the control of a negative \
                check failed. An inconclusive MUST check fails the run."
        }
        Verdict::Error => {
            "A problem of the environment or of the suite prevented the check from being judged. This says \
                nothing about the implementation."
        }
        Verdict::Skipped => "The check was not executed, for the reason shown.",
    }
}

pub(super) const fn level_meaning(level: Level) -> &'static str {
    match level {
        Level::Must => "An absolute requirement (RFC 2119). A failure fails the run.",
        Level::Should => "A recommendation (RFC 2119). A failure is shown but does not fail the run.",
        Level::May => "An optional property (RFC 2119). A failure is shown but does not fail the run.",
    }
}

const CONTROL: &str = "A check of a request that must succeed. It proves that the suite can observe what a \
    negative check says did not happen.";

/// The definitions of the project's terms.
const TERMS: &[(&str, &str)] = &[
    (
        "implementation",
        "What is being judged: a service mesh, or a proxy that implements its configuration resources.",
    ),
    (
        "scenario",
        "One documented task, followed in the document's order: configure, send requests, observe, clean up.",
    ),
    ("configuration", "A variant of a scenario. Each configuration is run and reported separately."),
    ("check", "One named requirement of a scenario, with a level and a section of the document."),
    ("control", CONTROL),
    ("verdict", "What the suite concluded about a check."),
    (
        "evidence",
        "What the three sides recorded: the requests and responses of the workload, the access logs of the \
            proxies, and the connections and requests that the external service received.",
    ),
    ("workload", "The application that sends requests."),
    ("proxy", "A sidecar, egress gateway or ingress gateway of the implementation."),
    ("external service", "A server outside the mesh to which TLS is originated."),
    ("mesh service", "A server inside the mesh that the scenario calls."),
    ("decides", "The verdict of the check rests on this piece of evidence."),
    (
        "token",
        "An identifier of one request. It is part of the User-Agent header and connects what the three \
            sides recorded.",
    ),
    ("convergence", "The time from a configuration change until it took effect."),
    (
        "expected failure",
        "A failure that the expectations file lists with a reason. It does not fail the run. If the check \
            passes, the run fails.",
    ),
];

/// Defines every term of the page.
pub(super) fn legend(more: &[(&str, &str)]) -> Markup {
    html! {
        details.legend #legend {
            summary { h2 { "How to read this page" } }
            div {
                dl.terms {
                    @for verdict in Verdict::ALL { dt { (badge(verdict)) } dd { (meaning(verdict)) } }
                    @for level in Level::ALL { dt { span.level { (level) } } dd { (level_meaning(level)) } }
                    @for (term, what) in TERMS.iter().chain(more) { dt { (term) } dd { (what) } }
                }
            }
        }
    }
}

/// A term that shows its definition when clicked. Works without a script.
pub(super) fn term(name: &str, text: &str) -> Markup {
    html! { button.term type="button" popovertarget=(format!("term-{}", name.replace(' ', "-"))) { (text) } }
}

/// The definitions that [`term`] opens; once per page.
pub(super) fn terms() -> Markup {
    html! {
        @for (name, what) in TERMS { div.tip popover id=(format!("term-{}", name.replace(' ', "-"))) {
            strong { (name) } ": " (what) } }
        @for level in Level::ALL {
            div.tip popover id=(format!("term-{level}")) { strong { (level) } ": " (level_meaning(level)) }
        }
        @for verdict in Verdict::ALL {
            div.tip popover id=(format!("term-{verdict}")) { strong { (verdict) } ": " (meaning(verdict)) }
        }
    }
}
