//! The text formats, and how the readings of a line are counted.

use meshproof_model::LogFields;

use super::{ENVOY_TEXT, Field, ISTIO_1_3_TEXT, ISTIO_1_8_TEXT, ISTIO_TEXT, Unreadable};

/// The bytes that a field may hold. The classes are wide: if a class lacked a text that a proxy writes, a forged reading
/// could be the only one left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
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
    /// What ordinary values are made of: no space, no quote and none of the usual separators. Only where several readings
    /// are left of a line in a configured format.
    Plain,
}

impl Class {
    pub(super) const fn admits(self, byte: u8) -> bool {
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
            Self::Plain => !matches!(byte, b' ' | b'"' | b'|' | b',' | b';' | b'\'' | b'\t'),
        }
    }

    pub(super) const fn may_be_empty(self) -> bool {
        matches!(self, Self::Quoted | Self::Unquoted)
    }
}

/// One field of a format and the literal text after it.
#[derive(Debug)]
pub(super) struct Piece<'f> {
    pub(super) field: Field,
    pub(super) class: Class,
    pub(super) then: &'f str,
}

const fn piece(field: Field, class: Class, then: &'static str) -> Piece<'static> {
    Piece { field, class, then }
}

/// A text format: `[`, then its pieces.
#[derive(Debug)]
pub(super) struct Format {
    pub(super) name: &'static str,
    pub(super) pieces: &'static [&'static [Piece<'static>]],
}

pub(super) const OPEN: &str = "[";

const REQUEST: &[Piece<'static>] = &[
    piece(Field::StartTime, Class::Time, "] \""),
    piece(Field::Method, Class::Unspaced, " "),
    piece(Field::Path, Class::Quoted, " "),
    piece(Field::Protocol, Class::Protocol, "\" "),
    piece(Field::ResponseCode, Class::Number, " "),
];

const NUMBERS: &[Piece<'static>] = &[
    piece(Field::BytesReceived, Class::Number, " "),
    piece(Field::BytesSent, Class::Number, " "),
    piece(Field::Duration, Class::Number, " "),
    // A response header: an upstream host may set it if Envoy is configured to suppress its own.
    piece(Field::UpstreamServiceTime, Class::Bare, " \""),
];

const HEADERS: &[Piece<'static>] = &[
    piece(Field::XForwardedFor, Class::Quoted, "\" \""),
    piece(Field::UserAgent, Class::Quoted, "\" \""),
    piece(Field::RequestId, Class::Quoted, "\" \""),
    piece(Field::Authority, Class::Quoted, "\" \""),
];

const CONNECTIONS: &[Piece<'static>] = &[
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
        let pieces: Vec<&Piece<'_>> = format.pieces.iter().copied().flatten().collect();
        let Some(readings) = Readings::count(&pieces, rest.as_bytes()) else { continue };
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

/// Where each piece can begin, and in how many ways (0, 1, or 2 for "more than one") it and all pieces after it fit the text
/// from there on. Takes time and space in proportion to the number of pieces times the length of the text, whatever the text
/// holds; for most lines much less, because few places are both after what comes before a piece and before what follows it.
pub(super) struct Readings {
    /// By piece, ascending. After the last piece, only the end of the text.
    places: Vec<Vec<usize>>,
    /// Of each place.
    ways: Vec<Vec<u8>>,
}

impl Readings {
    /// None if the text does not match.
    pub(super) fn count(pieces: &[&Piece<'_>], text: &[u8]) -> Option<Self> {
        let mut places = vec![vec![0]];
        for (i, piece) in pieces.iter().enumerate() {
            let mut next = piece.followers(places.last()?, text);
            if i + 1 == pieces.len() {
                next.retain(|place| *place == text.len());
            }
            if next.is_empty() {
                return None;
            }
            places.push(next);
        }
        let mut ways = vec![vec![1]];
        for (piece, at) in pieces.iter().zip(places.windows(2)).rev() {
            let [begins, next] = at else { continue };
            let of_piece = ways_of(piece, text, begins, next, ways.last()?);
            ways.push(of_piece);
        }
        ways.reverse();
        Some(Self { places, ways })
    }

    pub(super) fn total(&self) -> u8 {
        self.ways.first().and_then(|ways| ways.first()).copied().unwrap_or_default()
    }

    /// The values of the only reading.
    pub(super) fn single<'t>(&self, pieces: &[&Piece<'_>], text: &'t str) -> Vec<(Field, &'t str)> {
        let mut at = 0;
        let mut values = Vec::with_capacity(pieces.len());
        for (piece, (places, ways)) in pieces.iter().zip(self.places.iter().zip(&self.ways).skip(1)) {
            let span = piece.span(at, piece.run(at, text.as_bytes()), places);
            let next = span.clone().find(|next| ways.get(*next).is_some_and(|ways| *ways > 0));
            let next = next.and_then(|next| places.get(next)).copied().unwrap_or(at + piece.then.len());
            values.push((piece.field, text.get(at..next - piece.then.len()).unwrap_or_default()));
            at = next;
        }
        values
    }
}

impl Piece<'_> {
    /// Where the first byte is, from `at` on, that the piece does not admit.
    fn run(&self, at: usize, text: &[u8]) -> usize {
        match self.class {
            Class::Quoted | Class::Bare => text.len(),
            Class::Time
            | Class::Number
            | Class::Protocol
            | Class::Word
            | Class::Unspaced
            | Class::Unquoted
            | Class::Plain => {
                let rest = text.get(at..).unwrap_or_default();
                at + rest.iter().position(|byte| !self.class.admits(*byte)).unwrap_or(rest.len())
            }
        }
    }

    fn shortest(&self) -> usize {
        usize::from(!self.class.may_be_empty())
    }

    /// Whether the literal text after the piece is at `at`.
    fn ends(&self, text: &[u8], at: usize) -> bool {
        match (self.then.as_bytes().first(), text.get(at)) {
            (None, _) => true,
            (Some(first), Some(byte)) if first == byte => {
                text.get(at..).is_some_and(|rest| rest.starts_with(self.then.as_bytes()))
            }
            (Some(_), Some(_) | None) => false,
        }
    }

    /// Where the next piece can begin if this one begins at one of these places. All in ascending order.
    fn followers(&self, begins: &[usize], text: &[u8]) -> Vec<usize> {
        let mut next = Vec::new();
        // The end of the run that the last place was in; the places before `seen` were looked at.
        let (mut run, mut seen) = (None, 0);
        for &begin in begins {
            if run.is_some_and(|run| begin <= run) {
                continue;
            }
            let end = self.run(begin, text);
            for at in (begin + self.shortest()).max(seen)..=end {
                if self.ends(text, at) {
                    next.push(at + self.then.len());
                }
            }
            (run, seen) = (Some(end), end + 1);
        }
        next
    }

    /// Which of the next piece's places follow if this one begins at `begin` and may go on until `run`.
    fn span(&self, begin: usize, run: usize, next: &[usize]) -> std::ops::Range<usize> {
        let (first, last) = (begin + self.shortest() + self.then.len(), run + self.then.len());
        let from = next.partition_point(|place| *place < first);
        from..next.partition_point(|place| *place <= last).max(from)
    }
}

/// In how many ways a piece that begins at these places fits, and all after it.
fn ways_of(piece: &Piece<'_>, text: &[u8], begins: &[usize], next: &[usize], of_next: &[u8]) -> Vec<u8> {
    let mut sums = vec![0_usize];
    let mut sum = 0;
    sums.extend(of_next.iter().map(|ways| {
        sum += usize::from(*ways);
        sum
    }));
    let mut run = None;
    let ways = begins.iter().map(|&begin| {
        let end = match run {
            Some(run) if begin <= run => run,
            Some(_) | None => piece.run(begin, text),
        };
        run = Some(end);
        let span = piece.span(begin, end, next);
        let sum = |at: usize| sums.get(at).copied().unwrap_or_default();
        u8::try_from((sum(span.end) - sum(span.start)).min(2)).unwrap_or(2)
    });
    ways.collect()
}
