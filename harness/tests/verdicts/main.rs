//! What becomes of a scenario that goes wrong: who is blamed, what is lost (nothing), and what the exit code says. The
//! implementation here is a script.

mod claims;
mod fake;
mod hunt;
mod runs;
