//! The parts of a traffic policy that do not say who opens TLS.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::common::{Opaque, fqdn, port_number};
use super::durations::{check_duration, duration};
use super::locality::{LocalitySetting, ZoneAwareSetting};
use super::problems::Problems;

/// LoadBalancerSettings.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct LoadBalancer {
    #[serde(default)]
    pub(crate) simple: Option<SimpleLoadBalancer>,
    #[serde(default)]
    pub(crate) consistent_hash: Option<ConsistentHash>,
    #[serde(default)]
    pub(crate) backend_utilization: Opaque,
    #[serde(default)]
    pub(crate) locality_lb_setting: Option<LocalitySetting>,
    #[serde(default)]
    pub(crate) zone_aware_lb_setting: Option<ZoneAwareSetting>,
    #[serde(default)]
    pub(crate) warmup_duration_secs: Option<String>,
    #[serde(default)]
    pub(crate) warmup: Option<Warmup>,
}

/// LoadBalancerSettings.SimpleLB.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(crate) enum SimpleLoadBalancer {
    Unspecified,
    LeastConn,
    Random,
    Passthrough,
    RoundRobin,
    LeastRequest,
}

/// LoadBalancerSettings.ConsistentHashLB.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct ConsistentHash {
    #[serde(default)]
    pub(crate) http_header_name: Option<String>,
    #[serde(default)]
    pub(crate) http_cookie: Option<HashCookie>,
    #[serde(default)]
    pub(crate) use_source_ip: Option<bool>,
    #[serde(default)]
    pub(crate) http_query_parameter_name: Option<String>,
    #[serde(default)]
    pub(crate) ring_hash: Opaque,
    #[serde(default)]
    pub(crate) maglev: Option<Maglev>,
    #[serde(default)]
    pub(crate) minimum_ring_size: u64,
}

/// ConsistentHashLB.HTTPCookie.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct HashCookie {
    #[serde(default)]
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) path: String,
    #[serde(default)]
    pub(crate) ttl: Option<String>,
    #[serde(default)]
    pub(crate) attributes: Vec<BTreeMap<String, String>>,
}

/// ConsistentHashLB.MagLev.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Maglev {
    #[serde(default)]
    pub(crate) table_size: u64,
}

/// WarmupConfiguration.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Warmup {
    #[serde(default)]
    pub(crate) duration: Option<String>,
    #[serde(default)]
    pub(crate) minimum_percent: Option<f64>,
    #[serde(default)]
    pub(crate) aggression: Option<f64>,
}

impl LoadBalancer {
    /// `validateLoadBalancer`. `outliers`: whether the policy has `outlierDetection`.
    pub(crate) fn validate(&self, place: &str, outliers: bool, problems: &mut Problems) {
        if let Some(hash) = &self.consistent_hash {
            hash.validate(problems);
        }
        if self.locality_lb_setting.is_some() && self.zone_aware_lb_setting.is_some() {
            problems.error("only one of localityLbSetting and zoneAwareLbSetting can be set");
        }
        if let Some(setting) = &self.locality_lb_setting {
            setting.validate(outliers, problems);
        }
        if let Some(setting) = &self.zone_aware_lb_setting {
            setting.validate(outliers, problems);
        }
        if let Some(text) = &self.warmup_duration_secs {
            check_duration(text, problems);
        }
        if let Some(warmup) = &self.warmup {
            match &warmup.duration {
                None => problems.error("duration is required"),
                Some(text) => check_duration(text, problems),
            }
            if warmup.minimum_percent.is_some_and(|p| p > 100.0) {
                problems.error("minimumPercent value should be less than or equal to 100");
            }
            if warmup.aggression.is_some_and(|a| a <= 0.0) {
                problems.error("aggression should be greater than 0");
            }
        }
        let fields = [
            ("consistentHash", self.consistent_hash.is_some()),
            ("backendUtilization", self.backend_utilization.is_some()),
            ("localityLbSetting", self.locality_lb_setting.is_some()),
            ("zoneAwareLbSetting", self.zone_aware_lb_setting.is_some()),
            ("warmupDurationSecs", self.warmup_duration_secs.is_some()),
            ("warmup", self.warmup.is_some()),
        ];
        problems.pass_over(place, &fields);
    }
}

impl ConsistentHash {
    fn validate(&self, problems: &mut Problems) {
        if let Some(cookie) = &self.http_cookie {
            if cookie.name.is_empty() {
                problems.error("name required for HttpCookie");
            }
            let mut names = Vec::new();
            for attribute in &cookie.attributes {
                match attribute.get("name").filter(|n| !n.is_empty()) {
                    None => problems.error("cookie attribute name cannot be empty"),
                    Some(name) if names.contains(&name) => {
                        problems.error(format!("duplicate cookie attribute name: {name}"));
                    }
                    Some(name) => names.push(name),
                }
            }
        }
        if self.minimum_ring_size != 0 {
            problems.warn(
                "consistent hash MinimumRingSize is deprecated, use ConsistentHashLB's RingHash \
                 configuration instead",
            );
            if self.maglev.is_some() || self.ring_hash.is_some() {
                problems.error("only one of MinimumRingSize or Maglev/Ringhash can be specified");
            }
        }
        if let Some(maglev) = &self.maglev {
            if maglev.table_size == 0 {
                problems.error("tableSize must be set for maglev");
            }
            if maglev.table_size >= 5_000_011 {
                problems.error("tableSize must be less than 5000011 for maglev");
            } else if !is_prime(maglev.table_size) {
                problems.error("tableSize must be a prime number for maglev");
            }
        }
    }
}

/// `isPrime`, which calls 1 a prime.
fn is_prime(x: u64) -> bool {
    if x != 0 && x < 4 {
        return true;
    }
    if x.is_multiple_of(2) {
        return false;
    }
    (3..).step_by(2).take_while(|f| f * f <= x).all(|f| !x.is_multiple_of(f))
}

/// ConnectionPoolSettings.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ConnectionPool {
    #[serde(default)]
    pub(crate) tcp: Option<TcpPool>,
    #[serde(default)]
    pub(crate) http: Option<HttpPool>,
}

/// ConnectionPoolSettings.TCPSettings.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct TcpPool {
    #[serde(default)]
    pub(crate) max_connections: i64,
    #[serde(default)]
    pub(crate) connect_timeout: Option<String>,
    #[serde(default)]
    pub(crate) tcp_keepalive: Option<TcpKeepalive>,
    #[serde(default)]
    pub(crate) max_connection_duration: Option<String>,
    #[serde(default)]
    pub(crate) idle_timeout: Option<String>,
}

/// ConnectionPoolSettings.TCPSettings.TcpKeepalive.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TcpKeepalive {
    #[serde(default)]
    pub(crate) probes: u32,
    #[serde(default)]
    pub(crate) time: Option<String>,
    #[serde(default)]
    pub(crate) interval: Option<String>,
}

/// ConnectionPoolSettings.HTTPSettings.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct HttpPool {
    #[serde(default)]
    pub(crate) h2_upgrade_policy: UpgradePolicy,
    #[serde(default)]
    pub(crate) use_client_protocol: bool,
    #[serde(default)]
    pub(crate) http1_max_pending_requests: i64,
    #[serde(default)]
    pub(crate) http2_max_requests: i64,
    #[serde(default)]
    pub(crate) max_requests_per_connection: i64,
    #[serde(default)]
    pub(crate) max_retries: i64,
    #[serde(default)]
    pub(crate) idle_timeout: Option<String>,
    #[serde(default)]
    pub(crate) max_concurrent_streams: i64,
    #[serde(default, rename = "http2KeepAlive")]
    pub(crate) http2_keep_alive: Option<HttpKeepAlive>,
}

/// ConnectionPoolSettings.HTTPSettings.ConnectionKeepalive.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct HttpKeepAlive {
    #[serde(default)]
    pub(crate) interval: Option<String>,
    #[serde(default)]
    pub(crate) timeout: Option<String>,
}

/// ConnectionPoolSettings.HTTPSettings.H2UpgradePolicy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(crate) enum UpgradePolicy {
    #[default]
    Default,
    DoNotUpgrade,
    Upgrade,
}

impl ConnectionPool {
    /// `validateConnectionPool`.
    pub(crate) fn validate(&self, place: &str, problems: &mut Problems) {
        if self.http.is_none() && self.tcp.is_none() {
            problems.error("connection pool must have at least one field");
            return;
        }
        if let Some(http) = &self.http {
            http.validate(&format!("{place}.http"), problems);
        }
        if let Some(tcp) = &self.tcp {
            tcp.validate(problems);
            problems.pass_over(place, &[("tcp", true)]);
        }
    }
}

impl HttpPool {
    fn validate(&self, place: &str, problems: &mut Problems) {
        let numbers = [
            ("http1 max pending requests", "http1MaxPendingRequests", self.http1_max_pending_requests),
            ("http2 max requests", "http2MaxRequests", self.http2_max_requests),
            ("max requests per connection", "maxRequestsPerConnection", self.max_requests_per_connection),
            ("max retries", "maxRetries", self.max_retries),
            ("max concurrent streams", "maxConcurrentStreams", self.max_concurrent_streams),
        ];
        for (name, field, value) in numbers {
            if value < 0 {
                problems.error(format!("{name} must be non-negative"));
            }
            problems.pass_over(place, &[(field, value > 0)]);
        }
        if let Some(text) = &self.idle_timeout {
            check_duration(text, problems);
        }
        if self.h2_upgrade_policy == UpgradePolicy::Upgrade && self.use_client_protocol {
            problems.error("use client protocol must not be true when H2UpgradePolicy is UPGRADE");
        }
        if let Some(alive) = &self.http2_keep_alive {
            for (name, text) in [("interval", &alive.interval), ("timeout", &alive.timeout)] {
                match text {
                    None => problems.error(format!("http2 keepalive {name} is required")),
                    Some(text) => check_duration(text, problems),
                }
            }
        }
        let fields = [
            ("idleTimeout", self.idle_timeout.is_some()),
            ("http2KeepAlive", self.http2_keep_alive.is_some()),
        ];
        problems.pass_over(place, &fields);
    }
}

impl TcpPool {
    fn validate(&self, problems: &mut Problems) {
        if self.max_connections < 0 {
            problems.error("max connections must be non-negative");
        }
        for text in [&self.connect_timeout, &self.max_connection_duration].into_iter().flatten() {
            check_duration(text, problems);
        }
        // 0s turns it off.
        if let Some(text) = &self.idle_timeout
            && !duration(text).is_ok_and(|d| d.as_millis() == 0)
        {
            check_duration(text, problems);
        }
        if let Some(alive) = &self.tcp_keepalive {
            for text in [&alive.time, &alive.interval].into_iter().flatten() {
                check_duration(text, problems);
            }
        }
    }
}

/// OutlierDetection.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct OutlierDetection {
    #[serde(default)]
    pub(crate) consecutive_errors: i32,
    #[serde(default)]
    pub(crate) split_external_local_origin_errors: bool,
    #[serde(default)]
    pub(crate) consecutive_local_origin_failures: Option<u32>,
    #[serde(default)]
    pub(crate) consecutive_gateway_errors: Option<u32>,
    #[serde(default, rename = "consecutive5xxErrors")]
    pub(crate) consecutive_5xx_errors: Option<u32>,
    #[serde(default)]
    pub(crate) interval: Option<String>,
    #[serde(default)]
    pub(crate) base_ejection_time: Option<String>,
    #[serde(default)]
    pub(crate) max_ejection_percent: i32,
    #[serde(default)]
    pub(crate) min_health_percent: i32,
    #[serde(default)]
    pub(crate) outlier_detection_http_error_codes: Vec<u32>,
}

impl OutlierDetection {
    /// `validateOutlierDetection`.
    pub(crate) fn validate(&self, problems: &mut Problems) {
        if let Some(text) = &self.base_ejection_time {
            check_duration(text, problems);
        }
        if self.consecutive_errors != 0 {
            problems.warn(
                "outlier detection consecutive errors is deprecated, use consecutiveGatewayErrors or \
                 consecutive5xxErrors instead",
            );
        }
        if !self.split_external_local_origin_errors && self.consecutive_local_origin_failures.unwrap_or(0) > 0
        {
            problems.error(
                "outlier detection consecutive local origin failures is specified, but split external local \
                 origin errors is set to false",
            );
        }
        if let Some(text) = &self.interval {
            check_duration(text, problems);
        }
        for percent in [self.max_ejection_percent, self.min_health_percent] {
            if !(0..=100).contains(&percent) {
                problems.error(format!("percentage {percent} is not in range 0..100"));
            }
        }
    }
}

/// TrafficPolicy.TunnelSettings.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Tunnel {
    #[serde(default)]
    pub(crate) protocol: String,
    #[serde(default)]
    pub(crate) target_host: String,
    #[serde(default)]
    pub(crate) target_port: u32,
}

impl Tunnel {
    /// `validateTunnelSettings`.
    pub(crate) fn validate(&self, problems: &mut Problems) {
        if !matches!(self.protocol.as_str(), "" | "CONNECT" | "POST") {
            problems.error("tunnel protocol must be \"CONNECT\" or \"POST\"");
        }
        if self.target_host.parse::<std::net::IpAddr>().is_err()
            && let Err(text) = fqdn(&self.target_host)
        {
            problems.error(format!(
                "tunnel target host must be valid FQDN or IP address: {text}; {} is not a valid IP",
                self.target_host
            ));
        }
        if let Err(text) = port_number(self.target_port) {
            problems.error(format!("tunnel target port is invalid: {text}"));
        }
    }
}

/// TrafficPolicy.ProxyProtocol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ProxyProtocol {
    #[serde(default)]
    pub(crate) version: ProxyProtocolVersion,
}

/// TrafficPolicy.ProxyProtocol.VERSION.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub(crate) enum ProxyProtocolVersion {
    #[default]
    V1,
    V2,
}
