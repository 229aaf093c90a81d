//! The suite on a real Envoy: it passes, and with a broken configuration it fails.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use meshproof_envoy::{Envoy, Mutation};
use meshproof_harness::external::ExternalChoice;
use meshproof_harness::runner::{self, Options};
use meshproof_harness::select::select;
use meshproof_local::LocalTarget;
use meshproof_model::{Level, Report, Verdict};
use meshproof_scenarios::ALL;

use crate::support::installed;

async fn run(program: PathBuf, mutation: Option<Mutation>, selectors: &[&str]) -> Report {
    let envoy = match mutation {
        None => Envoy::new(Some(program)),
        Some(mutation) => Envoy::mutated(Some(program), mutation),
    };
    let selectors: Vec<String> = selectors.iter().map(|&s| s.to_owned()).collect();
    let selection = select(&ALL, &selectors).unwrap();
    let options = Options {
        external: ExternalChoice::Embedded,
        command: "meshproof run --target envoy".to_owned(),
        repeat: "meshproof run --target envoy".to_owned(),
        ..Options::new(Arc::new(LocalTarget::new(Arc::new(envoy), None)), selection)
    };
    runner::run(options).await.unwrap()
}

/// Every MUST that did not pass, with what was observed.
fn missed(report: &Report) -> Vec<(String, String)> {
    let faults: Vec<_> = report.scenarios.iter().flat_map(|s| &s.faults).collect();
    assert!(faults.is_empty(), "faults of the suite: {faults:?}");
    report
        .checks()
        .filter(|c| c.level == Level::Must && c.verdict != Verdict::Passed)
        .map(|c| (c.id.clone(), format!("{:?}: {}", c.verdict, c.seen)))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_must_of_every_scenario_passes() {
    let Some(program) = installed() else { return };
    let report = run(program, None, &[]).await;
    assert_eq!(missed(&report), Vec::new());
    assert!(report.checks().count() > 60, "too few checks ran");
}

/// The checks that must fail for each mutation, in the smallest scenarios that contain them.
const NOTICED_BY: &[(Mutation, &str, &[&str])] = &[
    (Mutation::NoSni, "sidecar-origination:target-port", &["sidecar-origination/sni-is-host"]),
    (
        Mutation::NoCa,
        "tls-verification",
        &["tls-verification/unknown-ca-refused", "tls-verification/expired-certificate-refused"],
    ),
    (
        Mutation::NoClientCertificate,
        "egress-gateway-mutual:ecdsa-p256",
        &["egress-gateway-mutual/welcome-page", "egress-gateway-mutual/client-certificate-presented"],
    ),
    (
        Mutation::Plaintext,
        "sidecar-origination:target-port",
        &["sidecar-origination/no-plaintext-leak", "sidecar-origination/sni-is-host"],
    ),
    (Mutation::WrongPort, "sidecar-origination:port-rewrite", &["sidecar-origination/no-plaintext-leak"]),
    (Mutation::NoLog, "sidecar-origination:target-port", &["sidecar-origination/sidecar-access-log"]),
];

#[test]
fn every_mutation_is_listed_with_the_checks_that_it_must_fail() {
    let listed: BTreeSet<Mutation> = NOTICED_BY.iter().map(|(m, ..)| *m).collect();
    assert!(Mutation::ALL.iter().all(|m| listed.contains(m)));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_mutation_fails_the_checks_that_are_listed_for_it() {
    let Some(program) = installed() else { return };
    for (mutation, scenario, checks) in NOTICED_BY {
        let report = run(program.clone(), Some(*mutation), &[scenario]).await;
        let missed: Vec<String> = missed(&report).into_iter().map(|(id, _)| id).collect();
        for check in *checks {
            assert!(
                missed.iter().any(|id| id == check),
                "{mutation}: {check} passed; not passed: {missed:?}"
            );
        }
        assert_eq!(report.exit_code(), 1, "{mutation}");
    }
}
