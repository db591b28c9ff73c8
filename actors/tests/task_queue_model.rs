//! The task queue against a reference: three lists.
//!
//! Knows the queue only through its calls and their answers.

#[path = "support/model.rs"]
mod model;
mod support;

use std::time::Duration;

use lockkeeper_actors::{
    Bench, CallId, Fault,
    codec::Blob,
    data::{
        ChunkOutcome, CloseTasks, CountTasks, Finished, Job, Next, Submit, TaskFault, TaskQueue,
        TaskQueueStatus,
    },
};
use model::{Reference, Said, agree};
use rand::Rng;
use support::{Schedule, put};

#[test]
fn task_queue_agrees_with_its_reference() {
    agree::<QueueReference>(
        "task_queue_agrees_with_its_reference",
        800,
        &[
            "result",
            "result with the next call",
            "result of somebody else's job",
            "result of a job that is over",
            "withdrawn job that runs",
            "job that its worker never saw",
            "job tried again",
            "several jobs tried again",
            "job that died with its worker",
            "job of a submitter that ended",
            "close that lets all finish",
            "close with a reason",
            "worker sent home",
            "long line",
        ],
    );
}

#[derive(Clone, Debug)]
enum QueueCall {
    Submit {
        task: String,
        arguments: Vec<Blob>,
        retries: u32,
    },
    Next(Option<(CallId, Outcomes)>),
    Finished(CallId, Outcomes),
    Close(Option<TaskFault>),
    Count,
}

type Outcomes = Vec<Result<Blob, TaskFault>>;

#[derive(Debug, PartialEq)]
enum QueueTold {
    Outcome(ChunkOutcome),
    Work {
        job: CallId,
        task: String,
        arguments: Vec<Blob>,
    },
    GoHome,
    Done,
    Count(TaskQueueStatus),
}

#[derive(Clone)]
struct Task {
    id: CallId,
    name: String,
    arguments: Vec<Blob>,
    retries: u32,
}

/// The first job goes to the first idle worker.
#[derive(Default)]
struct QueueReference {
    waiting: Vec<Task>,
    /// With the call for work that each was the answer to, in the order of those answers.
    running: Vec<(CallId, Task)>,
    idle: Vec<CallId>,
    closed: Option<TaskFault>,
}

impl QueueReference {
    fn hand_out(&mut self, said: &mut Said<'_, QueueTold>) {
        while !self.waiting.is_empty() && !self.idle.is_empty() {
            let (task, worker) = (self.waiting.remove(0), self.idle.remove(0));
            self.running.push((worker, task.clone()));
            let Task {
                id: job,
                name: task,
                arguments,
                ..
            } = task;
            said.reply(
                worker,
                QueueTold::Work {
                    job,
                    task,
                    arguments,
                },
            );
        }
        // Who runs a job now may die, so somebody stays for its next try.
        if self.closed.is_some() && self.waiting.is_empty() && self.running.is_empty() {
            for worker in std::mem::take(&mut self.idle) {
                said.tally.note("worker sent home");
                said.reply(worker, QueueTold::GoHome);
            }
        }
        if self.waiting.len().max(self.idle.len()) > 64 {
            said.tally.note("long line");
        }
    }

    fn finish(
        &mut self,
        by: CallId,
        job: CallId,
        outcomes: &Outcomes,
        said: &mut Said<'_, QueueTold>,
    ) {
        let place = self.running.iter().position(|(_, task)| task.id == job);
        match place {
            Some(place) if self.running[place].0.session() == by.session() => {
                self.running.remove(place);
                said.tally.note("result");
                said.reply(job, QueueTold::Outcome(Ok(outcomes.clone())));
            }
            Some(_) => said.tally.note("result of somebody else's job"),
            None => said.tally.note("result of a job that is over"),
        }
    }

    fn close(&mut self, reason: Option<&TaskFault>, said: &mut Said<'_, QueueTold>) {
        if let Some(reason) = reason {
            said.tally.note("close with a reason");
            let running = std::mem::take(&mut self.running);
            let running = running.into_iter().map(|(_, task)| task);
            for task in self.waiting.drain(..).chain(running) {
                said.reply(task.id, QueueTold::Outcome(Err(reason.clone())));
            }
        } else {
            said.tally.note("close that lets all finish");
        }
        self.closed = Some(reason.cloned().unwrap_or(TaskFault::Closed));
    }

    /// The jobs that an ended session ran: those that may be tried again are next, in their order.
    fn lose_worker(&mut self, session: u64, said: &mut Said<'_, QueueTold>) {
        let mut again = Vec::new();
        for (worker, mut task) in std::mem::take(&mut self.running) {
            if worker.session().number() != session {
                self.running.push((worker, task));
            } else if task.retries > 0 {
                said.tally.note("job tried again");
                task.retries -= 1;
                again.push(task);
            } else {
                said.tally.note("job that died with its worker");
                let died = TaskFault::WorkerDied { pid: 0 };
                said.reply(task.id, QueueTold::Outcome(Err(died)));
            }
        }
        if again.len() > 1 {
            said.tally.note("several jobs tried again");
        }
        self.waiting.splice(0..0, again);
    }

    fn draw_job(&self, schedule: &mut Schedule) -> CallId {
        if !self.running.is_empty() && schedule.random.random_bool(0.8) {
            self.running[schedule.random.random_range(0..self.running.len())]
                .1
                .id
        } else {
            schedule.any_call()
        }
    }
}

fn draw_blobs(schedule: &mut Schedule) -> Vec<Blob> {
    let count = schedule.random.random_range(0..=3);
    (0..count)
        .map(|_| Blob(vec![schedule.random.random(); 3]))
        .collect()
}

fn draw_outcomes(schedule: &mut Schedule) -> Outcomes {
    let mut outcomes: Outcomes = draw_blobs(schedule).into_iter().map(Ok).collect();
    if schedule.random.random_bool(0.2) {
        outcomes.push(Err(TaskFault::Panicked("on purpose".to_owned())));
    }
    outcomes
}

impl Reference for QueueReference {
    type Kind = TaskQueue;
    type Call = QueueCall;
    type Told = QueueTold;
    type Memory = ();

    fn make(_: &mut Schedule) -> (Self, Bench<TaskQueue>) {
        let bench = Bench::new(()).expect("a queue needs nothing");
        (Self::default(), bench)
    }

    fn draw(&self, schedule: &mut Schedule) -> QueueCall {
        if schedule.asks() {
            return QueueCall::Submit {
                task: format!("task {}", schedule.random.random_range(0..100)),
                arguments: draw_blobs(schedule),
                retries: schedule.random.random_range(0..=2),
            };
        }
        let (job, outcomes) = (self.draw_job(schedule), draw_outcomes(schedule));
        match schedule.random.random_range(0..60) {
            0..=29 => QueueCall::Next(None),
            30..=39 => QueueCall::Next(Some((job, outcomes))),
            40..=49 => QueueCall::Finished(job, outcomes),
            50 => QueueCall::Close(None),
            51 => QueueCall::Close(Some(TaskFault::Terminated)),
            _ => QueueCall::Count,
        }
    }

    fn send(
        bench: &mut Bench<TaskQueue>,
        session: u64,
        call: &QueueCall,
        timeout: Option<Duration>,
    ) -> CallId {
        let finished = |(job, outcomes)| Finished { job, outcomes };
        match call.clone() {
            QueueCall::Submit {
                task,
                arguments,
                retries,
            } => {
                let submit = Submit {
                    task,
                    arguments,
                    retries,
                };
                put(bench, session, submit, timeout)
            }
            QueueCall::Next(done) => {
                let finished = done.map(finished);
                put(bench, session, Next { finished }, timeout)
            }
            QueueCall::Finished(job, outcomes) => {
                put(bench, session, finished((job, outcomes)), timeout)
            }
            QueueCall::Close(reason) => put(bench, session, CloseTasks { reason }, timeout),
            QueueCall::Count => put(bench, session, CountTasks, timeout),
        }
    }

    fn read(
        bench: &Bench<TaskQueue>,
        id: CallId,
        call: &QueueCall,
        (): &mut (),
    ) -> Result<QueueTold, Fault> {
        let work = |job: Option<Job>| match job {
            Some(Job {
                id: job,
                task,
                arguments,
            }) => QueueTold::Work {
                job,
                task,
                arguments,
            },
            None => QueueTold::GoHome,
        };
        let told = match call {
            QueueCall::Submit { .. } => bench
                .reply::<Submit>(id)
                .map(|told| told.map(QueueTold::Outcome)),
            QueueCall::Next(_) => bench.reply::<Next>(id).map(|told| told.map(work)),
            QueueCall::Finished(..) => bench
                .reply::<Finished>(id)
                .map(|told| told.map(|()| QueueTold::Done)),
            QueueCall::Close(_) => bench
                .reply::<CloseTasks>(id)
                .map(|told| told.map(|()| QueueTold::Done)),
            QueueCall::Count => bench
                .reply::<CountTasks>(id)
                .map(|told| told.map(QueueTold::Count)),
        };
        told.expect("only what was answered is read")
    }

    fn serve(&mut self, id: CallId, call: &QueueCall, said: &mut Said<'_, QueueTold>) {
        match call {
            QueueCall::Submit {
                task,
                arguments,
                retries,
            } => match &self.closed {
                Some(reason) => said.reply(id, QueueTold::Outcome(Err(reason.clone()))),
                None => self.waiting.push(Task {
                    id,
                    name: task.clone(),
                    arguments: arguments.clone(),
                    retries: *retries,
                }),
            },
            QueueCall::Next(finished) => {
                if let Some((job, outcomes)) = finished {
                    said.tally.note("result with the next call");
                    self.finish(id, *job, outcomes, said);
                }
                self.idle.push(id);
            }
            QueueCall::Finished(job, outcomes) => {
                self.finish(id, *job, outcomes, said);
                said.reply(id, QueueTold::Done);
            }
            QueueCall::Close(reason) => {
                // All submitters are told at once, in an order that is nobody's concern.
                said.in_no_order();
                self.close(reason.as_ref(), said);
                said.reply(id, QueueTold::Done);
            }
            QueueCall::Count => {
                let count = |count: usize| u64::try_from(count).expect("short lists");
                let mut status = TaskQueueStatus::default();
                status.waiting = count(self.waiting.len());
                status.running = count(self.running.len());
                status.idle = count(self.idle.len());
                said.reply(id, QueueTold::Count(status));
            }
        }
        self.hand_out(said);
    }

    fn undo(&mut self, id: CallId, fault: Fault, said: &mut Said<'_, QueueTold>) {
        if self.running.iter().any(|(_, task)| task.id == id) {
            said.tally.note("withdrawn job that runs");
        }
        if self.waits(id) {
            self.waiting.retain(|task| task.id != id);
            self.running.retain(|(_, task)| task.id != id);
            self.idle.retain(|worker| *worker != id);
            said.fail(id, fault);
        } else if let Some(unseen) = self.running.iter().position(|(worker, _)| *worker == id) {
            said.tally.note("job that its worker never saw");
            let (_, task) = self.running.remove(unseen);
            self.waiting.insert(0, task);
        }
        self.hand_out(said);
    }

    fn hang_up(&mut self, session: u64, said: &mut Said<'_, QueueTold>) {
        said.in_no_order();
        let is_of = |id: CallId| id.session().number() == session;
        self.waiting.retain(|task| !is_of(task.id));
        self.idle.retain(|worker| !is_of(*worker));
        if self.running.iter().any(|(_, task)| is_of(task.id)) {
            said.tally.note("job of a submitter that ended");
        }
        self.running.retain(|(_, task)| !is_of(task.id));
        self.lose_worker(session, said);
        self.hand_out(said);
    }

    fn waits(&self, id: CallId) -> bool {
        let mut tasks = self
            .waiting
            .iter()
            .chain(self.running.iter().map(|(_, task)| task));
        tasks.any(|task| task.id == id) || self.idle.contains(&id)
    }

    fn holds(&self, id: CallId) -> bool {
        self.running.iter().any(|(worker, _)| *worker == id)
    }
}
