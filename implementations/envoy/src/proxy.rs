//! One proxy: its process, what it was told, and what it says of that.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use meshproof_local::data_plane::{Boot, DataPlaneError, LogSink, MeshCertificate};
use meshproof_local::ports;
use meshproof_model::CredentialStatus;
use meshproof_plan::model::{Credential, ProxyPlan};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::Mutex;

use crate::admin::Line;
use crate::files;
use crate::map::{Config, Surroundings, bootstrap, bridge, file_name, secrets};
use crate::pauses::Pauses;
use crate::process::Process;
use crate::startup::last_words;
use crate::stats::{Stats, Wanted};
use crate::told::{Told, credentials, lost_chains};
use crate::{secrets_dump, startup};

/// Until a configuration that was handed over is in force or refused.
const IN_FORCE: Duration = Duration::from_secs(30);
/// How long a secret may take that Envoy does not take up; what needs it then fails as it would in a cluster.
const SECRETS: Duration = Duration::from_secs(2);
/// How long connections of a configuration that is gone may go on; beyond Envoy's own `--drain-time-s`.
const DRAINED: Duration = Duration::from_secs(4);
/// How long settling waits for a connection whose client is gone while its server goes on.
const SETTLED: Duration = Duration::from_secs(2);
/// Until the fence has answered and logged.
const FENCED: Duration = Duration::from_secs(10);
/// Until the last words of a process are read, and its refusals.
const SAID: Duration = Duration::from_secs(1);

/// What is in a watched file: a `DiscoveryResponse` (envoy.service.discovery.v3).
#[derive(Serialize)]
struct Response<'a> {
    version_info: &'a str,
    resources: Vec<&'a Value>,
}

/// A running proxy.
pub(crate) struct Proxy {
    name: String,
    folder: PathBuf,
    process: Process,
    admin: Line,
    fence: Line,
    /// Part of the names of the fence's statistics.
    fences: AtomicU64,
    told: Mutex<Told>,
}

fn write_failed(path: &Path, e: &std::io::Error) -> DataPlaneError {
    DataPlaneError::Environment(format!(
        "{} cannot be written: {e}; see whether the disk is full",
        path.display()
    ))
}

impl Proxy {
    /// Starts a proxy with nothing in force and returns when it answers.
    ///
    /// # Errors
    /// It did not start.
    pub(crate) async fn start(
        program: &Path,
        name: &str,
        identity: &MeshCertificate,
        boot: &Boot,
        logs: Option<Arc<dyn LogSink>>,
    ) -> Result<Self, DataPlaneError> {
        let folder = boot.folder.join(file_name("proxy", name).trim_end_matches(".json"));
        files::folder(&folder).map_err(|e| write_failed(&folder, &e))?;
        let start = bootstrap::bootstrap(name, &folder, identity, &boot.mesh_roots, &boot.system_roots);
        let nothing = json!({"version_info": "0", "resources": []});
        for (file, value) in [("bootstrap.json", &start), ("cds.json", &nothing), ("lds.json", &nothing)] {
            let path = folder.join(file);
            files::replace(&path, value).map_err(|e| write_failed(&path, &e))?;
        }
        let process = Process::start(program, name, &folder, logs)?;
        let (admin, fence) = startup::answering(&process, name, &folder).await?;
        Ok(Self {
            name: name.to_owned(),
            folder,
            process,
            admin,
            fence,
            fences: AtomicU64::default(),
            told: Mutex::default(),
        })
    }

    /// Takes note of what comes, and puts everything new into place beside what is in force.
    ///
    /// # Errors
    /// As for [`meshproof_local::data_plane::DataPlane::apply`].
    pub(crate) async fn prepare(
        &self,
        plan: &ProxyPlan,
        credentials: &[Credential],
    ) -> Result<(), DataPlaneError> {
        let mut told = self.told.lock().await;
        let used = secrets::used(plan, credentials, &self.folder);
        told.vault.fill(&self.folder, used).map_err(|e| write_failed(&self.folder, &e))?;
        told.next = Config::of(plan, &Surroundings { folder: &self.folder, secrets: &told.vault.held() })?;
        let prepared = bridge::prepared(&told.config, &told.next);
        self.push(&mut told, prepared).await
    }

    /// Moves what sends traffic over to the new.
    ///
    /// # Errors
    /// As for [`Proxy::prepare`].
    pub(crate) async fn move_over(&self) -> Result<(), DataPlaneError> {
        let mut told = self.told.lock().await;
        let moved = bridge::moved(&told.config, &told.next);
        self.push(&mut told, moved).await
    }

    /// Takes away what is used no more.
    ///
    /// # Errors
    /// As for [`Proxy::prepare`].
    pub(crate) async fn finish(&self) -> Result<(), DataPlaneError> {
        let mut told = self.told.lock().await;
        let (before, next) = (told.config.clone(), told.next.clone());
        self.push(&mut told, next).await?;
        let uses = credentials(&told.config.clusters);
        if told.vault.forget(|name| uses.contains(name)) {
            self.await_secrets_gone(&told).await?;
        }
        let gone = before.listeners.iter().filter(|(name, _)| !told.config.listeners.contains_key(*name));
        for bind in gone.map(|(_, l)| l.bind) {
            self.await_closed(bind).await?;
        }
        Ok(())
    }

    /// Hands a configuration over and returns when it is in force.
    async fn push(&self, told: &mut Told, config: Config) -> Result<(), DataPlaneError> {
        if config == told.config && !told.unsure {
            return Ok(());
        }
        let result = self.hand_over(told, &config).await;
        told.unsure = result.is_err();
        if result.is_ok() {
            told.config = config;
        }
        result
    }

    async fn hand_over(&self, told: &mut Told, config: &Config) -> Result<(), DataPlaneError> {
        let all = told.unsure;
        // Whoever is led to must be there before, and may go only afterwards.
        let kept = told.config.clusters.keys().all(|name| config.clusters.contains_key(name));
        let clusters_changed = all || config.clusters != told.config.clusters;
        if clusters_changed && kept {
            self.hand_over_clusters(told, config).await?;
        }
        let closed = self.hand_over_listeners(told, config, all).await?;
        if clusters_changed && !kept {
            self.hand_over_clusters(told, config).await?;
        }
        // What the main thread has taken up it has passed to the worker, which reads nothing that comes later before that:
        // a dispatcher's posted callbacks and its sockets' events are served in the order in which they came.
        self.await_drained(&closed).await
    }

    async fn hand_over_clusters(&self, told: &mut Told, config: &Config) -> Result<(), DataPlaneError> {
        self.process.said().forget_refusals();
        let version = told.version("c");
        self.write("cds.json", &version, config.clusters.values().map(|c| &*c.value))?;
        let secrets = told.secrets(&config.clusters);
        self.await_in_force(told, &Wanted { clusters: Some(version), secrets, ..Wanted::default() }).await
    }

    /// Returns the HTTP chains that are gone.
    async fn hand_over_listeners(
        &self,
        told: &mut Told,
        config: &Config,
        all: bool,
    ) -> Result<Vec<String>, DataPlaneError> {
        self.process.said().forget_refusals();
        let mut wanted = Wanted::default();
        let mut versions = BTreeMap::new();
        for (name, routing) in &config.routes {
            let kept = told.config.routes.get(name).filter(|before| *before == routing && !all);
            if let Some(version) = kept.and_then(|_| told.routes.get(name).cloned()) {
                versions.insert(name.clone(), version);
                continue;
            }
            let version = told.version("r");
            self.write(&file_name("rds", name), &version, [&*routing.value])?;
            wanted.routes.push(version.clone());
            versions.insert(name.clone(), version);
        }
        let mut closed = Vec::new();
        if all || config.listeners != told.config.listeners {
            let version = told.version("l");
            self.write("lds.json", &version, config.listeners.values().map(|l| &*l.value))?;
            wanted.listeners = Some(version);
            closed = lost_chains(&told.config, config);
        }
        if wanted != Wanted::default() {
            self.await_in_force(told, &wanted).await?;
        }
        told.routes = versions;
        Ok(closed)
    }

    fn write<'a>(
        &self,
        file: &str,
        version: &str,
        resources: impl IntoIterator<Item = &'a Value>,
    ) -> Result<(), DataPlaneError> {
        let path = self.folder.join(file);
        let response = Response { version_info: version, resources: resources.into_iter().collect() };
        files::replace(&path, &response).map_err(|e| write_failed(&path, &e))
    }

    async fn stats(&self) -> Result<Stats, DataPlaneError> {
        Ok(Stats::read(&self.ask("/stats").await?))
    }

    /// Asks the admin interface. A process that ends meanwhile is noticed at once.
    async fn ask(&self, path: &str) -> Result<String, DataPlaneError> {
        let answer = tokio::select! {
            biased;
            answer = self.admin.get(path) => answer,
            _ = self.process.end() => return Err(self.gone("").await),
        };
        match answer {
            Ok((200, body)) => Ok(body),
            Ok((status, _)) => {
                Err(self.gone(&format!("its admin interface answers {status} to {path}")).await)
            }
            Err(why) => Err(self.gone(&format!("its admin interface does not answer: {why}")).await),
        }
    }

    /// It died or does not answer: with its last words.
    async fn gone(&self, why: &str) -> DataPlaneError {
        // Where a connection breaks, the process's end is told a moment later.
        let ended = tokio::time::timeout(SAID, self.process.end()).await.ok();
        let how = ended.map_or_else(|| why.to_owned(), |how| format!("it ended by itself ({how})"));
        DataPlaneError::Gone(format!("Envoy for {}: {how}{}", self.name, last_words(&self.process)))
    }

    async fn await_in_force(&self, told: &mut Told, wanted: &Wanted) -> Result<(), DataPlaneError> {
        let begun = Instant::now();
        let mut pauses = Pauses::new();
        loop {
            let stats = self.stats().await?;
            if stats.refused_since(&told.stats) {
                told.stats = stats;
                return Err(self.refusal().await);
            }
            let have = stats.have(wanted);
            if have && (stats.have_secrets(wanted) || begun.elapsed() > SECRETS) {
                told.stats = stats;
                return Ok(());
            }
            if begun.elapsed() > IN_FORCE {
                let words = last_words(&self.process);
                return Err(DataPlaneError::Gone(format!(
                    "Envoy for {} neither took its configuration up nor refused it within {IN_FORCE:?} ({wanted:?}; it \
                     says {stats:?}){words}",
                    self.name
                )));
            }
            pauses.pause().await;
        }
    }

    /// Envoy's words for its refusal, which it writes before it counts it.
    async fn refusal(&self) -> DataPlaneError {
        let begun = Instant::now();
        let mut pauses = Pauses::new();
        let words = loop {
            match self.process.said().refusal() {
                Some(words) => break words,
                None if begun.elapsed() > SAID => break "without a word".to_owned(),
                None => pauses.pause().await,
            }
        };
        if words.contains("cannot bind") || words.contains("Address already in use") {
            return DataPlaneError::Environment(format!(
                "Envoy for {} cannot listen: {words}; end the process that listens there, or run again",
                self.name
            ));
        }
        DataPlaneError::Refused(format!("Envoy for {}: {words}", self.name))
    }

    /// Returns when the log lines of everything that the worker did before are delivered.
    async fn fence(&self) -> Result<(), DataPlaneError> {
        let path = format!("/{}", self.fences.fetch_add(1, Ordering::Relaxed));
        let logged = self.process.said().await_fence(&path);
        let passed = async {
            self.fence.get(&path).await?;
            logged.await.map_err(|_| "its log ended".to_owned())
        };
        let passed = tokio::select! {
            biased;
            passed = tokio::time::timeout(FENCED, passed) => passed,
            _ = self.process.end() => return Err(self.gone("").await),
        };
        match passed {
            Ok(Ok(())) => Ok(()),
            Ok(Err(why)) => Err(self.gone(&format!("its worker does not answer: {why}")).await),
            Err(_) => Err(self.gone(&format!("its worker did not answer and log within {FENCED:?}")).await),
        }
    }

    /// Returns when every line of what has ended is delivered.
    ///
    /// # Errors
    /// It is gone.
    pub(crate) async fn settle(&self) -> Result<(), DataPlaneError> {
        self.fence().await?;
        let begun = Instant::now();
        let mut pauses = Pauses::new();
        loop {
            let stats = self.stats().await?;
            // The client of a connection that is passed on is done when the server is, which Envoy waits for.
            if stats.number(TCP_TOTAL) <= self.process.said().connections() || begun.elapsed() > SETTLED {
                return Ok(());
            }
            pauses.pause().await;
        }
    }

    /// Returns when no request can come any more on connections to chains that are gone. Bytes that are passed on may flow
    /// for as long as Envoy lets them.
    async fn await_drained(&self, chains: &[String]) -> Result<(), DataPlaneError> {
        let begun = Instant::now();
        let mut pauses = Pauses::new();
        while !chains.is_empty() && !self.stats().await?.are_drained(chains) && begun.elapsed() < DRAINED {
            pauses.pause().await;
        }
        Ok(())
    }

    /// Returns when nobody listens there any more.
    async fn await_closed(&self, bind: SocketAddr) -> Result<(), DataPlaneError> {
        let begun = Instant::now();
        let mut pauses = Pauses::new();
        while !ports::is_free(bind) {
            if begun.elapsed() > IN_FORCE {
                let what = format!("it still listens on {bind}, {IN_FORCE:?} after it was told to stop");
                return Err(DataPlaneError::Gone(format!("Envoy for {}: {what}", self.name)));
            }
            pauses.pause().await;
        }
        Ok(())
    }

    /// Envoy keeps a secret until the last cluster that used it is gone, a moment after it was told.
    async fn await_secrets_gone(&self, told: &Told) -> Result<(), DataPlaneError> {
        let begun = Instant::now();
        let mut pauses = Pauses::new();
        loop {
            let active = self.ask(secrets_dump::ACTIVE).await?;
            let left =
                secrets_dump::names(&active).iter().any(|name| !told.vault.present().contains_key(name));
            if !left || begun.elapsed() > SECRETS {
                return Ok(());
            }
            pauses.pause().await;
        }
    }

    /// The secrets that Envoy has of those that are credentials.
    ///
    /// # Errors
    /// It is gone.
    pub(crate) async fn credentials(&self) -> Result<Vec<CredentialStatus>, DataPlaneError> {
        let told = self.told.lock().await;
        let active = self.ask(secrets_dump::ACTIVE).await?;
        let warming = self.ask(secrets_dump::WARMING).await?;
        Ok(secrets_dump::statuses(&active, &warming, |name| told.vault.is_absent(name)))
    }

    /// Ends it.
    pub(crate) async fn stop(&self) {
        self.process.stop().await;
    }
}

/// All connections that are passed on, since the start.
const TCP_TOTAL: &str = "tcp.tcp.downstream_cx_total";

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn a_port_is_free_when_nobody_listens_there_whoever_is_still_connected() {
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
