//! A program with one scenario of its own: `cargo run -p own-scenario -- run`. docs/extending.md explains it.

use std::error::Error;
use std::process::ExitCode;

use meshproof_harness::claim::Claims;
use meshproof_harness::external_server::Site;
use meshproof_harness::fixtures::Fixtures;
use meshproof_harness::mesh::{Mesh, Stop};
use meshproof_harness::scenario::Scenario;
use meshproof_harness::topology::{Topology, Workload};

const HOST: &str = "payments.example.com";

/// The shop sends plain HTTP to the payment service. The sidecar must encrypt it.
async fn payments(mesh: &Mesh) -> Result<(), Stop> {
    let shop = mesh.workload("sleep");
    let certificate = mesh.public_authority().server(HOST).issue()?;
    let service = Site::at(HOST).certificate(&certificate).json("/charge", r#"{"charged":true}"#);
    let service = mesh.deploy_external(service).await?;

    mesh.step("Originate TLS for the payment service");
    mesh.apply(&["payments"]).await?;
    let reply = shop.get("http://payments.example.com/charge").await?;
    mesh.check("charge-is-encrypted", reply.ok().and(service.received(&reply)))?;
    mesh.check("server-name-is-host", service.saw_on(443, &reply).server_name(HOST))
}

fn scenarios() -> Result<Vec<Scenario>, Box<dyn Error>> {
    let fixtures = Fixtures::folder(concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/payments"))?;
    let topology = Topology::default().workload(Workload::sleep());
    Ok(vec![Scenario::read(fixtures, topology, payments)?])
}

fn main() -> ExitCode {
    match scenarios() {
        Ok(scenarios) => meshproof::main_with(scenarios),
        Err(e) => {
            eprintln!("own-scenario: {e}");
            ExitCode::from(meshproof::exit::ERROR)
        }
    }
}
