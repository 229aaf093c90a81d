//! `meshproof serve`: the suite's own servers and clients in another process or pod.

use meshproof_local::serve::serve;

use crate::args;
use crate::exit::{self, Refusal};
use crate::output::answer;
use crate::runtime::runtime;
use crate::signals::{Signals, next_signal};

/// Serves for the suite at the other end of standard input and output, or only waits.
///
/// # Errors
/// The input is not the suite's, or the output cannot be written.
pub fn command(args: &args::Serve) -> Result<u8, Refusal> {
    let runtime = runtime()?;
    if args.wait {
        runtime.block_on(async {
            let mut signals = Signals::listen();
            answer("waiting for a signal to stop\n");
            signals.next().await
        });
        return Ok(exit::OK);
    }
    let served = runtime.block_on(async {
        tokio::select! {
            served = serve(tokio::io::stdin(), tokio::io::stdout()) => served,
            _ = next_signal() => Ok(()),
        }
    });
    // A read of standard input that has begun ends with the process.
    runtime.shutdown_background();
    served.map(|()| exit::OK).map_err(Refusal::Environment)
}
