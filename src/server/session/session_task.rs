//! `SessionTask`: wakes the task of a session when there is something to write.
//!
//! The task waits after each turn. To keep its waker from one wait to the next is cheaper than to clone it each
//! time.

use std::{
    cell::{Cell, RefCell},
    task::Waker,
};

/// The task of a session.
#[derive(Default)]
pub(super) struct SessionTask {
    /// The waker of its last wait.
    waker: RefCell<Option<Waker>>,
    is_waiting: Cell<bool>,
}

impl SessionTask {
    /// Has the task woken once there is something to write.
    pub(super) fn wait(&self, task: &Waker) {
        let waker = &mut *self.waker.borrow_mut();
        if !waker.as_ref().is_some_and(|known| known.will_wake(task)) {
            *waker = Some(task.clone());
        }
        self.is_waiting.set(true);
    }

    /// Ends the wait, because the task is about to write.
    #[inline]
    pub(super) fn end_wait(&self) {
        self.is_waiting.set(false);
    }

    /// Wakes the task if it waits.
    pub(super) fn wake(&self) {
        if self.is_waiting.replace(false)
            && let Some(waker) = &*self.waker.borrow()
        {
            waker.wake_by_ref();
        }
    }
}
