//! `exportTo`.

use std::collections::BTreeSet;

/// How a resource reaches a namespace, in the order in which istiod looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Export {
    /// To its own namespace, alone or among others.
    Private,
    /// To this namespace by name.
    ByName,
    /// To all.
    Public,
}

/// Whether and how a resource of namespace `owner` reaches namespace `to`. `default` stands for an empty list; where it is
/// empty as well, it is `*`. With `~` a resource reaches no namespace (`initVirtualServices` and `initServiceRegistry` in
/// pilot/pkg/model/push_context.go).
pub(crate) fn exported_to(
    export_to: &BTreeSet<String>,
    default: &[String],
    owner: &str,
    to: &str,
) -> Option<Export> {
    let listed: BTreeSet<&str> = if export_to.is_empty() {
        default.iter().map(String::as_str).collect()
    } else {
        export_to.iter().map(String::as_str).collect()
    };
    if listed.is_empty() || listed.contains("*") {
        return Some(Export::Public);
    }
    if listed.contains("~") {
        return None;
    }
    if owner == to {
        return (listed.contains(".") || listed.contains(owner)).then_some(Export::Private);
    }
    listed.contains(to).then_some(Export::ByName)
}
