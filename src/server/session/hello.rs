//! The first frame of a session: the version check, and the client's description of itself.

use std::{future, sync::Arc};

use lockkeeper_protocol::{
    Peer, cut,
    frame::{self, Inbox, Request},
};

use crate::{
    server::session::{
        context::{Context, End},
        receive::poll_receive,
    },
    transport::stream::AttachedStream,
};

/// Waits for the first frame and takes it.
pub(super) async fn hello(
    stream: &dyn AttachedStream,
    inbox: &mut Inbox,
    context: &Context,
) -> Result<Arc<Peer>, End> {
    loop {
        if let Some(frame) = inbox
            .next_message()
            .map_err(|error| End::Offence(error.to_string()))?
        {
            return welcome(&frame);
        }
        future::poll_fn(|task| poll_receive(task, stream, inbox, context)).await?;
    }
}

/// Checks the first frame.
fn welcome(frame: &[u8]) -> Result<Arc<Peer>, End> {
    match Request::decode(frame) {
        Ok(Request::Hello {
            version: frame::VERSION,
            pid,
            program,
            label,
        }) => Ok(Arc::new(Peer::new(pid, cut(program), cut(label)))),
        Ok(Request::Hello { version, .. }) => Err(End::Offence(format!(
            "version {version} of the protocol is not spoken here, only {}",
            frame::VERSION
        ))),
        Ok(_) => Err(End::Offence("the first frame is no hello".to_owned())),
        Err(error) => Err(End::Offence(format!("bad frame: {error}"))),
    }
}
