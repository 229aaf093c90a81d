//! The questions to an adapter, in their order.

use std::collections::BTreeMap;

use meshproof_harness::access_log;
use meshproof_harness::feature::Feature;
use meshproof_harness::timeouts::Timeouts;
use meshproof_local::data_plane::DataPlaneError;
use meshproof_model::AccessLog;
use meshproof_plan::model::{Direction, OriginalDestination, Plan};

use super::bench::{AnsweredBy, CheckBench, HOST, PATH, free_address};
use super::point::{Outcome, Unchecked};
use crate::data_plane::{Adapter, Introduction, introduce};
use crate::files::StartFiles;
use crate::message::{Apply, Decision, FromAdapter, ToAdapter};
use crate::session::AdapterSession;

/// The status with which the proxy itself answers: no server of this check sends it.
const OWN_STATUS: u16 = 409;

/// The outcome of each tested point.
pub(super) async fn ask_all(
    adapter: &Adapter,
    timeouts: &Timeouts,
) -> Result<BTreeMap<&'static str, Outcome>, Unchecked> {
    let bench = CheckBench::new(timeouts).await?;
    let mut points = PointOutcomes::default();
    if let Some(hello) = idle_processes(adapter, &bench, &mut points).await? {
        let proxy = if hello.features.contains(&Feature::Sidecar) { SIDECAR } else { GATEWAY };
        first_process(adapter, &bench, &mut points, &hello, proxy).await?;
        // Without a listener, an exit leaves nothing more behind than in the idle processes.
        if points.is_kept("apply-listens") {
            second_process(adapter, &bench, &mut points, proxy).await?;
        }
    }
    // The check does not depend on how its own server stops.
    let _ended = bench.server.stop().await;
    Ok(points.0)
}

#[derive(Default)]
struct PointOutcomes(BTreeMap<&'static str, Outcome>);

impl PointOutcomes {
    fn put(&mut self, id: &'static str, outcome: Outcome) {
        self.0.insert(id, outcome);
    }

    /// Sets the outcome of a point.
    fn judge(&mut self, id: &'static str, result: Result<String, String>) {
        self.put(id, result.map_or_else(Outcome::Broken, Outcome::Kept));
    }

    /// Sets the outcome of a point that was tested before: it is kept only if it was kept each time.
    fn judge_too(&mut self, id: &'static str, result: Result<String, String>) {
        if !matches!(self.0.get(id), Some(Outcome::Broken(_))) {
            self.judge(id, result);
        }
    }

    fn is_kept(&self, id: &str) -> bool {
        matches!(self.0.get(id), Some(Outcome::Kept(_)))
    }
}

/// A conversation with one process of the adapter.
struct Conversation<'a> {
    session: AdapterSession,
    start_files: StartFiles,
    proxy: &'static str,
    direction: Direction,
    revision: u64,
    bench: &'a CheckBench,
}

impl Conversation<'_> {
    async fn ask(&self, message: &ToAdapter<'_>) -> Result<FromAdapter, String> {
        self.session.ask(message).await.map_err(|ending| ending.to_string())
    }

    /// Applies a plan. Returns none for `applied`, else the answer in words.
    async fn apply(&mut self, plan: &Plan) -> Result<Option<String>, String> {
        self.revision += 1;
        let asked = self.revision;
        let credentials = BTreeMap::new();
        let endpoints =
            [OriginalDestination { host: HOST.to_owned(), port: 80, address: self.bench.upstream }];
        let message = ToAdapter::Apply(Box::new(Apply {
            revision: asked,
            plan,
            resources: &[],
            endpoints: &endpoints,
            credentials: &credentials,
            identities: &self.start_files.identities,
            mesh_roots: &self.start_files.mesh_roots,
            system_roots: &self.start_files.system_roots,
        }));
        match self.ask(&message).await?.decision(asked) {
            Ok(Decision::Applied) => Ok(None),
            Ok(Decision::Rejected(reason)) => {
                Ok(Some(format!("`rejected`: {}", meshproof_harness::redact::without_keys(&reason))))
            }
            Ok(Decision::Unsupported(feature)) => Ok(Some(format!("`unsupported`: {feature}"))),
            Err(other) => Err(format!("`apply` of revision {asked} was answered with {}", other.describe())),
        }
    }

    async fn must_apply(&mut self, plan: &Plan) -> Result<(), String> {
        self.apply(plan).await?.map_or(Ok(()), |declined| Err(format!("it answered {declined}")))
    }

    async fn settle(&self) -> Result<Vec<AccessLog>, String> {
        let answer = self.ask(&ToAdapter::Settle).await?;
        if answer == FromAdapter::Settled {
            Ok(self.bench.lines.take())
        } else {
            Err(format!("`settle` was answered with `{}`", answer.kind()))
        }
    }

    fn listening(&self, by: AnsweredBy) -> Plan {
        self.bench.plan(self.proxy, self.direction, &[self.bench.listener], by)
    }

    async fn request(&self, expected: u16) -> Result<String, String> {
        match self.bench.request().await {
            (Ok(status), token) if status == expected => Ok(token),
            (Ok(status), _) => Err(format!("a request got {status}, expected {expected}")),
            (Err(words), _) => Err(format!("a request got no answer, expected {expected}: {words}")),
        }
    }

    /// Checks that a connection is refused. A listener that accepts it and never answers is still a listener.
    async fn closed(&self) -> Result<String, String> {
        match tokio::net::TcpStream::connect(self.bench.listener).await {
            Ok(_) => Err(format!("{} still accepts connections", self.bench.listener)),
            Err(e) => Ok(format!("{}: {e}", self.bench.listener)),
        }
    }
}

fn open<'a>(
    adapter: &Adapter,
    bench: &'a CheckBench,
    name: &str,
    proxy: &'static str,
) -> Result<(Conversation<'a>, String), Unchecked> {
    let (folder, start_files) = bench.folder_for(name, proxy)?;
    // Only `hello` shows which kind of proxy it has. Until then it may log for either.
    let session = adapter.open(bench.log(&[SIDECAR, GATEWAY])).map_err(|e| match e {
        DataPlaneError::Environment(words)
        | DataPlaneError::Refused(words)
        | DataPlaneError::Unable(words)
        | DataPlaneError::Gone(words) => Unchecked::Environment(words),
        DataPlaneError::Unsupported(feature) => Unchecked::Environment(feature.to_string()),
    })?;
    let direction = if proxy == GATEWAY { Direction::Gateway } else { Direction::Outbound };
    Ok((Conversation { session, start_files, proxy, direction, revision: 0, bench }, folder))
}

const SIDECAR: &str = "sleep";
const GATEWAY: &str = "istio-ingressgateway";

/// Tests what needs no `apply`, with two processes: one that is stopped and one whose input ends. Returns
/// none if the adapter does not answer `hello`.
async fn idle_processes(
    adapter: &Adapter,
    bench: &CheckBench,
    points: &mut PointOutcomes,
) -> Result<Option<Introduction>, Unchecked> {
    let (conversation, folder) = open(adapter, bench, "stopped", SIDECAR)?;
    let hello = match introduce(&conversation.session, &folder).await {
        Ok(hello) => hello,
        Err(ending) => {
            points.judge("hello", Err(ending.to_string()));
            return Ok(None);
        }
    };
    let features = if hello.features.is_empty() { "none".to_owned() } else { Feature::list(&hello.features) };
    points.judge("hello", Ok(format!("{} {}, features: {features}", hello.name, hello.version)));
    points.judge("features-known", features_known(&hello));
    points.judge("unknown-members", unknown_members(&conversation).await);
    // Breaking the contract ends the process; it cannot be asked anything more.
    if !conversation.session.is_over() {
        points.judge("stop", conversation.session.stop().await.map(|()| IDLE.to_owned()));
    }
    let (conversation, folder) = open(adapter, bench, "hung-up", SIDECAR)?;
    let ended = match introduce(&conversation.session, &folder).await {
        Err(ending) => Err(ending.to_string()),
        Ok(again) if (&again.features, &again.unknown) != (&hello.features, &hello.unknown) => {
            Err("its second process declares other features than its first".to_owned())
        }
        Ok(_) => conversation.session.hang_up().await.map(|()| IDLE.to_owned()),
    };
    points.judge("end-of-input", ended);
    // No request was sent, so these lines belong to none.
    let _lines_without_request = bench.lines.take();
    Ok(Some(hello))
}

/// The observation for an adapter that ended before it got a plan.
const IDLE: &str = "right after `hello`; not tested with a listener";

async fn first_process(
    adapter: &Adapter,
    bench: &CheckBench,
    points: &mut PointOutcomes,
    hello: &Introduction,
    proxy: &'static str,
) -> Result<(), Unchecked> {
    let (mut conversation, folder) = open(adapter, bench, "first", proxy)?;
    if let Err(ending) = introduce(&conversation.session, &folder).await {
        points.judge("hello", Err(ending.to_string()));
        return Ok(());
    }
    if converse(&mut conversation, points, hello).await.is_some() {
        let stopped = match conversation.session.stop().await {
            Ok(()) => conversation.closed().await,
            Err(words) => Err(words),
        };
        points.judge_too("stop", stopped);
    }
    Ok(())
}

fn features_known(hello: &Introduction) -> Result<String, String> {
    match &hello.unknown {
        None => Ok(format!("{} features", hello.features.len())),
        Some(unknown) => Err(unknown.to_string()),
    }
}

/// Returns none if the adapter has ended.
async fn converse(
    conversation: &mut Conversation<'_>,
    points: &mut PointOutcomes,
    hello: &Introduction,
) -> Option<()> {
    let alive = |conversation: &Conversation<'_>| (!conversation.session.is_over()).then_some(());
    let empty = conversation.must_apply(&Plan::default()).await;
    points.judge("apply-empty", empty.map(|()| "revision 1".to_owned()));
    alive(conversation)?;

    let plan = conversation.listening(AnsweredBy::Cluster);
    let listens = match conversation.must_apply(&plan).await {
        Ok(()) => conversation.request(200).await,
        Err(words) => Err(words),
    };
    let token = listens.clone().ok();
    points.judge("apply-listens", listens.map(|_| format!("200 from {}", conversation.bench.upstream)));
    alive(conversation)?;
    logs(conversation, points, hello, token.as_deref()).await;
    alive(conversation)?;
    if token.is_none() {
        let why = "no listener answers".to_owned();
        for id in ["apply-changes", "address-taken", "listener-closes"] {
            points.put(id, Outcome::NotAsked(why.clone()));
        }
    } else {
        let plan = conversation.listening(AnsweredBy::Status(OWN_STATUS));
        let changes = match conversation.must_apply(&plan).await {
            Ok(()) => conversation.request(OWN_STATUS).await,
            Err(words) => Err(words),
        };
        points.judge("apply-changes", changes.map(|_| format!("{OWN_STATUS} from the proxy itself")));
        alive(conversation)?;
        let taken = address_taken(conversation).await;
        points.judge("address-taken", taken);
        alive(conversation)?;
        let closes = match conversation.must_apply(&Plan::default()).await {
            Ok(()) => conversation.closed().await,
            Err(words) => Err(words),
        };
        points.judge("listener-closes", closes);
        alive(conversation)?;
    }
    if hello.features.contains(&Feature::CredentialStatus) {
        let status = credential_status(conversation).await;
        points.judge("credential-status", status);
        alive(conversation)?;
    } else {
        let why = "it does not declare the feature credential-status".to_owned();
        points.put("credential-status", Outcome::NotAsked(why));
    }
    Some(())
}

async fn unknown_members(conversation: &Conversation<'_>) -> Result<String, String> {
    let answer = conversation.session.ask_with_unknown_member().await.map_err(|e| e.to_string())?;
    if answer == FromAdapter::Settled {
        Ok("`settle` with one more member was answered with `settled`".to_owned())
    } else {
        Err(format!("`settle` with one more member was answered with `{}`", answer.kind()))
    }
}

async fn credential_status(conversation: &Conversation<'_>) -> Result<String, String> {
    match conversation
        .ask(&ToAdapter::Credentials { proxy: conversation.proxy })
        .await?
        .status_of(conversation.proxy)
    {
        Ok(credentials) => Ok(format!("{} credentials of {}", credentials.len(), conversation.proxy)),
        Err(other) => {
            Err(format!("`credentials` of {} was answered with {}", conversation.proxy, other.describe()))
        }
    }
}

async fn address_taken(conversation: &mut Conversation<'_>) -> Result<String, String> {
    let taken = free_address().map_err(|e| e.to_string())?;
    let _holding =
        std::net::TcpListener::bind(taken).map_err(|e| format!("the suite cannot bind {taken}: {e}"))?;
    let binds = [conversation.bench.listener, taken];
    let plan =
        conversation.bench.plan(conversation.proxy, conversation.direction, &binds, AnsweredBy::Cluster);
    let declined = conversation.apply(&plan).await?;
    let declined = declined.ok_or_else(|| format!("it answered `applied`, although {taken} is in use"))?;
    conversation.request(OWN_STATUS).await.map_err(|e| format!("it answered {declined}, but then {e}"))?;
    Ok(meshproof_harness::store::bounded(&declined, 200))
}

/// Tests two points: that the line came in time, and its content.
async fn logs(
    conversation: &Conversation<'_>,
    points: &mut PointOutcomes,
    hello: &Introduction,
    token: Option<&str>,
) {
    let settled = conversation.settle().await;
    let why = if hello.features.contains(&Feature::AccessLog) {
        "no request was answered"
    } else {
        "it does not declare the feature access-log"
    };
    let Some(token) = token.filter(|_| hello.features.contains(&Feature::AccessLog)) else {
        let delivered = match settled {
            Ok(_) => Outcome::NotAsked(why.to_owned()),
            Err(words) => Outcome::Broken(words),
        };
        points.put("log-delivered", delivered);
        points.put("log-readable", Outcome::NotAsked(why.to_owned()));
        return;
    };
    let lines = match settled {
        Ok(lines) => lines,
        Err(words) => {
            points.judge("log-delivered", Err(words));
            return;
        }
    };
    let delivered = match lines.as_slice() {
        [_] => Ok("one log line".to_owned()),
        [] => Err("no log line had come before `settled`".to_owned()),
        more => Err(format!("{} log lines came for one request", more.len())),
    };
    points.judge("log-delivered", delivered);
    match lines.first() {
        Some(line) => {
            let upstream = conversation.bench.upstream.to_string();
            points.judge("log-readable", readable(line, token, &upstream));
        }
        None => points.put("log-readable", Outcome::NotAsked("no log line came".to_owned())),
    }
}

fn readable(log: &AccessLog, token: &str, upstream: &str) -> Result<String, String> {
    let line = meshproof_harness::store::bounded(&log.line, 300);
    let Some(fields) = &log.fields else {
        return Err(format!("{}: {line}", log.unreadable.as_deref().unwrap_or("it cannot be read")));
    };
    let path = format!("{PATH}?n=1");
    let status = fields.response_code.map(|c| c.to_string());
    let demands = [
        ("method", fields.method.as_deref(), "GET"),
        ("path", fields.path.as_deref(), path.as_str()),
        ("response code", status.as_deref(), "200"),
        ("User-Agent's token", access_log::token(fields), token),
        ("authority", fields.authority.as_deref(), HOST),
        ("upstream host", fields.upstream_host.as_deref(), upstream),
    ];
    let wrong: Vec<String> = demands
        .into_iter()
        .filter(|(_, seen, expected)| *seen != Some(*expected))
        .map(|(name, seen, expected)| format!("{name} is {}, expected {expected}", seen.unwrap_or("absent")))
        .collect();
    if wrong.is_empty() {
        Ok(format!("format {}", log.format.as_deref().unwrap_or("unknown")))
    } else {
        Err(format!("{}: {line}", wrong.join("; ")))
    }
}

/// Tests what a killed suite would leave behind.
async fn second_process(
    adapter: &Adapter,
    bench: &CheckBench,
    points: &mut PointOutcomes,
    proxy: &'static str,
) -> Result<(), Unchecked> {
    let (mut conversation, folder) = open(adapter, bench, "second", proxy)?;
    let plan = conversation.listening(AnsweredBy::Cluster);
    let result = async {
        introduce(&conversation.session, &folder).await.map_err(|e| e.to_string())?;
        conversation.must_apply(&plan).await?;
        conversation.session.hang_up().await?;
        conversation.closed().await
    };
    let result = result.await;
    points.judge_too("end-of-input", result);
    Ok(())
}
