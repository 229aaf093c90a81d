//! `--ca FILE`: the authority of the external services, kept for later runs.

use std::path::Path;
use std::sync::Arc;

use meshproof_harness::certificates::Authority;
use meshproof_harness::external::PrivateKeyPem;
use meshproof_harness::run_folder;

use crate::exit::Refusal;
use crate::output::complain;

/// The authority that a file keeps, which is created where there is none.
///
/// # Errors
/// The file cannot be used.
pub(crate) fn kept_authority(file: &Path) -> Result<Arc<Authority>, Refusal> {
    let unusable = |reason: String| Refusal::Usage(format!("--ca {}: {reason}", file.display()));
    if !file.exists() {
        let authority = Authority::public().map_err(|e| Refusal::Environment(e.to_string()))?;
        run_folder::write_private(file, &authority.to_keep().0).map_err(|e| unusable(e.to_string()))?;
        complain(&format!(
            "note: {} has a new authority. Mount its certificate, and not its key, over the authorities of the installed \
             gateways, and keep the file for later runs",
            file.display()
        ));
        return Ok(Arc::new(authority));
    }
    let text = PrivateKeyPem(std::fs::read_to_string(file).map_err(|e| unusable(e.to_string()))?);
    Ok(Arc::new(Authority::kept(&text).map_err(unusable)?))
}
