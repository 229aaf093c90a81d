//! The time of each scenario as a bar chart: one bar per scenario, all on one scale.

use maud::{Markup, html};

use super::parts::brief;
use crate::text::Micros;
use meshproof_model::report::{Report, ScenarioResult, Timing};

/// The width of the longest bar in the units of its picture, which is stretched to the width that the page has.
const BAR: u64 = 1_000;

/// The phases of a scenario: name, duration in microseconds, and what happens in it.
pub(super) fn parts(timing: &Timing) -> [(&'static str, u64, &'static str); 4] {
    [
        (
            "setup",
            timing.setup_us,
            "creating certificates, starting the external services and the implementation",
        ),
        ("convergence", timing.convergence_us, "from each configuration change until it took effect"),
        ("requests", timing.requests_us, "sending requests and waiting for their evidence"),
        ("teardown", timing.teardown_us, "removing what the scenario created"),
    ]
}

/// The chart with its key; nothing if no time was recorded.
pub(super) fn chart(report: &Report) -> Markup {
    let shown: Vec<&ScenarioResult> = report.scenarios.iter().filter(|s| s.timing.total_us > 0).collect();
    // The phases may overlap, so their sum may exceed the total.
    let longest = shown.iter().map(|s| sum(s).max(s.timing.total_us)).max().unwrap_or(0);
    if longest == 0 {
        return html! {};
    }
    html! {
        svg width="0" height="0" aria-hidden="true" {
            defs {
                pattern #hatch width="6" height="6" patternUnits="userSpaceOnUse"
                    patternTransform="rotate(45)" {
                    rect width="6" height="6" class="t1" {}
                    line x1="0" y1="0" x2="0" y2="6" class="hatch" {}
                }
                pattern #dots width="5" height="5" patternUnits="userSpaceOnUse" {
                    rect width="5" height="5" class="t3" {}
                    circle cx="2.5" cy="2.5" r="1.2" class="dot" {}
                }
            }
        }
        ul.times {
            @for scenario in &shown { (bar(scenario, longest)) }
        }
        ul.key {
            @for (number, (name, _, what)) in parts(&Timing::default()).iter().enumerate() {
                li { svg width="14" height="14" aria-hidden="true" { (swatch(number, 0, 12)) } " "
                    strong { (name) } ": " (what) }
            }
        }
    }
}

fn sum(scenario: &ScenarioResult) -> u64 {
    parts(&scenario.timing).iter().fold(0, |sum, (_, us, _)| sum.saturating_add(*us))
}

fn swatch(number: usize, x: u64, width: u64) -> Markup {
    match number {
        1 => html! { rect x=(x) y="0" width=(width) height="12" fill="url(#hatch)" class="seg" {} },
        3 => html! { rect x=(x) y="0" width=(width) height="12" fill="url(#dots)" class="seg" {} },
        _ => html! { rect x=(x) y="0" width=(width) height="12" class=(format!("seg t{number}")) {} },
    }
}

fn bar(scenario: &ScenarioResult, longest: u64) -> Markup {
    // Floating point, clamped to the bar: a report may contain any numbers.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "pixels"
    )]
    let scale = |us: u64| (us as f64 / longest as f64 * BAR as f64).clamp(0.0, BAR as f64) as u64;
    let mut x = 0;
    let mut segments = Vec::new();
    for (number, (name, us, _)) in parts(&scenario.timing).into_iter().enumerate() {
        let width = scale(us);
        if width > 0 {
            segments.push((number, name, us, x, width));
        }
        x += width;
    }
    html! {
        li {
            span.what { (brief(&scenario.selector(), 80)) }
            svg.chart viewBox=(format!("0 0 {BAR} 12")) preserveAspectRatio="none" role="img"
                aria-label=(spoken(&scenario.timing)) {
                @for (number, name, us, x, width) in segments {
                    g { title { (name) " " (Micros(us)) } (swatch(number, x, width)) }
                }
            }
            span.took { (Micros(scenario.timing.total_us)) }
        }
    }
}

/// The phases for a screen reader.
fn spoken(timing: &Timing) -> String {
    parts(timing).map(|(name, us, _)| format!("{name} {}", Micros(us))).join(", ")
}
