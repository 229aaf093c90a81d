//! The suite's own server and client on the other side of a stream, as in a pod: on every address, on the document's own port.

use meshproof_harness::conversation::{Conversation, TcpProtocol};
use meshproof_harness::external::{ExternalSpec, PlainPort, TcpPort};
use meshproof_harness::served::{Listen, Sender, Served, Setup, Towards};
use meshproof_harness::store::Store;
use meshproof_harness::timeouts::Timeouts;
use meshproof_harness::workload::RequestSpec;
use meshproof_local::{ports, serve};

use crate::support::parties;

#[tokio::test]
async fn a_service_in_a_pod_listens_on_every_address_on_the_documents_port() {
    let (store, timeouts) = (Store::new(), Timeouts::default());
    let (suite, process) = tokio::io::duplex(64 * 1024);
    let (input, output) = tokio::io::split(process);
    let serving = tokio::spawn(serve::serve(input, output));
    let (reader, writer) = tokio::io::split(suite);
    let roots = parties().ca.certificate_pem().to_owned();
    let client = Some(Sender { name: "sleep".to_owned(), roots });
    let setup = Setup { who: "external-1".to_owned(), client, timeouts: &timeouts };
    let served = Served::begin(reader, writer, &setup, store.clone()).await.unwrap();

    let number = ports::take().unwrap();
    let spec = ExternalSpec {
        host: "stream.example".to_owned(),
        aliases: Vec::new(),
        plain: PlainPort::Closed,
        tls: None,
        ipv6: false,
        tcp: vec![TcpPort { number, protocol: TcpProtocol::Stream, tls: None }],
        pages: Vec::new(),
        keep_alive: true,
    };
    let (described, addresses) = served.serve(spec.clone(), Listen::Everywhere).await.unwrap();
    assert_eq!(described.kind, "embedded");
    assert_eq!(addresses[&number].port(), number);

    let request = RequestSpec {
        conversation: Some(Conversation::ClientEndsFirst(100_000)),
        ..RequestSpec::get(format!("tcp://stream.example:{number}"), "r-s.00001")
    };
    let to = Towards { host: None, port: None, address: "127.0.0.1".parse().unwrap(), at_port: None };
    let exchange = served.send(&request, vec![to]).await.unwrap();
    assert!(exchange.last_response().is_some_and(|response| response.is_conversation()), "{exchange:?}");
    served.settle().await.unwrap();
    store.with(|all| {
        let connection = all.iter().find_map(|e| e.fact.as_connection()).unwrap();
        assert_eq!(connection.port, number);
        assert!(connection.peer.starts_with("127.0.0.1:"), "not within IPv6: {}", connection.peer);
        assert_eq!(all.iter().filter(|e| e.fact.as_request().is_some()).count(), 1);
    });

    // The port is taken.
    let again = served.serve(spec, Listen::Everywhere).await.unwrap_err();
    assert!(again.to_string().contains(&format!("cannot listen on port {number}")), "{again}");
    served.stop().await.unwrap();
    assert_eq!(serving.await.unwrap(), Ok(()));
    assert!(ports::is_free(([127, 0, 0, 1], number).into()));
}
