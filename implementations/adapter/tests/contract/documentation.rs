//! `docs/adapters.md` is correct.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use meshproof_adapter::message::schemas;
use meshproof_harness::certificates::{Authority, KeyAlgorithm};
use meshproof_harness::external::{
    ExternalSpec, HttpVersions, Page, PlainPort, Refusal, TlsPort, TlsVersions,
};
use meshproof_harness::feature::Feature;
use meshproof_harness::store::Store;
use meshproof_harness::timeouts::Timeouts;
use meshproof_harness::workload::RequestSpec;
use meshproof_local::external::start_embedded;
use meshproof_local::ports;
use meshproof_local::workload::{Route, WorkloadClient};
use meshproof_plan::model::HeaderChanges;
use serde_json::Value;

use crate::support::installed;

const PAGE: &str = include_str!("../../../../docs/adapters.md");
const HOST: &str = "edition.cnn.com";

/// The lines of the block after a mark.
fn block(mark: &str) -> Vec<&'static str> {
    let (_, after) = PAGE.split_once(mark).expect("the page has this mark");
    after.lines().skip(1).take_while(|l| !l.is_empty()).collect()
}

#[test]
fn the_table_of_features_is_the_vocabulary() {
    let rows: Vec<String> = block("<!-- features -->").iter().skip(2).map(|l| (*l).to_owned()).collect();
    let known: Vec<String> =
        Feature::ALL.iter().map(|f| format!("| `{f}` | {} |", f.description())).collect();
    assert_eq!(rows, known);
}

#[test]
fn every_message_of_the_transcript_follows_its_schema() {
    let [(_, to), (_, from)] = schemas();
    let to = jsonschema::draft202012::new(to.as_value()).unwrap();
    let from = jsonschema::draft202012::new(from.as_value()).unwrap();
    let mut seen = 0;
    for line in block("<!-- transcript -->") {
        let (validator, json) = match line.split_once(' ') {
            Some(("suite", json)) => (&to, json),
            Some(("adapter", json)) => (&from, json),
            _ => continue,
        };
        let message: Value = serde_json::from_str(json.trim()).unwrap_or_else(|e| panic!("{e}: {line}"));
        let problems: Vec<_> = validator.iter_errors(&message).map(|e| e.to_string()).collect();
        assert!(problems.is_empty(), "{problems:?}: {line}");
        seen += 1;
    }
    assert_eq!(seen, 11);
}

#[test]
fn the_credentials_and_header_changes_in_the_page_match_the_schema() {
    let shown: BTreeMap<String, Vec<Value>> = serde_json::from_str(block("<!-- credentials -->")[1]).unwrap();
    let [(_, to), _] = schemas();
    let definitions = &to.as_value()["$defs"];
    let of = |name: &str| {
        let mut schema = definitions[name].clone();
        schema["$defs"] = definitions.clone();
        jsonschema::draft202012::new(&schema).unwrap()
    };
    for credential in shown.values().flatten() {
        assert!(of("CredentialFiles").is_valid(credential), "{credential}");
    }
    let (_, after) = PAGE.split_once("`{\"remove\":").unwrap();
    let changes = format!("{{\"remove\":{}", after.split_once('`').unwrap().0);
    let changes: HeaderChanges = serde_json::from_str(&changes).unwrap();
    assert_eq!(changes.add.len(), 2, "{changes:?}");
}

#[test]
fn the_adapters_in_this_repository_name_only_known_features() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../adapters");
    for name in ["python", "haproxy", "nginx", "caddy"] {
        let source = std::fs::read_to_string(folder.join(name).join("adapter.py")).unwrap();
        for named in source.split("Unsupported(\"").skip(1).filter_map(|after| after.split('"').next()) {
            assert!(named.parse::<Feature>().is_ok(), "{name}: {named}");
        }
    }
}

/// A running process of the worked example.
struct Example {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Example {
    fn start() -> Self {
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("../adapters/python/adapter.py");
        let mut child = Command::new("python3")
            .arg(program)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdin = child.stdin.take().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        Self { child, stdin, stdout }
    }

    fn say(&mut self, line: &str) {
        writeln!(self.stdin, "{line}").unwrap();
    }

    fn answer(&mut self) -> Value {
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|e| panic!("{e}: {line}"))
    }
}

impl Drop for Example {
    fn drop(&mut self) {
        let _gone_already = self.child.kill();
        let _status = self.child.wait();
    }
}

/// A message without what differs from run to run.
fn normalised(mut message: Value) -> Value {
    if let Some(version) = message.get_mut("version") {
        *version = Value::from("any");
    }
    if let Some(Value::String(line)) = message.get_mut("line") {
        let mut log: Value = serde_json::from_str(line).unwrap();
        log["start_time"] = Value::from("any");
        *line = log.to_string();
    }
    message
}

#[tokio::test]
async fn the_worked_example_answers_as_the_transcript_says() {
    if !installed("python3", "--version") {
        return;
    }
    let ca = Authority::new(KeyAlgorithm::EcdsaP256).unwrap();
    let certificate = ca.server(HOST).issue().unwrap();
    let spec = ExternalSpec {
        aliases: Vec::new(),
        host: HOST.to_owned(),
        plain: PlainPort::Closed,
        tls: Some(TlsPort {
            certificate: certificate.certificate_pem().to_owned(),
            key: certificate.key(),
            client_ca: None,
            refusal: Refusal::Http400,
            versions: TlsVersions::Both,
            http: HttpVersions::Both,
            by_name: Vec::new(),
        }),
        ipv6: false,
        tcp: Vec::new(),
        pages: vec![Page {
            path: "/politics".to_owned(),
            content_type: "text/html".into(),
            body: "Politics".to_owned(),
        }],
        keep_alive: true,
    };
    let server = start_embedded(spec, Store::new(), &Timeouts::default()).await.unwrap();
    let upstream = server.address(443).unwrap().to_string();
    let listener = std::net::SocketAddr::from(([127, 0, 0, 1], ports::take().unwrap()));
    let folder = tempfile::tempdir().unwrap();
    let roots = folder.path().join("system-roots.pem");
    std::fs::write(&roots, ca.certificate_pem()).unwrap();
    let local = |line: &str| {
        line.replace("127.0.0.1:15001", &listener.to_string())
            .replace("127.0.0.1:18443", &upstream)
            .replace("/tmp/meshproof-x/data-plane/given/system-roots.pem", roots.to_str().unwrap())
    };
    let mut example = Example::start();
    for line in block("<!-- transcript -->") {
        match line.split_once(' ') {
            Some(("suite", json)) => example.say(&local(json.trim())),
            Some(("adapter", json)) => {
                let expected: Value = serde_json::from_str(&local(json.trim())).unwrap();
                assert_eq!(normalised(example.answer()), normalised(expected));
            }
            Some(("request", request)) => {
                let url = request.trim_start_matches("GET ");
                let dials = Route::capture([(80, listener)]);
                let client =
                    WorkloadClient::new("sleep", dials, ca.certificate_pem(), &Timeouts::default()).unwrap();
                let exchange = client.exchange(&RequestSpec::get(url, "x.00001")).await;
                assert_eq!(exchange.last_response().map(|r| r.status), Some(200), "{exchange:?}");
            }
            _ => assert!(line.starts_with("```"), "{line}"),
        }
    }
    assert!(example.child.wait().unwrap().success());
    server.stop().await.unwrap();
}
