//! The proof of a verification: stand-in servers, generated Secrets and real requests, as a scenario that is built from the user's
//! files.

use std::collections::BTreeMap;
use std::sync::Arc;

use meshproof_harness::catalogue::{Catalogue, Check};
use meshproof_harness::certificates::{Authority, Issued, KeyAlgorithm};
use meshproof_harness::claim::{Claim, Claims, Reply};
use meshproof_harness::external_server::{ExternalServer, Site};
use meshproof_harness::fixtures::Fixtures;
use meshproof_harness::mesh::{Client, Mesh, Stop};
use meshproof_harness::runner::{self, Options};
use meshproof_harness::scenario::{Scenario, Story, StoryFn};
use meshproof_harness::secret::Secret;
use meshproof_harness::select::select;
use meshproof_harness::target::{ConfigChange, Target};
use meshproof_harness::timeouts::Timeouts;
use meshproof_harness::topology::{Gateway, Topology, Workload};
use meshproof_model::verification::Finding;
use meshproof_model::{Report, Verdict};
use meshproof_verify::proof::{Exchange, Expected, Proof, Sender};

use crate::exit::Refusal;
use crate::output::quoted;
use crate::runtime::runtime;

const PAGE: &str = "the stand-in for this server";

/// What is checked of a request; the last part of a check's id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Aspect {
    Originated,
    Log,
    NoPlaintext,
    ClientCertificate,
    WrongCa,
    WrongName,
    Expired,
    PlainText,
    OwnTls,
    GatewayCertificate,
    NoClientCertificate,
    /// With this status.
    Answered(u16),
    Fails,
}

impl Aspect {
    const fn id(self) -> &'static str {
        match self {
            Self::Originated => "originated",
            Self::Log => "access-log",
            Self::NoPlaintext => "no-plaintext",
            Self::ClientCertificate => "client-certificate",
            Self::WrongCa => "wrong-ca-refused",
            Self::WrongName => "wrong-name-refused",
            Self::Expired => "expired-refused",
            Self::PlainText => "plain-text-as-found",
            Self::OwnTls => "own-tls-kept",
            Self::GatewayCertificate => "gateway-certificate",
            Self::NoClientCertificate => "no-client-certificate-refused",
            Self::Answered(_) => "answered-as-found",
            Self::Fails => "fails-as-found",
        }
    }

    fn requirement(self, exchange: &Exchange) -> String {
        let (request, from, server) = (&exchange.request, &exchange.from, &exchange.server);
        match (self, &exchange.expected) {
            (Self::Originated, Expected::Originated { by, server_name, .. }) => {
                let name = server_name.as_deref().unwrap_or("none");
                format!(
                    "{request} from {from} arrives at {server} inside TLS that {by} opens, with server name {name}"
                )
            }
            (Self::Log, _) => format!("The proxy that opens TLS logs {request} with status 200"),
            (Self::NoPlaintext, _) => format!("Nothing of {request} reaches {server} outside TLS"),
            (Self::ClientCertificate, _) => format!("{server} gets the client certificate of the credential"),
            (Self::WrongCa, _) => format!("{request} does not reach a server whose CA is not trusted"),
            (Self::WrongName, _) => {
                format!("{request} does not reach a server with a certificate for another name")
            }
            (Self::Expired, _) => format!("{request} does not reach a server with an expired certificate"),
            (Self::PlainText | Self::Originated, _) => {
                format!("{request} from {from} arrives at {server} in plain text")
            }
            (Self::OwnTls, _) => {
                format!(
                    "{request} from {from} arrives at {server} inside TLS of the client's own, which no proxy opens"
                )
            }
            (Self::GatewayCertificate, _) => {
                format!("{from} presents the certificate of its Secret to the client of {request}")
            }
            (Self::NoClientCertificate, _) => {
                format!("{from} refuses {request} without a client certificate")
            }
            (Self::Answered(status), _) => {
                format!("A proxy itself answers {request} from {from} with {status}")
            }
            (Self::Fails, _) => format!("{request} from {from} reaches no server"),
        }
    }
}

fn aspects(exchange: &Exchange) -> Vec<Aspect> {
    let mut all = match &exchange.expected {
        Expected::Originated { names, verified, client, .. } => {
            let mut all = vec![Aspect::Originated, Aspect::Log, Aspect::NoPlaintext];
            if client.is_some() {
                all.push(Aspect::ClientCertificate);
            }
            if *verified {
                all.extend([Aspect::WrongCa, Aspect::Expired]);
                if !names.is_empty() {
                    all.push(Aspect::WrongName);
                }
            }
            all
        }
        Expected::PlainText => vec![Aspect::PlainText],
        Expected::OwnTls => vec![Aspect::OwnTls],
        Expected::Answered(status) => vec![Aspect::Answered(*status)],
        Expected::RefusesName { .. } | Expected::Fails(_) => vec![Aspect::Fails],
    };
    if let Some(terminated) = exchange.terminated.as_ref().filter(|_| !is_refused(exchange)) {
        all.push(Aspect::GatewayCertificate);
        if terminated.requires_client {
            all.push(Aspect::NoClientCertificate);
        }
    }
    all
}

/// Whether the client gets no answer at all, so that it may not see the gateway's certificate.
fn is_refused(exchange: &Exchange) -> bool {
    exchange.expected == Expected::Fails(None)
}

fn check_id(exchange: &Exchange, aspect: Aspect) -> String {
    format!("{}-{}", exchange.id, aspect.id())
}

/// Sends the requests and judges them.
///
/// # Errors
/// The run cannot begin.
pub(super) fn run(
    proof: &Proof,
    target: Arc<dyn Target>,
    timeouts: Timeouts,
    command: &str,
    checks: &[String],
) -> Result<Report, Refusal> {
    // The runner keeps scenarios for the length of the process, which ends with the command.
    let scenarios: &'static [Scenario] = Box::leak(Box::new([scenario(proof.clone())]));
    let selection = select(scenarios, checks).map_err(|e| Refusal::Usage(e.to_string()))?;
    let mut options = Options::new(target, selection);
    options.timeouts = timeouts;
    options.command = checks.iter().fold(command.to_owned(), |all, check| format!("{all} {}", quoted(check)));
    command.clone_into(&mut options.repeat);
    let runtime = runtime()?;
    let report = runtime.block_on(runner::run(options)).map_err(|e| Refusal::Environment(e.to_string()));
    runtime.shutdown_background();
    report
}

fn scenario(proof: Proof) -> Scenario {
    let mut topology = Topology::default();
    for workload in &proof.workloads {
        let made = Workload::new(&workload.name).in_namespace(&workload.namespace);
        topology = topology.workload(made.dials(workload.dials.clone()));
    }
    for gateway in &proof.gateways {
        let mut made = Gateway::new(&gateway.name).in_namespace(&gateway.namespace);
        for (name, value) in &gateway.labels {
            made = made.label(name, value);
        }
        topology = topology.gateway(made.ports(gateway.ports.clone()));
    }
    let checks = proof.exchanges.iter().flat_map(|exchange| {
        aspects(exchange).into_iter().map(|aspect| {
            Check::must(check_id(exchange, aspect), &exchange.request, aspect.requirement(exchange))
        })
    });
    let accounted = Check::must(
        meshproof_harness::ledger::CHECK,
        "The whole configuration",
        "Every request, connection and access-log line belongs to a request of a client, and agrees with what the configuration promises.",
    );
    let mut catalogue = Catalogue::new("verify").checks(checks).checks([accounted]);
    catalogue.title = "The configuration that was verified".to_owned();
    catalogue.document = "the user's own configuration".to_owned();
    let fixtures = Fixtures::embedded("verify", [("none.yaml", "")]);
    let proof: &'static Proof = Box::leak(Box::new(proof));
    Scenario::new(catalogue, fixtures, topology, Requests(proof))
}

/// The story of these requests.
struct Requests(&'static Proof);

impl<'a> StoryFn<'a> for Requests {
    type Told = Story<'a>;

    fn tell(&self, mesh: &'a Mesh) -> Story<'a> {
        Box::pin(story(mesh, self.0))
    }
}

/// Certificates of the stand-ins.
struct Parties {
    /// The CA of the Secrets.
    private: Authority,
    /// A CA that is not trusted.
    stranger: Authority,
    client: Issued,
    /// Of the gateways that end the TLS of clients.
    gateway: Issued,
}

/// How a server presents itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Guise {
    Right,
    WrongCa,
    WrongName,
    Expired,
}

/// What a server must have for all its requests.
#[derive(Clone, Debug, Default)]
struct Standing {
    names: Vec<String>,
    private: bool,
    clients: bool,
    paths: Vec<String>,
}

fn standings(proof: &Proof) -> BTreeMap<&str, Standing> {
    let mut all: BTreeMap<&str, Standing> = BTreeMap::new();
    for exchange in &proof.exchanges {
        let standing = all.entry(&exchange.server).or_default();
        let path = exchange.url.split_once("://").and_then(|(_, r)| r.find('/').map(|at| &r[at..]));
        let path = path.unwrap_or("/").split('?').next().unwrap_or("/").to_owned();
        if !standing.paths.contains(&path) {
            standing.paths.push(path);
        }
        let (names, trust, client): (&[String], _, _) = match &exchange.expected {
            Expected::Originated { names, trust, client, .. } => (names, trust, client),
            // The certificate is for the server's own name.
            Expected::RefusesName { trust, client } => (&[], trust, client),
            Expected::OwnTls => (std::slice::from_ref(&exchange.server), &None, &None),
            Expected::PlainText | Expected::Answered(_) | Expected::Fails(_) => continue,
        };
        standing.private |= trust.is_some();
        standing.clients |= client.is_some();
        for name in names {
            if !standing.names.contains(name) {
                standing.names.push(name.clone());
            }
        }
    }
    all
}

fn server(
    mesh: &Mesh,
    parties: &Parties,
    host: &str,
    standing: &Standing,
    guise: Guise,
) -> Result<ExternalServer, Stop> {
    let own = vec![host.to_owned()];
    let names = if standing.names.is_empty() { &own } else { &standing.names };
    let ca = match guise {
        Guise::WrongCa => &parties.stranger,
        Guise::Right | Guise::WrongName | Guise::Expired if standing.private => &parties.private,
        Guise::Right | Guise::WrongName | Guise::Expired => mesh.public_authority(),
    };
    let mut builder = ca.server(host);
    builder = match guise {
        Guise::WrongName => builder.with_san(["another.name.invalid"]),
        Guise::Expired => builder.with_san(names.clone()).expired(),
        Guise::Right | Guise::WrongCa => builder.with_san(names.clone()),
    };
    let issued = builder.issue()?;
    let mut made = Site::at(host).certificate(&issued).serving_in_clear();
    if standing.clients {
        made = made.requiring_clients_of(&parties.private);
    }
    for path in &standing.paths {
        made = made.text(path, PAGE);
    }
    Ok(made)
}

async fn deploy(
    mesh: &Mesh,
    parties: &Parties,
    standings: &BTreeMap<&str, Standing>,
    guise: Guise,
) -> Result<(), Stop> {
    let servers: Result<Vec<ExternalServer>, Stop> =
        standings.iter().map(|(host, standing)| server(mesh, parties, host, standing, guise)).collect();
    mesh.deploy_externals(servers?).await?;
    Ok(())
}

/// The client of a request.
fn client<'m>(mesh: &'m Mesh, exchange: &'static Exchange) -> Client<'m> {
    let client = match &exchange.sender {
        Sender::Workload(name) => mesh.workload(name),
        Sender::Outside { gateway, port } => mesh.proxy(gateway).probe(*port),
    };
    exchange.headers.iter().fold(client, |client, (name, value)| client.header(name, value))
}

async fn ask(mesh: &Mesh, parties: &Parties, exchange: &'static Exchange) -> Result<Reply, Stop> {
    let mut client = client(mesh, exchange);
    if let Some(terminated) = &exchange.terminated {
        client = client.identity(&match &terminated.client_name {
            None => parties.client.clone(),
            Some(name) if name.contains("://") => parties.private.mesh_identity(name).issue()?,
            Some(name) => parties.private.server(name).client_auth_only().issue()?,
        });
    }
    client.get(&exchange.url).await
}

async fn story(mesh: &Mesh, proof: &'static Proof) -> Result<(), Stop> {
    mesh.step("Stand-in servers, Secrets and the configuration");
    let algorithm = KeyAlgorithm::EcdsaP256;
    let private = Authority::named("meshproof private CA", "meshproof", algorithm)?;
    let stranger = Authority::named("meshproof stranger's CA", "meshproof", algorithm)?;
    let identity = private.client("meshproof client").issue()?;
    let served = proof.exchanges.iter().filter_map(|e| e.terminated.as_ref()).map(|t| t.host.as_str());
    let gateway =
        mesh.public_authority().server("a gateway of the configuration").with_san(served).issue()?;
    let parties = Parties { private, stranger, client: identity, gateway };
    let standings = standings(proof);
    deploy(mesh, &parties, &standings, Guise::Right).await?;
    for (secrets, pair) in [(&proof.secrets, &parties.client), (&proof.certificates, &parties.gateway)] {
        for (namespace, name) in secrets {
            let secret = Secret::new(namespace, name).key_pair(pair).ca(&parties.private);
            mesh.create_secret(secret).await?;
        }
    }
    mesh.change(ConfigChange { apply: proof.resources.clone(), delete: Vec::new() }).await?;

    mesh.step("Every request, to the right server");
    let mut right: BTreeMap<&str, Reply> = BTreeMap::new();
    for exchange in &proof.exchanges {
        let reply = ask(mesh, &parties, exchange).await?;
        let external = mesh.external(&exchange.server);
        match &exchange.expected {
            Expected::Originated { by, server_name, client, .. } => {
                let mut received = external.received(&reply);
                if let Some(name) = server_name {
                    received = received.server_name(name);
                }
                let opened = external.connection_opened_by(by, &reply);
                check(
                    mesh,
                    exchange,
                    Aspect::Originated,
                    reply.ok().body_contains(PAGE).and(received).and(opened),
                )?;
                let logged = mesh.proxy(by).logged(&reply).method("GET").status(200);
                check(mesh, exchange, Aspect::Log, logged)?;
                check(mesh, exchange, Aspect::NoPlaintext, external.during(&reply).no_plaintext(&[PAGE]))?;
                if client.is_some() {
                    let shown = external.received(&reply).client_certificate(&parties.client);
                    check(mesh, exchange, Aspect::ClientCertificate, shown)?;
                }
            }
            Expected::PlainText => {
                check(mesh, exchange, Aspect::PlainText, external.saw(&reply).exactly(1).in_clear())?;
            }
            Expected::OwnTls => {
                // The client verifies the server's certificate, so a proxy that opened the TLS would be refused.
                let kept = reply.ok().body_contains(PAGE).and(external.received(&reply));
                check(mesh, exchange, Aspect::OwnTls, kept)?;
            }
            Expected::Answered(status) => {
                let answered = Claim::from(reply.hop(0).status(*status));
                // A workload follows a redirect, perhaps to this server.
                let stays = !(300..400).contains(status) || matches!(exchange.sender, Sender::Outside { .. });
                let nothing = stays.then(|| external.never_received(&reply));
                check(
                    mesh,
                    exchange,
                    Aspect::Answered(*status),
                    Claim::all([answered].into_iter().chain(nothing)),
                )?;
            }
            Expected::RefusesName { .. } | Expected::Fails(_) => {
                check(mesh, exchange, Aspect::Fails, reply.fails().and(external.never_received(&reply)))?;
            }
        }
        if aspects(exchange).contains(&Aspect::GatewayCertificate) {
            let presented = reply.hop(0).certificate(parties.gateway.sha256());
            check(mesh, exchange, Aspect::GatewayCertificate, presented)?;
        }
        right.insert(&exchange.id, reply);
    }
    for exchange in proof.exchanges.iter().filter(|e| aspects(e).contains(&Aspect::NoClientCertificate)) {
        let reply = client(mesh, exchange).get(&exchange.url).await?;
        let Some(control) = right.get(exchange.id.as_str()) else { continue };
        let refused = reply.is_refused().and(mesh.external(&exchange.server).never_received(&reply));
        let presented = control.hop(0).certificate(parties.gateway.sha256());
        check(
            mesh,
            exchange,
            Aspect::NoClientCertificate,
            refused.provided("the same request with a client certificate", presented),
        )?;
    }
    for (guise, aspect) in [
        (Guise::WrongCa, Aspect::WrongCa),
        (Guise::WrongName, Aspect::WrongName),
        (Guise::Expired, Aspect::Expired),
    ] {
        let asked: Vec<&'static Exchange> =
            proof.exchanges.iter().filter(|e| aspects(e).contains(&aspect)).collect();
        if asked.is_empty() {
            continue;
        }
        mesh.step(match guise {
            Guise::WrongCa => "Servers of a CA that is not trusted",
            Guise::WrongName => "Servers with a certificate for another name",
            Guise::Expired => "Servers with an expired certificate",
            Guise::Right => "The right servers",
        });
        deploy(mesh, &parties, &standings, guise).await?;
        for exchange in asked {
            let reply = ask(mesh, &parties, exchange).await?;
            let Some(control) = right.get(exchange.id.as_str()) else { continue };
            let claim = reply
                .unlike("the same request to the right server", control)
                .and(mesh.external(&exchange.server).never_received(&reply));
            check(mesh, exchange, aspect, claim)?;
        }
    }
    Ok(())
}

fn check(mesh: &Mesh, exchange: &Exchange, aspect: Aspect, claim: impl Into<Claim>) -> Result<(), Stop> {
    mesh.check(&check_id(exchange, aspect), claim)
}

/// The findings which say that a handshake with a server fails.
const HANDSHAKE_FAILS: [&str; 4] = ["MP0002", "MP0004", "MP0008", "MP0026"];

/// Whether a real request did not do what the finding says.
pub(super) fn is_contradicted(finding: &Finding) -> bool {
    finding.proof.as_ref().is_some_and(|p| p.starts_with("CONTRADICTED"))
}

/// What the proof says of findings: by the code and the request, a sentence.
pub(super) fn about_findings(proof: &Proof, report: &Report) -> Vec<(String, String, String)> {
    let verdicts: BTreeMap<&str, (Verdict, &str)> = report
        .scenarios
        .iter()
        .flat_map(|s| &s.checks)
        .map(|c| (c.id.rsplit('/').next().unwrap_or_default(), (c.verdict, c.reason.as_str())))
        .collect();
    let mut all = Vec::new();
    for exchange in proof.exchanges.iter().filter(|e| !e.findings.is_empty()) {
        for aspect in aspects(exchange) {
            let Some((verdict, reason)) = verdicts.get(check_id(exchange, aspect).as_str()) else { continue };
            let sentence = match (verdict, aspect) {
                (Verdict::Passed, Aspect::PlainText) => {
                    "a real request arrived in plain text, as found".to_owned()
                }
                (Verdict::Passed, Aspect::Fails) => "a real request reached no server, as found".to_owned(),
                (Verdict::Failed, Aspect::PlainText | Aspect::Fails) => format!(
                    "CONTRADICTED by a real request ({reason}). This is a fault of meshproof: please report it"
                ),
                (Verdict::Passed, Aspect::Originated) => {
                    "CONTRADICTED by a real request: it arrived inside TLS. This is a fault of meshproof: please report it"
                        .to_owned()
                }
                _ => continue,
            };
            let of_this = exchange.findings.iter();
            for code in
                of_this.filter(|c| aspect != Aspect::Originated || HANDSHAKE_FAILS.contains(&c.as_str()))
            {
                all.push((code.clone(), exchange.request.clone(), sentence.clone()));
            }
        }
    }
    all
}
