//! The target `cluster` for the command line and the tests: its options, doctor and cleanup. Builds without
//! the feature `cluster` answer with how to get it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use meshproof_harness::target::Target;
use meshproof_harness::timeouts::Timeouts;
use meshproof_model::Resource;

/// Which cluster, and how it is used. Each option names its environment variable.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// `MESHPROOF_KUBECONFIG`; absent: `KUBECONFIG`, else the usual places.
    pub kubeconfig: Option<PathBuf>,
    /// `MESHPROOF_CONTEXT`; absent: the kubeconfig's current one.
    pub context: Option<String>,
    /// `MESHPROOF_REVISION`, or the name after `cluster:`: the revision or tag of the control plane to judge; absent: the
    /// default one.
    pub revision: Option<String>,
    /// `MESHPROOF_NAMESPACE_LABELS=KEY=VALUE,KEY=VALUE`: labels of the run's namespaces.
    pub namespace_labels: BTreeMap<String, String>,
    /// `MESHPROOF_GATEWAYS=installed` with `MESHPROOF_GATEWAY_NAMESPACE`: the namespace of installed
    /// gateways; absent: each scenario creates its own.
    pub installed_gateways: Option<String>,
    /// Whether the suite's public CA is one that installed gateways trust. Only on the command line (`--ca FILE`).
    pub fixed_ca: bool,
    /// `MESHPROOF_IMAGES=KEY=IMAGE,KEY=IMAGE`.
    pub images: BTreeMap<String, String>,
    /// `MESHPROOF_PULL_POLICY`.
    pub pull_policy: Option<String>,
    /// `MESHPROOF_PULL_SECRETS=NAMESPACE/NAME,NAME`.
    pub pull_secrets: Vec<String>,
}

/// Why the target cannot be used.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Unusable {
    /// The feature is off.
    #[error(
        "meshproof was built without cluster support: rebuild it with `cargo build --release --features \
         cluster`, or `cargo install \
         --path cli --features cluster`"
    )]
    NotBuilt,
    /// An option is invalid.
    #[error("{0}")]
    Option(String),
}

/// The namespace of installed gateways in the documents, and in Istio's own profiles.
pub const GATEWAY_NAMESPACE: &str = "istio-system";

impl Options {
    /// The options of the target with this name: `cluster:REVISION` names the revision.
    #[must_use]
    pub fn of(mut self, target: &str) -> Self {
        self.revision = target.strip_prefix("cluster:").map(str::to_owned).or(self.revision);
        self
    }

    /// From the variables `MESHPROOF_...`, for tests, which have no flags.
    ///
    /// # Errors
    /// A variable has an invalid value.
    pub fn from_environment(read: impl Fn(&str) -> Option<String>) -> Result<Self, Unusable> {
        let read = |name: &str| read(name).filter(|value| !value.is_empty());
        let words = |name: &str| {
            let value = read(name).unwrap_or_default();
            value.split(',').filter(|w| !w.is_empty()).map(str::to_owned).collect::<Vec<_>>()
        };
        let namespace = read("MESHPROOF_GATEWAY_NAMESPACE");
        let installed_gateways = match read("MESHPROOF_GATEWAYS").as_deref() {
            None | Some("own") => None,
            Some("installed") => Some(namespace.unwrap_or_else(|| GATEWAY_NAMESPACE.to_owned())),
            Some(other) => {
                return Err(Unusable::Option(format!(
                    "MESHPROOF_GATEWAYS is {other:?}; use own or installed"
                )));
            }
        };
        let images = words("MESHPROOF_IMAGES").iter().map(|word| image(word)).collect::<Result<_, _>>();
        let labels =
            words("MESHPROOF_NAMESPACE_LABELS").iter().map(|word| label(word)).collect::<Result<_, _>>();
        Ok(Self {
            kubeconfig: read("MESHPROOF_KUBECONFIG").map(PathBuf::from),
            context: read("MESHPROOF_CONTEXT"),
            revision: read("MESHPROOF_REVISION"),
            namespace_labels: labels
                .map_err(|e| Unusable::Option(format!("MESHPROOF_NAMESPACE_LABELS: {e}")))?,
            installed_gateways,
            fixed_ca: false,
            images: images.map_err(|e| Unusable::Option(format!("MESHPROOF_IMAGES: {e}")))?,
            pull_policy: read("MESHPROOF_PULL_POLICY"),
            pull_secrets: words("MESHPROOF_PULL_SECRETS"),
        })
    }
}

/// `KEY=IMAGE`.
///
/// # Errors
/// Why it is not, in words.
pub fn image(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, image)) if !key.is_empty() && !image.is_empty() => Ok((key.to_owned(), image.to_owned())),
        Some(_) | None => Err(format!("{text:?} is not KEY=IMAGE, such as workload=mirror.example/curl:8")),
    }
}

/// `KEY=VALUE`, a label; the value may be empty.
///
/// # Errors
/// Why it is not, in words.
pub fn label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        Some(_) | None => {
            Err(format!("{text:?} is not KEY=VALUE, such as pod-security.kubernetes.io/enforce=privileged"))
        }
    }
}

/// Whether a run sends requests to the documents' own hosts: `MESHPROOF_LIVE=1`. An empty variable counts as
/// unset.
///
/// # Errors
/// Why it is neither, in words.
pub fn live(text: &str) -> Result<bool, String> {
    match text {
        "1" | "true" => Ok(true),
        "" | "0" | "false" => Ok(false),
        other => Err(format!("{other:?} is not valid; use 1 (or true) or 0 (or false)")),
    }
}

/// What is in force in a cluster for one namespace.
#[derive(Clone, Debug, Default)]
pub struct InForce {
    /// The resources; of Secrets, the names of their keys.
    pub resources: Vec<Resource>,
    /// How many of them are in the namespace itself.
    pub own: usize,
    /// Whether all namespaces were read.
    pub whole: bool,
    /// Whether the Secrets that credentials name were read.
    pub secrets: bool,
    /// What was not read and is taken to be there, in words.
    pub unread: Vec<String>,
}

/// The doctor's report.
#[derive(Clone, Debug)]
pub struct DoctorReport {
    /// For people.
    pub text: String,
    /// Whether a run is possible.
    pub fit: bool,
}

/// Which objects of earlier runs are removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CleanupScope {
    /// Those of this run.
    Run(String),
    /// Those that are older than this; absent: older than any scenario can be.
    OlderThan(Option<Duration>),
    /// All.
    All,
}

#[cfg(not(feature = "cluster"))]
mod absent {
    use super::{Arc, CleanupScope, DoctorReport, InForce, Options, Target, Timeouts, Unusable};

    /// No target.
    ///
    /// # Errors
    /// Always [`Unusable::NotBuilt`].
    pub fn target(_options: &Options, _timeouts: &Timeouts) -> Result<Arc<dyn Target>, Unusable> {
        Err(Unusable::NotBuilt)
    }

    /// No doctor.
    ///
    /// # Errors
    /// Always [`Unusable::NotBuilt`].
    pub async fn doctor(
        _options: &Options,
        _timeouts: &Timeouts,
    ) -> Result<Result<DoctorReport, String>, Unusable> {
        Err(Unusable::NotBuilt)
    }

    /// No doctor.
    ///
    /// # Errors
    /// Always [`Unusable::NotBuilt`].
    pub async fn doctor_of_reading(
        _options: &Options,
        _timeouts: &Timeouts,
        _namespace: &str,
    ) -> Result<Result<DoctorReport, String>, Unusable> {
        Err(Unusable::NotBuilt)
    }

    /// Nothing to read.
    ///
    /// # Errors
    /// Always [`Unusable::NotBuilt`].
    pub async fn in_force(
        _options: &Options,
        _timeouts: &Timeouts,
        _namespace: &str,
    ) -> Result<Result<InForce, String>, Unusable> {
        Err(Unusable::NotBuilt)
    }

    /// No cleanup.
    ///
    /// # Errors
    /// Always [`Unusable::NotBuilt`].
    pub async fn cleanup(
        _options: &Options,
        _timeouts: &Timeouts,
        _scope: &CleanupScope,
        _dry_run: bool,
        _say: impl Fn(&str) + Send + Sync,
    ) -> Result<Result<(), String>, Unusable> {
        Err(Unusable::NotBuilt)
    }
}

#[cfg(not(feature = "cluster"))]
pub use absent::{cleanup, doctor, doctor_of_reading, in_force, target};

#[cfg(feature = "cluster")]
mod present {
    use std::sync::Mutex;

    use meshproof_cluster::api::ClusterClient;
    use meshproof_cluster::doctor::{DoctorFinding, Severity, as_text, as_text_of_reading};
    use meshproof_cluster::pull_secrets::PullSecret;
    use meshproof_cluster::{
        ClusterTarget, Gateways, IMAGES, SUITE, Settings, cleanup as removal, examine_cluster, read_in_force,
    };
    use meshproof_harness::names::did_you_mean;

    use super::{Arc, CleanupScope, DoctorReport, InForce, Options, Target, Timeouts, Unusable};

    fn settings(options: &Options, timeouts: &Timeouts) -> Result<Settings, Unusable> {
        let keys = || IMAGES.iter().map(|(key, ..)| *key).chain([SUITE]);
        if let Some(unknown) = options.images.keys().find(|key| !keys().any(|k| k == **key)) {
            let choices: Vec<String> =
                IMAGES.iter().map(|(key, image, what)| format!("  {key:<10} {what} [{image}]")).collect();
            let suite = format!("  {SUITE:<10} meshproof itself, as external service and as client [none]");
            return Err(Unusable::Option(format!(
                "unknown image key {unknown:?}{}\nthe keys are:\n{}",
                did_you_mean(unknown, keys()),
                [choices, vec![suite]].concat().join("\n")
            )));
        }
        let policies = ["Always", "IfNotPresent", "Never"];
        if let Some(policy) = options.pull_policy.as_deref().filter(|p| !policies.contains(p)) {
            return Err(Unusable::Option(format!(
                "{policy:?} is not a pull policy; use one of {}",
                policies.join(", ")
            )));
        }
        let pull_secrets: Result<Vec<PullSecret>, _> =
            options.pull_secrets.iter().map(|s| s.parse()).collect();
        Ok(Settings {
            kubeconfig: options.kubeconfig.clone(),
            context: options.context.clone(),
            revision: options.revision.clone(),
            namespace_labels: options.namespace_labels.clone(),
            gateways: match &options.installed_gateways {
                Some(namespace) => Gateways::Installed { namespace: namespace.clone() },
                None => Gateways::Own,
            },
            fixed_ca: options.fixed_ca,
            images: options.images.clone(),
            pull_policy: options.pull_policy.clone(),
            pull_secrets: pull_secrets.map_err(|e| Unusable::Option(format!("--pull-secret: {e}")))?,
            timeouts: timeouts.clone(),
        })
    }

    /// The target on this cluster, without contacting it yet.
    ///
    /// # Errors
    /// An option is invalid.
    pub fn target(options: &Options, timeouts: &Timeouts) -> Result<Arc<dyn Target>, Unusable> {
        Ok(Arc::new(ClusterTarget::new(settings(options, timeouts)?)))
    }

    /// Examines the cluster; the inner error is the environment's.
    ///
    /// # Errors
    /// An option is invalid.
    pub async fn doctor(
        options: &Options,
        timeouts: &Timeouts,
    ) -> Result<Result<DoctorReport, String>, Unusable> {
        let settings = settings(options, timeouts)?;
        let findings = examine_cluster(&settings).await.map_err(|e| e.to_string());
        Ok(findings.map(|findings| DoctorReport { text: as_text(&findings), fit: fit(&findings) }))
    }

    /// Examines whether a namespace can be read; the inner error is the environment's.
    ///
    /// # Errors
    /// An option is invalid.
    pub async fn doctor_of_reading(
        options: &Options,
        timeouts: &Timeouts,
        namespace: &str,
    ) -> Result<Result<DoctorReport, String>, Unusable> {
        let settings = settings(options, timeouts)?;
        let findings = meshproof_cluster::doctor_of_reading(&settings, namespace).await;
        Ok(findings.map_err(|e| e.to_string()).map(|findings| DoctorReport {
            text: as_text_of_reading(&findings, namespace),
            fit: fit(&findings),
        }))
    }

    fn fit(findings: &[DoctorFinding]) -> bool {
        findings.iter().all(|f| f.severity != Severity::Problem)
    }

    /// What is in force in the cluster for a namespace; nothing is changed. The inner error is the environment's.
    ///
    /// # Errors
    /// An option is invalid.
    pub async fn in_force(
        options: &Options,
        timeouts: &Timeouts,
        namespace: &str,
    ) -> Result<Result<InForce, String>, Unusable> {
        let settings = settings(options, timeouts)?;
        let read = read_in_force(&settings, namespace).await.map_err(|e| e.to_string());
        Ok(read.map(|read| InForce {
            resources: read.resources,
            own: read.own,
            whole: read.whole,
            secrets: read.secrets,
            unread: read.unread,
        }))
    }

    /// Removes what earlier runs left, and reports each object; the inner error is the environment's.
    ///
    /// # Errors
    /// An option is invalid.
    pub async fn cleanup(
        options: &Options,
        timeouts: &Timeouts,
        scope: &CleanupScope,
        dry_run: bool,
        say: impl Fn(&str) + Send + Sync,
    ) -> Result<Result<(), String>, Unusable> {
        let settings = settings(options, timeouts)?;
        let scope = match scope {
            CleanupScope::Run(run) => removal::CleanupScope::Run(run.clone()),
            CleanupScope::OlderThan(age) => {
                removal::CleanupScope::OlderThan(age.unwrap_or(removal::ABANDONED))
            }
            CleanupScope::All => removal::CleanupScope::All,
        };
        Ok(clean(&settings, &scope, dry_run, say).await)
    }

    async fn clean(
        settings: &Settings,
        scope: &removal::CleanupScope,
        dry_run: bool,
        say: impl Fn(&str) + Send + Sync,
    ) -> Result<(), String> {
        let api = ClusterClient::connect(settings).await.map_err(|e| e.to_string())?;
        let (found, spared) =
            removal::find(&api, scope, jiff::Timestamp::now()).await.map_err(|e| e.to_string())?;
        if found.is_empty() && spared.is_empty() {
            say("no objects of earlier runs are left in the cluster\n");
        }
        for object in &spared {
            say(&format!(
                "kept {} of run {}, which may still be running; `--run {}` or `--all` removes it\n",
                object.shown(),
                object.run,
                object.run
            ));
        }
        if dry_run {
            for object in &found {
                say(&format!("would remove {} of run {}\n", object.shown(), object.run));
            }
            return Ok(());
        }
        let failed = Mutex::new(Vec::new());
        removal::remove(&api, &found, |object, result| match result {
            Ok(()) => say(&format!("removed {} of run {}\n", object.shown(), object.run)),
            Err(e) => failed
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner)
                .push(format!("{}: {e}", object.shown())),
        })
        .await;
        let failed = failed.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        if failed.is_empty() { Ok(()) } else { Err(failed.join("\n")) }
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn an_unknown_image_key_lists_the_known_ones() {
            let images = [("worklod".to_owned(), "x".to_owned())].into();
            let options = Options { images, ..Options::default() };
            let message = settings(&options, &Timeouts::default()).unwrap_err().to_string();
            assert!(message.contains("did you mean workload?"), "{message}");
            assert!(message.contains("external"), "{message}");
        }
    }
}

#[cfg(feature = "cluster")]
pub use present::{cleanup, doctor, doctor_of_reading, in_force, target};

#[cfg(test)]
mod tests {
    use super::*;

    fn from(variables: &[(&str, &str)]) -> Result<Options, Unusable> {
        Options::from_environment(|name| {
            variables.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned())
        })
    }

    #[test]
    fn variables_stand_for_flags() {
        let options = from(&[
            ("MESHPROOF_GATEWAYS", "installed"),
            ("MESHPROOF_IMAGES", "workload=a/curl:1,external=b/nginx:2"),
            ("MESHPROOF_PULL_SECRETS", "one,two"),
            ("MESHPROOF_CONTEXT", ""),
            ("MESHPROOF_REVISION", "1-31"),
            ("MESHPROOF_NAMESPACE_LABELS", "team=mesh,exempt="),
        ])
        .unwrap();
        assert_eq!(options.installed_gateways.as_deref(), Some("istio-system"));
        assert_eq!(options.images["external"], "b/nginx:2");
        assert_eq!(options.pull_secrets, ["one", "two"]);
        assert_eq!(options.context, None);
        assert_eq!(options.revision.as_deref(), Some("1-31"));
        assert_eq!((&*options.namespace_labels["team"], &*options.namespace_labels["exempt"]), ("mesh", ""));
    }

    #[test]
    fn a_live_run_is_requested_by_a_word_that_means_yes_or_no() {
        assert_eq!(["1", "true", "0", "false", ""].map(live), [true, true, false, false, false].map(Ok));
        assert!(live("yes please").unwrap_err().contains("\"yes please\""));
    }

    #[test]
    fn a_variable_with_an_invalid_value_is_named() {
        for (name, value) in [
            ("MESHPROOF_GATEWAYS", "mine"),
            ("MESHPROOF_IMAGES", "curl"),
            ("MESHPROOF_NAMESPACE_LABELS", "team"),
        ] {
            let message = from(&[(name, value)]).unwrap_err().to_string();
            assert!(message.contains(name), "{message}");
        }
    }
}
