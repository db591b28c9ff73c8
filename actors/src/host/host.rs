//! `Host`: the actor that runs any primitive, one turn for each input.
//!
//! When a primitive panics, the host drops it, which answers all of its parked calls. The host then answers
//! `Gone` until the last address of its mailbox is dropped.
//!
//! Invariant: a host does not know which primitive it runs.

use std::{fmt, iter, rc::Rc, sync::Arc, time::Duration};

use actix::{Actor, Handler};
use lockkeeper_protocol::{CallId, Fault, ObjectName, Refusal, caught};

use crate::{
    host::{
        deadlines::DeadlineHandle,
        freed::Freed,
        input::{CallAtLimit, Input, Inputs, Mailbox, RawCall},
        mailbox::{GoOn, HostTask, MailboxReceiver},
        openers::Openers,
        shell::Shell,
        unfinished::Unfinished,
        watch::Watch,
    },
    kind::{
        hang_up::HangUp,
        object_stats::ObjectStats,
        primitive::{Operations, Primitive},
    },
};

/// Runs one primitive: decodes its calls, and delivers its answers, deadlines and surveys.
pub struct Host<P> {
    /// `None` after the object was removed, or after a panic.
    pub(super) primitive: Option<P>,
    operations: Arc<Operations<P>>,
    openers: Openers,
    pub(super) shell: Rc<Shell>,
    /// The deadlines of its calls, from the first deadline on.
    deadlines: Option<DeadlineHandle>,
    pub(super) watch: Watch,
    /// The statistics, from the first waiting call on, and the callers, if the manager searches for
    /// deadlocks. Each turn lends them to the outbox.
    pub(super) object_stats: Option<Box<ObjectStats>>,
    /// An input that is handled in slices. The host handles no other input before its end.
    pub(super) unfinished: Option<Box<Unfinished>>,
}

impl<P: Primitive> Host<P> {
    /// Creates a host that is not started.
    #[must_use]
    pub fn new(primitive: P, operations: Arc<Operations<P>>, shell: Rc<Shell>) -> Self {
        Self {
            primitive: Some(primitive),
            openers: Openers::default(),
            deadlines: None,
            watch: Watch::begin(P::KIND, operations.listed(), shell.tallies()),
            operations,
            shell,
            object_stats: None,
            unfinished: None,
        }
    }

    /// Sets the name and the number of the object.
    #[must_use]
    pub fn known_as(mut self, name: ObjectName) -> Self {
        self.watch.named(name);
        self
    }

    /// Creates the primitive and its host.
    ///
    /// # Errors
    ///
    /// Returns the fault of `make`, or a fault for a panic in it.
    pub fn build(
        make: impl FnOnce() -> Result<P, Fault>,
        operations: Arc<Operations<P>>,
        shell: Rc<Shell>,
    ) -> Result<Self, Fault> {
        let made = caught(make).unwrap_or_else(|why| {
            let kind = P::KIND;
            Err(Fault::Refused(Refusal::Invalid(format!(
                "the constructor of kind {kind:?} panicked: {why}"
            ))))
        });
        Ok(Self::new(made?, operations, shell))
    }

    /// Returns the memory of the task of a host.
    #[must_use]
    pub const fn task_bytes() -> usize {
        // A task's size is a multiple of 128 bytes, 104 of which belong to the runtime.
        (size_of::<HostTask<Self>>() + 104).next_multiple_of(128)
    }

    /// Starts the host on this shard.
    #[must_use]
    pub fn launch(self) -> Mailbox {
        let (turns, address) = HostTask::new(self);
        actix_rt::spawn(turns);
        Arc::new(address.recipient())
    }

    /// Returns the primitive, unless it was removed or has panicked.
    pub(crate) const fn primitive(&self) -> Option<&P> {
        self.primitive.as_ref()
    }

    /// Handles one input at time `now`. If the call is parked with a timeout, returns both.
    pub(crate) fn turn(&mut self, now: Duration, input: Input) -> Option<(CallId, Duration)> {
        let serving = match &input {
            Input::Call(call) => Some(call.id),
            Input::CallBy(call, _) => Some(call.id),
            Input::CallAtLimit(limited) => Some(limited.call.id),
            Input::Open(..)
            | Input::Withdraw(_)
            | Input::Expire(_)
            | Input::HangUp(..)
            | Input::Remove
            | Input::Survey(_)
            | Input::Fail(..) => None,
        };
        self.measured(serving, |host| host.act(now, input))
    }

    fn act(&mut self, now: Duration, input: Input) -> Option<(CallId, Duration)> {
        match input {
            Input::Open(session, object) => {
                if self.primitive.is_some() {
                    self.openers.insert(session, object);
                } else {
                    self.shell.announce_gone([(session, object)].into_iter());
                }
                None
            }
            Input::Call(call) => self.serve(now, &call),
            Input::CallBy(call, caller) => {
                self.note_caller(call.id, caller);
                self.serve(now, &call)
            }
            Input::CallAtLimit(limited) => {
                self.serve_at_limit(now, *limited);
                None
            }
            Input::Withdraw(id) => {
                self.undo(now, id, Fault::Withdrawn, P::withdraw);
                None
            }
            Input::Expire(id) => {
                self.undo(now, id, Fault::TimedOut, P::expire);
                None
            }
            Input::HangUp(session, peer) => {
                let had_opened = self.openers.remove(session);
                if !had_opened && self.shell.endings().has(session) {
                    // An earlier message that was sent after the end has triggered the hang-up already.
                    return None;
                }
                self.hang_up(HangUp::new(session, peer, now));
                None
            }
            Input::Remove => {
                if self.primitive.is_some() {
                    self.watch.removed();
                }
                let number = self.watch.number();
                self.shell.failed().borrow_mut().remove(&number);
                self.remove(now);
                None
            }
            Input::Survey(inquiry) => {
                self.begin(now, None);
                inquiry.answer(self.report(now));
                None
            }
            Input::Fail(id, fault) => {
                self.begin(now, None);
                // A call that was granted meanwhile must not fail.
                if self.survey().is_some_and(|survey| survey.has_waiter(id)) {
                    self.undo(now, id, *fault, P::withdraw);
                }
                None
            }
        }
    }

    fn serve(&mut self, now: Duration, call: &RawCall) -> Option<(CallId, Duration)> {
        let outbox = self.shell.outbox();
        outbox.begin(now, P::FORM, Some(P::KIND), None);
        self.watch
            .called(call, |session| self.shell.client(session));
        let Some(primitive) = self.primitive.as_mut() else {
            outbox.call::<()>(call.id).fail(Fault::Gone);
            return None;
        };
        let kept = outbox.account().usage();
        let operations = &self.operations;
        let served = caught(|| {
            operations.serve(primitive, call.operation, &call.arguments, call.id, outbox);
        });
        if let Err(why) = served {
            self.fail(&why);
        }
        let outbox = self.shell.outbox();
        let session = call.id.session();
        let is_over = outbox
            .account()
            .is_over_since(kept, || self.shell.bytes_of_calls(session));
        if is_over {
            self.refuse(now, call.id);
            return None;
        }
        // A primitive that panicked has answered all its callers.
        if self.primitive.is_none() || outbox.has_answered(call.id) {
            return None;
        }
        if call.id.is_one_way() {
            // The call does not count as in flight, so it is withdrawn instead of parked.
            self.undo(now, call.id, Fault::Withdrawn, P::withdraw);
            return None;
        }
        match call.timeout {
            Some(timeout) if timeout.is_zero() => {
                self.undo(now, call.id, Fault::TimedOut, P::expire);
                // An expired call may still wait: a sleeper waits for its lock.
                if !self.shell.outbox().has_answered(call.id) {
                    self.note_wait();
                }
                None
            }
            timeout => {
                self.note_wait();
                Some((call.id, timeout?))
            }
        }
    }

    /// Serves a call, and undoes it if it would have to wait.
    #[cold]
    fn serve_at_limit(&mut self, now: Duration, limited: CallAtLimit) {
        let CallAtLimit {
            call,
            caller,
            fault,
        } = limited;
        if let Some(caller) = caller {
            self.note_caller(call.id, caller);
        }
        self.serve(now, &call);
        if self.primitive.is_some() && !self.shell.outbox().has_answered(call.id) {
            self.undo(now, call.id, fault, P::withdraw);
        }
    }

    /// Undoes a call whose result would exceed the limit on stored bytes.
    #[cold]
    fn refuse(&mut self, now: Duration, id: CallId) {
        let outbox = self.shell.outbox().clone();
        let fault = outbox.account().fault();
        if !outbox.has_answered(id) {
            return self.undo(now, id, fault, P::withdraw);
        }
        // The caller has not seen its grant.
        outbox.retract(id);
        self.undo(now, id, fault.clone(), P::withdraw);
        outbox.answer_fault(id, fault);
    }

    /// Undoes a call. If the primitive drops it, the answer is `fault`.
    fn undo(&mut self, now: Duration, id: CallId, fault: Fault, undo: fn(&mut P, CallId)) {
        self.begin(now, Some((id, fault)));
        self.run(|primitive| undo(primitive, id));
    }

    #[inline]
    pub(super) fn begin(&self, now: Duration, undoing: Option<(CallId, Fault)>) {
        // Only a hang-up and the end of an object may drop calls without an answer.
        let answering = undoing.is_some().then_some(P::KIND);
        let outbox = self.shell.outbox();
        outbox.begin(now, P::FORM, answering, undoing);
    }

    /// Runs the primitive's code, and catches its panics.
    pub(super) fn run(&mut self, code: impl FnOnce(&mut P)) {
        let Some(primitive) = self.primitive.as_mut() else {
            return;
        };
        if let Err(why) = caught(|| code(primitive)) {
            self.fail(&why);
        }
    }

    /// Ends the object because the primitive's code has panicked.
    #[cold]
    fn fail(&mut self, why: &str) {
        self.watch.failed(why);
        let number = self.watch.number();
        self.shell.failed().borrow_mut().insert(number);
        self.end();
    }

    /// Drops the primitive, which answers its parked calls, and notifies the sessions that opened it.
    pub(super) fn end(&mut self) {
        if let Some(primitive) = self.primitive.take() {
            self.shell.outbox().note_end_of_object();
            // A panic in a destructor is ignored: the calls are answered as they are dropped.
            let _ = caught(|| drop(primitive));
            self.deliver();
            self.shell.announce_gone(self.openers.iter());
            self.with_object_stats(|object_stats| {
                if let Some(object_stats) = object_stats {
                    object_stats.is_crowded = false;
                }
            });
        }
    }

    /// Sends the answers of the outbox to their sessions.
    pub(crate) fn deliver(&self) {
        self.shell.deliver(&self.watch);
    }
}

impl<P: Primitive> Actor for Host<P> {
    type Context = MailboxReceiver<Self>;
}

impl<P: Primitive> Handler<Inputs> for Host<P> {
    type Result = ();

    fn handle(&mut self, mut inputs: Inputs, mailbox: &mut MailboxReceiver<Self>) {
        if let Some((session, place)) = inputs.again {
            self.shell.come_again(session, place);
        }
        if !self.shell.endings().is_empty() {
            let ended = self.shell.endings().of(&self.openers, inputs.at);
            let ended = ended.into_iter();
            let ended = ended.map(|(session, peer)| Input::HangUp(session, peer));
            inputs.all.splice(0..0, ended);
        }
        self.handle_all(inputs, mailbox);
    }
}

impl<P: Primitive> GoOn for Host<P> {
    fn is_busy(&self) -> bool {
        self.is_unfinished()
    }

    fn go_on(&mut self, mailbox: &mut MailboxReceiver<Self>) {
        match self.handle_slice() {
            Some(rest) => self.handle_all(rest, mailbox),
            None => self.end_of_message(mailbox),
        }
    }

    fn falls_behind(&self) {
        self.shell.behind().insert(self.watch.number());
    }

    fn has_caught_up(&self) {
        self.shell.behind().remove(self.watch.number());
    }
}

impl<P: Primitive> Host<P> {
    /// Handles the inputs of a message, up to one that takes more than one turn.
    fn handle_all(&mut self, inputs: Inputs, mailbox: &MailboxReceiver<Self>) {
        let Inputs {
            at: now,
            mut all,
            again,
        } = inputs;
        let mut rest = all.drain(..);
        while let Some(input) = rest.next() {
            let object = self.watch.number();
            if let Some(sink) = self.shell.is_to_wait(object, &input, again) {
                let all = iter::once(input).chain(rest.by_ref()).collect();
                let inputs = Inputs {
                    at: now,
                    all,
                    again,
                };
                sink.hold_back(object, Arc::new(mailbox.address().recipient()), inputs);
                break;
            }
            self.handle_one(now, input, mailbox);
            if let Some(unfinished) = &mut self.unfinished {
                let all = rest.by_ref().collect();
                let at = now;
                unfinished.rest = Some(Inputs { at, all, again });
                break;
            }
            if self.shell.outbox().is_heavy() {
                self.deliver();
            }
        }
        drop(rest);
        self.end_of_message(mailbox);
        self.shell.take_back(all);
    }

    fn end_of_message(&mut self, mailbox: &MailboxReceiver<Self>) {
        self.deliver();
        self.keep_list(|| mailbox.address().downgrade().recipient());
    }

    fn handle_one(&mut self, now: Duration, input: Input, mailbox: &MailboxReceiver<Self>) {
        // Most inputs are calls, which are served without being moved.
        let parked = if let Input::Call(call) = &input {
            self.measured(Some(call.id), |host| host.serve(now, call))
        } else {
            self.handle_other(now, input)
        };
        if let Some((id, timeout)) = parked {
            let handle = || self.shell.deadlines().handle();
            let deadlines = self.deadlines.get_or_insert_with(handle);
            deadlines.enter(id, timeout, || Arc::new(mailbox.address().recipient()));
        }
    }

    fn handle_other(&mut self, now: Duration, input: Input) -> Option<(CallId, Duration)> {
        if let Input::Expire(id) = input
            && !self.shell.deadlines().decide(id)
        {
            return None;
        }
        // A client may withdraw an overdue call before the table of deadlines has had its turn. The call
        // expires then, because its deadline came first.
        if let Input::Withdraw(id) = input
            && self.shell.deadlines().decide_overdue(id)
        {
            self.turn(now, Input::Expire(id));
        }
        self.turn(now, input)
    }
}

impl<P> Drop for Host<P> {
    fn drop(&mut self) {
        self.shell.freed().count(Freed::End);
    }
}

impl<P> fmt::Debug for Host<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Host")
            .field("operations", &self.operations)
            .field("lives", &self.primitive.is_some())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use crate::sync::lock::Lock;

    use super::*;

    #[test]
    fn the_task_of_an_idle_lock_stays_below_the_next_step_of_tasks() {
        let task = Host::<Lock>::task_bytes();
        assert!(
            task <= 384,
            "{task} bytes: every hosted object takes 128 more"
        );
    }
}
