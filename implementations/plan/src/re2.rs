//! RE2, as Go's `regexp` and Envoy read it, checked and translated to what the crate `regex` reads the same way.
//!
//! The two read much alike, and differ in places that matter: `\<` is a literal `<` in RE2 and a word boundary in `regex`;
//! `\d`, `\w`, `\s` and `\b` mean ASCII in RE2; `[a&&b]`, `[a--b]`, `[a~~b]` and nested classes are sets in `regex` and plain
//! characters in RE2; RE2 has `\Q...\E` and `\C`, and repeats at most 1000 times. The texts of errors are those of
//! <https://pkg.go.dev/regexp/syntax>.

use std::iter::Peekable;
use std::str::CharIndices;

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
        names: Vec::new(),
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
    Ok(translated)
}

struct Parser<'a> {
    text: &'a str,
    chars: Peekable<CharIndices<'a>>,
    out: String,
    names: Vec<&'a str>,
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
                    operand = self.group(depth, at)?;
                    repeated = None;
                }
                '*' | '+' | '?' => {
                    self.chars.next();
                    let mut operator = c.to_string();
                    if self.rest().starts_with('?') {
                        self.chars.next();
                        operator.push('?');
                    }
                    self.repetition(&operator, at, operand, repeated)?;
                    repeated = Some(at);
                }
                '{' => {
                    if let Some(operator) = self.counted(at)? {
                        self.repetition(&operator, at, operand, repeated)?;
                        repeated = Some(at);
                    } else {
                        self.chars.next();
                        self.out.push_str("\\{");
                        operand = true;
                        repeated = None;
                    }
                }
                '[' => {
                    self.class(at)?;
                    operand = true;
                    repeated = None;
                }
                '\\' => {
                    self.escape(at)?;
                    operand = true;
                    repeated = None;
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
        }
        Ok(())
    }

    fn repetition(
        &mut self,
        operator: &str,
        at: usize,
        operand: bool,
        repeated: Option<usize>,
    ) -> Result<(), String> {
        if let Some(before) = repeated {
            let end = at + operator.len();
            return Err(format!("invalid nested repetition operator: `{}`", &self.text[before..end]));
        }
        if !operand {
            return Err(format!("missing argument to repetition operator: `{operator}`"));
        }
        self.out.push_str(operator);
        Ok(())
    }

    /// `{n}`, `{n,}` or `{n,m}`; anything else is a literal brace.
    fn counted(&mut self, _at: usize) -> Result<Option<String>, String> {
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
    fn group(&mut self, depth: usize, at: usize) -> Result<bool, String> {
        let rest = self.rest();
        if !rest.starts_with("(?") {
            self.chars.next();
            self.out.push('(');
            self.close(depth, at)?;
            return Ok(true);
        }
        if rest.starts_with("(?P<") || rest.starts_with("(?<") {
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
            if self.names.contains(&name) {
                return Err(format!("duplicate capture group name: `{name}`"));
            }
            self.names.push(name);
            self.skip(rest[..=end].chars().count());
            // The crate `regex` wants names to begin with a letter; nothing refers to them.
            self.out.push('(');
            self.close(depth, at)?;
            return Ok(true);
        }
        self.flags(depth, at, rest)
    }

    fn flags(&mut self, depth: usize, at: usize, rest: &'a str) -> Result<bool, String> {
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
                    self.close(depth, at)?;
                    return Ok(true);
                }
                other => return invalid(i + other.len_utf8()),
            }
        }
        Err(format!("missing closing ): `{}`", self.text))
    }

    fn close(&mut self, depth: usize, _at: usize) -> Result<(), String> {
        self.alternation(depth + 1)?;
        if self.chars.next().is_none() {
            return Err(format!("missing closing ): `{}`", self.text));
        }
        self.out.push(')');
        Ok(())
    }

    fn escape(&mut self, at: usize) -> Result<(), String> {
        self.chars.next();
        let Some((_, c)) = self.chars.next() else {
            return Err("trailing backslash at end of expression: ``".to_owned());
        };
        match c {
            'A' => self.out.push_str("\\A"),
            'z' => self.out.push_str("\\z"),
            'b' => self.out.push_str("(?-u:\\b)"),
            'B' => self.out.push_str("(?-u:\\B)"),
            // Any byte is no character, and Go refuses it.
            'C' => return Err("invalid escape sequence: `\\C`".to_owned()),
            'Q' => {
                let rest = self.rest();
                let quoted = rest.split("\\E").next().unwrap_or_default();
                let closes = rest.len() > quoted.len();
                self.skip(quoted.chars().count() + if closes { 2 } else { 0 });
                quoted.chars().for_each(|c| push_literal(&mut self.out, c));
            }
            // Go ends a quotation that was never begun.
            'E' => {}
            _ => {
                let class = self.escaped(c, at)?;
                self.out.push_str(&class);
            }
        }
        Ok(())
    }

    /// An escape that is the same inside a class and outside.
    fn escaped(&mut self, c: char, at: usize) -> Result<String, String> {
        let ascii = |class: &str| class.to_owned();
        Ok(match c {
            'd' => ascii("[0-9]"),
            'D' => ascii("[^0-9]"),
            'w' => ascii("[0-9A-Za-z_]"),
            'W' => ascii("[^0-9A-Za-z_]"),
            's' => ascii("[\\t\\n\\x0C\\r ]"),
            'S' => ascii("[^\\t\\n\\x0C\\r ]"),
            'p' | 'P' => self.unicode_class(at)?,
            _ => {
                let mut text = String::new();
                push_literal(&mut text, self.escaped_char(c, at)?);
                text
            }
        })
    }

    fn unicode_class(&mut self, at: usize) -> Result<String, String> {
        let Some((_, c)) = self.chars.next() else {
            return Err(format!("invalid character class range: `{}`", &self.text[at..]));
        };
        if c != '{' {
            let mut bytes = [0; 4];
            return self.known_class(at, c.encode_utf8(&mut bytes));
        }
        let rest = self.rest();
        let Some(end) = rest.find('}') else {
            return Err(format!("invalid character class range: `{}`", &self.text[at..]));
        };
        let name = &rest[..end];
        self.skip(name.chars().count() + 1);
        self.known_class(at, name)
    }

    /// Go knows general categories and scripts by their short and Unicode names.
    fn known_class(&mut self, at: usize, name: &str) -> Result<String, String> {
        let rest = self.rest().len();
        let written = &self.text[at..self.text.len() - rest];
        let sign = written.chars().nth(1).unwrap_or('p');
        let (sign, bare) = match (name.strip_prefix('^'), sign) {
            (Some(bare), 'p') => ('P', bare),
            (Some(bare), _) => ('p', bare),
            (None, sign) => (sign, name),
        };
        if bare == "Any" {
            return Ok(if sign == 'p' { "[\\s\\S]".to_owned() } else { "[^\\s\\S]".to_owned() });
        }
        let class = format!("\\{sign}{{{bare}}}");
        // `regex` knows properties by more names, in any case and with `=`.
        let shaped = bare.chars().next().is_some_and(|c| c.is_ascii_uppercase())
            && bare.chars().all(|c| c.is_ascii_alphabetic() || c == '_');
        if shaped && regex_syntax::Parser::new().parse(&class).is_ok() {
            return Ok(class);
        }
        Err(format!("invalid character class range: `{written}`"))
    }

    /// `\n`, `\x41`, `\x{41}`, `\101`, `\.`.
    fn escaped_char(&mut self, c: char, at: usize) -> Result<char, String> {
        let invalid = |parser: &mut Self| {
            let rest = parser.rest().len();
            let written = &parser.text[at..parser.text.len() - rest];
            format!("invalid escape sequence: `{written}`")
        };
        Ok(match c {
            'a' => '\u{7}',
            'f' => '\u{c}',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'v' => '\u{b}',
            // One digit is a back reference, which RE2 does not have.
            '1'..='7' => {
                let digits: String =
                    self.rest().chars().take_while(|d| ('0'..='7').contains(d)).take(2).collect();
                if digits.is_empty() {
                    return Err(invalid(self));
                }
                self.skip(digits.len());
                let code = u32::from_str_radix(&format!("{c}{digits}"), 8).ok();
                code.and_then(char::from_u32).ok_or_else(|| invalid(self))?
            }
            '0' => {
                let digits: String =
                    self.rest().chars().take_while(|d| ('0'..='7').contains(d)).take(2).collect();
                self.skip(digits.len());
                let code = u32::from_str_radix(&format!("0{digits}"), 8).ok();
                code.and_then(char::from_u32).ok_or_else(|| invalid(self))?
            }
            'x' => {
                let rest = self.rest();
                let (digits, length) = match rest.strip_prefix('{') {
                    Some(inner) => {
                        let digits = inner.split('}').next().unwrap_or_default();
                        let closed = inner.len() > digits.len();
                        (if closed { digits } else { "" }, digits.len() + 2)
                    }
                    None => (rest.get(..2).unwrap_or_default(), 2),
                };
                let hexadecimal = !digits.is_empty() && digits.chars().all(|d| d.is_ascii_hexdigit());
                let code = u32::from_str_radix(digits, 16).ok().filter(|_| hexadecimal);
                match code.and_then(char::from_u32) {
                    Some(c) => {
                        self.skip(length);
                        c
                    }
                    None => {
                        self.chars.next();
                        return Err(invalid(self));
                    }
                }
            }
            // Punctuation is itself, whatever it means elsewhere.
            c if c.is_ascii_punctuation() => c,
            _ => return Err(invalid(self)),
        })
    }

    fn class(&mut self, at: usize) -> Result<(), String> {
        self.chars.next();
        self.out.push('[');
        if self.rest().starts_with('^') {
            self.chars.next();
            self.out.push('^');
        }
        let missing = format!("missing closing ]: `{}`", &self.text[at..]);
        let mut first = true;
        loop {
            let Some((here, c)) = self.chars.peek().copied() else { return Err(missing) };
            if c == ']' && !first {
                self.chars.next();
                self.out.push(']');
                return Ok(());
            }
            // A hyphen is literal at the edges alone.
            let rest = self.rest();
            if c == '-' && !first && !rest.starts_with("-]") {
                let second = rest.chars().take(2).collect::<String>();
                return Err(format!("invalid character class range: `{second}`"));
            }
            first = false;
            if rest.starts_with("[:") {
                if let Some(end) = rest.find(":]") {
                    let written = &rest[..end + 2];
                    if !is_posix_class(written) {
                        return Err(format!("invalid character class range: `{written}`"));
                    }
                    self.skip(written.chars().count());
                    self.out.push_str(written);
                    continue;
                }
            }
            if let Some(kind) = rest.strip_prefix('\\').and_then(|r| r.chars().next())
                && "dDwWsSpP".contains(kind)
            {
                self.skip(2);
                let class = self.escaped(kind, here)?;
                self.out.push_str(&class);
                continue;
            }
            let low = self.class_char(&missing)?;
            let rest = self.rest();
            if rest.starts_with('-') && !rest.starts_with("-]") && rest.len() > 1 {
                self.chars.next();
                let high = self.class_char(&missing)?;
                if high < low {
                    let end = self.text.len() - self.rest().len();
                    return Err(format!("invalid character class range: `{}`", &self.text[here..end]));
                }
                push_literal(&mut self.out, low);
                self.out.push('-');
                push_literal(&mut self.out, high);
            } else {
                push_literal(&mut self.out, low);
            }
        }
    }

    fn class_char(&mut self, missing: &str) -> Result<char, String> {
        let Some((at, c)) = self.chars.next() else { return Err(missing.to_owned()) };
        if c != '\\' {
            return Ok(c);
        }
        let Some((_, escaped)) = self.chars.next() else {
            return Err("trailing backslash at end of expression: ``".to_owned());
        };
        self.escaped_char(escaped, at)
    }
}

fn is_posix_class(written: &str) -> bool {
    const NAMES: [&str; 14] = [
        "alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print", "punct", "space",
        "upper", "word", "xdigit",
    ];
    let inner = written.trim_start_matches("[:").trim_end_matches(":]");
    NAMES.contains(&inner.strip_prefix('^').unwrap_or(inner))
}

/// Writes a character so that it stands for itself everywhere.
fn push_literal(out: &mut String, c: char) {
    if c.is_ascii_punctuation() {
        out.push('\\');
        // `\<` and `\>` are word boundaries to `regex`.
        if matches!(c, '<' | '>') {
            out.pop();
        }
        out.push(c);
    } else if c.is_control() {
        out.push_str(&format!("\\x{{{:X}}}", u32::from(c)));
    } else {
        out.push(c);
    }
}

#[cfg(test)]
mod tests {
    use super::translate;

    #[track_caller]
    fn matches(expression: &str, text: &str) -> bool {
        let translated = translate(expression).unwrap_or_else(|e| panic!("{expression}: {e}"));
        let parsed = regex_syntax::parse(&translated);
        assert!(parsed.is_ok(), "{expression} became {translated}: {parsed:?}");
        regex_lite(&translated, text)
    }

    fn regex_lite(expression: &str, text: &str) -> bool {
        regex::Regex::new(&format!("^(?:{expression})$")).expect("valid").is_match(text)
    }

    #[track_caller]
    fn refused(expression: &str) -> String {
        translate(expression).expect_err(expression)
    }

    #[test]
    fn what_the_two_read_alike_stays_as_it_is() {
        assert!(matches("/a(b|c)*d?", "/abcbd"));
        assert!(matches("/[a-z0-9_.-]+", "/a-b.c_9"));
        assert!(matches("a{2,3}", "aaa"));
        assert!(matches("(?i)Path", "pATH"));
        assert!(matches("(?P<n>a)(?<m>b)", "ab"));
    }

    #[test]
    fn word_edges_of_the_crate_are_characters_in_re2() {
        assert!(matches(r"/\<a\>", "/<a>"));
        assert!(!matches(r"/\<a", "/a"));
    }

    #[test]
    fn perl_classes_are_ascii() {
        assert!(!matches(r"\d", "\u{663}"));
        assert!(!matches(r"\w", "\u{e4}"));
        assert!(matches(r"[\d_]+", "1_2"));
        assert!(matches(r"\pN", "\u{663}"));
    }

    #[test]
    fn sets_of_the_crate_are_characters_in_re2() {
        assert!(matches("[a&&b]+", "a&b"));
        assert!(matches("[[a]", "["));
        assert!(matches("[a~~b]", "~"));
    }

    #[test]
    fn quotations_and_escapes_are_literal() {
        assert!(matches(r"\Qa.b*\E+", "a.b**"));
        assert!(matches(r"\x41\x{42}\103\.", "ABC."));
        assert!(matches("a{,2}", "a{,2}"));
        assert!(matches("[[:alpha:]]+", "ab"));
    }

    #[test]
    fn refusals_have_the_words_of_gos_parser() {
        for (expression, text) in [
            ("*", "missing argument to repetition operator: `*`"),
            ("a|*", "missing argument to repetition operator: `*`"),
            ("a**", "invalid nested repetition operator: `**`"),
            ("a{1001}", "invalid repeat count: `{1001}`"),
            ("(?=a)", "invalid or unsupported Perl syntax: `(?=`"),
            ("(?R)", "invalid or unsupported Perl syntax: `(?R`"),
            ("(?<=a)", "invalid named capture: `(?<=a)`"),
            ("(?<=a>)", "invalid named capture: `(?<=a>`"),
            (r"(a)\1", r"invalid escape sequence: `\1`"),
            (r"\C", r"invalid escape sequence: `\C`"),
            (r"\u0041", r"invalid escape sequence: `\u`"),
            ("(a", "missing closing ): `(a`"),
            ("a)", "unexpected ): `a)`"),
            ("[a", "missing closing ]: `[a`"),
            ("[z-a]", "invalid character class range: `z-a`"),
            (r"a\", "trailing backslash at end of expression: ``"),
        ] {
            assert_eq!(refused(expression), text, "{expression}");
        }
    }
}
