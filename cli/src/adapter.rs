//! `meshproof adapter check`: the adapter contract, exercised on one program.

use std::fmt::Write;

use meshproof_adapter::check::{Outcome, Point, Unchecked, check};
use meshproof_harness::timeouts::Timeouts;

use crate::signals::next_signal;
use crate::{Refusal, args, exit, runtime};

/// Checks the adapter and shows every point of the contract.
///
/// # Errors
/// The command line is none, the program cannot be run, or a signal cut the check short. Then the adapter is ended and its
/// folder gone.
pub fn command(args: &args::AdapterCheck) -> Result<u8, Refusal> {
    let mut timeouts = Timeouts::default();
    for (timeout, duration) in &args.timeouts {
        timeouts.set(*timeout, *duration);
    }
    let checked = runtime()?.block_on(async {
        tokio::select! {
            biased;
            // The check that is dropped ends its adapter and removes its folder.
            reason = next_signal() => Err(reason),
            points = check(&args.command, &timeouts) => Ok(points),
        }
    });
    let cut_short = |reason| {
        Refusal::Environment(format!(
            "the check was cut short ({reason}); the adapter is ended and its folder removed"
        ))
    };
    let points = checked.map_err(cut_short)?.map_err(|e| match e {
        Unchecked::Command(e) => Refusal::Usage(e.to_string()),
        Unchecked::Environment(words) => Refusal::Environment(words),
    })?;
    crate::answer(&as_text(&points));
    let broken = points.iter().any(|p| matches!(p.outcome, Outcome::Broken(_)));
    Ok(if broken { exit::FAILED } else { exit::OK })
}

/// For people: a line a point; of a broken one, what it demands too.
#[must_use]
pub fn as_text(points: &[Point]) -> String {
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
        // Words of the adapter's are in it: nothing of them may reach the terminal as more than text.
        let words: String = words.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        let _infallible = writeln!(text, "{mark:<9}  {:<18} {words}", point.id);
        if matches!(point.outcome, Outcome::Broken(_)) {
            let _infallible = writeln!(text, "{:30} the contract: {}", "", point.demands);
        }
    }
    let _infallible = writeln!(text, "\n{kept} kept, {broken} broken, {left} not asked");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_point_shows_what_the_contract_demands_and_control_characters_do_not_get_through() {
        let point = |id, outcome| Point { id, demands: "It does it.", outcome };
        let text = as_text(&[
            point("hello", Outcome::Kept("fine".into())),
            point("stop", Outcome::Broken("\u{1b}[2Jnot\nfine".into())),
            point("end-of-input", Outcome::NotAsked("gone".into())),
        ]);
        assert_eq!(
            text,
            "kept       hello              fine\n\
             BROKEN     stop                [2Jnot fine\n\
             \x20                              the contract: It does it.\n\
             not asked  end-of-input       gone\n\n\
             1 kept, 1 broken, 1 not asked\n"
        );
    }
}
