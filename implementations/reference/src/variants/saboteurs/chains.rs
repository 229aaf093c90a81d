//! Saboteurs that handle chains, bundles, revocation lists and Secrets wrongly.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use meshproof_local::data_plane::Boot;
use meshproof_model::Resource;
use meshproof_plan::model::{Cluster, Credential, Trust, UpstreamProtocol, UpstreamTls};
use rustls::{CertificateError, Error};
use rustls_pki_types::UnixTime;
use serde_json::Value;
use webpki::KeyUsage;

use super::verification::lenient;
use crate::hooks::{ProxyHooks, WantedConfig};
use crate::tls::inputs::{TlsInputs, TrustedRoots};
use crate::tls::verify::UpstreamVerifier;
use crate::variants::definition::{Definition, VariantBehaviour};
use crate::variants::placement::Placement;
use crate::variants::verifier::Presented;

const DAY: Duration = Duration::from_secs(24 * 3600);
const HOUR: Duration = Duration::from_secs(3600);
/// A search that is not bounded takes minutes with so many certificates.
const MANY: usize = 15;
/// Longer than a path may take.
const LONG: Duration = Duration::from_secs(3);
/// The end of a PEM block.
const END: &str = "-----END ";

pub(super) const TABLE: &[Definition] = &[
    Definition::new(
        "grace-after-expiry",
        "Accepts certificates for a day after they have expired.",
        VariantBehaviour::Verifier(|_, honest| {
            lenient(honest, |honest, server| {
                at(honest, server, server.now).or_else(|_| at(honest, server, earlier(server.now)))
            })
        }),
    ),
    Definition::new(
        "grace-before-start",
        "Accepts certificates an hour before they become valid.",
        VariantBehaviour::Verifier(|_, honest| {
            lenient(honest, |honest, server| {
                let later = Duration::from_secs(server.now.as_secs()) + HOUR;
                at(honest, server, server.now)
                    .or_else(|_| at(honest, server, UnixTime::since_unix_epoch(later)))
            })
        }),
    ),
    Definition::new(
        "ignore-intermediates",
        "Passes over the intermediate certificates that a server sends.",
        VariantBehaviour::Verifier(|_, honest| {
            lenient(honest, |honest, server| {
                let usage = KeyUsage::server_auth();
                honest.verify_chain(server.end_entity, &[], server.now, usage)
            })
        }),
    )
    .also_at(&Placement::ALL),
    Definition::new(
        "strict-order",
        "Refuses a server that sends its chain in another order, or with a certificate too many.",
        VariantBehaviour::Verifier(|_, honest| {
            lenient(honest, |honest, server| {
                at(honest, server, server.now)?;
                if in_order(server) {
                    Ok(())
                } else {
                    Err(Error::InvalidCertificate(CertificateError::UnknownIssuer))
                }
            })
        }),
    ),
    Definition::new(
        "searches-every-path",
        "Tries every order of a server's certificates, which takes long for many.",
        VariantBehaviour::Verifier(|_, honest| {
            lenient(honest, |honest, server| {
                if server.intermediates.len() >= MANY {
                    // The search of one proxy does not hold up the other work of this process.
                    tokio::task::block_in_place(|| std::thread::sleep(LONG));
                }
                at(honest, server, server.now)
            })
        }),
    )
    .also_at(&Placement::ALL),
    Definition::new(
        "system-roots-as-well",
        "Trusts the system's roots besides the CA of a Secret.",
        VariantBehaviour::Configuration(|wanted, _, boot| roots_as_well(wanted, &boot.system_roots)),
    ),
    Definition::new(
        "mesh-roots-as-well",
        "Trusts the mesh's CA besides the roots for servers outside the mesh.",
        VariantBehaviour::Configuration(|wanted, _, boot| mesh_roots_as_well(wanted, boot)),
    )
    .also_at(&Placement::ALL),
    Definition::new(
        "first-root-only",
        "Uses only the first CA certificate of a Secret.",
        VariantBehaviour::Configuration(|wanted, _, _| {
            credentials(wanted, |c| c.ca.iter_mut().for_each(|ca| *ca = first_block(ca)));
        }),
    )
    .also_at(&Placement::ALL),
    Definition::new(
        "first-list-only",
        "Uses only the first revocation list of a Secret.",
        VariantBehaviour::Configuration(|wanted, _, _| {
            credentials(wanted, |c| c.crl.iter_mut().for_each(|list| *list = first_block(list)));
        }),
    ),
    Definition::new(
        "last-list-only",
        "Uses only the last revocation list of a Secret.",
        VariantBehaviour::Configuration(|wanted, _, _| {
            credentials(wanted, |c| c.crl.iter_mut().for_each(|list| *list = last_block(list)));
        }),
    )
    .also_at(&Placement::ALL),
    Definition::new(
        "client-leaf-only",
        "Sends the client's certificate without its intermediate certificates.",
        VariantBehaviour::Proxy(|_| Arc::new(ClientLeafOnly)),
    )
    .also_at(&Placement::ALL),
    Definition::new(
        "http2-unverified",
        "Verifies no server with which it speaks HTTP/2.",
        VariantBehaviour::Plan(|plan| {
            for cluster in plan.proxies.iter_mut().flat_map(|p| &mut p.clusters) {
                if cluster.protocol == UpstreamProtocol::Http2 {
                    believe_anybody(cluster, |_| true);
                }
            }
        }),
    ),
    Definition::new(
        "files-unverified",
        "Verifies no server where the CA certificates are in a file.",
        VariantBehaviour::Plan(|plan| {
            for cluster in plan.proxies.iter_mut().flat_map(|p| &mut p.clusters) {
                believe_anybody(cluster, |trust| matches!(trust, Trust::File(_)));
            }
        }),
    ),
    Definition::new(
        "files-read-once",
        "Reads files with certificates once, and never again.",
        VariantBehaviour::Proxy(|_| Arc::new(FilesReadOnce::default())),
    )
    .also_at(&Placement::ALL),
    Definition::new(
        "other-spelling-first",
        "Prefers tls.crt, tls.key and ca.crt of a Secret to cert, key and cacert.",
        VariantBehaviour::Resources(other_spelling_first),
    )
    .also_at(&Placement::ALL),
    Definition::new(
        "separate-ca-ignored",
        "Uses the Secret NAME-cacert only where NAME has no CA certificate.",
        VariantBehaviour::Resources(separate_ca_ignored),
    )
    .also_at(&Placement::ALL),
    Definition::new(
        "opaque-secrets-only",
        "Passes over Secrets of the type kubernetes.io/tls.",
        VariantBehaviour::Resources(|resources| {
            resources.retain(|r| r.0.get("type").and_then(Value::as_str) != Some("kubernetes.io/tls"));
        }),
    )
    .also_at(&Placement::ALL),
];

fn at(honest: &UpstreamVerifier, server: &Presented<'_>, when: UnixTime) -> Result<(), Error> {
    honest.verify_chain(server.end_entity, server.intermediates, when, KeyUsage::server_auth())
}

fn earlier(now: UnixTime) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(now.as_secs()).saturating_sub(DAY))
}

/// Whether each certificate names the next one as its issuer.
fn in_order(server: &Presented<'_>) -> bool {
    let chain: Vec<_> = std::iter::once(server.end_entity).chain(server.intermediates).collect();
    chain.windows(2).all(|pair| {
        let parsed = |at: usize| x509_parser::parse_x509_certificate(pair[at]).map(|(_, c)| c);
        matches!((parsed(0), parsed(1)), (Ok(below), Ok(above)) if below.issuer() == above.subject())
    })
}

fn credentials(wanted: &mut WantedConfig, change: impl FnMut(&mut Credential)) {
    wanted.credentials.values_mut().flatten().for_each(change);
}

fn roots_as_well(wanted: &mut WantedConfig, roots: &str) {
    credentials(wanted, |c| c.ca.iter_mut().for_each(|ca| ca.push_str(&format!("\n{roots}"))));
}

fn mesh_roots_as_well(wanted: &mut WantedConfig, boot: &Boot) {
    const BOTH: &str = "the system's roots and the mesh's";
    roots_as_well(wanted, &boot.mesh_roots);
    for proxy in &mut wanted.plan.proxies {
        wanted.credentials.entry(proxy.name.clone()).or_default().push(Credential {
            name: BOTH.to_owned(),
            certificate: None,
            key: None,
            ca: Some(format!("{}\n{}", boot.system_roots, boot.mesh_roots)),
            crl: None,
        });
        for cluster in &mut proxy.clusters {
            if let Some(UpstreamTls::Originate(o)) = &mut cluster.tls
                && o.trust == Trust::SystemRoots
            {
                o.trust = Trust::Credential(BOTH.to_owned());
            }
        }
    }
}

fn first_block(pem: &str) -> String {
    pem.split_inclusive('\n')
        .scan(false, |ended, line| {
            if *ended {
                return None;
            }
            *ended = line.starts_with(END);
            Some(line)
        })
        .collect()
}

fn last_block(pem: &str) -> String {
    let start = pem.rfind("-----BEGIN ").unwrap_or_default();
    pem[start..].to_owned()
}

fn believe_anybody(cluster: &mut Cluster, concerned: fn(&Trust) -> bool) {
    if let Some(UpstreamTls::Originate(o)) = &mut cluster.tls
        && concerned(&o.trust)
    {
        o.trust = Trust::Anybody;
    }
}

struct ClientLeafOnly;

impl ProxyHooks for ClientLeafOnly {
    fn tls_inputs(&self, _tls: &UpstreamTls, inputs: &mut TlsInputs) {
        if let Ok(Some(pair)) = &mut inputs.client {
            pair.certificate = first_block(&pair.certificate);
        }
    }
}

/// The first content of each file.
#[derive(Default)]
struct FilesReadOnce(Mutex<BTreeMap<String, Result<TrustedRoots, String>>>);

impl ProxyHooks for FilesReadOnce {
    fn tls_inputs(&self, tls: &UpstreamTls, inputs: &mut TlsInputs) {
        if let UpstreamTls::Originate(o) = tls
            && let Trust::File(path) = &o.trust
        {
            let mut first = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            inputs.roots = first.entry(path.clone()).or_insert_with(|| inputs.roots.clone()).clone();
        }
    }
}

fn entries(resource: &mut Resource) -> Option<&mut serde_json::Map<String, Value>> {
    (resource.kind() == "Secret").then_some(())?;
    resource.0.get_mut("stringData")?.as_object_mut()
}

#[expect(clippy::ptr_arg, reason = "the type that every change of resources has")]
fn other_spelling_first(resources: &mut Vec<Resource>) {
    for held in resources.iter_mut().filter_map(entries) {
        for (preferred, others) in [("tls.crt", &["cert", "key"][..]), ("ca.crt", &["cacert"])] {
            if held.contains_key(preferred) {
                for other in others {
                    held.remove(*other);
                }
            }
        }
    }
}

fn separate_ca_ignored(resources: &mut Vec<Resource>) {
    let has_ca = |r: &Resource| r.0.pointer("/stringData/ca.crt").is_some();
    let with_ca: Vec<String> =
        resources.iter().filter(|r| r.kind() == "Secret" && has_ca(r)).map(|r| r.name().to_owned()).collect();
    resources.retain(|r| {
        let of = r.name().strip_suffix("-cacert").filter(|_| r.kind() == "Secret");
        of.is_none_or(|name| !with_ca.iter().any(|held| held == name))
    });
}
