//! What of a mesh is judged, and how much of the mesh was read.

/// Of files: everything that they hold, and they may be a part of the mesh. Of a cluster: one namespace, with everything that
/// the account may read.
#[derive(Clone, Debug, Default)]
pub(crate) struct Scope {
    /// Requests of this namespace's workloads and routes are judged alone; none: all.
    pub(crate) namespace: Option<String>,
    /// All resources of the mesh were read, so that one which is not among them does not exist.
    pub(crate) whole: bool,
    /// So were the Secrets that credentials name.
    pub(crate) secrets: bool,
}

impl Scope {
    /// Where a resource was looked for, after `no X is `.
    pub(crate) fn among(&self) -> &'static str {
        if self.namespace.is_some() { "in the cluster" } else { "among the files" }
    }

    /// Whether sidecars of a namespace are judged.
    pub(crate) fn has(&self, namespace: &str) -> bool {
        self.namespace.as_deref().is_none_or(|own| own == namespace)
    }
}
