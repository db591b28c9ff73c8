//! The thread of a pool: its manager, and the supervisor of its workers.

use std::thread::{self, JoinHandle};

use actix::{Actor, Addr, AsyncContext, Context};
use futures::stream;
use tokio::sync::{mpsc, oneshot};

use crate::{
    client::connection::Connection,
    error::{StartError, lack},
    pool::{
        deaths::Deaths,
        supervisor::{PoolSupervisor, Terminate},
    },
    server::{
        server::{Server, ServerRuntime},
        session::context::LeftClient,
    },
};

/// Starts the thread of a pool.
pub(super) async fn launch(
    server: Server,
    left: mpsc::UnboundedReceiver<LeftClient>,
    deaths: Deaths,
) -> Result<(Addr<PoolSupervisor>, (oneshot::Sender<()>, JoinHandle<()>)), StartError> {
    let (stop, stopped) = oneshot::channel();
    let (tell_supervisor, told_supervisor) = oneshot::channel();
    let runtime = ServerRuntime::new()?;
    let address = server.claim.address().clone();
    let live = move || {
        server.run(runtime, async move {
            let supervisor = PoolSupervisor::create(|context: &mut Context<PoolSupervisor>| {
                let next = |mut left: mpsc::UnboundedReceiver<LeftClient>| async {
                    Some((left.recv().await?, left))
                };
                context.add_stream(stream::unfold(left, next));
                PoolSupervisor::new(deaths)
            });
            // The pool waits for the supervisor.
            let _ = tell_supervisor.send(supervisor.clone());
            // When the pool is stopped or dropped, the workers end before the server does.
            let _ = stopped.await;
            let _ = supervisor.send(Terminate).await;
            Connection::expect_end(&address);
        });
    };
    let thread = thread::Builder::new()
        .name("lockkeeper-pool".to_owned())
        .spawn(live)
        .map_err(|error| StartError::System(lack(&error)))?;
    match told_supervisor.await {
        Ok(supervisor) => Ok((supervisor, (stop, thread))),
        Err(_) => Err(StartError::System(
            "the pool's thread ended at once".to_owned(),
        )),
    }
}
