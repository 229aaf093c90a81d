//! The columns of the table of flows.

use meshproof_model::verification::{Flow, Outcome};

/// Their headings.
pub(super) const HEADINGS: [&str; 7] =
    ["From", "Request", "Goes to", "TLS by", "Server name", "Verified", "Client certificate"];

/// Their texts; a dash where a column does not apply.
pub(super) fn cells(flow: &Flow) -> [String; 7] {
    let none = || "–".to_owned();
    let [to, by, name, verified, certificate] = match &flow.outcome {
        Outcome::Originated { by, to, server_name, trust, names, client_certificate, inside_clients_tls } => {
            let by = if *inside_clients_tls { format!("{by}, around the client's own") } else { by.clone() };
            let verified = if trust == "anybody" {
                "not at all".to_owned()
            } else if names == "none" {
                format!("{trust}; no name")
            } else {
                format!("{names}, by {trust}")
            };
            let name = server_name.clone().unwrap_or_else(|| "none".to_owned());
            [to.clone(), by, name, verified, client_certificate.clone().unwrap_or_else(|| "none".to_owned())]
        }
        Outcome::OwnTls { to } => {
            [to.clone(), "the client".to_owned(), none(), "by the client".to_owned(), none()]
        }
        Outcome::PlainText { to } => [to.clone(), "none: plain text".to_owned(), none(), none(), none()],
        Outcome::Mesh { to, encrypted: true } => {
            [to.clone(), "the mesh".to_owned(), none(), "by the mesh".to_owned(), none()]
        }
        Outcome::Mesh { to, encrypted: false } => {
            [to.clone(), "none: inside the cluster".to_owned(), none(), none(), none()]
        }
        Outcome::Fails { at, status, why } => {
            let status = status.map_or_else(|| "closed".to_owned(), |s| s.to_string());
            let at = at.as_ref().map(|at| format!(" at {at}")).unwrap_or_default();
            [format!("nowhere: {status}{at}, {why}"), none(), none(), none(), none()]
        }
        Outcome::Answered { by, status } => {
            [format!("{by} answers {status}"), none(), none(), none(), none()]
        }
        Outcome::Unknown { why } => [format!("unknown: {why}"), none(), none(), none(), none()],
    };
    [flow.from.clone(), flow.shown(), to, by, name, verified, certificate]
}

/// The same in one sentence.
pub(super) fn sentence(flow: &Flow) -> String {
    let through: Vec<&str> = flow.hops.iter().skip(1).map(|h| h.proxy.as_str()).collect();
    let through =
        if through.is_empty() { String::new() } else { format!("through {}, ", through.join(", ")) };
    let rest = match &flow.outcome {
        Outcome::Originated { by, to, server_name, trust, names, client_certificate, inside_clients_tls } => {
            let name = server_name.as_deref().unwrap_or("none");
            let verified = match (trust.as_str(), names.as_str()) {
                ("anybody", _) => "verifies no certificate".to_owned(),
                (trust, "none") => format!("verifies no name, only the chain by {trust}"),
                (trust, names) => format!("verifies {names} by {trust}"),
            };
            let client = client_certificate.as_ref().map(|c| format!(", client certificate {c}"));
            let inside = if *inside_clients_tls { " around the client's own TLS" } else { "" };
            format!(
                "to {to}: {by} opens TLS{inside}, server name {name}, {verified}{}",
                client.unwrap_or_default()
            )
        }
        Outcome::OwnTls { to } => format!("to {to}: the client's own TLS"),
        Outcome::PlainText { to } => format!("to {to}: IN PLAIN TEXT"),
        Outcome::Mesh { to, encrypted: true } => format!("to {to}: mutual TLS of the mesh"),
        Outcome::Mesh { to, encrypted: false } => format!("to {to}: inside the cluster, in plain text"),
        Outcome::Fails { at, status, why } => {
            let status = status.map_or_else(|| "the connection is closed".to_owned(), |s| s.to_string());
            format!("FAILS{}: {status}, {why}", at.as_ref().map(|a| format!(" at {a}")).unwrap_or_default())
        }
        Outcome::Answered { by, status } => format!("{by} answers {status}"),
        Outcome::Unknown { why } => format!("unknown: {why}"),
    };
    format!("{through}{rest}")
}
