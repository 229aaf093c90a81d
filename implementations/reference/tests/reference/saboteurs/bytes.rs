//! Saboteurs of connections that are not HTTP.

use meshproof_harness::certificates::{Authority, KeyAlgorithm};
use meshproof_harness::conversation::{Conversation, TcpProtocol};
use meshproof_harness::external_server::{ExternalServer, Site};
use meshproof_harness::store::Store;
use meshproof_harness::timeouts::Timeouts;
use meshproof_harness::workload::RequestSpec;
use meshproof_local::external::{RunningService, start_embedded};
use meshproof_local::workload::{Route, WorkloadClient};
use meshproof_model::{Connection, Fact, ServerRequest};
use meshproof_plan::model::{ChainMatch, NameCheck, Origination, ServerName, UpstreamTls};

use crate::support::plans;
use crate::support::{Bench, free, reference};

const DATABASE: &str = "db.example";
const TOKEN: &str = "t-1.00001";

/// What the three sides have of one conversation.
struct Seen {
    conversed: bool,
    requests: Vec<(String, ServerRequest)>,
    connections: Vec<Connection>,
    lines: Vec<String>,
}

/// A server, and what it records.
async fn serving(server: ExternalServer, store: &Store) -> Box<dyn RunningService> {
    start_embedded(server.into_parts().0, store.clone(), &Timeouts::default()).await.unwrap()
}

async fn talk(saboteur: Option<&str>, protocol: TcpProtocol, conversation: Conversation) -> Seen {
    let public = Authority::new(KeyAlgorithm::EcdsaP256).unwrap();
    let database = |host: &str| {
        Site::at(host).certificate(&public.server(host).issue().unwrap()).speaking(5432, protocol)
    };
    let store = Store::default();
    let first = serving(database("first.example"), &store).await;
    let server = serving(database(DATABASE), &store).await;
    let mut bench = Bench::with(reference(saboteur), public.certificate_pem()).await;
    let (bind, of_first) = (free(), free());
    let cluster = |host: &str, service: &dyn RunningService| {
        let (sni, names) = (ServerName::Fixed(host.to_owned()), NameCheck::ChainOnly);
        let origination = Origination { sni, names, alpn: Vec::new(), ..plans::simple() };
        let name = format!("outbound|5432||{host}");
        plans::cluster(&name, service.address(5432).unwrap(), Some(UpstreamTls::Originate(origination)))
    };
    let listener = |bind, host: &str| {
        let action = plans::tcp(&format!("outbound|5432||{host}"));
        plans::outbound(bind, vec![plans::chain(ChainMatch::default(), None, action)])
    };
    let listeners = vec![listener(of_first, "first.example"), listener(bind, DATABASE)];
    let clusters = vec![cluster("first.example", first.as_ref()), cluster(DATABASE, server.as_ref())];
    bench.apply(&plans::plan(vec![plans::proxy("sleep", listeners, clusters)])).await;
    let route = Route::default().and(DATABASE, 5432, bind);
    let client = WorkloadClient::new("sleep", route, public.certificate_pem(), &Timeouts::default()).unwrap();
    let request = RequestSpec {
        conversation: Some(conversation),
        ..RequestSpec::get(format!("tcp://{DATABASE}:5432"), TOKEN)
    };
    let exchange = client.exchange(&request).await;
    let lines = bench.lines("sleep").await;
    for service in [&first, &server] {
        service.settle().await.unwrap();
    }
    let (requests, connections) = store.with(|all| {
        let requests =
            all.iter().filter_map(|e| Some((format!("{:?}", e.side), e.fact.as_request()?.clone())));
        let connections = all.iter().filter_map(|e| match &e.fact {
            Fact::Connection(connection) => Some(connection.clone()),
            _ => None,
        });
        (requests.collect(), connections.collect())
    });
    Seen { conversed: exchange.last_response().is_some(), requests, connections, lines }
}

async fn differs(
    saboteur: &str,
    (protocol, conversation): (TcpProtocol, Conversation),
    shown: impl Fn(&Seen) -> String,
    honest: &str,
    sabotaged: &str,
) {
    assert_eq!(shown(&talk(None, protocol, conversation).await), honest, "without {saboteur}");
    assert_eq!(shown(&talk(Some(saboteur), protocol, conversation).await), sabotaged, "{saboteur}");
}

#[tokio::test]
async fn conversations_do_not_come_to_their_end() {
    let (mysql, sql) =
        ((TcpProtocol::MySql, Conversation::MySql), (TcpProtocol::Postgres, Conversation::Postgres));
    let held = |seen: &Seen| seen.conversed.to_string();
    differs("wait-for-clients-bytes", mysql, held, "true", "false").await;
    differs("swallow-nul-bytes", sql, held, "true", "false").await;
    let stream = (TcpProtocol::Stream, Conversation::ClientEndsFirst(1000));
    differs("end-with-client", stream, held, "true", "false").await;
    let long = (TcpProtocol::Stream, Conversation::ClientEndsFirst(1_000_000));
    differs("cut-long-streams", long, held, "true", "false").await;
}

#[tokio::test]
async fn a_clients_bytes_are_lost_after_the_servers_end() {
    let whole = |seen: &Seen| {
        let bytes = seen.requests.first().and_then(|(_, r)| r.body_bytes).unwrap_or_default();
        (bytes > 1000).to_string()
    };
    let stream = (TcpProtocol::Stream, Conversation::ServerEndsFirst(1000));
    differs("end-with-server", stream, whole, "true", "false").await;
}

#[tokio::test]
async fn a_connection_is_plain_or_leads_elsewhere_or_is_miscounted() {
    let sql = (TcpProtocol::Postgres, Conversation::Postgres);
    let clear = |seen: &Seen| seen.connections.iter().any(|c| c.clear_bytes.contains(TOKEN)).to_string();
    differs("bytes-in-clear", sql, clear, "false", "true").await;
    let first =
        |seen: &Seen| seen.requests.iter().any(|(side, _)| side.contains("first.example")).to_string();
    differs("first-database", sql, first, "false", "true").await;
    let counted = |seen: &Seen| {
        let received = seen.requests.first().and_then(|(_, r)| r.body_bytes).unwrap_or_default();
        seen.lines.iter().any(|line| line.contains(&format!("\"-\" {received} "))).to_string()
    };
    differs("miscount-bytes", sql, counted, "true", "false").await;
}
