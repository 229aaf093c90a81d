//! Format strings: literal text and command operators (Envoy, "Access logging", "Format strings" and "Command
//! operators").

use super::text::{Class, Piece, Readings};
use super::{Field, Unreadable};

/// A format string, taken apart: literal text, then operators, each with the literal text after it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Template {
    pub(super) lead: String,
    slots: Vec<Slot>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Slot {
    /// What the suite knows the value as; none of an operator that it does not use.
    field: Option<Field>,
    /// The operator as written, without its percent signs: `REQ(X-TENANT)`.
    operator: String,
    class: Class,
    then: String,
}

/// A value and what it is: a field, or else the operator that wrote it.
pub(super) type Valued<'t> = (Result<Field, &'t str>, &'t str);

impl Template {
    /// Takes a format string apart. Envoy refuses one whose operators are malformed, so the rest of such a string counts
    /// as literal text.
    pub(super) fn new(format: &str) -> Self {
        let mut made = Self { lead: String::new(), slots: Vec::new() };
        let mut rest = format;
        while let Some(at) = rest.find('%') {
            made.literal(&rest[..at]);
            rest = &rest[at + 1..];
            if let Some(after) = rest.strip_prefix('%') {
                made.literal("%");
                rest = after;
            } else if let Some((operator, after)) = operator(rest) {
                made.slots.push(slot(operator));
                rest = after;
            } else {
                made.literal("%");
            }
        }
        made.literal(rest);
        made
    }

    /// A value alone.
    pub(super) fn of_field(field: Field) -> Self {
        let slot = Slot {
            field: Some(field),
            operator: field.key().to_owned(),
            class: Class::Quoted,
            then: String::new(),
        };
        Self { lead: String::new(), slots: vec![slot] }
    }

    fn literal(&mut self, text: &str) {
        match self.slots.last_mut() {
            Some(slot) => slot.then.push_str(text),
            None => self.lead.push_str(text),
        }
    }

    /// Without this text at its end, if it has it.
    pub(super) fn without_end(mut self, end: &str) -> Self {
        let last = self.slots.last_mut().map_or(&mut self.lead, |slot| &mut slot.then);
        if let Some(stripped) = last.strip_suffix(end) {
            *last = stripped.to_owned();
        }
        self
    }

    /// Whether a literal part has this character.
    pub(super) fn has_literal(&self, character: char) -> bool {
        self.lead.contains(character) || self.slots.iter().any(|slot| slot.then.contains(character))
    }

    /// Whether it has no operator at all.
    pub(super) fn is_constant(&self) -> bool {
        self.slots.is_empty()
    }

    /// Forgets a field that another operator has already.
    pub(super) fn keep_first(&mut self, known: &mut Vec<Field>) {
        for slot in &mut self.slots {
            match slot.field {
                Some(field) if known.contains(&field) => slot.field = None,
                Some(field) => known.push(field),
                None => {}
            }
        }
    }

    /// The values of a text in this format. None if the text is not in it. A separator of the format, such as `|`, may also occur
    /// in a value, so that a line has several readings; the one in which every value of a peer is an ordinary one is then the
    /// right one, because the suite sends the requests itself.
    pub(super) fn read<'t>(&'t self, text: &'t str) -> Option<Result<Vec<Valued<'t>>, Unreadable>> {
        let rest = text.strip_prefix(self.lead.as_str())?;
        if self.slots.is_empty() {
            return rest.is_empty().then(|| Ok(Vec::new()));
        }
        match self.readings(rest, |slot| slot.class) {
            Some(Err(_)) => {
                let narrow = self.readings(rest, Slot::narrow);
                Some(narrow.unwrap_or(Err(Unreadable::Ambiguous)))
            }
            other => other,
        }
    }

    fn readings<'t>(
        &'t self,
        text: &'t str,
        class: impl Fn(&Slot) -> Class,
    ) -> Option<Result<Vec<Valued<'t>>, Unreadable>> {
        // The values are named by their slots, not by this field, which every piece has.
        let piece =
            |slot: &'t Slot| Piece { field: Field::MixerStatus, class: class(slot), then: &slot.then };
        let pieces: Vec<Piece<'_>> = self.slots.iter().map(piece).collect();
        let pieces: Vec<&Piece<'_>> = pieces.iter().collect();
        let readings = Readings::count(&pieces, text.as_bytes())?;
        match readings.total() {
            0 => None,
            1 => {
                let values = readings.single(&pieces, text);
                let named = self.slots.iter().zip(values).map(|(slot, (_, value))| (slot.what(), value));
                Some(Ok(named.collect()))
            }
            _ => Some(Err(Unreadable::Ambiguous)),
        }
    }
}

impl Slot {
    fn narrow(&self) -> Class {
        match self.class {
            Class::Unspaced | Class::Unquoted | Class::Quoted | Class::Bare | Class::Plain => Class::Plain,
            Class::Time | Class::Number | Class::Protocol | Class::Word => self.class,
        }
    }

    fn what(&self) -> Result<Field, &str> {
        self.field.ok_or(self.operator.as_str())
    }
}

/// An operator at the beginning of a text after its first percent sign, and the text after it: a name of capital letters, digits
/// and underscores, arguments in parentheses, and a maximum length.
fn operator(text: &str) -> Option<(&str, &str)> {
    let is_name = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
    let name = text.find(|c: char| !is_name(c))?;
    let mut end = name;
    if text[end..].starts_with('(') {
        end += text[end..].find(')')? + 1;
    }
    if let Some(length) = text[end..].strip_prefix(':') {
        end += 1 + length.find(|c: char| !c.is_ascii_digit())?;
    }
    (name > 0 && text[end..].starts_with('%')).then(|| (&text[..end], &text[end + 1..]))
}

fn slot(operator: &str) -> Slot {
    let (field, class) = meaning(operator);
    Slot { field, operator: operator.to_owned(), class, then: String::new() }
}

/// What an operator writes, and with which bytes. An operator with a maximum length may write a part of the value, which is no
/// value to compare.
fn meaning(operator: &str) -> (Option<Field>, Class) {
    let (name, arguments) = match operator.split_once('(') {
        Some((name, rest)) => match rest.rsplit_once(')') {
            Some((arguments, "")) => (name, Some(arguments)),
            Some(_) | None => return (None, Class::Quoted),
        },
        None => (operator, None),
    };
    let (field, class) = match (name, arguments) {
        ("REQ" | "REQUEST_HEADER", Some(header)) => {
            return match of_request(header) {
                // HTTP's grammar keeps spaces out of methods (RFC 9110, section 9.1).
                Some(Field::Method) => (Some(Field::Method), Class::Unspaced),
                known => (known, Class::Quoted),
            };
        }
        ("RESP" | "RESPONSE_HEADER", Some(header)) => {
            let known = header.eq_ignore_ascii_case("x-envoy-upstream-service-time");
            return (known.then_some(Field::UpstreamServiceTime), Class::Quoted);
        }
        ("DYNAMIC_METADATA", Some("istio.mixer:status")) => (Field::MixerStatus, Class::Quoted),
        ("START_TIME", None) => (Field::StartTime, Class::Time),
        ("START_TIME", Some(_)) => (Field::StartTime, Class::Quoted),
        ("PROTOCOL", None) => (Field::Protocol, Class::Protocol),
        ("RESPONSE_CODE", None) => (Field::ResponseCode, Class::Number),
        ("RESPONSE_FLAGS", None) => (Field::ResponseFlags, Class::Word),
        ("RESPONSE_CODE_DETAILS", None) => (Field::ResponseCodeDetails, Class::Unspaced),
        ("CONNECTION_TERMINATION_DETAILS", None) => (Field::ConnectionTerminationDetails, Class::Unspaced),
        ("UPSTREAM_TRANSPORT_FAILURE_REASON", None) => (Field::UpstreamTransportFailureReason, Class::Quoted),
        ("BYTES_RECEIVED", None) => (Field::BytesReceived, Class::Number),
        ("BYTES_SENT", None) => (Field::BytesSent, Class::Number),
        ("DURATION", None) => (Field::Duration, Class::Number),
        // The address of the endpoint, and the address of the connection to it.
        ("UPSTREAM_HOST" | "UPSTREAM_REMOTE_ADDRESS", None) => (Field::UpstreamHost, Class::Word),
        ("UPSTREAM_CLUSTER" | "UPSTREAM_CLUSTER_RAW", None) => (Field::UpstreamCluster, Class::Word),
        ("UPSTREAM_LOCAL_ADDRESS", None) => (Field::UpstreamLocalAddress, Class::Word),
        ("DOWNSTREAM_LOCAL_ADDRESS", None) => (Field::DownstreamLocalAddress, Class::Word),
        ("DOWNSTREAM_REMOTE_ADDRESS", None) => (Field::DownstreamRemoteAddress, Class::Word),
        ("REQUESTED_SERVER_NAME", None) => (Field::RequestedServerName, Class::Bare),
        ("ROUTE_NAME", None) => (Field::RouteName, Class::Bare),
        _ => return (None, Class::Quoted),
    };
    (Some(field), class)
}

/// The field that a request header is. `X?Y` writes Y where X is absent.
fn of_request(header: &str) -> Option<Field> {
    let header = header.to_ascii_lowercase();
    match header.as_str() {
        ":method" => Some(Field::Method),
        ":path" | "x-envoy-original-path?:path" => Some(Field::Path),
        ":authority" | "host" => Some(Field::Authority),
        "user-agent" => Some(Field::UserAgent),
        "x-request-id" => Some(Field::RequestId),
        "x-forwarded-for" => Some(Field::XForwardedFor),
        _ => None,
    }
}
