//! When applying returns, the new configuration is in force.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use meshproof_harness::certificates::{Authority, Issued, KeyAlgorithm};
use meshproof_local::data_plane::DataPlaneError;
use meshproof_model::CredentialState;
use meshproof_plan::model::{
    Action, ChainMatch, ClientCertificate, Credential, Direction, NameCheck, Origination, PathMatch, Plan,
    RouteAction, ServerName, Transport, Trust, UpstreamTls,
};

use crate::support::{
    Client, answering, bind, chain, cluster, everything_to, forward, get, http, installed, listener, plan,
    server, start,
};

#[tokio::test]
async fn after_each_of_many_changes_the_next_request_is_handled_by_the_new_configuration() {
    let Some(program) = installed() else { return };
    let running = start(program).await.unwrap();
    let (one, two, at) = (server("one").await, server("two").await, bind());
    for round in 0..25 {
        for (server, name) in [(&one, "one"), (&two, "two")] {
            running.apply(&everything_to(at, server.at)).await.unwrap();
            let answer = get(at, "/").await.unwrap();
            assert!(answer.ends_with(name), "round {round}: not {name}: {answer}");
        }
        // Routes alone, on the same listener.
        running.apply(&answering(at, "itself")).await.unwrap();
        let answer = get(at, "/").await.unwrap();
        assert!(answer.ends_with("itself"), "round {round}: {answer}");
    }
    running.plane.stop().await.unwrap();
}

#[tokio::test]
async fn an_idle_connection_uses_the_new_routes() {
    let Some(program) = installed() else { return };
    let running = start(program).await.unwrap();
    let at = bind();
    running.apply(&answering(at, "first")).await.unwrap();
    let mut client = Client::connect(at).await.unwrap();
    assert!(client.get("/").await.unwrap().ends_with("first"));
    running.apply(&answering(at, "second")).await.unwrap();
    assert!(client.get("/").await.unwrap().ends_with("second"));
    running.plane.stop().await.unwrap();
}

#[tokio::test]
async fn a_removed_listener_refuses_connections_and_a_restored_one_accepts_them() {
    let Some(program) = installed() else { return };
    let running = start(program).await.unwrap();
    let at = bind();
    for _ in 0..20 {
        running.apply(&answering(at, "there")).await.unwrap();
        assert!(get(at, "/").await.unwrap().ends_with("there"));
        // A proxy that is absent from the plan must not listen.
        running.apply(&Plan::default()).await.unwrap();
        let refused = get(at, "/").await.unwrap_err();
        // On a busy machine Envoy may close its socket a moment later. A connection that was waiting in its
        // queue is then reset, which is as good as refused: it is not served.
        let unserved = [std::io::ErrorKind::ConnectionRefused, std::io::ErrorKind::ConnectionReset];
        assert!(unserved.contains(&refused.kind()), "{refused}");
    }
    running.plane.stop().await.unwrap();
}

#[tokio::test]
async fn a_connection_to_a_removed_listener_is_no_longer_served() {
    let Some(program) = installed() else { return };
    let running = start(program).await.unwrap();
    let at = bind();
    running.apply(&answering(at, "there")).await.unwrap();
    let mut kept = Client::connect(at).await.unwrap();
    assert!(kept.get("/").await.unwrap().ends_with("there"));
    running.apply(&Plan::default()).await.unwrap();
    assert!(kept.get("/").await.is_err());
    running.plane.stop().await.unwrap();
}

#[tokio::test]
async fn no_request_is_lost_while_the_destination_and_the_chains_change_under_load() {
    let Some(program) = installed() else { return };
    let running = start(program).await.unwrap();
    let (one, two, at) = (server("one").await, server("two").await, bind());
    let (to_one, mut to_two) = (everything_to(at, one.at), everything_to(at, two.at));
    // The second configuration has one more filter chain beside the one that carries the load, as with TLS
    // origination.
    let beside = ChainMatch { transport: Transport::Tls, server_names: vec!["a.example".to_owned()] };
    let beside = chain(beside, Action::Tcp { cluster: "d".to_owned() });
    to_two.proxies[0].listeners[0].chains.insert(0, beside);
    to_two.proxies[0].clusters[0].name = "d".to_owned();
    to_two.proxies[0].listeners[0].chains[1].action = http(forward("d"));
    running.apply(&to_one).await.unwrap();
    let (done, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let mut load = tokio::task::JoinSet::new();
    for _ in 0..3 {
        let (done, answered) = (Arc::clone(&done), Arc::clone(&answered));
        load.spawn(async move {
            while !done.load(Ordering::Relaxed) {
                let answer = get(at, "/").await.expect("a request was lost");
                assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
                answered.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    for _ in 0..15 {
        running.apply(&to_two).await.unwrap();
        running.apply(&to_one).await.unwrap();
    }
    done.store(true, Ordering::Relaxed);
    while let Some(worker) = load.join_next().await {
        worker.unwrap();
    }
    assert!(answered.load(Ordering::Relaxed) > 30);
    running.plane.stop().await.unwrap();
}

#[tokio::test]
async fn a_refused_configuration_is_reported_with_envoys_reason_and_the_next_good_one_works() {
    let Some(program) = installed() else { return };
    let running = start(program).await.unwrap();
    let at = bind();
    running.apply(&answering(at, "good")).await.unwrap();
    // RE2 has no look-ahead.
    let mut bad = answering(at, "bad");
    if let Action::Http(http) = &mut bad.proxies[0].listeners[0].chains[0].action {
        http.virtual_hosts[0].routes[0].matches.path = PathMatch::Regex("(?=x)".to_owned());
    }
    let error = running.apply(&bad).await.unwrap_err();
    assert!(matches!(&error, DataPlaneError::Refused(words) if words.contains("(?=")), "{error}");
    assert!(get(at, "/").await.unwrap().ends_with("good"), "the earlier configuration is no longer in force");
    running.apply(&answering(at, "better")).await.unwrap();
    assert!(get(at, "/").await.unwrap().ends_with("better"));
    running.plane.stop().await.unwrap();
}

/// Two ports. The second one answers with this body, or has this regular expression that Envoy refuses.
fn two_ports(at: [std::net::SocketAddr; 2], first: &str, second: Result<&str, &str>) -> Plan {
    let mut both = answering(at[0], first);
    let mut other = answering(at[1], second.unwrap_or("never"));
    let mut listener = other.proxies[0].listeners.remove(0);
    if let Action::Http(http) = &mut listener.chains[0].action {
        http.name = "81".to_owned();
        if let Err(regex) = second {
            http.virtual_hosts[0].routes[0].matches.path = PathMatch::Regex(regex.to_owned());
        }
    }
    both.proxies[0].listeners.push(listener);
    both
}

#[tokio::test]
async fn after_a_half_refused_change_each_later_one_comes_into_force() {
    let Some(program) = installed() else { return };
    let running = start(program).await.unwrap();
    let at = [bind(), bind()];
    // Receivers are prepared in another order than senders.
    for (direction, first) in [
        (Direction::Outbound, "a"),
        (Direction::Outbound, "b"),
        (Direction::Gateway, "a"),
        (Direction::Gateway, "b"),
    ] {
        let apply = async |first, second| {
            let mut plan = two_ports(at, first, second);
            plan.proxies[0].listeners.iter_mut().for_each(|l| l.direction = direction);
            running.apply(&plan).await
        };
        apply("a", Ok("x")).await.unwrap();
        // Envoy accepts one half and refuses the other. Then the same half comes again, or the earlier one.
        assert!(apply("b", Err("(?=x)")).await.is_err());
        apply(first, Ok("y")).await.unwrap();
        assert!(get(at[0], "/").await.unwrap().ends_with(first));
        assert!(get(at[1], "/").await.unwrap().ends_with('y'));
    }
    running.plane.stop().await.unwrap();
}

#[tokio::test]
async fn a_taken_port_is_an_environment_error() {
    let Some(program) = installed() else { return };
    let running = start(program).await.unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let error = running.apply(&answering(taken.local_addr().unwrap(), "x")).await.unwrap_err();
    assert!(matches!(&error, DataPlaneError::Environment(why) if why.contains("cannot listen")), "{error}");
    running.plane.stop().await.unwrap();
}

#[tokio::test]
async fn an_unknown_cluster_and_one_without_endpoints_give_503() {
    let Some(program) = installed() else { return };
    let running = start(program).await.unwrap();
    let at = bind();
    for (clusters, flag) in [(Vec::new(), "NC"), (vec![cluster("c", &[], None)], "UH")] {
        let all = chain(ChainMatch::default(), http(forward("c")));
        running.apply(&plan(vec![listener(at, vec![all])], clusters)).await.unwrap();
        assert!(get(at, "/").await.unwrap().starts_with("HTTP/1.1 503"));
        running.plane.settle().await.unwrap();
        let line = running.lines.all().pop().unwrap();
        assert!(line.contains(&format!(" 503 {flag} ")), "{line}");
    }
    running.plane.stop().await.unwrap();
}

fn credential(client: &Issued, ca: &Authority) -> Credential {
    Credential {
        name: "c".to_owned(),
        certificate: Some(client.certificate_pem().to_owned()),
        key: Some(client.key().0),
        ca: Some(ca.certificate_pem().to_owned()),
        crl: None,
    }
}

#[tokio::test]
async fn a_missing_credential_is_warming_and_each_rotation_is_shown_at_once() {
    let Some(program) = installed() else { return };
    let running = start(program).await.unwrap();
    let (at, unused) = (bind(), bind());
    let tls = UpstreamTls::Originate(Origination {
        sni: ServerName::FromHost,
        trust: Trust::Credential("c".to_owned()),
        names: NameCheck::FromHost,
        client_certificate: Some(ClientCertificate::Credential("c".to_owned())),
        alpn: Vec::new(),
        min_version: None,
        max_version: None,
        credential: Some("c".to_owned()),
        crl_file: None,
    });
    let all = chain(ChainMatch::default(), http(forward("c")));
    let plan = plan(vec![listener(at, vec![all])], vec![cluster("c", &[unused], Some(tls))]);
    let ca = Authority::new(KeyAlgorithm::EcdsaP256).unwrap();
    let state = async || {
        let all = running.plane.credentials("sleep").await.unwrap();
        let own = all.into_iter().find(|s| s.name == "kubernetes://c").expect("the credential is listed");
        (own.state, own.serial)
    };
    for serial in 1..5_u64 {
        running.apply(&plan).await.unwrap();
        assert_eq!(state().await, (CredentialState::Warming, None), "it was deleted or never existed");
        assert!(get(at, "/").await.unwrap().starts_with("HTTP/1.1 503"));
        for serial in [serial, serial + 100] {
            let client = ca.client("client").serial(serial).issue().unwrap();
            running.apply_with(&plan, vec![credential(&client, &ca)]).await.unwrap();
            assert_eq!(state().await, (CredentialState::Active, Some(client.serial().to_owned())));
        }
    }
    running.apply(&answering(at, "x")).await.unwrap();
    assert!(running.plane.credentials("sleep").await.unwrap().is_empty(), "the credential is still listed");
    let left = std::fs::read_dir(running.folder.path()).unwrap().flatten().next().unwrap();
    let names = std::fs::read_dir(left.path()).unwrap().flatten().map(|e| e.file_name());
    let keys: Vec<_> = names.filter(|n| n.to_string_lossy().starts_with("sds-")).collect();
    assert!(keys.is_empty(), "keys are left on disk: {keys:?}");
    running.plane.stop().await.unwrap();
}

#[tokio::test]
async fn a_redirect_status_that_envoy_cannot_send_is_unsupported_and_changes_nothing() {
    let Some(program) = installed() else { return };
    let running = start(program).await.unwrap();
    let at = bind();
    running.apply(&answering(at, "good")).await.unwrap();
    let odd = RouteAction::Redirect {
        status: 300,
        scheme: None,
        authority: None,
        path: None,
        prefix: None,
        port: None,
    };
    let odd = plan(vec![listener(at, vec![chain(ChainMatch::default(), http(odd))])], Vec::new());
    assert!(matches!(running.apply(&odd).await, Err(DataPlaneError::Unable(_))));
    assert!(get(at, "/").await.unwrap().ends_with("good"));
    running.plane.stop().await.unwrap();
}
