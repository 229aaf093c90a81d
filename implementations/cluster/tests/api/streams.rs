//! Programs, logs and forwarded ports over connections that break.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use meshproof_cluster::api::{ApiError, ExecLimits, ExecOutput, LogEnd, PodRef};
use serde_json::{Value, json};

use crate::server::{Channels, FakeApiServer, Reply};

fn sleep_pod() -> PodRef {
    PodRef { namespace: "mp-1".into(), pod: "sleep-1".into(), container: "sleep".into() }
}

fn limits() -> ExecLimits {
    ExecLimits { stdout: 1024, stderr: 1024, time: Duration::from_secs(20) }
}

async fn exec(server: &FakeApiServer, stdin: &str, limits: ExecLimits) -> Result<ExecOutput, ApiError> {
    let argv = ["curl".to_owned(), "--silent".to_owned()];
    server.api.exec(&sleep_pod(), &argv, Bytes::copy_from_slice(stdin.as_bytes()), limits).await
}

fn success() -> Value {
    json!({ "metadata": {}, "status": "Success" })
}

/// Reads the program's standard input until the client closes it.
async fn read_stdin(channels: &mut Channels) -> Vec<u8> {
    let mut read = Vec::new();
    while let Some((channel, bytes)) = channels.next().await {
        match channel {
            0 => read.extend_from_slice(&bytes),
            255 => break,
            other => panic!("channel {other}"),
        }
    }
    read
}

#[tokio::test]
async fn a_program_is_fed_and_read_to_its_end() {
    let server = FakeApiServer::answering(|asked| {
        assert_eq!(asked.path, "/api/v1/namespaces/mp-1/pods/sleep-1/exec");
        assert_eq!(asked.parameter("container").as_deref(), Some("sleep"));
        Reply::switch(async |mut channels| {
            let stdin = read_stdin(&mut channels).await;
            channels.send(1, [b"got ", stdin.as_slice()].concat()).await;
            channels.send(2, b"warned").await;
            channels.exit(&success()).await;
        })
    })
    .await;
    let output = exec(&server, "a body", limits()).await.unwrap();
    assert_eq!(output.stdout, "got a body");
    assert_eq!(output.stderr, "warned");
    assert_eq!((output.code, output.truncated), (Some(0), false));
}

#[tokio::test]
async fn a_program_that_fails_returns_its_exit_code() {
    let server = FakeApiServer::answering(|_| {
        Reply::switch(async |mut channels| {
            let causes = json!([{ "reason": "ExitCode", "message": "28" }]);
            channels
                .exit(&json!({ "status": "Failure", "reason": "NonZeroExitCode", "details": { "causes":
                    causes } }))
                .await;
        })
    })
    .await;
    assert_eq!(exec(&server, "", limits()).await.unwrap().code, Some(28));
}

#[tokio::test]
async fn output_beyond_the_limit_is_cut_and_the_program_is_not_held_up() {
    let server = FakeApiServer::answering(|_| {
        Reply::switch(async |mut channels| {
            for _ in 0..200 {
                channels.send(1, [b'x'; 4096]).await;
            }
            channels.exit(&success()).await;
        })
    })
    .await;
    let output = exec(&server, "", limits()).await.unwrap();
    assert_eq!((output.stdout.len(), output.truncated, output.code), (1024, true, Some(0)));
}

#[tokio::test]
async fn a_broken_connection_is_reported_and_the_program_is_not_run_again() {
    let server = FakeApiServer::answering(|_| {
        Reply::switch(async |mut channels| channels.send(1, b"half an ans").await)
    })
    .await;
    let error = exec(&server, "", limits()).await.unwrap_err();
    assert!(matches!(error, ApiError::Exec(_)), "{error}");
    assert!(error.to_string().contains("how it ended is unknown"), "{error}");
    assert_eq!(server.asked().len(), 1);
}

#[tokio::test]
async fn a_program_that_the_api_server_turned_away_is_retried_and_one_that_failed_is_not() {
    let mut turned_away = 2;
    let server = FakeApiServer::answering(move |_| {
        if turned_away > 0 {
            turned_away -= 1;
            return Reply::status(429, "TooManyRequests", "slow down");
        }
        Reply::switch(async |mut channels| channels.exit(&success()).await)
    })
    .await;
    assert_eq!(exec(&server, "", limits()).await.unwrap().code, Some(0));
    assert_eq!(server.asked().len(), 3);
    let server =
        FakeApiServer::answering(|_| Reply::status(500, "InternalError", "error dialing backend")).await;
    let error = exec(&server, "", limits()).await.unwrap_err();
    assert!(error.to_string().contains("kubectl exec"), "{error}");
    assert_eq!(server.asked().len(), 1);
}

#[tokio::test]
async fn a_missing_permission_to_run_programs_is_named() {
    let server = FakeApiServer::answering(|_| {
        Reply::status(403, "Forbidden", "User \"a\" cannot create resource \"pods/exec\"")
    })
    .await;
    let error = exec(&server, "", limits()).await.unwrap_err();
    assert!(matches!(&error, ApiError::Forbidden(words) if words.contains("pods/exec")), "{error}");
}

#[tokio::test]
async fn a_program_that_does_not_exit_is_given_up_within_the_timeout() {
    let server =
        FakeApiServer::answering(|_| Reply::switch(async |_channels| std::future::pending().await)).await;
    let error =
        exec(&server, "", ExecLimits { time: Duration::from_millis(200), ..limits() }).await.unwrap_err();
    assert!(error.to_string().contains("did not end within"), "{error}");
}

#[tokio::test]
async fn a_program_that_cannot_be_started_is_reported_with_the_reason() {
    let server = FakeApiServer::answering(|_| {
        Reply::switch(async |mut channels| {
            let message = "OCI runtime exec failed: \"curl\": executable file not found in $PATH";
            channels
                .exit(&json!({ "status": "Failure", "reason": "InternalError", "message": message }))
                .await;
        })
    })
    .await;
    let error = exec(&server, "", limits()).await.unwrap_err();
    assert!(error.to_string().contains("executable file not found"), "{error}");
}

type Seen = Arc<Mutex<Vec<String>>>;

/// A sink for lines.
fn sink() -> (Seen, impl Fn(&[u8]) + Send + Sync + 'static) {
    let seen = Seen::default();
    let keep = Arc::clone(&seen);
    (seen, move |line: &[u8]| keep.lock().unwrap().push(String::from_utf8_lossy(line).into_owned()))
}

fn running_pod(state: &Value) -> Reply {
    let statuses = json!([{ "name": "sleep", "state": state }]);
    Reply::Whole(200, json!({ "status": { "containerStatuses": statuses } }).to_string().into())
}

fn stream(lines: &str, ends_well: bool) -> Reply {
    Reply::Stream { bytes: Bytes::copy_from_slice(lines.as_bytes()), ends_well }
}

#[tokio::test]
async fn a_log_that_is_reset_within_a_line_resumes_with_every_line_whole_once_and_in_order() {
    const A: &str = "2026-01-01T00:00:05.1Z a\n";
    const B: &str = "2026-01-01T00:00:05.2Z b is long\n";
    const C: &str = "2026-01-01T00:00:06.3Z c\n";
    let mut streams = 0;
    let server = FakeApiServer::answering(move |asked| {
        if !asked.path.ends_with("/log") {
            let ended = json!({ "terminated": { "exitCode": 0, "reason": "Completed" } });
            return running_pod(&if streams < 3 { json!({ "running": {} }) } else { ended });
        }
        streams += 1;
        match streams {
            1 => stream(&format!("{A}{}", &B[..30]), false),
            2 => stream(&format!("{A}{B}"), true),
            _ => stream(&format!("{A}{B}{C}"), true),
        }
    })
    .await;
    let (seen, sink) = sink();
    let since: Timestamp = "2026-01-01T00:00:00.5Z".parse().unwrap();
    let follower = server.api.follow_logs(&sleep_pod(), since, sink);
    let end = tokio::time::timeout(Duration::from_secs(20), follower.wait()).await.unwrap();
    assert_eq!(end, LogEnd::ContainerEnded("mp-1/sleep-1 (sleep) ended with 0 Completed".to_owned()));
    assert_eq!(*seen.lock().unwrap(), ["a", "b is long", "c"]);
    let since: Vec<_> = server.asked().iter().filter_map(|a| a.parameter("sinceTime")).collect();
    assert_eq!(since[..2], ["2026-01-01T00:00:00Z", "2026-01-01T00:00:04Z"]);
}

/// Follows the log of a container that has ended. Its streams, which all end properly, are these and then the
/// last one again and again; returns the lines.
async fn lines_of_an_ended_container(streams: &'static [&'static str]) -> Vec<String> {
    let mut number = 0;
    let server = FakeApiServer::answering(move |asked| {
        if !asked.path.ends_with("/log") {
            return running_pod(&json!({ "terminated": { "exitCode": 0 } }));
        }
        number += 1;
        stream(streams[number.min(streams.len()) - 1], true)
    })
    .await;
    let (seen, sink) = sink();
    let follower = server.api.follow_logs(&sleep_pod(), Timestamp::UNIX_EPOCH, sink);
    let end = tokio::time::timeout(Duration::from_secs(20), follower.wait()).await.unwrap();
    assert!(matches!(end, LogEnd::ContainerEnded(_)), "{end:?}");
    let lines = seen.lock().unwrap();
    lines.clone()
}

#[tokio::test]
async fn the_last_line_of_a_program_is_handed_on_even_without_a_line_feed_or_cut_in_transit() {
    const WHOLE: &str = "2026-01-01T00:00:05.1Z a\n2026-01-01T00:00:05.2Z the last\n";
    const CUT: &[&str] = &[WHOLE.split_at(30).0, WHOLE.split_at(55).0, WHOLE];
    let without_end: &[&str] = &["2026-01-01T00:00:05.1Z a\n2026-01-01T00:00:05.2Z the last"];
    assert_eq!(lines_of_an_ended_container(without_end).await, ["a", "the last"]);
    assert_eq!(lines_of_an_ended_container(CUT).await, ["a", "the last"]);
}

#[tokio::test]
async fn a_log_whose_pod_is_gone_has_ended() {
    let server = FakeApiServer::answering(|asked| {
        let mut answer = crate::service::status(404, "NotFound", "pods \"sleep-1\" not found");
        answer["details"] = json!({ "name": "sleep-1" });
        assert!(asked.path.contains("sleep-1"));
        Reply::Whole(404, answer.to_string().into())
    })
    .await;
    let (_, sink) = sink();
    let follower = server.api.follow_logs(&sleep_pod(), Timestamp::UNIX_EPOCH, sink);
    assert!(matches!(follower.wait().await, LogEnd::ContainerEnded(words) if words.contains("is gone")));
}

#[tokio::test]
async fn a_log_without_permission_ends_with_that_reason() {
    let server = FakeApiServer::answering(|asked| {
        if asked.path.ends_with("/log") {
            return Reply::status(403, "Forbidden", "User \"a\" cannot get resource \"pods/log\"");
        }
        running_pod(&json!({ "running": {} }))
    })
    .await;
    let (_, sink) = sink();
    let follower = server.api.follow_logs(&sleep_pod(), Timestamp::UNIX_EPOCH, sink);
    assert!(matches!(follower.wait().await, LogEnd::Broken(words) if words.contains("pods/log")));
}

#[tokio::test]
async fn following_a_log_can_be_stopped() {
    let server = FakeApiServer::answering(|asked| {
        if asked.path.ends_with("/log") {
            stream("2026-01-01T00:00:05.1Z a\n", true)
        } else {
            running_pod(&json!({}))
        }
    })
    .await;
    let (_, sink) = sink();
    let follower = server.api.follow_logs(&sleep_pod(), Timestamp::UNIX_EPOCH, sink);
    assert_eq!(follower.ended(), None);
    assert_eq!(follower.stop().await, LogEnd::Stopped);
}

/// The pod's end of a forwarded port: takes a request, answers, and ends.
async fn answer_over(mut channels: Channels, answer: &str) {
    // Each channel begins with its port, little-endian.
    let port = 15000_u16.to_le_bytes();
    channels.send(0, port).await;
    channels.send(1, port).await;
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        let Some((0, bytes)) = channels.next().await else { return };
        request.extend_from_slice(&bytes);
    }
    assert!(request.starts_with(b"GET /config_dump HTTP/1.1\r\n"));
    channels.send(0, answer).await;
    // Until the client is gone.
    while channels.next().await.is_some() {}
}

async fn config_dump(server: &FakeApiServer, most: usize) -> Result<Bytes, ApiError> {
    server.api.pod_get(&sleep_pod(), 15000, "/config_dump", most).await
}

fn forwarding(answer: &'static str) -> impl std::future::Future<Output = FakeApiServer> {
    FakeApiServer::answering(move |asked| {
        assert_eq!(asked.parameter("ports").as_deref(), Some("15000"));
        Reply::switch(move |channels| answer_over(channels, answer))
    })
}

#[tokio::test]
async fn a_port_of_a_pod_is_reached_over_the_api_server() {
    let server = forwarding("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\ndump").await;
    assert_eq!(config_dump(&server, 1024).await.unwrap(), "dump");
}

#[tokio::test]
async fn an_answer_of_a_pod_that_is_too_long_or_not_a_success_is_an_error() {
    let server = forwarding("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nvery long").await;
    let error = config_dump(&server, 4).await.unwrap_err();
    assert!(error.to_string().contains("more than 4 bytes"), "{error}");
    let server = forwarding("HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n").await;
    let error = config_dump(&server, 4).await.unwrap_err();
    assert!(error.to_string().contains("status 503"), "{error}");
}

#[tokio::test]
async fn a_closed_port_is_reported_in_the_kubelets_words() {
    let server = FakeApiServer::answering(|_| {
        Reply::switch(async |mut channels: Channels| {
            let port = 15000_u16.to_le_bytes();
            channels.send(0, port).await;
            channels.send(1, port).await;
            channels.send(1, b"connection refused").await;
            while channels.next().await.is_some() {}
        })
    })
    .await;
    let error = config_dump(&server, 4).await.unwrap_err();
    assert!(error.to_string().contains("connection refused"), "{error}");
    assert!(error.to_string().contains("kubectl port-forward"), "{error}");
}
