//! RE2, as Go's `regexp` and Envoy read it, checked and translated to what the crate `regex` reads the same way.
//!
//! The two read much alike, and differ in places that matter: `\<` is a literal `<` in RE2 and a word boundary in `regex`;
//! `\d`, `\w`, `\s` and `\b` mean ASCII in RE2; `[a&&b]`, `[a--b]`, `[a~~b]` and nested classes are sets in `regex` and plain
//! characters in RE2; RE2 has `\Q...\E` and `\C`, and repeats at most 1000 times. The texts of errors are those of
//! <https://pkg.go.dev/regexp/syntax>.

mod escapes;
mod repeats;

use std::iter::Peekable;
use std::str::CharIndices;

use escapes::push_literal;
use regex::Regex;

use crate::model::RegexRewrite;

/// The largest count of a repetition.
const MAX_REPEAT: u32 = 1000;
/// How deep groups may nest (`maxHeight` of regexp/syntax).
const MAX_DEPTH: usize = 1000;

/// Translates an expression.
///
/// # Errors
/// It is not RE2; the text is that of Go's parser.
pub fn translate(expression: &str) -> Result<String, String> {
    let mut parser = Parser {
        text: expression,
        chars: expression.char_indices().peekable(),
        out: String::with_capacity(expression.len()),
    };
    parser.alternation(0)?;
    if parser.chars.peek().is_some() {
        // Only a parenthesis that closes nothing ends the outermost alternation.
        return Err(format!("unexpected ): `{expression}`"));
    }
    let translated = parser.out;
    regex_syntax::Parser::new()
        .parse(&translated)
        .map_err(|_| format!("expression nests too deeply: `{expression}`"))?;
    if let Ok(ast) = regex_syntax::ast::parse::Parser::new().parse(&translated)
        && let Some(operator) = repeats::excessive(&ast, &translated)
    {
        return Err(format!("invalid repeat count: `{operator}`"));
    }
    Ok(translated)
}

/// RE2's replacement of every match (`GlobalReplace`), with `\\1` for the first group and `\\\\` for a backslash.
#[derive(Clone, Debug)]
pub struct Replacement {
    pattern: Regex,
    with: String,
}

impl Replacement {
    /// # Errors
    /// The pattern is not RE2, or too large.
    pub fn new(rewrite: &RegexRewrite) -> Result<Self, String> {
        let pattern = Regex::new(&translate(&rewrite.pattern)?).map_err(|e| e.to_string())?;
        let mut with = String::new();
        let mut rest = rewrite.substitution.chars();
        while let Some(c) = rest.next() {
            match c {
                '$' => with.push_str("$$"),
                '\\' => match rest.next() {
                    Some(group) if group.is_ascii_digit() => with.push_str(&format!("${{{group}}}")),
                    Some(other) => with.push(other),
                    None => {}
                },
                other => with.push(other),
            }
        }
        Ok(Self { pattern, with })
    }

    /// The text after the replacement.
    #[must_use]
    pub fn apply(&self, text: &str) -> String {
        self.pattern.replace_all(text, &self.with).into_owned()
    }
}

struct Parser<'a> {
    text: &'a str,
    chars: Peekable<CharIndices<'a>>,
    out: String,
}

impl<'a> Parser<'a> {
    fn rest(&mut self) -> &'a str {
        match self.chars.peek() {
            Some((at, _)) => &self.text[*at..],
            None => "",
        }
    }

    fn skip(&mut self, count: usize) {
        for _ in 0..count {
            self.chars.next();
        }
    }

    fn alternation(&mut self, depth: usize) -> Result<(), String> {
        if depth > MAX_DEPTH {
            return Err(format!("expression nests too deeply: `{}`", self.text));
        }
        // Whether something stands before a repetition, and the operator that repeats it already.
        let mut operand = false;
        let mut repeated: Option<usize> = None;
        // Where it ends. Flags may follow it: the operator after them is still its own.
        let mut end = self.out.len();
        while let Some((at, c)) = self.chars.peek().copied() {
            match c {
                ')' => return Ok(()),
                '|' => {
                    self.chars.next();
                    self.out.push('|');
                    operand = false;
                    repeated = None;
                }
                '(' => {
                    repeated = None;
                    if !self.group(depth)? {
                        continue;
                    }
                    operand = true;
                }
                '*' | '+' | '?' => {
                    self.chars.next();
                    let mut operator = c.to_string();
                    if self.rest().starts_with('?') {
                        self.chars.next();
                        operator.push('?');
                    }
                    end = self.repetition(&operator, at, operand.then_some(end), repeated)?;
                    repeated = Some(at);
                    continue;
                }
                '{' => {
                    if let Some(operator) = self.counted()? {
                        end = self.repetition(&operator, at, operand.then_some(end), repeated)?;
                        repeated = Some(at);
                        continue;
                    }
                    self.chars.next();
                    self.out.push_str("\\{");
                    operand = true;
                    repeated = None;
                }
                '[' => {
                    self.class(at)?;
                    operand = true;
                    repeated = None;
                }
                '\\' => {
                    // An empty quotation is nothing.
                    let before = self.out.len();
                    self.escape(at)?;
                    repeated = None;
                    if self.out.len() == before {
                        continue;
                    }
                    operand = true;
                }
                '.' | '^' | '$' => {
                    self.chars.next();
                    self.out.push(c);
                    operand = true;
                    repeated = None;
                }
                _ => {
                    self.chars.next();
                    push_literal(&mut self.out, c);
                    operand = true;
                    repeated = None;
                }
            }
            end = self.out.len();
        }
        Ok(())
    }

    /// Repeats what ends at `operand`; returns where that ends now.
    fn repetition(
        &mut self,
        operator: &str,
        at: usize,
        operand: Option<usize>,
        repeated: Option<usize>,
    ) -> Result<usize, String> {
        if let Some(before) = repeated {
            let end = at + operator.len();
            return Err(format!("invalid nested repetition operator: `{}`", &self.text[before..end]));
        }
        let Some(end) = operand else {
            return Err(format!("missing argument to repetition operator: `{operator}`"));
        };
        self.out.insert_str(end, operator);
        Ok(end + operator.len())
    }

    /// `{n}`, `{n,}` or `{n,m}`; anything else is a literal brace.
    fn counted(&mut self) -> Result<Option<String>, String> {
        let rest = self.rest();
        let Some(end) = rest.find('}') else { return Ok(None) };
        let inner = &rest[1..end];
        let number = |text: &str| -> Option<u32> {
            let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
            let leading_zero = text.len() > 1 && text.starts_with('0');
            (digits && !leading_zero).then(|| text.parse().unwrap_or(u32::MAX))
        };
        let (min, max) = match inner.split_once(',') {
            None => {
                let Some(count) = number(inner) else { return Ok(None) };
                (count, Some(count))
            }
            Some((min, "")) => {
                let Some(min) = number(min) else { return Ok(None) };
                (min, None)
            }
            Some((min, max)) => {
                let (Some(min), Some(max)) = (number(min), number(max)) else { return Ok(None) };
                (min, Some(max))
            }
        };
        let operator = &rest[..=end];
        if min > MAX_REPEAT || max.is_some_and(|m| m > MAX_REPEAT || m < min) {
            return Err(format!("invalid repeat count: `{operator}`"));
        }
        self.skip(operator.chars().count());
        let mut operator = operator.to_owned();
        if self.rest().starts_with('?') {
            self.chars.next();
            operator.push('?');
        }
        Ok(Some(operator))
    }

    /// A group, or flags for what follows, which are no operand.
    fn group(&mut self, depth: usize) -> Result<bool, String> {
        let rest = self.rest();
        if !rest.starts_with("(?") {
            self.chars.next();
            self.out.push('(');
            self.close(depth)?;
            return Ok(true);
        }
        if (rest.starts_with("(?P<") && rest.len() > 4) || (rest.starts_with("(?<") && rest.len() > 3) {
            let open = rest.find('<').map_or(0, |i| i + 1);
            let Some(end) = rest.find('>') else {
                return Err(format!("invalid named capture: `{rest}`"));
            };
            let name = rest.get(open..end).unwrap_or_default();
            // A look behind, `(?<=` or `(?<!`, is to Go's parser a name without letters.
            let word = |c: char| c == '_' || c.is_ascii_alphanumeric();
            if name.is_empty() || !name.chars().all(word) {
                return Err(format!("invalid named capture: `{}`", &rest[..=end]));
            }
            self.skip(rest[..=end].chars().count());
            // The crate `regex` wants names to begin with a letter; nothing refers to them.
            self.out.push('(');
            self.close(depth)?;
            return Ok(true);
        }
        self.flags(depth, rest)
    }

    fn flags(&mut self, depth: usize, rest: &'a str) -> Result<bool, String> {
        let invalid = |upto: usize| Err(format!("invalid or unsupported Perl syntax: `{}`", &rest[..upto]));
        let mut flags = String::from("(?");
        let mut negated = false;
        let mut any = false;
        for (i, c) in rest.char_indices().skip(2) {
            match c {
                'i' | 'm' | 's' | 'U' => {
                    flags.push(c);
                    any = true;
                }
                '-' if !negated => {
                    flags.push(c);
                    negated = true;
                    any = false;
                }
                ':' | ')' if !negated || any => {
                    if flags.len() > 2 || c == ':' {
                        flags.push(c);
                        self.out.push_str(&flags);
                    }
                    self.skip(rest[..i + 1].chars().count());
                    if c == ')' {
                        return Ok(false);
                    }
                    self.close(depth)?;
                    return Ok(true);
                }
                other => return invalid(i + other.len_utf8()),
            }
        }
        invalid(rest.len())
    }

    fn close(&mut self, depth: usize) -> Result<(), String> {
        self.alternation(depth + 1)?;
        if self.chars.next().is_none() {
            return Err(format!("missing closing ): `{}`", self.text));
        }
        self.out.push(')');
        Ok(())
    }
}

#[cfg(test)]
mod tests;
