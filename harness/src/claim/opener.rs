//! Claims that tie a proxy's log to a connection, and records of what it logged.

use meshproof_model::{AccessLog, Field, ValueKind};

use super::deviation::{self, Odd, What};
use super::external::requests;
use super::proxy::{describe_line, field, lacks, lines, not_logged, unreadable};
use super::words::{self, Server};
use super::{Claim, Finding, Reply};

/// This proxy opened the connection on which a server received a request: the proxy logs, as its own end of the upstream
/// connection, the address that the server saw.
pub(crate) fn opened_by(proxy: &str, server: &Server, reply: &Reply) -> Claim {
    let (proxy, of, token) = (proxy.to_owned(), server.clone(), reply.token.clone());
    let exchange = reply.id.clone();
    let claim = Claim::new(move |view| {
        let server = &of;
        let expected = format!("a connection to {server} from proxy {proxy}");
        let Some((request_id, request)) = requests(&server.host, &token, view).into_iter().next() else {
            let seen = format!("{server} received no request with this token");
            let number = What::of(Field::Request).being(ValueKind::One);
            let to = (deviation::proxy(&proxy), deviation::server(server));
            let deviation = number.deviates(&to, &expected, &Odd::absent("no request"));
            return Finding::broken(expected, seen, Vec::new()).by([deviation]);
        };
        let opener = |words: &str| {
            let to = (deviation::proxy(&proxy), deviation::server(server));
            What::of(Field::Opener).deviates(&to, &expected, &Odd::from(words.to_owned()))
        };
        let from = words::opener(view, &request.peer);
        let line = lines(&proxy, view.evidence).find(|(e, _)| e.token.as_deref() == Some(&token));
        let Some((line_id, log)) = line.map(|(e, l)| (&e.id, l)) else {
            let seen = format!(
                "{server} received the request from {from}, and proxy {proxy} logged no access-log line with this token{}",
                unreadable(&proxy, view)
            );
            let (what, odd) = (deviation::log_line(), Odd::absent("no access-log line"));
            let deviation = what.deviates(&deviation::own(&proxy), "one access-log line", &odd);
            return Finding::broken(expected, seen, vec![request_id.clone()]).by([deviation]);
        };
        let ids = vec![request_id.clone(), line_id.clone()];
        match field(log, |f| f.upstream_local_address.clone()) {
            Some(local) => {
                let seen = format!(
                    "{server} received the request on a connection from {}, and proxy {proxy} logs {local} as its own \
                     end of the connection",
                    request.peer
                );
                if local == request.peer {
                    Finding::holds(expected, seen, ids)
                } else {
                    let deviation = opener(&seen);
                    Finding::broken(expected, seen, ids).by([deviation])
                }
            }
            None if lacks(log, "upstream_local_address") => {
                not_logged(&proxy, &["the upstream local address"], expected, ids)
            }
            None => {
                let seen = format!(
                    "proxy {proxy} does not log its own end of the upstream connection: {}",
                    describe_line(log)
                );
                Finding::undecided(expected, seen, ids)
            }
        }
    });
    Claim::on_the_side_of(&server.host, move |view| claim.judge(view).about(&exchange))
}

/// Records a value of a log line, whatever it is. Inconclusive without a line that has it.
pub(crate) fn recorded(
    proxy: &str,
    reply: &Reply,
    what: &'static str,
    get: impl Fn(&AccessLog, &Reply) -> Option<String> + Send + Sync + 'static,
) -> Claim {
    let (proxy, reply) = (proxy.to_owned(), reply.clone());
    Claim::new(move |view| {
        let expected = format!("any {what} in the access log of proxy {proxy}");
        let line = lines(&proxy, view.evidence).find(|(e, _)| e.token.as_deref() == Some(&reply.token));
        let found = line.and_then(|(e, log)| Some((e.id.clone(), get(log, &reply)?)));
        match found {
            Some((id, seen)) => {
                Finding::holds(expected, format!("proxy {proxy} logged the {what} {seen}"), vec![id])
            }
            None => {
                let seen = format!(
                    "proxy {proxy} logged no access-log line with this token and a {what}{}",
                    unreadable(&proxy, view)
                );
                Finding::undecided(expected, seen, vec![reply.id.clone()])
            }
        }
    })
}
