//! What only the pods of a run show of the implementation, collected over its scenarios for the report.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use meshproof_harness::store::bounded;
use serde_json::Value;

use crate::pod::statuses;

/// How many bytes of an image's name and of its digest are kept.
const MAX_NAME: usize = 300;
/// How many images are listed for one purpose: a mesh may inject another proxy into each pod.
const MAX_IMAGES: usize = 8;

/// Notes of a run. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct RunNotes {
    images: Arc<Mutex<BTreeMap<&'static str, BTreeSet<String>>>>,
    /// By proxy: the proofs by which its convergence was known.
    convergence: Arc<Mutex<BTreeMap<String, BTreeSet<&'static str>>>>,
}

/// A container's image, as the node reports it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ImageRun {
    /// The container's name.
    pub(crate) container: String,
    /// `docker.io/library/nginx:1.28.0 (docker.io/library/nginx@sha256:...)`.
    pub(crate) image: String,
}

impl RunNotes {
    /// Notes what a pod ran; `purpose` says what each container is for, or none if it does not matter.
    pub(crate) fn ran(&self, ran: &[ImageRun], purpose: impl Fn(&str) -> Option<&'static str>) {
        let mut images = lock(&self.images);
        for one in ran {
            let Some(purpose) = purpose(&one.container) else { continue };
            let known = images.entry(purpose).or_default();
            // One more than are listed, so that the list can say so.
            if known.len() <= MAX_IMAGES {
                known.insert(one.image.clone());
            }
        }
    }

    /// Notes by which proof it was known that changes were in force at a proxy.
    pub(crate) fn convergence(&self, proxy: &str, proof: &'static str) {
        lock(&self.convergence).entry(proxy.to_owned()).or_default().insert(proof);
    }

    /// For the report's details of the implementation: `image workload` and so on, and `convergence by`.
    #[must_use]
    pub fn details(&self) -> BTreeMap<String, String> {
        let images = lock(&self.images);
        let mut details: BTreeMap<String, String> =
            images.iter().map(|(purpose, of)| (format!("image {purpose}"), listed(of))).collect();
        let convergence = lock(&self.convergence);
        let mut proxies_by: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for (proxy, proofs) in convergence.iter() {
            for proof in proofs {
                proxies_by.entry(proof).or_default().insert(proxy);
            }
        }
        let proofs: Vec<String> = match proxies_by.len() {
            1 => proxies_by.keys().map(|proof| (*proof).to_owned()).collect(),
            _ => {
                let of = |proxies: &BTreeSet<&str>| proxies.iter().copied().collect::<Vec<_>>().join(" and ");
                proxies_by.iter().map(|(proof, proxies)| format!("{proof} ({})", of(proxies))).collect()
            }
        };
        if !proofs.is_empty() {
            details.insert("convergence by".to_owned(), proofs.join(", "));
        }
        details
    }
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

fn listed(all: &BTreeSet<String>) -> String {
    let mut words: Vec<&str> = all.iter().take(MAX_IMAGES).map(String::as_str).collect();
    if all.len() > MAX_IMAGES {
        words.push("and more");
    }
    words.join(", ")
}

/// What the containers of a pod run (Kubernetes API, `ContainerStatus`: `image` is its name, which may be one
/// of several, and `imageID` what the node resolved it to: a digest of the registry's, or of the node's own
/// where it was never in one).
pub(crate) fn ran(pod: &Value) -> Vec<ImageRun> {
    let text = |status: &Value, field: &str| {
        let text = status[field].as_str().filter(|text| !text.is_empty());
        text.map(|text| bounded(text, MAX_NAME))
    };
    let read = |status: &Value| {
        let (container, image) = (text(status, "name")?, text(status, "image")?);
        let id = text(status, "imageID").unwrap_or_else(|| "digest unknown".to_owned());
        let id = id.strip_prefix("docker-pullable://").unwrap_or(&id);
        let image = if image == id { image } else { format!("{image} ({id})") };
        Some(ImageRun { container, image })
    };
    statuses(pod).filter_map(read).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(statuses: Value) -> Value {
        json!({ "status": { "containerStatuses": statuses, "initContainerStatuses": [
            { "name": "istio-proxy", "image": "proxyv2:1", "imageID":
                "docker-pullable://istio/proxyv2@sha256:aa" },
        ] } })
    }

    #[test]
    fn images_are_listed_by_purpose_with_the_digest_that_the_node_resolved() {
        let noted = RunNotes::default();
        let one = pod(json!([{ "name": "application", "image": "curl:8", "imageID": "sha256:bb" }]));
        let purpose = |container: &str| match container {
            "istio-proxy" => Some("proxy"),
            "application" => Some("workload"),
            _ => None,
        };
        noted.ran(&ran(&one), purpose);
        noted.ran(&ran(&one), purpose);
        let unrelated = pod(json!([{ "name": "istio-validation", "image": "x", "imageID": "y" }]));
        noted.clone().ran(&ran(&unrelated), purpose);
        let expected = [
            ("image proxy".to_owned(), "proxyv2:1 (istio/proxyv2@sha256:aa)".to_owned()),
            ("image workload".to_owned(), "curl:8 (sha256:bb)".to_owned()),
        ];
        assert_eq!(noted.details(), BTreeMap::from(expected));
    }

    #[test]
    fn the_proofs_of_convergence_are_listed_with_the_proxies_where_they_differ() {
        let noted = RunNotes::default();
        assert_eq!(noted.details(), BTreeMap::new());
        noted.convergence("sleep", "config dump");
        noted.convergence("gateway", "config dump");
        assert_eq!(noted.details()["convergence by"], "config dump");
        noted.convergence("gateway", "canary");
        assert_eq!(noted.details()["convergence by"], "canary (gateway), config dump (gateway and sleep)");
    }

    #[test]
    fn an_image_without_a_digest_is_listed_as_such() {
        let images =
            ran(&json!({ "status": { "containerStatuses": [{ "name": "a", "image": "curl:8", "imageID":
                "" }] } }));
        assert_eq!(images[0].image, "curl:8 (digest unknown)");
        assert_eq!(ran(&json!({ "status": {} })), []);
    }

    #[test]
    fn what_nodes_report_is_bounded() {
        let noted = RunNotes::default();
        for number in 0..100 {
            let id = format!("{number}{}", "x".repeat(10_000));
            let statuses = json!([{ "name": "application", "image": "i", "imageID": id }]);
            noted.ran(&ran(&pod(statuses)), |name| (name == "application").then_some("workload"));
        }
        let listed = &noted.details()["image workload"];
        assert!(
            listed.ends_with("and more") && listed.len() < (MAX_IMAGES + 1) * (MAX_NAME + 20),
            "{}",
            listed.len()
        );
    }
}
