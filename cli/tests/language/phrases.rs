//! The phrases to avoid, and the places where one of them is right.

use std::sync::LazyLock;

use regex::Regex;

/// Regular expressions, matched at word boundaries, in any case. A space matches any white space.
const PHRASES: &[&str] = &[
    // Archaic or rare words.
    "told",
    "tells? of",
    "whoever|whomever|whosoever",
    "nobody|somebody|everybody",
    "mend|mends|mended|mending",
    "in vain",
    "for want of",
    "alas|lest|ere|whence|thence|whither|thither|hither|thereof|whereof|wherein|hereby|forthwith|nigh|amiss",
    "how manieth",
    "of bearable",
    // Idioms that hide the actor.
    "(says?|said|shows?|speaks?) of itself",
    "(ends?|ended) by itself",
    "turn(s|ed)? (it )?(a)?round",
    "first letters will do",
    "a press (on|at|of)|at a press",
    "needs? a look",
    "set loose",
    "comes? to its end|came to its end",
    "as (it|they) (likes?|please[sd]?)",
    "for the asking",
    "is no (fault|match|matter) of",
    "no business",
    "the other way round",
    "for one(,|;|\\.)",
    "what becomes of|what became of",
    "made-up",
    "(by|for) who cannot",
    "who (sets|gives|wants|asks|reads|takes) [a-z ]*?(sees|gets|finds|knows|has)",
    // "one X a Y" instead of "one X per Y".
    "(one|a|an|two) (file|line|row|bar|column|entry|card|task|story|suite|case|page|name|folder|test|process|thread|proxy|port|lane|figure|sentence|field) an? (scenario|check|request|run|saboteur|configuration|host|port|proxy|line|file|row|column|side|reason|verdict|step|change|format|report|finding|implementation|service|field|flag|test|workload|connection|page)",
    // Private words where a standard term exists.
    "(requests?|responses?|connections?|lines?|handshakes?) of it",
    "cannot be decided",
    "beacons?",
    "attendants?",
    "fences?|fenced",
    "positive twins?|twinless",
];

/// A place where a phrase is right.
#[derive(Debug)]
pub(crate) struct Allowed {
    pub(crate) file: &'static str,
    /// Part of the line.
    pub(crate) context: &'static str,
    /// Why it is right.
    #[allow(dead_code, reason = "documents the exception")]
    pub(crate) reason: &'static str,
}

/// Few, each with its reason. An exception that matches nothing fails the test. A static, because the test compares
/// addresses.
pub(crate) static ALLOWED: &[Allowed] =
    &[Allowed { file: ".ci/nginx-image", context: "nobody:x:65534", reason: "the name of a Unix user" }];

/// Matches any of the phrases.
pub(crate) fn pattern() -> &'static Regex {
    static PATTERN: LazyLock<Regex> = LazyLock::new(|| {
        let all: Vec<String> =
            PHRASES.iter().map(|phrase| format!("(?:{})", phrase.replace(' ', r"\s+"))).collect();
        // A phrase that ends in punctuation has no word boundary after it.
        Regex::new(&format!(r"(?i)\b(?:{})(?:\b|\s|$)", all.join("|"))).unwrap()
    });
    &PATTERN
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_phrase_is_found_in_any_case_and_across_lines() {
        for text in [
            "It is Told.",
            "whoever asks",
            "Nobody\nlistens",
            "say how to mend it",
            "waited in\n    vain",
            "for want of a CA",
            "its first letters will do",
            "anything, turned round",
            "cut short for one, and",
            "1 request of it at HOST",
            "one file a scenario",
            "a line a request",
            "it ended by itself",
            "what needs a look",
            "a press on a cell",
        ] {
            assert!(pattern().is_match(text), "{text}");
        }
    }

    #[test]
    fn plain_english_and_parts_of_words_are_not_found() {
        for text in [
            "recommended and amended",
            "one file per scenario",
            "for one reason",
            "The control request failed too.",
            "a line of text",
            "at least one",
            "here and there",
        ] {
            assert!(!pattern().is_match(text), "{text}");
        }
    }
}
