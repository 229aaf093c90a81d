use meshproof_model::{Fact, Side};
use tokio::io::{AsyncBufReadExt, BufReader, DuplexStream, Lines, ReadHalf, WriteHalf};

use super::*;

/// The process's end of the stream.
struct Process {
    lines: Lines<BufReader<ReadHalf<DuplexStream>>>,
    writer: WriteHalf<DuplexStream>,
}

impl Process {
    async fn asked(&mut self) -> Question {
        serde_json::from_str(&self.lines.next_line().await.unwrap().unwrap()).unwrap()
    }

    async fn says(&mut self, said: &Said) {
        self.writer
            .write_all(format!("{}\n", serde_json::to_string(said).unwrap()).as_bytes())
            .await
            .unwrap();
    }

    async fn answers(&mut self, id: u64, answer: Answer) {
        self.says(&Said::Answer { id, answer }).await;
    }
}

async fn begun(store: &Store, hello: Answer) -> (Result<Served, ServedError>, Process) {
    let (suite, process) = tokio::io::duplex(1024);
    let (reader, writer) = tokio::io::split(suite);
    let (lines, answering) = tokio::io::split(process);
    let mut process = Process { lines: BufReader::new(lines).lines(), writer: answering };
    let timeouts = Timeouts::default();
    let setup = Setup { who: "external-1".to_owned(), client: None, timeouts: &timeouts };
    let (served, ()) = tokio::join!(Served::begin(reader, writer, &setup, store.clone()), async {
        let question = process.asked().await;
        assert!(matches!(question.ask, Ask::Hello { protocol: PROTOCOL, .. }));
        process.answers(question.id, hello).await;
    });
    (served, process)
}

fn hello(protocol: u32) -> Answer {
    Answer::Hello { protocol, version: "0.0.9".to_owned(), now_us: 0 }
}

fn note(id: &str, text: &str) -> Said {
    Said::Evidence(Box::new(Evidence {
        id: EvidenceId(id.to_owned()),
        at_us: 0,
        step: 0,
        side: Side::Suite,
        token: None,
        fact: Fact::Note { text: text.to_owned() },
    }))
}

#[tokio::test]
async fn evidence_and_its_amendments_are_in_the_store_when_settle_is_answered() {
    let store = Store::new();
    let (served, mut process) = begun(&store, hello(PROTOCOL)).await;
    let served = served.unwrap();
    let (settled, ()) = tokio::join!(served.settle(), async {
        let question = process.asked().await;
        assert!(matches!(question.ask, Ask::Settle));
        process.says(&note("e1", "first")).await;
        process.says(&note("e2", "second")).await;
        process.says(&note("e1", "first, amended")).await;
        process.answers(question.id, Answer::Settled).await;
    });
    settled.unwrap();
    let texts: Vec<Fact> = store.take().into_iter().map(|e| e.fact).collect();
    let note = |text: &str| Fact::Note { text: text.to_owned() };
    assert_eq!(texts, [note("first, amended"), note("second")]);
}

#[tokio::test]
async fn an_image_of_another_version_is_refused_with_the_fix() {
    let (served, _process) = begun(&Store::new(), hello(PROTOCOL + 1)).await;
    let words = served.err().unwrap().to_string();
    assert!(words.contains("external-1") && words.contains("it is meshproof 0.0.9"), "{words}");
    assert!(words.contains("Use an image of this version"), "{words}");
}

#[tokio::test]
async fn a_process_that_ends_is_an_error_of_every_question_and_no_answer_is_awaited() {
    let (served, process) = begun(&Store::new(), hello(PROTOCOL)).await;
    let served = served.unwrap();
    let (settled, ()) = tokio::join!(served.settle(), async { drop(process) });
    assert_eq!(settled.unwrap_err().reason, "it has ended");
    assert_eq!(served.settle().await.unwrap_err().reason, "it has ended");
    served.stop().await.unwrap();
}

#[tokio::test]
async fn what_is_not_the_protocol_is_quoted_and_ends_the_session() {
    let (served, mut process) = begun(&Store::new(), hello(PROTOCOL)).await;
    let served = served.unwrap();
    let (settled, ()) = tokio::join!(served.settle(), async {
        process.asked().await;
        process.writer.write_all(b"exec format error\n").await.unwrap();
    });
    let words = settled.unwrap_err().to_string();
    assert!(words.contains("exec format error"), "{words}");
}

#[tokio::test]
async fn a_server_hears_what_has_arrived_at_a_client_elsewhere() {
    let store = Store::new();
    let (served, mut process) = begun(&store, hello(PROTOCOL)).await;
    let _served = served.unwrap();
    process.says(&Said::Watches { token: "t".to_owned() }).await;
    for expected in [0, 64] {
        let question = process.asked().await;
        let Ask::Arrived { token, bytes } = question.ask else { panic!("another question") };
        assert_eq!((token.as_str(), bytes), ("t", expected));
        store.deliveries().arrived("t", 64);
    }
}

#[test]
fn a_request_is_the_same_after_its_way_through_the_stream() {
    let request = RequestSpec {
        method: http::Method::PUT,
        body: bytes::Bytes::from_static(b"\x00\xffbody"),
        conversation: Some(crate::conversation::Conversation::ClientEndsFirst(7)),
        ..RequestSpec::get("http://a.example/", "t")
    };
    let line = serde_json::to_string(&request).unwrap();
    let read: RequestSpec = serde_json::from_str(&line).unwrap();
    assert_eq!(format!("{read:?}"), format!("{request:?}"));
}
