//! An adapter's command line.

/// Splits an adapter's command line as a shell does: with quotes and backslashes, without variables and
/// redirection.
///
/// # Errors
/// The text is empty, or a quote is not closed.
pub fn words(command: &str) -> Result<Vec<String>, BadCommand> {
    let words = shell_words::split(command).map_err(|_| BadCommand::Quote(command.to_owned()))?;
    if words.first().is_none_or(String::is_empty) { Err(BadCommand::Empty) } else { Ok(words) }
}

/// Why a text is not a command line.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadCommand {
    /// The text contains no program.
    #[error("adapter: names no command. Write adapter:COMMAND, such as `adapter:python3 my-adapter.py`")]
    Empty,
    /// A quote is not closed.
    #[error("adapter:{0} has a quote that is not closed")]
    Quote(String),
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
