//! `run --repeat N`: which checks do not have the same verdict in every run.

use std::collections::BTreeMap;

use meshproof_model::{Report, Verdict};
use meshproof_render::text::plural;

/// One line per check whose verdict differs between the runs, and one line that says how many there are.
#[must_use]
pub fn flaky(reports: &[Report]) -> String {
    let mut verdicts: BTreeMap<String, Vec<Verdict>> = BTreeMap::new();
    for report in reports {
        for scenario in &report.scenarios {
            for check in &scenario.checks {
                let id = format!("{}/{}", scenario.selector(), scenario.check_name(check));
                verdicts.entry(id).or_default().push(check.verdict);
            }
        }
    }
    let total = verdicts.len();
    let unstable = verdicts.into_iter().filter(|(_, v)| v.iter().any(|one| *one != v[0]));
    let lines: Vec<String> = unstable
        .map(|(id, all)| {
            let count = |verdict: Verdict| all.iter().filter(|v| **v == verdict).count();
            let counts: Vec<String> = Verdict::ALL
                .into_iter()
                .filter(|v| count(*v) > 0)
                .map(|v| format!("{v} {} of {} times", count(v), all.len()))
                .collect();
            format!("flaky: {id}: {}\n", counts.join(", "))
        })
        .collect();
    let runs = plural(reports.len(), "run");
    match lines.len() {
        0 => format!("All {} had the same verdict in {runs}.\n", plural(total, "check")),
        n => format!(
            "{}{n} of {} did not have the same verdict in {runs}.\n",
            lines.concat(),
            plural(total, "check")
        ),
    }
}
