//! Tests of the pages in a real browser. Without a browser they print a message and are skipped.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test reports failures by panicking and prints why it is skipped"
)]

mod accessible;
mod comparison;
mod conformance;
mod driver;
mod hostile;
mod kills;

use meshproof_model::{EvidenceId, Fact, Report, Verdict, sample};
use meshproof_render::site::{SiteReport, site};

/// A page of a site of two reports.
fn site_page(path: &str) -> String {
    let reports = [sample::report(), sample::passing()].map(|r| SiteReport::of(&r, None));
    let files = site(&reports);
    let paths: Vec<&str> = files.iter().map(|f| f.path.as_str()).collect();
    let file = files.iter().find(|f| f.path == path);
    file.unwrap_or_else(|| panic!("{path} is not among {paths:?}")).content.clone()
}

/// The sample, and the sample with a failed check whose evidence differs.
fn pair() -> [Report; 2] {
    let good = {
        let mut report = sample::passing();
        report.scenarios[0].checks[1].evidence = vec![EvidenceId("e4".to_owned())];
        report
    };
    let mut bad = good.clone();
    bad.implementation.name = "Envoy".to_owned();
    let scenario = &mut bad.scenarios[0];
    scenario.checks[1].verdict = Verdict::Failed;
    let Fact::AccessLog(log) = &mut scenario.evidence[3].fact else { unreachable!() };
    let fields = log.fields.as_mut().unwrap();
    fields.upstream_cluster = Some("PassthroughCluster".to_owned());
    fields.response_code_details = Some("route_not_found".to_owned());
    [good, bad]
}
