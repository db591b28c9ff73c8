//! Serves one client from its hello to the end of its session, and sends it the reason for the end.

use std::{rc::Rc, sync::Arc};

use lockkeeper_protocol::frame::{self, Capabilities, Capability, Inbox, Response};
use tokio::time;

use crate::{
    server::session::{
        admitted::Admitted,
        buffer_budget::Party,
        context::{Context, End, LeftClient},
        farewell::{Farewell, refuse, send_bye},
        hello::hello,
        incoming::Incoming,
        lease::Lease,
        outgoing::Outgoing,
        peer_watch::PeerWatch,
        session::Session,
    },
    telemetry::session,
    transport::stream::{AttachedStream, Stream},
};

/// Serves one client until it ends or breaks a rule of the protocol.
pub(crate) async fn serve(
    stream: Arc<dyn Stream>,
    client: Box<Admitted>,
    lease: Option<Box<Lease>>,
    context: Rc<Context>,
) {
    let attached: Rc<dyn AttachedStream> = match Arc::clone(&stream).attach() {
        Ok(attached) => attached.into(),
        Err(error) => {
            let reason = format!("the manager cannot wait for what it says: {error}");
            return refuse(&*stream, reason, context.limits);
        }
    };
    let id = client.id;
    let mut inbox = Inbox::new(frame::FIRST_FRAME_BYTES);
    let pid = stream.peer_pid();
    let party = Party::of(client.principal.key(), pid, &*stream);
    let sharing = context.clients.enter(party.clone());
    let incoming = Incoming::new(context.arriving.account(party.clone()));
    let unread = context.unread.account(party);
    let shared = (context.in_mailboxes.part(), context.shell.full_sinks());
    let outgoing = Outgoing::new(client, context.limits, unread, shared, sharing);
    let outgoing = Rc::new(outgoing);
    // When the manager ends, it drops this task, and the farewell is sent.
    let mut farewell = Farewell {
        outgoing: &outgoing,
        stream: &*stream,
        reason: None,
        manager: Some(Rc::clone(&context)),
    };
    // The hello is boxed, so that its future takes no room in each session later.
    let length = lease.as_deref().map(Lease::length);
    let hello = Box::pin(time::timeout(
        context.limits.handshake_time,
        hello(pid, &*attached, &mut inbox, incoming, length, &context),
    ));
    let end = 'served: {
        // Each session would also have room for the result, if the session were served in an arm of this match.
        let (peer, incoming) = match hello.await {
            Ok(Ok(greeted)) => greeted,
            Ok(Err(end)) => break 'served end.before_hello(),
            Err(_) => {
                break 'served End::Offence("no hello came in time".to_owned()).before_hello();
            }
        };
        // A former session of the client has ended.
        if let Err(reason) = outgoing.client.begin() {
            break 'served End::Offence(reason).before_hello();
        }
        let watch = PeerWatch::begin(id, pid, &*stream, &outgoing, &context.watches);
        let peer = Arc::new(watch.note(peer.at_host(stream.peer_host())));
        inbox.allow(context.limits.frame_bytes);
        outgoing.put(&Response::Welcome {
            version: frame::VERSION,
            incarnation: context.shard_of.incarnation,
            session: id.number(),
            secret: context.secret.of_session(id),
            frame_bytes: context.limits.frame_bytes.try_into().unwrap_or(u64::MAX),
            capabilities: if context.seeks_deadlocks {
                Capabilities::ALL
            } else {
                Capabilities::ALL.without(Capability::Callers)
            },
            shard: context.shard_of.shard,
            endpoints: context
                .endpoints
                .iter()
                .map(|it| it.clone().into())
                .collect(),
            lease_millis: lease
                .as_deref()
                .map(|lease| lease.length().as_millis().try_into().unwrap_or(u64::MAX)),
        });
        let span = session::SessionSpan::begin(id, &peer, &outgoing.client.principal);
        let left = context.left.clone().map(|left| (left, peer.pid));
        let both = (Arc::clone(&stream), Rc::clone(&attached));
        let buffers = (Rc::clone(&outgoing), incoming);
        let mut session = Session::new(id, peer, both, buffers, lease, context);
        let end = session.run(&mut inbox).await;
        if end.offence().is_some() {
            // Answers that are not encoded get no room any more, and must not keep others from theirs.
            outgoing.drop_later();
        }
        let outlasts = session.outlasts(&end);
        // Most sessions end with their connection, so this future takes no room in each session either.
        if !outlasts || Box::pin(session.outlast(&end, &mut inbox)).await {
            session.end_lease();
        }
        if let Some((left, pid)) = left {
            // The process may live, and begin further tasks. They must not go to another worker before it has
            // ended, and what it reports until then counts.
            let (client, dropped) = LeftClient::new(pid);
            // The receiver may be gone if the pool is about to end.
            let _ = left.send(client);
            dropped.await;
        }
        // The session's holds are released before the client learns the reason.
        drop(session);
        span.end(end.offence());
        match end {
            // The client was told before.
            End::Offence(_) if outlasts => End::Left,
            end => end,
        }
    };
    farewell.manager = None;
    if let End::Offence(reason) | End::Lapsed(reason) = end {
        outgoing.drop_later();
        Box::pin(send_bye(&outgoing, &*attached, reason)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The most bytes of the future of a session, which each idle connection takes.
    const MOST_BYTES: usize = 920;

    fn bytes_of<A, B, C, D, F>(_: impl FnOnce(A, B, C, D) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn future_of_a_session_has_no_room_for_the_hello_and_for_rare_requests() {
        let bytes = bytes_of(serve);
        assert!(bytes <= MOST_BYTES, "{bytes} bytes");
    }
}
