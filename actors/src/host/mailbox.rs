//! `MailboxReceiver`: an actor context for actors that only handle messages.
//!
//! actix's own context reserves about 300 bytes per actor for futures that the actor may spawn, and
//! checks them around each message; a host spawns none. This is the only file that names
//! `actix::dev`.
//!
//! Invariant: messages are handled in the order in which they were sent, and the task of a host ends
//! when its last address is dropped.

use std::{
    fmt,
    future::Future,
    pin::{Pin, pin},
    task::{self, Poll},
};

use actix::{
    Actor, ActorContext, ActorState, Addr, Handler, Message,
    dev::{
        Envelope, EnvelopeProxy, OneshotSender, ToEnvelope,
        channel::{AddressReceiver, channel},
    },
};
use futures::Stream;

/// The receiving end of an actor's mailbox, and the context that the actor sees.
pub struct MailboxReceiver<A: Actor>(AddressReceiver<A>);

/// The task of an actor that only handles messages.
pub(crate) struct HostTask<A: Actor> {
    actor: A,
    mailbox: MailboxReceiver<A>,
}

/// A message in a mailbox, and the sender that waits until it is handled.
struct Parcel<M>(Option<M>, Option<OneshotSender<()>>);

/// The most messages before the other tasks of the shard have their turn.
const MOST_MESSAGES: u32 = 256;

/// The capacity for `try_send`, which this crate never uses: `do_send` has no limit.
const CAPACITY: usize = 16;

/// An actor that may continue a turn before it gets the next message.
pub(crate) trait GoOn: Actor<Context = MailboxReceiver<Self>> {
    /// Returns whether the turn has to continue.
    fn is_busy(&self) -> bool;

    /// Continues the turn for a short time.
    fn go_on(&mut self, mailbox: &mut MailboxReceiver<Self>);

    /// Records that messages may be left in the mailbox after this turn.
    fn falls_behind(&self);

    /// Records that no message is left in the mailbox.
    fn has_caught_up(&self);
}

impl<A: GoOn> HostTask<A> {
    /// Creates the task of an actor, and its address.
    pub(crate) fn new(actor: A) -> (Self, Addr<A>) {
        let (sender, receiver) = channel(CAPACITY);
        let mailbox = MailboxReceiver(receiver);
        (Self { actor, mailbox }, Addr::new(sender))
    }
}

impl<A: GoOn> Future for HostTask<A> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, task: &mut task::Context<'_>) -> Poll<()> {
        let Self { actor, mailbox } = self.get_mut();
        if actor.is_busy() {
            actor.go_on(mailbox);
            return yield_now(task);
        }
        let mut had_addresses = true;
        let mut handled = 0;
        loop {
            while let Poll::Ready(Some(mut envelope)) = Pin::new(&mut mailbox.0).poll_next(task) {
                envelope.handle(actor, mailbox);
                handled += 1;
                if actor.is_busy() {
                    actor.falls_behind();
                    return yield_now(task);
                }
                if handled == MOST_MESSAGES {
                    actor.falls_behind();
                    task.waker().wake_by_ref();
                    return Poll::Pending;
                }
            }
            actor.has_caught_up();
            if mailbox.0.connected() {
                // A message, or the drop of the last address, wakes the task.
                return Poll::Pending;
            }
            if !had_addresses {
                return Poll::Ready(());
            }
            // The last address may have been dropped after a last message, so check once more.
            had_addresses = false;
        }
    }
}

/// Schedules another poll after the runtime has checked its sockets and timers. A plain wake would poll the
/// task before that, up to 61 times.
fn yield_now(task: &mut task::Context<'_>) -> Poll<()> {
    pin!(tokio::task::yield_now()).poll(task)
}

impl<A: Actor> MailboxReceiver<A> {
    /// The address of the actor.
    pub(crate) fn address(&self) -> Addr<A> {
        Addr::new(self.0.sender())
    }
}

impl<A: Actor> ActorContext for MailboxReceiver<A> {
    /// Does nothing: the actor lives as long as it has an address.
    fn stop(&mut self) {}

    fn terminate(&mut self) {}

    fn state(&self) -> ActorState {
        ActorState::Running
    }
}

impl<A, M> ToEnvelope<A, M> for MailboxReceiver<A>
where
    A: Actor<Context = Self> + Handler<M>,
    M: Message<Result = ()> + Send + 'static,
{
    fn pack(message: M, waiting: Option<OneshotSender<()>>) -> Envelope<A> {
        Envelope::with_proxy(Box::new(Parcel(Some(message), waiting)))
    }
}

impl<A, M> EnvelopeProxy<A> for Parcel<M>
where
    A: Actor<Context = MailboxReceiver<A>> + Handler<M>,
    M: Message<Result = ()> + Send,
{
    fn handle(&mut self, actor: &mut A, mailbox: &mut MailboxReceiver<A>) {
        let Self(message, waiting) = self;
        if let Some(message) = message.take() {
            actor.handle(message, mailbox);
        }
        if let Some(waiting) = waiting.take() {
            // The sender may no longer wait.
            let _ = waiting.send(());
        }
    }
}

impl<A: Actor> fmt::Debug for MailboxReceiver<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MailboxReceiver")
            .field("is_connected", &self.0.connected())
            .finish()
    }
}
