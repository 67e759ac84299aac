//! Addresses for what has to know its own before it listens.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener},
    process,
    sync::atomic::{AtomicU32, Ordering::Relaxed},
};

/// Ports from here on, so many: below those that the kernel gives to whoever connects or asks for any (32768 and up), so that nobody has one by chance
/// between this and the one who listens.
const FIRST: u32 = 10_000;
const COUNT: u32 = 22_000;
/// Apart from those of the next process.
const APART: u32 = 16;

/// A loopback address that nobody listens on, and that another process of tests is not given.
///
/// # Panics
/// If there is none: something is wrong with the machine.
#[must_use]
pub fn free() -> SocketAddr {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let free = |_| {
        let next = NEXT.fetch_add(1, Relaxed);
        let port = FIRST + (process::id().wrapping_mul(APART).wrapping_add(next)) % COUNT;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, u16::try_from(port).ok()?));
        TcpListener::bind(address).ok()?.local_addr().ok()
    };
    (0..COUNT).find_map(free).expect("a free port")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_another_and_can_be_listened_on() {
        let (one, two) = (free(), free());
        assert_ne!(one, two);
        let listeners = [one, two].map(TcpListener::bind);
        assert!(listeners.iter().all(Result::is_ok), "{listeners:?}");
    }
}
