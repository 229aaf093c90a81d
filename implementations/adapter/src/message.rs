//! The contract's messages. Each is one line of JSON; `type` tells them apart.
//!
//! Members that a reader does not know are ignored, so that either side may say more. A type that the suite does not
//! know is a breach of the contract: it cannot be an answer, and guessing would be a verdict on nothing.

use std::collections::BTreeMap;

use meshproof_harness::store::bounded;
use meshproof_model::CredentialStatus;
use meshproof_plan::model::{OriginalDestination, Plan};
use schemars::{JsonSchema, Schema, generate::SchemaSettings};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The version of the contract. A change that an old adapter would misread makes a new one.
pub const CONTRACT: u32 = 1;

/// The longest line that an adapter may write, in bytes.
pub const MAX_LINE: usize = 1024 * 1024;
/// How many `log` messages one adapter process may send.
pub const MAX_LOG_LINES: usize = 10_000;
/// How many bytes the lines of all `log` messages of one adapter process may have together.
pub const MAX_LOG_BYTES: usize = 8 * 1024 * 1024;

/// What the suite says. Every message but `hello` comes after the answer to the one before.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum ToAdapter<'a> {
    /// The first message. Answer: `hello`, within the timeout `adapter-hello`.
    Hello {
        /// The version of the contract that the suite speaks.
        contract: u32,
        /// A folder of the adapter's own, private, removed by the suite at the end. Absolute.
        folder: &'a str,
    },
    /// One state of the configuration: whole, not a difference. Answer: `applied` when every new connection and request is
    /// handled by it; or `rejected`; or `unsupported`. Within the timeout `adapter-answer`.
    Apply(Box<Apply<'a>>),
    /// What does this proxy say of its credentials? Only asked with the feature `credential-status`. Answer:
    /// `credential-status`.
    Credentials {
        /// The proxy's name.
        proxy: &'a str,
    },
    /// Answer `settled` when the access-log line of every request and connection that has ended is sent; a request whose
    /// client has its answer counts as ended.
    Settle,
    /// End everything that was started, answer `stopped`, and exit, within the timeout `adapter-stop`. The same holds when
    /// standard input ends, but for the answer.
    Stop,
}

/// One state of the configuration.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Apply<'a> {
    /// Grows with each `apply`; the answer repeats it.
    pub revision: u64,
    /// What each proxy must do, every Istio rule already applied. A proxy that runs and is not in it must stop: its
    /// listeners close.
    pub plan: &'a Plan,
    /// The Istio and Kubernetes resources themselves, for an adapter that interprets them on its own, in the order of their
    /// creation. A Secret has `files` (key to path) in place of `data` and `stringData`.
    pub resources: &'a [Value],
    /// Where host names lead on this machine.
    pub endpoints: &'a [OriginalDestination],
    /// What each proxy's `credentialName`s lead to now, by the proxy's name. A name that the plan mentions and that is not
    /// here has no Secret yet: connections that need it must fail.
    pub credentials: &'a BTreeMap<String, Vec<CredentialFiles>>,
    /// The mesh certificate of each proxy that the scenario may run, by the proxy's name.
    pub identities: &'a BTreeMap<String, IdentityFiles>,
    /// PEM file: the mesh's root, in which proxies believe among themselves.
    pub mesh_roots: &'a str,
    /// PEM file: what stands for the system's roots. The system's own must not be used.
    pub system_roots: &'a str,
}

/// The files of one credential. All are PEM, absolute, readable by the adapter's user alone, unchanged until the next
/// revision is applied; an absent one is not in the Secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct CredentialFiles {
    /// The `credentialName` that refers to it.
    pub name: String,
    /// The client's chain.
    pub certificate: Option<String>,
    /// Its key.
    pub key: Option<String>,
    /// The roots to believe.
    pub ca: Option<String>,
    /// Revocation lists.
    pub crl: Option<String>,
}

/// The files of a proxy's certificate in the mesh.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct IdentityFiles {
    /// PEM; one URI SAN, the SPIFFE identity.
    pub certificate: String,
    /// PEM.
    pub key: String,
}

/// What the adapter says.
#[derive(Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum FromAdapter {
    /// The answer to `hello`.
    Hello {
        /// The version of the contract that the adapter speaks: the one it was offered.
        contract: u32,
        /// What is judged: `nginx`.
        #[schemars(length(min = 1, max = 200))]
        name: String,
        /// Its version.
        #[schemars(length(max = 200))]
        version: String,
        /// What it can do, in the words of `docs/adapters.md`. What is missing here is not asked for: skipped.
        #[schemars(length(max = 100))]
        features: Vec<String>,
    },
    /// The state is in force.
    Applied {
        /// As asked.
        revision: u64,
    },
    /// The implementation refuses the state: a finding about it.
    Rejected {
        /// As asked.
        revision: u64,
        /// The implementation's own words.
        reason: String,
    },
    /// The implementation cannot do what the state asks: what is left of the scenario is skipped, naming the feature.
    Unsupported {
        /// As asked.
        revision: u64,
        /// What it lacks. Naming one that `hello` declared is a failure.
        feature: String,
    },
    /// What a proxy says of its credentials.
    CredentialStatus {
        /// As asked.
        proxy: String,
        /// One entry a credential.
        credentials: Vec<CredentialStatus>,
    },
    /// Every access-log line so far has been sent.
    Settled,
    /// Everything is ended but the adapter itself.
    Stopped,
    /// One line of a proxy's access log. At any time, also before an answer; never answered.
    Log {
        /// The proxy's name, one of the plan's.
        proxy: String,
        /// Without its line end, in one of the formats that the suite reads.
        line: String,
    },
}

/// How many characters of a name in a wrong answer are told.
const TOLD: usize = 200;

impl FromAdapter {
    /// The message's `type`.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Hello { .. } => "hello",
            Self::Applied { .. } => "applied",
            Self::Rejected { .. } => "rejected",
            Self::Unsupported { .. } => "unsupported",
            Self::CredentialStatus { .. } => "credential-status",
            Self::Settled => "settled",
            Self::Stopped => "stopped",
            Self::Log { .. } => "log",
        }
    }

    /// An answer that fits no question, for people: what it is, and of what.
    pub(crate) fn told(&self) -> String {
        let kind = self.kind();
        match self {
            Self::Applied { revision }
            | Self::Rejected { revision, .. }
            | Self::Unsupported { revision, .. } => format!("`{kind}` for revision {revision}"),
            Self::CredentialStatus { proxy, .. } => format!("the credentials of {:?}", bounded(proxy, TOLD)),
            Self::Hello { .. } | Self::Settled | Self::Stopped | Self::Log { .. } => format!("`{kind}`"),
        }
    }
}

/// What an adapter made of a state.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    Applied,
    Rejected(String),
    Unsupported(String),
}

impl FromAdapter {
    /// The answer to `apply` of this revision; itself where it is none.
    pub(crate) fn decision(self, asked: u64) -> Result<Decision, Self> {
        match self {
            Self::Applied { revision } if revision == asked => Ok(Decision::Applied),
            Self::Rejected { revision, reason } if revision == asked => Ok(Decision::Rejected(reason)),
            Self::Unsupported { revision, feature } if revision == asked => {
                Ok(Decision::Unsupported(feature))
            }
            other @ (Self::Hello { .. }
            | Self::Applied { .. }
            | Self::Rejected { .. }
            | Self::Unsupported { .. }
            | Self::CredentialStatus { .. }
            | Self::Settled
            | Self::Stopped
            | Self::Log { .. }) => Err(other),
        }
    }

    /// The answer to `credentials` of this proxy; itself where it is none.
    pub(crate) fn status_of(self, asked: &str) -> Result<Vec<CredentialStatus>, Self> {
        match self {
            Self::CredentialStatus { proxy, credentials } if proxy == asked => Ok(credentials),
            other @ (Self::Hello { .. }
            | Self::Applied { .. }
            | Self::Rejected { .. }
            | Self::Unsupported { .. }
            | Self::CredentialStatus { .. }
            | Self::Settled
            | Self::Stopped
            | Self::Log { .. }) => Err(other),
        }
    }
}

impl ToAdapter<'_> {
    /// The message's `type`.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Hello { .. } => "hello",
            Self::Apply(_) => "apply",
            Self::Credentials { .. } => "credentials",
            Self::Settle => "settle",
            Self::Stop => "stop",
        }
    }
}

/// The published schemas, by file name below `schema/`: what the suite sends, and what it takes.
#[must_use]
pub fn schemas() -> [(&'static str, Schema); 2] {
    let to = SchemaSettings::draft2020_12().for_serialize().into_generator();
    let from = SchemaSettings::draft2020_12().for_deserialize().into_generator();
    [
        ("suite-to-adapter-1.schema.json", to.into_root_schema_for::<ToAdapter<'static>>()),
        ("adapter-to-suite-1.schema.json", from.into_root_schema_for::<FromAdapter>()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/schema");

    #[test]
    fn the_published_schemas_are_the_generated_ones() {
        for (name, schema) in schemas() {
            let path = format!("{FOLDER}/{name}");
            let generated = format!("{}\n", serde_json::to_string_pretty(&schema).unwrap());
            if std::env::var_os("MESHPROOF_BLESS").is_some_and(|v| v == "1") {
                std::fs::write(&path, &generated).unwrap();
            }
            let published = std::fs::read_to_string(&path).unwrap_or_default();
            assert!(
                published == generated,
                "{path} is not what the types say; rewrite it with\n  \
                 MESHPROOF_BLESS=1 cargo test -p meshproof-adapter --lib schemas"
            );
        }
    }

    #[test]
    fn a_member_that_the_suite_does_not_know_is_ignored() {
        let read: FromAdapter =
            serde_json::from_str(r#"{"type":"applied","revision":3,"took":"2ms"}"#).unwrap();
        assert_eq!(read, FromAdapter::Applied { revision: 3 });
    }

    #[test]
    fn a_type_that_the_suite_does_not_know_is_named_in_the_error() {
        let error = serde_json::from_str::<FromAdapter>(r#"{"type":"hullo"}"#).unwrap_err().to_string();
        assert!(error.contains("hullo") && error.contains("hello"), "{error}");
    }

    #[test]
    fn every_answer_follows_the_schema_and_a_broken_one_does_not() {
        let [_, (_, schema)] = schemas();
        let validator = jsonschema::draft202012::new(schema.as_value()).unwrap();
        let valid = |json: Value| validator.is_valid(&json);
        assert!(valid(serde_json::json!({"type": "settled"})));
        assert!(valid(serde_json::json!({"type": "rejected", "revision": 1, "reason": "no"})));
        assert!(!valid(serde_json::json!({"type": "rejected", "revision": 1})));
        assert!(!valid(serde_json::json!({"type": "settle"})));
    }
}
