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
use tokio::time::{Instant, sleep};

use super::question::{Question, chain};
use super::{Api, ApiError, PodRef, upgrade_error};

/// The pipe between the connection and whoever reads.
const PIPE: usize = 64 * 1024;
/// Tries after the first where the API server turned the request away before anything could run.
const TRIES: u32 = 4;
const PAUSE: Duration = Duration::from_millis(250);

/// How much and how long.
#[derive(Clone, Copy, Debug)]
pub struct ExecLimits {
    /// Bytes of standard output that are kept.
    pub stdout: usize,
    /// Bytes of standard error that are kept.
    pub stderr: usize,
    /// From the request to the exit code.
    pub time: Duration,
}

/// What a program said, and how it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExecOutput {
    /// Standard output, at most as much as was asked for.
    pub stdout: Bytes,
    /// Standard error, likewise.
    pub stderr: Bytes,
    /// The exit code; none where the runtime did not tell it.
    pub code: Option<i32>,
    /// Whether either was cut off.
    pub truncated: bool,
}

impl Api {
    /// Runs a program in a container. That it fails is no error: the exit code says so. It is never run twice: only a request
    /// that was turned away (429) is sent again.
    ///
    /// # Errors
    /// [`ApiError::Exec`]: it could not be started, or the connection broke before its end was told; it may have run then.
    pub async fn exec(
        &self,
        pod: &PodRef,
        argv: &[String],
        stdin: Bytes,
        limits: ExecLimits,
    ) -> Result<ExecOutput, ApiError> {
        let program = argv.first().map_or("a program", String::as_str);
        let running = async {
            let process = self.begin(pod, argv, !stdin.is_empty(), limits.time).await?;
            attend(process, stdin, limits).await.map_err(|words| {
                ApiError::Exec(format!(
                    "{program} in {}/{} ({}): {words}; it may have run, so it was not run again; run again, and see \
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

    async fn begin(
        &self,
        pod: &PodRef,
        argv: &[String],
        stdin: bool,
        time: Duration,
    ) -> Result<AttachedProcess, ApiError> {
        let pods: kube::Api<Pod> = kube::Api::namespaced(self.inner.client.clone(), &pod.namespace);
        let parameters = AttachParams::default()
            .container(&pod.container)
            .stdin(stdin)
            .stdout(true)
            .stderr(true)
            .max_stdin_buf_size(PIPE)
            .max_stdout_buf_size(PIPE)
            .max_stderr_buf_size(PIPE);
        let what = format!("pod {}/{}", pod.namespace, pod.pod);
        let question = Question {
            // WebSocket's handshake is a GET, and so is what the API server judges it as; newer ones ask for create too.
            verb: "create",
            namespace: Some(pod.namespace.clone()),
            ..Question::get(String::new(), "pods/exec", &what)
        };
        let deadline = Instant::now() + time;
        let mut tried = 0;
        loop {
            let e = match pods.exec(&pod.pod, argv, &parameters).await {
                Ok(process) => return Ok(process),
                Err(e) => e,
            };
            let wait = PAUSE * 2_u32.pow(tried);
            let turned_away = matches!(&e, kube::Error::Api(status) if status.code == 429);
            if !turned_away || tried >= TRIES || Instant::now() + wait >= deadline {
                let error = upgrade_error(&question, e);
                if let ApiError::Unavailable(words) = error {
                    return Err(ApiError::Exec(format!(
                        "nothing can be run in {what} ({words}); see `kubectl exec -n {} {} -c {} -- true`",
                        pod.namespace, pod.pod, pod.container
                    )));
                }
                return Err(error);
            }
            tried += 1;
            sleep(wait).await;
        }
    }
}

/// Feeds and reads a program until its end has been told.
async fn attend(
    mut process: AttachedProcess,
    stdin: Bytes,
    limits: ExecLimits,
) -> Result<ExecOutput, String> {
    let told = OptionFuture::from(process.take_status());
    let read = future::join(read(process.stdout(), limits.stdout), read(process.stderr(), limits.stderr));
    let pipe = process.stdin();
    // That the end of its input can be told is why the doctor asks for Kubernetes 1.30: the older protocol (v4) closes the whole
    // connection for it. A program that does not read its input, or not to the end, is its own affair.
    let fed = async {
        if let Some(mut pipe) = pipe {
            let _closed = pipe.write_all(&stdin).await;
            let _closed = pipe.shutdown().await;
        }
        future::pending::<Infallible>().await
    };
    let ended = async {
        // When the connection breaks, kube ends without closing the pipes: it shows in that no status comes.
        match future::select(pin!(read), pin!(told)).await {
            Either::Left((output, told)) => (told.await.flatten(), Some(output)),
            Either::Right((told, read)) => match told.flatten() {
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
        return Err(format!("its end was not told: {why}"));
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
    // An error is the connection's end, which the missing status tells.
    while let Ok(count @ 1..) = pipe.read(&mut buffer).await {
        let room = (most - kept.len()).min(count);
        kept.extend_from_slice(&buffer[..room]);
        cut |= room < count;
    }
    (kept.into(), cut)
}

/// Kubernetes tells the end of a program as a `Status`: success, or the reason `NonZeroExitCode` with the code among its causes.
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
