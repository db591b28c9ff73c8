//! The first frame of a session: who the client is, and whether it speaks our version.

use std::{future, sync::Arc};

use lockkeeper_actors::Peer;

use super::{Context, End, poll_receive};
use crate::wire::{self, Inbox, Link, Request};

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

/// How many bytes are kept of each text that a client says of itself.
const KEPT_BYTES: usize = 255;

/// Cuts a text that is copied into the answer of each call that learns of the client's death.
fn cut(text: &str) -> &str {
    let ends = text.char_indices().map(|(start, c)| start + c.len_utf8());
    let end = ends.take_while(|end| *end <= KEPT_BYTES).last();
    text.get(..end.unwrap_or_default()).unwrap_or_default()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_cut_between_characters() {
        assert_eq!((cut(""), cut("demo")), ("", "demo"));
        assert_eq!(cut(&"x".repeat(256)), "x".repeat(255));
        assert_eq!(cut(&"\u{e9}".repeat(200)), "\u{e9}".repeat(127));
    }
}
