//! Addresses of ServiceEntries (`convertServices` in pilot/pkg/serviceregistry/serviceentry/conversion.go).
//!
//! Of an entry with several, each is a service of its own. Where routes are made by host, one of these services counts, and istiod
//! sorts them by nothing that they differ in: which one it is may change from push to push. The plan takes the last.

use std::collections::BTreeMap;

use crate::resources::Named;
use crate::resources::service_entry::ServiceEntry;

/// By host, the addresses of all ServiceEntries that have it.
pub(crate) fn by_host(entries: &[Named<ServiceEntry>]) -> BTreeMap<String, Vec<String>> {
    let mut all: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for entry in entries {
        for host in &entry.spec.hosts {
            all.entry(host.clone()).or_default().extend(plain(&entry.spec.addresses));
        }
    }
    all
}

/// The addresses of a ServiceEntry, each once; a CIDR of one address is that address (`convertServices`).
pub(crate) fn plain(written: &[String]) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    for address in written {
        let plain = match address.split_once('/') {
            Some((ip, "32")) if !ip.contains(':') => ip,
            Some((ip, "128")) => ip,
            Some(_) | None => address,
        };
        if !all.iter().any(|known| known == plain) {
            all.push(plain.to_owned());
        }
    }
    all
}
