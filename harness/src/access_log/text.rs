//! The text formats, and how the readings of a line are counted.

use meshproof_model::LogFields;

use super::{ENVOY_TEXT, Field, ISTIO_1_3_TEXT, ISTIO_1_8_TEXT, ISTIO_TEXT, Unreadable};

/// The bytes that a field may hold. The classes are wide: if a class lacked a text that a proxy writes, a forged reading
/// could be the only one left.
#[derive(Clone, Copy, Debug)]
enum Class {
    /// Digits and the letters of an RFC 3339 time; written by the proxy alone.
    Time,
    /// Digits, or `-`; written by the proxy alone.
    Number,
    /// `HTTP/1.1` and the like, or `-`; written by the proxy alone.
    Protocol,
    /// No space and no quote; comes from the configuration or from the proxy itself.
    Word,
    /// No space. HTTP's grammar (RFC 9110, section 9.1) keeps spaces out of methods, and Envoy replaces them in
    /// details.
    Unspaced,
    /// No quote. Before 1.9 a failure reason held the TLS library's own constant texts only.
    Unquoted,
    /// Anything, also nothing: between quotes, a header value that a peer chose.
    Quoted,
    /// Anything but nothing, without quotes around it.
    Bare,
}

impl Class {
    const fn admits(self, byte: u8) -> bool {
        match self {
            Self::Time => byte.is_ascii_digit() || matches!(byte, b'T' | b'Z' | b':' | b'.' | b'+' | b'-'),
            Self::Number => byte.is_ascii_digit() || byte == b'-',
            Self::Protocol => {
                byte.is_ascii_digit() || matches!(byte, b'H' | b'T' | b'P' | b'/' | b'.' | b'-')
            }
            Self::Word => byte != b' ' && byte != b'"',
            Self::Unspaced => byte != b' ',
            Self::Unquoted => byte != b'"',
            Self::Quoted | Self::Bare => true,
        }
    }

    const fn may_be_empty(self) -> bool {
        matches!(self, Self::Quoted | Self::Unquoted)
    }
}

/// One field of a format and the literal text after it.
#[derive(Debug)]
pub(super) struct Piece {
    pub(super) field: Field,
    class: Class,
    pub(super) then: &'static str,
}

const fn piece(field: Field, class: Class, then: &'static str) -> Piece {
    Piece { field, class, then }
}

/// A text format: `[`, then its pieces.
#[derive(Debug)]
pub(super) struct Format {
    pub(super) name: &'static str,
    pub(super) pieces: &'static [&'static [Piece]],
}

pub(super) const OPEN: &str = "[";

const REQUEST: &[Piece] = &[
    piece(Field::StartTime, Class::Time, "] \""),
    piece(Field::Method, Class::Unspaced, " "),
    piece(Field::Path, Class::Quoted, " "),
    piece(Field::Protocol, Class::Protocol, "\" "),
    piece(Field::ResponseCode, Class::Number, " "),
];

const NUMBERS: &[Piece] = &[
    piece(Field::BytesReceived, Class::Number, " "),
    piece(Field::BytesSent, Class::Number, " "),
    piece(Field::Duration, Class::Number, " "),
    // A response header: an upstream host may set it if Envoy is configured to suppress its own.
    piece(Field::UpstreamServiceTime, Class::Bare, " \""),
];

const HEADERS: &[Piece] = &[
    piece(Field::XForwardedFor, Class::Quoted, "\" \""),
    piece(Field::UserAgent, Class::Quoted, "\" \""),
    piece(Field::RequestId, Class::Quoted, "\" \""),
    piece(Field::Authority, Class::Quoted, "\" \""),
];

const CONNECTIONS: &[Piece] = &[
    piece(Field::UpstreamHost, Class::Word, "\" "),
    piece(Field::UpstreamCluster, Class::Word, " "),
    piece(Field::UpstreamLocalAddress, Class::Word, " "),
    piece(Field::DownstreamLocalAddress, Class::Word, " "),
    piece(Field::DownstreamRemoteAddress, Class::Word, " "),
    // A client chose the one, and a VirtualService may name the other with spaces; more than one space between
    // them is more than one reading.
    piece(Field::RequestedServerName, Class::Bare, " "),
    piece(Field::RouteName, Class::Bare, ""),
];

/// Every text format, the newest first.
pub(super) const FORMATS: &[Format] = &[
    Format {
        name: ISTIO_TEXT,
        pieces: &[
            REQUEST,
            &[
                piece(Field::ResponseFlags, Class::Word, " "),
                piece(Field::ResponseCodeDetails, Class::Unspaced, " "),
                piece(Field::ConnectionTerminationDetails, Class::Unspaced, " \""),
                piece(Field::UpstreamTransportFailureReason, Class::Quoted, "\" "),
            ],
            NUMBERS,
            HEADERS,
            CONNECTIONS,
        ],
    },
    Format {
        name: ISTIO_1_8_TEXT,
        pieces: &[
            REQUEST,
            &[
                piece(Field::ResponseFlags, Class::Word, " \""),
                piece(Field::UpstreamTransportFailureReason, Class::Unquoted, "\" "),
            ],
            NUMBERS,
            HEADERS,
            CONNECTIONS,
        ],
    },
    Format {
        name: ISTIO_1_3_TEXT,
        pieces: &[
            REQUEST,
            &[
                piece(Field::ResponseFlags, Class::Word, " \""),
                piece(Field::MixerStatus, Class::Quoted, "\" \""),
                piece(Field::UpstreamTransportFailureReason, Class::Unquoted, "\" "),
            ],
            NUMBERS,
            HEADERS,
            CONNECTIONS,
        ],
    },
    Format {
        name: ENVOY_TEXT,
        pieces: &[
            REQUEST,
            &[piece(Field::ResponseFlags, Class::Word, " ")],
            NUMBERS,
            HEADERS,
            &[piece(Field::UpstreamHost, Class::Word, "\"")],
        ],
    },
];

/// Reads a line in the one format and the one way that fit.
pub(super) fn read(line: &str) -> Result<(&'static str, LogFields), Unreadable> {
    let Some(rest) = line.strip_prefix(OPEN) else {
        return Err(Unreadable::NoFormat);
    };
    let mut only = None;
    for format in FORMATS {
        let pieces: Vec<&Piece> = format.pieces.iter().copied().flatten().collect();
        let Some(first) = beginnings(&pieces, rest.as_bytes()) else { continue };
        let readings = Readings::count(&pieces, &first, rest.as_bytes());
        match (readings.total(), &only) {
            (0, _) => {}
            // The same rule distinguishes the formats: a line that fits two of them was written in one.
            (1, None) => only = Some((format.name, readings.single(&pieces, rest))),
            _ => return Err(Unreadable::Ambiguous),
        }
    }
    let (name, values) = only.ok_or(Unreadable::NoFormat)?;
    let mut fields = LogFields::default();
    for (field, value) in values {
        field.put(&mut fields, value)?;
    }
    Ok((name, fields))
}

/// The first position at which each piece can begin, as far as what comes before it decides; none where one of them cannot
/// begin anywhere, so that the text does not match. Most lines are in another format than the one that is tried, and most
/// places are too early for a piece: both are known here before the readings are counted.
pub(super) fn beginnings(pieces: &[&Piece], text: &[u8]) -> Option<Vec<usize>> {
    let mut first = Vec::with_capacity(pieces.len());
    let mut begins = vec![false; text.len() + 1];
    *begins.first_mut()? = true;
    for piece in pieces {
        let from = begins.iter().position(|begins| *begins)?;
        first.push(from);
        let mut next = vec![false; begins.len()];
        // Whether the piece has gone on to here.
        let mut inside = false;
        for at in from..begins.len() {
            let begins_here = begins.get(at) == Some(&true);
            if (inside || (begins_here && piece.class.may_be_empty())) && follows(piece, text, at) {
                *next.get_mut(at + piece.then.len())? = true;
            }
            inside = (inside || begins_here) && text.get(at).is_some_and(|&byte| piece.class.admits(byte));
        }
        begins = next;
    }
    Some(first)
}

/// Whether the literal text after the piece is at `at`.
fn follows(piece: &Piece, text: &[u8], at: usize) -> bool {
    text.get(at..).is_some_and(|rest| rest.starts_with(piece.then.as_bytes()))
}

/// In how many ways (0, 1, or 2 for "more than one") the pieces from the i-th on fit the text from a position on.
pub(super) struct Readings {
    ways: Vec<u8>,
    width: usize,
}

impl Readings {
    /// Takes time and space in proportion to the number of pieces times the length of the text, whatever it holds. `first`: see
    /// [`beginnings`].
    pub(super) fn count(pieces: &[&Piece], first: &[usize], text: &[u8]) -> Self {
        let width = text.len() + 1;
        let mut ways = vec![0; width * (pieces.len() + 1)];
        if let Some(last) = ways.last_mut() {
            *last = 1;
        }
        let mut readings = Self { ways, width };
        for (i, (piece, from)) in pieces.iter().zip(first).enumerate().rev() {
            // In how many ways the piece may go on from here, and all after it.
            let mut from_next = 0_u8;
            for at in (*from..width).rev() {
                let ends = readings.after(piece, i, text, at);
                let goes_on = match text.get(at) {
                    Some(&byte) if piece.class.admits(byte) => from_next,
                    Some(_) | None => 0,
                };
                let from_here = ends.saturating_add(goes_on).min(2);
                readings.ways[i * width + at] = if piece.class.may_be_empty() { from_here } else { goes_on };
                from_next = from_here;
            }
        }
        readings
    }

    /// In how many ways the text fits if the i-th piece ends at `at`.
    fn after(&self, piece: &Piece, i: usize, text: &[u8], at: usize) -> u8 {
        if follows(piece, text, at) { self.ways[(i + 1) * self.width + at + piece.then.len()] } else { 0 }
    }

    pub(super) fn total(&self) -> u8 {
        self.ways[0]
    }

    /// The values of the only reading.
    fn single<'t>(&self, pieces: &[&Piece], text: &'t str) -> Vec<(Field, &'t str)> {
        let mut at = 0;
        let mut values = Vec::with_capacity(pieces.len());
        for (i, piece) in pieces.iter().enumerate() {
            let first = at + usize::from(!piece.class.may_be_empty());
            let ends = |&end: &usize| self.after(piece, i, text.as_bytes(), end) > 0;
            let end = (first..self.width).find(ends).unwrap_or(at);
            values.push((piece.field, text.get(at..end).unwrap_or_default()));
            at = end + piece.then.len();
        }
        values
    }
}
