//! A process of the service: an actix-web server on the socket of the main program.

use std::{io, net::SocketAddr, path::PathBuf};

use actix_web::{
    App, HttpResponse, HttpServer,
    web::{Data, Path, post},
};
use lockkeeper::{CallError, KeyedLock, Semaphore, Task, task::stopping};
use serde::{Deserialize, Serialize};

use crate::{bank::charge, listener::take};

/// Seconds that requests have to end once the process is asked to.
const SHUTDOWN_SECONDS: u64 = 5;

/// Serves orders until the main program asks the process to end.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Serve {
    pub(crate) listener: PathBuf,
    pub(crate) orders: Orders,
}

/// What the handler of an order needs. The proxies lead to the main program's manager.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Orders {
    pub(crate) bank: SocketAddr,
    /// The charges that the bank permits at a time.
    pub(crate) charges: Semaphore,
    /// One order of a customer at a time.
    pub(crate) customers: KeyedLock,
}

impl Task for Serve {
    const NAME: &'static str = "serve";
    type Output = Result<(), String>;

    async fn run(self) -> Self::Output {
        let stopping = stopping();
        self.serve(stopping)
            .await
            .map_err(|error| error.to_string())
    }
}

impl Serve {
    async fn serve(self, stopping: impl Future<Output = ()>) -> io::Result<()> {
        let listener = take(&self.listener)?;
        let orders = Data::new(self.orders);
        let app = move || {
            let order = post().to(order);
            App::new()
                .app_data(orders.clone())
                .route("/orders/{customer}", order)
        };
        // The main program handles signals for all of its processes.
        let server = HttpServer::new(app)
            .workers(1)
            .disable_signals()
            .shutdown_timeout(SHUTDOWN_SECONDS)
            .listen(listener)?
            .run();
        let handle = server.handle();
        let mut server = std::pin::pin!(server);
        tokio::select! {
            ended = &mut server => return ended,
            () = stopping => {}
        }
        // The server accepts no more connections, and ends the requests that it has.
        let (ended, ()) = tokio::join!(server, handle.stop(true));
        ended
    }
}

/// Makes a charge for a customer.
async fn order(customer: Path<String>, orders: Data<Orders>) -> HttpResponse {
    match orders.make(&customer).await {
        Ok(text) => HttpResponse::Ok().body(text),
        Err(error) => HttpResponse::ServiceUnavailable().body(error),
    }
}

impl Orders {
    async fn make(&self, customer: &str) -> Result<String, String> {
        let call = |error: CallError| error.to_string();
        let mut turn = self.customers.acquire(customer).await.map_err(call)?;
        // The process that made the last order of this customer was killed. A real service would look at the books.
        let dead = turn.abandoned().map(|abandoned| abandoned.holder.pid);
        turn.mark_consistent();
        let permit = self.charges.acquire().await.map_err(call)?;
        let charged = charge(self.bank, customer).await;
        drop((permit, turn));
        charged.map_err(|error| format!("the bank: {error}"))?;
        Ok(match dead {
            Some(pid) => format!("charged, after process {pid} has died\n"),
            None => "charged\n".to_owned(),
        })
    }
}
