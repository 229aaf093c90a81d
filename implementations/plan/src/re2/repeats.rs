//! Counted repetitions within counted repetitions.

use regex_syntax::ast::{Ast, Repetition, RepetitionKind, RepetitionRange};

use super::MAX_REPEAT;

/// The first counted repetition, in the order of their ends, that together with those inside it repeats something more often
/// than allowed (`repeatIsValid` of regexp/syntax); the text is that of its operator.
pub(super) fn excessive(ast: &Ast, text: &str) -> Option<String> {
    if let Some(found) = parts(ast).iter().find_map(|part| excessive(part, text)) {
        return Some(found);
    }
    let Ast::Repetition(repetition) = ast else { return None };
    let (min, max) = counts(repetition)?;
    let counted = min >= 2 || max.is_some_and(|m| m >= 2);
    if counted && !within(ast, MAX_REPEAT) {
        let span = repetition.op.span;
        return text.get(span.start.offset..span.end.offset).map(str::to_owned);
    }
    None
}

/// What an expression consists of.
fn parts(ast: &Ast) -> &[Ast] {
    match ast {
        Ast::Repetition(repetition) => std::slice::from_ref(&repetition.ast),
        Ast::Group(group) => std::slice::from_ref(&group.ast),
        Ast::Concat(several) => &several.asts,
        Ast::Alternation(several) => &several.asts,
        Ast::Empty(_)
        | Ast::Flags(_)
        | Ast::Literal(_)
        | Ast::Dot(_)
        | Ast::Assertion(_)
        | Ast::ClassUnicode(_)
        | Ast::ClassPerl(_)
        | Ast::ClassBracketed(_) => &[],
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
    let mut left = most;
    if let Ast::Repetition(repetition) = ast
        && let Some((min, max)) = counts(repetition)
    {
        let count = max.unwrap_or(min);
        if max == Some(0) {
            return true;
        }
        if count > most {
            return false;
        }
        left = most.checked_div(count).unwrap_or(most);
    }
    parts(ast).iter().all(|part| within(part, left))
}
