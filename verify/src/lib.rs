//! What a user's own Istio configuration does with requests, and what is wrong with it.
//!
//! The files are read with the place of every value ([`Source`]), completed to a mesh, and planned as istiod plans them
//! ([`meshproof_plan`]). Every request that the configuration concerns is followed through that plan. A finding says what happens to
//! a request; its cause is a change to the files after which, planned again, the request does what was meant. It sends nothing
//! and reads no file itself.

mod ask;
mod assumed;
mod chains;
mod copy;
mod faults;
mod findings;
mod flows;
mod positions;
pub mod proof;
mod raw;
mod request;
mod scope;
mod source;
mod trace;
mod witnesses;
mod world;

pub use ask::{Answer, Question, QuestionError, Step};
pub use findings::{ALL as CODES, Code, find as code};
pub use source::{InForce, InputError, Source, text};

use meshproof_model::verification::{SCHEMA, Verification};

/// A configuration with everything that is known about it.
pub struct Verified {
    /// The answer.
    pub verification: Verification,
    input: source::Input,
    judged: findings::Judged,
}

/// The Services of gateways that these resources rely on and do not contain, and for each a note for people. A Gateway whose
/// selector fits no Service would otherwise belong to no proxy.
#[must_use]
pub fn assumed_gateway_services(
    resources: &[meshproof_model::Resource],
) -> (Vec<meshproof_model::Resource>, Vec<String>) {
    let mut notes = Vec::new();
    let services = assumed::assumed_services(resources, &mut notes);
    (services, notes)
}

/// The resources of files, and what about them people should know.
#[derive(Clone, Debug, Default)]
pub struct Manifests {
    /// In the order of the files. Of two with one id the last counts, in the place of the first, as for `kubectl apply`.
    pub resources: Vec<meshproof_model::Resource>,
    /// What was left out, with its place.
    pub notes: Vec<String>,
}

/// Reads files as [`verify`] reads them.
///
/// # Errors
/// A file is not YAML or holds no Kubernetes resource.
pub fn manifests(sources: &[Source]) -> Result<Manifests, InputError> {
    let mut input = source::read(sources)?;
    input.resources.iter_mut().for_each(world::settings_as_json);
    let mut notes = input.passed_over.clone();
    for (id, first, last) in &input.overwritten {
        notes.push(format!("{first}: {id} comes again at {last}, which counts"));
    }
    Ok(Manifests { resources: input.resources, notes })
}

/// Verifies a configuration without sending a request.
///
/// # Errors
/// A file is not YAML or holds no Kubernetes resource.
pub fn verify(sources: &[Source]) -> Result<Verified, InputError> {
    let input = source::read(sources)?;
    let files = sources.iter().map(|s| s.name.clone()).collect();
    Ok(verified(input, Verification { files, ..Verification::default() }))
}

/// Verifies what is in force in a cluster for one namespace, without sending a request: the requests of its workloads, and those
/// that its routes take. The place of a finding is a resource's name and a field.
#[must_use]
pub fn verify_in_force(read: &InForce) -> Verified {
    let assumed = read.unread.clone();
    let cluster = Some(read.cluster.clone());
    verified(source::in_force(read), Verification { cluster, assumed, ..Verification::default() })
}

fn verified(input: source::Input, about: Verification) -> Verified {
    let mut judged = findings::judge(&input);
    let mut flows: Vec<_> = judged
        .observed
        .iter()
        .filter(|o| !o.hidden)
        .flat_map(|o| o.traces.iter().map(|t| flows::flow(&judged.world, o, t)))
        .collect();
    flows.sort_by(|a, b| (&a.from, &a.request, &a.conditions).cmp(&(&b.from, &b.request, &b.conditions)));
    flows.dedup();
    let verification = Verification {
        schema: SCHEMA.to_owned(),
        meshproof: env!("CARGO_PKG_VERSION").to_owned(),
        files: about.files,
        cluster: about.cluster,
        resources: input.resources.len(),
        findings: std::mem::take(&mut judged.findings),
        notes: std::mem::take(&mut judged.notes),
        flows,
        assumed: about.assumed.into_iter().chain(judged.world.assumed.iter().cloned()).collect(),
        passed_over: findings::passed_over(&input, &judged.world),
        proof: None,
        not_proved: Vec::new(),
    };
    Verified { verification, input, judged }
}
