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
    assert!(matches(r"a\ b", "a b"));
    assert!(matches("[[:alpha:]]+", "ab"));
}

#[test]
fn refusals_have_the_words_of_gos_parser() {
    for (expression, text) in [
        ("*", "missing argument to repetition operator: `*`"),
        ("a|*", "missing argument to repetition operator: `*`"),
        ("a**", "invalid nested repetition operator: `**`"),
        ("a{1001}", "invalid repeat count: `{1001}`"),
        ("((((a{10}){10}){10}){10})", "invalid repeat count: `{10}`"),
        ("(a{2,500}b){3}", "invalid repeat count: `{3}`"),
        (r"a\E", r"invalid escape sequence: `\E`"),
        ("a(?i", "invalid or unsupported Perl syntax: `(?i`"),
        ("(?<", "invalid or unsupported Perl syntax: `(?<`"),
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

#[test]
fn an_operator_after_flags_repeats_what_stands_before_them() {
    assert!(matches("a(?s)+", "aaa"));
    assert!(matches("a(?i){2}b", "aaB"));
    assert_eq!(refused("(?i)*"), "missing argument to repetition operator: `*`");
}

#[test]
fn a_hyphen_stands_anywhere_in_a_class_and_names_of_groups_may_repeat() {
    assert!(matches("[a-c-e]+", "b-e"));
    assert!(matches(r"[\d-z]+", "1-z"));
    assert!(matches("(?P<n>a)(?P<n>b)", "ab"));
}
