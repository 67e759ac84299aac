//! Addresses for what has to know its own before it listens.

use std::{
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    os::fd::{AsRawFd as _, OwnedFd},
    process,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
};

use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrIn, bind, setsockopt, socket, sockopt::ReuseAddr,
};

/// Ports from here on, so many: below those that the kernel gives to whoever connects or asks for any (32768 and up), so that nobody has one by chance.
const FIRST: u32 = 10_000;
const COUNT: u32 = 22_000;
/// Apart from those of the next process, so that each finds a free one soon.
const APART: u32 = 16;

/// A loopback address that nobody listens on. It is kept from others until this process ends, whether or not anybody listens on it: a child that ends and is
/// started again finds it free.
///
/// # Panics
/// If there is none: something is wrong with the machine.
#[must_use]
pub fn free() -> SocketAddr {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    static KEPT: Mutex<Vec<OwnedFd>> = Mutex::new(Vec::new());
    let free = |_| {
        let next = NEXT.fetch_add(1, Relaxed);
        let port = FIRST + (process::id().wrapping_mul(APART).wrapping_add(next)) % COUNT;
        let address = SocketAddrV4::new(Ipv4Addr::LOCALHOST, u16::try_from(port).ok()?);
        let kept = kept(address).ok()?;
        KEPT.lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(kept);
        Some(address.into())
    };
    (0..COUNT).find_map(free).expect("a free port")
}

/// A socket that has the address and does not listen: nobody else is given it, and who binds to it with SO_REUSEADDR, as all do who listen, may listen
/// (socket(7)).
fn kept(address: SocketAddrV4) -> nix::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC;
    let socket = socket(AddressFamily::Inet, SockType::Stream, flags, None)?;
    // Without it at first: an address that somebody has is refused.
    bind(socket.as_raw_fd(), &SockaddrIn::from(address))?;
    setsockopt(&socket, ReuseAddr, &true)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn each_is_another_and_can_be_listened_on() {
        let (one, two) = (free(), free());
        assert_ne!(one, two);
        let listeners = [one, two].map(TcpListener::bind);
        assert!(listeners.iter().all(Result::is_ok), "{listeners:?}");
    }

    #[test]
    fn nobody_else_is_given_one_before_and_after_somebody_listens_on_it() {
        let SocketAddr::V4(address) = free() else {
            panic!("IPv4");
        };
        for round in ["before", "again"] {
            assert!(kept(address).is_err(), "{round}");
            let listener = TcpListener::bind(address);
            assert!(listener.is_ok(), "{round}: {listener:?}");
            assert!(kept(address).is_err(), "{round}: it listens");
        }
    }
}
