//! Istio reference, DestinationRule "ClientTLSSettings", ServiceEntry "ports" and VirtualService "TCPRoute": TLS for what is not
//! HTTP. Databases outside the mesh take TLS from the first byte on; their clients speak plain text, and the proxy opens TLS.

mod servers;

use meshproof_harness::certificates::{Authority, KeyAlgorithm};
use meshproof_harness::claim::{Claim, Claims, Reply};
use meshproof_harness::conversation::Conversation;
use meshproof_harness::mesh::{External, Mesh, Stop};
use meshproof_harness::secret::Secret;
use meshproof_harness::topology::{Gateway, Topology, Workload};

use self::servers::{
    CACHE, DATABASES, MONGO, MYSQL, OF_ORDERS, OF_STOCK, ORDERS, OTHER_NAME, POSTGRES, PRIMARY, REDIS,
    REPLICA, SECOND, STOCK, STREAM, UNKNOWN_CA, VAULT,
};
use crate::placement::Placement;

/// Bytes of a stream, in each direction.
const SMALL: usize = 1000;
const LARGE: usize = 1024 * 1024;

/// What nobody outside the mesh may read: the client's name and its query.
const SECRETS: [&str; 2] = ["application_name", "SELECT answer"];

pub(crate) fn topology(configuration: &str) -> Topology {
    let sleep = Workload::sleep().dials(servers::PORTS).dials_at(servers::addresses());
    let topology = Topology::default().workload(sleep);
    match configuration {
        "sidecar" => topology,
        _ => topology.gateway(Gateway::egress().ports([80, 443, 15443])),
    }
}

pub(crate) async fn story(mesh: &Mesh) -> Result<(), Stop> {
    let placement = Placement::of(mesh);
    let say = |conversation: Conversation| mesh.workload("sleep").saying(conversation);
    let clients = Authority::new(KeyAlgorithm::EcdsaP256)?;
    let certificate = clients.client("client.example.com").serial(1).issue()?;

    mesh.step("Databases that begin TLS at once, and no origination");
    mesh.deploy_externals(servers::all(mesh, &clients)?).await?;
    mesh.apply(match placement {
        Placement::Sidecar => &["servers", "routes-at-sidecar"],
        _ => &["servers", "egress-gateway", "routes-at-gateway"],
    })
    .await?;
    let [postgres, orders, stock, replica] = [DATABASES, ORDERS, STOCK, REPLICA].map(|h| mesh.external(h));
    let in_clear = say(Conversation::Postgres).get(POSTGRES).await?;
    let seen = postgres.during(&in_clear).clear_bytes(SECRETS[0]);
    mesh.check("plaintext-seen-before-origination", in_clear.fails().and(seen))?;

    mesh.step("Origination");
    mesh.apply(&["originate"]).await?;
    let held = |server: &External<'_>, reply: &Reply| -> Claim {
        reply.conversed().and(server.received(reply).whole(reply))
    };
    let to_all = [POSTGRES, OF_ORDERS, OF_STOCK, PRIMARY, SECOND, UNKNOWN_CA, OTHER_NAME];
    let [sql, of_orders, of_stock, of_primary, of_second, unknown_ca, other_name] =
        say(Conversation::Postgres).get_each(to_all).await?;
    let redis = say(Conversation::Redis).get(REDIS).await?;
    let mongo = say(Conversation::Mongo).get(MONGO).await?;
    mesh.check(
        "client-speaks-first",
        Claim::all(
            [("PostgreSQL", &sql), ("Redis", &redis), ("MongoDB", &mongo)]
                .map(|(protocol, reply)| held(&postgres, reply).of(protocol)),
        ),
    )?;
    let mysql = say(Conversation::MySql).get(MYSQL).await?;
    mesh.check("server-speaks-first", held(&postgres, &mysql))?;
    mesh.check(
        "no-plaintext-leak",
        sql.conversed().and(postgres.during(&sql).no_plaintext(&SECRETS)).provided(
            "the same conversation without origination",
            postgres.during(&in_clear).clear_bytes(SECRETS[0]),
        ),
    )?;
    let named = |server: &External<'_>, reply: &Reply, name: &str| server.received(reply).server_name(name);
    mesh.check(
        "sni-as-configured",
        named(&postgres, &sql, "postgres.example").and(named(&postgres, &redis, "redis.example")),
    )?;

    mesh.step("Servers that must be refused");
    for (check, host, reply) in [
        ("untrusted-server-refused", "unknown-ca.example", &unknown_ca),
        ("wrong-name-refused", "other-name.example", &other_name),
    ] {
        let refusing = mesh.external(host);
        let unseen = refusing.never_received(reply).and(refusing.during(reply).reached_as(host));
        mesh.check(
            check,
            reply.unlike("the same conversation with a server to be accepted", &sql).and(unseen),
        )?;
    }

    mesh.step("Several services on one port");
    let own = held(&orders, &of_orders).and(held(&stock, &of_stock));
    mesh.check("same-port-by-address", own)?;
    let older = held(&postgres, &of_second).or_recorded(held(&mesh.external("second.example"), &of_second));
    mesh.check("same-port-without-address", older)?;
    mesh.check(
        "tcp-route",
        held(&replica, &of_primary).and(named(&replica, &of_primary, "replica.example")),
    )?;
    let own_tls = say(Conversation::Redis).get(CACHE).await?;
    let passed = held(&mesh.external("cache.example"), &own_tls);
    mesh.check("tls-route", passed)?;

    mesh.step("Streams");
    let client_first = say(Conversation::ClientEndsFirst(SMALL)).get(STREAM).await?;
    mesh.check("client-ends-first", held(&postgres, &client_first))?;
    let server_first = say(Conversation::ServerEndsFirst(SMALL)).get(STREAM).await?;
    mesh.check("server-ends-first", held(&postgres, &server_first))?;
    let large = say(Conversation::ClientEndsFirst(LARGE)).get(STREAM).await?;
    mesh.check("large-transfer", held(&postgres, &large))?;
    let cluster = "outbound|7000||stream.example";
    let logged = |reply: &Reply| placement.proxy(mesh).logged_conversation(&postgres, reply, cluster);
    mesh.check("tcp-access-log", Claim::from(logged(&client_first)).and(logged(&large)))?;

    mesh.step("A database that asks for a client certificate");
    let vault = mesh.external("vault.example");
    mesh.apply(&[if placement == Placement::Sidecar { "mutual-at-sidecar" } else { "mutual-at-gateway" }])
        .await?;
    let without = say(Conversation::Postgres).get(VAULT).await?;
    let secret = Secret::new(placement.namespace(), "client-credential");
    mesh.create_secret(secret.key_pair(&certificate).ca(mesh.public_authority())).await?;
    let with = say(Conversation::Postgres).get(VAULT).await?;
    let presented = vault.received(&with).whole(&with).client_certificate(&certificate);
    mesh.check("client-certificate-presented", with.conversed().and(presented))?;
    mesh.check(
        "missing-credential-refused",
        without.unlike("the same conversation with the Secret", &with).and(vault.never_received(&without)),
    )
}
