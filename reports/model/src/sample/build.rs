//! Builders for the pieces of the sample reports.

use crate::evidence::{
    AccessLog, Change, Connection, Evidence, EvidenceId, Exchange, Fact, Header, Hop, HopResult, LogFields,
    Response, ServerRequest, Side, TlsFacts,
};
use crate::report::{CheckResult, Level, Verdict};

pub(super) fn texts(values: &[&str]) -> Vec<String> {
    values.iter().map(|&v| v.to_owned()).collect()
}

pub(super) fn header(name: &str, value: &str) -> Header {
    Header { name: name.to_owned(), value: value.to_owned() }
}

pub(super) fn workload() -> Side {
    Side::Workload { name: "sleep".to_owned() }
}

pub(super) fn proxy(name: &str) -> Side {
    Side::Proxy { name: name.to_owned() }
}

pub(super) fn service(host: &str) -> Side {
    Side::Service { host: host.to_owned() }
}

/// Numbers the facts of a scenario, one second apart.
pub(super) fn evidence(facts: Vec<(usize, Side, Option<&str>, Fact)>) -> Vec<Evidence> {
    (1_u64..)
        .zip(facts)
        .map(|(n, (step, side, token, fact))| Evidence {
            id: EvidenceId(format!("e{n}")),
            at_us: n * 1_000_000,
            step,
            side,
            token: token.map(str::to_owned),
            fact,
        })
        .collect()
}

pub(super) fn check(
    id: &str,
    level: Level,
    verdict: Verdict,
    reason: &str,
    evidence: &[&str],
) -> CheckResult {
    let scenario = id.split('/').next().unwrap_or_default();
    CheckResult {
        id: id.to_owned(),
        level,
        control: false,
        verdict,
        reason: reason.to_owned(),
        requirement:
            "With origination, the same client request gives exactly one response, 200, and no redirect \
                      anywhere."
                .to_owned(),
        section: "TLS origination for egress traffic".to_owned(),
        expected: "one response with status 200".to_owned(),
        seen: reason.to_owned(),
        evidence: evidence.iter().map(|&e| EvidenceId(e.to_owned())).collect(),
        control_evidence: vec![],
        differences: vec![],
        deviations: vec![],
        expected_failure: None,
        feature: None,
        repeat: format!("meshproof run cluster {scenario} --check {id}"),
    }
}

pub(super) fn exchange(url: &str, hops: Vec<Hop>) -> Fact {
    Fact::Exchange(Exchange { url: url.to_owned(), hops, duration_us: 41_250 })
}

pub(super) fn hop(url: &str, tls: Option<TlsFacts>, result: HopResult) -> Hop {
    let sent =
        "GET /politics HTTP/1.1\r\nhost: edition.cnn.com\r\nuser-agent: meshproof/7f3a91-so.00002\r\n\r\n";
    Hop {
        method: "GET".to_owned(),
        url: url.to_owned(),
        sent: sent.to_owned(),
        sent_bytes: sent.len() as u64,
        headers: Vec::new(),
        body_bytes: None,
        body_sha256: None,
        trailers: Vec::new(),
        messages: Vec::new(),
        tls,
        result,
    }
}

pub(super) fn response(status: u16, headers: Vec<Header>, body: &str) -> HopResult {
    HopResult::Response(Response {
        version: "HTTP/1.1".to_owned(),
        status,
        headers,
        body: body.to_owned(),
        body_bytes: body.len() as u64,
        body_truncated: false,
        body_sha256: None,
        trailers: Vec::new(),
        informational: Vec::new(),
        messages: Vec::new(),
    })
}

pub(super) fn tls() -> TlsFacts {
    TlsFacts {
        server_name: Some("edition.cnn.com".to_owned()),
        alpn_offered: Some(texts(&["h2", "http/1.1"])),
        weak_offers: Some(Vec::new()),
        alpn: Some("http/1.1".to_owned()),
        version: Some("TLSv1.3".to_owned()),
        cipher: Some("TLS13_AES_128_GCM_SHA256".to_owned()),
        peer_certificate: None,
        resumed: false,
        peer_verification: Some("NONE".to_owned()),
        failure: None,
        failure_kind: None,
    }
}

pub(super) fn change(applied: &[&str], deleted: &[&str]) -> Fact {
    Fact::Change(Change {
        applied: texts(applied),
        deleted: texts(deleted),
        convergence_us: 812_000,
        refused: None,
    })
}

pub(super) const SERVICE_ENTRY: &str = "apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata:
  name: edition-cnn-com
  namespace: default
spec:
  hosts:
  - edition.cnn.com
  ports:
  - number: 80
    name: http-port
    protocol: HTTP
    targetPort: 443
  resolution: DNS
";

pub(super) const DESTINATION_RULE: &str = "apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata:
  name: edition-cnn-com
  namespace: default
spec:
  host: edition.cnn.com
  trafficPolicy:
    portLevelSettings:
    - port:
        number: 80
      tls:
        mode: SIMPLE
";

pub(super) const LOG_LINE: &str = "[2025-06-30T16:17:56.763Z] \"GET /politics HTTP/1.1\" 301 - via_upstream - \"-\" 0 162 41 40 \
                        \"-\" \"meshproof/7f3a91-so.00002\" \"cf76518d-3209-9ab7-a1d0-e6002728ef5b\" \
                        \"edition.cnn.com\" \"151.101.129.67:80\" outbound|80||edition.cnn.com \
                        10.244.0.170:54280 151.101.129.67:80 10.244.0.171:35628 - default";

pub(super) fn access_log() -> Fact {
    Fact::AccessLog(AccessLog {
        line: LOG_LINE.to_owned(),
        format: Some("istio-text".to_owned()),
        fields: Some(LogFields {
            method: Some("GET".to_owned()),
            path: Some("/politics".to_owned()),
            protocol: Some("HTTP/1.1".to_owned()),
            response_code: Some(301),
            authority: Some("edition.cnn.com".to_owned()),
            upstream_host: Some("151.101.129.67:80".to_owned()),
            upstream_cluster: Some("outbound|80||edition.cnn.com".to_owned()),
            response_code_details: Some("via_upstream".to_owned()),
            ..LogFields::default()
        }),
        ..AccessLog::default()
    })
}

pub(super) fn request(target: &str, over_tls: bool, headers: Vec<Header>, status: u16) -> Fact {
    Fact::Request(ServerRequest {
        connection: 3,
        port: if over_tls { 443 } else { 80 },
        over_tls,
        peer: "10.244.0.170:54280".to_owned(),
        method: "GET".to_owned(),
        target: target.to_owned(),
        authority: "edition.cnn.com".to_owned(),
        version: "HTTP/1.1".to_owned(),
        headers,
        status,
        body_bytes: Some(0),
        body_sha256: None,
        trailers: Vec::new(),
        messages: Vec::new(),
        tls: over_tls.then(tls),
        answer: None,
    })
}

pub(super) fn connection(port: u16, clear_bytes: &str, tls: Option<TlsFacts>) -> Fact {
    Fact::Connection(Connection {
        number: 3,
        port,
        tls_port: port == 443,
        peer: "10.244.0.170:54280".to_owned(),
        clear_bytes: clear_bytes.to_owned(),
        tls,
    })
}
