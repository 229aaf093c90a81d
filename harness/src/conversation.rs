//! What a client and a server say to each other over TCP. Each conversation is a script that both follow, so that each side knows
//! every byte that it must hear: enough of a database's protocol to see who speaks first and when, and streams that end in one
//! direction before the other.

use bytes::{BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};

use crate::digest::binary_sample;
use crate::token::{PRODUCT, token_of, user_agent};

/// The most bytes of a stream in one direction.
pub const MAX_STREAM: usize = 8 * 1024 * 1024;
/// How much a server reads while it looks for the token of a conversation.
pub const MAX_OPENING: usize = 1024;

/// A conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Conversation {
    /// PostgreSQL, "Message Flow": the client speaks first.
    Postgres,
    /// Redis serialization protocol: the client speaks first, in lines.
    Redis,
    /// MySQL, "Connection Phase": the server greets first.
    MySql,
    /// MongoDB wire protocol, `OP_MSG`: the client speaks first, in binary.
    Mongo,
    /// The client sends this many bytes and ends its direction. Only then does the server send as many, and ends its own.
    ClientEndsFirst(usize),
    /// The server sends this many bytes and ends its direction. Only then does the client send as many, and ends its own.
    ServerEndsFirst(usize),
}

/// What a port speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TcpProtocol {
    /// [`Conversation::Postgres`].
    Postgres,
    /// [`Conversation::Redis`].
    Redis,
    /// [`Conversation::MySql`].
    MySql,
    /// [`Conversation::Mongo`].
    Mongo,
    /// [`Conversation::ClientEndsFirst`] and [`Conversation::ServerEndsFirst`]: the first line says which.
    Stream,
}

/// One turn of a conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Turn {
    /// The client says this.
    Client(Bytes),
    /// The server says this.
    Server(Bytes),
    /// The client ends its direction.
    ClientEnds,
    /// The server ends its direction.
    ServerEnds,
}

impl Turn {
    /// What the client says in it.
    #[must_use]
    pub fn of_client(&self) -> Option<&Bytes> {
        match self {
            Self::Client(bytes) => Some(bytes),
            Self::Server(_) | Self::ClientEnds | Self::ServerEnds => None,
        }
    }

    /// What the server says in it.
    #[must_use]
    pub fn of_server(&self) -> Option<&Bytes> {
        match self {
            Self::Server(bytes) => Some(bytes),
            Self::Client(_) | Self::ClientEnds | Self::ServerEnds => None,
        }
    }
}

impl Conversation {
    /// The turns of the conversation with this token, in their order.
    #[must_use]
    pub fn turns(self, token: &str) -> Vec<Turn> {
        let name = user_agent(token);
        match self {
            Self::Postgres => postgres(&name),
            Self::Redis => redis(&name),
            Self::MySql => mysql(&name),
            Self::Mongo => mongo(&name),
            Self::ClientEndsFirst(bytes) => vec![
                Turn::Client(opening(&name, "client-ends-first", bytes)),
                Turn::Client(binary_sample(bytes)),
                Turn::ClientEnds,
                Turn::Server(binary_sample(bytes)),
                Turn::ServerEnds,
            ],
            Self::ServerEndsFirst(bytes) => vec![
                Turn::Client(opening(&name, "server-ends-first", bytes)),
                Turn::Server(binary_sample(bytes)),
                Turn::ServerEnds,
                Turn::Client(binary_sample(bytes)),
                Turn::ClientEnds,
            ],
        }
    }
}

impl TcpProtocol {
    /// What a server on such a port says before it has heard anything.
    #[must_use]
    pub fn greeting(self) -> Option<Bytes> {
        match self {
            Self::MySql => mysql("").first().and_then(Turn::of_server).cloned(),
            Self::Postgres | Self::Redis | Self::Mongo | Self::Stream => None,
        }
    }

    /// Whether what has arrived can be the beginning of this protocol. A server closes the connection where it cannot.
    #[must_use]
    pub fn may_begin(self, opening: &[u8]) -> bool {
        let at = |place: usize, wanted: &[u8]| {
            let seen = opening.get(place..).unwrap_or_default();
            seen.iter().zip(wanted).all(|(seen, wanted)| seen == wanted)
        };
        match self {
            // A length below 65536, and then the version.
            Self::Postgres => at(0, &[0, 0]) && at(4, &[0, 3, 0, 0]),
            Self::Redis => at(0, b"*"),
            // The client's first packet is the second one of the exchange.
            Self::MySql => at(3, &[1]),
            Self::Mongo => at(12, &2013_u32.to_le_bytes()),
            Self::Stream => at(0, PRODUCT.as_bytes()),
        }
    }

    /// The conversation and its token, once enough of the client's opening has arrived.
    #[must_use]
    pub fn recognise(self, opening: &[u8]) -> Option<(Conversation, String)> {
        // Each byte becomes one character, so that positions agree.
        let text: String = opening.iter().map(|byte| char::from(*byte)).collect();
        let token = token_of(&text)?.to_owned();
        let rest = text.split_once(&user_agent(&token))?.1;
        // The token has ended only when something follows it.
        rest.chars().next()?;
        let conversation = match self {
            Self::Postgres => Conversation::Postgres,
            Self::Redis => Conversation::Redis,
            Self::MySql => Conversation::MySql,
            Self::Mongo => Conversation::Mongo,
            Self::Stream => {
                let mut words = rest.split_once('\n')?.0.split_whitespace();
                let kind = words.next()?;
                let bytes = words.next()?.parse().ok().filter(|bytes| *bytes <= MAX_STREAM)?;
                match kind {
                    "client-ends-first" => Conversation::ClientEndsFirst(bytes),
                    "server-ends-first" => Conversation::ServerEndsFirst(bytes),
                    _ => return None,
                }
            }
        };
        Some((conversation, token))
    }
}

fn opening(name: &str, kind: &str, bytes: usize) -> Bytes {
    format!("{name} {kind} {bytes}\n").into()
}

/// PostgreSQL, "Message Formats": a type, a length that counts itself, and the content.
fn message(kind: u8, content: &[u8]) -> Bytes {
    let mut all = BytesMut::new();
    all.put_u8(kind);
    all.put_u32(length(content.len() + 4));
    all.put_slice(content);
    all.freeze()
}

fn length(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

fn postgres(name: &str) -> Vec<Turn> {
    // StartupMessage has no type; its first word is the protocol's version, 3.0.
    let mut content = BytesMut::new();
    content.put_u32(0x0003_0000);
    content.put_slice(format!("user\0app\0application_name\0{name}\0\0").as_bytes());
    let mut startup = BytesMut::new();
    startup.put_u32(length(content.len() + 4));
    startup.put_slice(&content);
    let ready = message(b'Z', b"I");
    let welcome =
        [message(b'R', &[0; 4]), message(b'S', b"server_version\x0017.2\0"), ready.clone()].concat();
    // One row with one column of text.
    let row = [&[0, 1][..], &length(9).to_be_bytes(), b"forty-two"].concat();
    let answer = [message(b'D', &row), message(b'C', b"SELECT 1\0"), ready].concat();
    vec![
        Turn::Client(startup.freeze()),
        Turn::Server(welcome.into()),
        Turn::Client(message(b'Q', b"SELECT answer FROM life\0")),
        Turn::Server(answer.into()),
        Turn::Client(message(b'X', b"")),
        Turn::ServerEnds,
        Turn::ClientEnds,
    ]
}

fn redis(name: &str) -> Vec<Turn> {
    let command = |words: &[&str]| -> Bytes {
        let all: String = words.iter().map(|word| format!("${}\r\n{word}\r\n", word.len())).collect();
        format!("*{}\r\n{all}", words.len()).into()
    };
    vec![
        Turn::Client(command(&["CLIENT", "SETNAME", name])),
        Turn::Server("+OK\r\n".into()),
        Turn::Client([command(&["SET", "answer", "42"]), command(&["GET", "answer"])].concat().into()),
        Turn::Server("+OK\r\n$2\r\n42\r\n".into()),
        Turn::Client(command(&["QUIT"])),
        Turn::Server("+OK\r\n".into()),
        Turn::ServerEnds,
        Turn::ClientEnds,
    ]
}

fn mysql(name: &str) -> Vec<Turn> {
    // A packet: its length in three bytes, its number in the exchange, the content.
    let packet = |number: u8, content: &[u8]| -> Bytes {
        let [low, middle, high, _] = length(content.len()).to_le_bytes();
        [&[low, middle, high, number], content].concat().into()
    };
    let ok = |number| packet(number, &[0, 0, 0, 2, 0, 0, 0]);
    let greeting =
        [&b"\x0a8.4.0\0"[..], &7_u32.to_le_bytes(), b"saltsalt\0", &[0xff, 0xf7, 33, 2, 0]].concat();
    let login = [&[0x8d, 0xa2, 0x3a, 0, 0, 0, 0, 1, 33][..], &[0; 23], name.as_bytes(), &[0, 0]].concat();
    vec![
        Turn::Server(packet(0, &greeting)),
        Turn::Client(packet(1, &login)),
        Turn::Server(ok(2)),
        Turn::Client(packet(0, b"\x03SELECT answer FROM life")),
        Turn::Server(ok(1)),
        Turn::Client(packet(0, &[1])),
        Turn::ServerEnds,
        Turn::ClientEnds,
    ]
}

fn mongo(name: &str) -> Vec<Turn> {
    // A document: its length, elements (type, name, value), and a zero byte.
    let document =
        |elements: &[u8]| -> Vec<u8> { [&length(elements.len() + 5).to_le_bytes(), elements, &[0]].concat() };
    let text = |key: &str, value: &str| -> Vec<u8> {
        let size = length(value.len() + 1).to_le_bytes();
        [&[2], key.as_bytes(), &[0], &size, value.as_bytes(), &[0]].concat()
    };
    let number = |key: &str, value: i32| -> Vec<u8> {
        [&[16], key.as_bytes(), &[0], &value.to_le_bytes()[..]].concat()
    };
    // The header: length, number of the message, number that it answers, 2013; then no flags, and one document.
    let op_msg = |id: u32, to: u32, elements: &[u8]| -> Bytes {
        let body = document(elements);
        let words = [length(body.len() + 21), id, to, 2013, 0].map(u32::to_le_bytes).concat();
        [&words[..], &[0], &body].concat().into()
    };
    let hello = [number("hello", 1), text("client", name), text("$db", "admin")].concat();
    let find = [text("find", "life"), text("$db", "app")].concat();
    vec![
        Turn::Client(op_msg(1, 0, &hello)),
        Turn::Server(op_msg(101, 1, &number("maxWireVersion", 25))),
        Turn::Client(op_msg(2, 0, &find)),
        Turn::Server(op_msg(102, 2, &number("answer", 42))),
        Turn::ClientEnds,
        Turn::ServerEnds,
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "r-tcp-origination-sidecar.00001";

    fn all() -> [(TcpProtocol, Conversation); 6] {
        [
            (TcpProtocol::Postgres, Conversation::Postgres),
            (TcpProtocol::Redis, Conversation::Redis),
            (TcpProtocol::MySql, Conversation::MySql),
            (TcpProtocol::Mongo, Conversation::Mongo),
            (TcpProtocol::Stream, Conversation::ClientEndsFirst(1000)),
            (TcpProtocol::Stream, Conversation::ServerEndsFirst(1000)),
        ]
    }

    #[test]
    fn a_server_recognises_each_conversation_by_its_opening_and_not_before_its_token_has_ended() {
        for (protocol, conversation) in all() {
            let turns = conversation.turns(TOKEN);
            let opening = turns.iter().find_map(Turn::of_client).unwrap();
            assert_eq!(protocol.recognise(opening), Some((conversation, TOKEN.to_owned())));
            let ends =
                opening.windows(TOKEN.len()).position(|w| w == TOKEN.as_bytes()).unwrap() + TOKEN.len();
            assert_eq!(protocol.recognise(&opening[..ends]), None, "{conversation:?}");
            for (other, _) in all().into_iter().filter(|(other, _)| *other != protocol) {
                assert!(!other.may_begin(opening), "{conversation:?} as {other:?}");
            }
            assert!((0..opening.len()).all(|end| protocol.may_begin(&opening[..end])), "{conversation:?}");
        }
    }

    #[test]
    fn the_greeting_comes_before_the_client_says_who_it_is() {
        for (protocol, conversation) in all() {
            let first = conversation.turns(TOKEN).remove(0);
            assert_eq!(first.of_server().cloned(), protocol.greeting(), "{conversation:?}");
        }
    }

    #[test]
    fn both_directions_end_once() {
        for (_, conversation) in all() {
            let turns = conversation.turns(TOKEN);
            for end in [Turn::ClientEnds, Turn::ServerEnds] {
                assert_eq!(turns.iter().filter(|turn| **turn == end).count(), 1, "{conversation:?}");
            }
        }
    }
}
