//! Programs run in containers.

use std::convert::Infallible;
use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{self, Either, OptionFuture};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status;
use kube::api::{AttachParams, AttachedProcess};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};

use super::client::{ClusterClient, PodRef};
use super::error::{ApiError, Subject, chain};

/// The size of the pipe between the connection and its reader, in bytes.
const PIPE: usize = 64 * 1024;

/// How much output is kept, and how long a program may take.
#[derive(Clone, Copy, Debug)]
pub struct ExecLimits {
    /// Bytes of standard output that are kept.
    pub stdout: usize,
    /// Bytes of standard error that are kept.
    pub stderr: usize,
    /// From the request to the exit code.
    pub time: Duration,
}

/// The output of a program, and how it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExecOutput {
    /// Standard output, up to the limit.
    pub stdout: Bytes,
    /// Standard error, up to the limit.
    pub stderr: Bytes,
    /// The exit code; none where the runtime did not report it.
    pub code: Option<i32>,
    /// Whether either was cut at its limit.
    pub truncated: bool,
}

impl ClusterClient {
    /// Runs a program in a container. A program that fails is not an error: the exit code says so. It is
    /// never run twice: only a request that was turned away (429) is repeated.
    ///
    /// # Errors
    /// [`ApiError::Exec`]: it could not be started, or the connection broke before its exit code arrived;
    /// then it may have run.
    pub async fn exec(
        &self,
        pod: &PodRef,
        argv: &[String],
        stdin: Bytes,
        limits: ExecLimits,
    ) -> Result<ExecOutput, ApiError> {
        let program = argv.first().map_or("a program", String::as_str);
        let running = async {
            let process = self.begin(pod, argv, !stdin.is_empty()).await?;
            until_it_ends(process, stdin, limits).await.map_err(|words| {
                ApiError::Exec(format!(
                    "{program} in {}/{} ({}): {words}; it may have run, so it was not run again; run again, \
                     and see \
                     `kubectl describe pod -n {} {}`",
                    pod.namespace, pod.pod, pod.container, pod.namespace, pod.pod
                ))
            })
        };
        tokio::time::timeout(limits.time, running).await.unwrap_or_else(|_| {
            Err(ApiError::Exec(format!(
                "{program} in {}/{} ({}) did not end within {:?}; raise the timeout that bounds it, or see \
                 `kubectl describe pod -n {} {}`",
                pod.namespace, pod.pod, pod.container, limits.time, pod.namespace, pod.pod
            )))
        })
    }

    pub(super) async fn begin(
        &self,
        pod: &PodRef,
        argv: &[String],
        stdin: bool,
    ) -> Result<AttachedProcess, ApiError> {
        let pods: kube::Api<Pod> = kube::Api::namespaced(self.kube(), &pod.namespace);
        let parameters = AttachParams::default()
            .container(&pod.container)
            .stdin(stdin)
            .stdout(true)
            .stderr(true)
            .max_stdin_buf_size(PIPE)
            .max_stdout_buf_size(PIPE)
            .max_stderr_buf_size(PIPE);
        let what = format!("pod {}/{}", pod.namespace, pod.pod);
        pods.exec(&pod.pod, argv, &parameters).await.map_err(|e| {
            let error = Subject::new(&what).error(e);
            let ApiError::Unavailable(words) = error else { return error };
            ApiError::Exec(format!(
                "no program can be run in {what} ({words}); see `kubectl exec -n {} {} -c {} -- true`",
                pod.namespace, pod.pod, pod.container
            ))
        })
    }
}

/// Feeds and reads a program until its exit code has arrived.
async fn until_it_ends(
    mut process: AttachedProcess,
    stdin: Bytes,
    limits: ExecLimits,
) -> Result<ExecOutput, String> {
    let reported = OptionFuture::from(process.take_status());
    let read = future::join(read(process.stdout(), limits.stdout), read(process.stderr(), limits.stderr));
    let pipe = process.stdin();
    // The end of its input can be sent since Kubernetes 1.30, which is why the doctor asks for that: the
    // older protocol (v4) closes the whole connection instead. A program need not read its input.
    let fed = async {
        if let Some(mut pipe) = pipe {
            let _closed = pipe.write_all(&stdin).await;
            let _closed = pipe.shutdown().await;
        }
        future::pending::<Infallible>().await
    };
    let ended = async {
        // When the connection breaks, kube ends without closing the pipes: then no status comes.
        match future::select(pin!(read), pin!(reported)).await {
            Either::Left((output, reported)) => (reported.await.flatten(), Some(output)),
            Either::Right((reported, read)) => match reported.flatten() {
                Some(status) => (Some(status), Some(read.await)),
                None => (None, None),
            },
        }
    };
    let (status, output) = tokio::select! {
        ended = ended => ended,
        never = fed => match never {},
    };
    let (Some(status), Some((stdout, stderr))) = (status, output) else {
        let why = match process.join().await {
            Ok(()) => "the connection was closed".to_owned(),
            Err(e) => chain(&e),
        };
        return Err(format!("how it ended is unknown: {why}"));
    };
    let code = exit_code(&status)?;
    Ok(ExecOutput { truncated: stdout.1 || stderr.1, stdout: stdout.0, stderr: stderr.0, code })
}

/// Keeps the beginning and reads on to the end, so that the program is not held up.
async fn read(pipe: Option<impl AsyncRead + Unpin>, most: usize) -> (Bytes, bool) {
    let Some(mut pipe) = pipe else { return (Bytes::new(), false) };
    let mut kept = Vec::new();
    let mut cut = false;
    let mut buffer = vec![0; PIPE];
    // An error is the end of the connection, which shows in the missing status.
    while let Ok(count @ 1..) = pipe.read(&mut buffer).await {
        let room = (most - kept.len()).min(count);
        kept.extend_from_slice(&buffer[..room]);
        cut |= room < count;
    }
    (kept.into(), cut)
}

/// Kubernetes reports the end of a program as a `Status`: success, or the reason `NonZeroExitCode` with the
/// code among its causes.
fn exit_code(status: &Status) -> Result<Option<i32>, String> {
    if status.status.as_deref() == Some("Success") {
        return Ok(Some(0));
    }
    if status.reason.as_deref() == Some("NonZeroExitCode") {
        let causes = status.details.iter().filter_map(|d| d.causes.as_ref()).flatten();
        let code =
            causes.filter(|c| c.reason.as_deref() == Some("ExitCode")).find_map(|c| c.message.as_ref());
        return Ok(code.and_then(|c| c.parse().ok()));
    }
    let words = status.message.clone().unwrap_or_else(|| "no reason was given".to_owned());
    Err(meshproof_harness::store::bounded(&words, 2048))
}
