//! The reference data plane.
