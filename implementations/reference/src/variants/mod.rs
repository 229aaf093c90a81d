//! Variants of the reference: saboteurs, which are broken on purpose in one named way each, and benign
//! variants, which are correct but unusual. All decorate the data plane through its hooks; the data plane
//! knows none of them.
//!
//! A new variant is one [`Definition`](definition::Definition) in a table of [`saboteurs`] or [`benign`].

mod behaviour;
mod benign;
mod definition;
mod json_line;
mod placement;
mod registry;
mod saboteurs;
mod sessions;
mod verifier;

pub(crate) use behaviour::hooks;
pub use placement::Placement;
pub use registry::{UnknownVariant, Variant, VariantKind};
