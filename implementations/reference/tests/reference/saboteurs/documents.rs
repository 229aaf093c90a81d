//! What the documents say beside their main path.

use crate::situation::{Situation, SituationOutcome, differs};

#[tokio::test]
async fn headers_of_requests_and_responses_are_replaced() {
    let content_type = |saw: &SituationOutcome| {
        let value = saw.headers.get("content-type");
        (value.is_some_and(|v| v == "application/octet-stream")).to_string()
    };
    let typed = |s: &mut Situation| s.target = "/json".to_owned();
    differs("another-content-type", typed, content_type, "false", "true").await;
    let forwarded = |saw: &SituationOutcome| {
        let value = saw.tls_requests[0].headers.get("x-forwarded-for");
        value.map_or_else(String::new, |v| v.to_str().unwrap().to_owned())
    };
    let balanced = |s: &mut Situation| s.headers = vec![("x-forwarded-for", "203.0.113.7")];
    differs("forwarded-for-replaced", balanced, forwarded, "203.0.113.7", "192.0.2.1").await;
}

#[tokio::test]
async fn request_id_is_not_logged() {
    let identified = |s: &mut Situation| s.headers = vec![("x-request-id", "cf76518d")];
    let logged = |saw: &SituationOutcome| saw.lines[0].contains("\"cf76518d\"").to_string();
    differs("log-without-request-id", identified, logged, "true", "false").await;
}
