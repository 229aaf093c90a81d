//! A Kubernetes API with fixed answers, over plain HTTP on this machine.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tempfile::TempDir;

/// Answers until the process ends.
pub(crate) struct FakeApi {
    folder: TempDir,
    asked: Arc<Mutex<Vec<String>>>,
}

impl FakeApi {
    /// Each path with the items of its list, or with an object. Any other list is empty, any other object is missing.
    pub(crate) fn with(answers: BTreeMap<&'static str, Value>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let keep = Arc::clone(&asked);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                // A client may go at any time.
                let _gone = serve(stream, &answers, &keep);
            }
        });
        let folder = TempDir::new().unwrap();
        let kubeconfig = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "test",
            "clusters": [{"name": "c", "cluster": {"server": format!("http://127.0.0.1:{port}")}}],
            "users": [{"name": "u", "user": {}}],
            "contexts": [{"name": "test", "context": {"cluster": "c", "user": "u"}}],
        });
        std::fs::write(folder.path().join("config"), kubeconfig.to_string()).unwrap();
        Self { folder, asked }
    }

    /// The file that leads to it.
    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.folder.path().join("config")
    }

    /// `GET /api/v1/pods`, in order.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

fn serve(
    mut stream: TcpStream,
    answers: &BTreeMap<&str, Value>,
    asked: &Mutex<Vec<String>>,
) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let request = lines.next().transpose()?.unwrap_or_default();
    for line in lines.by_ref() {
        if line?.is_empty() {
            break;
        }
    }
    let mut words = request.split(' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let path = target.split('?').next().unwrap_or_default();
    asked.lock().unwrap().push(format!("{method} {path}"));
    let (status, body) = match answers.get(path) {
        Some(Value::Array(items)) => {
            ("200 OK", json!({"metadata": {"resourceVersion": "1"}, "items": items}))
        }
        Some(object) => ("200 OK", object.clone()),
        None => other(path),
    };
    let body = body.to_string();
    write!(
        stream,
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

fn other(path: &str) -> (&'static str, Value) {
    let networking: Vec<Value> = [
        "destinationrules",
        "gateways",
        "serviceentries",
        "sidecars",
        "virtualservices",
        "workloadentries",
    ]
    .map(|name| json!({"name": name, "kind": name, "namespaced": true, "singularName": "", "verbs": []}))
    .into();
    match path {
        "/apis" => {
            let version = json!({"groupVersion": "networking.istio.io/v1", "version": "v1"});
            ("200 OK", json!({"groups": [{"name": "networking.istio.io", "versions": [version]}]}))
        }
        "/apis/networking.istio.io/v1" => {
            ("200 OK", json!({"groupVersion": "networking.istio.io/v1", "resources": networking}))
        }
        // The name of an object comes after its kind.
        path if path.contains("/secrets/") || path.contains("/configmaps/") => (
            "404 Not Found",
            json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 404,
                "reason": "NotFound", "message": "not found", "metadata": {}, "details": {"name": "x"}}),
        ),
        _ => ("200 OK", json!({"metadata": {"resourceVersion": "1"}, "items": []})),
    }
}
