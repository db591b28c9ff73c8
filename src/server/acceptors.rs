//! `Acceptors`: all ways by which clients reach a shard, as one acceptor.

use std::{
    io,
    sync::Arc,
    task::{Context, Poll},
};

use crate::transport::{
    listener::{Acceptor, Listener},
    stream::Stream,
};

/// The acceptor of the claimed address, and further ones.
#[derive(Debug)]
pub(super) struct Acceptors {
    claimed: Box<dyn Acceptor>,
    others: Vec<Box<dyn Acceptor>>,
}

impl Acceptors {
    /// Attaches listeners to the current runtime.
    ///
    /// # Errors
    ///
    /// As [`Listener::attach`].
    pub(super) fn attach(
        claimed: Box<dyn Listener>,
        others: Vec<Box<dyn Listener>>,
    ) -> io::Result<Self> {
        let others = others.into_iter().map(Listener::attach);
        Ok(Self {
            claimed: claimed.attach()?,
            others: others.collect::<io::Result<_>>()?,
        })
    }

    /// Replaces the listener of the claimed address.
    ///
    /// # Errors
    ///
    /// As [`Listener::attach`].
    pub(super) fn replace(&mut self, claimed: Box<dyn Listener>) -> io::Result<()> {
        self.claimed = claimed.attach()?;
        Ok(())
    }
}

impl Acceptor for Acceptors {
    /// Clients of the claimed address come first. They are few at a time, because each has to be accepted before its
    /// next call.
    fn poll_accept(&self, task: &mut Context<'_>) -> Poll<io::Result<Arc<dyn Stream>>> {
        let all = std::iter::once(&self.claimed).chain(&self.others);
        let accepted = all.map(|acceptor| acceptor.poll_accept(task));
        let mut accepted = accepted.filter(Poll::is_ready);
        accepted.next().unwrap_or(Poll::Pending)
    }
}
