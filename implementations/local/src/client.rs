//! The client of a workload, in this process or in another one.

use meshproof_harness::served::{Sender, Setup};
use meshproof_harness::target::{EndedExchange, Seat, TargetError};
use meshproof_harness::workload::RequestSpec;
use meshproof_model::Exchange;

use crate::data_plane::environment;
use crate::external::{ServeProcess, ServeProgram};
use crate::workload::{Route, WorkloadClient};

/// Sends for a workload.
pub(crate) struct Client {
    here: WorkloadClient,
    elsewhere: Option<ServeProcess>,
}

impl Client {
    /// A client like this one, in a process of the program if there is one.
    pub(crate) async fn new(
        here: WorkloadClient,
        program: Option<&ServeProgram>,
        roots: &str,
        seat: &Seat,
    ) -> Result<Self, TargetError> {
        let Some(program) = program else { return Ok(Self { here, elsewhere: None }) };
        let who = format!("client {}", here.name());
        let sender = Sender { name: here.name().to_owned(), roots: roots.to_owned() };
        let setup = Setup { who, client: Some(sender), timeouts: &seat.timeouts };
        let process = program.start(&setup, seat.store.clone()).await.map_err(environment)?;
        Ok(Self { elsewhere: Some(process), here })
    }

    /// Sends a request, by another route than its own if there is one.
    pub(crate) async fn exchange(
        &self,
        request: &RequestSpec,
        route: Option<Route>,
    ) -> Result<Exchange, TargetError> {
        match (&self.elsewhere, route) {
            (None, None) => Ok(self.here.exchange(request).await),
            (None, Some(route)) => Ok(self.here.routed(route).exchange(request).await),
            (Some(process), route) => {
                let to = route.as_ref().unwrap_or(self.here.route()).entries().to_vec();
                process.served.send(request, to).await.map_err(environment)
            }
        }
    }

    /// The same for several requests over one connection.
    pub(crate) async fn in_line(
        &self,
        requests: &[RequestSpec],
        route: Option<Route>,
    ) -> Result<Vec<EndedExchange>, TargetError> {
        match (&self.elsewhere, route) {
            (None, None) => Ok(self.here.in_line(requests).await),
            (None, Some(route)) => Ok(self.here.routed(route).in_line(requests).await),
            (Some(process), route) => {
                let to = route.as_ref().unwrap_or(self.here.route()).entries().to_vec();
                process.served.send_in_line(requests, to).await.map_err(environment)
            }
        }
    }
}
