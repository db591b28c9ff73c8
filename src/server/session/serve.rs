//! Serves one client from its first byte to its last: the hello, the session, and why it was ended.

use std::{
    future::{self, Future},
    pin::pin,
    rc::Rc,
    sync::Arc,
    task::Poll,
    time::Duration,
};

use lockkeeper_protocol::{
    SessionId,
    frame::{self, Inbox, Response},
};
use tokio::time;

use crate::{
    limits::Limits,
    server::session::{
        context::{Context, End},
        hello::hello,
        outgoing::Outgoing,
        session::Session,
        unread::UnreadBudget,
    },
    telemetry::session,
    transport::stream::{AttachedStream, Stream},
};

/// How long a client that is hung up has time to read why.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Serves one client until it ends or breaks a rule of the protocol.
pub(crate) async fn serve(stream: Arc<dyn Stream>, id: SessionId, context: Rc<Context>) {
    let attached: Rc<dyn AttachedStream> = match Arc::clone(&stream).attach() {
        Ok(attached) => attached.into(),
        Err(error) => {
            let reason = format!("the manager cannot wait for what it says: {error}");
            return refuse(&*stream, reason, context.limits);
        }
    };
    let mut inbox = Inbox::new(frame::FIRST_FRAME_BYTES);
    let budget = Arc::clone(&context.unread);
    let full_sinks = context.shell.full_sinks();
    let outgoing = Rc::new(Outgoing::new(id, context.limits, budget, full_sinks));
    // This task is dropped when the manager ends.
    let mut farewell = Farewell {
        outgoing: &outgoing,
        stream: &*stream,
        reason: Some("it was shut down, or its last handle was dropped".to_owned()),
    };
    let hello = time::timeout(
        context.limits.hello,
        hello(&*attached, &mut inbox, &context),
    );
    let end = match hello.await {
        Ok(Ok(peer)) => {
            inbox.allow(context.limits.frame_bytes);
            outgoing.put(&Response::Welcome {
                version: frame::VERSION,
                incarnation: context.shard_of.incarnation,
                session: id.number(),
                frame_bytes: context.limits.frame_bytes.try_into().unwrap_or(u64::MAX),
                asks_who_calls: context.seeks_deadlocks,
                shard: context.shard_of.shard,
            });
            let span = session::SessionSpan::begin(id, &peer);
            let stream = (Arc::clone(&stream), Rc::clone(&attached));
            let mut session = Session::new(id, peer, stream, Rc::clone(&outgoing), context);
            let end = session.run(&mut inbox).await;
            // What it holds is given back before it is told why.
            drop(session);
            span.end(end.offence());
            end
        }
        Ok(Err(end)) => end.before_hello(),
        Err(_) => End::Offence("no hello came in time".to_owned()).before_hello(),
    };
    farewell.reason = None;
    if let End::Offence(reason) = end {
        outgoing.drop_later();
        outgoing.put(&Response::Bye { reason });
        say_last_words(&outgoing, &*attached).await;
    }
}

/// Writes what is left to be said to a client, while it reads and no other session waits for the room.
async fn say_last_words(outgoing: &Outgoing, stream: &dyn AttachedStream) {
    let mut time_is_up = pin!(time::sleep(LAST_WORDS));
    future::poll_fn(|task| {
        if outgoing.poll_flush(task, stream).is_ready()
            || outgoing.keeps_others_waiting()
            || time_is_up.as_mut().poll(task).is_ready()
        {
            return Poll::Ready(());
        }
        Poll::Pending
    })
    .await;
}

/// Sends a client the reason for which its session ends, if the client still reads.
struct Farewell<'a> {
    outgoing: &'a Outgoing,
    stream: &'a dyn Stream,
    reason: Option<String>,
}

impl Drop for Farewell<'_> {
    fn drop(&mut self) {
        if let Some(reason) = self.reason.take() {
            self.outgoing.put(&Response::Bye { reason });
            self.outgoing.flush_once(self.stream);
        }
    }
}

/// Tells a client that it is refused.
pub(crate) fn refuse(stream: &dyn Stream, reason: String, limits: Limits) {
    session::client_refused(&reason);
    let no_session = SessionId::new(0);
    let budget = Arc::new(UnreadBudget::new(0));
    drop(Farewell {
        outgoing: &Outgoing::new(no_session, limits, budget, Rc::default()),
        stream,
        reason: Some(reason),
    });
}
