//! Where a mesh's proxies write access logs, and in which format: what the mesh configuration says.

use meshproof_harness::access_log::LogFormat;
use meshproof_harness::manifest;
use serde_json::Value;

/// The provider that every installation has (istio.io/istio, pkg/config/mesh/mesh.go, `DefaultMeshConfig`).
const BUILT_IN: &str = "envoy";
/// What a container's log shows.
const SHOWN: &[&str] =
    &["/dev/stdout", "/dev/stderr", "/proc/self/fd/1", "/proc/self/fd/2", "/dev/fd/1", "/dev/fd/2"];

/// The provider of access logs that a run names in its Telemetry resources.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessLogs {
    /// Its name.
    pub provider: String,
    /// The format in which it writes.
    pub format: LogFormat,
}

impl Default for AccessLogs {
    fn default() -> Self {
        Self { provider: BUILT_IN.to_owned(), format: LogFormat::default() }
    }
}

/// The provider whose lines show most of what checks need, among those that write where a container's log shows it: the built-in
/// one and the `extensionProviders` of kind `envoyFileAccessLog` (reference, "Global Mesh Options").
///
/// # Errors
/// No provider's lines can be read, in words that say why of each.
pub fn access_logs(config: Option<&Value>) -> Result<AccessLogs, String> {
    let Some(text) = config.and_then(|c| c.pointer("/data/mesh")?.as_str()) else {
        return Ok(AccessLogs::default());
    };
    let mesh: Value = manifest::value(text).ok_or("the mesh configuration is not valid YAML")?;
    let configured = mesh["extensionProviders"].as_array().map(Vec::as_slice).unwrap_or_default();
    let mut providers: Vec<(&str, &Value)> =
        configured.iter().filter_map(|provider| Some((provider["name"].as_str()?, provider))).collect();
    if !providers.iter().any(|(name, _)| *name == BUILT_IN) {
        providers.insert(0, (BUILT_IN, &Value::Null));
    }
    // The built-in one wins where others show no more.
    providers.sort_by_key(|(name, _)| *name != BUILT_IN);
    let mut refused = Vec::new();
    let mut found: Vec<AccessLogs> = Vec::new();
    for (name, provider) in providers {
        match of_provider(name, provider, &mesh) {
            None => {}
            Some(Ok(format)) => found.push(AccessLogs { provider: name.to_owned(), format }),
            Some(Err(why)) => refused.push(format!("the provider {name} {why}")),
        }
    }
    found.into_iter().min_by_key(|logs| logs.format.lacks().len()).ok_or_else(|| refused.join(", and "))
}

/// The format of a provider; none of one that writes no files. Or why its lines cannot be used.
fn of_provider(name: &str, provider: &Value, mesh: &Value) -> Option<Result<LogFormat, String>> {
    let built_in = name == BUILT_IN && provider.is_null();
    let file = &provider["envoyFileAccessLog"];
    if !built_in && !file.is_object() {
        return (name == BUILT_IN).then(|| Err("is redefined and writes no file".to_owned()));
    }
    let path = file["path"].as_str().filter(|path| !path.is_empty()).unwrap_or("/dev/stdout");
    if !SHOWN.contains(&path) {
        return Some(Err(format!("writes to {path}, which the log of the proxy's container does not show")));
    }
    let omits = file["omitEmptyValues"].as_bool().unwrap_or(false);
    let own = &file["logFormat"];
    let format = if name == BUILT_IN && !own.is_object() && !omits {
        // As istiod's `telemetryAccessLog` does: the mesh's own options for the built-in provider without a format.
        of_mesh(mesh)
    } else if own["labels"].is_object() {
        json(&own["labels"], omits)
    } else {
        text(own["text"].as_str().unwrap_or_default(), omits)
    };
    Some(format.and_then(|format| {
        if format.attributes_lines() {
            Ok(format)
        } else {
            Err("writes lines without %REQ(USER-AGENT)%, which shows the request that a line belongs to"
                .to_owned())
        }
    }))
}

/// `accessLogEncoding` and `accessLogFormat` (istio.io/istio, pilot/pkg/model/telemetry_logging.go,
/// `FileAccessLogFromMeshConfig`).
fn of_mesh(mesh: &Value) -> Result<LogFormat, String> {
    let format = mesh["accessLogFormat"].as_str().unwrap_or_default();
    match mesh["accessLogEncoding"].as_str() {
        Some("JSON") => {
            // istiod takes its own format where this one is not JSON.
            json(&serde_json::from_str(format).unwrap_or(Value::Null), false)
        }
        Some(_) | None => text(format, false),
    }
}

fn text(format: &str, omits: bool) -> Result<LogFormat, String> {
    if omits {
        return Err(
            "leaves values out of its text lines (omitEmptyValues), which then fit no format".to_owned()
        );
    }
    if format.is_empty() {
        return Ok(LogFormat::default());
    }
    LogFormat::text(format).map_err(|why| format!("has a format that cannot be read: {why}"))
}

fn json(format: &Value, omits: bool) -> Result<LogFormat, String> {
    match format.as_object() {
        Some(members) if !members.is_empty() => {
            LogFormat::json(format).map_err(|why| format!("has a format that cannot be read: {why}"))
        }
        // Without an absent value there is no member that shows that the format has it.
        Some(_) | None if omits => Ok(LogFormat::istio_json()),
        Some(_) | None => Ok(LogFormat::default()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(mesh: &str) -> Result<AccessLogs, String> {
        access_logs(Some(&json!({"data": {"mesh": mesh}})))
    }

    const UA: &str = "%REQ(USER-AGENT)%";

    #[test]
    fn without_a_configured_format_the_built_in_provider_writes_a_known_one() {
        assert_eq!(access_logs(None), Ok(AccessLogs::default()));
        for mesh in ["accessLogFile: /dev/stdout", "accessLogEncoding: JSON", "accessLogFormat: ''"] {
            assert_eq!(of(mesh), Ok(AccessLogs::default()), "{mesh}");
        }
    }

    #[test]
    fn the_format_is_that_of_the_mesh_or_of_the_redefined_provider() {
        let mesh = of(&format!("accessLogFormat: '{UA} %RESPONSE_CODE%'")).unwrap();
        assert_eq!(Ok(mesh.format), LogFormat::text(&format!("{UA} %RESPONSE_CODE%")));
        let members = format!("accessLogEncoding: JSON\naccessLogFormat: '{{\"agent\": \"{UA}\"}}'");
        assert_eq!(Ok(of(&members).unwrap().format), LogFormat::json(&json!({"agent": UA})));
        let redefined = format!(
            "accessLogFormat: '%DURATION%'\nextensionProviders:\n- name: envoy\n  envoyFileAccessLog:\n    path: \
             /dev/stdout\n    logFormat: {{text: '{UA} %PROTOCOL%'}}"
        );
        assert_eq!(Ok(of(&redefined).unwrap().format), LogFormat::text(&format!("{UA} %PROTOCOL%")));
        let labels = format!(
            "extensionProviders:\n- name: envoy\n  envoyFileAccessLog:\n    logFormat: {{labels: {{agent: '{UA}'}}}}"
        );
        assert_eq!(Ok(of(&labels).unwrap().format), LogFormat::json(&json!({"agent": UA})));
    }

    #[test]
    fn another_provider_is_used_where_the_built_in_one_does_not_show_its_lines_or_shows_less() {
        let to_file = "extensionProviders:\n- name: envoy\n  envoyFileAccessLog: {path: /var/log/access.log}\n\
            - name: tracing\n  zipkin: {service: zipkin}\n\
            - name: stdout\n  envoyFileAccessLog: {path: /dev/stdout}";
        assert_eq!(of(to_file), Ok(AccessLogs { provider: "stdout".to_owned(), ..AccessLogs::default() }));
        let short = format!(
            "accessLogFormat: '{UA}'\nextensionProviders:\n- name: full\n  envoyFileAccessLog: {{path: /dev/stdout}}"
        );
        assert_eq!(of(&short).unwrap().provider, "full");
    }

    #[test]
    fn a_mesh_whose_lines_cannot_be_used_says_why_of_each_provider() {
        let to_file =
            of("extensionProviders:\n- name: envoy\n  envoyFileAccessLog: {path: /var/log/access.log}");
        assert!(to_file.unwrap_err().contains("the provider envoy writes to /var/log/access.log"));
        assert!(of("accessLogFormat: '%RESPONSE_CODE%'").unwrap_err().contains("USER-AGENT"));
        let several = of("accessLogFormat: \"%RESPONSE_CODE%\\n%DURATION%\"");
        assert!(several.unwrap_err().contains("several lines"));
        let other = of("extensionProviders:\n- name: envoy\n  envoyHttpAls: {service: als}");
        assert!(other.unwrap_err().contains("redefined"));
        let omits = of("extensionProviders:\n- name: envoy\n  envoyFileAccessLog: {omitEmptyValues: true}");
        assert!(omits.unwrap_err().contains("omitEmptyValues"));
    }
}
