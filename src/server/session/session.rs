//! `Session`: one client. It sends the client's calls to mailboxes, and a hang-up when the client ends.
//!
//! The calls of one read are sent together, one message per mailbox. Then the actors run, and their
//! answers are written in one system call before the next read.
//!
//! Invariant: a session names no primitive, and no input of a client ends more than its own session.

use std::{
    future, io, mem,
    rc::Rc,
    sync::Arc,
    task::{self, Poll},
    time::Duration,
};

use lockkeeper_actors::{Input, Inputs, RawCall, ReplySink};
use lockkeeper_protocol::{
    CallId, Fault, Peer, SessionId,
    codec::{BlobRef, CodecError, Payload},
    frame::{self, Inbox, Message, Misread, Request, Response},
};
use tokio::time;

use crate::{
    access::Right,
    server::{
        session::{
            context::{Context, End, HIGH_WATER_BYTES, let_others_run},
            control::{Control, ControlRequest, NIL},
            farewell::{Farewell, refuse},
            hello::hello,
            objects::Objects,
            outgoing::Outgoing,
            receive::{poll_receive, receive_last},
            report_pipe::ReportPipe,
        },
        supervisor::supervisor::{Open, Remove},
    },
    telemetry::session,
    transport::stream::{AttachedStream, Stream},
};

/// Serves one client until it ends or breaks a rule of the protocol.
pub(crate) async fn serve(
    stream: Arc<dyn Stream>,
    id: SessionId,
    right: Right,
    context: Rc<Context>,
) {
    let attached = match Arc::clone(&stream).attach() {
        Ok(attached) => attached,
        Err(error) => {
            let reason = format!("the manager cannot wait for what it says: {error}");
            return refuse(&*stream, reason, context.limits);
        }
    };
    let mut inbox = Inbox::new(frame::FIRST_FRAME_BYTES);
    let outgoing = Rc::new(Outgoing::new(context.limits));
    // This task is dropped when the manager ends.
    let mut farewell = Farewell {
        outgoing: &outgoing,
        stream: &*stream,
        reason: None,
        manager: Some(Rc::clone(&context)),
    };
    let hello = time::timeout(
        context.limits.hello,
        hello(&*stream, &*attached, &mut inbox, &context),
    );
    let end = match hello.await {
        Ok(Ok(peer)) => {
            inbox.allow(context.limits.frame_bytes);
            outgoing.put(&Response::Welcome {
                version: frame::VERSION,
                incarnation: context.shard_of.incarnation,
                session: id.number(),
                secret: context.secret.of_session(id),
                frame_bytes: context.limits.frame_bytes.try_into().unwrap_or(u64::MAX),
                asks_who_calls: context.seeks_deadlocks,
                shard: context.shard_of.shard,
            });
            let span =
                session::SessionSpan::begin(id, &peer, stream.peer_user().map(|user| user.uid));
            let stream = (Arc::clone(&stream), attached);
            let mut session = Session::new(id, peer, right, stream, Rc::clone(&outgoing), context);
            let end = session.run(&mut inbox).await;
            span.end(end.offence());
            end
        }
        Ok(Err(end)) => end.before_hello(),
        Err(_) => End::Offence("no hello came in time".to_owned()).before_hello(),
    };
    farewell.manager = None;
    farewell.reason = match end {
        End::Left => None,
        End::Offence(reason) => Some(reason),
    };
}

/// How many objects that have ended are forgotten in one turn.
const MOST_GONE: usize = 512;

/// A client after its hello.
pub(super) struct Session {
    pub(super) id: SessionId,
    pub(super) peer: Arc<Peer>,
    right: Right,
    stream: Arc<dyn Stream>,
    /// The stream, as this runtime waits for it.
    attached: Box<dyn AttachedStream>,
    pub(super) outgoing: Rc<Outgoing>,
    pub(super) context: Rc<Context>,
    /// The objects that the client has opened, by the number that the client uses.
    pub(super) objects: Objects,
    /// The inputs of the current chunk, by object.
    touched: Vec<(u32, Inputs)>,
    last_seq: u64,
    /// How many one-way calls were made for the client, by its casts and from its report pipes. They are
    /// numbered here, so none has the number of another.
    one_way: u64,
    /// The report pipe of the client, if it uses one.
    report_pipe: Option<Box<ReportPipe>>,
}

impl Session {
    fn new(
        id: SessionId,
        peer: Arc<Peer>,
        right: Right,
        (stream, attached): (Arc<dyn Stream>, Box<dyn AttachedStream>),
        outgoing: Rc<Outgoing>,
        context: Rc<Context>,
    ) -> Self {
        outgoing.peer.replace(Some(Arc::clone(&peer)));
        let sink: Rc<dyn ReplySink> = outgoing.clone();
        context.shell.join(id, sink);
        Self {
            id,
            peer,
            right,
            stream,
            attached,
            outgoing,
            context,
            objects: Objects::default(),
            touched: Vec::new(),
            last_seq: 0,
            one_way: 0,
            report_pipe: None,
        }
    }

    async fn run(&mut self, inbox: &mut Inbox) -> End {
        loop {
            // The inbox may hold frames that arrived with the hello.
            if let Err(end) = self.handle_chunk(inbox).await {
                return end;
            }
            if let Err(end) = future::poll_fn(|task| self.poll_chunk(task, inbox)).await {
                return end;
            }
        }
    }

    /// Writes the outgoing buffer, then reads the next chunk. A client with too many unread answers is
    /// not read from.
    fn poll_chunk(
        &mut self,
        task: &mut task::Context<'_>,
        inbox: &mut Inbox,
    ) -> Poll<Result<(), End>> {
        self.clear_gone(task);
        // The rest of the buffer shows how much was written.
        let _ = self.outgoing.poll_flush(task, &*self.attached);
        session::sent(&self.context.shell, self.outgoing.written.take());
        let unread = self.outgoing.len();
        let most = self.context.limits.unread_bytes;
        if unread > most {
            let reason = format!("more than {most} bytes of answers are unread");
            return Poll::Ready(Err(End::Offence(reason)));
        }
        if unread < HIGH_WATER_BYTES {
            let received = poll_receive(task, &*self.attached, inbox, &self.context);
            if received.is_ready() {
                return received;
            }
            if self.outgoing.is_broken() {
                // Frames that were sent before the end are served: a lost release would mark its lock
                // as abandoned.
                return Poll::Ready(receive_last(&*self.stream, inbox, &self.context));
            }
        }
        self.outgoing.writer.replace(Some(task.waker().clone()));
        Poll::Pending
    }

    /// Dispatches all complete frames of the inbox, and lets the actors answer. Frames before an offence
    /// are served, however the stream was cut into chunks.
    async fn handle_chunk(&mut self, inbox: &mut Inbox) -> Result<(), End> {
        self.drain_report_pipe();
        let handled = self.handle_frames(inbox).await;
        if !self.touched.is_empty() {
            self.deliver();
            let_others_run().await;
        }
        handled
    }

    async fn handle_frames(&mut self, inbox: &mut Inbox) -> Result<(), End> {
        while let Some(frame) = inbox
            .next_message()
            .map_err(|error| End::Offence(error.to_string()))?
        {
            if let Some(request) = self.handle(frame)? {
                self.deliver();
                let control = Control {
                    session: self.id,
                    peer: &self.peer,
                    right: self.right,
                    context: &self.context,
                    objects: &mut self.objects,
                    outgoing: &self.outgoing,
                };
                control.run(request).await;
            }
        }
        Ok(())
    }

    #[inline]
    fn handle(&mut self, frame: Message<'_>) -> Result<Option<ControlRequest>, End> {
        let request = match Request::decode(&frame) {
            Ok(request) => request,
            Err(error) => return self.misread(&frame, &error),
        };
        match request {
            Request::Hello { .. } => return Err(End::Offence("a second hello".to_owned())),
            Request::Open {
                seq,
                kind,
                name,
                spec,
            } => {
                self.number(seq)?;
                let open = Open {
                    kind: kind.to_owned(),
                    name: name.map(str::to_owned),
                    spec: spec.map(|BlobRef(bytes)| bytes.to_vec()),
                };
                return Ok(Some(ControlRequest::Open(seq, open)));
            }
            Request::Remove { seq, name } => {
                self.number(seq)?;
                return Ok(Some(ControlRequest::Remove(seq, Remove(name.to_owned()))));
            }
            Request::Call {
                seq,
                object,
                operation,
                micros,
                arguments,
            } => {
                self.number(seq)?;
                let arguments = frame.keep(arguments.0);
                let timeout = micros.map(Duration::from_micros);
                let call = self.raw_call(seq, operation, timeout, arguments);
                self.call(seq, object, operation, Input::Call(call));
            }
            Request::CallBy {
                seq,
                object,
                operation,
                micros,
                arguments,
                caller,
            } => {
                self.number(seq)?;
                let arguments = frame.keep(arguments.0);
                let timeout = micros.map(Duration::from_micros);
                let call = self.raw_call(seq, operation, timeout, arguments);
                self.call(
                    seq,
                    object,
                    operation,
                    Input::CallBy(Box::new(call), caller),
                );
            }
            Request::ReportPipe {
                seq,
                object,
                operation,
                descriptor,
            } => {
                self.number(seq)?;
                self.set_report_pipe(seq, object, operation, descriptor);
            }
            Request::Inspect { seq, question } => {
                self.number(seq)?;
                return Ok(Some(ControlRequest::Inspect(seq, question)));
            }
            Request::Cast {
                object,
                operation,
                arguments,
            } => self.cast(object, operation, frame.keep(arguments.0)),
            Request::Withdraw { object, seq } => {
                let _ = self.push(object, Input::Withdraw(CallId::new(self.id, seq)));
            }
        }
        Ok(None)
    }

    /// Fails the call alone that a bad frame was to make, if its number can be read.
    #[cold]
    fn misread(&mut self, frame: &[u8], error: &CodecError) -> Result<Option<ControlRequest>, End> {
        match Misread::of(frame) {
            Misread::Call(seq) => {
                self.number(seq)?;
                let fault = Fault::BadArguments(error.to_string());
                self.outgoing.put_fault(seq, fault);
            }
            Misread::Cast(seq) => self.number(seq)?,
            Misread::Withdraw => {}
            Misread::Stream => return Err(End::Offence(format!("bad frame: {error}"))),
        }
        Ok(None)
    }

    /// Checks the number of a new call. Numbers must increase, so each is unique.
    #[inline]
    fn number(&mut self, seq: u64) -> Result<(), End> {
        if seq <= self.last_seq || seq >= CallId::ONE_WAY {
            return Err(End::Offence(format!(
                "call {seq} does not count up from {}",
                self.last_seq
            )));
        }
        self.last_seq = seq;
        Ok(())
    }

    #[inline]
    fn raw_call(
        &self,
        seq: u64,
        operation: u32,
        timeout: Option<Duration>,
        arguments: Payload,
    ) -> RawCall {
        RawCall {
            id: CallId::new(self.id, seq),
            operation,
            timeout,
            arguments,
        }
    }

    #[inline]
    fn call(&mut self, seq: u64, object: u32, operation: u32, call: Input) {
        let most = self.context.limits.calls_in_flight;
        let in_flight = self.outgoing.in_flight.get();
        if in_flight >= most {
            self.outgoing
                .put_fault(seq, Fault::limit("calls in flight", most));
            return;
        }
        let allowed = self.check_right(object, operation);
        match allowed.and_then(|()| self.push(object, call)) {
            Ok(()) => self.outgoing.in_flight.set(in_flight + 1),
            Err(fault) => self.outgoing.put_fault(seq, fault),
        }
    }

    /// Calls an object without an answer.
    #[inline]
    fn cast(&mut self, object: u32, operation: u32, arguments: Payload) {
        self.one_way += 1;
        if self.check_right(object, operation).is_err() {
            return;
        }
        let call = RawCall {
            id: CallId::one_way(self.id, self.one_way),
            operation,
            timeout: None,
            arguments,
        };
        // It needs no answer if the object does not exist or has ended.
        let _ = self.push(object, Input::Call(call));
    }

    /// Refuses an operation that the client may not call.
    #[inline]
    fn check_right(&self, object: u32, operation: u32) -> Result<(), Fault> {
        match self.right {
            Right::Administer => Ok(()),
            Right::Use => self.objects.check_use(object, operation),
        }
    }

    /// Installs a report pipe, in place of an earlier one.
    fn set_report_pipe(&mut self, seq: u64, object: u32, operation: u32, descriptor: u32) {
        let most = self.context.limits.frame_bytes;
        if let Err(fault) = self.check_right(object, operation) {
            return self.outgoing.put_fault(seq, fault);
        }
        // The process is the one that the kernel knows, and not the one that the client claims to be.
        let pid = self
            .stream
            .peer_pid()
            .ok_or_else(|| io::Error::from(io::ErrorKind::Unsupported));
        let pipe = pid.and_then(|pid| ReportPipe::open(pid, descriptor, object, operation, most));
        match pipe {
            Ok(pipe) => {
                self.drain_report_pipe();
                self.report_pipe = Some(Box::new(pipe));
                let body = BlobRef(NIL);
                self.outgoing.put(&Response::Reply { seq, body });
            }
            Err(error) => {
                let fault = Fault::BadArguments(error.to_string());
                self.outgoing.put_fault(seq, fault);
            }
        }
    }

    /// Turns the records in the report pipe into a one-way call.
    fn drain_report_pipe(&mut self) {
        let Some(pipe) = &mut self.report_pipe else {
            return;
        };
        let (object, operation) = (pipe.object, pipe.operation);
        let taken = pipe.take(&mut self.context.scratch.borrow_mut());
        match taken {
            Ok(Some(records)) => self.cast(object, operation, records),
            Ok(None) => {}
            Err(_) => self.report_pipe = None,
        }
    }

    /// Adds an input to the messages of the current chunk.
    #[inline]
    pub(super) fn push(&mut self, number: u32, input: Input) -> Result<(), Fault> {
        let object = self.objects.get_mut(number)?;
        let touched = object.touched.and_then(|at| usize::try_from(at).ok());
        match touched.and_then(|at| self.touched.get_mut(at)) {
            Some((_, inputs)) => self.context.shell.add(inputs, input),
            None => {
                object.touched = u32::try_from(self.touched.len()).ok();
                let mut inputs = self.context.shell.inputs();
                inputs.push(input);
                self.touched.push((number, inputs));
            }
        }
        Ok(())
    }

    /// Forgets objects that have ended, which lets their hosts end: some of them, if they are many, and the
    /// others in the next turn.
    fn clear_gone(&mut self, task: &task::Context<'_>) {
        let mut gone = self.outgoing.gone.borrow_mut();
        let left = gone.len().saturating_sub(MOST_GONE);
        for number in gone.drain(left..) {
            self.objects.remove(number);
        }
        if gone.is_empty() {
            *gone = Vec::new();
        } else {
            task.waker().wake_by_ref();
        }
    }

    /// Sends the inputs of the chunk, one message per mailbox.
    fn deliver(&mut self) {
        let now = self.context.shell.now();
        for (number, inputs) in self.touched.drain(..) {
            if let Ok(object) = self.objects.get_mut(number) {
                object.touched = None;
                object.mailbox.do_send(inputs.at(now));
            }
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.context.shell.leave(self.id);
        self.drain_report_pipe();
        self.deliver();
        let mailboxes = mem::take(&mut self.objects).into_mailboxes();
        let peer = Arc::clone(&self.peer);
        self.context.shell.hang_up(self.id, peer, mailboxes);
    }
}
