use super::*;
use meshproof_model::sample;

fn run(name: &str, version: &str, run: &str, change: impl FnOnce(&mut Report)) -> SiteReport {
    let mut report = sample::passing();
    report.implementation.name = name.to_owned();
    report.implementation.version = version.to_owned();
    (report.run.id, report.run.started) = (run.to_owned(), format!("2026-11-{run}T00:00:00Z"));
    change(&mut report);
    SiteReport::of(&report, None)
}

fn page<'f>(files: &'f [SiteFile], path: &str) -> &'f str {
    let paths: Vec<&str> = files.iter().map(|f| f.path.as_str()).collect();
    &files.iter().find(|f| f.path == path).unwrap_or_else(|| panic!("{path} is not among {paths:?}")).content
}

fn failing(report: &mut Report) {
    let check = &mut report.scenarios[0].checks[1];
    (check.verdict, check.reason) = (Verdict::Failed, "no server name".to_owned());
}

#[test]
fn each_version_is_a_column_and_its_latest_run_counts() {
    let reports = [
        run("Envoy", "1.9.0", "01", |_| {}),
        run("Envoy", "1.10.0", "02", failing),
        run("Envoy", "1.10.0", "03", |_| {}),
        run("HAProxy", "3.0", "04", failing),
    ];
    let files = site(&reports);
    let index = page(&files, "index.html");
    let at = |text: &str| index.find(text).unwrap_or_else(|| panic!("{text} is missing"));
    assert!(at("</a> 1.9.0</th>") < at("</a> 1.10.0</th>"), "versions are ordered as numbers");
    assert_eq!(index.matches("implementations/envoy.html").count(), 3, "a card, and a column per version");
    assert!(index.contains("reports/envoy/03/index.html#") && !index.contains("reports/envoy/02/"));
    let failed = "reports/haproxy/04/index.html#sidecar-origination:target-port/sni-is-host";
    assert!(page(&files, "requirements.html").contains(failed) && index.contains(failed));
}

#[test]
fn the_page_of_an_implementation_has_its_history_its_badge_and_its_failures() {
    let skipped = |r: &mut Report| r.scenarios[0].checks[0].verdict = Verdict::Skipped;
    let files = site(&[
        run("Envoy", "1", "01", |_| {}),
        run("Envoy", "2", "02", failing),
        run("Envoy", "3", "03", skipped),
    ]);
    let page_of = page(&files, "implementations/envoy.html");
    for wanted in [
        "1 worse",
        "1 better, 1 not asked any more",
        "1 of 2 MUST checks passed, 1 not asked",
        "../badges/envoy.svg",
    ] {
        assert!(page_of.contains(wanted), "{wanted}: {page_of}");
    }
    let badge = page(&files, "badges/envoy.svg");
    assert!(badge.starts_with("<svg") && badge.contains("1 not asked"), "{badge}");
    let failed = site(&[run("Envoy", "2", "02", failing)]);
    assert!(page(&failed, "implementations/envoy.html").contains("no server name"));
}

#[test]
fn hostile_names_become_plain_paths_and_text() {
    let hostile = run("<script>../../x", "\"><b>", "../../etc", |_| {});
    assert_eq!(hostile.folder(), "reports/script-x/etc");
    for file in site(&[hostile]) {
        assert!(!file.path.contains(".."), "{}", file.path);
        assert!(!file.content.contains("<script>../") && !file.content.contains("<b>"), "{}", file.path);
    }
}

#[test]
fn a_name_of_the_user_replaces_the_name_and_variant() {
    let mut report = sample::passing();
    report.implementation.details.insert("saboteur".to_owned(), "no-sni".to_owned());
    assert_eq!(SiteReport::of(&report, None).implementation, "meshproof reference · no-sni");
    assert_eq!(SiteReport::of(&report, Some("mine")).implementation, "mine");
}
