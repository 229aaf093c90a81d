//! What everything of one proxy is made from.

use super::destination_rules::DestinationRules;
use super::input::{Input, Proxy};
use super::registry::Registry;
use super::scope::Scope;
use super::virtual_services::VirtualServices;
use crate::resources::Resources;

/// What everything of one proxy is made from.
pub(crate) struct Context<'a> {
    pub(crate) input: &'a Input<'a>,
    pub(crate) resources: &'a Resources<'a>,
    pub(crate) registry: &'a Registry,
    pub(crate) rules: &'a DestinationRules,
    pub(crate) virtual_services: &'a VirtualServices,
    pub(crate) proxy: &'a Proxy,
    pub(crate) scope: &'a Scope<'a>,
}
