//! The generated exchanges that one client connection carries.

use serde::{Deserialize, Serialize};

use super::answer::AnswerSpec;
use super::exchange::GeneratedExchange;
use crate::workload::{HttpChoice, RequestSpec};

/// One connection of a client. Its JSON is a regression case.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GeneratedConnection {
    /// What the client speaks.
    #[serde(default)]
    pub client: ClientHttp,
    /// How many bytes the client writes at a time until the first head is written; absent: as many as it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub segment: Option<usize>,
    /// Over HTTP/2 and in a pipeline they are sent at once, otherwise one after the other.
    pub exchanges: Vec<GeneratedExchange>,
}

/// What a client speaks in plain text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ClientHttp {
    /// HTTP/1.1.
    #[default]
    Http1,
    /// HTTP/2 with prior knowledge.
    Http2,
    /// HTTP/1.0.
    Http10,
    /// HTTP/1.1, with every request sent before the first answer has come (RFC 9112, section 9.3.2).
    Pipelined,
}

/// What a failing connection says most about. Each is a check of its own, so that a proxy that fails one is asked for the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aspect {
    /// Requests and answers arrive as they were sent.
    Preservation,
    /// An interim answer is not the final one.
    Interim,
    /// An incomplete answer is not passed off as complete.
    Truncation,
    /// Fields that the Connection field names are not passed on.
    ConnectionFields,
}

impl GeneratedConnection {
    /// What this connection puts to the test beyond what every other one does.
    #[must_use]
    pub fn aspect(&self) -> Aspect {
        let answers = || self.exchanges.iter().map(|exchange| &exchange.answer);
        if answers().any(|answer| answer.early_hints) {
            Aspect::Interim
        } else if answers().any(AnswerSpec::breaks_off) {
            Aspect::Truncation
        } else if self.exchanges.iter().any(|e| e.headers.iter().any(|(name, _)| name == "connection")) {
            Aspect::ConnectionFields
        } else {
            Aspect::Preservation
        }
    }

    /// An HTTP/1.1 connection for one exchange.
    #[must_use]
    pub fn of(exchange: GeneratedExchange) -> Self {
        Self { client: ClientHttp::Http1, segment: None, exchanges: vec![exchange] }
    }

    /// Whether a server ends its connection for one of the exchanges.
    #[must_use]
    pub fn ends_connections(&self) -> bool {
        self.exchanges.iter().any(|exchange| exchange.answer.ends_connection())
    }

    /// What a workload is to send.
    ///
    /// # Errors
    /// As for [`GeneratedExchange::request`].
    pub fn requests(&self) -> Result<Vec<RequestSpec>, String> {
        let http = match self.client {
            ClientHttp::Http1 => HttpChoice::Negotiated,
            ClientHttp::Http2 => HttpChoice::Http2,
            ClientHttp::Http10 => HttpChoice::Http10,
            ClientHttp::Pipelined => HttpChoice::Pipelined,
        };
        let request = |exchange: &GeneratedExchange| {
            let mut request = RequestSpec { http, segment: self.segment, ..exchange.request()? };
            if self.client == ClientHttp::Http2 {
                request.headers = request.headers.into_iter().flat_map(with_divided_cookies).collect();
            }
            Ok(request)
        };
        self.exchanges.iter().map(request).collect()
    }

    /// A curl command that sends the requests through the same sidecar or gateway, over one connection.
    #[must_use]
    pub fn curl(&self) -> String {
        let http = match self.client {
            // curl cannot write them all at once.
            ClientHttp::Http1 | ClientHttp::Pipelined => "",
            ClientHttp::Http2 => " --http2-prior-knowledge --parallel",
            ClientHttp::Http10 => " --http1.0",
        };
        let each: Vec<String> = self.exchanges.iter().map(GeneratedExchange::curl).collect();
        format!("curl{http} {}", each.join(" --next "))
    }

    /// As one line of JSON: a regression case.
    #[must_use]
    pub fn case(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// The rules that this connection puts to the test, with the document that states each.
    #[must_use]
    pub fn rules(&self) -> Vec<&'static str> {
        let mut rules: Vec<&str> = self.exchanges.iter().flat_map(GeneratedExchange::rules).collect();
        match self.client {
            ClientHttp::Http1 | ClientHttp::Pipelined if self.exchanges.len() > 1 => {
                rules
                    .push("requests over one connection are answered in their order (RFC 9112, section 9.3)");
            }
            ClientHttp::Http1 | ClientHttp::Pipelined => {}
            ClientHttp::Http2 => {
                rules.push("each request on a connection gets its own answer (RFC 9113, sections 5 and 8.1)");
            }
            ClientHttp::Http10 => rules.push(
                "an HTTP/1.0 client gets an answer that it can read, without chunks (RFC 9112, section 6.1)",
            ),
        }
        if self.segment.is_some() {
            rules.push(
                "how TCP divides a message does not matter (RFC 9112, section 2.2; RFC 9293, section 3.7)",
            );
        }
        let mut each = Vec::new();
        for rule in rules {
            if !each.contains(&rule) {
                each.push(rule);
            }
        }
        each
    }
}

/// Over HTTP/2 each cookie may be a field of its own, as browsers send them (RFC 9113, section 8.2.3).
fn with_divided_cookies((name, value): (String, String)) -> Vec<(String, String)> {
    if name != "cookie" {
        return vec![(name, value)];
    }
    value.split("; ").map(|pair| (name.clone(), pair.to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cookies_are_divided_over_http2_alone() {
        let exchange = GeneratedExchange {
            headers: vec![("cookie".to_owned(), "a=1; b=2".to_owned())],
            ..GeneratedExchange::plain("a.example")
        };
        let cookies = |client| {
            let connection = GeneratedConnection { client, ..GeneratedConnection::of(exchange.clone()) };
            let requests = connection.requests().unwrap();
            let cookies = requests[0].headers.iter().filter(|(name, _)| name == "cookie");
            cookies.map(|(_, value)| value.clone()).collect::<Vec<_>>()
        };
        assert_eq!(cookies(ClientHttp::Http2), ["a=1", "b=2"]);
        assert_eq!(cookies(ClientHttp::Http1), ["a=1; b=2"]);
    }
}
