//! Loading without signals.

use nix::sys::signal::{SigSet, SigmaskHow};

/// Runs `load` while no signal reaches this thread. With one pending the verifier gives up (EAGAIN), and what aya asks the kernel for looks
/// as if it were not there; who asks again meets the next of a row of signals. Signals of the process go to its other threads, or wait.
pub(crate) fn undisturbed<T>(load: impl FnOnce() -> T) -> T {
    /// Puts the mask back, also on a panic.
    struct Before(nix::Result<SigSet>);
    impl Drop for Before {
        fn drop(&mut self) {
            if let Ok(before) = self.0 {
                // Fails only if the mask is none.
                let _ = before.thread_set_mask();
            }
        }
    }
    let _before = Before(SigSet::all().thread_swap_mask(SigmaskHow::SIG_BLOCK));
    load()
}
