//! The suite's own server in another process of this machine, as a cluster has it in a pod.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::Mutex;

use async_trait::async_trait;
use meshproof_harness::external::ExternalSpec;
use meshproof_harness::served::{Listen, Served, ServedError, Setup};
use meshproof_harness::store::Store;
use meshproof_model::ExternalService;
use tokio::process::Command;

use super::service::{ExternalError, RunningService};
use crate::child::{ChildWrapper, in_own_session};

/// A program that is `meshproof serve`, with its arguments.
#[derive(Clone, Debug)]
pub struct ServeProgram(pub Vec<OsString>);

/// A process of that program.
pub(crate) struct ServeProcess {
    pub(crate) served: Served,
    /// Killed when it is dropped.
    _child: Mutex<Box<dyn ChildWrapper>>,
}

impl ServeProgram {
    /// Starts a process.
    ///
    /// # Errors
    /// It does not start or does not say hello.
    pub(crate) async fn start(&self, setup: &Setup<'_>, store: Store) -> Result<ServeProcess, ServedError> {
        let failed = |reason: String| ServedError { who: setup.who.clone(), reason };
        let Some((program, arguments)) = self.0.split_first() else {
            return Err(failed("no program is given".to_owned()));
        };
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child =
            in_own_session(command).spawn().map_err(|e| failed(format!("it does not start: {e}")))?;
        let (Some(input), Some(output)) = (child.stdin().take(), child.stdout().take()) else {
            return Err(failed("it has no standard input and output".to_owned()));
        };
        let served = Served::begin(output, input, setup, store).await?;
        Ok(ServeProcess { served, _child: Mutex::new(child) })
    }
}

/// Starts the suite's own server in a process of this program.
///
/// # Errors
/// The process or the service does not start.
pub async fn start_served(
    program: &ServeProgram,
    spec: ExternalSpec,
    setup: &Setup<'_>,
    store: Store,
) -> Result<Box<dyn RunningService>, ExternalError> {
    let failed = |e: ServedError| ExternalError::Start { service: setup.who.clone(), reason: e.to_string() };
    let process = program.start(setup, store).await.map_err(failed)?;
    let (service, addresses) = process.served.serve(spec, Listen::Loopback).await.map_err(failed)?;
    Ok(Box::new(ServedService { process, service, addresses }))
}

struct ServedService {
    process: ServeProcess,
    service: ExternalService,
    addresses: BTreeMap<u16, SocketAddr>,
}

#[async_trait]
impl RunningService for ServedService {
    fn describe(&self) -> ExternalService {
        self.service.clone()
    }

    fn address(&self, port: u16) -> Option<SocketAddr> {
        self.addresses.get(&port).copied()
    }

    fn ports(&self) -> Vec<u16> {
        self.addresses.keys().copied().collect()
    }

    async fn settle(&self) -> Result<(), ExternalError> {
        let service = format!("the server for {}", self.service.host);
        self.process.served.settle().await.map_err(|e| ExternalError::Died { service, reason: e.to_string() })
    }

    async fn stop(&self) -> Result<(), ExternalError> {
        let service = format!("the server for {}", self.service.host);
        self.process.served.stop().await.map_err(|e| ExternalError::Other { service, reason: e.to_string() })
    }
}
