//! Loopback ports for programs that cannot be told to take any free one.

use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// Below the ports that operating systems hand out for connections (Linux from 32768, others from 49152), so that none
/// of those can be in the way.
const FIRST: u32 = 20_000;
const COUNT: u32 = 12_000;

static NEXT: OnceLock<AtomicU32> = OnceLock::new();

/// A port of loopback that is free now and that this process has not handed out lately. Another process may still take
/// it first: who fails to bind it asks for another one.
///
/// # Errors
/// No port in the range is free.
pub fn take() -> io::Result<u16> {
    // Processes that run side by side begin in different places.
    let next = NEXT.get_or_init(|| AtomicU32::new(std::process::id().wrapping_mul(797) % COUNT));
    for _ in 0..COUNT {
        let index = next.fetch_add(1, Ordering::Relaxed) % COUNT;
        let Ok(port) = u16::try_from(FIRST + index) else { continue };
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(port);
        }
    }
    Err(io::Error::new(io::ErrorKind::AddrInUse, "no free port of loopback between 20000 and 32000"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn ports_are_different_and_below_the_ephemeral_range() {
        let taken: BTreeSet<u16> = (0..50).map(|_| take().unwrap()).collect();
        assert_eq!(taken.len(), 50);
        assert!(taken.iter().all(|port| (20_000..32_000).contains(port)), "{taken:?}");
    }

    #[test]
    fn a_port_that_somebody_holds_is_not_handed_out() {
        // The next in turn, so that handing out goes over them.
        let next = take().unwrap() + 1;
        let held: Vec<_> = (next..next + 40)
            .filter_map(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).ok())
            .collect();
        let ports: BTreeSet<u16> = held.iter().map(|l| l.local_addr().unwrap().port()).collect();
        assert!((0..60).all(|_| !ports.contains(&take().unwrap())));
    }
}
