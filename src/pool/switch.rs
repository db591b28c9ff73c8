//! `KillSwitch`: kills a task of a handle, whether or not it was submitted yet.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lockkeeper_actors::data::TaskQueue;
use lockkeeper_protocol::operations::KillTask;
use tokio::sync::Notify;

use crate::proxy::proxy::Proxy;

/// Kills one task.
#[derive(Clone, Debug)]
pub(super) struct KillSwitch(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    queue: Proxy<TaskQueue>,
    state: Mutex<State>,
    /// Notified when a task is killed that was not submitted.
    withdrawn: Notify,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// The task waits for room.
    Waits,
    /// The call that has submitted the task.
    Sent(u64),
    /// The task was killed before it was submitted.
    Killed,
}

impl KillSwitch {
    pub(super) fn new(queue: Proxy<TaskQueue>) -> Self {
        Self(Arc::new(Shared {
            queue,
            state: State::Waits.into(),
            withdrawn: Notify::new(),
        }))
    }

    /// Kills the task.
    pub(super) fn kill(&self) {
        let mut state = self.state();
        match *state {
            State::Waits => {
                *state = State::Killed;
                self.0.withdrawn.notify_one();
            }
            State::Sent(call) => {
                drop(state);
                self.0.queue.cast(KillTask { call });
            }
            State::Killed => {}
        }
    }

    /// Records the call that has submitted the task.
    pub(super) fn is_sent(&self, call: u64) {
        let before = std::mem::replace(&mut *self.state(), State::Sent(call));
        if matches!(before, State::Killed) {
            self.0.queue.cast(KillTask { call });
        }
    }

    /// Waits until the task is killed before it was submitted.
    pub(super) async fn withdrawn(&self) {
        while !matches!(*self.state(), State::Killed) {
            self.0.withdrawn.notified().await;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
