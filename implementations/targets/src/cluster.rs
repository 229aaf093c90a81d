//! The target `cluster` for the command line and the tests: its options, doctor and cleanup, in builds with the feature `cluster`; in
//! others, how to get one.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use meshproof_harness::target::Target;
use meshproof_harness::timeouts::Timeouts;

/// Which cluster, and what is put into it. The variables that give the same are named beside each.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// `MESHPROOF_KUBECONFIG`; absent: `KUBECONFIG`, else the usual places.
    pub kubeconfig: Option<PathBuf>,
    /// `MESHPROOF_CONTEXT`; absent: the kubeconfig's current one.
    pub context: Option<String>,
    /// `MESHPROOF_GATEWAYS=installed` with `MESHPROOF_GATEWAY_NAMESPACE`: the namespace of installed gateways; absent: each scenario
    /// makes its own.
    pub installed_gateways: Option<String>,
    /// `MESHPROOF_IMAGES=KEY=IMAGE,KEY=IMAGE`.
    pub images: BTreeMap<String, String>,
    /// `MESHPROOF_PULL_POLICY`.
    pub pull_policy: Option<String>,
    /// `MESHPROOF_PULL_SECRETS=NAMESPACE/NAME,NAME`.
    pub pull_secrets: Vec<String>,
    /// `MESHPROOF_NAME`.
    pub name: Option<String>,
}

/// Why there is no such target.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Unusable {
    /// The feature is off.
    #[error(
        "this build of meshproof knows no clusters: build it with them, `cargo build --release --features cluster`, or `cargo install \
         --path cli --features cluster`"
    )]
    NotBuilt,
    /// An option has no meaning.
    #[error("{0}")]
    Option(String),
}

/// Where installed gateways live by the documents, and by Istio's own profiles.
pub const GATEWAY_NAMESPACE: &str = "istio-system";

impl Options {
    /// From the variables `MESHPROOF_...`, for tests, which have no flags.
    ///
    /// # Errors
    /// A variable has a value without meaning.
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
                    "MESHPROOF_GATEWAYS: {other:?} is neither own nor installed"
                )));
            }
        };
        let images = words("MESHPROOF_IMAGES").iter().map(|word| image(word)).collect::<Result<_, _>>();
        Ok(Self {
            kubeconfig: read("MESHPROOF_KUBECONFIG").map(PathBuf::from),
            context: read("MESHPROOF_CONTEXT"),
            installed_gateways,
            images: images.map_err(|e| Unusable::Option(format!("MESHPROOF_IMAGES: {e}")))?,
            pull_policy: read("MESHPROOF_PULL_POLICY"),
            pull_secrets: words("MESHPROOF_PULL_SECRETS"),
            name: read("MESHPROOF_NAME"),
        })
    }
}

/// `KEY=IMAGE`.
///
/// # Errors
/// It is not; in words.
pub fn image(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, image)) if !key.is_empty() && !image.is_empty() => Ok((key.to_owned(), image.to_owned())),
        Some(_) | None => Err(format!("{text:?} is not KEY=IMAGE, such as workload=mirror.example/curl:8")),
    }
}

/// Whether a run asks the documents' own hosts: `MESHPROOF_LIVE=1`. A variable that is set to nothing says nothing.
///
/// # Errors
/// It says neither; in words.
pub fn live(text: &str) -> Result<bool, String> {
    match text {
        "1" | "true" => Ok(true),
        "" | "0" | "false" => Ok(false),
        other => Err(format!("{other:?} is neither 1 (or true) nor 0 (or false)")),
    }
}

/// What the doctor says.
#[derive(Clone, Debug)]
pub struct Told {
    /// For people.
    pub text: String,
    /// Whether a run can work.
    pub fit: bool,
}

/// Which leftovers are meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Which {
    /// Those of this run.
    Run(String),
    /// Those that are older; absent: than any scenario may take.
    OlderThan(Option<Duration>),
    /// All.
    All,
}

#[cfg(not(feature = "cluster"))]
mod absent {
    use super::{Arc, Options, Target, Timeouts, Told, Unusable, Which};

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
    pub async fn doctor(_options: &Options, _timeouts: &Timeouts) -> Result<Result<Told, String>, Unusable> {
        Err(Unusable::NotBuilt)
    }

    /// No cleanup.
    ///
    /// # Errors
    /// Always [`Unusable::NotBuilt`].
    pub async fn cleanup(
        _options: &Options,
        _timeouts: &Timeouts,
        _which: &Which,
        _dry_run: bool,
        _say: impl Fn(&str) + Send + Sync,
    ) -> Result<Result<(), String>, Unusable> {
        Err(Unusable::NotBuilt)
    }
}

#[cfg(not(feature = "cluster"))]
pub use absent::{cleanup, doctor, target};

#[cfg(feature = "cluster")]
mod present {
    use std::sync::Mutex;

    use meshproof_cluster::api::Api;
    use meshproof_cluster::doctor::{Weight, as_text};
    use meshproof_cluster::pull_secrets::PullSecret;
    use meshproof_cluster::{ClusterTarget, Gateways, IMAGES, Settings, cleanup as removal, examine_cluster};
    use meshproof_harness::names::did_you_mean;

    use super::{Arc, Options, Target, Timeouts, Told, Unusable, Which};

    fn settings(options: &Options, timeouts: &Timeouts) -> Result<Settings, Unusable> {
        let keys = || IMAGES.iter().map(|(key, ..)| *key);
        if let Some(unknown) = options.images.keys().find(|key| !keys().any(|k| k == **key)) {
            let choices: Vec<String> =
                IMAGES.iter().map(|(key, image, what)| format!("  {key:<10} {what} [{image}]")).collect();
            return Err(Unusable::Option(format!(
                "no image is called {unknown:?}{}\nthe images are:\n{}",
                did_you_mean(unknown, keys()),
                choices.join("\n")
            )));
        }
        let policies = ["Always", "IfNotPresent", "Never"];
        if let Some(policy) = options.pull_policy.as_deref().filter(|p| !policies.contains(p)) {
            return Err(Unusable::Option(format!(
                "{policy:?} is no pull policy; the policies are {}",
                policies.join(", ")
            )));
        }
        let pull_secrets: Result<Vec<PullSecret>, _> =
            options.pull_secrets.iter().map(|s| s.parse()).collect();
        Ok(Settings {
            kubeconfig: options.kubeconfig.clone(),
            context: options.context.clone(),
            gateways: match &options.installed_gateways {
                Some(namespace) => Gateways::Installed { namespace: namespace.clone() },
                None => Gateways::Own,
            },
            images: options.images.clone(),
            pull_policy: options.pull_policy.clone(),
            pull_secrets: pull_secrets.map_err(|e| Unusable::Option(format!("--pull-secret: {e}")))?,
            name: options.name.clone(),
            timeouts: timeouts.clone(),
        })
    }

    /// The target on this cluster; nothing is asked of it yet.
    ///
    /// # Errors
    /// An option has no meaning.
    pub fn target(options: &Options, timeouts: &Timeouts) -> Result<Arc<dyn Target>, Unusable> {
        Ok(Arc::new(ClusterTarget::new(settings(options, timeouts)?)))
    }

    /// What a run would find; the inner error is the environment's.
    ///
    /// # Errors
    /// An option has no meaning.
    pub async fn doctor(options: &Options, timeouts: &Timeouts) -> Result<Result<Told, String>, Unusable> {
        let settings = settings(options, timeouts)?;
        Ok(examine_cluster(&settings).await.map_err(|e| e.to_string()).map(|findings| Told {
            text: as_text(&findings),
            fit: findings.iter().all(|f| f.weight != Weight::Lacking),
        }))
    }

    /// Removes what earlier runs left, and says of each thing what became of it; the inner error is the environment's.
    ///
    /// # Errors
    /// An option has no meaning.
    pub async fn cleanup(
        options: &Options,
        timeouts: &Timeouts,
        which: &Which,
        dry_run: bool,
        say: impl Fn(&str) + Send + Sync,
    ) -> Result<Result<(), String>, Unusable> {
        let settings = settings(options, timeouts)?;
        let which = match which {
            Which::Run(run) => removal::Which::Run(run.clone()),
            Which::OlderThan(age) => removal::Which::OlderThan(age.unwrap_or(removal::ABANDONED)),
            Which::All => removal::Which::All,
        };
        Ok(clean(&settings, &which, dry_run, say).await)
    }

    async fn clean(
        settings: &Settings,
        which: &removal::Which,
        dry_run: bool,
        say: impl Fn(&str) + Send + Sync,
    ) -> Result<(), String> {
        let api = Api::connect(settings).await.map_err(|e| e.to_string())?;
        let (found, spared) =
            removal::find(&api, which, jiff::Timestamp::now()).await.map_err(|e| e.to_string())?;
        if found.is_empty() && spared.is_empty() {
            say("nothing is left of earlier runs in the cluster\n");
        }
        for object in &spared {
            say(&format!(
                "left alone {} of run {}: it may still go on; `--run {}` or `--all` removes it\n",
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
        fn an_unknown_image_lists_the_choices() {
            let images = [("worklod".to_owned(), "x".to_owned())].into();
            let options = Options { images, ..Options::default() };
            let message = settings(&options, &Timeouts::default()).unwrap_err().to_string();
            assert!(message.contains("did you mean workload?"), "{message}");
            assert!(message.contains("external"), "{message}");
        }
    }
}

#[cfg(feature = "cluster")]
pub use present::{cleanup, doctor, target};

#[cfg(test)]
mod tests {
    use super::*;

    fn from(variables: &[(&str, &str)]) -> Result<Options, Unusable> {
        Options::from_environment(|name| {
            variables.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned())
        })
    }

    #[test]
    fn variables_say_what_flags_say() {
        let options = from(&[
            ("MESHPROOF_GATEWAYS", "installed"),
            ("MESHPROOF_IMAGES", "workload=a/curl:1,external=b/nginx:2"),
            ("MESHPROOF_PULL_SECRETS", "one,two"),
            ("MESHPROOF_CONTEXT", ""),
        ])
        .unwrap();
        assert_eq!(options.installed_gateways.as_deref(), Some("istio-system"));
        assert_eq!(options.images["external"], "b/nginx:2");
        assert_eq!(options.pull_secrets, ["one", "two"]);
        assert_eq!(options.context, None);
    }

    #[test]
    fn a_live_run_is_said_in_a_word_that_means_yes_or_no() {
        assert_eq!(["1", "true", "0", "false", ""].map(live), [true, true, false, false, false].map(Ok));
        assert!(live("yes please").unwrap_err().contains("\"yes please\""));
    }

    #[test]
    fn a_variable_without_meaning_is_named() {
        for (name, value) in [("MESHPROOF_GATEWAYS", "mine"), ("MESHPROOF_IMAGES", "curl")] {
            let message = from(&[(name, value)]).unwrap_err().to_string();
            assert!(message.contains(name), "{message}");
        }
    }
}
