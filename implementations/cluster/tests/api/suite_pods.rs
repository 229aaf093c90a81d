//! Pods of the suite's own image, as the suite sees them: processes that speak its protocol.

use std::sync::{Arc, Mutex};

use meshproof_harness::served::{Answer, Ask, Ended, PROTOCOL, Question, Said};
use meshproof_harness::workload::RequestSpec;
use meshproof_model::{Connection, Evidence, EvidenceId, Exchange, ExternalService, Fact, Side};
use serde_json::json;

use crate::fake_cluster::log_line;
use crate::server::{Channels, Reply};

/// What was asked of the processes, and what their requests leave in the logs of proxies.
#[derive(Clone, Default)]
pub(crate) struct SuitePods {
    /// By pod: the kind of each question.
    pub(crate) asked: Arc<Mutex<Vec<(String, String)>>>,
    /// The URL of each request, and the address that it was sent to.
    pub(crate) sent: Arc<Mutex<Vec<(String, String)>>>,
    lines: Arc<Mutex<Vec<(String, String)>>>,
}

impl SuitePods {
    /// The lines since the last time, by pod.
    pub(crate) fn logged(&self) -> Vec<(String, String)> {
        std::mem::take(&mut *self.lines.lock().unwrap())
    }

    /// A process in this pod; without `pods`, the image is another one.
    pub(crate) fn process(pods: Option<Self>, pod: String) -> Reply {
        Reply::switch(async move |mut channels: Channels| {
            let Some(pods) = pods else {
                let message = "exec: \"/usr/local/bin/meshproof\": no such file or directory";
                channels.exit(&json!({ "status": "Failure", "message": message })).await;
                return;
            };
            let mut arrived = Vec::new();
            while let Some((channel, bytes)) = channels.next().await {
                if channel != 0 {
                    return;
                }
                arrived.extend_from_slice(&bytes);
                while let Some(end) = arrived.iter().position(|b| *b == b'\n') {
                    let line: Vec<u8> = arrived.drain(..=end).collect();
                    let question: Question = serde_json::from_slice(&line).unwrap();
                    for said in pods.answer(&pod, question) {
                        channels.send(1, format!("{}\n", serde_json::to_string(&said).unwrap())).await;
                    }
                }
            }
        })
    }

    fn answer(&self, pod: &str, Question { id, ask }: Question) -> Vec<Said> {
        let kind = serde_json::to_value(&ask).unwrap()["type"].as_str().unwrap().to_owned();
        self.asked.lock().unwrap().push((pod.to_owned(), kind));
        let mut all = Vec::new();
        let answer = match ask {
            Ask::Hello { .. } => Answer::Hello { protocol: PROTOCOL, version: "0.1.0".to_owned(), now_us: 0 },
            Ask::Serve { spec, .. } => Answer::Serving {
                service: ExternalService {
                    host: spec.host,
                    kind: "embedded".to_owned(),
                    version: "meshproof-embedded/0.1.0".to_owned(),
                },
                addresses: [80, 443].map(|port| (port, format!("127.0.0.1:{port}").parse().unwrap())).into(),
            },
            Ask::Send { requests, to, .. } => Answer::Sent {
                exchanges: requests
                    .iter()
                    .map(|r| Ended {
                        exchange: self.exchange(pod, r, &to[0].address.to_string()),
                        ended_us: 1,
                    })
                    .collect(),
            },
            Ask::Settle => {
                all.push(Said::Evidence(Box::new(connection())));
                Answer::Settled
            }
            Ask::Arrived { .. } => return all,
            Ask::Stop => Answer::Stopped,
        };
        all.push(Said::Answer { id, answer });
        all
    }

    /// A request that a proxy answers with 200, and logs.
    fn exchange(&self, pod: &str, request: &RequestSpec, to: &str) -> Exchange {
        self.sent.lock().unwrap().push((request.url.clone(), to.to_owned()));
        let host = request.url.split('/').nth(2).unwrap();
        let logs = if pod == "meshproof-probe-1" { "istio-egressgateway-1" } else { pod };
        let agent = format!("meshproof/{}", request.token);
        self.lines.lock().unwrap().push((logs.to_owned(), log_line(host, &agent, 200)));
        let response = json!({ "version": "HTTP/1.1", "status": 200, "headers": [], "body": "", "body_bytes": 0,
            "body_truncated": false });
        let hop = json!({ "method": "GET", "url": request.url, "sent": format!("GET / HTTP/1.1\r\nhost: {host}\r\n"),
            "sent_bytes": 30, "result": { "response": response } });
        let exchange = json!({ "url": request.url, "hops": [hop], "duration_us": 5 });
        serde_json::from_value(exchange).unwrap()
    }
}

fn connection() -> Evidence {
    Evidence {
        id: EvidenceId("e1".to_owned()),
        at_us: 7,
        step: 0,
        side: Side::Service { host: "edition.cnn.com".to_owned() },
        token: None,
        fact: Fact::Connection(Connection {
            number: 1,
            port: 443,
            tls_port: true,
            peer: "10.1.0.5:1".to_owned(),
            clear_bytes: "GET".to_owned(),
            tls: None,
        }),
    }
}
