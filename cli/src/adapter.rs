//! `meshproof adapter check`: tests a program against the adapter contract.

use std::fmt::Write;

use meshproof_adapter::check::{ContractPoint, Outcome, Unchecked, check};

use crate::args;
use crate::exit::{self, Refusal};
use crate::output::answer;
use crate::runtime::runtime;
use crate::signals::next_signal;
use crate::target::timeouts;

/// Tests the adapter and shows every point of the contract.
///
/// # Errors
/// The command line is wrong, the program cannot be run, or a signal interrupted the check. In each case the adapter has
/// ended and its folder is removed.
pub fn command(args: &args::AdapterCheck) -> Result<u8, Refusal> {
    let timeouts = timeouts("adapter", &args.timeouts);
    let checked = runtime()?.block_on(async {
        tokio::select! {
            biased;
            // Dropping the check stops its adapter and removes its folder.
            reason = next_signal() => Err(reason),
            points = check(&args.command, &timeouts) => Ok(points),
        }
    });
    let interrupted = |reason| {
        Refusal::Environment(format!(
            "the check was interrupted ({reason}). The adapter was stopped and its folder removed"
        ))
    };
    let points = checked.map_err(interrupted)?.map_err(|e| match e {
        Unchecked::Command(e) => Refusal::Usage(e.to_string()),
        Unchecked::Environment(words) => Refusal::Environment(words),
    })?;
    answer(&as_text(&points));
    let broken = points.iter().any(|p| matches!(p.outcome, Outcome::Broken(_)));
    Ok(if broken { exit::FAILED } else { exit::OK })
}

/// As text: one line per point, and for a broken point also what the contract requires.
#[must_use]
pub fn as_text(points: &[ContractPoint]) -> String {
    let mut text = String::new();
    let (mut kept, mut broken, mut left) = (0, 0, 0);
    for point in points {
        let (mark, words) = match &point.outcome {
            Outcome::Kept(words) => {
                kept += 1;
                ("kept", words)
            }
            Outcome::Broken(words) => {
                broken += 1;
                ("BROKEN", words)
            }
            Outcome::NotAsked(words) => {
                left += 1;
                ("not asked", words)
            }
        };
        // It contains text from the adapter, which must not control the terminal.
        let words: String = words.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        let _infallible = writeln!(text, "{mark:<9}  {:<18} {words}", point.id);
        if matches!(point.outcome, Outcome::Broken(_)) {
            let _infallible = writeln!(text, "{:30} the contract requires: {}", "", point.demands);
        }
    }
    let _infallible = writeln!(text, "\n{kept} kept, {broken} broken, {left} not asked");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_point_shows_what_the_contract_requires_and_control_characters_are_removed() {
        let point = |id, outcome| ContractPoint { id, demands: "It does it.", outcome };
        let text = as_text(&[
            point("hello", Outcome::Kept("fine".into())),
            point("stop", Outcome::Broken("\u{1b}[2Jnot\nfine".into())),
            point("end-of-input", Outcome::NotAsked("gone".into())),
        ]);
        assert_eq!(
            text,
            "kept       hello              fine\n\
             BROKEN     stop                [2Jnot fine\n\
             \x20                              the contract requires: It does it.\n\
             not asked  end-of-input       gone\n\n\
             1 kept, 1 broken, 1 not asked\n"
        );
    }
}
