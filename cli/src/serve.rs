//! `meshproof serve`: the suite's own servers and clients in another process or pod.

use std::io::{Read, Write};
use std::thread;

use meshproof_local::serve::serve;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::runtime::Handle;

use crate::args;
use crate::exit::{self, Refusal};
use crate::runtime::runtime;
use crate::signals::next_signal;

/// How many bytes are read or written at a time.
const PIECE: usize = 64 * 1024;

/// Serves for the suite at the other end of standard input and output, or only waits.
///
/// # Errors
/// The input is not the suite's, or the output cannot be written.
pub fn command(args: &args::Serve) -> Result<u8, Refusal> {
    let runtime = runtime()?;
    if args.wait {
        runtime.block_on(next_signal());
        return Ok(exit::OK);
    }
    let (input, output) = (duplex(PIECE), duplex(PIECE));
    let handle = runtime.handle().clone();
    // Ends with the process: nothing interrupts it while it waits for standard input.
    thread::spawn(move || read(input.0, &handle));
    let handle = runtime.handle().clone();
    let writing = thread::spawn(move || write(output.0, &handle));
    let served = runtime.block_on(async {
        tokio::select! {
            served = serve(input.1, output.1) => served,
            _ = next_signal() => Ok(()),
        }
    });
    served.map_err(Refusal::Environment)?;
    match writing.join() {
        Ok(Ok(())) => Ok(exit::OK),
        Ok(Err(e)) => Err(Refusal::Environment(format!("standard output cannot be written: {e}"))),
        Err(_) => Err(Refusal::Environment("standard output cannot be written".to_owned())),
    }
}

/// Passes standard input on until it ends.
fn read(mut to: DuplexStream, runtime: &Handle) {
    let mut buffer = vec![0; PIECE];
    let mut input = std::io::stdin().lock();
    while let Ok(count @ 1..) = input.read(&mut buffer) {
        if runtime.block_on(to.write_all(&buffer[..count])).is_err() {
            return;
        }
    }
}

/// Passes everything on to standard output.
fn write(mut from: DuplexStream, runtime: &Handle) -> std::io::Result<()> {
    let mut buffer = vec![0; PIECE];
    let mut output = std::io::stdout().lock();
    loop {
        match runtime.block_on(from.read(&mut buffer))? {
            0 => return Ok(()),
            count => output.write_all(&buffer[..count])?,
        }
        output.flush()?;
    }
}
