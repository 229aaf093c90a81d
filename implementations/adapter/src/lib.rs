//! The adapter contract: a data plane that is any program which reads and writes JSON lines on its standard
//! input and output, one process per scenario configuration. `docs/adapters.md` is the documentation for the
//! author of an adapter; `schema/` contains the JSON schemas of the messages.
//!
//! Whatever the program does (exits, hangs, floods, lies), the result is a verdict, or the one error of a run
//! that could not begin. It comes within a named timeout and in bounded memory, has the program's stderr as
//! evidence, and leaves no process running.

pub mod check;
mod command;
mod data_plane;
mod files;
mod lines;
pub mod message;
mod process;
mod session;
mod stderr_tail;
mod supervisor;
mod timeouts;

pub use command::{BadCommand, words};
pub use data_plane::Adapter;
