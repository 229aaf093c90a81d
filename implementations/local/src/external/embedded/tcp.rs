//! The server's part in a conversation over TCP, and its evidence.

use std::io;

use meshproof_harness::conversation::{Conversation, MAX_OPENING, TcpProtocol, Turn};
use meshproof_model::{Fact, ServerAnswer, ServerRequest, TCP};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::record::RequestRecord;
use super::site::Site;
use crate::workload::Spoken;

/// How much is read at a time.
const PIECE: usize = 64 * 1024;

/// Holds the conversation that the client opens. It is recorded as soon as its token is known, and completed turn by turn, each
/// before the client can know of it.
pub(super) async fn converse(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    protocol: TcpProtocol,
    site: &Site<'_>,
) -> io::Result<()> {
    let mut said = Spoken::default();
    let greeting = protocol.greeting();
    if let Some(greeting) = &greeting {
        say(&mut stream, greeting).await?;
        said.add(greeting);
    }
    let Some((opening, conversation, token)) = open(&mut stream, protocol).await? else { return Ok(()) };
    let record = begin(site, &token);
    let mut part = Part { stream, unread: opening, heard: Spoken::default(), said, record };
    let turns = conversation.turns(&token);
    let played = part.play(&turns[usize::from(greeting.is_some())..]).await;
    part.note();
    played
}

/// Reads what comes outside TLS, so that it is recorded, and answers nothing: a database's server cannot. All of an opening is read,
/// in however many segments it comes.
pub(super) async fn refuse(mut stream: impl AsyncRead + Unpin, protocol: TcpProtocol) {
    let _what_comes_is_recorded = open(&mut stream, protocol).await;
}

/// What the client says first, and which conversation it begins, with its token; none: another one, or none at all.
async fn open(
    stream: &mut (impl AsyncRead + Unpin),
    protocol: TcpProtocol,
) -> io::Result<Option<(Vec<u8>, Conversation, String)>> {
    let mut opening = Vec::new();
    loop {
        let mut piece = [0; 256];
        let read = stream.read(&mut piece).await?;
        opening.extend_from_slice(&piece[..read]);
        // A database closes the connection of a client that speaks something else.
        if read == 0 || opening.len() > MAX_OPENING || !protocol.may_begin(&opening) {
            return Ok(None);
        }
        if let Some((conversation, token)) = protocol.recognise(&opening) {
            return Ok(Some((opening, conversation, token)));
        }
    }
}

fn begin(site: &Site<'_>, token: &str) -> RequestRecord {
    let request = ServerRequest {
        connection: site.record.number,
        port: site.record.port,
        over_tls: site.tls.is_some(),
        peer: site.record.peer.clone(),
        method: TCP.to_owned(),
        target: String::new(),
        authority: String::new(),
        version: TCP.to_owned(),
        headers: Vec::new(),
        status: 0,
        body_bytes: None,
        body_sha256: None,
        trailers: Vec::new(),
        messages: Vec::new(),
        tls: site.tls.clone(),
        answer: None,
    };
    let (side, token) = (site.shared.side.clone(), Some(token.to_owned()));
    let id = site.shared.store.record(side, token, Fact::Request(request));
    RequestRecord { shared: site.shared.clone(), id }
}

async fn say(stream: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> io::Result<()> {
    stream.write_all(bytes).await?;
    stream.flush().await
}

struct Part<S> {
    stream: S,
    /// What was read of the client's opening and not yet heard.
    unread: Vec<u8>,
    heard: Spoken,
    said: Spoken,
    record: RequestRecord,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Part<S> {
    async fn play(&mut self, turns: &[Turn]) -> io::Result<()> {
        for turn in turns {
            match turn {
                Turn::Client(bytes) => self.hear(bytes).await?,
                Turn::Server(bytes) => {
                    self.said.add(bytes);
                    self.note();
                    say(&mut self.stream, bytes).await?;
                }
                Turn::ServerEnds => {
                    self.note();
                    self.stream.shutdown().await?;
                }
                Turn::ClientEnds => self.hear_to_the_end().await?,
            }
        }
        Ok(())
    }

    /// Hears what the client must say. Anything else ends the conversation, as it does with a database: otherwise both sides
    /// could wait for each other.
    async fn hear(&mut self, wanted: &[u8]) -> io::Result<()> {
        let mut left = wanted;
        let mut piece = vec![0; wanted.len().min(PIECE)];
        while !left.is_empty() {
            let room = piece.len().min(left.len());
            let read = self.read(&mut piece[..room]).await?;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let (now, later) = left.split_at(read);
            if now != &piece[..read] {
                return Err(io::ErrorKind::InvalidData.into());
            }
            left = later;
        }
        self.note();
        Ok(())
    }

    /// More than the client must say is heard, too.
    async fn hear_to_the_end(&mut self) -> io::Result<()> {
        let mut piece = vec![0; PIECE];
        while self.read(&mut piece).await? > 0 {}
        self.note();
        Ok(())
    }

    /// Reads from what was read already, or from the connection.
    async fn read(&mut self, piece: &mut [u8]) -> io::Result<usize> {
        let early = self.unread.len().min(piece.len());
        let read = if early > 0 {
            piece[..early].copy_from_slice(&self.unread[..early]);
            self.unread.drain(..early);
            early
        } else {
            self.stream.read(piece).await?
        };
        self.heard.add(&piece[..read]);
        Ok(read)
    }

    /// Brings the record up to date.
    fn note(&self) {
        let (heard_bytes, said_bytes) = (self.heard.bytes, self.said.bytes);
        let (_, heard_sha256) = self.heard.clone().finish();
        let (_, said_sha256) = self.said.clone().finish();
        self.record.amend(|request| {
            request.body_bytes = Some(heard_bytes);
            request.body_sha256 = heard_sha256;
            request.answer = Some(ServerAnswer {
                status: 0,
                headers: Vec::new(),
                body_bytes: said_bytes,
                body_sha256: said_sha256,
                trailers: Vec::new(),
                breaks_off: false,
                closes: false,
                held_up_after: None,
                messages: Vec::new(),
                informational: Vec::new(),
                waited_ms: 0,
            });
        });
    }
}
