//! The applications in the mesh: what they answer, and what they leave in the evidence.

use meshproof_harness::external::{ExternalSpec, Page, PlainPort};
use meshproof_harness::store::Store;
use meshproof_harness::timeouts::Timeouts;
use meshproof_harness::topology::{Application, PlainService, service_host};
use meshproof_harness::workload::RequestSpec;
use meshproof_local::apps::{LookupApplication, start_welcome};
use meshproof_local::external::{RunningService, start_embedded};
use meshproof_local::workload::{Route, WorkloadClient};
use meshproof_model::{Exchange, Fact, Side};

use crate::support::*;

const BOOKS: &str = "books.example.com";
const FAILURE: &str = "The book was not found!";

fn application() -> Application {
    Application::new(9080, "/details/", BOOKS, "/books/v1/volumes?q=isbn:")
        .plain_if("DO_NOT_ENCRYPT")
        .failure(FAILURE)
}

#[tokio::test]
async fn the_welcome_service_answers_every_path_with_its_body_and_records_it() {
    let welcome = PlainService::new("welcome", 8080, "Welcome!");
    let store = Store::new();
    let service = start_welcome(&welcome, store.clone(), &Timeouts::default()).await.unwrap();
    let host = service_host("welcome", "default");
    let route = Route::direct(&host, 8080, service.address(8080).unwrap());
    let client =
        WorkloadClient::new("sleep", route, parties().ca.certificate_pem(), &timeouts(LIMIT)).unwrap();
    for path in ["/", "/any/other?q=1"] {
        let exchange = client.exchange(&get(&format!("http://{host}:8080{path}"))).await;
        assert_eq!((response(&exchange).status, response(&exchange).body.as_str()), (200, "Welcome!"));
    }
    let seen = requests(&store);
    assert_eq!(seen.iter().map(|r| (r.port, r.over_tls)).collect::<Vec<_>>(), [(8080, false); 2]);
    assert_eq!(seen[1].target, "/any/other?q=1");
    let side = Side::Service { host };
    store.with(|all| assert!(all.iter().all(|e| e.side == side)));
    service.stop().await.unwrap();
}

/// An application that looks books up, beside a books service. There is no mesh between them.
struct Bookinfo {
    store: Store,
    books: Box<dyn RunningService>,
    details: LookupApplication,
    client: WorkloadClient,
}

async fn bookinfo(reply: &str) -> Bookinfo {
    let store = Store::new();
    let pages = vec![Page {
        path: "/books/v1/volumes".to_owned(),
        content_type: "application/json".into(),
        body: reply.to_owned(),
    }];
    let server = parties().ca.server(BOOKS).issue().unwrap();
    let spec = ExternalSpec {
        aliases: Vec::new(),
        host: BOOKS.to_owned(),
        plain: PlainPort::Serve,
        tls: Some(open_port(&server)),
        ipv6: false,
        tcp: Vec::new(),
        pages,
        keep_alive: true,
    };
    let books = start_embedded(spec, store.clone(), &Timeouts::default()).await.unwrap();
    let roots = parties().ca.certificate_pem();
    let sidecar = Route::capture([80, 443].map(|port| (port, books.address(port).unwrap())));
    let sidecar = WorkloadClient::new("details", sidecar, roots, &timeouts(LIMIT)).unwrap();
    let defaults = Timeouts::default();
    let details =
        LookupApplication::start("details.default", application(), sidecar, store.clone(), &defaults);
    let details = details.await.unwrap();
    let route = Route::capture([(9080, details.address(9080).unwrap())]);
    let client = WorkloadClient::new("sleep", route, roots, &timeouts(LIMIT)).unwrap();
    Bookinfo { store, books, details, client }
}

impl Bookinfo {
    async fn ask(&self, path: &str) -> (u16, serde_json::Value) {
        let request = RequestSpec::get(format!("http://details.default:9080{path}"), TOKEN);
        let exchange = self.client.exchange(&request).await;
        let response = response(&exchange);
        (response.status, serde_json::from_str(&response.body).unwrap())
    }

    fn lookups(&self) -> Vec<Exchange> {
        self.store.with(|all| {
            all.iter()
                .filter_map(|e| match (&e.side, &e.fact, e.token.as_deref()) {
                    (Side::Workload { name }, Fact::Exchange(x), Some(TOKEN)) if name == "details" => {
                        Some(x.clone())
                    }
                    _ => None,
                })
                .collect()
        })
    }

    async fn stop(self) {
        self.details.stop().await.unwrap();
        self.books.stop().await.unwrap();
    }
}

const REPLY: &str = r#"{"items":[{"volumeInfo":{"title":"The Comedy of Errors","publisher":"Dover"}}]}"#;

#[tokio::test]
async fn an_application_looks_up_over_its_own_https_and_over_plain_http_when_it_is_set_to() {
    let app = bookinfo(REPLY).await;
    let expected: serde_json::Value = serde_json::from_str(REPLY).unwrap();
    assert_eq!(app.ask("/details/0486424618").await, (200, expected.clone()));
    assert!(app.details.reads("DO_NOT_ENCRYPT") && !app.details.reads("ENCRYPT"));
    app.details.send_plain(true);
    assert_eq!(app.ask("/details/0486424618").await, (200, expected));
    app.details.settle().await.unwrap();

    let [https, plain] = app.lookups().try_into().unwrap();
    assert_eq!(https.url, "https://books.example.com/books/v1/volumes?q=isbn:0486424618");
    assert_eq!(plain.url, "http://books.example.com:80/books/v1/volumes?q=isbn:0486424618");
    assert!(plain.hops[0].sent.contains("Host: books.example.com:80\r\n"));
    let books: Vec<_> = requests(&app.store).into_iter().filter(|r| r.target.starts_with("/books")).collect();
    assert_eq!(books.iter().map(|r| r.over_tls).collect::<Vec<_>>(), [true, false]);
    assert!(books.iter().all(|r| r.header("user-agent") == Some("meshproof/t-1.00001")));
    app.stop().await;
}

#[tokio::test]
async fn an_application_whose_lookup_fails_answers_with_its_own_words() {
    let app = bookinfo(REPLY).await;
    app.books.stop().await.unwrap();
    assert_eq!(app.ask("/details/0486424618").await, (200, serde_json::json!({ "error": FAILURE })));
    assert_eq!(app.lookups().len(), 1, "the failed lookup is evidence as well");
    app.stop().await;
}

#[tokio::test]
async fn an_application_looks_nothing_up_for_what_is_no_id() {
    let app = bookinfo(REPLY).await;
    for path in ["/details/", "/details/1/../../x", "/details/012345678901234567", "/other", "/details/a%20b"]
    {
        assert_eq!(app.ask(path).await.0, 404, "{path}");
    }
    assert_eq!(app.lookups().len(), 0);
    app.stop().await;
}
