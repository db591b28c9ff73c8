//! `Stall`: measures whether a client that has many unread answers reads them.

use std::{future::Future, pin::Pin, task, time::Duration};

use tokio::time::{self, Sleep};

use crate::{
    limits::Limits,
    server::session::{context::End, outgoing::Outgoing},
};

/// Measures the reading of a client from the moment when it has more than a few unread answers.
pub(super) struct Stall {
    timer: Pin<Box<Sleep>>,
    limits: Limits,
    /// When the client last read something, or when its session became full. `None` if it is not full.
    idle_since: Option<Duration>,
    period: Period,
}

/// A period in which the client has to read what was unread at its beginning, if other clients wait.
struct Period {
    end: Duration,
    /// The number of unread bytes at its beginning.
    unread: usize,
    /// The number of bytes written since.
    written: usize,
}

impl Stall {
    pub(super) fn begin(outgoing: &Outgoing, limits: Limits, now: Duration) -> Self {
        let period = Period::begin(outgoing, limits, now);
        Self {
            timer: Box::pin(time::sleep(limits.unread_time)),
            limits,
            idle_since: None,
            period,
        }
    }

    /// Counts bytes that were written. When the time is up, judges the client.
    ///
    /// # Errors
    ///
    /// Returns the end of a client that read nothing although it could, or too little while other clients
    /// wait for the room of its answers.
    pub(super) fn check(
        &mut self,
        written: usize,
        outgoing: &Outgoing,
        now: Duration,
        task: &mut task::Context<'_>,
    ) -> Result<(), End> {
        self.period.written = self.period.written.saturating_add(written);
        if outgoing.unread() == 0 || !outgoing.is_full() {
            self.idle_since = None;
        } else if written > 0 || self.idle_since.is_none() {
            self.idle_since = Some(now);
            self.sleep(now);
        }
        while self.timer.as_mut().poll(task).is_ready() {
            self.judge(outgoing, now)?;
            self.sleep(now);
        }
        Ok(())
    }

    /// Judges the client at the end of its time, and begins the next period if this one is over.
    fn judge(&mut self, outgoing: &Outgoing, now: Duration) -> Result<(), End> {
        let time = self.limits.unread_time;
        if self
            .idle_since
            .is_some_and(|since| now >= since.saturating_add(time))
        {
            let unread = outgoing.unread();
            return Err(End::Offence(format!(
                "it has read none of {unread} bytes of answers in {time:?}"
            )));
        }
        if now >= self.period.end {
            let (read, most) = (self.period.written, self.period.unread);
            if read < most && outgoing.keeps_others_waiting() {
                return Err(End::Offence(format!(
                    "it has read only {read} of {most} bytes of answers in {time:?}, \
                     while other clients wait: at most {} bytes may be unread in all",
                    self.limits.unread_bytes
                )));
            }
            self.period = Period::begin(outgoing, self.limits, now);
        }
        Ok(())
    }

    /// Sleeps until the client is to be judged next, but for a millisecond at least.
    fn sleep(&mut self, now: Duration) {
        let time = self.limits.unread_time;
        let idle = self.idle_since.map(|since| since.saturating_add(time));
        let next = idle.map_or(self.period.end, |idle| idle.min(self.period.end));
        let left = next.saturating_sub(now).max(Duration::from_millis(1));
        self.timer.set(time::sleep(left));
    }
}

impl Period {
    fn begin(outgoing: &Outgoing, limits: Limits, now: Duration) -> Self {
        Self {
            end: now.saturating_add(limits.unread_time),
            unread: outgoing.unread(),
            written: 0,
        }
    }
}
