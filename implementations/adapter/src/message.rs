//! The contract's messages. Each is one line of JSON, an object with a `type`.
//!
//! A reader ignores members that it does not know, so that either side may send more. A type that the suite
//! does not know breaks the contract: it cannot be an answer, and the suite does not guess.

use std::collections::BTreeMap;

use meshproof_harness::store::bounded;
use meshproof_model::CredentialStatus;
use meshproof_plan::model::{OriginalDestination, Plan};
use schemars::{JsonSchema, Schema, generate::SchemaSettings};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The version of the contract. A change that an old adapter would misread needs a new version.
pub const CONTRACT: u32 = 1;

/// The longest line that an adapter may write, in bytes.
pub const MAX_LINE: usize = 1024 * 1024;
/// How many `log` messages one adapter process may send.
pub const MAX_LOG_LINES: usize = 10_000;
/// How many bytes the lines of all `log` messages of one adapter process may have in total.
pub const MAX_LOG_BYTES: usize = 8 * 1024 * 1024;

/// The messages that the suite sends. After `hello`, each comes after the answer to the one before.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum ToAdapter<'a> {
    /// The first message. Answer: `hello`, within the timeout `adapter-hello`.
    Hello {
        /// The version of the contract that the suite speaks.
        contract: u32,
        /// The absolute path of a private folder for this adapter process, which the suite removes at the
        /// end.
        folder: &'a str,
    },
    /// The whole configuration, not a difference. Answer: `applied` when it handles every new connection and
    /// request, or `rejected`, or `unsupported`. Within the timeout `adapter-answer`.
    Apply(Box<Apply<'a>>),
    /// Asks for the state of a proxy's credentials; only sent with the feature `credential-status`. Answer:
    /// `credential-status`.
    Credentials {
        /// The proxy's name.
        proxy: &'a str,
    },
    /// Answer `settled` once the access-log line of every request and connection that has ended was sent. A
    /// request has ended when its client has the response.
    Settle,
    /// End everything that was started, answer `stopped`, and exit, within the timeout `adapter-stop`. When
    /// standard input ends, do the same without the answer.
    Stop,
}

/// One configuration.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Apply<'a> {
    /// Increases with each `apply`; the answer repeats it.
    pub revision: u64,
    /// What each proxy must do, with every Istio rule already applied. A proxy that is not in the plan must
    /// stop: its listeners close.
    pub plan: &'a Plan,
    /// The Istio and Kubernetes resources themselves, in the order of their creation, for an adapter that
    /// interprets them. A Secret has `files` (key to path) instead of `data` and `stringData`.
    pub resources: &'a [Value],
    /// The addresses of host names on this machine.
    pub endpoints: &'a [OriginalDestination],
    /// The credentials that each proxy's `credentialName`s refer to, by the proxy's name. A name in the plan
    /// that is missing here has no Secret yet: connections that need it must fail.
    pub credentials: &'a BTreeMap<String, Vec<CredentialFiles>>,
    /// The mesh certificate of each proxy that the scenario may run, by the proxy's name.
    pub identities: &'a BTreeMap<String, IdentityFiles>,
    /// PEM file: the mesh's root, which proxies of the mesh trust.
    pub mesh_roots: &'a str,
    /// PEM file: stands for the system's roots, which must not be used themselves.
    pub system_roots: &'a str,
}

/// The files of one credential: absolute paths of PEM files that only the adapter's user can read. They stay
/// unchanged until the next revision is applied. Null: the Secret has no such key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct CredentialFiles {
    /// The `credentialName` that refers to it.
    pub name: String,
    /// The client's certificate chain.
    pub certificate: Option<String>,
    /// The client's private key.
    pub key: Option<String>,
    /// The roots to trust.
    pub ca: Option<String>,
    /// Certificate revocation lists.
    pub crl: Option<String>,
}

/// The files of a proxy's mesh certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct IdentityFiles {
    /// PEM file. Its only subject alternative name is the SPIFFE identity, a URI.
    pub certificate: String,
    /// PEM file.
    pub key: String,
}

/// The messages that the adapter sends.
#[derive(Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum FromAdapter {
    /// The answer to `hello`.
    Hello {
        /// The version of the contract, as in the suite's `hello`.
        contract: u32,
        /// The name of the implementation: `nginx`.
        #[schemars(length(min = 1, max = 200))]
        name: String,
        /// Its version.
        #[schemars(length(max = 200))]
        version: String,
        /// The features that it has, by their names in `docs/adapters.md`. Checks that need a missing feature
        /// are skipped.
        #[schemars(length(max = 100))]
        features: Vec<String>,
    },
    /// The configuration is in force.
    Applied {
        /// As in the question.
        revision: u64,
    },
    /// The implementation refuses the configuration: its failure.
    Rejected {
        /// As in the question.
        revision: u64,
        /// The implementation's own error message.
        reason: String,
    },
    /// The implementation lacks a feature that the configuration needs: the rest of the scenario is skipped
    /// with its name.
    Unsupported {
        /// As in the question.
        revision: u64,
        /// The missing feature. A feature that `hello` declares is a failure.
        feature: String,
    },
    /// The state of a proxy's credentials.
    CredentialStatus {
        /// As in the question.
        proxy: String,
        /// One entry per credential.
        credentials: Vec<CredentialStatus>,
    },
    /// Every access-log line so far was sent.
    Settled,
    /// Everything but the adapter itself has ended.
    Stopped,
    /// One line of a proxy's access log, at any time. The suite does not answer.
    Log {
        /// The name of a proxy in the plan.
        proxy: String,
        /// The line without its line end, in one of the formats that the suite reads.
        line: String,
    },
}

/// How many bytes of a name in a wrong answer are quoted.
const QUOTED: usize = 200;

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

    /// Describes an answer that does not fit its question.
    pub(crate) fn describe(&self) -> String {
        let kind = self.kind();
        match self {
            Self::Applied { revision }
            | Self::Rejected { revision, .. }
            | Self::Unsupported { revision, .. } => format!("`{kind}` for revision {revision}"),
            Self::CredentialStatus { proxy, .. } => {
                format!("the credentials of {:?}", bounded(proxy, QUOTED))
            }
            Self::Hello { .. } | Self::Settled | Self::Stopped | Self::Log { .. } => format!("`{kind}`"),
        }
    }
}

/// The answer to `apply`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    Applied,
    Rejected(String),
    Unsupported(String),
}

impl FromAdapter {
    /// The answer to `apply` of this revision; the message itself if it is another one.
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

    /// The answer to `credentials` of this proxy; the message itself if it is another one.
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

/// The published schemas by their file names in `schema/`: of the suite's messages, and of the adapter's.
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
                "{path} differs from the types. Update it with\n  \
                 MESHPROOF_BLESS=1 cargo test -p meshproof-adapter --lib schemas"
            );
        }
    }

    #[test]
    fn an_unknown_member_is_ignored() {
        let read: FromAdapter =
            serde_json::from_str(r#"{"type":"applied","revision":3,"took":"2ms"}"#).unwrap();
        assert_eq!(read, FromAdapter::Applied { revision: 3 });
    }

    #[test]
    fn an_unknown_type_is_named_in_the_error() {
        let error = serde_json::from_str::<FromAdapter>(r#"{"type":"hullo"}"#).unwrap_err().to_string();
        assert!(error.contains("hullo") && error.contains("hello"), "{error}");
    }

    #[test]
    fn valid_answers_match_the_schema_and_broken_ones_do_not() {
        let [_, (_, schema)] = schemas();
        let validator = jsonschema::draft202012::new(schema.as_value()).unwrap();
        let valid = |json: Value| validator.is_valid(&json);
        assert!(valid(serde_json::json!({"type": "settled"})));
        assert!(valid(serde_json::json!({"type": "rejected", "revision": 1, "reason": "no"})));
        assert!(!valid(serde_json::json!({"type": "rejected", "revision": 1})));
        assert!(!valid(serde_json::json!({"type": "settle"})));
    }
}
