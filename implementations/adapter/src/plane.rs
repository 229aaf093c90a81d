//! The contract as a data plane.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use meshproof_harness::feature::{Feature, UnknownFeature};
use meshproof_harness::store::bounded;
use meshproof_harness::timeouts::Timeouts;
use meshproof_local::data_plane::{Boot, DataPlane, DataPlaneError, DataPlaneFactory, LogSink, Update};
use meshproof_model::{CredentialStatus, Implementation};
use tokio::sync::Mutex;

use crate::files::{self, Lasting, OfRevision};
use crate::message::{Apply, CONTRACT, Decision, FromAdapter, ToAdapter};
use crate::session::{Log, Session};
use crate::{BadCommand, Limits, words};

/// How many characters of an adapter's own words are kept.
const MAX_WORDS: usize = 2000;
/// How many characters a name, a version or a feature may have.
const MAX_NAME: usize = 200;
/// How many credentials one proxy may tell of.
const MAX_CREDENTIALS: usize = 100;

/// Makes data planes that are a program of somebody else's, one process each.
#[derive(Clone, Debug)]
pub struct Adapter {
    command: String,
    words: Vec<String>,
    limits: Limits,
}

/// How an adapter introduced itself.
#[derive(Clone, Debug)]
pub(crate) struct Introduction {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) features: Vec<Feature>,
    /// The first that it declares and that does not exist.
    pub(crate) unknown: Option<UnknownFeature>,
}

impl Adapter {
    fn introduced(&self, told: Introduction) -> Implementation {
        Implementation {
            name: told.name,
            version: told.version,
            target: "adapter".to_owned(),
            features: told.features,
            details: [("adapter".to_owned(), self.command.clone())].into(),
        }
    }

    /// The adapter that this command line starts, within these timeouts.
    ///
    /// # Errors
    /// It is no command line. Whether the program exists is found out when it is started.
    pub fn new(command: &str, timeouts: &Timeouts) -> Result<Self, BadCommand> {
        Ok(Self { command: command.to_owned(), words: words(command)?, limits: Limits::of(timeouts) })
    }

    /// It broke the contract when it was asked who it is.
    fn at_hello(&self, words: &str) -> DataPlaneError {
        DataPlaneError::Gone(format!(
            "the adapter {:?} broke the contract when it was asked who it is: {words}; \
             `meshproof adapter check` exercises the contract alone",
            self.command
        ))
    }

    pub(crate) fn open(&self, log: Log) -> Result<Session, DataPlaneError> {
        Session::start(&self.words, self.limits, log).map_err(DataPlaneError::Environment)
    }
}

/// Says hello.
pub(crate) async fn introduce(session: &Session, folder: &str) -> Result<Introduction, String> {
    let answer = session.ask(&ToAdapter::Hello { contract: CONTRACT, folder }).await?;
    let FromAdapter::Hello { contract, name, version, features } = answer else {
        return Err(session.breach(format!("it answered `hello` with `{}`", answer.kind())).await);
    };
    let problem = if contract != CONTRACT {
        format!("it speaks version {contract} of the contract, this suite speaks {CONTRACT}")
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
                "no temporary folder: {e}; set TMPDIR to one that you may write to"
            ))
        })?;
        let log = Log { sink: Arc::new(Nowhere), proxies: BTreeSet::new() };
        let session = self.open(log)?;
        let told = introduce(&session, &files::text(folder.path())?).await;
        let told = told.map_err(|words| self.at_hello(&words))?;
        session.stop().await.map_err(|words| self.at_hello(&words))?;
        if let Some(unknown) = &told.unknown {
            // Without this, checks that the adapter means to be asked would be skipped.
            return Err(self.at_hello(&format!("its `hello` declares an unknown feature: {unknown}")));
        }
        Ok(self.introduced(told))
    }

    async fn start(&self, boot: Boot) -> Result<Box<dyn DataPlane>, DataPlaneError> {
        let lasting = Lasting::write(&boot.folder, &boot)?;
        let log = Log { sink: Arc::clone(&boot.logs), proxies: boot.identities.keys().cloned().collect() };
        let session = self.open(log)?;
        let told = introduce(&session, &files::text(&boot.folder)?).await;
        let plane = Plane {
            session,
            features: told.as_ref().map(|t| t.features.clone()).unwrap_or_default(),
            logs: boot.logs,
            folder: boot.folder,
            lasting,
            in_force: Mutex::default(),
        };
        match told {
            Ok(_) => Ok(Box::new(plane)),
            Err(words) => {
                plane.keep_stderr();
                Err(DataPlaneError::Gone(words))
            }
        }
    }
}

/// For a session in which nothing may be logged.
struct Nowhere;

impl LogSink for Nowhere {
    fn line(&self, _: &str, _: &str) {}
}

/// A running adapter.
struct Plane {
    session: Session,
    features: Vec<Feature>,
    logs: Arc<dyn LogSink>,
    folder: PathBuf,
    lasting: Lasting,
    in_force: Mutex<Option<OfRevision>>,
}

impl Plane {
    fn keep_stderr(&self) {
        if let Some(text) = self.session.stderr() {
            self.logs.note(&format!("the adapter's stderr:\n{text}"));
        }
    }

    async fn breach(&self, asked: &str, answer: &FromAdapter) -> DataPlaneError {
        let words = format!("it answered {asked} with {}", answer.told());
        DataPlaneError::Gone(self.session.breach(words).await)
    }

    async fn ask(&self, message: &ToAdapter<'_>) -> Result<FromAdapter, DataPlaneError> {
        self.session.ask(message).await.map_err(DataPlaneError::Gone)
    }
}

#[async_trait]
impl DataPlane for Plane {
    fn lacks(&self, feature: Feature) -> bool {
        !self.features.contains(&feature)
    }

    async fn apply(&self, update: Update<'_>) -> Result<(), DataPlaneError> {
        let mut in_force = self.in_force.lock().await;
        let given = OfRevision::write(&self.folder, update.revision, update.credentials, update.resources)?;
        let message = ToAdapter::Apply(Box::new(Apply {
            revision: update.revision,
            plan: update.plan,
            resources: &given.resources,
            endpoints: update.endpoints,
            credentials: &given.credentials,
            identities: &self.lasting.identities,
            mesh_roots: &self.lasting.mesh_roots,
            system_roots: &self.lasting.system_roots,
        }));
        let refusal = match self.ask(&message).await?.decision(update.revision) {
            Ok(Decision::Applied) => {
                if let Some(before) = in_force.replace(given) {
                    before.remove();
                }
                return Ok(());
            }
            Ok(Decision::Rejected(reason)) => {
                DataPlaneError::Refused(bounded(&crate::redact::without_keys(&reason), MAX_WORDS))
            }
            Ok(Decision::Unsupported(feature)) => {
                match bounded(&feature, MAX_NAME).parse::<Feature>() {
                    Err(unknown) => {
                        let words = format!("its `unsupported` names an unknown feature: {unknown}");
                        DataPlaneError::Gone(self.session.breach(words).await)
                    }
                    // A declared feature that does not work is a failure.
                    Ok(feature) if self.features.contains(&feature) => DataPlaneError::Refused(format!(
                        "its hello declares the feature {feature}, and now it says that it does not support it"
                    )),
                    Ok(feature) => DataPlaneError::Unsupported(feature),
                }
            }
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
