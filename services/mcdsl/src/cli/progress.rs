//! What a person sees while something takes long. Rejected: indicatif, whose bars are for what has a known end; of a database that SQLite
//! copies nobody knows how much is left.

use std::{
    io::{self, IsTerminal as _, Write},
    sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    thread::JoinHandle,
    time::{Duration, Instant},
};

/// Between two looks at it; what is over sooner says nothing.
const EVERY: Duration = Duration::from_secs(1);

/// Says on the terminal what goes on, and for how long it has, until it is dropped. Where standard error is no terminal, nothing.
pub struct Progress {
    going: Option<(Sender<()>, JoinHandle<()>)>,
}

impl Progress {
    /// `what`: e.g. "restoring".
    #[must_use]
    pub fn begin(what: &'static str) -> Self {
        let going = io::stderr().is_terminal().then(|| {
            let (stop, stopped) = channel();
            let show = move || show(&mut io::stderr(), what, &stopped, EVERY);
            (stop, std::thread::spawn(show))
        });
        Self { going }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some((stop, thread)) = self.going.take() {
            drop(stop);
            // It cannot panic; what follows is not to stand behind its line.
            let _ = thread.join();
        }
    }
}

/// Until `stopped` is; then its line is gone.
fn show(out: &mut impl Write, what: &str, stopped: &Receiver<()>, every: Duration) {
    let begun = Instant::now();
    let mut shown = false;
    while stopped.recv_timeout(every) == Err(RecvTimeoutError::Timeout) {
        let passed = crate::human::duration_short(Duration::from_secs(begun.elapsed().as_secs()));
        // A terminal that is gone sees nothing.
        let _ = write!(out, "\r{what} … {passed}").and_then(|()| out.flush());
        shown = true;
    }
    if shown {
        // ECMA-48: EL, erase in line.
        let _ = write!(out, "\r\x1b[K").and_then(|()| out.flush());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ends what it shows when so much was shown.
    struct Screen {
        text: Vec<u8>,
        until: usize,
        stop: Option<Sender<()>>,
    }

    impl Write for Screen {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.text.extend_from_slice(bytes);
            if self.text.len() >= self.until {
                self.stop = None;
            }
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn what_takes_long_is_shown_until_it_is_over() {
        for (description, until, shown) in
            [("it is over at once", 0, false), ("it goes on", 50, true)]
        {
            let (stop, stopped) = channel();
            let mut screen = Screen {
                text: Vec::new(),
                until,
                stop: (until > 0).then_some(stop),
            };
            show(&mut screen, "restoring", &stopped, Duration::from_millis(1));
            let text = String::from_utf8(screen.text).unwrap();
            assert_eq!(
                text.starts_with("\rrestoring … 0"),
                shown,
                "{description}: {text:?}"
            );
            assert_eq!(text.ends_with("\r\x1b[K"), shown, "{description}: {text:?}");
        }
    }
}
