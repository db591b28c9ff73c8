//! The first frame of a session: who the client is, and whether it speaks our version.

use std::{future, sync::Arc};

use lockkeeper_actors::Peer;

use super::{Context, End, receive::poll_receive};
use crate::{
    limits::cut,
    wire::{self, Inbox, Link, Request},
};

/// Waits for the first frame and takes it.
pub(super) async fn hello(
    link: &Link,
    inbox: &mut Inbox,
    context: &Context,
) -> Result<Arc<Peer>, End> {
    loop {
        if let Some(frame) = inbox
            .next()
            .map_err(|error| End::Offence(error.to_string()))?
        {
            return welcome(&frame);
        }
        future::poll_fn(|task| poll_receive(task, link, inbox, context)).await?;
    }
}

/// Checks the first frame.
fn welcome(frame: &[u8]) -> Result<Arc<Peer>, End> {
    match Request::decode(frame) {
        Ok(Request::Hello {
            version: wire::VERSION,
            pid,
            program,
            label,
        }) => Ok(Arc::new(Peer::new(pid, cut(program), cut(label)))),
        Ok(Request::Hello { version, .. }) => Err(End::Offence(format!(
            "version {version} of the protocol is not spoken here, only {}",
            wire::VERSION
        ))),
        Ok(_) => Err(End::Offence("the first frame is no hello".to_owned())),
        Err(error) => Err(End::Offence(format!("bad frame: {error}"))),
    }
}
