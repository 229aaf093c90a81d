//! The contract from the suite's side: adapters that keep it, and adapters that break it in every way.

mod adapters;
mod documentation;
mod hostile;
mod memory;
mod runs;
mod support;
