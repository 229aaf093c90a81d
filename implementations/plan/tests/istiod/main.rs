//! The plan beside istiod's own answers: each case is a folder with the configuration (`input.yaml`) and what istiod makes of
//! it (`istiod.json`), in the form of [`meshproof_plan::report`].
//!
//! The cases are not part of the repository. They are looked for in `MESHPROOF_CASES`, else in `../shared/cases/plan` beside
//! it. Without them the test is ignored, unless `MESHPROOF_REQUIRE_CASES` is set.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use meshproof_model::Resource;
use meshproof_plan::cluster_state::{ClusterState, proxy};
use meshproof_plan::report::{Questions, as_json, secrets_as_json};
use meshproof_plan::{OutboundPolicy, ProxyKind, describe};
use serde_json::{Value, json};

/// Cases in which the two may differ, each with the reason from istiod's source.
const EXCEPTIONS: &[(&str, &str)] = &[];

fn folder() -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/cases/plan");
    let folder = std::env::var_os("MESHPROOF_CASES").map_or(beside, PathBuf::from);
    folder.is_dir().then_some(folder)
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn resources(yaml: &str) -> Vec<Resource> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(yaml).expect("a case is YAML");
    documents.into_iter().filter(|d| !d.is_null()).map(Resource).collect()
}

/// The proxies of the cases.
fn state(base: &str, input: &str) -> ClusterState {
    let mut all = resources(base);
    all.extend(resources(input));
    let mut state = ClusterState::from_resources(&all);
    // The annotation stands for the label that sidecar injection sets on pods.
    let meshed: BTreeSet<String> = state
        .resources
        .iter()
        .filter(|r| {
            r.0.pointer("/metadata/annotations/mpdiff~1meshed").and_then(Value::as_str) == Some("true")
        })
        .map(|r| format!("{}.{}.svc.cluster.local", r.name(), r.namespace()))
        .collect();
    let label = ("security.istio.io/tlsMode".to_owned(), "istio".to_owned());
    for service in state.services.iter_mut().filter(|s| meshed.contains(&s.host)) {
        for endpoint in service.ports.iter_mut().flat_map(|p| &mut p.endpoints) {
            endpoint.mesh_tls = true;
            endpoint.labels.extend([label.clone()]);
            let address = endpoint.address.ip().to_string();
            for workload in state.workloads.iter_mut().filter(|w| w.address == address) {
                workload.labels.extend([label.clone()]);
            }
        }
    }
    if input.contains("# mpdiff: outbound=REGISTRY_ONLY") {
        state.mesh.outbound = OutboundPolicy::RegistryOnly;
    }
    let labels = |text: &str| -> BTreeMap<String, String> {
        text.split(',').filter_map(|p| p.split_once('=')).map(|(k, v)| (k.to_owned(), v.to_owned())).collect()
    };
    state.proxies = [
        ("sleep", "default", ProxyKind::Sidecar, "app=sleep"),
        ("curl", "other", ProxyKind::Sidecar, "app=curl"),
        (
            "istio-egressgateway",
            "istio-system",
            ProxyKind::Gateway,
            "istio=egressgateway,app=istio-egressgateway",
        ),
        (
            "istio-ingressgateway",
            "istio-system",
            ProxyKind::Gateway,
            "istio=ingressgateway,app=istio-ingressgateway",
        ),
    ]
    .into_iter()
    .map(|(name, namespace, kind, with)| {
        let identity = format!("spiffe://cluster.local/ns/{namespace}/sa/{name}");
        proxy(name, namespace, kind, labels(with), identity)
    })
    .collect();
    state
}

/// What istiod's answer was asked.
fn questions(expected: &Value) -> Questions {
    let mut questions = Questions::default();
    let proxies = expected.get("proxies").and_then(Value::as_object);
    for (name, proxy) in proxies.into_iter().flatten() {
        if name.ends_with("gateway") {
            continue;
        }
        for (port, listener) in proxy["listeners"].as_object().into_iter().flatten() {
            questions.ports.extend(port.parse::<u16>().ok());
            questions
                .server_names
                .extend(listener["tls"].as_object().into_iter().flatten().map(|(n, _)| n.clone()));
        }
    }
    questions
}

/// Where two values differ, at most a few places.
fn differences(at: &str, expected: &Value, got: &Value, into: &mut Vec<String>) {
    match (expected, got) {
        (Value::Object(a), Value::Object(b)) => {
            for key in a.keys().chain(b.keys()).collect::<BTreeSet<_>>() {
                let at = format!("{at}/{key}");
                match (a.get(key), b.get(key)) {
                    (Some(a), Some(b)) => differences(&at, a, b, into),
                    (Some(a), None) => into.push(format!("{at}: istiod {a}, plan nothing")),
                    (None, Some(b)) => into.push(format!("{at}: istiod nothing, plan {b}")),
                    (None, None) => {}
                }
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            for (i, (a, b)) in a.iter().zip(b).enumerate() {
                differences(&format!("{at}/{i}"), a, b, into);
            }
        }
        (a, b) if a == b => {}
        (a, b) => into.push(format!("{at}: istiod {a}, plan {b}")),
    }
}

fn compare(base: &str, case: &Path) -> Vec<String> {
    let input = read(&case.join("input.yaml"));
    let expected: Value = serde_json::from_str(&read(&case.join("istiod.json"))).expect("istiod.json");
    let state = state(base, &input);
    let description = describe(&state.input());
    let mut got = as_json(&description, &questions(&expected));
    if expected.get("secrets").is_some() {
        let credentials = description.resolution.map(|r| r.credentials).unwrap_or_default();
        got["secrets"] = secrets_as_json(&credentials);
    }
    if input.contains("body: {bytes:") {
        // The normaliser prints a body that is written as text alone.
        without_bodies(&mut got);
    }
    let mut found = Vec::new();
    differences("", &expected, &got, &mut found);
    found
}

fn without_bodies(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            if let Some(direct) = fields.get_mut("direct") {
                direct["body"] = json!("");
            }
            fields.values_mut().for_each(without_bodies);
        }
        Value::Array(items) => items.iter_mut().for_each(without_bodies),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// The kind of each case, as the folder lists them.
fn kinds(folder: &Path) -> BTreeMap<String, String> {
    let Ok(text) = std::fs::read_to_string(folder.join("DISAGREEMENTS.json")) else { return BTreeMap::new() };
    let listed: BTreeMap<String, Vec<String>> = serde_json::from_str(&text).unwrap_or_default();
    let pairs = listed.into_iter().flat_map(|(kind, cases)| {
        let short = kind.split(' ').next().unwrap_or_default().to_owned();
        cases.into_iter().map(move |case| (case, short.clone()))
    });
    pairs.collect()
}

#[test]
fn the_plan_is_istiods() {
    let Some(folder) = folder() else {
        assert!(
            std::env::var_os("MESHPROOF_REQUIRE_CASES").is_none(),
            "MESHPROOF_REQUIRE_CASES is set, and there are no cases in MESHPROOF_CASES or ../shared/cases/plan"
        );
        eprintln!("ignored: no cases in MESHPROOF_CASES or ../shared/cases/plan");
        return;
    };
    let base = read(&folder.join("BASE.yaml"));
    let kinds = kinds(&folder);
    let mut cases: Vec<PathBuf> = std::fs::read_dir(&folder)
        .expect("the folder of the cases")
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.join("istiod.json").is_file())
        .collect();
    cases.sort();
    assert!(!cases.is_empty(), "no case in {}", folder.display());
    let mut table = String::new();
    let mut disagreeing = 0;
    for case in &cases {
        let name = case.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let found = compare(&base, case);
        let excused = EXCEPTIONS.iter().find(|(excused, _)| *excused == name);
        match (found.is_empty(), excused) {
            (true, None) | (false, Some(_)) => {}
            (true, Some((_, reason))) => {
                disagreeing += 1;
                let _ = writeln!(table, "{name} agrees, and is excused: {reason}");
            }
            (false, None) => {
                disagreeing += 1;
                let kind = kinds.get(&name).map_or("-", String::as_str);
                let _ = writeln!(table, "{kind:5} {name}: {} differences", found.len());
                for text in found.iter().take(4) {
                    let _ = writeln!(table, "        {}", text.chars().take(400).collect::<String>());
                }
            }
        }
    }
    assert!(disagreeing == 0, "{disagreeing} of {} cases disagree:\n{table}", cases.len());
}

#[test]
fn a_difference_is_found_and_named_by_its_place() {
    let mut found = Vec::new();
    differences("", &json!({"a": [{"b": 1}], "c": 2}), &json!({"a": [{"b": 3}], "d": 4}), &mut found);
    assert_eq!(
        found,
        ["/a/0/b: istiod 1, plan 3", "/c: istiod 2, plan nothing", "/d: istiod nothing, plan 4"]
    );
}
