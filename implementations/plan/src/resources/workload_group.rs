//! WorkloadGroup: the template of WorkloadEntries, which istiod validates and the plan passes over.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::common::{Opaque, label_syntax, port_number};
use super::problems::Problems;
use super::service_entry::WorkloadEntry;

/// istio.io/api networking/v1alpha3, WorkloadGroup.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WorkloadGroup {
    #[serde(default)]
    metadata: Option<ObjectMeta>,
    #[serde(default)]
    template: Option<WorkloadEntry>,
    #[serde(default)]
    probe: Option<Probe>,
}

/// WorkloadGroup.ObjectMeta.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct ObjectMeta {
    #[serde(default)]
    labels: BTreeMap<String, String>,
    #[serde(default, rename = "annotations")]
    _annotations: BTreeMap<String, String>,
}

/// ReadinessProbe.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Probe {
    #[serde(default)]
    initial_delay_seconds: i32,
    #[serde(default)]
    timeout_seconds: i32,
    #[serde(default)]
    period_seconds: i32,
    #[serde(default)]
    success_threshold: i32,
    #[serde(default)]
    failure_threshold: i32,
    #[serde(default)]
    http_get: Option<HttpGet>,
    #[serde(default)]
    tcp_socket: Option<TcpSocket>,
    #[serde(default)]
    exec: Option<Exec>,
    #[serde(default)]
    grpc: Opaque,
}

/// HTTPHealthCheckConfig.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct HttpGet {
    #[serde(default)]
    port: u32,
    #[serde(default)]
    scheme: String,
    #[serde(default, rename = "path")]
    _path: String,
    #[serde(default, rename = "host")]
    _host: String,
    #[serde(default, rename = "httpHeaders")]
    _http_headers: Opaque,
}

/// TCPHealthCheckConfig.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct TcpSocket {
    #[serde(default)]
    port: u32,
    #[serde(default, rename = "host")]
    _host: String,
}

/// ExecHealthCheckConfig.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Exec {
    #[serde(default)]
    command: Vec<String>,
}

impl WorkloadGroup {
    /// `ValidateWorkloadGroup` (pkg/config/validation/validation.go). The template is not looked at: what a WorkloadEntry must
    /// have, its workload supplies.
    pub(crate) fn validate(&self, problems: &mut Problems) {
        problems.notes.push("WorkloadGroup".to_owned());
        if self.template.is_none() {
            problems.error("template is required");
            return;
        }
        let mut found = Problems::default();
        if let Some(metadata) = &self.metadata {
            label_syntax(&metadata.labels, &mut found);
        }
        if let Some(text) = found.refused().and_then(|r| r.webhook) {
            problems.error(format!("invalid labels: {text}"));
            return;
        }
        if let Some(probe) = &self.probe {
            probe.validate(problems);
        }
    }
}

impl Probe {
    /// `validateReadinessProbe`.
    fn validate(&self, problems: &mut Problems) {
        let counts = [
            ("periodSeconds", self.period_seconds),
            ("initialDelaySeconds", self.initial_delay_seconds),
            ("timeoutSeconds", self.timeout_seconds),
            ("successThreshold", self.success_threshold),
            ("failureThreshold", self.failure_threshold),
        ];
        for (name, _) in counts.into_iter().filter(|(_, count)| *count < 0) {
            problems.error(format!("{name} must be non-negative"));
        }
        if let Some(http) = &self.http_get {
            problems.check(port_number(http.port));
            if !matches!(http.scheme.as_str(), "" | "HTTP" | "HTTPS") {
                problems.error("httpGet.scheme must be one of \"HTTPS\", \"HTTP\"");
            }
        } else if let Some(tcp) = &self.tcp_socket {
            problems.check(port_number(tcp.port));
        } else if let Some(exec) = &self.exec {
            if exec.command.is_empty() {
                problems.error("exec.command is required");
            }
        } else if self.grpc.is_some() {
            problems.error("unknown health check method *v1alpha3.ReadinessProbe_Grpc");
        } else {
            problems.error("unknown health check method <nil>");
        }
    }
}
