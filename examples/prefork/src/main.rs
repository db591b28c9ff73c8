//! Serves orders until Ctrl-C, or until a service manager sends SIGTERM, and then ends its requests.
//!
//!     cargo run --release --manifest-path examples/prefork/Cargo.toml            # at 127.0.0.1:8080
//!     curl -X POST http://127.0.0.1:8080/orders/ann
//!     kill -KILL ..                                                              # any of the processes that it prints
//!
//! Its test kills the processes under load:
//!
//!     cargo test --release --manifest-path examples/prefork/Cargo.toml -- --nocapture
//!     LOCKKEEPER_PREFORK_SECONDS=60 cargo test --release --manifest-path examples/prefork/Cargo.toml -- --nocapture

use std::{env, error::Error, net::TcpListener, time::Duration};

use prefork::{Bank, Service, program};
use tokio::signal::unix::{SignalKind, signal};

/// The charges that the bank permits at a time, and the processes of the service.
const CHARGES: u32 = 4;
const PROCESSES: usize = 3;

/// How long requests have to end.
const LIMIT: Duration = Duration::from_secs(10);

fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    program().run(async {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let address = env::args().nth(1);
        let listener = TcpListener::bind(address.as_deref().unwrap_or("127.0.0.1:8080"))?;
        let address = listener.local_addr()?;
        let bank = Bank::open().await?;
        let service = Service::start(listener, bank.address(), CHARGES, PROCESSES).await?;
        println!("http://{address}, by the processes {:?}", service.pids());
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        service.end(LIMIT).await;
        let books = bank.books();
        println!("{} charges, at most {} at a time", books.begun, books.most);
        Ok(())
    })
}
