//! A complete custom transport in this file: TCP over the loopback device.
//!
//! It has neither authentication nor encryption, so every client that reaches the port is trusted. This
//! is why lockkeeper has no such transport. An address is `tcp:HOST:PORT`, and shard k uses port PORT +
//! k. Clients that come by the address 127.0.0.2 are guests with fewer rights.

use std::{
    cell::Cell,
    io::{self, Read, Write},
    net::{
        IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpListener as StdListener, TcpStream as StdStream,
        ToSocketAddrs,
    },
    sync::Arc,
    task::{Context, Poll, ready},
    thread,
    time::Duration,
};

use futures::StreamExt;
use lockkeeper::{
    Address, CallError, Lock, Manager, Pool, StartError, Task, block_on,
    builders::{PeerRights, Program},
    errors::Fault,
    transport::{Acceptor, AttachedStream, Listener, Stream, Transport},
};
use lockkeeper_test_support::{Role, Roles, report, until};
use rand::Rng;
use serde::{Deserialize, Serialize};
use tokio::{
    net::{TcpListener, TcpStream},
    runtime::Builder,
};

use crate::run;

/// The address of this machine by which guests come.
const GUESTS: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));

/// Streams over TCP.
#[derive(Debug)]
pub(crate) struct Tcp {
    /// Whether sessions have leases. Those of this file have none: its clients are on this machine.
    pub(crate) is_network: bool,
}

const TCP: Tcp = Tcp { is_network: false };

impl Transport for Tcp {
    fn connect(&self, place: &str, patience: Duration) -> io::Result<Arc<dyn Stream>> {
        let stream = StdStream::connect_timeout(&socket_address(place)?, patience)?;
        Ok(Arc::new(Socket::new(stream)?))
    }

    fn listen(&self, place: &str) -> io::Result<Box<dyn Listener>> {
        let listener = StdListener::bind(socket_address(place)?)?;
        listener.set_nonblocking(true)?;
        Ok(Box::new(Bound(listener)))
    }

    fn is_network(&self) -> bool {
        self.is_network
    }
}

/// Returns the address of a place `HOST:PORT`, or `HOST:PORT.k` for a shard.
fn socket_address(place: &str) -> io::Result<SocketAddr> {
    let invalid = || io::Error::new(io::ErrorKind::InvalidInput, "it is not HOST:PORT");
    let (place, port) = place.rsplit_once(':').ok_or_else(invalid)?;
    let (port, shard) = port.split_once('.').unwrap_or((port, "0"));
    let number = |text: &str| text.parse::<u16>().map_err(|_| invalid());
    let port = number(port)?
        .checked_add(number(shard)?)
        .ok_or_else(invalid)?;
    (place, port).to_socket_addrs()?.next().ok_or_else(invalid)
}

thread_local! {
    /// Whether this thread fails to attach a stream to any runtime.
    static FAILS_TO_ATTACH: Cell<bool> = const { Cell::new(false) };
}

/// A connected nonblocking socket.
#[derive(Debug)]
struct Socket(StdStream);

impl Socket {
    fn new(stream: StdStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        Ok(Self(stream))
    }
}

impl Stream for Socket {
    fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        (&self.0).read(buffer)
    }

    fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        (&self.0).write(bytes)
    }

    fn shutdown(&self) {
        // This fails only when the stream has already ended.
        let _ = self.0.shutdown(Shutdown::Both);
    }

    fn attach(self: Arc<Self>) -> io::Result<Box<dyn AttachedStream>> {
        if FAILS_TO_ATTACH.get() {
            return Err(io::ErrorKind::Other.into());
        }
        // A runtime can register a descriptor only once, so each attachment duplicates it.
        let socket = TcpStream::from_std(self.0.try_clone()?)?;
        Ok(Box::new(AttachedSocket(socket)))
    }

    fn is_trusted(&self) -> bool {
        true
    }

    fn peer_rights(&self) -> Option<PeerRights> {
        let own = self.0.local_addr().ok()?;
        let guest = || PeerRights::new("guest").without_administration();
        (own.ip() == GUESTS).then(|| guest().with_prefix("guest/"))
    }
}

/// A socket that is attached to one runtime.
#[derive(Debug)]
struct AttachedSocket(TcpStream);

impl AttachedStream for AttachedSocket {
    fn poll_read(&self, task: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        loop {
            // This runtime has ended, and another one reads.
            if ready!(self.0.poll_read_ready(task)).is_err() {
                return Poll::Pending;
            }
            match self.0.try_read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                read => return Poll::Ready(read),
            }
        }
    }

    fn poll_write(&self, task: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.0.poll_write_ready(task))?;
            match self.0.try_write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                written => return Poll::Ready(written),
            }
        }
    }
}

/// A bound port.
#[derive(Debug)]
struct Bound(StdListener);

impl Listener for Bound {
    fn attach(self: Box<Self>) -> io::Result<Box<dyn Acceptor>> {
        Ok(Box::new(Accepting(TcpListener::from_std(self.0)?)))
    }
}

/// A bound port that is attached to a runtime.
#[derive(Debug)]
struct Accepting(TcpListener);

impl Acceptor for Accepting {
    fn poll_accept(&self, task: &mut Context<'_>) -> Poll<io::Result<Arc<dyn Stream>>> {
        let (stream, _) = ready!(self.0.poll_accept(task))?;
        Poll::Ready(Ok(Arc::new(Socket::new(stream.into_std()?)?)))
    }
}

pub(crate) fn register(program: Program) -> Program {
    program.transport("tcp", TCP).task::<Hold>()
}

pub(crate) fn roles(roles: &mut Roles) {
    roles.add("own_transport::holder", async |lock: Lock| {
        let _guard = lock.acquire().await.unwrap();
        report("held");
        std::future::pending::<()>().await;
    });
}

/// Acquires and releases a lock in a worker process.
#[derive(Debug, Serialize, Deserialize)]
struct Hold(Lock);

impl Task for Hold {
    const NAME: &'static str = "own_transport::hold";
    type Output = Result<u64, CallError>;

    async fn run(self) -> Self::Output {
        let guard = self.0.acquire().await?;
        let fence = guard.fence().number();
        guard.release().await?;
        Ok(fence)
    }
}

fn free_address(ports: u16) -> Address {
    Address::try_from(format!("tcp:127.0.0.1:{}", free_ports(ports))).unwrap()
}

/// Returns the first of that many free ports, below those that the system assigns.
pub(crate) fn free_ports(ports: u16) -> u16 {
    loop {
        let port = rand::rng().random_range(10_000..30_000);
        let is_free = |port| StdListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok();
        if (port..port + ports).all(is_free) {
            return port;
        }
    }
}

#[test]
fn address_in_a_string_names_the_transport() {
    let address = Address::try_from("tcp:127.0.0.1:4000").unwrap();
    assert_eq!(address.to_string(), "tcp:127.0.0.1:4000");
    assert_eq!(address.path(), None);
}

#[test]
fn manager_serves_its_process_over_it() {
    run(async {
        let address = free_address(1);
        let manager = Manager::builder().address(address.clone());
        let manager = manager.start().await.unwrap();
        assert_eq!(manager.address(), &address);
        let lock = manager.named("jobs").lock().await.unwrap();
        let guard = lock.acquire().await.unwrap();
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let address = address.clone();
                thread::spawn(move || {
                    let manager = block_on(Manager::connect(address))?;
                    let lock = block_on(manager.named("jobs").lock())?;
                    lock.acquire().blocking().map(drop)
                })
            })
            .collect();
        until("all wait", async || {
            lock.status().await.unwrap().waiting == 4
        })
        .await;
        guard.release().await.unwrap();
        for thread in threads {
            let joined = tokio::task::spawn_blocking(|| thread.join());
            joined.await.unwrap().unwrap().unwrap();
        }
        // Larger than a socket's buffer.
        let value = manager.value(vec![7_u8; 8 << 20]).await.unwrap();
        assert_eq!(value.get().await.unwrap().len(), 8 << 20);
        let waiting = tokio::spawn({
            let lock = lock.clone();
            let guard = lock.acquire().await.unwrap();
            async move {
                let _guard = guard;
                lock.acquire().await.map(drop)
            }
        });
        until("the call waits", async || {
            lock.status().await.unwrap().waiting == 1
        })
        .await;
        manager.shutdown().await;
        let shown = waiting.await.unwrap().unwrap_err();
        assert!(matches!(shown, CallError::Disconnected { .. }), "{shown:?}");
        let gone = Manager::connect(address).await.map(drop);
        assert!(matches!(gone, Err(CallError::NoManager { .. })), "{gone:?}");
    });
}

#[test]
fn clients_have_the_rights_that_their_stream_reports() {
    run(async {
        let port = free_ports(1);
        let [all, near, guests] =
            ["0.0.0.0", "127.0.0.1", "127.0.0.2"].map(|host| format!("tcp:{host}:{port}"));
        let _manager = Manager::builder().address(all).start().await.unwrap();
        let near = Manager::connect(near).await.unwrap();
        let guest = Manager::connect(guests).await.unwrap();
        near.named("jobs").lock().await.unwrap();
        guest.named("guest/jobs").lock().await.unwrap();
        for refused in [
            guest.named("jobs").lock().await.map(drop),
            guest.inspect().await.map(drop),
        ] {
            assert!(
                matches!(refused, Err(CallError::Fault(Fault::NotAllowed(_)))),
                "{refused:?}"
            );
        }
        assert_eq!(near.inspect().await.unwrap().objects.len(), 2);
    });
}

#[test]
fn permits_whose_release_cannot_be_sent_are_released_by_their_drop() {
    run(async {
        let manager = Manager::builder().address(free_address(1));
        let manager = manager.start().await.unwrap();
        let permits = manager.semaphore(2).await.unwrap();
        let both = permits.acquire_many(2).await.unwrap();
        let release = move || {
            FAILS_TO_ATTACH.set(true);
            let runtime = Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(both.release())
        };
        let failed = thread::spawn(release).join().unwrap();
        assert!(
            matches!(failed, Err(CallError::Disconnected { .. })),
            "{failed:?}"
        );
        assert_eq!(permits.status().await.unwrap().available, 2);
    });
}

#[test]
fn spawned_manager_serves_the_workers_of_a_pool_over_it() {
    run(async {
        let manager = Manager::builder().address(free_address(1));
        let manager = manager.spawn().await.unwrap();
        let lock = manager.lock().await.unwrap();
        let pool = Pool::new(2).await.unwrap();
        let holds = (0..20).map(|_| Hold(lock.clone()));
        let mut fences: Vec<_> = pool
            .imap(holds)
            .map(|fence| fence.unwrap().unwrap())
            .collect()
            .await;
        fences.sort_unstable();
        fences.dedup();
        assert_eq!(fences.len(), 20, "each task has held the lock exclusively");
    });
}

#[test]
fn killed_client_frees_its_lock() {
    run(async {
        let manager = Manager::builder().address(free_address(1));
        let manager = manager.start().await.unwrap();
        let lock = manager.lock().await.unwrap();
        let mut holder = Role::start("own_transport::holder", &lock);
        assert_eq!(holder.next_report(), "held");
        assert!(lock.try_acquire().await.unwrap().is_none());
        holder.kill();
        let guard = lock.acquire().await.unwrap();
        let abandoned = guard.abandoned().expect("the holder has died");
        assert_eq!(abandoned.holder.pid, holder.pid());
    });
}

#[test]
fn shards_have_their_own_ports() {
    run(async {
        let address = free_address(3);
        let manager = Manager::builder().address(address.clone()).shards(3);
        let _manager = manager.start().await.unwrap();
        let client = Manager::connect(address).await.unwrap();
        let mut shards = std::collections::BTreeSet::new();
        for number in 0..20 {
            let name = number.to_string();
            let lock = client.named(&name).lock().await.unwrap();
            drop(lock.acquire().await.unwrap());
            shards.insert(lock.token().address.to_string());
        }
        assert_eq!(shards.len(), 3);
    });
}

#[test]
fn address_that_is_in_use_or_invalid_is_refused() {
    run(async {
        let taken = StdListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = Address::try_from(format!("tcp:{}", taken.local_addr().unwrap())).unwrap();
        let refused = Manager::builder().address(address.clone()).start().await;
        let refused = refused.map(drop);
        assert_eq!(refused, Err(StartError::AddressInUse { address }));
        for start in ["tcp:", "tcp:127.0.0.1", "tcp:127.0.0.1:port"] {
            let refused = Manager::builder().address(start).start().await.map(drop);
            let shown = refused.unwrap_err().to_string();
            assert!(shown.contains("it is not HOST:PORT"), "{shown}");
            let refused = Manager::connect(start).await.map(drop);
            assert!(matches!(refused, Err(CallError::NoManager { .. })));
        }
    });
}

#[test]
fn invalid_or_built_in_scheme_is_refused() {
    for scheme in ["", "t", "TCP", "tcp2", "tcp:", "unix", "memory", "tls"] {
        let add = || lockkeeper::program().transport(scheme, TCP);
        std::panic::catch_unwind(add).expect_err(scheme);
    }
    let twice = || {
        let program = lockkeeper::program();
        program.transport("tcp", TCP).transport("tcp", TCP)
    };
    std::panic::catch_unwind(twice).expect_err("the second registration panics");
}
