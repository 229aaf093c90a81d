//! The questions, in their order.

use std::collections::BTreeMap;

use meshproof_harness::access_log;
use meshproof_harness::feature::Feature;
use meshproof_harness::timeouts::Timeouts;
use meshproof_local::data_plane::DataPlaneError;
use meshproof_model::AccessLog;
use meshproof_plan::model::{Direction, OriginalDestination, Plan};

use super::world::{Gets, HOST, PATH, World, free_address};
use super::{Outcome, Unchecked};
use crate::Adapter;
use crate::files::Lasting;
use crate::message::{Apply, Decision, FromAdapter, ToAdapter};
use crate::plane::{Introduction, introduce};
use crate::session::Session;

/// What the checker answers where the plan names a status: no server sends it by itself.
const OWN_STATUS: u16 = 418;

/// What became of each point that was asked.
pub(super) async fn ask_all(
    adapter: &Adapter,
    timeouts: &Timeouts,
) -> Result<BTreeMap<&'static str, Outcome>, Unchecked> {
    let world = World::new(timeouts).await?;
    let mut points = Points::default();
    if let Some(told) = idle_processes(adapter, &world, &mut points).await? {
        let proxy = if told.features.contains(&Feature::Sidecar) { SIDECAR } else { GATEWAY };
        first_process(adapter, &world, &mut points, &told, proxy).await?;
        // Without a listener there is nothing more that an end could leave behind.
        if points.is_kept("apply-listens") {
            second_process(adapter, &world, &mut points, proxy).await?;
        }
    }
    // Nothing of the check's depends on how its own server ends.
    let _ended = world.server.stop().await;
    Ok(points.0)
}

#[derive(Default)]
struct Points(BTreeMap<&'static str, Outcome>);

impl Points {
    fn put(&mut self, id: &'static str, outcome: Outcome) {
        self.0.insert(id, outcome);
    }

    /// Notes how it went.
    fn judge(&mut self, id: &'static str, result: Result<String, String>) {
        self.put(id, result.map_or_else(Outcome::Broken, Outcome::Kept));
    }

    /// Notes how it went once more: kept is what is kept each time.
    fn judge_too(&mut self, id: &'static str, result: Result<String, String>) {
        if !matches!(self.0.get(id), Some(Outcome::Broken(_))) {
            self.judge(id, result);
        }
    }

    fn is_kept(&self, id: &str) -> bool {
        matches!(self.0.get(id), Some(Outcome::Kept(_)))
    }
}

/// An adapter in conversation.
struct Talk<'a> {
    session: Session,
    lasting: Lasting,
    proxy: &'static str,
    direction: Direction,
    revision: u64,
    world: &'a World,
}

impl Talk<'_> {
    /// Its answer to the plan, in a word: none for `applied`, else how it declined.
    async fn apply(&mut self, plan: &Plan) -> Result<Option<String>, String> {
        self.revision += 1;
        let asked = self.revision;
        let credentials = BTreeMap::new();
        let endpoints =
            [OriginalDestination { host: HOST.to_owned(), port: 80, address: self.world.upstream }];
        let message = ToAdapter::Apply(Box::new(Apply {
            revision: asked,
            plan,
            resources: &[],
            endpoints: &endpoints,
            credentials: &credentials,
            identities: &self.lasting.identities,
            mesh_roots: &self.lasting.mesh_roots,
            system_roots: &self.lasting.system_roots,
        }));
        match self.session.ask(&message).await?.decision(asked) {
            Ok(Decision::Applied) => Ok(None),
            Ok(Decision::Rejected(reason)) => {
                Ok(Some(format!("`rejected`: {}", crate::redact::without_keys(&reason))))
            }
            Ok(Decision::Unsupported(feature)) => Ok(Some(format!("`unsupported`: {feature}"))),
            Err(other) => Err(format!("`apply` of revision {asked} was answered with {}", other.told())),
        }
    }

    async fn must_apply(&mut self, plan: &Plan) -> Result<(), String> {
        self.apply(plan).await?.map_or(Ok(()), |declined| Err(format!("it answered {declined}")))
    }

    async fn settle(&self) -> Result<Vec<AccessLog>, String> {
        let answer = self.session.ask(&ToAdapter::Settle).await?;
        if answer == FromAdapter::Settled {
            Ok(self.world.lines.take())
        } else {
            Err(format!("`settle` was answered with `{}`", answer.kind()))
        }
    }

    fn listening(&self, gets: Gets) -> Plan {
        self.world.plan(self.proxy, self.direction, &[self.world.listener], gets)
    }

    async fn request(&self, expected: u16) -> Result<String, String> {
        match self.world.request().await {
            (Ok(status), token) if status == expected => Ok(token),
            (Ok(status), _) => Err(format!("a request got {status}, expected {expected}")),
            (Err(words), _) => Err(format!("a request got no answer, expected {expected}: {words}")),
        }
    }

    /// Connecting must fail. A listener that takes the connection and never answers is still one.
    async fn closed(&self) -> Result<String, String> {
        match tokio::net::TcpStream::connect(self.world.listener).await {
            Ok(_) => Err(format!("{} still takes connections", self.world.listener)),
            Err(e) => Ok(format!("{}: {e}", self.world.listener)),
        }
    }
}

fn open<'a>(
    adapter: &Adapter,
    world: &'a World,
    name: &str,
    proxy: &'static str,
) -> Result<(Talk<'a>, String), Unchecked> {
    let (folder, lasting) = world.seat(name, proxy)?;
    // Which kind of proxy it is comes out at hello; until then it may log for either.
    let session = adapter.open(world.log(&[SIDECAR, GATEWAY])).map_err(|e| match e {
        DataPlaneError::Environment(words)
        | DataPlaneError::Refused(words)
        | DataPlaneError::Unable(words)
        | DataPlaneError::Gone(words) => Unchecked::Environment(words),
        DataPlaneError::Unsupported(feature) => Unchecked::Environment(feature.to_string()),
    })?;
    let direction = if proxy == GATEWAY { Direction::Gateway } else { Direction::Outbound };
    Ok((Talk { session, lasting, proxy, direction, revision: 0, world }, folder))
}

const SIDECAR: &str = "sleep";
const GATEWAY: &str = "istio-ingressgateway";

/// What needs no `apply`, in two processes: one that is stopped, one whose input ends. None where the adapter cannot even
/// introduce itself.
async fn idle_processes(
    adapter: &Adapter,
    world: &World,
    points: &mut Points,
) -> Result<Option<Introduction>, Unchecked> {
    let (talk, folder) = open(adapter, world, "stopped", SIDECAR)?;
    let told = match introduce(&talk.session, &folder).await {
        Ok(told) => told,
        Err(words) => {
            points.judge("hello", Err(words));
            return Ok(None);
        }
    };
    let features = if told.features.is_empty() { "none".to_owned() } else { Feature::list(&told.features) };
    points.judge("hello", Ok(format!("{} {}, features: {features}", told.name, told.version)));
    points.judge("features-known", features_known(&told));
    points.judge("unknown-members", unknown_members(&talk).await);
    // A breach ends the process: nothing more can be asked of it.
    if !talk.session.is_over() {
        points.judge("stop", talk.session.stop().await.map(|()| IDLE.to_owned()));
    }
    let (talk, folder) = open(adapter, world, "hung-up", SIDECAR)?;
    let ended = match introduce(&talk.session, &folder).await {
        Err(words) => Err(words),
        Ok(again) if (&again.features, &again.unknown) != (&told.features, &told.unknown) => {
            Err("a second process of it declares other features".to_owned())
        }
        Ok(_) => talk.session.hang_up().await.map(|()| IDLE.to_owned()),
    };
    points.judge("end-of-input", ended);
    // No request was sent: whatever was logged is no answer to a later one.
    let _of_nobody = world.lines.take();
    Ok(Some(told))
}

/// What was seen of an adapter that ended before it was given a plan.
const IDLE: &str = "right after `hello`; with a listener it was not asked";

async fn first_process(
    adapter: &Adapter,
    world: &World,
    points: &mut Points,
    told: &Introduction,
    proxy: &'static str,
) -> Result<(), Unchecked> {
    let (mut talk, folder) = open(adapter, world, "first", proxy)?;
    if let Err(words) = introduce(&talk.session, &folder).await {
        points.judge("hello", Err(words));
        return Ok(());
    }
    if conversation(&mut talk, points, told).await.is_some() {
        let stopped = match talk.session.stop().await {
            Ok(()) => talk.closed().await,
            Err(words) => Err(words),
        };
        points.judge_too("stop", stopped);
    }
    Ok(())
}

fn features_known(told: &Introduction) -> Result<String, String> {
    match &told.unknown {
        None => Ok(format!("{} features", told.features.len())),
        Some(unknown) => Err(unknown.to_string()),
    }
}

/// None where the adapter cannot be asked any more.
async fn conversation(talk: &mut Talk<'_>, points: &mut Points, told: &Introduction) -> Option<()> {
    let alive = |talk: &Talk<'_>| (!talk.session.is_over()).then_some(());
    let empty = talk.must_apply(&Plan::default()).await;
    points.judge("apply-empty", empty.map(|()| "revision 1".to_owned()));
    alive(talk)?;

    let plan = talk.listening(Gets::Cluster);
    let listens = match talk.must_apply(&plan).await {
        Ok(()) => talk.request(200).await,
        Err(words) => Err(words),
    };
    let token = listens.clone().ok();
    points.judge("apply-listens", listens.map(|_| format!("200 from {}", talk.world.upstream)));
    alive(talk)?;
    logs(talk, points, told, token.as_deref()).await;
    alive(talk)?;
    if token.is_none() {
        let why = "without a listener that answers there is nothing to ask".to_owned();
        for id in ["apply-changes", "address-taken", "listener-closes"] {
            points.put(id, Outcome::NotAsked(why.clone()));
        }
    } else {
        let plan = talk.listening(Gets::Status(OWN_STATUS));
        let changes = match talk.must_apply(&plan).await {
            Ok(()) => talk.request(OWN_STATUS).await,
            Err(words) => Err(words),
        };
        points.judge("apply-changes", changes.map(|_| format!("{OWN_STATUS} from the proxy itself")));
        alive(talk)?;
        let taken = address_taken(talk).await;
        points.judge("address-taken", taken);
        alive(talk)?;
        let closes = match talk.must_apply(&Plan::default()).await {
            Ok(()) => talk.closed().await,
            Err(words) => Err(words),
        };
        points.judge("listener-closes", closes);
        alive(talk)?;
    }
    if told.features.contains(&Feature::CredentialStatus) {
        let status = credential_status(talk).await;
        points.judge("credential-status", status);
        alive(talk)?;
    } else {
        let why = "it does not declare the feature credential-status".to_owned();
        points.put("credential-status", Outcome::NotAsked(why));
    }
    Some(())
}

async fn unknown_members(talk: &Talk<'_>) -> Result<String, String> {
    let answer = talk.session.ask_with_unknown_member().await?;
    if answer == FromAdapter::Settled {
        Ok("`settle` with one more member was answered with `settled`".to_owned())
    } else {
        Err(format!("`settle` with one more member was answered with `{}`", answer.kind()))
    }
}

async fn credential_status(talk: &Talk<'_>) -> Result<String, String> {
    match talk.session.ask(&ToAdapter::Credentials { proxy: talk.proxy }).await?.status_of(talk.proxy) {
        Ok(credentials) => Ok(format!("{} credentials of {}", credentials.len(), talk.proxy)),
        Err(other) => Err(format!("`credentials` of {} was answered with {}", talk.proxy, other.told())),
    }
}

async fn address_taken(talk: &mut Talk<'_>) -> Result<String, String> {
    let taken = free_address().map_err(|e| e.to_string())?;
    let _holding =
        std::net::TcpListener::bind(taken).map_err(|e| format!("the suite cannot bind {taken}: {e}"))?;
    let binds = [talk.world.listener, taken];
    let plan = talk.world.plan(talk.proxy, talk.direction, &binds, Gets::Cluster);
    let declined = talk.apply(&plan).await?;
    let declined =
        declined.ok_or_else(|| format!("it said `applied`, though it cannot listen on {taken}"))?;
    talk.request(OWN_STATUS).await.map_err(|e| format!("it answered {declined}; but after that {e}"))?;
    Ok(meshproof_harness::store::bounded(&declined, 200))
}

/// Two points: that the line came in time, and what it says.
async fn logs(talk: &Talk<'_>, points: &mut Points, told: &Introduction, token: Option<&str>) {
    let settled = talk.settle().await;
    let why = if told.features.contains(&Feature::AccessLog) {
        "no request was answered"
    } else {
        "it does not declare the feature access-log"
    };
    let Some(token) = token.filter(|_| told.features.contains(&Feature::AccessLog)) else {
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
        [_] => Ok("one line".to_owned()),
        [] => Err("no line had come when it said `settled`".to_owned()),
        more => Err(format!("{} lines came for one request", more.len())),
    };
    points.judge("log-delivered", delivered);
    match lines.first() {
        Some(line) => {
            let upstream = talk.world.upstream.to_string();
            points.judge("log-readable", readable(line, token, &upstream));
        }
        None => points.put("log-readable", Outcome::NotAsked("no line had come".to_owned())),
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

/// What a killed suite would leave.
async fn second_process(
    adapter: &Adapter,
    world: &World,
    points: &mut Points,
    proxy: &'static str,
) -> Result<(), Unchecked> {
    let (mut talk, folder) = open(adapter, world, "second", proxy)?;
    let plan = talk.listening(Gets::Cluster);
    let result = async {
        introduce(&talk.session, &folder).await?;
        talk.must_apply(&plan).await?;
        talk.session.hang_up().await?;
        talk.closed().await
    };
    let result = result.await;
    points.judge_too("end-of-input", result);
    Ok(())
}
