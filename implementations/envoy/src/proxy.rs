//! One proxy: its process, the configuration that was pushed to it, and what it reports about that.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use meshproof_harness::run_folder;
use meshproof_local::data_plane::{Boot, DataPlaneError, LogSink, MeshCertificate};
use meshproof_local::ports;
use meshproof_model::CredentialStatus;
use meshproof_plan::model::{Credential, ProxyPlan};
use reqwest::StatusCode;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::Mutex;

use crate::backoff::backoff;
use crate::files;
use crate::http_client::HttpClient;
use crate::map::{MappingContext, ProxyConfig, bootstrap, bridge, file_name, secrets};
use crate::process::EnvoyProcess;
use crate::program::Program;
use crate::pushed::{PushedConfig, lost_chains, of_clusters, of_listeners};
use crate::startup::latest_messages;
use crate::stats::{EnvoyStats, ExpectedVersions};
use crate::{secrets_dump, startup};

/// The longest wait until a pushed configuration is in force or refused.
const IN_FORCE_TIMEOUT: Duration = Duration::from_secs(30);
/// The longest wait for a secret that Envoy does not take. What needs it then fails, as it would in a
/// cluster.
const SECRETS_TIMEOUT: Duration = Duration::from_secs(2);
/// How long connections of a removed configuration may continue: longer than Envoy's own `--drain-time-s`.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(4);
/// How long settling waits for a connection whose client has closed it while its server continues.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(2);
/// The longest wait until the flush marker has answered and logged.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest wait for a process's exit or for its message about a refusal, when either is already known to
/// have happened.
const OUTPUT_TIMEOUT: Duration = Duration::from_secs(1);

/// The content of a watched file: a `DiscoveryResponse` (envoy.service.discovery.v3).
#[derive(Serialize)]
struct DiscoveryResponse<'a> {
    version_info: &'a str,
    resources: Vec<&'a Value>,
}

/// A running proxy.
pub(crate) struct EnvoyProxy {
    name: String,
    folder: PathBuf,
    process: EnvoyProcess,
    admin: HttpClient,
    flush_marker: HttpClient,
    /// How many requests were sent to the flush marker: each has a path of its own.
    flushes: AtomicU64,
    pushed: Mutex<PushedConfig>,
}

fn write_failed(path: &Path, e: &std::io::Error) -> DataPlaneError {
    DataPlaneError::Environment(format!(
        "{} cannot be written: {e}. Check that the disk is not full",
        path.display()
    ))
}

impl EnvoyProxy {
    /// Starts a proxy with an empty configuration and returns when it answers.
    ///
    /// # Errors
    /// The proxy did not start.
    pub(crate) async fn start(
        program: &Program,
        name: &str,
        identity: &MeshCertificate,
        boot: &Boot,
        logs: Option<Arc<dyn LogSink>>,
    ) -> Result<Self, DataPlaneError> {
        let folder = boot.folder.join(file_name("proxy", name).trim_end_matches(".json"));
        run_folder::create_private(&folder).map_err(|e| write_failed(&folder, &e))?;
        let start = bootstrap::bootstrap(name, &folder, identity, &boot.mesh_roots, &boot.system_roots);
        let nothing = json!({"version_info": "0", "resources": []});
        for (file, value) in [("bootstrap.json", &start), ("cds.json", &nothing), ("lds.json", &nothing)] {
            let path = folder.join(file);
            files::replace(&path, value).map_err(|e| write_failed(&path, &e))?;
        }
        let process = EnvoyProcess::start(program, name, &folder, logs)?;
        let (admin, flush_marker) = startup::ready(&process, name, &folder).await?;
        Ok(Self {
            name: name.to_owned(),
            folder,
            process,
            admin,
            flush_marker,
            flushes: AtomicU64::default(),
            pushed: Mutex::default(),
        })
    }

    /// Adds everything new beside what is in force.
    ///
    /// # Errors
    /// As for [`meshproof_local::data_plane::DataPlane::apply`].
    pub(crate) async fn prepare(
        &self,
        plan: &ProxyPlan,
        credentials: &[Credential],
    ) -> Result<(), DataPlaneError> {
        let mut pushed = self.pushed.lock().await;
        let used = secrets::used(plan, credentials, &self.folder);
        pushed.secret_files.write(&self.folder, used).map_err(|e| write_failed(&self.folder, &e))?;
        pushed.next = ProxyConfig::of(
            plan,
            &MappingContext { folder: &self.folder, secrets: &pushed.secret_files.references() },
        )?;
        let prepared = bridge::prepared(&pushed.config, &pushed.next);
        self.push(&mut pushed, prepared).await
    }

    /// Moves senders of traffic to the new configuration.
    ///
    /// # Errors
    /// As for [`EnvoyProxy::prepare`].
    pub(crate) async fn move_over(&self) -> Result<(), DataPlaneError> {
        let mut pushed = self.pushed.lock().await;
        let moved = bridge::moved(&pushed.config, &pushed.next);
        self.push(&mut pushed, moved).await
    }

    /// Removes what is no longer used.
    ///
    /// # Errors
    /// As for [`EnvoyProxy::prepare`].
    pub(crate) async fn finish(&self) -> Result<(), DataPlaneError> {
        let mut pushed = self.pushed.lock().await;
        let (before, next) = (pushed.config.clone(), pushed.next.clone());
        self.push(&mut pushed, next).await?;
        let uses = &of_clusters(&pushed.config) | &of_listeners(&pushed.config);
        if pushed.secret_files.remove_unused(|name| uses.contains(name)) {
            self.await_secrets_gone(&pushed).await?;
        }
        let gone = before.listeners.iter().filter(|(name, _)| !pushed.config.listeners.contains_key(*name));
        for bind in gone.map(|(_, l)| l.bind) {
            self.await_closed(bind).await?;
        }
        Ok(())
    }

    /// Pushes a configuration and returns when it is in force.
    async fn push(&self, pushed: &mut PushedConfig, config: ProxyConfig) -> Result<(), DataPlaneError> {
        if config == pushed.config && !pushed.unsure {
            return Ok(());
        }
        let result = self.push_parts(pushed, &config).await;
        pushed.unsure = result.is_err();
        if result.is_ok() {
            pushed.config = config;
        }
        result
    }

    async fn push_parts(
        &self,
        pushed: &mut PushedConfig,
        config: &ProxyConfig,
    ) -> Result<(), DataPlaneError> {
        let all = pushed.unsure;
        // A cluster must exist before a route leads to it, and may go only after the last such route has
        // gone.
        let kept = pushed.config.clusters.keys().all(|name| config.clusters.contains_key(name));
        let clusters_changed = all || config.clusters != pushed.config.clusters;
        if clusters_changed && kept {
            self.push_clusters(pushed, config).await?;
        }
        let closed = self.push_listeners(pushed, config, all).await?;
        if clusters_changed && !kept {
            self.push_clusters(pushed, config).await?;
        }
        // Once the main thread has accepted a configuration, it has passed it to the worker. The worker
        // handles it before any later connection: a dispatcher serves posted callbacks and socket events in
        // the order in which they came.
        self.await_drained(&closed).await
    }

    async fn push_clusters(
        &self,
        pushed: &mut PushedConfig,
        config: &ProxyConfig,
    ) -> Result<(), DataPlaneError> {
        self.process.output().forget_refusals();
        let version = pushed.version("c");
        self.write("cds.json", &version, config.clusters.values().map(|c| &*c.value))?;
        let secrets = pushed.secrets(&of_clusters(config));
        self.await_in_force(
            pushed,
            &ExpectedVersions { clusters: Some(version), secrets, ..ExpectedVersions::default() },
        )
        .await
    }

    /// Returns the HTTP filter chains that were removed.
    async fn push_listeners(
        &self,
        pushed: &mut PushedConfig,
        config: &ProxyConfig,
        all: bool,
    ) -> Result<Vec<String>, DataPlaneError> {
        self.process.output().forget_refusals();
        let mut expected = ExpectedVersions::default();
        let mut versions = BTreeMap::new();
        for (name, routing) in &config.routes {
            let kept = pushed.config.routes.get(name).filter(|before| *before == routing && !all);
            if let Some(version) = kept.and_then(|_| pushed.routes.get(name).cloned()) {
                versions.insert(name.clone(), version);
                continue;
            }
            let version = pushed.version("r");
            self.write(&file_name("rds", name), &version, [&*routing.value])?;
            expected.routes.push(version.clone());
            versions.insert(name.clone(), version);
        }
        let mut closed = Vec::new();
        if all || config.listeners != pushed.config.listeners {
            let version = pushed.version("l");
            self.write("lds.json", &version, config.listeners.values().map(|l| &*l.value))?;
            expected.listeners = Some(version);
            expected.secrets = pushed.secrets(&of_listeners(config));
            closed = lost_chains(&pushed.config, config);
        }
        if expected != ExpectedVersions::default() {
            self.await_in_force(pushed, &expected).await?;
        }
        pushed.routes = versions;
        Ok(closed)
    }

    fn write<'a>(
        &self,
        file: &str,
        version: &str,
        resources: impl IntoIterator<Item = &'a Value>,
    ) -> Result<(), DataPlaneError> {
        let path = self.folder.join(file);
        let response =
            DiscoveryResponse { version_info: version, resources: resources.into_iter().collect() };
        files::replace(&path, &response).map_err(|e| write_failed(&path, &e))
    }

    async fn stats(&self) -> Result<EnvoyStats, DataPlaneError> {
        Ok(EnvoyStats::read(&self.ask("/stats").await?))
    }

    /// Sends a GET to the admin interface. An exit of the process in the meantime is noticed at once.
    async fn ask(&self, path: &str) -> Result<String, DataPlaneError> {
        let answer = tokio::select! {
            biased;
            answer = self.admin.get(path) => answer,
            _ = self.process.exit() => return Err(self.gone("").await),
        };
        match answer {
            Ok((StatusCode::OK, body)) => Ok(body),
            Ok((status, _)) => {
                Err(self.gone(&format!("its admin interface answered {path} with {status}")).await)
            }
            Err(why) => Err(self.gone(&format!("its admin interface did not answer: {why}")).await),
        }
    }

    /// The error for a process that exited or does not answer, with its latest messages.
    async fn gone(&self, why: &str) -> DataPlaneError {
        // A broken connection is noticed a moment before the exit that caused it.
        let exited = tokio::time::timeout(OUTPUT_TIMEOUT, self.process.exit()).await.ok();
        if let Some(error) = startup::inotify_limit(&self.process, &self.name) {
            return error;
        }
        let how =
            exited.map_or_else(|| why.to_owned(), |status| format!("it exited unexpectedly ({status})"));
        DataPlaneError::Gone(format!("Envoy for {}: {how}{}", self.name, latest_messages(&self.process)))
    }

    async fn await_in_force(
        &self,
        pushed: &mut PushedConfig,
        expected: &ExpectedVersions,
    ) -> Result<(), DataPlaneError> {
        let begun = Instant::now();
        let mut delays = backoff();
        loop {
            let stats = self.stats().await?;
            if stats.refused_since(&pushed.stats) {
                pushed.stats = stats;
                return Err(self.refusal().await);
            }
            let have = stats.have(expected);
            if have && (stats.have_secrets(expected) || begun.elapsed() > SECRETS_TIMEOUT) {
                pushed.stats = stats;
                return Ok(());
            }
            if begun.elapsed() > IN_FORCE_TIMEOUT {
                return Err(DataPlaneError::Gone(format!(
                    "Envoy for {} neither brought its configuration into force nor refused it within {} s \
                     (expected \
                     {expected:?}; its statistics are {stats:?}){}",
                    self.name,
                    IN_FORCE_TIMEOUT.as_secs(),
                    latest_messages(&self.process)
                )));
            }
            delays.wait().await;
        }
    }

    /// The error for a refused configuration. Envoy writes the reason before it increments its counter.
    async fn refusal(&self) -> DataPlaneError {
        let begun = Instant::now();
        let mut delays = backoff();
        let reason = loop {
            match self.process.output().refusal() {
                Some(reason) => break reason,
                None if begun.elapsed() > OUTPUT_TIMEOUT => break "it gave no reason".to_owned(),
                None => delays.wait().await,
            }
        };
        if reason.contains("cannot bind") || reason.contains("Address already in use") {
            return DataPlaneError::Environment(format!(
                "Envoy for {} cannot listen: {reason}. Stop the process that listens there, or run again",
                self.name
            ));
        }
        DataPlaneError::Refused(format!("Envoy for {}: {reason}", self.name))
    }

    /// Returns when the log lines of everything that the worker did before are delivered.
    async fn flush(&self) -> Result<(), DataPlaneError> {
        let path = format!("/{}", self.flushes.fetch_add(1, Ordering::Relaxed));
        let logged = self.process.output().await_flush_marker(&path);
        let flushed = async {
            self.flush_marker.get(&path).await?;
            logged.await.map_err(|_| "its log ended".to_owned())
        };
        let flushed = tokio::select! {
            biased;
            flushed = tokio::time::timeout(FLUSH_TIMEOUT, flushed) => flushed,
            _ = self.process.exit() => return Err(self.gone("").await),
        };
        match flushed {
            Ok(Ok(())) => Ok(()),
            Ok(Err(why)) => Err(self.gone(&format!("its worker did not answer: {why}")).await),
            Err(_) => {
                let seconds = FLUSH_TIMEOUT.as_secs();
                Err(self
                    .gone(&format!("its worker did not answer and log a request within {seconds} s"))
                    .await)
            }
        }
    }

    /// Returns when the log line of every request and connection that has ended is delivered.
    ///
    /// # Errors
    /// The process exited or does not answer.
    pub(crate) async fn settle(&self) -> Result<(), DataPlaneError> {
        self.flush().await?;
        let begun = Instant::now();
        let mut delays = backoff();
        loop {
            let stats = self.stats().await?;
            // A passed-on connection ends for Envoy only when its server has closed it too.
            if stats.number(TCP_TOTAL) <= self.process.output().connections()
                || begun.elapsed() > SETTLE_TIMEOUT
            {
                return Ok(());
            }
            delays.wait().await;
        }
    }

    /// Returns when no further request can come on connections to removed filter chains. Passed-on bytes may
    /// flow for as long as Envoy allows.
    async fn await_drained(&self, chains: &[String]) -> Result<(), DataPlaneError> {
        let begun = Instant::now();
        let mut delays = backoff();
        while !chains.is_empty()
            && !self.stats().await?.are_drained(chains)
            && begun.elapsed() < DRAIN_TIMEOUT
        {
            delays.wait().await;
        }
        Ok(())
    }

    /// Returns when no process listens there any more.
    async fn await_closed(&self, bind: SocketAddr) -> Result<(), DataPlaneError> {
        let begun = Instant::now();
        let mut delays = backoff();
        while !ports::is_free(bind) {
            if begun.elapsed() > IN_FORCE_TIMEOUT {
                let seconds = IN_FORCE_TIMEOUT.as_secs();
                let what = format!("it still listens on {bind} {seconds} s after its listener was removed");
                return Err(DataPlaneError::Gone(format!("Envoy for {}: {what}", self.name)));
            }
            delays.wait().await;
        }
        Ok(())
    }

    /// Envoy keeps a secret until it has removed the last cluster that used it, a moment after that was
    /// pushed.
    async fn await_secrets_gone(&self, pushed: &PushedConfig) -> Result<(), DataPlaneError> {
        let begun = Instant::now();
        let mut delays = backoff();
        loop {
            let active = self.ask(secrets_dump::ACTIVE).await?;
            let left = secrets_dump::names(&active)
                .iter()
                .any(|name| !pushed.secret_files.present().contains_key(name));
            if !left || begun.elapsed() > SECRETS_TIMEOUT {
                return Ok(());
            }
            delays.wait().await;
        }
    }

    /// The state of the credentials in Envoy.
    ///
    /// # Errors
    /// The process exited or does not answer.
    pub(crate) async fn credentials(&self) -> Result<Vec<CredentialStatus>, DataPlaneError> {
        let pushed = self.pushed.lock().await;
        let active = self.ask(secrets_dump::ACTIVE).await?;
        let warming = self.ask(secrets_dump::WARMING).await?;
        Ok(secrets_dump::statuses(&active, &warming, |name| pushed.secret_files.is_absent(name)))
    }

    /// Ends the process.
    pub(crate) async fn stop(&self) {
        self.process.stop().await;
    }
}

/// The number of passed-on connections since the start.
const TCP_TOTAL: &str = "tcp.tcp.downstream_cx_total";

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn a_port_without_a_listener_is_free_even_while_a_connection_is_open() {
        let listening = TcpListener::bind("127.0.0.1:0").unwrap();
        let bind = listening.local_addr().unwrap();
        assert!(!ports::is_free(bind));
        let client = TcpStream::connect(bind).unwrap();
        let (accepted, _) = listening.accept().unwrap();
        drop(listening);
        assert!(ports::is_free(bind));
        drop((client, accepted));
    }
}
