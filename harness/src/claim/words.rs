//! The words of findings: who did what, in sentences that a reader understands without the code.

use std::fmt;

use meshproof_model::{Connection, Fact, ServerRequest, Side, TlsFacts};

use super::View;
use crate::store::bounded;

/// A server that the suite runs, or a real host in its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Server {
    pub(crate) host: String,
    pub(crate) place: ServerPlace,
}

/// On which side of the mesh's border a server is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ServerPlace {
    /// TLS is originated to it.
    Outside,
    /// It belongs to the topology.
    Mesh,
}

impl fmt::Display for Server {
    /// `external service edition.cnn.com`, `mesh service welcome.default.svc.cluster.local`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.place {
            ServerPlace::Outside => "external",
            ServerPlace::Mesh => "mesh",
        };
        write!(f, "{kind} service {}", self.host)
    }
}

/// How many requests or connections a sentence lists. The report has all of them as evidence.
const LISTED: usize = 3;
/// How much of a value that decides nothing a sentence shows, in bytes.
const BRIEF: usize = 120;
/// How much of a value that decides a sentence shows around the place that decides, in bytes.
const DECISIVE: usize = 200;

/// `no request`, `1 request`, `2 requests`.
pub(super) fn counted(n: usize, noun: &str) -> String {
    match n {
        0 => format!("no {noun}"),
        1 => format!("1 {noun}"),
        n => format!("{n} {noun}s"),
    }
}

/// The first few, and how many there are besides.
pub(super) fn listed(items: impl IntoIterator<Item = String>) -> String {
    let all: Vec<String> = items.into_iter().collect();
    let shown = all[..all.len().min(LISTED)].join("; ");
    match all.len().saturating_sub(LISTED) {
        0 => shown,
        more => format!("{shown}; and {more} more"),
    }
}

/// The clause as a sentence: with a capital letter and a full stop.
pub(super) fn sentence(clause: &str) -> String {
    format!("{}.", capital(clause.trim_end_matches('.')))
}

/// The clause with a capital letter, unless it begins with a host name, a path or a field, which stay as they are.
pub(crate) fn capital(clause: &str) -> String {
    let is_word = |word: &str| word.chars().all(|c| c.is_ascii_lowercase() || matches!(c, ',' | ':' | '\''));
    let mut chars = clause.chars();
    match chars.next() {
        Some(first) if is_word(clause.split_whitespace().next().unwrap_or_default()) => {
            format!("{}{}", first.to_ascii_uppercase(), chars.as_str())
        }
        Some(_) | None => clause.to_owned(),
    }
}

/// A value that was seen where another was expected. Of a long one, the part from where the two differ.
pub(super) fn unlike(seen: &str, wanted: &str) -> String {
    if seen.len() <= DECISIVE {
        return seen.to_owned();
    }
    let same = seen.bytes().zip(wanted.bytes()).take_while(|(a, b)| a == b).count();
    around(seen, same)
}

/// A text that contains `part`, shown around that part.
pub(super) fn containing(text: &str, part: &str) -> String {
    around(text, text.find(part).unwrap_or(0))
}

/// A long text around a position, with where the shown part begins.
fn around(text: &str, at: usize) -> String {
    if text.len() <= DECISIVE {
        return text.to_owned();
    }
    let mut start = at.saturating_sub(DECISIVE / 4).min(text.len());
    while !text.is_char_boundary(start) {
        start -= 1;
    }
    let shown = bounded(&text[start..], DECISIVE);
    if start == 0 { shown } else { format!("({start} bytes) ...{shown}") }
}

/// Who opened the connection that a server accepted from `peer`, as words.
pub(super) fn opener(view: View<'_>, peer: &str) -> String {
    match opening_proxy(view, peer) {
        Some(name) => format!("proxy {name}"),
        None => format!("a client at {peer}"),
    }
}

/// The proxy that logs this address as its own end of a connection.
pub(super) fn opening_proxy<'a>(view: View<'a>, peer: &str) -> Option<&'a str> {
    let mut opener: Option<&str> = None;
    for e in view.evidence {
        let (Side::Proxy { name }, Fact::AccessLog(log)) = (&e.side, &e.fact) else { continue };
        let local = log.fields.as_ref().and_then(|f| f.upstream_local_address.as_deref());
        if local != Some(peer) || opener == Some(name) {
            continue;
        }
        if opener.is_some() {
            // An address can be used twice in a scenario.
            return None;
        }
        opener = Some(name);
    }
    opener
}

fn server_name(tls: &TlsFacts) -> String {
    match &tls.server_name {
        Some(name) => format!("server name {name}"),
        None => "no server name".to_owned(),
    }
}

/// `GET /politics`, of which a long target is cut.
pub(super) fn line(r: &ServerRequest) -> String {
    if r.is_conversation() {
        return "a conversation over TCP".to_owned();
    }
    format!("{} {}", r.method, bounded(&r.target, BRIEF))
}

/// `GET /politics for edition.cnn.com from proxy sleep on port 443 (TLSv1.3, server name edition.cnn.com)`.
pub(super) fn request(view: View<'_>, r: &ServerRequest) -> String {
    let over = match r.tls.as_ref() {
        Some(t) => format!("{}, {}", t.version.as_deref().unwrap_or("TLS"), server_name(t)),
        None if r.over_tls => "TLS".to_owned(),
        None => "plain text".to_owned(),
    };
    if r.is_conversation() {
        return format!("{} from {} on port {} ({over})", line(r), opener(view, &r.peer), r.port);
    }
    format!(
        "{} for {} from {} on port {} ({over})",
        line(r),
        bounded(&r.authority, BRIEF),
        opener(view, &r.peer),
        r.port
    )
}

/// `connection 3 from proxy sleep on port 443 (TLS with server name edition.cnn.com)`.
pub(super) fn connection(view: View<'_>, c: &Connection) -> String {
    let what = match &c.tls {
        Some(TlsFacts { failure: Some(failure), peer_certificate, .. }) => {
            let presented = match peer_certificate {
                Some(c) => format!("; the client presented {} with serial {}", c.subject, c.serial),
                None => String::new(),
            };
            format!("TLS handshake failed: {failure}{presented}")
        }
        Some(t) => format!("TLS with {}", server_name(t)),
        None if c.clear_bytes.is_empty() => "no bytes sent".to_owned(),
        None => format!("plain text {:?}", bounded(&c.clear_bytes, BRIEF)),
    };
    format!("connection {} from {} on port {} ({what})", c.number, opener(view, &c.peer), c.port)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clause_becomes_a_sentence_and_a_host_name_keeps_its_letters() {
        assert_eq!(sentence("workload sleep received nothing"), "Workload sleep received nothing.");
        assert_eq!(sentence("The proxy exited."), "The proxy exited.");
        assert_eq!(sentence("edition.cnn.com is gone"), "edition.cnn.com is gone.");
        assert_eq!(sentence(""), ".");
    }

    #[test]
    fn numbers_agree_with_their_nouns() {
        assert_eq!([0, 1, 2].map(|n| counted(n, "request")), ["no request", "1 request", "2 requests"]);
    }

    #[test]
    fn of_a_long_value_the_part_that_differs_is_shown() {
        let (seen, wanted) = (format!("{}WRONG", "a".repeat(5_000)), format!("{}right", "a".repeat(5_000)));
        let shown = unlike(&seen, &wanted);
        assert!(shown.contains("WRONG") && shown.len() < 300, "{shown}");
        assert_eq!(unlike("short", &wanted), "short");
        let shown = containing(&seen, "WRONG");
        assert!(shown.contains("WRONG") && shown.len() < 300, "{shown}");
    }

    #[test]
    fn a_long_list_is_counted() {
        let items = |n: usize| (0..n).map(|i| i.to_string());
        assert_eq!(listed(items(3)), "0; 1; 2");
        assert_eq!(listed(items(5)), "0; 1; 2; and 2 more");
    }
}
