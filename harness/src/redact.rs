//! Removes private keys from what a program under test writes, which goes into reports, errors and traces.

use std::borrow::Cow;

/// The text without its PEM private keys, complete or cut off.
#[must_use]
pub fn without_keys(text: &str) -> Cow<'_, str> {
    const MARK: &str = "PRIVATE KEY-----";
    if !text.contains(MARK) {
        return Cow::Borrowed(text);
    }
    let mut kept = String::new();
    let mut rest = text;
    while let Some(found) = rest.find(MARK) {
        let begin = rest[..found].rfind("-----").unwrap_or(found);
        // An end mark without a beginning: the text was cut inside the key.
        if !rest[begin..].starts_with("-----END") {
            kept.push_str(&rest[..begin]);
        }
        kept.push_str("(a private key, withheld)");
        let after = &rest[found + MARK.len()..];
        // The end mark contains "PRIVATE KEY-----" too. Without an end mark, the key extends to the end of
        // the text.
        rest = if rest[begin..].starts_with("-----END") {
            after
        } else {
            after.find(MARK).map_or("", |end| &after[end + MARK.len()..])
        };
    }
    kept.push_str(rest);
    Cow::Owned(kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_private_key_is_withheld_and_the_text_around_it_is_kept() {
        let text = "before\n-----BEGIN EC PRIVATE KEY-----\nc2VjcmV0\n-----END EC PRIVATE KEY-----\nafter";
        assert_eq!(without_keys(text), "before\n(a private key, withheld)\nafter");
    }

    #[test]
    fn a_private_key_without_its_end_is_withheld() {
        assert_eq!(without_keys("x -----BEGIN PRIVATE KEY-----\nc2Vj"), "x (a private key, withheld)");
    }

    #[test]
    fn a_private_key_without_its_beginning_is_withheld() {
        assert_eq!(
            without_keys("c2Vj\n-----END PRIVATE KEY-----\nafter"),
            "(a private key, withheld)\nafter"
        );
    }

    #[test]
    fn a_certificate_is_kept() {
        let text = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----";
        assert_eq!(without_keys(text), text);
    }
}
