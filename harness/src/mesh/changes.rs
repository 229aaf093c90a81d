//! Changes of what is in force: manifests, Secrets, servers, gateways that stop.

use std::time::Instant;

use meshproof_model::{Change, Fact, Resource, ResourceId, Side};

use super::{External, Mesh, Stop, micros};
use crate::external_server::ExternalServer;
use crate::manifest;
use crate::run_folder;
use crate::secret::Secret;
use crate::target::{ConfigChange, TargetError};
use crate::timeouts::Timeout;

impl Mesh {
    /// Reads manifests of the scenario's fixture folder. A resource without a namespace gets `namespace`.
    ///
    /// # Errors
    /// No such fixture, or it is not a manifest.
    pub fn fixture(&self, name: &str, namespace: &str) -> Result<Vec<Resource>, Stop> {
        if let Some(folder) = &self.setting.replacements {
            let path = folder.join(&self.setting.catalogue.id).join(format!("{name}.yaml"));
            if path.exists() {
                let shown = path.display().to_string();
                let yaml = std::fs::read_to_string(&path).map_err(|e| {
                    Stop::Suite(format!("{shown} cannot be read: {e}; check its permissions"))
                })?;
                return Ok(manifest::read(&shown, &yaml, namespace)?);
            }
        }
        let file = format!("{}/{name}.yaml", self.setting.manifests.place());
        let yaml = self.setting.manifests.manifest(name);
        let yaml = yaml.ok_or_else(|| Stop::Suite(format!("{file} does not exist")))?;
        Ok(manifest::read(&file, yaml, namespace)?)
    }

    /// Applies fixtures as one change. A resource without a namespace gets `default`.
    ///
    /// # Errors
    /// The fixture is broken, or the implementation refuses it.
    pub async fn apply(&self, fixtures: &[&str]) -> Result<(), Stop> {
        let mut apply = Vec::new();
        for name in fixtures {
            apply.extend(self.fixture(name, "default")?);
        }
        self.change(ConfigChange { apply, delete: Vec::new() }).await
    }

    /// Puts files into the file system of the proxies, and applies a fixture that names them as files of the folder `mounted`.
    /// Files of earlier calls are replaced, and the proxies read them again.
    ///
    /// # Errors
    /// The target cannot put files where the proxies are, or as for [`Mesh::apply`].
    pub async fn apply_with_files(
        &self,
        fixture: &str,
        mounted: &str,
        files: &[(&str, String)],
    ) -> Result<(), Stop> {
        let folder = self.instance.file_folder().ok_or_else(|| {
            TargetError::Unable(
                "the suite cannot put certificates into the file system of the proxies".to_owned(),
            )
        })?;
        let shown = folder.display().to_string();
        let failed = |e: std::io::Error| Stop::Suite(format!("{shown} cannot be written: {e}"));
        run_folder::create_private(&folder).map_err(failed)?;
        for (name, text) in files {
            run_folder::write_private(&folder.join(name), text).map_err(failed)?;
        }
        let mut apply = self.fixture(fixture, "default")?;
        for resource in &mut apply {
            relocate(&mut resource.0, mounted, &shown);
        }
        self.change(ConfigChange { apply, delete: Vec::new() }).await
    }

    /// Deletes the resources of these fixtures as one change.
    ///
    /// # Errors
    /// The fixture is broken, or the implementation refuses the deletion.
    pub async fn delete(&self, fixtures: &[&str]) -> Result<(), Stop> {
        let mut delete = Vec::new();
        for name in fixtures {
            delete.extend(self.fixture(name, "default")?.iter().map(Resource::id));
        }
        self.change(ConfigChange { apply: Vec::new(), delete }).await
    }

    /// Deletes one resource.
    ///
    /// # Errors
    /// The implementation refuses the deletion.
    pub async fn delete_one(&self, kind: &str, namespace: &str, name: &str) -> Result<(), Stop> {
        let id = ResourceId { kind: kind.into(), namespace: namespace.into(), name: name.into() };
        self.change(ConfigChange { apply: Vec::new(), delete: vec![id] }).await
    }

    /// Creates or replaces a Secret.
    ///
    /// # Errors
    /// The implementation refuses it.
    pub async fn create_secret(&self, secret: Secret) -> Result<(), Stop> {
        self.change(ConfigChange { apply: vec![secret.into_resource()], delete: Vec::new() }).await
    }

    /// Creates or replaces several Secrets as one change.
    ///
    /// # Errors
    /// The implementation refuses one of them.
    pub async fn create_secrets(&self, secrets: Vec<Secret>) -> Result<(), Stop> {
        let apply = secrets.into_iter().map(Secret::into_resource).collect();
        self.change(ConfigChange { apply, delete: Vec::new() }).await
    }

    /// Deletes a Secret.
    ///
    /// # Errors
    /// The implementation refuses the deletion.
    pub async fn delete_secret(&self, namespace: &str, name: &str) -> Result<(), Stop> {
        self.delete_one("Secret", namespace, name).await
    }

    /// Applies a change, waits until it is in force, and records it.
    ///
    /// # Errors
    /// The implementation refuses it, does not bring it into force within the timeout `applied`, or is gone.
    pub async fn change(&self, change: ConfigChange) -> Result<(), Stop> {
        self.mark_change();
        let begun = Instant::now();
        let result = self
            .within(
                Timeout::Applied,
                "bring the change into force",
                self.changing(self.instance.change(&change)),
            )
            .await;
        let convergence_us = micros(begun.elapsed());
        self.state().timing.convergence_us += convergence_us;
        let fact = Change {
            applied: change.apply.iter().map(manifest::to_yaml).collect(),
            deleted: change.delete.iter().map(ToString::to_string).collect(),
            convergence_us,
            refused: result.as_ref().err().map(ToString::to_string),
        };
        self.setting.seat.store.record(Side::Suite, None, Fact::Change(fact));
        Ok(result?)
    }

    /// Stops a proxy, or starts it again.
    ///
    /// # Errors
    /// The target cannot, or the implementation is gone.
    pub async fn set_running(&self, proxy: &str, running: bool) -> Result<(), Stop> {
        self.mark_change();
        let begun = Instant::now();
        let what = if running { "start the proxy" } else { "stop the proxy" };
        let result = self
            .within(Timeout::Applied, what, self.changing(self.instance.set_running(proxy, running)))
            .await;
        self.state().timing.convergence_us += micros(begun.elapsed());
        let text = format!("{proxy} was {}", if running { "started" } else { "stopped" });
        self.setting.seat.store.record(Side::Suite, None, Fact::Note { text });
        Ok(result?)
    }

    /// Sets an environment variable of a workload's application.
    ///
    /// # Errors
    /// The environment's.
    pub async fn set_variable(&self, workload: &str, name: &str, value: &str) -> Result<(), Stop> {
        self.mark();
        let text = format!("{workload}: {name}={value}");
        self.setting.seat.store.record(Side::Suite, None, Fact::Note { text });
        Ok(self.instance.set_variable(workload, name, value).await?)
    }

    /// Deploys an external service and makes its host name resolve to it. In a live run nothing is deployed: the host is the
    /// real one. The suite checks that it answers as the document says; what it receives cannot be observed.
    ///
    /// # Errors
    /// The environment's: the service did not start, or the real host does not answer as the document says. The
    /// implementation's: it does not use the new address.
    pub async fn deploy_external(&self, server: impl Into<ExternalServer>) -> Result<External<'_>, Stop> {
        let server = server.into();
        let host = server.host().to_owned();
        self.deploy_externals(vec![server]).await?;
        Ok(self.external(&host))
    }

    /// Deploys several external services concurrently. The result has their order.
    ///
    /// # Errors
    /// As for [`Mesh::deploy_external`], of the first service that fails.
    pub async fn deploy_externals(&self, servers: Vec<ExternalServer>) -> Result<Vec<External<'_>>, Stop> {
        let hosts: Vec<String> = servers.iter().map(|server| server.host().to_owned()).collect();
        // A service that does not start is the environment's fault. An implementation that refuses the address or exits
        // because of it is at fault itself.
        let timeouts = &self.setting.seat.timeouts;
        // The target bounds the time in which the implementation takes up the address, as `applied`.
        let one = self.instance.deploys_within(timeouts);
        let limit = one * u32::try_from(hosts.len()).unwrap_or(u32::MAX);
        let specs = servers.into_iter().map(ExternalServer::into_parts).collect();
        let deployed =
            tokio::time::timeout(limit, self.changing(self.instance.deploy_externals(specs))).await;
        let described = deployed.unwrap_or_else(|_| {
            Err(TargetError::Environment(format!(
                "Timed out after {limit:?} waiting for the external services to start; --timeout \
                 external-service-ready=DURATION sets another limit"
            )))
        })?;
        self.state().externals.extend(described);
        if self.is_live() {
            for host in &hosts {
                self.state().unobserved.push(host.clone());
                self.ask_real_host(host).await?;
            }
        }
        Ok(hosts.iter().map(|host| self.external(host)).collect())
    }
}

/// Puts a folder in the place of another in every text of a resource.
fn relocate(value: &mut serde_json::Value, mounted: &str, folder: &str) {
    use serde_json::Value;
    match value {
        Value::String(text) => {
            if let Some(rest) = text.strip_prefix(mounted) {
                *text = format!("{folder}{rest}");
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| relocate(item, mounted, folder)),
        Value::Object(fields) => fields.values_mut().for_each(|field| relocate(field, mounted, folder)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}
