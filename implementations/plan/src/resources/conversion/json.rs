//! JSON as `encoding/json` of Go reads it and speaks of it.

use serde_json::Value;

/// What Go calls the kind of a value.
pub(super) fn of_go(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// The value of a text without its quotes.
///
/// # Errors
/// Where it stops to be JSON.
pub(super) fn parse_number(text: &str) -> Result<Value, String> {
    if let Ok(value) = serde_json::from_str(text) {
        return Ok(value);
    }
    let trimmed = text.trim_start_matches([' ', '\t', '\r', '\n']);
    let Some(first) = trimmed.chars().next() else { return Err("unexpected end of JSON input".to_owned()) };
    for literal in ["true", "false", "null"] {
        if literal.starts_with(first) {
            let common = literal.bytes().zip(trimmed.bytes()).take_while(|(a, b)| a == b).count();
            return Err(match (literal.chars().nth(common), trimmed.chars().nth(common)) {
                (Some(wanted), Some(got)) => {
                    format!("invalid character {} in literal {literal} (expecting '{wanted}')", quoted(got))
                }
                (None, Some(got)) => after_value(got),
                (_, None) => "unexpected end of JSON input".to_owned(),
            });
        }
    }
    if first == '[' {
        return match parse_number(&trimmed[1..]) {
            Ok(_) => Err("unexpected end of JSON input".to_owned()),
            Err(reason) => Err(reason),
        };
    }
    if first == '{' {
        let next = trimmed[1..].chars().find(|c| !c.is_ascii_whitespace());
        return Err(match next {
            Some(c) if c != '"' => {
                format!("invalid character {} looking for beginning of object key string", quoted(c))
            }
            Some(_) | None => "unexpected end of JSON input".to_owned(),
        });
    }
    if !(first.is_ascii_digit() || first == '-') {
        return Err(format!("invalid character {} looking for beginning of value", quoted(first)));
    }
    Err(after_number(trimmed))
}

/// Where a text that begins like a number stops to be one.
fn after_number(text: &str) -> String {
    let mut rest = text.chars().peekable();
    let end = || "unexpected end of JSON input".to_owned();
    if rest.peek() == Some(&'-') {
        rest.next();
        match rest.peek() {
            None => return end(),
            Some(c) if !c.is_ascii_digit() => {
                return format!("invalid character {} in numeric literal", quoted(*c));
            }
            Some(_) => {}
        }
    }
    // After a zero comes no other digit.
    if rest.next() != Some('0') {
        while rest.next_if(char::is_ascii_digit).is_some() {}
    }
    if rest.next_if_eq(&'.').is_some() {
        match rest.peek() {
            None => return end(),
            Some(c) if !c.is_ascii_digit() => {
                return format!("invalid character {} after decimal point in numeric literal", quoted(*c));
            }
            Some(_) => while rest.next_if(char::is_ascii_digit).is_some() {},
        }
    }
    if rest.next_if(|c| matches!(c, 'e' | 'E')).is_some() {
        let _ = rest.next_if(|c| matches!(c, '+' | '-'));
        match rest.peek() {
            None => return end(),
            Some(c) if !c.is_ascii_digit() => {
                return format!("invalid character {} in exponent of numeric literal", quoted(*c));
            }
            Some(_) => while rest.next_if(char::is_ascii_digit).is_some() {},
        }
    }
    let next = rest.find(|c| !c.is_ascii_whitespace());
    next.map_or_else(end, after_value)
}

fn after_value(got: char) -> String {
    format!("invalid character {} after top-level value", quoted(got))
}

/// `quoteChar`. Go reads bytes; of a character beyond ASCII it names the first one.
fn quoted(c: char) -> String {
    match c {
        '\'' => "'\\''".to_owned(),
        '"' => "'\"'".to_owned(),
        c if c.is_ascii() => format!("'{}'", c.escape_default()),
        c => {
            let mut bytes = [0; 4];
            c.encode_utf8(&mut bytes);
            format!("'{}'", char::from(bytes[0]))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::parse_number;

    #[test]
    fn what_is_no_number_is_refused_in_the_words_of_go() {
        let refused = |text: &str| parse_number(text).unwrap_err();
        assert_eq!(refused(""), "unexpected end of JSON input");
        assert_eq!(refused("http"), "invalid character 'h' looking for beginning of value");
        assert_eq!(refused("tcp"), "invalid character 'c' in literal true (expecting 'r')");
        assert_eq!(refused("80/tcp"), "invalid character '/' after top-level value");
        assert_eq!(refused("080"), "invalid character '8' after top-level value");
        assert_eq!(refused("1."), "unexpected end of JSON input");
        assert_eq!(refused("[a"), "invalid character 'a' looking for beginning of value");
        assert_eq!(refused("{a"), "invalid character 'a' looking for beginning of object key string");
        assert_eq!(refused("-a"), "invalid character 'a' in numeric literal");
        assert_eq!(parse_number("8080"), Ok(8080.into()));
    }
}
