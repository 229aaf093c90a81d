//! Escape sequences and character classes.

use super::Parser;

impl Parser<'_> {
    pub(super) fn escape(&mut self, at: usize) -> Result<(), String> {
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
            _ => {
                let class = self.escaped(c, at)?;
                self.out.push_str(&class);
            }
        }
        Ok(())
    }

    /// An escape that is the same inside a class and outside.
    pub(super) fn escaped(&mut self, c: char, at: usize) -> Result<String, String> {
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

    pub(super) fn unicode_class(&mut self, at: usize) -> Result<String, String> {
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
    pub(super) fn known_class(&mut self, at: usize, name: &str) -> Result<String, String> {
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
    pub(super) fn escaped_char(&mut self, c: char, at: usize) -> Result<char, String> {
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
            // Anything but letters and digits is itself, whatever it means elsewhere.
            c if c.is_ascii() && !c.is_ascii_alphanumeric() => c,
            _ => return Err(invalid(self)),
        })
    }

    pub(super) fn class(&mut self, at: usize) -> Result<(), String> {
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
            let rest = self.rest();
            first = false;
            if rest.starts_with("[:")
                && let Some(end) = rest.find(":]")
            {
                let written = &rest[..end + 2];
                if !is_posix_class(written) {
                    return Err(format!("invalid character class range: `{written}`"));
                }
                self.skip(written.chars().count());
                self.out.push_str(written);
                continue;
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

    pub(super) fn class_char(&mut self, missing: &str) -> Result<char, String> {
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
pub(super) fn push_literal(out: &mut String, c: char) {
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
