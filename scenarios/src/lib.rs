//! The documents, one file a scenario.
