//! The first frame of a session: it says whether the client can be served, and describes the client.
//!
//! Invariant: if the kernel knows the client's process id, the id in the frame is ignored.

use std::{future, task::ready, time::Duration};

use lockkeeper_protocol::{
    Peer, Shard, cut,
    frame::{self, Capability, FormerSession, Inbox, Request},
};

use crate::{
    server::session::{
        context::{Context, End},
        incoming::Incoming,
        receive::poll_receive,
    },
    transport::stream::AttachedStream,
};

/// Waits for the first frame and handles it. `known` is the client's process id, if the kernel knows it. It drops
/// `incoming` if the hello is refused or late, so that the session blocks no other one while its last words are
/// sent.
pub(super) async fn hello(
    known: Option<u32>,
    attached: &dyn AttachedStream,
    inbox: &mut Inbox,
    mut incoming: Incoming,
    lease: Option<Duration>,
    context: &Context,
) -> Result<(Peer, Incoming), End> {
    loop {
        if let Some(frame) = inbox
            .next_message()
            .map_err(|error| End::Offence(error.to_string()))?
        {
            let (peer, former) = welcome(&frame, known, context.shard_of.shard, lease)?;
            if let Some(former) = former {
                context.leased.end(former, &context.secret).await;
            }
            return Ok((peer, incoming));
        }
        // A hello is never large, so it is not refused.
        let _ = incoming.count(inbox, 0, &context.shell);
        let receive = future::poll_fn(|task| {
            let most = ready!(incoming.poll_room(inbox, task));
            poll_receive(task, attached, most, inbox, context)
        });
        let _ = receive.await?;
        // A hello is no message to an object.
        if let Some(complete) = incoming.end(inbox) {
            incoming.has_come(complete);
        }
    }
}

/// Checks the first frame of a client. `known` is its process id, if the kernel knows it.
fn welcome(
    frame: &[u8],
    known: Option<u32>,
    shard: Shard,
    lease: Option<Duration>,
) -> Result<(Peer, Option<FormerSession>), End> {
    match Request::decode(frame) {
        Ok(Request::Hello {
            version: frame::VERSION,
            pid,
            program,
            label,
            capabilities,
            former,
        }) => {
            // A client without shards would create a second object with the same name at the wrong shard.
            if shard.of() > 1 && !capabilities.has(Capability::Shards) {
                return Err(End::Offence(format!(
                    "this manager has {} shards, and the client cannot tell shards apart: use a later release of \
                     the client, or a manager of one shard",
                    shard.of()
                )));
            }
            if lease.is_some() && !capabilities.has(Capability::Leases) {
                let why = "sessions have leases here, which the client does not renew: use a later release of it";
                return Err(End::Offence(why.to_owned()));
            }
            let peer = |pid| Peer::new(pid, cut(program), cut(label));
            Ok((
                known.map_or_else(|| peer(pid).with_unverified_pid(), peer),
                former,
            ))
        }
        Ok(Request::Hello { version, .. }) => Err(End::Offence(format!(
            "version {version} of the protocol is not spoken here, only {}",
            frame::VERSION
        ))),
        Ok(_) => Err(End::Offence("the first frame is no hello".to_owned())),
        Err(error) => Err(End::Offence(format!("bad frame: {error}"))),
    }
}

#[cfg(test)]
mod tests {
    use lockkeeper_protocol::frame::Capabilities;

    use crate::{server::session::tests::hello, tests::raw::encoded};

    use super::*;

    #[test]
    fn a_process_id_is_the_clients_own_only_where_the_kernel_knows_none() {
        let frame = encoded(&hello(4711));
        for (known, told) in [(None, 4711), (Some(7), 7)] {
            let peer = welcome(&frame, known, Shard::ALONE, None);
            let (peer, _) = peer.expect("a hello");
            assert_eq!((peer.pid, peer.program.as_str()), (told, "test"));
            assert_eq!(peer.pid_is_unverified, known.is_none());
            let shown = peer.to_string().contains("by its own account");
            assert_eq!(shown, known.is_none(), "{peer}");
        }
    }

    #[test]
    fn a_client_of_an_earlier_release_is_served_unless_it_would_make_a_name_twice() {
        let second_of_two = Shard::new(1, 2).expect("it is one of them");
        let earlier = encoded(&Request::Hello {
            version: frame::VERSION,
            pid: 1,
            program: "test",
            label: "",
            capabilities: Capabilities::NONE,
            former: None,
        });
        assert!(welcome(&earlier, None, Shard::ALONE, None).is_ok());
        let Err(End::Offence(why)) = welcome(&earlier, None, second_of_two, None) else {
            panic!("it was served");
        };
        assert!(why.contains("2 shards"), "{why}");
        let lease = Some(Duration::from_secs(2));
        let Err(End::Offence(why)) = welcome(&earlier, None, Shard::ALONE, lease) else {
            panic!("it was served");
        };
        assert!(why.contains("leases"), "{why}");
        assert!(welcome(&encoded(&hello(1)), None, second_of_two, None).is_ok());
    }
}
