//! The async runtime that commands run on.

use tokio::runtime::{Builder, Runtime};

use crate::exit::Refusal;

pub(crate) fn runtime() -> Result<Runtime, Refusal> {
    Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|e| Refusal::Environment(format!("the async runtime does not start: {e}")))
}
