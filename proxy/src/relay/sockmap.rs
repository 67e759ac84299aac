//! Redirecting in the kernel: a `sk_skb` stream verdict between the two sockets of a connection.
//!
//! A redirect has no backpressure: what the destination does not take is queued in kernel memory without bound. So the
//! program redirects only within a credit ([`CAP`] beyond what the destination's send queue has taken, read from
//! the socket). Beyond it the program *pauses* the direction: all goes to the source's own receive queue, whose window
//! closes. Userland relays that like `copy`, after everything redirected has gone out. To go back it writes how many
//! passed bytes it has delivered; the program redirects again only if it passed none since. The program runs under the
//! source's lock, so the handover has no race and the socket never leaves the map.
//!
//! The bound is the program's: however late userland is, no more than the credit is in flight. Userland
//! polls only to renew credit (backing off to [`MAX_TICK`]); the kernel wakes it for FIN, RST and paused data.
//!
//! The verdict gets whole skbs whatever was read of them, and retransmissions that overlap; the program cuts off what
//! was there before by sequence number (see `ebpf/programs/src/relay.rs`), for which the loader gives it the offset of
//! `copied_seq` from the kernel's BTF. What it cannot relay exactly it marks, and the connection is reset.
//!
//! Rejected: taking the source out of the map to pause it, from userland that polls. Its bound is the
//! poll's latency, and bytes passed under the verdict are not accounted for by the plain receive path afterwards.

mod maps;
mod session;

use std::{sync::Arc, time::Duration};

use aya::{EbpfError, maps::MapError, programs::ProgramError};
use futures_util::future::BoxFuture;
use mc_edge_common::relay::MAX_SOCKETS;

use self::maps::{Pair, Refused, Tables};
use super::{Engine, Job, Outcome, copy, pool::BufferPool};
use crate::{
    kernel::{Kernel, KernelError},
    spec::MapFill,
};

/// Polling of a busy direction: [`mc_edge_common::relay::CAP`] lasts 3 ms at 10 Gbit/s.
const MIN_TICK: Duration = Duration::from_millis(1);
/// Polling of a silent connection, the granularity of its idle timeout and counters.
const MAX_TICK: Duration = Duration::from_secs(4);

/// The sockmap engine cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum SockmapError {
    /// The object lacks a map.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// A map has another type or layout than this build expects.
    #[error("the relay's maps do not fit this build")]
    Map(#[from] MapError),
    /// The object lacks the program.
    #[error("the eBPF object has no program relay")]
    NoProgram,
    /// The kernel refused the program.
    #[error("cannot load and attach the sk_skb program relay (needs CAP_BPF and CAP_NET_ADMIN)")]
    Program(#[from] ProgramError),
    /// The object itself is broken.
    #[error("the eBPF object does not parse")]
    Object(#[from] EbpfError),
}

/// Redirects in the kernel; copies what it cannot redirect.
#[derive(Clone)]
pub struct SockmapEngine {
    tables: Arc<Tables>,
    pool: BufferPool,
}

impl SockmapEngine {
    /// Loads and attaches the program of `kernel`, which must stay alive as long as the engine.
    ///
    /// # Errors
    /// [`SockmapError`] if the kernel refuses it.
    pub fn new(kernel: &mut Kernel, pool: BufferPool) -> Result<Self, SockmapError> {
        Ok(Self {
            tables: Arc::new(Tables::open(kernel)?),
            pool,
        })
    }

    /// Sockets now in the kernel's maps, two per connection.
    #[must_use]
    pub fn sockets(&self) -> usize {
        self.tables.sockets()
    }
}

impl Engine for SockmapEngine {
    fn name(&self) -> &'static str {
        "sockmap"
    }

    fn map_fill(&self) -> Option<MapFill> {
        Some(MapFill {
            map: "RELAY_DST".to_owned(),
            used: self.tables.entered(),
            capacity: MAX_SOCKETS.into(),
        })
    }

    fn relay(&self, job: Job) -> BoxFuture<'static, Outcome> {
        let (tables, pool) = (Arc::clone(&self.tables), self.pool.clone());
        Box::pin(async move {
            let pair = match Pair::insert(tables, &job.client, &job.backend) {
                Ok(pair) => pair,
                Err(Refused(reason)) => {
                    // Boxed, so that the common case does not carry the copy's state.
                    return Outcome {
                        end: Box::pin(copy::run(job, pool)).await,
                        engine_used: "copy",
                        fallback: Some(reason),
                    };
                }
            };
            Outcome {
                end: session::run(job, pair, pool).await,
                engine_used: "sockmap",
                fallback: None,
            }
        })
    }
}
