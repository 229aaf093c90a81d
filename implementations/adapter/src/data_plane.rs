//! An adapter as a data plane.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use meshproof_harness::feature::{Feature, UnknownFeature};
use meshproof_harness::store::bounded;
use meshproof_harness::timeouts::Timeouts;
use meshproof_harness::trace::Trace;
use meshproof_local::data_plane::{Boot, DataPlane, DataPlaneError, DataPlaneFactory, LogSink, Update};
use meshproof_model::{CredentialStatus, Implementation};
use tokio::sync::Mutex;

use crate::command::{BadCommand, words};
use crate::files::{self, RevisionFiles, StartFiles};
use crate::message::{Apply, CONTRACT, Decision, FromAdapter, ToAdapter};
use crate::session::AdapterSession;
use crate::supervisor::{AdapterEnding, LogTarget};
use crate::timeouts::AdapterTimeouts;

/// How many bytes of an adapter's own reason are kept.
const MAX_WORDS: usize = 2000;
/// How many bytes a name, a version or a feature may have.
const MAX_NAME: usize = 200;
/// How many credentials of one proxy are kept.
const MAX_CREDENTIALS: usize = 100;

/// Starts data planes that are an external program, one process each.
#[derive(Clone, Debug)]
pub struct Adapter {
    command: String,
    words: Vec<String>,
    timeouts: AdapterTimeouts,
}

/// The content of an adapter's `hello`.
#[derive(Clone, Debug)]
pub(crate) struct Introduction {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) features: Vec<Feature>,
    /// The first declared feature that does not exist.
    pub(crate) unknown: Option<UnknownFeature>,
}

impl Adapter {
    fn implementation(&self, hello: Introduction) -> Implementation {
        Implementation {
            name: hello.name,
            version: hello.version,
            target: "adapter".to_owned(),
            features: hello.features.into_iter().map(Into::into).collect(),
            details: [("adapter".to_owned(), self.command.clone())].into(),
        }
    }

    /// The adapter that this command line starts, with these timeouts.
    ///
    /// # Errors
    /// The text is not a command line. Whether the program exists shows only when it is started.
    pub fn new(command: &str, timeouts: &Timeouts) -> Result<Self, BadCommand> {
        Ok(Self {
            command: command.to_owned(),
            words: words(command)?,
            timeouts: AdapterTimeouts::of(timeouts),
        })
    }

    /// The error for an adapter that ended at the first `hello`, before anything is judged.
    fn at_hello(&self, ending: &AdapterEnding) -> DataPlaneError {
        let command = &self.command;
        match ending {
            AdapterEnding::Silent(_) => no_hello(ending),
            AdapterEnding::Clean | AdapterEnding::Broken(_) => DataPlaneError::Gone(format!(
                "the adapter {command:?} broke the contract at its first `hello`: {ending}. \
                 `meshproof adapter check` exercises the contract alone"
            )),
        }
    }

    pub(crate) fn open(&self, log: LogTarget) -> Result<AdapterSession, DataPlaneError> {
        AdapterSession::start(&self.words, self.timeouts, log).map_err(DataPlaneError::Environment)
    }
}

/// The error for an adapter that did not answer `hello` in time: it may be slow to start, or the machine too
/// busy. So the implementation is not to blame.
fn no_hello(ending: &AdapterEnding) -> DataPlaneError {
    DataPlaneError::Environment(format!(
        "the adapter did not start in time: {ending}. This machine may be too busy, or the adapter needs \
         more time to start: \
         set a longer timeout, such as --timeout adapter-hello=60s. If it never answers, run `meshproof \
         adapter check`"
    ))
}

/// Sends `hello` and returns the answer.
///
/// # Errors
/// How the adapter ended.
pub(crate) async fn introduce(session: &AdapterSession, folder: &str) -> Result<Introduction, AdapterEnding> {
    let answer = session.ask(&ToAdapter::Hello { contract: CONTRACT, folder }).await?;
    let FromAdapter::Hello { contract, name, version, features } = answer else {
        return Err(session.breach(format!("it answered `hello` with `{}`", answer.kind())).await);
    };
    let problem = if contract != CONTRACT {
        format!("it uses version {contract} of the contract; meshproof uses version {CONTRACT}")
    } else if name.is_empty() {
        "its `hello` has an empty name".to_owned()
    } else if features.len() > 100 || features.iter().chain([&name, &version]).any(|t| t.len() > MAX_NAME) {
        format!("its `hello` has more than 100 features, or a text of more than {MAX_NAME} bytes")
    } else {
        let (known, unknown): (Vec<_>, Vec<_>) = features.iter().map(|f| f.parse()).partition(Result::is_ok);
        return Ok(Introduction {
            name,
            version,
            features: known.into_iter().flatten().collect(),
            unknown: unknown.into_iter().find_map(Result::err),
        });
    };
    Err(session.breach(problem).await)
}

#[async_trait]
impl DataPlaneFactory for Adapter {
    async fn identify(&self) -> Result<Implementation, DataPlaneError> {
        let folder = tempfile::Builder::new().prefix("meshproof-").tempdir().map_err(|e| {
            DataPlaneError::Environment(format!(
                "a temporary folder cannot be created: {e}. Set TMPDIR to a folder that you can write to"
            ))
        })?;
        let log = LogTarget { sink: Arc::new(NoLog), proxies: BTreeSet::new(), trace: Trace::default() };
        let session = self.open(log)?;
        let hello = introduce(&session, &files::text(folder.path())?).await;
        let hello = hello.map_err(|ending| self.at_hello(&ending))?;
        session.stop().await.map_err(|words| self.at_hello(&AdapterEnding::Broken(words)))?;
        if let Some(unknown) = &hello.unknown {
            // Ignoring the name would skip checks that the author wants to run.
            let words = format!("its `hello` declares an unknown feature: {unknown}");
            return Err(self.at_hello(&AdapterEnding::Broken(words)));
        }
        Ok(self.implementation(hello))
    }

    async fn start(&self, boot: Boot) -> Result<Box<dyn DataPlane>, DataPlaneError> {
        let start_files = StartFiles::write(&boot.folder, &boot)?;
        let log = LogTarget {
            sink: Arc::clone(&boot.logs),
            proxies: boot.identities.keys().cloned().collect(),
            trace: boot.trace,
        };
        let session = self.open(log)?;
        let hello = introduce(&session, &files::text(&boot.folder)?).await;
        let data_plane = AdapterDataPlane {
            session,
            features: hello.as_ref().map(|h| h.features.clone()).unwrap_or_default(),
            logs: boot.logs,
            folder: boot.folder,
            start_files,
            in_force: Mutex::default(),
        };
        match hello {
            Ok(_) => Ok(Box::new(data_plane)),
            Err(ending) => {
                data_plane.keep_stderr();
                Err(match &ending {
                    AdapterEnding::Silent(_) => no_hello(&ending),
                    AdapterEnding::Clean | AdapterEnding::Broken(_) => {
                        DataPlaneError::Gone(ending.to_string())
                    }
                })
            }
        }
    }
}

/// The sink of a session in which no proxy may log.
struct NoLog;

impl LogSink for NoLog {
    fn line(&self, _: &str, _: &str) {}
}

/// A running adapter.
struct AdapterDataPlane {
    session: AdapterSession,
    features: Vec<Feature>,
    logs: Arc<dyn LogSink>,
    folder: PathBuf,
    start_files: StartFiles,
    in_force: Mutex<Option<RevisionFiles>>,
}

impl AdapterDataPlane {
    fn keep_stderr(&self) {
        if let Some(text) = self.session.stderr() {
            self.logs.note(&format!("the adapter's stderr:\n{text}"));
        }
    }

    async fn breach(&self, asked: &str, answer: &FromAdapter) -> DataPlaneError {
        let words = format!("it answered {asked} with {}", answer.describe());
        DataPlaneError::Gone(self.session.breach(words).await.to_string())
    }

    async fn ask(&self, message: &ToAdapter<'_>) -> Result<FromAdapter, DataPlaneError> {
        self.session.ask(message).await.map_err(|ending| DataPlaneError::Gone(ending.to_string()))
    }
}

#[async_trait]
impl DataPlane for AdapterDataPlane {
    fn lacks(&self, feature: Feature) -> bool {
        !self.features.contains(&feature)
    }

    async fn apply(&self, update: Update<'_>) -> Result<(), DataPlaneError> {
        let mut in_force = self.in_force.lock().await;
        let given =
            RevisionFiles::write(&self.folder, update.revision, update.credentials, update.resources)?;
        let message = ToAdapter::Apply(Box::new(Apply {
            revision: update.revision,
            plan: update.plan,
            resources: &given.resources,
            endpoints: update.endpoints,
            credentials: &given.credentials,
            identities: &self.start_files.identities,
            mesh_roots: &self.start_files.mesh_roots,
            system_roots: &self.start_files.system_roots,
        }));
        let refusal = match self.ask(&message).await?.decision(update.revision) {
            Ok(Decision::Applied) => {
                if let Some(before) = in_force.replace(given) {
                    before.remove();
                }
                return Ok(());
            }
            Ok(Decision::Rejected(reason)) => {
                DataPlaneError::Refused(bounded(&meshproof_harness::redact::without_keys(&reason), MAX_WORDS))
            }
            Ok(Decision::Unsupported(feature)) => match bounded(&feature, MAX_NAME).parse::<Feature>() {
                Err(unknown) => {
                    let words = format!("its `unsupported` names an unknown feature: {unknown}");
                    DataPlaneError::Gone(self.session.breach(words).await.to_string())
                }
                // A declared feature that is missing is a failure, never a skip.
                Ok(feature) if self.features.contains(&feature) => DataPlaneError::Refused(format!(
                    "its `hello` declares the feature {feature}, and its `unsupported` denies it"
                )),
                Ok(feature) => DataPlaneError::Unsupported(feature),
            },
            Err(other) => self.breach(&format!("`apply` of revision {}", update.revision), &other).await,
        };
        given.remove();
        Err(refusal)
    }

    async fn credentials(&self, proxy: &str) -> Result<Vec<CredentialStatus>, DataPlaneError> {
        match self.ask(&ToAdapter::Credentials { proxy }).await?.status_of(proxy) {
            Ok(mut credentials) => {
                credentials.truncate(MAX_CREDENTIALS);
                for status in &mut credentials {
                    status.name = bounded(&status.name, MAX_NAME);
                    status.serial = status.serial.take().map(|s| bounded(&s, MAX_NAME));
                }
                Ok(credentials)
            }
            Err(other) => Err(self.breach(&format!("`credentials` of {proxy:?}"), &other).await),
        }
    }

    async fn settle(&self) -> Result<(), DataPlaneError> {
        let answer = self.ask(&ToAdapter::Settle).await?;
        if answer == FromAdapter::Settled { Ok(()) } else { Err(self.breach("`settle`", &answer).await) }
    }

    async fn stop(&self) -> Result<(), DataPlaneError> {
        let stopped = self.session.stop().await;
        self.keep_stderr();
        stopped.map_err(DataPlaneError::Gone)
    }
}
