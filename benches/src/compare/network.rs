//! The parties over TCP on the loopback device: lockkeeper and a floor with TLS, and SyncManager with its own
//! authentication and without encryption.
//!
//! The floor has the form of that for Unix sockets: one round trip from a blocking client to an echo on tokio's
//! current-thread runtime, here with rustls in the settings of lockkeeper. Each message is as long as the frame of an
//! acquire or its answer, and is one record of TLS. A host writes its address to a file, where the workers read it.

use crate::contest::Side;
use crate::floor::{CHUNK, NOTHING};
use crate::ours::{self, CLIENTS};
use crate::party::{self, Failure, Orders};
use crate::peers::SYNC_MANAGER;
use lockkeeper::{Manager, net::make_key_file};
use rustls::client::Resumption;
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::server::NoServerSessionStorage;
use rustls::version::TLS13;
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection};
use std::fs;
use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::net::{self, Ipv4Addr};
use std::sync::Arc;
use tokio::net::{TcpListener, TcpStream};

// The roles of its parties, as the argument that starts each.
pub(crate) const MANAGER: &str = "tls-manager";
pub(crate) const CLIENT: &str = "tls-client";
pub(crate) const THREAD_CLIENT: &str = "tls-thread-client";
pub(crate) const ECHO: &str = "tls-floor-echo";
pub(crate) const ASKER: &str = "tls-floor-asker";

/// Clients that use the objects of one manager over TLS.
pub(crate) const TLS_CLIENTS: Side = Side {
    hosts: &[MANAGER],
    worker: CLIENT,
    ..CLIENTS
};

/// As `TLS_CLIENTS`, but from plain threads.
pub(crate) const TLS_THREADS: Side = Side {
    worker: THREAD_CLIENT,
    ..TLS_CLIENTS
};

pub(crate) const TLS_FLOOR: Side = Side {
    name: "TLS floor",
    hosts: &[ECHO],
    worker: ASKER,
    ..NOTHING
};

/// Clients that use the objects of one SyncManager over TCP, without TLS.
pub(crate) const SYNC_MANAGER_OVER_TCP: Side = Side {
    name: "SyncManager over TCP",
    hosts: &["tcp-host"],
    worker: "tcp-client",
    ..SYNC_MANAGER
};

/// The name in the floor's certificate.
const NAME: &str = "floor";

/// The lengths of the frames of an acquire and of its answer. The client sends a release of 12 bytes too, and does not
/// wait for an answer to it.
const QUESTION: usize = 13;
const ANSWER: usize = 24;

/// Runs a manager that listens on the loopback device, until the bench ends.
pub(crate) async fn host(place: &str) -> Result<(), Failure> {
    let key = key(place);
    make_key_file(&key)?;
    let builder = Manager::builder().key_file(key);
    let builder = builder.state_folder(format!("{place}.state"));
    let manager = builder.listen("tls://127.0.0.1:0").start().await?;
    let endpoint = manager.endpoints().first().ok_or("it has no endpoint")?;
    fs::write(place, endpoint.to_string())?;
    Orders::announce()?.end().await
}

/// Runs a client, which connects and then counts cycles in each window.
pub(crate) async fn client(place: &str, cycle: &str, workers: usize) -> Result<(), Failure> {
    let client = Manager::client().key_file(key(place));
    let manager = client.connect(fs::read_to_string(place)?).await?;
    ours::repeat(&manager, cycle, workers).await
}

fn key(place: &str) -> String {
    format!("{place}.key")
}

/// Answers the messages of each client, until the bench ends.
pub(crate) async fn echo(place: &str) -> Result<(), Failure> {
    let pair = rcgen::KeyPair::generate()?;
    let certificate = rcgen::CertificateParams::new([NAME.to_owned()])?.self_signed(&pair)?;
    let certificate = certificate.der().clone();
    fs::write(certificate_of(place), &certificate)?;
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(pair.serialize_der()));
    let mut settings = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&TLS13])?
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)?;
    settings.send_tls13_tickets = 0;
    settings.session_storage = Arc::new(NoServerSessionStorage {});
    let settings = Arc::new(settings);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    fs::write(place, listener.local_addr()?.to_string())?;
    let orders = Orders::announce()?;
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let settings = Arc::clone(&settings);
            tokio::spawn(async move {
                if let Err(failure) = answer(settings, &client).await {
                    eprintln!("compare: the echo over TLS: {failure}");
                }
            });
        }
    });
    orders.end().await
}

/// Sends an answer to each message of a client, until the client has closed its connection.
async fn answer(settings: Arc<ServerConfig>, client: &TcpStream) -> Result<(), Failure> {
    client.set_nodelay(true)?;
    let mut tls = ServerConnection::new(settings)?;
    let mut chunk = [0; CHUNK];
    let mut received = 0;
    loop {
        client.readable().await?;
        match tls.read_tls(&mut AtOnce(client)) {
            Ok(0) => return Ok(()),
            Ok(_) => {}
            Err(failure) if failure.kind() == ErrorKind::WouldBlock => continue,
            // A worker is killed at the end.
            Err(failure) if failure.kind() == ErrorKind::ConnectionReset => return Ok(()),
            Err(failure) => return Err(failure.into()),
        }
        tls.process_new_packets()?;
        loop {
            match tls.reader().read(&mut chunk) {
                Ok(0) => return Ok(()),
                Ok(length) => received += length,
                Err(failure) if failure.kind() == ErrorKind::WouldBlock => break,
                Err(failure) => return Err(failure.into()),
            }
        }
        while received >= QUESTION {
            received -= QUESTION;
            tls.writer().write_all(&[7; ANSWER])?;
        }
        while tls.wants_write() {
            match tls.write_tls(&mut AtOnce(client)) {
                Ok(_) => {}
                Err(failure) if failure.kind() == ErrorKind::WouldBlock => {
                    client.writable().await?;
                }
                Err(failure) => return Err(failure.into()),
            }
        }
    }
}

/// Reads and writes what it can without waiting.
struct AtOnce<'a>(&'a TcpStream);

impl Read for AtOnce<'_> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.0.try_read(bytes)
    }
}

impl Write for AtOnce<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn write_vectored(&mut self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.try_write_vectored(parts)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Counts round trips to the echo.
pub(crate) async fn ask(place: &str) -> Result<(), Failure> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(fs::read(certificate_of(place))?))?;
    let mut settings = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&TLS13])?
        .with_root_certificates(roots)
        .with_no_client_auth();
    settings.resumption = Resumption::disabled();
    let mut tls = ClientConnection::new(Arc::new(settings), ServerName::try_from(NAME)?)?;
    let mut tcp = net::TcpStream::connect(fs::read_to_string(place)?)?;
    tcp.set_nodelay(true)?;
    let mut stream = rustls::Stream::new(&mut tls, &mut tcp);
    party::repeat(async || {
        stream.write_all(&[7; QUESTION])?;
        stream.read_exact(&mut [0; ANSWER])?;
        Ok(1)
    })
    .await
}

fn certificate_of(place: &str) -> String {
    format!("{place}.certificate")
}
