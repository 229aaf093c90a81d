//! A page per scenario, written from its catalogue: what it proves, the way of its requests as a picture, and its checks.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use meshproof_harness::catalogue::{Catalogue, Configuration};
use meshproof_harness::feature::Feature;
use meshproof_harness::scenario::Scenario;
use meshproof_scenarios::ALL;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/scenarios")
}

/// Text in a cell of a table.
fn cell(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|")
}

/// How a configuration's requests leave the mesh.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Way {
    Sidecar,
    EgressGateway,
    IngressGateway,
}

impl Way {
    fn of(catalogue: &Catalogue, configuration: &Configuration) -> Self {
        let needs = |feature: Feature| {
            catalogue.features.contains(&feature) || configuration.features.contains(&feature)
        };
        if needs(Feature::IngressGateway) {
            Self::IngressGateway
        } else if needs(Feature::EgressGateway) {
            Self::EgressGateway
        } else {
            Self::Sidecar
        }
    }

    /// The way as lines of a Mermaid flow chart. `payload` is what the application sends, `tls` what the last proxy opens.
    fn chart(self, payload: &str, tls: &str) -> Vec<String> {
        match self {
            Self::Sidecar => vec![
                format!("workload([workload]) -->|{payload}| sidecar[sidecar]"),
                format!("sidecar ==>|{tls}| service[(external service)]"),
            ],
            Self::EgressGateway => vec![
                format!("workload2([workload]) -->|{payload}| sidecar2[sidecar]"),
                "sidecar2 ==>|mutual TLS of the mesh| egress[egress gateway]".to_owned(),
                format!("egress ==>|{tls}| service2[(external service)]"),
            ],
            Self::IngressGateway => vec![
                format!("client([client outside the mesh]) -->|{payload}| ingress[ingress gateway]"),
                format!("ingress ==>|{tls}| service3[(external service)]"),
            ],
        }
    }
}

fn features(features: &[Feature]) -> String {
    let names: Vec<String> = features.iter().map(|f| format!("`{f}`")).collect();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

/// The page of a scenario.
fn page(catalogue: &Catalogue) -> String {
    let id = &catalogue.id;
    let mut out = format!("# {id}\n\n**{}.**\n", catalogue.title.trim_end_matches('.'));
    if !catalogue.proves.is_empty() {
        let _infallible = writeln!(out, "\n{}", cell(&catalogue.proves));
    }
    let payload = if id.starts_with("tcp") { "any protocol over TCP" } else { "plain HTTP" };
    let mut ways: BTreeMap<Way, BTreeSet<&str>> = BTreeMap::new();
    for configuration in &catalogue.configurations {
        let way = Way::of(catalogue, configuration);
        let tls =
            if configuration.id.contains("mutual") || id.contains("mutual") { "mutual TLS" } else { "TLS" };
        ways.entry(way).or_default().insert(tls);
    }
    out.push_str("\n```mermaid\nflowchart LR\n");
    for (way, opened) in &ways {
        // TLS sorts before mutual TLS.
        let opened: Vec<&str> = opened.iter().copied().collect();
        for line in way.chart(payload, &opened.join(" or ")) {
            let _infallible = writeln!(out, "    {line}");
        }
    }
    out.push_str("```\n\n");
    let _infallible = writeln!(out, "- Document: [{}]({})", catalogue.document, catalogue.url);
    let stem = id.replace('-', "_");
    let _infallible = writeln!(out, "- Story: [`scenarios/src/{stem}.rs`](../../scenarios/src/{stem}.rs)");
    let _infallible = writeln!(out, "- Manifests and catalogue: [`fixtures/{id}`](../../fixtures/{id})");
    let _infallible = writeln!(out, "- Run it: `meshproof run {id}`");
    let _infallible = writeln!(out, "- Features that it needs: {}\n", features(&catalogue.features));
    out.push_str("| configuration | what is different | features in addition |\n| --- | --- | --- |\n");
    for configuration in &catalogue.configurations {
        let _infallible = writeln!(
            out,
            "| `{id}:{}` | {} | {} |",
            configuration.id,
            cell(&configuration.title),
            features(&configuration.features)
        );
    }
    out.push_str("\n| check | level | requirement | section |\n| --- | --- | --- | --- |\n");
    for check in &catalogue.checks {
        let control = if check.control { ", a control" } else { "" };
        let only = match check.only_in.as_slice() {
            [] => String::new(),
            only => format!(" Only in: {}.", only.join(", ")),
        };
        let _infallible = writeln!(
            out,
            "| `{}` | {}{control} | {}{only} | {} |",
            check.id,
            check.level,
            cell(&check.requirement),
            cell(&check.section)
        );
    }
    let _infallible = writeln!(
        out,
        "\n`meshproof explain {id}/CHECK` says why a check matters, how it is observed, and which saboteurs make it fail.\n\n{WRITTEN}"
    );
    out
}

const WRITTEN: &str = "This page is written from the catalogue. After a change there: `MESHPROOF_BLESS=1 cargo test -p \
                       meshproof-scenarios --test documents`.";

/// The list of the pages.
fn index() -> String {
    let mut out = String::from(
        "# Scenarios\n\n| scenario | what happens | configurations | checks |\n| --- | --- | ---: | ---: |\n",
    );
    for catalogue in ALL.iter().map(|s| &s.catalogue) {
        let _infallible = writeln!(
            out,
            "| [`{0}`]({0}.md) | {1} | {2} | {3} |",
            catalogue.id,
            cell(&catalogue.title),
            catalogue.configurations.len(),
            catalogue.checks.len()
        );
    }
    let _infallible = writeln!(out, "\n{WRITTEN}");
    out
}

#[test]
fn every_scenario_has_the_page_that_its_catalogue_says_and_no_other_page_exists() {
    let mut wanted: BTreeMap<String, String> =
        ALL.iter().map(|s: &Scenario| (format!("{}.md", s.id()), page(&s.catalogue))).collect();
    wanted.insert("README.md".to_owned(), index());
    if std::env::var_os("MESHPROOF_BLESS").is_some_and(|v| v == "1") {
        for (name, text) in &wanted {
            std::fs::write(folder().join(name), text).unwrap();
        }
        for entry in std::fs::read_dir(folder()).unwrap() {
            let entry = entry.unwrap();
            if !wanted.contains_key(&*entry.file_name().to_string_lossy()) {
                std::fs::remove_file(entry.path()).unwrap();
            }
        }
    }
    let kept: BTreeMap<String, String> = std::fs::read_dir(folder())
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            let text = std::fs::read_to_string(entry.path()).unwrap();
            (entry.file_name().to_string_lossy().into_owned(), text)
        })
        .collect();
    for name in wanted.keys().chain(kept.keys()) {
        assert!(
            wanted.get(name) == kept.get(name),
            "docs/scenarios/{name} is not what the catalogue says; write the pages with\n  \
             MESHPROOF_BLESS=1 cargo test -p meshproof-scenarios --test documents"
        );
    }
}

#[test]
fn the_readme_lists_every_scenario() {
    let readme = std::fs::read_to_string(folder().join("../../README.md")).unwrap();
    let rows: Vec<&str> = readme.lines().filter_map(|l| l.strip_prefix("| `")?.split('`').next()).collect();
    let missing: Vec<&str> = ALL.iter().map(Scenario::id).filter(|id| !rows.contains(id)).collect();
    assert!(missing.is_empty(), "scenarios without a row in the README: {missing:?}");
}
