//! The access log against the two ends.

use super::*;

#[test]
fn a_log_line_that_contradicts_the_two_ends_fails() {
    fails_with(
        Books::with(|b| b.log.response_code = Some(404)),
        "The access log of sleep says response code 404 instead of response code 200 of GET",
    );
    fails_with(Books::with(|b| b.log.method = Some("POST".into())), "method POST");
    fails_with(Books::with(|b| b.log.bytes_sent = Some(9)), "bytes sent 9");
    fails_with(
        Books::with(|b| b.log.upstream_local_address = Some("127.0.0.1:1".into())),
        "upstream local address",
    );
    fails_with(
        Books::with(|b| b.log.upstream_host = Some("127.0.0.1:1".into())),
        "upstream host 127.0.0.1:1",
    );
    fails_with(Books::with(|b| b.log.upstream_cluster = Some("other".into())), "upstream cluster other");
    fails_with(Books::with(|b| b.log.duration_ms = Some(60_000)), "a duration of 60000 ms");
    fails_with(
        Books::with(|b| b.log.protocol = Some("HTTP/1.0".into())),
        "protocol HTTP/1.0 instead of protocol HTTP/1.1",
    );
    fails_with(Books::with(|b| b.log.path = Some("/".into())), "path / instead of path /politics");
    fails_with(Books::with(|b| b.log.authority = Some("other.example".into())), "authority other.example");
    fails_with(
        Books::with(|b| b.log.start_time = Some("2019-01-01T00:00:00.000Z".into())),
        "the start time 2019-01-01T00:00:00.000Z instead of a start time between",
    );
    fails_with(Books::with(|b| b.log.response_flags = vec!["UF".into()]), "response flag UF");
    balances(Books::with(|b| {
        b.log.start_time = Some("2026-11-05T10:00:00.700Z".into());
        (b.log.path, b.log.authority) = (Some("/politics".into()), Some("Edition.cnn.com:80".into()));
        b.log.protocol = Some("HTTP/1.1".into());
    }));
    // What the format lacks is not judged.
    balances(Books::with(|b| b.log = LogFields::default()));
}

#[test]
fn a_missing_a_double_and_a_forged_log_line_fail() {
    fails_with(Books::with(|b| b.without = vec!["log"]), "has no line for");
    let line = |proxy: &str, token: &str| {
        Books::with(|b| {
            let side = Side::Proxy { name: proxy.into() };
            b.more.push((side, Some(token.into()), Books::log_fact(b.log.clone())));
        })
    };
    fails_with(line("sleep", "t.1"), "has 2 lines for");
    fails_with(line("istio-egressgateway", "t.1"), "which does not pass this proxy");
    fails_with(line("sleep", "t.9"), "a token that no client sent");
}

#[test]
fn a_member_that_the_other_lines_have_must_not_be_missing() {
    fails_with(
        Books::with(|b| {
            let line =
                LogFields { method: Some("GET".into()), path: Some("/x".into()), ..LogFields::default() };
            let side = Side::Proxy { name: "sleep".into() };
            b.more.push((side, None, Books::log_fact(line)));
        }),
        "no path instead of a path",
    );
}

#[test]
fn a_failure_has_one_line_at_the_proxy_of_the_client_and_none_that_says_success() {
    let failed = |b: &mut Books| {
        b.without = vec!["request", "connection"];
        b.promises = vec![Promise::Ends {
            status: Some(503),
            why: "there is no endpoint".into(),
            proxies: vec!["sleep".into(), "istio-egressgateway".into()],
        }];
        b.answer().status = 503;
        b.log = LogFields { method: Some("GET".into()), response_code: Some(503), ..LogFields::default() };
    };
    let at_gateway = |b: &mut Books, status: u16| {
        let line = LogFields { response_code: Some(status), ..LogFields::default() };
        let side = Side::Proxy { name: "istio-egressgateway".into() };
        b.more.push((side, Some("t.1".into()), Books::log_fact(line)));
    };
    balances(Books::with(failed));
    balances(Books::with(|b| {
        failed(b);
        at_gateway(b, 0);
    }));
    // A message that the proxy refused to parse need not have a line.
    balances(Books::with(|b| {
        b.without = vec!["request", "connection", "log"];
        (b.hop.method, b.answer().status) = ("BREW".into(), 400);
    }));
    fails_with(
        Books::with(|b| {
            failed(b);
            b.without.push("log");
        }),
        "The access log of sleep has no line for",
    );
    fails_with(
        Books::with(|b| {
            failed(b);
            b.log.response_code = Some(200);
        }),
        "response code 200 instead of response code 503",
    );
    fails_with(
        Books::with(|b| {
            failed(b);
            at_gateway(b, 200);
        }),
        "The access log of istio-egressgateway says response code 200",
    );
}

#[test]
fn the_line_of_a_passed_on_connection_counts_its_bytes() {
    let passed_on = |sent: u64| {
        let mut books = Books::promising(|a| {
            a.transport = Transport::OwnTls;
            a.proxies[0].http = false;
        });
        books.without = vec!["log"];
        let fields = LogFields {
            bytes_sent: Some(sent),
            bytes_received: Some(900),
            upstream_local_address: Some(PEER.into()),
            upstream_cluster: Some("outbound|443||edition.cnn.com".into()),
            ..LogFields::default()
        };
        books.more.push((Side::Proxy { name: "sleep".into() }, None, Books::log_fact(fields)));
        books.hop.tls = Some(TlsFacts { server_name: Some(HOST.into()), ..TlsFacts::default() });
        books
    };
    balances(passed_on(2000));
    fails_with(passed_on(0), "The access log of sleep says 0 bytes sent instead of more than 4 bytes sent");
}

#[test]
fn without_a_promise_the_own_proxys_line_has_the_method_and_the_status() {
    let unforeseen = |change: fn(&mut Books)| {
        Books::with(|b| {
            b.foreseen = false;
            change(b);
        })
    };
    balances(unforeseen(|b| b.log.upstream_host = Some("192.0.2.1:1".into())));
    fails_with(unforeseen(|b| b.log.method = Some("PUT".into())), "says method PUT instead of method GET");
    fails_with(unforeseen(|b| b.log.response_code = Some(503)), "says response code 503");
    fails_with(
        unforeseen(|b| {
            let side = Side::Proxy { name: "sleep".into() };
            b.more.push((side, Some("t.1".into()), Books::log_fact(b.log.clone())));
        }),
        "The access log of sleep has 2 lines for",
    );
    // A gateway on the way may repeat a request, and its line is that of another hop.
    balances(unforeseen(|b| {
        for status in [503, 200] {
            let line = LogFields { response_code: Some(status), ..b.log.clone() };
            let side = Side::Proxy { name: "istio-egressgateway".into() };
            b.more.push((side, Some("t.1".into()), Books::log_fact(line)));
        }
    }));
}

#[test]
fn a_server_name_without_tls_from_the_client_fails() {
    fails_with(
        Books::with(|b| b.log.requested_server_name = Some(HOST.into())),
        "server name edition.cnn.com instead of server name -",
    );
}

#[test]
fn two_proxies_log_the_same_addresses_of_their_connection() {
    const GATEWAY: &str = "istio-egressgateway";
    let through_a_gateway = |remote: &str| {
        let mut books = Books::promising(|a| {
            let first = Passage { upstream: "127.0.0.1:15443".into(), ..a.proxies[0].clone() };
            a.proxies[0].proxy = GATEWAY.into();
            a.proxies.insert(0, first);
        });
        let mut of_gateway = books.log.clone();
        of_gateway.downstream_remote_address = Some(remote.into());
        of_gateway.downstream_local_address = Some("127.0.0.1:15443".into());
        books.log.upstream_host = Some("127.0.0.1:15443".into());
        books.log.upstream_local_address = Some("127.0.0.1:50000".into());
        let side = Side::Proxy { name: GATEWAY.into() };
        books.more.push((side, Some("t.1".into()), Books::log_fact(of_gateway)));
        books
    };
    balances(through_a_gateway("127.0.0.1:50000"));
    fails_with(
        through_a_gateway("127.0.0.1:50001"),
        "The access log of istio-egressgateway says downstream remote address 127.0.0.1:50001",
    );
    // The address may be one that a header names.
    let mut forwarded = through_a_gateway("192.0.2.1:0");
    forwarded.hop.headers.extend(headers(&[("x-forwarded-for", "192.0.2.1")]));
    forwarded.request.headers.extend(headers(&[("x-forwarded-for", "192.0.2.1")]));
    balances(forwarded);
}

/// The server waited 40 ms.
fn waited(change: impl FnOnce(&mut Books)) -> Books {
    Books::with(|b| {
        b.request.answer.as_mut().unwrap().waited_ms = 40;
        change(b);
    })
}

#[test]
fn a_time_that_is_shorter_than_the_server_waited_fails() {
    fails_with(
        waited(|b| b.log.duration_ms = Some(0)),
        "a duration of 0 ms instead of a duration of at least 35 ms",
    );
    balances(waited(|b| (b.log.duration_ms, b.log.upstream_service_time_ms) = (Some(39), Some(1))));
    balances(waited(|b| (b.log.duration_ms, b.log.upstream_service_time_ms) = (Some(39), Some(38))));
    // An exchange that took no time may be logged so.
    balances(Books::with(|b| b.log.duration_ms = Some(0)));
}

#[test]
fn another_request_id_than_the_server_received_fails() {
    fails_with(Books::with(|b| b.log.request_id = Some("2".into())), "request id 2 instead of request id 1");
    balances(Books::with(|b| b.log.request_id = Some("1".into())));
    // Without an id there is none to log.
    balances(Books::with(|b| {
        b.request.headers.retain(|h| h.name != "x-request-id");
        b.log.request_id = Some("2".into());
    }));
}

#[test]
fn an_answer_that_ended_early_has_one_line_whatever_it_says_of_the_answer() {
    let cut = |change: &dyn Fn(&mut Books)| {
        Books::with(|b| {
            b.request.answer.as_mut().unwrap().breaks_off = true;
            b.hop.result = HopResult::Error(meshproof_model::ExchangeError {
                kind: meshproof_model::ExchangeErrorKind::ConnectionClosed,
                message: "closed".into(),
            });
            (b.log.response_code, b.log.bytes_sent) = (Some(0), Some(2));
            change(b);
        })
    };
    balances(cut(&|_| {}));
    fails_with(cut(&|b| b.without = vec!["log"]), "The access log of sleep has no line for");
    fails_with(cut(&|b| b.log.path = Some("/other".into())), "path /other instead of path /politics");
}

#[test]
fn a_proxy_that_logs_flags_logs_why_it_did_not_reach_the_server() {
    let unreached = |flags: &[&str], others: &[&str]| {
        let mut books = Books::promising(|a| {
            if let Transport::Originated(o) = &mut a.transport {
                o.server = ServerCheck::Refused("its CA is unknown".into());
            }
        });
        books.without = vec!["request", "connection"];
        books.answer().status = 503;
        let line = |code, flags: &[&str]| LogFields {
            method: Some("GET".into()),
            response_code: Some(code),
            response_flags: flags.iter().map(|flag| (*flag).to_owned()).collect(),
            ..LogFields::default()
        };
        books.log = line(503, flags);
        let other = Books::log_fact(line(404, others));
        books.more.push((Side::Proxy { name: "sleep".into() }, None, other));
        books
    };
    balances(unreached(&["UF"], &["NR"]));
    // A format without flags.
    balances(unreached(&[], &[]));
    fails_with(unreached(&[], &["NR"]), "no response flag instead of a response flag that says why");
}
