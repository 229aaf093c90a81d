//! `exportTo`.

/// How a resource reaches a namespace, in the order in which istiod looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Export {
    /// To its own namespace alone.
    Private,
    /// To this namespace by name.
    ByName,
    /// To all.
    Public,
}

/// Whether and how a resource of namespace `owner` reaches namespace `to`. Nothing listed means `*`, the mesh's default
/// (`~` is no namespace, so that it reaches none; `initVirtualServices` and `initServiceRegistry` in pilot/pkg/model/push_context.go).
pub(crate) fn exported_to(export_to: &[String], owner: &str, to: &str) -> Option<Export> {
    if export_to.is_empty() || export_to.iter().any(|e| e == "*") {
        return Some(Export::Public);
    }
    let own = export_to.iter().any(|e| e == ".") && owner == to;
    if own && export_to.len() == 1 {
        return Some(Export::Private);
    }
    (own || export_to.iter().any(|e| e == to)).then_some(Export::ByName)
}
