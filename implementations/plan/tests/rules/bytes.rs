//! Connections that are not HTTP: what waits for first bytes, and what an address decides.

use std::net::IpAddr;

use meshproof_plan::model::{Action, FilterChain, Transport};

use crate::world::{Ask as _, SLEEP, World, at};

fn entry(name: &str, port: u16, protocol: &str, address: Option<&str>) -> String {
    let addresses = address.map(|a| format!("  addresses: [\"{a}\"]\n")).unwrap_or_default();
    format!(
        "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata:\n  name: {name}\nspec:\n  hosts: [{name}.example]\n\
         {addresses}  ports:\n  - number: {port}\n    name: tcp\n    protocol: {protocol}\n  resolution: DNS\n---\n"
    )
}

/// `sleep` dials port 5432 of any host, and of these addresses.
fn world(addresses: &[&str]) -> World {
    let mut world = World::new();
    let sleep = &mut world.proxies[0];
    sleep.outbound.push((5432, at(9_532)));
    for (place, address) in (9_600..).zip(addresses) {
        sleep.addressed.push((address.parse::<IpAddr>().unwrap(), 5432, at(place)));
    }
    world
}

fn chains(world: &World, yaml: &str, bind: u16) -> Vec<FilterChain> {
    let plan = world.resolve(yaml).plan;
    let listener = plan.proxy(SLEEP).listeners.iter().find(|l| l.bind == at(bind));
    listener.unwrap().chains.clone()
}

fn tcp(chains: &[FilterChain]) -> Vec<(Transport, &str)> {
    let cluster = |chain: &FilterChain| match &chain.action {
        Action::Tcp { cluster } => (chain.matches.transport, cluster.clone()),
        other => panic!("{other:?}"),
    };
    let all: Vec<_> = chains.iter().map(cluster).collect();
    all.into_iter().map(|(transport, cluster)| (transport, &*cluster.leak())).collect()
}

#[test]
fn a_port_with_bytes_alone_waits_for_no_first_bytes() {
    for protocol in ["TCP", "MYSQL", "MONGO", "REDIS"] {
        let chains = chains(&world(&[]), &entry("db", 5432, protocol, None), 9_532);
        assert_eq!(tcp(&chains), [(Transport::Any, "outbound|5432||db.example")], "{protocol}");
    }
    // HTTP on the same port can be told apart only by looking.
    let both = entry("db", 5432, "TCP", None) + &entry("web", 5432, "HTTP", None);
    let chains = chains(&world(&[]), &both, 9_532);
    assert!(chains.iter().any(|c| c.matches.transport == Transport::PlainHttp), "{chains:#?}");
}

#[test]
fn services_of_one_port_are_told_apart_by_their_addresses() {
    let yaml = entry("first", 5432, "TCP", Some("10.0.0.1"))
        + &entry("second", 5432, "TCP", Some("2001:db8::2"))
        + &entry("wide", 5432, "TCP", Some("10.1.0.0/16")).replace("DNS", "NONE")
        + &entry("rest", 5432, "TCP", None);
    let world = world(&["10.0.0.1", "2001:db8::2", "10.1.2.3", "10.9.9.9"]);
    for (bind, host) in [(9_600, "first"), (9_601, "second"), (9_602, "wide"), (9_603, "rest")] {
        let chains = chains(&world, &yaml, bind);
        assert_eq!(tcp(&chains), [(Transport::Any, &*format!("outbound|5432||{host}.example"))], "{host}");
    }
}

#[test]
fn of_two_services_without_an_address_the_older_takes_the_port() {
    let yaml = entry("older", 5432, "TCP", None) + &entry("younger", 5432, "TCP", None);
    let chains = chains(&world(&[]), &yaml, 9_532);
    assert_eq!(tcp(&chains), [(Transport::Any, "outbound|5432||older.example")]);
}

#[test]
fn an_address_that_no_service_has_is_passed_on() {
    let chains = chains(&world(&["192.0.2.9"]), "", 9_600);
    assert_eq!(tcp(&chains), [(Transport::Any, "PassthroughCluster")]);
}

#[test]
fn an_ipv6_address_is_a_host_in_brackets() {
    let yaml = entry("six", 80, "HTTP", Some("2001:db8::80"));
    let plan = World::new().resolve(&yaml).plan;
    let goes = plan.goes_to(SLEEP, 80, "[2001:db8::80]", "/");
    assert_eq!(goes, Some("outbound|80||six.example"));
}
