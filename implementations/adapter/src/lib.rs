//! The adapter contract: a data plane that is any program speaking JSON lines on its standard input and output, one
//! process a scenario configuration. `docs/adapters.md` tells its author all there is to know; `schema/` holds the
//! messages' JSON schemas.
//!
//! Whatever the program does (dies, hangs, floods, lies) ends within a named timeout, in a verdict or in the one error of a run
//! that could not begin, with its stderr as evidence, in bounded memory, and with no process left.

pub mod check;
mod files;
mod lines;
pub mod message;
mod plane;
mod process;
mod redact;
mod session;
mod tail;

use meshproof_harness::timeouts::{Timeout, Timeouts};
pub use plane::Adapter;

/// An adapter's command line, as a shell splits words: quotes and backslashes, no variables and no redirection.
///
/// # Errors
/// The text is empty, or a quote is left open.
pub fn words(command: &str) -> Result<Vec<String>, BadCommand> {
    let words = shell_words::split(command).map_err(|_| BadCommand::Quote(command.to_owned()))?;
    if words.first().is_none_or(String::is_empty) { Err(BadCommand::Empty) } else { Ok(words) }
}

/// Why a text is no command line.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadCommand {
    /// Nothing to run.
    #[error("adapter: names no command; write adapter:COMMAND, such as `adapter:python3 my-adapter.py`")]
    Empty,
    /// A quote is not closed.
    #[error("adapter:{0} has a quote that is not closed")]
    Quote(String),
}

/// The timeouts that the contract names.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) hello: std::time::Duration,
    pub(crate) answer: std::time::Duration,
    pub(crate) stop: std::time::Duration,
}

impl Limits {
    pub(crate) fn of(timeouts: &Timeouts) -> Self {
        Self {
            hello: timeouts.get(Timeout::AdapterHello),
            answer: timeouts.get(Timeout::AdapterAnswer),
            stop: timeouts.get(Timeout::AdapterStop),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_split_as_a_shell_splits_words() {
        assert_eq!(
            words("python3 'my adapter.py' --port=\"1 2\"").unwrap(),
            ["python3", "my adapter.py", "--port=1 2"]
        );
    }

    #[test]
    fn a_command_without_a_word_or_with_an_open_quote_is_refused() {
        assert_eq!(words("  "), Err(BadCommand::Empty));
        assert_eq!(words("''"), Err(BadCommand::Empty));
        assert_eq!(words("a 'b"), Err(BadCommand::Quote("a 'b".to_owned())));
    }
}
