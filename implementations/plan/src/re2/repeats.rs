//! Counted repetitions within counted repetitions.

use regex_syntax::ast::{Ast, Repetition, RepetitionKind, RepetitionRange};

use super::MAX_REPEAT;

/// The first counted repetition, in the order of their ends, that together with those inside it repeats something more often
/// than allowed (`repeatIsValid` of regexp/syntax); the text is that of its operator.
pub(super) fn excessive(ast: &Ast, text: &str) -> Option<String> {
    match ast {
        Ast::Repetition(repetition) => {
            if let Some(found) = excessive(&repetition.ast, text) {
                return Some(found);
            }
            let (min, max) = counts(repetition)?;
            let counted = min >= 2 || max.is_some_and(|m| m >= 2);
            if counted && !within(ast, MAX_REPEAT) {
                let span = repetition.op.span;
                return text.get(span.start.offset..span.end.offset).map(str::to_owned);
            }
            None
        }
        Ast::Group(group) => excessive(&group.ast, text),
        Ast::Concat(several) => several.asts.iter().find_map(|a| excessive(a, text)),
        Ast::Alternation(several) => several.asts.iter().find_map(|a| excessive(a, text)),
        Ast::Empty(_)
        | Ast::Flags(_)
        | Ast::Literal(_)
        | Ast::Dot(_)
        | Ast::Assertion(_)
        | Ast::ClassUnicode(_)
        | Ast::ClassPerl(_)
        | Ast::ClassBracketed(_) => None,
    }
}

/// How often at least and at most; none for `*`, `+` and `?`.
fn counts(repetition: &Repetition) -> Option<(u32, Option<u32>)> {
    match &repetition.op.kind {
        RepetitionKind::Range(RepetitionRange::Exactly(count)) => Some((*count, Some(*count))),
        RepetitionKind::Range(RepetitionRange::AtLeast(min)) => Some((*min, None)),
        RepetitionKind::Range(RepetitionRange::Bounded(min, max)) => Some((*min, Some(*max))),
        RepetitionKind::ZeroOrOne | RepetitionKind::ZeroOrMore | RepetitionKind::OneOrMore => None,
    }
}

fn within(ast: &Ast, most: u32) -> bool {
    match ast {
        Ast::Repetition(repetition) => {
            let left = match counts(repetition) {
                None => most,
                Some((_, Some(0))) => return true,
                Some((min, max)) => {
                    let count = max.unwrap_or(min);
                    if count > most {
                        return false;
                    }
                    most.checked_div(count).unwrap_or(most)
                }
            };
            within(&repetition.ast, left)
        }
        Ast::Group(group) => within(&group.ast, most),
        Ast::Concat(several) => several.asts.iter().all(|a| within(a, most)),
        Ast::Alternation(several) => several.asts.iter().all(|a| within(a, most)),
        Ast::Empty(_)
        | Ast::Flags(_)
        | Ast::Literal(_)
        | Ast::Dot(_)
        | Ast::Assertion(_)
        | Ast::ClassUnicode(_)
        | Ast::ClassPerl(_)
        | Ast::ClassBracketed(_) => true,
    }
}
