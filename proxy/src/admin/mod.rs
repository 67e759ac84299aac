//! The gRPC admin API on its Unix socket.
//!
//! The socket has mode 0600 and every connection's peer credentials are checked as well: only root and the
//! daemon's own user may speak, whoever got hold of a descriptor.

mod convert;
mod errors;
mod explain;
mod l7;
mod maintain;
mod observe;
mod service;
mod socket;

pub use service::AdminService;
pub use socket::{SocketError, adopt, bind, connect, serve};
