//! What an adapter gets as files, because keys must not appear in messages. Only the owner can read them.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use meshproof_harness::run_folder;
use meshproof_local::data_plane::{Boot, DataPlaneError};
use meshproof_model::Resource;
use meshproof_plan::model::Credential;
use serde_json::Value;

use crate::message::{CredentialFiles, IdentityFiles};

/// The files that stay the same for the life of a data plane.
pub(crate) struct StartFiles {
    pub(crate) identities: BTreeMap<String, IdentityFiles>,
    pub(crate) mesh_roots: String,
    pub(crate) system_roots: String,
}

/// The files of one revision.
pub(crate) struct RevisionFiles {
    folder: PathBuf,
    pub(crate) credentials: BTreeMap<String, Vec<CredentialFiles>>,
    pub(crate) resources: Vec<Value>,
}

fn environment(path: &Path, error: &std::io::Error) -> DataPlaneError {
    DataPlaneError::Environment(format!(
        "{} cannot be written: {error}. Set TMPDIR to a folder that you can write to and that has free space",
        path.display()
    ))
}

/// A path as text for a message.
pub(crate) fn text(path: &Path) -> Result<String, DataPlaneError> {
    path.to_str().map(str::to_owned).ok_or_else(|| {
        DataPlaneError::Environment(format!(
            "the path {} is not UTF-8. Set TMPDIR to a path that is",
            path.display()
        ))
    })
}

/// Creates a folder that only its owner can enter.
pub(crate) fn private_folder(path: &Path) -> Result<(), DataPlaneError> {
    run_folder::create_private(path).map_err(|e| environment(path, &e))
}

fn write(path: &Path, content: &[u8]) -> Result<String, DataPlaneError> {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path).and_then(|mut file| file.write_all(content)).map_err(|e| environment(path, &e))?;
    text(path)
}

impl StartFiles {
    pub(crate) fn write(folder: &Path, boot: &Boot) -> Result<Self, DataPlaneError> {
        let folder = folder.join("given");
        private_folder(&folder)?;
        let mesh_roots = write(&folder.join("mesh-roots.pem"), boot.mesh_roots.as_bytes())?;
        let system_roots = write(&folder.join("system-roots.pem"), boot.system_roots.as_bytes())?;
        let mut identities = BTreeMap::new();
        for (number, (proxy, mesh)) in boot.identities.iter().enumerate() {
            let file = |what: &str| folder.join(format!("identity-{number}-{what}.pem"));
            let certificate = write(&file("certificate"), mesh.certificate.as_bytes())?;
            let key = write(&file("key"), mesh.key.as_bytes())?;
            identities.insert(proxy.clone(), IdentityFiles { certificate, key });
        }
        Ok(Self { identities, mesh_roots, system_roots })
    }
}

impl RevisionFiles {
    pub(crate) fn write(
        folder: &Path,
        revision: u64,
        credentials: &BTreeMap<String, Vec<Credential>>,
        resources: &[Resource],
    ) -> Result<Self, DataPlaneError> {
        let folder = folder.join(format!("given/revision-{revision}"));
        private_folder(&folder)?;
        let mut all = BTreeMap::new();
        let mut number = 0_u32;
        for (proxy, known) in credentials {
            let mut files = Vec::new();
            for credential in known {
                // Names come from manifests; a number is a valid file name on every system.
                number += 1;
                let file = |what: &str, pem: &Option<String>| {
                    let path = folder.join(format!("credential-{number}-{what}.pem"));
                    pem.as_ref().map(|pem| write(&path, pem.as_bytes())).transpose()
                };
                files.push(CredentialFiles {
                    name: credential.name.clone(),
                    certificate: file("certificate", &credential.certificate)?,
                    key: file("key", &credential.key)?,
                    ca: file("ca", &credential.ca)?,
                    crl: file("crl", &credential.crl)?,
                });
            }
            all.insert(proxy.clone(), files);
        }
        let mut shown = Vec::new();
        for resource in resources {
            let mut object = resource.0.clone();
            if resource.kind() == "Secret" {
                number += 1;
                secret_to_files(&mut object, &folder, number)?;
            }
            shown.push(object);
        }
        Ok(Self { folder, credentials: all, resources: shown })
    }

    /// Removes the files. What cannot be removed goes with the run's folder.
    pub(crate) fn remove(self) {
        let _goes_with_the_run = std::fs::remove_dir_all(&self.folder);
    }
}

/// Moves a Secret's data out of the object: `files` has a path for each key. `stringData` overrides `data`
/// (Kubernetes, Secret v1, "stringData").
fn secret_to_files(object: &mut Value, folder: &Path, number: u32) -> Result<(), DataPlaneError> {
    let Some(secret) = object.as_object_mut() else { return Ok(()) };
    let mut entries: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    if let Some(Value::Object(data)) = secret.remove("data") {
        let decoded = |v: &Value| STANDARD.decode(v.as_str()?.trim()).ok();
        entries.extend(data.iter().filter_map(|(k, v)| Some((k.clone(), decoded(v)?))));
    }
    if let Some(Value::Object(data)) = secret.remove("stringData") {
        entries.extend(data.iter().filter_map(|(k, v)| Some((k.clone(), v.as_str()?.as_bytes().to_vec()))));
    }
    // kubectl keeps a copy of the whole object here.
    if let Some(annotations) = secret.get_mut("metadata").and_then(|m| m.get_mut("annotations"))
        && let Some(annotations) = annotations.as_object_mut()
    {
        annotations.remove("kubectl.kubernetes.io/last-applied-configuration");
    }
    let mut files = serde_json::Map::new();
    for (index, (key, content)) in entries.into_iter().enumerate() {
        let path = write(&folder.join(format!("secret-{number}-{index}.pem")), &content)?;
        files.insert(key, Value::from(path));
    }
    secret.insert("files".to_owned(), Value::Object(files));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret() -> Resource {
        Resource(serde_json::json!({
            "apiVersion": "v1", "kind": "Secret",
            "metadata": {"name": "s", "namespace": "n", "annotations": {
                "kubectl.kubernetes.io/last-applied-configuration": "the-key-itself"}},
            "data": {"tls.key": STANDARD.encode("the-key-itself"), "../escape": STANDARD.encode("x")},
            "stringData": {"tls.crt": "a certificate"},
        }))
    }

    #[test]
    fn a_secret_contains_the_paths_of_its_data_and_not_the_data() {
        let folder = tempfile::tempdir().unwrap();
        let of = RevisionFiles::write(folder.path(), 3, &BTreeMap::new(), &[secret()]).unwrap();
        let shown = serde_json::to_string(&of.resources).unwrap();
        assert!(
            !shown.contains("the-key-itself") && !shown.contains(&STANDARD.encode("the-key-itself")),
            "{shown}"
        );
        let files = of.resources[0]["files"].as_object().unwrap();
        assert_eq!(std::fs::read_to_string(files["tls.key"].as_str().unwrap()).unwrap(), "the-key-itself");
        assert_eq!(std::fs::read_to_string(files["tls.crt"].as_str().unwrap()).unwrap(), "a certificate");
        assert!(
            files.values().all(|p| Path::new(p.as_str().unwrap()).starts_with(folder.path())),
            "{files:?}"
        );
    }

    #[cfg(unix)]
    #[test]
    fn only_the_owner_can_read_the_files_of_a_revision_and_they_are_removed_with_it() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let credential = Credential {
            name: "c".into(),
            certificate: Some("certificate".into()),
            key: Some("key".into()),
            ca: None,
            crl: None,
        };
        let credentials = BTreeMap::from([("gateway".to_owned(), vec![credential])]);
        let of = RevisionFiles::write(folder.path(), 1, &credentials, &[]).unwrap();
        let files = of.credentials["gateway"][0].clone();
        let key = files.key.unwrap();
        assert_eq!(std::fs::read_to_string(&key).unwrap(), "key");
        assert_eq!(std::fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(
            std::fs::metadata(Path::new(&key).parent().unwrap()).unwrap().permissions().mode() & 0o777,
            0o700
        );
        assert_eq!(files.ca, None);
        of.remove();
        assert!(!Path::new(&key).exists());
    }
}
