//! The databases.

use std::net::IpAddr;

use meshproof_harness::certificates::{Authority, Issued, KeyAlgorithm};
use meshproof_harness::conversation::TcpProtocol;
use meshproof_harness::external_server::{ExternalServer, Site};
use meshproof_harness::mesh::{Mesh, Stop};

/// The server of the first five.
pub(super) const DATABASES: &str = "postgres.example";
const ALIASES: [&str; 4] = ["redis.example", "mysql.example", "mongo.example", "stream.example"];
pub(super) const ORDERS: &str = "orders.example";
pub(super) const STOCK: &str = "stock.example";
pub(super) const REPLICA: &str = "replica.example";

// What applications dial: ports of services without an address, and addresses.
pub(super) const POSTGRES: &str = "tcp://postgres.example:5432";
pub(super) const REDIS: &str = "tcp://redis.example:6379";
pub(super) const MYSQL: &str = "tcp://mysql.example:3306";
pub(super) const MONGO: &str = "tcp://mongo.example:27017";
pub(super) const STREAM: &str = "tcp://stream.example:7000";
pub(super) const SECOND: &str = "tcp://second.example:5432";
pub(super) const CACHE: &str = "tls://cache.example:6380";
pub(super) const OF_ORDERS: &str = "tcp://10.42.0.1:5432";
pub(super) const OF_STOCK: &str = "tcp://10.42.0.2:5432";
pub(super) const UNKNOWN_CA: &str = "tcp://10.42.0.3:5432";
pub(super) const OTHER_NAME: &str = "tcp://10.42.0.4:5432";
pub(super) const VAULT: &str = "tcp://10.42.0.5:5432";
pub(super) const PRIMARY: &str = "tcp://10.42.0.6:5432";

/// The ports of services without an address.
pub(super) const PORTS: [u16; 6] = [5432, 6379, 3306, 27017, 7000, 6380];

/// The addresses, each with a port.
pub(super) fn addresses() -> Vec<(IpAddr, u16)> {
    (1..=6).map(|last| (IpAddr::from([10, 42, 0, last]), 5432)).collect()
}

pub(super) fn all(mesh: &Mesh, clients: &Authority) -> Result<Vec<ExternalServer>, Stop> {
    let public = mesh.public_authority();
    let private = Authority::named("A private CA", "not among the roots", KeyAlgorithm::EcdsaP256)?;
    let names = [&[DATABASES], &ALIASES[..]].concat();
    let postgres = |host: &str, certificate: &Issued| {
        Site::at(host).certificate(certificate).speaking(5432, TcpProtocol::Postgres)
    };
    let databases = postgres(DATABASES, &public.server(DATABASES).with_san(names).issue()?)
        .also_for(&ALIASES)
        .speaking(6379, TcpProtocol::Redis)
        .speaking(3306, TcpProtocol::MySql)
        .speaking(27017, TcpProtocol::Mongo)
        .speaking(7000, TcpProtocol::Stream);
    let own = |host: &str| Ok::<_, Stop>(postgres(host, &public.server(host).issue()?));
    let replica = Site::at(REPLICA).certificate(&public.server(REPLICA).issue()?);
    let cache = Site::at("cache.example").certificate(&public.server("cache.example").issue()?);
    let vault = Site::at("vault.example").certificate(&public.server("vault.example").issue()?);
    Ok(vec![
        databases,
        own(ORDERS)?,
        own(STOCK)?,
        own("second.example")?,
        postgres("unknown-ca.example", &private.server("unknown-ca.example").issue()?),
        postgres("other-name.example", &public.server("somebody.example").issue()?),
        replica.speaking(5433, TcpProtocol::Postgres),
        cache.speaking(6380, TcpProtocol::Redis),
        vault.requiring_clients_of(clients).speaking(5432, TcpProtocol::Postgres),
    ])
}
