//! When a drain is over, which may turn out to be sooner.

use std::time::Duration;

use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};

/// Until when connections may go on.
#[derive(Debug)]
pub struct Deadline(watch::Sender<Instant>);

impl Deadline {
    /// In so long.
    pub fn new(grace: Duration) -> Self {
        Self(watch::Sender::new(Instant::now() + grace))
    }

    /// From now on so long at most.
    pub fn shorten(&self, grace: Duration) {
        let sooner = Instant::now() + grace;
        self.0.send_if_modified(|at| {
            let shortens = sooner < *at;
            *at = sooner.min(*at);
            shortens
        });
    }

    /// What is left of it.
    pub fn left(&self) -> Duration {
        self.0.borrow().saturating_duration_since(Instant::now())
    }

    /// Waits for it.
    pub async fn passed(&self) {
        let mut changes = self.0.subscribe();
        loop {
            let at = *changes.borrow_and_update();
            tokio::select! {
                () = sleep_until(at) => return,
                // The sender is this.
                _ = changes.changed() => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_comes_sooner_and_never_later() {
        let began = Instant::now();
        let deadline = Deadline::new(Duration::from_secs(100));
        let shortened = async {
            sleep_until(began + Duration::from_secs(10)).await;
            deadline.shorten(Duration::from_secs(5));
            deadline.shorten(Duration::from_secs(50));
        };
        tokio::join!(deadline.passed(), shortened);
        assert_eq!(began.elapsed().as_secs(), 15);
        assert_eq!(deadline.left(), Duration::ZERO);
    }
}
