//! How the messages for a host reach it: an actor's context for actors that are only ever told something.
//!
//! That of actix keeps the futures that an actor may spawn, or wait for, in 300 bytes of each actor, and looks at
//! them around each message. A host has none. Invariant: each message is handled in the order in which it was
//! sent, all that are there in one go, and the host ends when nobody has its address any more.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{self, Poll},
};

use actix::{
    Actor, ActorContext, ActorState, Addr, Handler,
    dev::{
        Envelope, EnvelopeProxy, OneshotSender, ToEnvelope,
        channel::{AddressReceiver, channel},
    },
};
use futures::Stream;

use super::{Host, Inputs};
use crate::Primitive;

/// Where a host finds what it is told.
pub struct Post<P: Primitive>(AddressReceiver<Host<P>>);

/// A host that waits for its messages: the task that is spawned for it.
pub(super) struct Turns<P: Primitive> {
    host: Host<P>,
    post: Post<P>,
}

/// A message on its way, and whoever waits until it is handled.
struct Parcel(Inputs, Option<OneshotSender<()>>);

/// So many messages may be sent by `try_send` that were not handled yet. Nobody does: what is told is told.
const CAPACITY: usize = 16;

impl<P: Primitive> Turns<P> {
    /// The task of a host, and its address.
    pub(super) fn of(host: Host<P>) -> (Self, Addr<Host<P>>) {
        let (sender, receiver) = channel(CAPACITY);
        let post = Post(receiver);
        (Self { host, post }, Addr::new(sender))
    }
}

impl<P: Primitive> Future for Turns<P> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, task: &mut task::Context<'_>) -> Poll<()> {
        let Self { host, post } = self.get_mut();
        let mut is_known = true;
        loop {
            while let Poll::Ready(Some(mut envelope)) = Pin::new(&mut post.0).poll_next(task) {
                envelope.handle(host, post);
            }
            if post.0.connected() {
                // Whoever sends something, or drops the last address, wakes the task.
                return Poll::Pending;
            }
            if !is_known {
                return Poll::Ready(());
            }
            // The last address may have been dropped just now, behind a message.
            is_known = false;
        }
    }
}

impl<P: Primitive> Post<P> {
    /// The address of the host.
    pub(super) fn address(&self) -> Addr<Host<P>> {
        Addr::new(self.0.sender())
    }
}

impl<P: Primitive> ActorContext for Post<P> {
    /// Changes nothing: a host lives for as long as somebody has its address.
    fn stop(&mut self) {}

    fn terminate(&mut self) {}

    fn state(&self) -> ActorState {
        ActorState::Running
    }
}

impl<P: Primitive> ToEnvelope<Host<P>, Inputs> for Post<P> {
    fn pack(inputs: Inputs, waiting: Option<OneshotSender<()>>) -> Envelope<Host<P>> {
        Envelope::with_proxy(Box::new(Parcel(inputs, waiting)))
    }
}

impl<P: Primitive> EnvelopeProxy<Host<P>> for Parcel {
    fn handle(&mut self, host: &mut Host<P>, post: &mut Post<P>) {
        let Self(inputs, waiting) = self;
        host.handle(inputs.take(), post);
        if let Some(waiting) = waiting.take() {
            // Whoever waited may have gone.
            let _ = waiting.send(());
        }
    }
}

impl<P: Primitive> fmt::Debug for Post<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Post")
            .field("is_known", &self.0.connected())
            .finish()
    }
}

impl<P: Primitive> Actor for Host<P> {
    type Context = Post<P>;
}
