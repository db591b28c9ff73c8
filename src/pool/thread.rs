//! The thread of a pool: its manager, and the crew that supervises its workers.

use std::thread::{self, JoinHandle};

use actix::{Actor, Addr, AsyncContext, Context};
use futures::stream;
use tokio::sync::{mpsc, oneshot};

use crate::{
    error::{StartError, lack},
    pool::{
        crew::{Crew, Terminate},
        deaths::Deaths,
    },
    server::server::{Server, ServerRuntime},
};

/// Starts the thread of a pool.
pub(super) async fn launch(
    server: Server,
    ended: mpsc::UnboundedReceiver<u32>,
    deaths: Deaths,
) -> Result<(Addr<Crew>, (oneshot::Sender<()>, JoinHandle<()>)), StartError> {
    let (stop, stopped) = oneshot::channel();
    let (tell_crew, told_crew) = oneshot::channel();
    let runtime = ServerRuntime::new()?;
    let live = move || {
        server.run(runtime, async {
            let crew = Crew::create(|context: &mut Context<Crew>| {
                let next = |mut ended: mpsc::UnboundedReceiver<u32>| async {
                    Some((ended.recv().await?, ended))
                };
                context.add_stream(stream::unfold(ended, next));
                Crew::new(deaths)
            });
            // The pool waits for the crew.
            let _ = tell_crew.send(crew.clone());
            // When the pool is stopped or dropped, the workers end before the server does.
            let _ = stopped.await;
            let _ = crew.send(Terminate).await;
        });
    };
    let thread = thread::Builder::new()
        .name("lockkeeper-pool".to_owned())
        .spawn(live)
        .map_err(|error| StartError::System(lack(&error)))?;
    match told_crew.await {
        Ok(crew) => Ok((crew, (stop, thread))),
        Err(_) => Err(StartError::System(
            "the pool's thread ended at once".to_owned(),
        )),
    }
}
