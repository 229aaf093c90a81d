//! The scenarios that say of themselves that every check needs the embedded external service are those that ask for it first.

use std::sync::Arc;

use async_trait::async_trait;
use meshproof_harness::external::{Documented, ExternalSpec};
use meshproof_harness::feature::Feature;
use meshproof_harness::runner::{Options, Selected, run};
use meshproof_harness::target::{ConfigChange, Instance, Probe, Seat, Target, TargetError};
use meshproof_harness::workload::RequestSpec;
use meshproof_model::{CredentialStatus, Exchange, ExternalService, Implementation, Verdict};
use meshproof_scenarios::ALL;

/// A mesh whose external services cannot be the embedded one, and in which no request can be sent.
struct WithoutEmbedded;

fn stops<T>() -> Result<T, TargetError> {
    Err(TargetError::Environment("a request would be sent now".to_owned()))
}

#[async_trait]
impl Target for WithoutEmbedded {
    async fn identify(&self) -> Result<Implementation, TargetError> {
        Ok(Implementation {
            name: "without".to_owned(),
            version: "1".to_owned(),
            target: "fake".to_owned(),
            features: Feature::ALL.iter().copied().map(Into::into).collect(),
            details: Default::default(),
        })
    }

    async fn start(&self, _: Seat) -> Result<Box<dyn Instance>, TargetError> {
        Ok(Box::new(Self))
    }
}

#[async_trait]
impl Instance for WithoutEmbedded {
    async fn deploy_externals(
        &self,
        specs: Vec<(ExternalSpec, Documented)>,
    ) -> Result<Vec<ExternalService>, TargetError> {
        if specs.iter().any(|(_, documented)| *documented == Documented::Embedded) {
            return Err(TargetError::Unable("it is not embedded".to_owned()));
        }
        let described = |(spec, _): (ExternalSpec, Documented)| ExternalService {
            host: spec.host,
            kind: "fake".to_owned(),
            version: "1".to_owned(),
        };
        Ok(specs.into_iter().map(described).collect())
    }

    async fn change(&self, _: &ConfigChange) -> Result<(), TargetError> {
        Ok(())
    }

    async fn set_running(&self, _: &str, _: bool) -> Result<(), TargetError> {
        stops()
    }

    async fn set_variable(&self, _: &str, _: &str, _: &str) -> Result<(), TargetError> {
        stops()
    }

    async fn send(&self, _: &str, _: &RequestSpec) -> Result<Exchange, TargetError> {
        stops()
    }

    async fn probe(&self, _: &Probe, _: &RequestSpec) -> Result<Exchange, TargetError> {
        stops()
    }

    async fn settle(&self) -> Result<(), TargetError> {
        stops()
    }

    async fn credentials(&self, _: &str) -> Result<Vec<CredentialStatus>, TargetError> {
        stops()
    }

    fn upstream_address(&self, _: &str, _: u16) -> Option<String> {
        None
    }

    async fn stop(&self) -> Result<(), TargetError> {
        Ok(())
    }
}

#[tokio::test]
async fn every_check_is_skipped_where_the_embedded_service_is_missing_as_the_catalogue_says() {
    let work = tempfile::tempdir().unwrap();
    let selected = ALL.iter().flat_map(|scenario| {
        let each = scenario.catalogue.configurations.iter();
        each.map(move |configuration| Selected { scenario, configuration: &configuration.id, checks: None })
    });
    let options = Options::new(Arc::new(WithoutEmbedded), selected.collect());
    let report = run(Options { work: work.path().to_owned(), ..options }).await.unwrap();
    let mut wrong = Vec::new();
    for result in &report.scenarios {
        let scenario = ALL.iter().find(|scenario| scenario.id() == result.id).unwrap();
        let skipped = result.checks.iter().all(|check| check.verdict == Verdict::Skipped);
        if skipped != scenario.catalogue.needs_embedded {
            wrong.push(format!("{}:{}", result.id, result.configuration));
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
}
