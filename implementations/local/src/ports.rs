//! Loopback ports for programs that cannot choose a free port themselves.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::{Mutex, PoisonError};

use socket2::{Domain, Socket, Type};

/// Below the ports that operating systems use for outgoing connections (Linux from 32768, others from 49152), so that no
/// connection can occupy one.
const FIRST: u32 = 20_000;
const COUNT: u32 = 12_000;
/// Ports are claimed in blocks. A block belongs to the process that listens on its first port. So two runs side by side never
/// give out the same port, although a port is free between the moment it is given out and the moment it is bound.
const BLOCK: u32 = 100;
/// A process with this many blocks uses the ports of its own blocks again.
const MOST_BLOCKS: usize = 8;

static CLAIMED: Mutex<Claimed> = Mutex::new(Claimed { blocks: Vec::new(), next: 0 });

struct Claimed {
    /// Each block's first port, and the listener that claims the block.
    blocks: Vec<(u32, Option<TcpListener>)>,
    /// Counts through the ports of the blocks.
    next: u32,
}

fn bind(port: u32) -> io::Result<TcpListener> {
    let port = u16::try_from(port).map_err(io::Error::other)?;
    TcpListener::bind((Ipv4Addr::LOCALHOST, port))
}

impl Claimed {
    /// Claims one more block, if one is free.
    fn claim(&mut self) {
        // Processes that run side by side start their search in different places.
        let begin = std::process::id().wrapping_mul(7) % (COUNT / BLOCK);
        for number in 0..COUNT / BLOCK {
            let first = FIRST + (begin + number) % (COUNT / BLOCK) * BLOCK;
            if let Ok(guard) = bind(first) {
                self.blocks.push((first, Some(guard)));
                return;
            }
        }
        if self.blocks.is_empty() {
            // If every block is claimed, a port may still be free. It is only less certain to stay free.
            self.blocks.push((FIRST + begin * BLOCK, None));
        }
    }

    /// The next port.
    fn next_port(&mut self) -> u32 {
        let per_block = BLOCK - 1;
        if self.blocks.len() < MOST_BLOCKS && self.next as usize == self.blocks.len() * per_block as usize {
            self.claim();
        }
        if self.next as usize >= self.blocks.len() * per_block as usize {
            self.next = 0;
        }
        let (block, offset) = (self.next / per_block, self.next % per_block);
        self.next += 1;
        self.blocks[block as usize].0 + 1 + offset
    }
}

/// Whether the address is free. The check binds without listening: a client that connects at the same time must be refused, not
/// accepted and then dropped.
#[must_use]
pub fn is_free(address: SocketAddr) -> bool {
    let bound = Socket::new(Domain::for_address(address), Type::STREAM, None).and_then(|socket| {
        #[cfg(unix)]
        socket.set_reuse_address(true)?;
        socket.bind(&address.into())
    });
    bound.is_ok()
}

/// A loopback port that is free now and that no process of the suite has given out recently. Another program may still bind it
/// first: a caller that cannot bind it asks for another one.
///
/// # Errors
/// No port in the range is free.
pub fn take() -> io::Result<u16> {
    let mut claimed = CLAIMED.lock().unwrap_or_else(PoisonError::into_inner);
    for _ in 0..COUNT {
        let port = claimed.next_port();
        if let Ok(port) = u16::try_from(port)
            && is_free(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
        {
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
    fn a_port_in_use_is_not_given_out() {
        // The next ports, so that the search has to skip them.
        let next = take().unwrap() + 1;
        let held: Vec<_> = (next..next + 40)
            .filter_map(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).ok())
            .collect();
        let ports: BTreeSet<u16> = held.iter().map(|l| l.local_addr().unwrap().port()).collect();
        assert!((0..60).all(|_| !ports.contains(&take().unwrap())));
    }

    #[test]
    fn a_block_that_another_process_claims_is_not_used() {
        // As another process does: by listening on the first port of a block.
        let claimed: Vec<TcpListener> =
            (0..COUNT / BLOCK).step_by(2).filter_map(|n| bind(FIRST + n * BLOCK).ok()).collect();
        let others: BTreeSet<u32> =
            claimed.iter().map(|l| u32::from(l.local_addr().unwrap().port()) / BLOCK).collect();
        let mut mine = Claimed { blocks: Vec::new(), next: 0 };
        for _ in 0..300 {
            let port = mine.next_port();
            assert!(!others.contains(&(port / BLOCK)), "{port}");
        }
        assert!(mine.blocks.len() > 2 && mine.blocks.iter().all(|(_, guard)| guard.is_some()));
    }

    #[test]
    fn after_its_last_block_a_process_uses_its_own_blocks_again() {
        let mut mine = Claimed { blocks: Vec::new(), next: 0 };
        let seen: BTreeSet<u32> = (0..3000).map(|_| mine.next_port()).collect();
        assert!(mine.blocks.len() <= MOST_BLOCKS);
        assert_eq!(seen.len(), mine.blocks.len() * (BLOCK as usize - 1));
    }
}
