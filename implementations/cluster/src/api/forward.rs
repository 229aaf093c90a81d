//! HTTP requests to a port of a pod, over the API server's port forwarding.

use bytes::Bytes;
use futures_util::future::{self, OptionFuture};
use http::Request;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1::handshake;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::Pod;
use meshproof_harness::timeouts::Timeout;

use super::client::{ClusterClient, PodRef};
use super::error::{ApiError, Subject, chain};

impl ClusterClient {
    /// GET over a forwarded port, such as that of Envoy's admin interface (15000), within the timeout
    /// `cluster-answer`. Only status 200 is an answer.
    ///
    /// # Errors
    /// No answer, another status, or more than `max_bytes`.
    pub async fn pod_get(
        &self,
        pod: &PodRef,
        port: u16,
        path: &str,
        max_bytes: usize,
    ) -> Result<Bytes, ApiError> {
        let limit = self.timeouts().get(Timeout::ClusterAnswer);
        let unanswered = |words: String| {
            ApiError::Unavailable(format!(
                "{}/{} port {port} does not answer {path}: {words}; try `kubectl port-forward -n {} {} \
                 {port}`",
                pod.namespace, pod.pod, pod.namespace, pod.pod
            ))
        };
        tokio::time::timeout(limit, self.forwarded(pod, port, path, max_bytes, &unanswered))
            .await
            .unwrap_or_else(|_| {
                Err(unanswered(format!("no answer within the timeout `cluster-answer` ({limit:?})")))
            })
    }

    async fn forwarded(
        &self,
        pod: &PodRef,
        port: u16,
        path: &str,
        max_bytes: usize,
        unanswered: &(impl Fn(String) -> ApiError + Sync),
    ) -> Result<Bytes, ApiError> {
        let what = format!("pod {}/{}", pod.namespace, pod.pod);
        let pods: kube::Api<Pod> = kube::Api::namespaced(self.kube(), &pod.namespace);
        let mut forwarder =
            pods.portforward(&pod.pod, &[port]).await.map_err(|e| Subject::new(what).error(e))?;
        let refused = forwarder.take_error(port);
        let stream =
            forwarder.take_stream(port).ok_or_else(|| unanswered("no stream was opened".to_owned()))?;
        let asked = async {
            let (mut sender, connection) = handshake(TokioIo::new(stream)).await.map_err(|e| chain(&e))?;
            let request = Request::get(path)
                .header(http::header::HOST, "localhost")
                .body(Empty::<Bytes>::new())
                .map_err(|e| e.to_string())?;
            let answered = async {
                let answer = sender.send_request(request).await.map_err(|e| chain(&e))?;
                let status = answer.status();
                let body = Limited::new(answer.into_body(), max_bytes).collect().await;
                let body = body.map_err(|e| match e.downcast_ref::<http_body_util::LengthLimitError>() {
                    Some(_) => format!("the answer has more than {max_bytes} bytes"),
                    None => chain(&*e),
                })?;
                if status.as_u16() == 200 { Ok(body.to_bytes()) } else { Err(format!("status {status}")) }
            };
            let driven = async {
                // An error here also ends the request, with its reason.
                let _ended = connection.await;
                std::future::pending::<()>().await;
            };
            tokio::select! {
                answer = answered => answer,
                () = driven => Err("the connection ended".to_owned()),
            }
        };
        // The kubelet's own words are the reason where it sends any; otherwise it is how the connection
        // ended.
        let refused = async {
            match OptionFuture::from(refused).await.flatten() {
                Some(words) => words,
                None => future::pending().await,
            }
        };
        let answer = tokio::select! {
            biased;
            words = refused => Err(words),
            answer = asked => answer,
        };
        forwarder.abort();
        answer.map_err(unanswered)
    }
}
