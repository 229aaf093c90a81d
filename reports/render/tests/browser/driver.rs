//! A browser for tests. Starts chromedriver, controls it with the WebDriver protocol (W3C, "WebDriver"), and
//! stops it with all its processes, even if a test panics.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use futures_util::FutureExt as _;
use http_body_util::{BodyExt as _, Full};
use hyper::Request;
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::sync::Semaphore;

/// Timeout until chromedriver listens.
const DRIVER_READY: Duration = Duration::from_secs(30);
/// Timeout for one command; the first command starts the browser.
const ANSWERED: Duration = Duration::from_secs(60);
/// Timeout until a condition on a page holds.
const CONDITION: Duration = Duration::from_secs(20);

/// The number of concurrent browsers. More browsers than processors slow each other down.
static SEATS: Semaphore = Semaphore::const_new(2);

/// A browser with one page.
pub(crate) struct BrowserPage {
    port: u16,
    session: String,
    folder: TempDir,
    /// Killed on drop, after its browser has exited.
    _driver: Child,
}

/// Whether a browser is installed. If not, prints a message, and panics if `MESHPROOF_REQUIRE_INSTALLED` is
/// 1.
pub(crate) fn there_is_a_browser() -> bool {
    let missing: Vec<&str> =
        ["chromium", "chromedriver"].into_iter().filter(|p| which::which(p).is_err()).collect();
    if missing.is_empty() {
        return true;
    }
    let reason = format!("skipped: not on PATH: {}", missing.join(", "));
    assert!(std::env::var_os("MESHPROOF_REQUIRE_INSTALLED").is_none_or(|v| v != "1"), "{reason}");
    eprintln!("{reason}");
    false
}

/// Runs a test in its own browser.
pub(crate) async fn with_browser<F: Future<Output = ()>>(
    test: impl FnOnce(std::sync::Arc<BrowserPage>) -> F,
) {
    if !there_is_a_browser() {
        return;
    }
    let _seat = SEATS.acquire().await.unwrap();
    let page = std::sync::Arc::new(BrowserPage::start().await);
    let outcome = AssertUnwindSafe(test(std::sync::Arc::clone(&page))).catch_unwind().await;
    page.end().await;
    if let Err(panic) = outcome {
        std::panic::resume_unwind(panic);
    }
}

impl BrowserPage {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut driver = Command::new("chromedriver")
            .arg("--port=0")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(driver.stdout.take().unwrap()).lines();
        let port = tokio::time::timeout(DRIVER_READY, async {
            loop {
                let line = lines.next_line().await.unwrap().expect("chromedriver exited");
                if let Some((_, port)) = line.split_once("successfully on port ") {
                    return port.trim_end_matches('.').parse().unwrap();
                }
            }
        })
        .await
        .expect("chromedriver did not print its port in time");
        // Reads the remaining output, so that the pipe does not fill.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        let profile = folder.path().join("profile");
        let arguments = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--window-size=1440,1000",
            &format!("--user-data-dir={}", profile.display()),
        ];
        let wanted = json!({"capabilities": {"alwaysMatch": {
            "goog:chromeOptions": {"args": arguments},
            "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"},
            "unhandledPromptBehavior": "ignore",
        }}});
        let answer = call(port, "POST", "/session", &wanted).await.unwrap();
        let session = answer["sessionId"].as_str().unwrap().to_owned();
        let page = Self { port, session, folder, _driver: driver };
        // The browser's start page loads resources that do not belong to the report.
        page.command("POST", "/url", json!({"url": "about:blank"})).await;
        page
    }

    async fn end(&self) {
        let _already_closed =
            call(self.port, "DELETE", &format!("/session/{}", self.session), &Value::Null).await;
    }

    /// A command of this session.
    ///
    /// # Panics
    /// The browser returns an error: a prompt is open, a script threw.
    pub(crate) async fn command(&self, method: &str, path: &str, body: Value) -> Value {
        let path = format!("/session/{}{path}", self.session);
        call(self.port, method, &path, &body).await.unwrap_or_else(|e| panic!("{method} {path}: {e}"))
    }

    /// Writes a page to a file and opens it with this fragment (with its `#`). Returns when the page's script
    /// has run.
    pub(crate) async fn open(&self, html: &str, hash: &str) {
        let file = self.folder.path().join("page.html");
        std::fs::write(&file, html).unwrap();
        self.go(&file, hash).await;
    }

    async fn go(&self, file: &Path, hash: &str) {
        // A change of only the fragment would not reload the page.
        self.command("POST", "/url", json!({"url": "about:blank"})).await;
        self.command("POST", "/url", json!({"url": format!("file://{}{hash}", file.display())})).await;
        self.until("return document.documentElement.dataset.ready === 'yes'").await;
    }

    /// Runs a function body in the page.
    pub(crate) async fn run(&self, script: &str) -> Value {
        self.command("POST", "/execute/sync", json!({"script": script, "args": []})).await
    }

    /// Runs a function body that calls its last argument with the result.
    pub(crate) async fn run_async(&self, script: &str) -> Value {
        self.command("POST", "/execute/async", json!({"script": script, "args": []})).await
    }

    /// Waits until a function body returns true.
    pub(crate) async fn until(&self, script: &str) {
        let holds = async {
            while self.run(script).await != json!(true) {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(CONDITION, holds)
            .await
            .unwrap_or_else(|_| panic!("timed out after {CONDITION:?} waiting for: {script}"));
    }

    /// A command of the DevTools protocol.
    pub(crate) async fn devtools(&self, command: &str, parameters: Value) -> Value {
        self.command("POST", "/goog/cdp/execute", json!({"cmd": command, "params": parameters})).await
    }

    /// Sets the viewport size in pixels and the preferred colour scheme.
    pub(crate) async fn look(&self, width: u32, height: u32, scheme: &str) {
        let size = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false});
        self.devtools("Emulation.setDeviceMetricsOverride", size).await;
        let features = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
        self.devtools("Emulation.setEmulatedMedia", features).await;
    }

    /// The messages of the page's console.
    pub(crate) async fn console(&self) -> Vec<String> {
        let log = self.command("POST", "/se/log", json!({"type": "browser"})).await;
        log.as_array().unwrap().iter().map(|entry| entry["message"].as_str().unwrap().to_owned()).collect()
    }

    /// The URLs that the page has requested since the last call.
    pub(crate) async fn requests(&self) -> Vec<String> {
        let log = self.command("POST", "/se/log", json!({"type": "performance"})).await;
        let entries = log.as_array().unwrap().iter();
        let messages =
            entries.map(|e| serde_json::from_str::<Value>(e["message"].as_str().unwrap()).unwrap());
        let sent = messages.filter(|m| m["message"]["method"] == "Network.requestWillBeSent");
        sent.map(|m| m["message"]["params"]["request"]["url"].as_str().unwrap().to_owned()).collect()
    }
}

async fn call(port: u16, method: &str, path: &str, body: &Value) -> Result<Value, String> {
    let exchange = async {
        let stream = TcpStream::connect(("127.0.0.1", port)).await.map_err(|e| e.to_string())?;
        let (mut send, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|e| e.to_string())?;
        tokio::spawn(connection);
        let bytes = if body.is_null() { Bytes::new() } else { Bytes::from(body.to_string()) };
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", format!("127.0.0.1:{port}"))
            .header("content-type", "application/json")
            .body(Full::new(bytes))
            .map_err(|e| e.to_string())?;
        let response = send.send_request(request).await.map_err(|e| e.to_string())?;
        let success = response.status().is_success();
        let bytes = response.into_body().collect().await.map_err(|e| e.to_string())?.to_bytes();
        let mut answer: Value = serde_json::from_slice(&bytes).map_err(|e| e.to_string())?;
        let value = answer["value"].take();
        if success { Ok(value) } else { Err(value["message"].as_str().unwrap_or_default().to_owned()) }
    };
    tokio::time::timeout(ANSWERED, exchange)
        .await
        .unwrap_or_else(|_| Err(format!("timed out after {ANSWERED:?} waiting for chromedriver to answer")))
}
