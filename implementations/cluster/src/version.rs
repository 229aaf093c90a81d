//! The version of a control plane.

use bytes::Bytes;
use meshproof_harness::timeouts::Timeout;
use serde_json::Value;

use crate::api::{ClusterClient, ExecLimits, PodRef};
use crate::pod::label;

/// Where istiod answers `/version` (pilot/pkg/bootstrap/monitoring.go).
const MONITORING_PORT: u16 = 15014;
const MAX_VERSION: usize = 1024;

/// istiod's version by its own endpoint, else by its program, else by its image's tag, else by its label, which is the version of
/// the chart.
pub(crate) async fn version_of(api: &ClusterClient, namespace: &str, pod: &Value) -> String {
    let name = pod.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
    let at =
        PodRef { namespace: namespace.to_owned(), pod: name.to_owned(), container: "discovery".to_owned() };
    if let Ok(answer) = api.pod_get(&at, MONITORING_PORT, "/version", MAX_VERSION).await {
        return without_build(String::from_utf8_lossy(&answer).trim());
    }
    let argv = ["pilot-discovery", "version", "-o", "json"].map(str::to_owned);
    let time = api.timeouts().get(Timeout::ClusterAnswer);
    let limits = ExecLimits { stdout: MAX_VERSION, stderr: MAX_VERSION, time };
    if let Ok(output) = api.exec(&at, &argv, Bytes::new(), limits).await
        && let Some(version) = printed_version(&output.stdout)
    {
        return version;
    }
    let tag = pod.pointer("/spec/containers/0/image").and_then(Value::as_str).and_then(tag);
    let numbered = tag.filter(|tag| tag.starts_with(|c: char| c.is_ascii_digit()) && tag.contains('.'));
    numbered.or(label(pod, "app.kubernetes.io/version")).or(tag).unwrap_or("unknown").to_owned()
}

/// The tag of an image's name.
fn tag(image: &str) -> Option<&str> {
    image.split('@').next()?.rsplit('/').next()?.split_once(':').map(|(_, tag)| tag)
}

/// `{"clientVersion": {"version": "1.30.1", ...}}` (istio.io/istio, pkg/version/cobra.go).
fn printed_version(output: &[u8]) -> Option<String> {
    let printed: Value = serde_json::from_slice(output).ok()?;
    let version =
        printed.pointer("/clientVersion/version")?.as_str().filter(|version| !version.is_empty())?;
    Some(meshproof_harness::store::bounded(version, 100))
}

/// `1.30.1-REVISION-Clean` to `1.30.1` (`BuildInfo.String` in pkg/version/version.go).
fn without_build(full: &str) -> String {
    let mut parts = full.rsplitn(3, '-');
    let (_status, _revision, version) = (parts.next(), parts.next(), parts.next());
    meshproof_harness::store::bounded(version.unwrap_or(full), 100)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_shown_without_its_build() {
        assert_eq!(without_build("1.30.1-0a1b2c-Clean"), "1.30.1");
        assert_eq!(without_build("1.31-alpha.5f-0a1b2c-Modified"), "1.31-alpha.5f");
        assert_eq!(without_build("odd"), "odd");
    }

    #[test]
    fn only_a_version_that_the_program_prints_is_taken_for_one() {
        let version = printed_version(br#"{"clientVersion": {"version": "1.31.0-rc.0", "status": "Clean"}}"#);
        assert_eq!(version.unwrap(), "1.31.0-rc.0");
        for other in ["", "client version: 1.31.0", r#"{"clientVersion": {"version": ""}}"#] {
            assert_eq!(printed_version(other.as_bytes()), None);
        }
    }
}
