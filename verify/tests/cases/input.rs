//! Places of findings, and input that is no manifest.

use meshproof_model::Resource;
use meshproof_verify::{InForce, Source, text, verify, verify_in_force};
use proptest::prelude::*;
use serde_json::Value;

use super::{found, said, verified};

const PARTNER: &str = "apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: partner}
spec:
  hosts: [api.partner.example]
  resolution: DNS
  ports: [{number: 443, name: https, protocol: HTTPS}]
";
const RULE: &str = "apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: partner}
spec:
  host: api.partner.example
  trafficPolicy:
    tls:
      mode: SIMPLE
";

fn at(files: &[(&str, &str)]) -> (String, usize, usize) {
    let verified = verified(files);
    let [one] = verified.verification.findings.as_slice() else { panic!("{}", said(&verified)) };
    assert_eq!(one.code, "MP0002");
    (one.at.file.clone(), one.at.line, one.at.column)
}

fn indented(text: &str, by: usize) -> String {
    let pad = " ".repeat(by);
    text.lines().map(|l| format!("{pad}{l}\n")).collect()
}

#[test]
fn a_finding_names_file_line_and_column_in_whatever_form_it_is_written() {
    let one = format!("# a comment\n{PARTNER}---\n\n{RULE}");
    assert_eq!(at(&[("one.yaml", &one)]), ("one.yaml".to_owned(), 17, 5));
    assert_eq!(at(&[("a.yaml", PARTNER), ("b.yaml", RULE)]), ("b.yaml".to_owned(), 7, 5));
    let item = |t: &str| {
        let t = indented(t, 2);
        format!("- {}", t.trim_start())
    };
    let list = format!("apiVersion: v1\nkind: List\nitems:\n{}{}", item(PARTNER), item(RULE));
    assert_eq!(at(&[("list.yaml", &list)]), ("list.yaml".to_owned(), 17, 7));
    let anchored = RULE
        .replace("metadata: {name: partner}", "metadata: {name: partner, annotations: {x: y}}")
        .replace("spec:", "x-policy: &p\n  tls: {mode: SIMPLE}\nspec:")
        .replace("  trafficPolicy:\n    tls:\n      mode: SIMPLE\n", "  trafficPolicy: *p\n");
    assert_eq!(at(&[("a.yaml", &format!("{PARTNER}---\n{anchored}"))]), ("a.yaml".to_owned(), 13, 3));
    let json = "{\"apiVersion\": \"networking.istio.io/v1\", \"kind\": \"DestinationRule\", \"metadata\": {\"name\": \"p\"},
 \"spec\": {\"host\": \"api.partner.example\", \"trafficPolicy\": {\"tls\": {\"mode\": \"SIMPLE\"}}}}";
    assert_eq!(at(&[("a.yaml", PARTNER), ("b.json", json)]), ("b.json".to_owned(), 2, 60));
    let empty = format!("---\n---\n# nothing\n---\n{PARTNER}---\n---\n{RULE}---\n");
    assert_eq!(at(&[("e.yaml", &empty)]), ("e.yaml".to_owned(), 20, 5));
}

fn refused(text: &str) -> String {
    let source = Source { name: "broken.yaml".to_owned(), text: text.to_owned(), found: false };
    verify(&[source]).err().map(|e| e.to_string()).unwrap_or_default()
}

#[test]
fn input_that_is_no_manifest_names_the_file_the_place_and_the_way_out() {
    let broken = refused("a: [");
    assert!(broken.starts_with("broken.yaml is not valid YAML: ") && broken.contains("line "), "{broken}");
    let template = refused("{{- if .Values.x }}\nkind: X\n{{- end }}\n");
    assert!(template.contains("helm template"), "{template}");
    let shape = refused("kind: Gateway\nmetadata: {name: a}\n");
    assert!(shape.starts_with("broken.yaml:1:1: `apiVersion` is missing"), "{shape}");
    let nothing = refused("# nothing\n");
    assert!(nothing.contains("no Kubernetes resource found"), "{nothing}");
    let none = verify(&[]).err().map(|e| e.to_string()).unwrap_or_default();
    assert!(none.contains("no Kubernetes resource found"), "{none}");
    let binary = text("x.bin", vec![0x89, b'P', 0, 1]).unwrap_err().to_string();
    assert!(binary.starts_with("x.bin is not text"), "{binary}");
    let latin = text("l.yaml", vec![b'a', 0xe9, b'b']).unwrap_err().to_string();
    assert!(latin.contains("byte 1 is 0xe9"), "{latin}");
}

#[test]
fn a_document_of_a_folder_that_is_no_resource_is_passed_over() {
    let values = Source { name: "values.yaml".to_owned(), text: "replicas: 3\n".to_owned(), found: true };
    let rule = Source { name: "rule.yaml".to_owned(), text: RULE.to_owned(), found: true };
    let verified = verify(&[values, rule]).unwrap();
    assert_eq!(verified.verification.passed_over.len(), 1, "{:?}", verified.verification.passed_over);
    assert!(verified.verification.passed_over[0].starts_with("values.yaml:1:1"));
}

#[test]
fn delegates_in_a_circle_end() {
    let vs = |name: &str, to: &str| {
        format!(
            "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: {name}}}\nspec:\n  http: [{{match: [{{uri: {{prefix: /}}}}], delegate: {{name: {to}}}}}]\n---\n"
        )
    };
    let verified = verified(&[("v.yaml", &format!("{}{}", vs("a", "b"), vs("b", "a")))]);
    assert!(!found(&verified).is_empty());
}

#[test]
fn ten_thousand_resources_are_verified_in_seconds() {
    let mut text = String::new();
    for i in 0..10_000 {
        text.push_str(&format!("apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: e{i}}}\nspec: {{hosts: [h{i}.example.com], resolution: DNS, ports: [{{number: {}, name: http, protocol: HTTP, targetPort: 443}}]}}\n---\n", 80 + i % 7));
    }
    let begun = std::time::Instant::now();
    let verified = verified(&[("many.yaml", &text)]);
    assert_eq!(verified.verification.resources, 10_000);
    assert!(begun.elapsed() < std::time::Duration::from_secs(120), "{:?}", begun.elapsed());
}

#[test]
fn an_alias_bomb_is_refused() {
    let mut text = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n".to_owned();
    for i in 1..12 {
        let items = vec![format!("*a{}", i - 1); 10].join(",");
        text.push_str(&format!("a{i}: &a{i} [{items}]\n"));
    }
    assert!(refused(&text).contains("broken.yaml"), "{}", refused(&text));
}

/// Texts of manifests with lines, words and characters changed.
fn mutated() -> impl Strategy<Value = String> {
    let mut seeds = vec![
        format!("{PARTNER}---\n{RULE}"),
        include_str!("../../../fixtures/egress-gateway-simple/gateway.yaml").to_owned(),
        format!(
            "{}---\n{}",
            include_str!("../../../fixtures/path-based-routing/routes-as-printed.yaml"),
            include_str!("../../../fixtures/path-based-routing/gateway.yaml")
        ),
    ];
    for case in super::folder().into_iter().flat_map(std::fs::read_dir).flatten().flatten() {
        seeds.extend(std::fs::read_to_string(case.path().join("case.yaml")));
    }
    seeds.sort();
    let edits =
        proptest::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), 0..8u8), 1..6);
    (0..seeds.len(), edits).prop_map(move |(seed, edits)| {
        let mut lines: Vec<String> = seeds[seed].lines().map(str::to_owned).collect();
        for (a, b, kind) in edits {
            if lines.is_empty() {
                break;
            }
            let (i, j) = (a.index(lines.len()), b.index(lines.len()));
            match kind {
                0 => {
                    lines.remove(i);
                }
                1 => lines.swap(i, j),
                2 => lines[i] = lines[j].clone(),
                3 => lines[i] = lines[i].replace("443", "80"),
                4 => lines[i] = lines[i].replace(':', ": *"),
                5 => lines[i] = lines[i].replace("example", "*"),
                6 => lines[i] = format!("  {}", lines[i]),
                _ => {
                    let text = &mut lines[i];
                    let at = text
                        .char_indices()
                        .nth(j % (text.chars().count() + 1))
                        .map_or(text.len(), |(at, _)| at);
                    text.insert(at, ['"', '{', '\u{0}', '&', '-', '\u{feff}', '|', '~'][j % 8]);
                }
            }
        }
        lines.join("\n")
    })
}

/// How many inputs are tried: `PROPTEST_CASES`, or else this many.
/// The same resources as those of a cluster.
fn in_cluster(text: &str) -> InForce {
    let documents: Vec<Value> = serde_saphyr::from_multiple(text).unwrap_or_default();
    let mut resources: Vec<Resource> = documents.into_iter().map(Resource).collect();
    resources.retain(|r| !r.kind().is_empty() && !r.name().is_empty());
    for resource in &mut resources {
        if let Some(metadata) = resource.0["metadata"].as_object_mut() {
            metadata.entry("namespace").or_insert_with(|| Value::from("default"));
        }
    }
    InForce {
        namespace: "default".to_owned(),
        resources,
        whole: text.len().is_multiple_of(8),
        secrets: text.len().is_multiple_of(16),
        ..InForce::default()
    }
}

fn cases(usual: u32) -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(usual)
}

proptest! {
    // `PROPTEST_CASES` sets another number.
    #![proptest_config(ProptestConfig { cases: cases(2000), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_mutated_input_makes_it_panic_or_hang(text in mutated()) {
        let begun = std::time::Instant::now();
        // Each fourth, to save time, also as what a cluster might hold.
        if text.len().is_multiple_of(4) {
            let read = in_cluster(&text);
            let verified = verify_in_force(&read);
            for finding in verified.verification.findings.iter().chain(&verified.verification.notes) {
                prop_assert!(!finding.at.is_in_file() && !finding.at.file.is_empty(), "{:?}", finding);
            }
            drop(verified.proof());
        }
        let source = Source { name: "m.yaml".to_owned(), text, found: false };
        if let Ok(verified) = verify(&[source]) {
            for finding in verified.verification.findings.iter().chain(&verified.verification.notes) {
                prop_assert!(!finding.message.is_empty() && !finding.code.is_empty());
            }
        }
        prop_assert!(begun.elapsed() < std::time::Duration::from_secs(20));
    }
}
