//! `Session`: one client. It sends the client's calls to mailboxes, and a hang-up when the client ends.
//!
//! The calls of one read are sent together, one message per mailbox. Then the actors run, and their answers
//! are written in one system call before the next read.
//!
//! Invariant: a session names no primitive, and no input of a client ends a session other than its own.

use std::{
    future, mem,
    rc::Rc,
    sync::Arc,
    task::{self, Poll, ready},
};

use lockkeeper_actors::{Input, Inputs, ReplySink};
use lockkeeper_protocol::{
    CallId, Fault, Peer, SessionId,
    codec::BlobRef,
    frame::{Inbox, Response},
};

use crate::{
    access::Right,
    server::session::{
        context::{Context, End, let_others_run},
        control::{Control, ControlRequest, NIL},
        incoming::Incoming,
        lease::Lease,
        objects::Objects,
        outgoing::Outgoing,
        receive::{poll_receive, receive_last},
        report_pipe::ReportPipe,
        sizes::{CHUNK_BYTES, MOST_IN_MAILBOXES, SMALL_READ_BYTES},
        stall::Stall,
    },
    telemetry::session,
    transport::stream::{AttachedStream, Stream},
};

/// The most objects that one turn forgets after their end.
const MOST_GONE: usize = 512;

/// A client after its hello.
pub(super) struct Session {
    pub(super) id: SessionId,
    pub(super) peer: Arc<Peer>,
    /// The right of the principal, which each call needs.
    pub(super) right: Right,
    pub(super) stream: Arc<dyn Stream>,
    /// The stream, attached to this runtime.
    pub(super) attached: Rc<dyn AttachedStream>,
    pub(super) outgoing: Rc<Outgoing>,
    pub(super) context: Rc<Context>,
    /// The objects that the client has opened, by the client's numbers.
    pub(super) objects: Objects,
    /// The inputs of the current chunk, by object.
    pub(super) touched: Vec<(u32, Inputs)>,
    pub(super) last_seq: u64,
    /// The number of one-way calls of the client, from casts and from its report pipe. The session numbers
    /// both from this counter, so each number is unique.
    pub(super) one_way: u64,
    /// The report pipe of the client, if it uses one.
    report_pipe: Option<Box<ReportPipe>>,
    /// The received bytes of an incomplete message.
    pub(super) incoming: Incoming,
    /// Measures whether the client reads, while it has many unread bytes.
    stall: Option<Box<Stall>>,
    /// Whether the session has read a chunk although the outgoing buffer has no room.
    has_read_ahead: bool,
    /// The bytes that are still read from a client that no longer reads, once known.
    last_bytes: Option<Box<usize>>,
    /// The lease of a session over a network. It is dropped after the session's own drop has released its holds.
    pub(super) lease: Option<Box<Lease>>,
}

impl Session {
    pub(super) fn new(
        id: SessionId,
        peer: Arc<Peer>,
        (stream, attached): (Arc<dyn Stream>, Rc<dyn AttachedStream>),
        (outgoing, incoming): (Rc<Outgoing>, Incoming),
        mut lease: Option<Box<Lease>>,
        context: Rc<Context>,
    ) -> Self {
        if let Some(lease) = &mut lease {
            lease.welcome(context.shell.now());
        }
        outgoing.peer.replace(Some(Arc::clone(&peer)));
        let sink: Rc<dyn ReplySink> = outgoing.clone();
        context.shell.join(id, sink);
        Self {
            id,
            peer,
            right: outgoing.client.principal.right(),
            stream,
            attached,
            outgoing,
            context,
            objects: Objects::default(),
            touched: Vec::new(),
            last_seq: 0,
            one_way: 0,
            report_pipe: None,
            incoming,
            stall: None,
            has_read_ahead: false,
            last_bytes: None,
            lease,
        }
    }

    /// Serves the client until it ends or breaks a rule of the protocol.
    pub(super) async fn run(&mut self, inbox: &mut Inbox) -> End {
        loop {
            // The inbox may hold frames that arrived with the hello.
            let handled = self.handle_chunk(inbox).await;
            let chunk = match handled {
                Ok(()) => future::poll_fn(|task| self.poll_chunk(task, inbox)).await,
                Err(end) => Err(end),
            };
            if let Err(end) = chunk {
                self.incoming.leave();
                self.has_ended(&end);
                return end;
            }
        }
    }

    /// Writes the outgoing buffer, then reads the next chunk. It does not read from a client whose outgoing
    /// buffer is full.
    fn poll_chunk(
        &mut self,
        task: &mut task::Context<'_>,
        inbox: &mut Inbox,
    ) -> Poll<Result<(), End>> {
        self.clear_gone(task);
        if let Some(end) = self.lease.as_ref().and_then(|lease| lease.requested(task)) {
            return Poll::Ready(Err(end));
        }
        ready!(self.poll_room(task, inbox))?;
        if !self.outgoing.held_back.is_empty() {
            return Poll::Ready(Ok(()));
        }
        if self.outgoing.is_broken() {
            // Frames that were sent before the end are served, because a lost release would mark its lock as
            // abandoned. Frames that a forked child of the client adds are not served.
            let stream = &*self.stream;
            let unread = || stream.unread().unwrap_or(usize::MAX);
            let left = self.last_bytes.get_or_insert_with(|| Box::new(unread()));
            let received = receive_last(stream, left, inbox, &self.context);
            return Poll::Ready(received.map(|length| self.has_read(length)));
        }
        if self.waits_for_objects() {
            // As above, a session that does not read must not be in the queue.
            self.incoming.leave();
            return self.wait(task);
        }
        let received = self.poll_receive(task, inbox);
        if received.is_ready() {
            return received;
        }
        self.incoming.check(self.context.limits, task)?;
        self.wait(task)
    }

    /// Waits to be woken, unless the lease has ended meanwhile.
    fn wait(&mut self, task: &mut task::Context<'_>) -> Poll<Result<(), End>> {
        if let Some(lease) = &mut self.lease
            && let Poll::Ready(end) = lease.poll_end(self.context.shell.now(), task)
        {
            return Poll::Ready(Err(end));
        }
        self.outgoing.task.wait(task.waker());
        Poll::Pending
    }

    /// Writes the outgoing buffer until there is room for more answers.
    #[inline]
    fn poll_room(
        &mut self,
        task: &mut task::Context<'_>,
        inbox: &mut Inbox,
    ) -> Poll<Result<(), End>> {
        self.outgoing.task.end_wait();
        // Most turns of a session have nothing to write.
        if self.outgoing.is_flushed() {
            self.stall = None;
            self.has_read_ahead = false;
            return Poll::Ready(Ok(()));
        }
        self.poll_write(task, inbox)
    }

    fn poll_write(
        &mut self,
        task: &mut task::Context<'_>,
        inbox: &mut Inbox,
    ) -> Poll<Result<(), End>> {
        if let Err(end) = self.write(task) {
            return Poll::Ready(Err(end));
        }
        if !self.outgoing.is_full() {
            self.has_read_ahead = false;
            return Poll::Ready(Ok(()));
        }
        if self.outgoing.unread() == 0 && !self.has_read_ahead {
            // While the session waits for other sessions it does not write, so no write reports that the
            // client is gone. A read does, if the client has sent nothing since.
            match self.poll_receive(task, inbox) {
                Poll::Ready(Ok(())) => self.has_read_ahead = true,
                Poll::Pending => {}
                Poll::Ready(Err(end)) => {
                    // The client no longer reads. The session still serves what it sent before.
                    self.has_ended(&end);
                    self.outgoing.break_off();
                    return Poll::Ready(Ok(()));
                }
            }
        }
        // Without a read the session uses no room, and in the queue it would block other sessions.
        self.incoming.leave();
        // The client itself is to blame only if it has answers to read.
        if self.outgoing.unread() > 0 {
            self.incoming.check(self.context.limits, task)?;
        }
        self.wait(task)
    }

    /// Reads a chunk, once there is room for it.
    #[inline]
    fn poll_receive(
        &mut self,
        task: &mut task::Context<'_>,
        inbox: &mut Inbox,
    ) -> Poll<Result<(), End>> {
        let mut most = ready!(self.incoming.poll_room(inbox, task));
        if self.context.in_mailboxes.bytes() > MOST_IN_MAILBOXES
            || self.outgoing.held_back.is_under_way()
        {
            most = most.min(SMALL_READ_BYTES);
        }
        let received = poll_receive(task, &*self.attached, most, inbox, &self.context);
        if let (Poll::Ready(Ok(_)), Some(lease)) = (&received, &mut self.lease) {
            lease.renew(self.context.shell.now());
        }
        received.map_ok(|length| self.has_read(length))
    }

    /// Writes as much as the stream takes.
    ///
    /// # Errors
    ///
    /// Returns the end of the session for a client that does not read.
    fn write(&mut self, task: &mut task::Context<'_>) -> Result<(), End> {
        // The rest of the buffer shows how much was written, so the result is not needed.
        let _ = self.outgoing.poll_flush(task, &*self.attached);
        let written = self.outgoing.written.take();
        session::sent(&self.context.shell, written);
        if !self.outgoing.is_counted() {
            self.stall = None;
            return Ok(());
        }
        let (limits, now) = (self.context.limits, self.context.shell.now());
        let begin = || Box::new(Stall::begin(&self.outgoing, limits, now));
        let stall = self.stall.get_or_insert_with(begin);
        stall.check(written, &self.outgoing, now, task)
    }

    /// Waits until the client has read enough answers, and then sends the inputs that were held back.
    async fn catch_up(&mut self, inbox: &mut Inbox) -> Result<(), End> {
        while self.outgoing.is_full() || !self.outgoing.held_back.is_empty() {
            future::poll_fn(|task| self.poll_room(task, inbox)).await?;
            self.send_held_back();
            let_others_run().await;
        }
        Ok(())
    }

    fn send_held_back(&self) {
        let now = self.context.shell.now();
        for (mailbox, inputs) in self.outgoing.held_back.take(self.id) {
            mailbox.do_send(inputs.at(now));
        }
    }

    /// Dispatches all complete frames of the inbox, and lets the actors answer. Frames before an offence are
    /// always served, regardless of how the stream was cut into chunks.
    async fn handle_chunk(&mut self, inbox: &mut Inbox) -> Result<(), End> {
        // A host that runs late may have held inputs back since; they come first.
        if !self.outgoing.held_back.is_empty() {
            Box::pin(self.catch_up(inbox)).await?;
        }
        if let Some(complete) = self.incoming.end(inbox) {
            self.outgoing.held_back.keep_complete(complete);
        }
        self.drain_report_pipe();
        let handled = self.handle_frames(inbox).await;
        if !self.touched.is_empty() {
            self.deliver();
            let_others_run().await;
            self.outgoing.in_mailboxes.clear();
        }
        if !self.outgoing.held_back.is_under_way() {
            self.end_complete();
        }
        if !self.outgoing.held_back.is_empty() {
            Box::pin(self.catch_up(inbox)).await?;
        }
        handled?;
        self.count_incoming(inbox)
    }

    /// Counts an incomplete message, and refuses a large one for which the manager has no room.
    fn count_incoming(&mut self, inbox: &mut Inbox) -> Result<(), End> {
        let complete = self.outgoing.held_back.reserved();
        let counted = self.incoming.count(inbox, complete, &self.context.shell);
        counted.or_else(|(message, fault)| self.fail(message, fault))
    }

    async fn handle_frames(&mut self, inbox: &mut Inbox) -> Result<(), End> {
        // The condition of a `while let` would keep its values while a control request is served, and so take
        // room in each session.
        loop {
            let next = inbox.next_message();
            let Some(frame) = next.map_err(|error| End::Offence(error.to_string()))? else {
                return Ok(());
            };
            let Some(request) = self.handle(frame)? else {
                continue;
            };
            // Control requests are rare, so their future is boxed and takes no room in each session either.
            Box::pin(self.handle_control(*request, inbox)).await?;
        }
    }

    /// Serves a control request, after the calls that came before it.
    async fn handle_control(
        &mut self,
        request: ControlRequest,
        inbox: &mut Inbox,
    ) -> Result<(), End> {
        if !self.touched.is_empty() {
            self.deliver();
            let_others_run().await;
            self.outgoing.in_mailboxes.clear();
        }
        // The count of a large message ends before its object counts what it stores.
        if !self.outgoing.held_back.is_under_way() {
            self.end_complete();
        }
        self.catch_up(inbox).await?;
        let control = Control {
            session: self.id,
            peer: &self.peer,
            context: &self.context,
            objects: &mut self.objects,
            outgoing: &self.outgoing,
        };
        control.run(request).await;
        Ok(())
    }

    /// Assigns the report pipe of the stream to an operation, in place of an earlier one.
    pub(super) fn set_report_pipe(&mut self, seq: u64, object: u32, operation: u32) {
        // A record has at most `PIPE_BUF` bytes, so the bytes of an incomplete record are not counted.
        let most = self.context.limits.frame_bytes.min(CHUNK_BYTES);
        if let Err(fault) = self.check_right(object, operation) {
            return self.outgoing.put_fault(seq, fault);
        }
        if self.stream.reports().is_none() {
            let why = "no report pipe came with the stream of this session";
            return self
                .outgoing
                .put_fault(seq, Fault::BadArguments(why.to_owned()));
        }
        self.drain_report_pipe();
        self.report_pipe = Some(Box::new(ReportPipe::new(object, operation, most)));
        let body = BlobRef(NIL);
        self.outgoing.put(&Response::Reply { seq, body });
    }

    /// Turns the records in the report pipe into a one-way call.
    fn drain_report_pipe(&mut self) {
        let Some(pipe) = &mut self.report_pipe else {
            return;
        };
        let Some(reports) = self.stream.reports() else {
            return;
        };
        let (object, operation) = (pipe.object, pipe.operation);
        let taken = pipe.take(reports, &mut self.context.scratch.borrow_mut());
        match taken {
            Ok(Some(records)) => self.cast(object, operation, records),
            Ok(None) => {}
            Err(_) => self.report_pipe = None,
        }
    }

    /// Handles the end of the client.
    fn has_ended(&self, end: &End) {
        match end {
            // The client reads nothing of what is not written yet.
            End::Left => self.outgoing.break_off(),
            End::LeftUnread => self.outgoing.last.lose(),
            // The client still reads, or has given up its calls.
            End::Offence(_) | End::Lapsed(_) | End::Goodbye | End::Replaced | End::WithManager => {}
        }
    }

    /// Withdraws the last call of a worker if the worker has not read its answer. The queue then gives the tasks
    /// of that answer to another worker, because this one has begun none of them. A client without a report pipe
    /// is no worker, and the end of its session is enough.
    fn withdraw_unseen(&mut self) {
        if let Some(pipe) = &self.report_pipe
            && let Some(seq) = self.outgoing.last.unseen(self.last_seq)
        {
            let withdrawn = Input::Withdraw(CallId::new(self.id, seq));
            // The push fails if the object is gone, and then there is nothing to withdraw.
            let _ = self.push(pipe.object, withdrawn);
        }
    }

    /// Forgets objects that have ended, so that their hosts can end. If they are many, the rest follow in the
    /// next turn.
    fn clear_gone(&mut self, task: &task::Context<'_>) {
        let mut gone = self.outgoing.gone.borrow_mut();
        if gone.is_empty() {
            return;
        }
        let left = gone.len().saturating_sub(MOST_GONE);
        for number in gone.drain(left..) {
            if let Some(object) = self.objects.remove(number) {
                self.outgoing.sharing.close(object.bytes());
            }
        }
        if gone.is_empty() {
            *gone = Vec::new();
        } else {
            task.waker().wake_by_ref();
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.context.shell.leave(self.id);
        self.send_held_back();
        self.drain_report_pipe();
        self.withdraw_unseen();
        self.deliver();
        self.outgoing.sharing.close(self.objects.bytes());
        let mailboxes = mem::take(&mut self.objects).into_mailboxes();
        let peer = Arc::clone(&self.peer);
        self.context.shell.hang_up(self.id, peer, mailboxes);
        // A later session of the client begins once the lease is dropped.
        self.outgoing.client.end();
    }
}
