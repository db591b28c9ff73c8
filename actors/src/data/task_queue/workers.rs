//! `Workers`: the processes of the workers, the tasks to kill, and the workers that are killed for them.
//!
//! A worker is *doomed* once the supervisor is asked to kill it. Invariant: a doomed worker is given no job, so
//! the kill hits the task that it is meant for, or none.

use std::collections::BTreeMap;

use lockkeeper_protocol::{CallId, JobId, SessionId, operations::TaskFault};

use crate::{data::task_queue::idle::Idle, waiting::wait_queue::WaitQueue};

/// The time after which the supervisor is asked again to kill a worker.
const ASK_AGAIN: u64 = 1_000_000_000;

#[derive(Debug, Default)]
pub(super) struct Workers {
    pids: BTreeMap<SessionId, u32>,
    doomed: BTreeMap<SessionId, Doom>,
    /// The requests for work of doomed workers.
    barred: WaitQueue<Idle>,
    /// The killed tasks that workers have.
    pub(super) kills: Vec<KillOrder>,
}

/// A task to kill that a worker has.
#[derive(Clone, Copy, Debug)]
pub(super) struct KillOrder {
    pub(super) worker: SessionId,
    pub(super) job: JobId,
    /// The time of the order, in nanoseconds.
    pub(super) at: u64,
}

/// Why a worker is to be killed.
#[derive(Debug)]
struct Doom {
    /// The task that it runs.
    job: JobId,
    /// The fault of that task.
    fault: TaskFault,
    /// When the supervisor is asked next.
    ask: u64,
}

impl Workers {
    pub(super) fn enlist(&mut self, worker: SessionId, pid: u32) {
        self.pids.insert(worker, pid);
    }

    pub(super) fn pid(&self, worker: SessionId) -> Option<u32> {
        self.pids.get(&worker).copied()
    }

    /// Dooms a worker for the task that it runs.
    pub(super) fn doom(&mut self, worker: SessionId, job: JobId, fault: TaskFault) {
        let doom = Doom { job, fault, ask: 0 };
        self.doomed.entry(worker).or_insert(doom);
    }

    pub(super) fn is_doomed(&self, worker: SessionId) -> bool {
        !self.doomed.is_empty() && self.doomed.contains_key(&worker)
    }

    /// The fault of the task that a worker was killed for.
    pub(super) fn fault_of(&self, worker: SessionId, job: JobId) -> Option<TaskFault> {
        let doom = self.doomed.get(&worker)?;
        (doom.job == job).then(|| doom.fault.clone())
    }

    /// Returns the processes to kill now, and when to ask the next time.
    pub(super) fn victims(&mut self, now: u64) -> (Vec<u32>, Option<u64>) {
        let mut kill = Vec::new();
        let mut next = None;
        for (worker, doom) in &mut self.doomed {
            if doom.ask <= now {
                doom.ask = now.saturating_add(ASK_AGAIN);
                kill.extend(self.pids.get(worker).copied());
            }
            next = Some(next.map_or(doom.ask, |next: u64| next.min(doom.ask)));
        }
        (kill, next)
    }

    /// Keeps the request of a doomed worker without an answer.
    pub(super) fn bar(&mut self, asking: Idle) {
        self.barred.push(asking);
    }

    /// Removes a withdrawn request.
    pub(super) fn withdraw(&mut self, id: CallId) {
        drop(self.barred.remove(id));
    }

    /// Removes a worker whose session has ended.
    pub(super) fn remove(&mut self, worker: SessionId) {
        self.pids.remove(&worker);
        self.doomed.remove(&worker);
        drop(self.barred.remove_session(worker));
        self.kills.retain(|order| order.worker != worker);
    }
}
