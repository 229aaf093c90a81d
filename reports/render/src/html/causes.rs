//! The causes of the failures as cards, and the known faults that fit them.

use std::collections::HashMap;

use maud::{Markup, html};

use super::parts::{badge, bare_badge, brief, line};
use crate::text::{counted, plural};
use meshproof_model::cause::{Cause, CommonDeviation};
use meshproof_model::deviation::{Field, Role};
use meshproof_model::diagnosis::Diagnosis;
use meshproof_model::report::{CheckResult, Report, Verdict};

/// The anchor and the result of each check, by `scenario:configuration/check`.
pub(super) type Anchors<'r> = HashMap<String, (String, &'r CheckResult)>;

/// One card per cause whose failures were not expected.
pub(super) fn cards(report: &Report, anchors: &Anchors<'_>) -> Markup {
    let causes: Vec<&Cause> = report.causes.iter().filter(|c| c.unexpected().next().is_some()).collect();
    html! {
        ol.causes {
            @for (number, cause) in causes.iter().enumerate() {
                @let up = cause.consequence_of.as_ref().and_then(|up| causes.iter().position(|c| c.id == *up));
                (card(number + 1, cause, up, anchors))
            }
        }
    }
}

fn card(number: usize, cause: &Cause, up: Option<usize>, anchors: &Anchors<'_>) -> Markup {
    let failed = cause.unexpected().any(|c| c.verdict == Verdict::Failed);
    let verdict = if failed { Verdict::Failed } else { Verdict::Inconclusive };
    let checks: Vec<_> = cause.unexpected().collect();
    let example = cause.example().and_then(|c| Some((&c.check, anchors.get(&c.check)?)));
    html! {
        li.cause id=(format!("cause-{number}")) {
            h3 { (badge(verdict)) " " (number) ". " (brief(&cause.title, 600)) ": " (counted(&checks)) }
            @if let Some(up) = up { p.soft {
                "Probably a consequence of " a href=(format!("#cause-{}", up + 1)) { "cause " (up + 1) } "." } }
            @if let Some(deviation) = &cause.deviation { (hop(deviation)) }
            @if up.is_none() {
                @if let Some((id, (anchor, check))) = example {
                    p { strong { "Example: " } (brief(&check.reason, 600)) " "
                        a.caused href=(format!("#{anchor}")) { "Evidence of " (brief(id, 200)) } }
                }
                @if !cause.advice.is_empty() { p { strong { "Where to look: " } (prose(&cause.advice)) } }
            }
            details {
                summary { @if let [one] = checks.as_slice() { "The check: " (brief(&one.check, 300)) }
                    @else { "All " (checks.len()) " checks with this cause" } }
                ul.body { @for caused in &checks {
                    li { (bare_badge(caused.verdict)) " "
                        @match anchors.get(&caused.check) {
                            Some((anchor, _)) => { a.caused href=(format!("#{anchor}")) { (brief(&caused.check, 300)) } },
                            None => { (brief(&caused.check, 300)) },
                        }
                    }
                } }
            }
        }
    }
}

/// The hop as a picture of words: who talks to whom, and where it goes wrong.
fn hop(d: &CommonDeviation) -> Markup {
    let from = d.from.iter().map(|r| role(*r)).collect::<Vec<_>>().join(", ");
    let is_own = matches!(
        d.field,
        Field::LogLine | Field::LogField | Field::Credential | Field::Change | Field::Process
    );
    let from_proxy = d.from.iter().any(|r| r.is_proxy());
    html! {
        p.hops {
            @if is_own {
                span.node.bad { "✗ " (if from.is_empty() { "mesh" } else { from.as_str() }) }
            } @else if from_proxy {
                span.node { "workload" } " " span.arrow { "⟶" } " " span.node { (from) } " "
                    span.arrow.bad { "⟶ ✗ ⟶" } " " span.node { (role(d.to)) }
            } @else {
                span.node { (from) } " " span.arrow.bad { "⟵ ✗ ⟵" } " " span.node { "mesh" } " "
                    span.arrow { "⟵" } " " span.node { "external services" }
            }
            " " span.values {
                @if !d.expected.is_empty() { "expected " strong { (brief(&d.expected, 120)) } ", " }
                "seen " strong { (brief(&d.seen, 120)) }
            }
        }
    }
}

const fn role(role: Role) -> &'static str {
    match role {
        Role::Workload => "workload",
        Role::Client => "client outside the mesh",
        Role::Sidecar => "sidecar",
        Role::EgressGateway => "egress gateway",
        Role::IngressGateway => "ingress gateway",
        Role::Proxy => "proxy",
        Role::ExternalService => "external services",
        Role::MeshService => "mesh services",
    }
}

/// Text in which backquotes mark code.
fn prose(text: &str) -> Markup {
    let text = line(text);
    html! { @for (number, part) in text.split('`').enumerate() {
        @if number % 2 == 1 { code { (part) } } @else { (part) }
    } }
}

/// The known faults that fit.
pub(super) fn diagnosis(diagnosis: &Diagnosis) -> Markup {
    html! {
        section.diagnosis aria-labelledby="diagnosis" {
            h3 #diagnosis { "Likely fault" }
            @if diagnosis.suspects.is_empty() {
                p { "None of the " (diagnosis.known) " known faults fits what failed." }
            }
            @for (number, suspect) in diagnosis.suspects.iter().enumerate() {
                p { @if number > 0 { "or " } strong { (brief(&suspect.fault, 100)) } " (fits " (suspect.score) " %): "
                    (brief(&suspect.description, 400)) }
                @if number == 0 {
                    @if !suspect.misconfigurations.is_empty() {
                        dl { @for (platform, text) in &suspect.misconfigurations {
                            dt { (brief(platform, 40)) } dd { (prose(text)) } } }
                    }
                    @if !suspect.expected_too.is_empty() {
                        details { summary { "Against it: " (plural(suspect.expected_too.len(), "check"))
                            " passed that would notice this fault" }
                            ul.body { @for id in suspect.expected_too.iter().take(50) { li { (brief(id, 200)) } } } }
                    }
                    @if !suspect.unexplained.is_empty() {
                        details { summary { "Not explained by it: "
                            (plural(suspect.unexplained.len(), "failed check")) }
                            ul.body { @for id in suspect.unexplained.iter().take(50) { li { (brief(id, 200)) } } } }
                    }
                }
            }
            p.soft { "The score says how well the fault fits, compared with " (diagnosis.known)
                " known faults. A fault that is not known may fit better." }
        }
    }
}
