//! Buffers, owned by a connection only while bytes are in flight.
//!
//! The pool bounds what is kept, not what is lent: a bound on loans would let stalled readers starve everyone
//! else. What is lent is bounded by one buffer per direction of a connection.

use std::sync::{Arc, Mutex, PoisonError};

/// Bytes per buffer: one GSO batch.
pub const BUFFER_LEN: usize = 64 * 1024;
/// Buffers kept for reuse: 16 MiB.
pub const MAX_SPARE: usize = 256;

/// A shared free list.
#[derive(Clone, Debug, Default)]
pub struct BufferPool(Arc<Mutex<Vec<Box<[u8]>>>>);

impl BufferPool {
    /// Buffers now kept, at most [`MAX_SPARE`].
    #[must_use]
    pub fn spare(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    pub(super) fn take(&self) -> Box<[u8]> {
        let spare = (self.0.lock().unwrap_or_else(PoisonError::into_inner)).pop();
        spare.unwrap_or_else(|| vec![0; BUFFER_LEN].into_boxed_slice())
    }

    pub(super) fn give(&self, buffer: Box<[u8]>) {
        let mut spare = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if spare.len() < MAX_SPARE {
            spare.push(buffer);
        }
    }
}

/// Bytes read and not yet written, if any.
#[derive(Default)]
pub(super) struct Pending {
    buffer: Option<Box<[u8]>>,
    start: u32,
    end: u32,
}

impl Pending {
    pub(super) fn is_empty(&self) -> bool {
        self.buffer.is_none()
    }

    pub(super) fn fill(&mut self, buffer: Box<[u8]>, len: usize) {
        (self.start, self.end) = (0, u32::try_from(len).expect("at most BUFFER_LEN"));
        self.buffer = Some(buffer);
    }

    pub(super) fn bytes(&self) -> &[u8] {
        match &self.buffer {
            Some(buffer) => &buffer[self.start as usize..self.end as usize],
            None => &[],
        }
    }

    /// Drops `n` written bytes; the buffer goes back when none is left.
    pub(super) fn advance(&mut self, n: usize, pool: &BufferPool) {
        self.start += u32::try_from(n).expect("at most BUFFER_LEN");
        if self.start >= self.end {
            self.clear(pool);
        }
    }

    pub(super) fn clear(&mut self, pool: &BufferPool) {
        if let Some(buffer) = self.buffer.take() {
            pool.give(buffer);
        }
    }
}
