//! A program in a container that runs as long as its input is open.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use kube::api::AttachedProcess;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};

use super::client::{ClusterClient, PodRef};
use super::error::ApiError;

/// How much of its standard error is kept.
const KEPT: usize = 2048;
/// How long the reason for its end is waited for, once it has ended.
const REASON_WITHIN: Duration = Duration::from_secs(5);

/// A program that runs in a container. It ends when this is dropped, because its input ends.
pub struct ProgramStream {
    process: AttachedProcess,
    complaints: Arc<Mutex<Vec<u8>>>,
}

impl ClusterClient {
    /// Starts a program in a container: its standard output, its standard input, and the program.
    ///
    /// # Errors
    /// [`ApiError::Exec`]: it could not be started.
    pub async fn stream(
        &self,
        pod: &PodRef,
        argv: &[String],
    ) -> Result<
        (impl AsyncRead + Unpin + Send + use<>, impl AsyncWrite + Unpin + Send + use<>, ProgramStream),
        ApiError,
    > {
        let mut process = self.begin(pod, argv, true).await?;
        let lacking = || ApiError::Exec(format!("no stream to {}/{} was opened", pod.namespace, pod.pod));
        let output = process.stdout().ok_or_else(lacking)?;
        let input = process.stdin().ok_or_else(lacking)?;
        let complaints = Arc::<Mutex<Vec<u8>>>::default();
        if let Some(mut errors) = process.stderr() {
            let kept = Arc::clone(&complaints);
            // Ends with the connection.
            tokio::spawn(async move {
                let mut buffer = vec![0; KEPT];
                while let Ok(count @ 1..) = errors.read(&mut buffer).await {
                    let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
                    let room = (KEPT - kept.len()).min(count);
                    kept.extend_from_slice(&buffer[..room]);
                }
            });
        }
        Ok((output, input, ProgramStream { process, complaints }))
    }
}

impl ProgramStream {
    /// Why a program that has ended did so, as far as it is known: what it wrote to standard error, else the words of the cluster.
    pub async fn reason(mut self) -> String {
        let status = match self.process.take_status() {
            Some(status) => tokio::time::timeout(REASON_WITHIN, status).await.ok().flatten(),
            None => None,
        };
        let complaints = self.complaints.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let words = String::from_utf8_lossy(&complaints).trim().to_owned();
        if !words.is_empty() {
            return words;
        }
        status.and_then(|status| status.message).unwrap_or_else(|| "no reason was given".to_owned())
    }
}
