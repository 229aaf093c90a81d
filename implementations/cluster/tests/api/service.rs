//! A Kubernetes API implemented by a closure, as the service that kube's client uses.

use std::convert::Infallible;
use std::io;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures_util::stream::{self, Stream, StreamExt};
use http::{Request, Response};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use kube::client::Body;
use meshproof_cluster::api::ClusterClient;
use meshproof_cluster::permissions;
use meshproof_harness::timeouts::Timeouts;
use serde_json::{Value, json};

/// A request, parsed as authorization does.
#[derive(Clone, Debug)]
pub(crate) struct ApiRequest {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) query: String,
    pub(crate) accept: String,
    pub(crate) body: Value,
}

impl ApiRequest {
    /// Whether it has this method and this path.
    pub(crate) fn is(&self, method: &str, path: &str) -> bool {
        self.method == method && self.path == path
    }

    pub(crate) fn watches(&self) -> bool {
        self.query.contains("watch=true")
    }

    /// A parameter of the query.
    pub(crate) fn parameter(&self, name: &str) -> Option<String> {
        let pairs = url::form_urlencoded::parse(self.query.as_bytes());
        pairs.into_iter().find(|(n, _)| n == name).map(|(_, value)| value.into_owned())
    }

    /// The permissions that it needs: group, resource, verb; none for what every authenticated account may
    /// request.
    fn needs(&self) -> Vec<(String, String, &'static str)> {
        let parts: Vec<&str> = self.path.trim_matches('/').split('/').collect();
        let (group, rest) = match parts.as_slice() {
            ["api", "v1", rest @ ..] => ("", rest),
            ["apis", group, _, rest @ ..] => (*group, rest),
            _ => return Vec::new(),
        };
        if group == "authorization.k8s.io" || rest.is_empty() {
            return Vec::new();
        }
        let rest = match rest {
            ["namespaces", _, rest @ ..] if !rest.is_empty() => rest,
            rest => rest,
        };
        let (resource, named) = match rest {
            [resource] => ((*resource).to_owned(), false),
            [resource, _] => ((*resource).to_owned(), true),
            [resource, _, sub] => (format!("{resource}/{sub}"), true),
            _ => panic!("{} is no path of the Kubernetes API", self.path),
        };
        let verbs: &[&str] = match self.method.as_str() {
            "GET" if resource.ends_with("/exec") || resource.ends_with("/portforward") => &["get", "create"],
            "GET" if self.watches() => &["watch"],
            "GET" if named => &["get"],
            "GET" => &["list"],
            "PATCH" => &["patch", "create"],
            "POST" => &["create"],
            "DELETE" => &["delete"],
            other => panic!("the suite does not use {other}"),
        };
        verbs.iter().map(|verb| (group.to_owned(), resource.clone(), *verb)).collect()
    }

    /// A permission that it needs and the table of a run does not have.
    pub(crate) fn beyond_the_table(&self) -> Option<String> {
        self.beyond(permissions::has)
    }

    fn beyond(&self, table: Table) -> Option<String> {
        let missing = |(group, resource, verb): &(String, String, &str)| !table(group, resource, verb);
        self.needs().iter().find(|n| missing(n)).map(|(g, r, v)| format!("{v} {r} in {g:?} ({})", self.path))
    }
}

/// A piece of a body.
pub(crate) type Piece = Result<Bytes, io::Error>;

/// An answer of the API.
pub(crate) enum ApiAnswer {
    /// A whole answer.
    Whole(u16, Vec<(&'static str, String)>, Bytes),
    /// A body piece by piece.
    Pieces(stream::BoxStream<'static, Piece>),
    /// The connection is reset before an answer.
    Reset,
    /// No answer.
    Silence,
}

impl ApiAnswer {
    pub(crate) fn json(value: &Value) -> Self {
        Self::Whole(200, Vec::new(), value.to_string().into())
    }

    /// A failure in the API server's form.
    pub(crate) fn status(code: u16, reason: &str, message: &str) -> Self {
        Self::Whole(code, Vec::new(), status(code, reason, message).to_string().into())
    }

    /// The same about a named object.
    pub(crate) fn absent(name: &str) -> Self {
        let mut answer = status(404, "NotFound", &format!("{name} not found"));
        answer["details"] = json!({ "name": name });
        Self::Whole(404, Vec::new(), answer.to_string().into())
    }

    pub(crate) fn with(self, header: &'static str, value: &str) -> Self {
        match self {
            Self::Whole(code, mut headers, body) => {
                headers.push((header, value.to_owned()));
                Self::Whole(code, headers, body)
            }
            Self::Pieces(_) | Self::Reset | Self::Silence => self,
        }
    }

    /// A list at this version.
    pub(crate) fn list(version: &str, items: &[Value]) -> Self {
        Self::json(&json!({ "metadata": { "resourceVersion": version }, "items": items }))
    }

    /// A watch with these events that then stays open.
    pub(crate) fn events(events: &[Value]) -> Self {
        Self::Pieces(lines(events).chain(stream::pending()).boxed())
    }

    /// A watch with these events that is then reset.
    pub(crate) fn events_then_reset(events: &[Value]) -> Self {
        let reset = stream::once(async { Err(io::Error::from(io::ErrorKind::ConnectionReset)) });
        Self::Pieces(lines(events).chain(reset).boxed())
    }
}

fn lines(events: &[Value]) -> impl Stream<Item = Piece> + use<> {
    let lines: Vec<Piece> = events.iter().map(|e| Ok(format!("{e}\n").into())).collect();
    stream::iter(lines)
}

pub(crate) fn status(code: u16, reason: &str, message: &str) -> Value {
    json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure",
        "code": code, "reason": reason, "message": message,
    })
}

pub(crate) fn event(kind: &str, object: &Value) -> Value {
    json!({ "type": kind, "object": object })
}

/// Whether a table of permissions has a verb for a resource of a group.
type Table = fn(&str, &str, &str) -> bool;

/// A fake API that keeps its requests. When it is dropped, none may have needed a permission beyond the
/// table.
pub(crate) struct FakeApi {
    pub(crate) api: ClusterClient,
    pub(crate) asked: Arc<Mutex<Vec<ApiRequest>>>,
    table: Table,
}

impl FakeApi {
    /// The same for what only reads.
    pub(crate) fn reading(answer: impl FnMut(&ApiRequest) -> ApiAnswer + Send + 'static) -> Self {
        let mut api = Self::with(Timeouts::default(), answer);
        api.table = permissions::reads;
        api
    }

    /// An API with these answers.
    pub(crate) fn answering(answer: impl FnMut(&ApiRequest) -> ApiAnswer + Send + 'static) -> Self {
        Self::with(Timeouts::default(), answer)
    }

    pub(crate) fn with(
        timeouts: Timeouts,
        answer: impl FnMut(&ApiRequest) -> ApiAnswer + Send + 'static,
    ) -> Self {
        let asked: Arc<Mutex<Vec<ApiRequest>>> = Arc::default();
        let keep = Arc::clone(&asked);
        let answer = Arc::new(Mutex::new(answer));
        let service = tower::service_fn(move |request: Request<Body>| {
            let (keep, answer) = (Arc::clone(&keep), Arc::clone(&answer));
            async move {
                let (parts, body) = request.into_parts();
                let body = body.collect().await.map(|b| b.to_bytes()).unwrap_or_default();
                let one = ApiRequest {
                    method: parts.method.to_string(),
                    path: parts.uri.path().to_owned(),
                    query: parts.uri.query().unwrap_or_default().to_owned(),
                    accept: parts.headers.get("accept").map_or("", |a| a.to_str().unwrap()).to_owned(),
                    body: serde_json::from_slice(&body).unwrap_or_default(),
                };
                keep.lock().unwrap().push(one.clone());
                let answer = (answer.lock().unwrap())(&one);
                respond(answer).await
            }
        });
        let api = ClusterClient::with_client(kube::Client::new(service, "default"), timeouts);
        Self { api, asked, table: permissions::has }
    }

    /// All requests so far.
    pub(crate) fn asked(&self) -> Vec<ApiRequest> {
        self.asked.lock().unwrap().clone()
    }
}

impl Drop for FakeApi {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let asked = self.asked();
            let beyond: Vec<String> = asked.iter().filter_map(|one| one.beyond(self.table)).collect();
            assert!(beyond.is_empty(), "not in the table of permissions: {beyond:?}");
        }
    }
}

type Answered = Response<StreamBody<stream::BoxStream<'static, Result<Frame<Bytes>, io::Error>>>>;

async fn respond(answer: ApiAnswer) -> Result<Answered, io::Error> {
    let whole = |bytes: Bytes| stream::once(async { Ok::<_, io::Error>(bytes) }).boxed();
    let (code, headers, pieces) = match answer {
        ApiAnswer::Whole(code, headers, bytes) => (code, headers, whole(bytes)),
        ApiAnswer::Pieces(pieces) => (200, Vec::new(), pieces),
        ApiAnswer::Reset => return Err(io::Error::from(io::ErrorKind::ConnectionReset)),
        ApiAnswer::Silence => match std::future::pending::<Infallible>().await {},
    };
    let mut response = Response::builder().status(code);
    for (name, value) in headers {
        response = response.header(name, value);
    }
    let body = StreamBody::new(pieces.map(|piece| piece.map(Frame::data)).boxed());
    response.body(body).map_err(io::Error::other)
}

/// Istio's groups, served in these versions.
pub(crate) fn discovery(asked: &ApiRequest) -> Option<ApiAnswer> {
    if asked.path == "/apis" {
        let group = |name: &str| {
            let version = format!("{name}/v1");
            json!({ "name": name, "versions": [{ "groupVersion": version, "version": "v1" }] })
        };
        let groups = ["networking.istio.io", "security.istio.io", "telemetry.istio.io"].map(group);
        return Some(ApiAnswer::json(&json!({ "groups": groups })));
    }
    let names: &[&str] = match asked.path.as_str() {
        "/apis/networking.istio.io/v1" => &[
            "destinationrules",
            "gateways",
            "serviceentries",
            "sidecars",
            "virtualservices",
            "workloadentries",
        ],
        "/apis/security.istio.io/v1" => &["authorizationpolicies", "peerauthentications"],
        "/apis/telemetry.istio.io/v1" => &["telemetries"],
        _ => return None,
    };
    let resources: Vec<Value> = names.iter().map(|n| json!({ "name": n })).collect();
    let group_version = asked.path.trim_start_matches("/apis/");
    Some(ApiAnswer::json(&json!({ "groupVersion": group_version, "resources": resources })))
}
