//! A request that is in flight: it waits for its answer, and is undone when nobody does any more.

use std::{
    future::poll_fn,
    mem,
    pin::pin,
    sync::Arc,
    task::{Poll, Waker},
    time::Duration,
};

use futures::future::{self, Either};
use lockkeeper_protocol::frame::Request;

use crate::{
    background::background,
    client::{
        connection::Connection,
        state::{Answer, lock},
        thread,
        wakers::{Reader, WaiterCount},
    },
    error::CallError,
};

/// A request that has no answer yet. Dropped before it has one, it withdraws the call.
pub(super) struct Pending {
    pub(super) connection: Arc<Connection>,
    /// The object that was called, if it is a call.
    pub(super) object: Option<u32>,
    pub(super) seq: u64,
    /// Who reads for it; nobody but its own thread where it has one to itself.
    pub(super) reader: Option<Arc<Reader>>,
    pub(super) waiter_count: WaiterCount,
    /// Whether it is undone when it is dropped.
    pub(super) is_armed: bool,
}

impl Pending {
    /// Waits for the answer. The guard stays armed.
    pub(super) async fn answer(&mut self) -> Answer {
        let Self {
            connection,
            reader,
            seq,
            ..
        } = self;
        let take = |waker: Option<&Waker>| lock(&connection.state).take_answer(*seq, waker);
        let found = connection.spin.look(|| {
            connection.look_once();
            take(None)
        });
        let mut has_waited = false;
        let answer = poll_fn(|task| {
            // One that was made in this very turn nobody can have answered or moved elsewhere.
            let is_new = !mem::replace(&mut has_waited, true);
            if !is_new {
                // An answer that it reads for itself must not wake it: its runtime would look for
                // other events in vain, which is a system call.
                if let Some(answer) = take(None) {
                    return Poll::Ready(answer);
                }
            }
            // The call may have moved from the runtime or the thread that it was made on, and what
            // polls it may sleep elsewhere.
            let is_here = match reader {
                Some(reader) => is_new || reader.is_here(),
                None => thread::read_here(connection, task.waker()),
            };
            if !is_here {
                match connection.attach() {
                    Ok(here) => *reader = Some(here),
                    Err(error) if reader.is_none() => return Poll::Ready(Err(error)),
                    Err(_) => {}
                }
            }
            // The caller reads for itself, and for whoever waits beside it.
            if let Some(reader) = reader {
                reader.wakers.caller.register(task.waker());
                let _ended = connection.poll_drain(reader);
            }
            take(Some(task.waker())).map_or(Poll::Pending, Poll::Ready)
        });
        let answer = match found {
            Some(answer) => answer,
            None => answer.await,
        };
        if answer.is_err() {
            // There is nothing to undo.
            self.disarm();
        }
        answer
    }

    /// Waits for the answer, and no longer than that. A manager that is stopped, as by a debugger,
    /// keeps no time.
    pub(super) async fn answer_within(&mut self, patience: Duration) -> Answer {
        let patience = {
            // The caller's runtime may have no timer.
            let _runtime = background().enter();
            tokio::time::sleep(patience)
        };
        match future::select(pin!(self.answer()), pin!(patience)).await {
            Either::Left((answer, _)) => answer,
            Either::Right(((), _)) => Err(CallError::TimedOut),
        }
    }

    /// Waits for the answer to what cannot be withdrawn.
    pub(super) async fn settle(mut self, patience: Duration) -> Answer {
        self.answer_within(patience).await
    }

    /// Accepts the answer: from now on the caller has what it was granted.
    pub(super) fn disarm(&mut self) -> u64 {
        self.is_armed = false;
        self.seq
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        match &self.reader {
            Some(reader) => {
                // Its waker would be woken in place of somebody who reads.
                drop(reader.wakers.caller.take());
                if self.waiter_count.has_company() {
                    // Those who stay may have counted on this caller to read for them, now and later.
                    reader.wakers.driver.wake();
                }
            }
            None => thread::read_no_more(&self.connection),
        }
        if !self.is_armed {
            return;
        }
        let mut state = lock(&self.connection.state);
        state.in_flight.remove(&self.seq);
        if let Some(object) = self.object {
            // A frame of three numbers is below every limit.
            let _ = self.connection.write(
                state,
                &Request::Withdraw {
                    object,
                    seq: self.seq,
                },
            );
        }
    }
}
