//! Ports that stay free while a server is down for a moment.

use std::{
    net::{Ipv4Addr, TcpListener},
    sync::atomic::{AtomicU32, Ordering},
};

/// Below the ports that the kernel gives to outgoing connections: from among those, a client that tries again and again could
/// take the port of a server that is down, or be connected to itself.
const FIRST: u32 = 20_000;
const COUNT: u32 = 12_000;

/// A listener at a port that nobody else uses. Whoever drops it to give the port to a server must be ready to ask again.
pub(super) fn listen() -> TcpListener {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    // Processes side by side start far from each other.
    let start = std::process::id().wrapping_mul(601);
    for _ in 0..COUNT {
        let port = FIRST + start.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % COUNT;
        let port = u16::try_from(port).expect("below 32000");
        if let Ok(listener) = TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            return listener;
        }
    }
    panic!("no free port between {FIRST} and {}", FIRST + COUNT);
}

/// The number of such a port.
pub(super) fn free() -> u16 {
    listen().local_addr().expect("it listens").port()
}
