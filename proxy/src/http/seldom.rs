//! A future that seldom has anything to say, beside one that is polled all the time.
//!
//! `select!` polls all its branches whichever was woken: for a connection that is a handful of timers and locks with every packet.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{
            AtomicBool,
            Ordering::{AcqRel, Acquire, Release},
        },
    },
    task::{Context, Poll, Wake, Waker},
};

/// Polls what it holds only when that itself was woken.
pub(super) struct Seldom<F> {
    future: Pin<Box<F>>,
    bell: Arc<Bell>,
    /// `bell`, as the future has it.
    rings: Waker,
    /// The task that is woken, as the bell has it.
    task: Waker,
}

struct Bell {
    rung: AtomicBool,
    task: Mutex<Waker>,
}

impl Bell {
    fn task(&self) -> MutexGuard<'_, Waker> {
        self.task.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.rung.store(true, Release);
        self.task().wake_by_ref();
    }
}

impl<F: Future> Seldom<F> {
    pub(super) fn new(future: F) -> Self {
        let bell = Arc::new(Bell {
            // To be polled once.
            rung: AtomicBool::new(true),
            task: Mutex::new(Waker::noop().clone()),
        });
        Self {
            future: Box::pin(future),
            rings: Arc::clone(&bell).into(),
            bell,
            task: Waker::noop().clone(),
        }
    }
}

impl<F: Future> Future for Seldom<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = &mut *self;
        if !this.task.will_wake(cx.waker()) {
            this.task.clone_from(cx.waker());
            // Before it is looked: whoever rings from here on wakes this task.
            this.bell.task().clone_from(cx.waker());
        }
        if !this.bell.rung.load(Acquire) || !this.bell.rung.swap(false, AcqRel) {
            return Poll::Pending;
        }
        (this.future.as_mut()).poll(&mut Context::from_waker(&this.rings))
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::poll_fn,
        sync::atomic::{AtomicU32, Ordering::Relaxed},
        time::Duration,
    };

    use tokio::{
        sync::oneshot,
        time::{sleep, timeout},
    };

    use super::*;

    #[tokio::test]
    async fn it_is_polled_when_it_was_woken() {
        let polls = AtomicU32::new(0);
        let (tell, told) = oneshot::channel();
        let mut told = told;
        let mut seldom = Seldom::new(poll_fn(|cx| {
            polls.fetch_add(1, Relaxed);
            Pin::new(&mut told).poll(cx)
        }));
        for _ in 0..10 {
            let polled = poll_fn(|cx| Poll::Ready(Pin::new(&mut seldom).poll(cx))).await;
            assert!(polled.is_pending());
        }
        assert_eq!(polls.load(Relaxed), 1, "nothing has woken it since");
        tell.send(7).unwrap();
        assert_eq!(seldom.await, Ok(7));
        assert_eq!(polls.load(Relaxed), 2);
    }

    #[tokio::test]
    async fn whichever_task_polled_last_is_woken() {
        let (tell, told) = oneshot::channel::<()>();
        let mut seldom = Seldom::new(told);
        let first = timeout(Duration::from_millis(1), &mut seldom).await;
        assert!(first.is_err());
        let other = tokio::spawn(seldom);
        tokio::task::yield_now().await;
        tell.send(()).unwrap();
        assert_eq!(other.await.unwrap(), Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn what_wakes_it_again_and_again_is_heard() {
        let ticks = Seldom::new(async {
            for _ in 0..100 {
                sleep(Duration::from_secs(1)).await;
            }
        });
        ticks.await;
    }
}
