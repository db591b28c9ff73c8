//! Tests with a peer that breaks the rules: it speaks TLS itself.

use std::{
    fs,
    io::{self, Read, Write},
    net::{TcpListener, TcpStream},
    sync::{Arc, mpsc},
    thread,
    time::{Duration, Instant},
};

use lockkeeper_protocol::frame::{self, Capabilities, Encode, Request, Response};
use rustix::net::sockopt;
use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
    server::ServerConnection,
    version::TLS13,
};
use tempfile::TempDir;

use crate::{
    certificate_files::CertificateFiles,
    keys::{self, KeyRing, make_key_file},
    network_place::NetworkPlace,
    transport::{
        stream::Stream,
        tls::{
            accept::{Authenticated, TlsEndpoint},
            connect::{Tls, connect},
            credentials::Credentials,
            identities::Identities,
            identity::{Identity, begin_client},
            sent::KeptBudget,
            socket::Deadline,
        },
        transport::Transport,
    },
};

const PATIENCE: Duration = Duration::from_secs(5);

/// A key file that clients of some ports have.
struct Key {
    folder: TempDir,
}

impl Key {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        make_key_file(folder.path().join("key")).unwrap();
        Self { folder }
    }

    fn ring(&self) -> KeyRing {
        KeyRing::open(&self.folder.path().join("key")).unwrap()
    }

    /// Connects to a port of this machine with this key.
    fn connect(&self, port: u16) -> io::Result<Arc<dyn Stream>> {
        Tls::to(self.place(port)).connect("", PATIENCE)
    }

    /// A port of this machine, which clients reach with this key.
    fn place(&self, port: u16) -> NetworkPlace {
        let place = NetworkPlace::parse(&format!("//127.0.0.1:{port}")).unwrap();
        keys::choose(place.endpoint(), self.folder.path().join("key"));
        place
    }
}

fn identity() -> Identity {
    Identity::of(&Identity::make().unwrap()).unwrap()
}

fn identities(made: Identity) -> Identities {
    Identities::open(made, CertificateFiles::default()).unwrap()
}

type Outcome = Result<Authenticated, String>;

/// A manager of two shards that accepts one client, and what it made of it.
fn manager(key: &Key) -> (u16, mpsc::Receiver<Outcome>) {
    let place = NetworkPlace::parse("//127.0.0.1:0").unwrap();
    let endpoint = TlsEndpoint::bind(&place, &identities(identity())).unwrap();
    let port = endpoint.address().network().unwrap().port;
    let ring = key.ring();
    let (sender, outcome) = mpsc::channel();
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = { runtime }.enable_all().build().unwrap();
        runtime.block_on(async {
            let caller = endpoint.attach().unwrap().accept().await.unwrap();
            let authenticate = tokio::time::timeout(PATIENCE, caller.authenticate(&ring, 2));
            let _ = sender.send(authenticate.await.unwrap());
        });
    });
    (port, outcome)
}

/// TLS by blocking calls.
struct Peer {
    connection: rustls::Connection,
    socket: TcpStream,
}

impl Peer {
    fn new(connection: rustls::Connection, socket: TcpStream) -> Self {
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { connection, socket }
    }

    fn client(port: u16) -> Self {
        let socket = TcpStream::connect(("127.0.0.1", port)).unwrap();
        Self::new(
            begin_client("localhost", None, Credentials::default()).unwrap(),
            socket,
        )
    }

    /// Reads a frame, with its length.
    fn frame(&mut self) -> io::Result<Vec<u8>> {
        let mut frame = vec![0; 4];
        self.read_exact(&mut frame)?;
        let length = u32::from_be_bytes(frame.as_slice().try_into().unwrap());
        frame.resize(4 + length as usize, 0);
        self.read_exact(&mut frame[4..])?;
        Ok(frame)
    }

    fn send(&mut self, frame: &[u8]) -> io::Result<()> {
        self.write_all(frame)?;
        self.flush()
    }

    /// Reads all until the end, whether it is said or not.
    fn rest(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        let _ = self.read_to_end(&mut rest);
        rest
    }

    /// Reads the reason of a refusal.
    fn bye(&mut self) -> String {
        let frame = self.frame().expect("a refusal");
        match Response::decode(&frame[4..]) {
            Ok(Response::Bye { reason }) => reason,
            other => panic!("{other:?}"),
        }
    }
}

impl Read for Peer {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.connection.reader().read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.connection.complete_io(&mut self.socket)?;
                }
                read => return read,
            }
        }
    }
}

impl Write for Peer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.connection.is_handshaking() {
            self.connection.complete_io(&mut self.socket)?;
        }
        self.connection.writer().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        while self.connection.wants_write() {
            self.connection.write_tls(&mut self.socket)?;
        }
        Ok(())
    }
}

/// A server of one client at a port of its own.
fn serve<T: Send + 'static>(
    connection: rustls::Connection,
    serve: impl FnOnce(Peer) -> T + Send + 'static,
) -> (u16, thread::JoinHandle<T>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let served = thread::spawn(move || {
        let (socket, _) = listener.accept().unwrap();
        serve(Peer::new(connection, socket))
    });
    (port, served)
}

fn framed(message: &impl Encode) -> Vec<u8> {
    let mut bytes = Vec::new();
    frame::append(&mut bytes, message, 1 << 20).unwrap();
    bytes
}

/// A frame of a message with 32 bytes.
fn short(number: u8, bytes: [u8; 32]) -> Vec<u8> {
    [&[0, 0, 0, 36, 0x92, number, 0xc4, 32], bytes.as_slice()].concat()
}

fn words_of(refused: io::Result<Arc<dyn Stream>>) -> String {
    refused.map(drop).unwrap_err().to_string()
}

#[test]
fn both_sides_with_one_key_reach_each_other() {
    let key = Key::new();
    let (port, outcome) = manager(&key);
    let client = key.connect(port).unwrap();
    let manager = outcome.recv_timeout(PATIENCE).unwrap().unwrap();
    assert_eq!(manager.shard, 0);
    let manager: Arc<dyn Stream> = manager.begin(false, KeptBudget::new(1 << 20));
    for stream in [&client, &manager] {
        assert!(stream.is_trusted());
        assert_eq!(stream.peer_host().as_deref(), Some("127.0.0.1"));
        assert!(stream.peer_pid().is_none() && stream.peer_user().is_none());
    }
}

#[test]
fn shard_that_does_not_exist_is_told_to_a_client_that_has_proved_its_key() {
    let key = Key::new();
    let (port, _outcome) = manager(&key);
    let mut place = key.place(port);
    place.shard = 2;
    let refused = words_of(Tls::to(place).connect("", PATIENCE));
    assert!(refused.contains("no shard 2, only 2"), "{refused}");
}

#[test]
fn man_in_the_middle_with_a_certificate_of_his_own_fails() {
    // How many messages he passes on before he answers with something of his own.
    for passed in [4, 3, 1] {
        let key = Key::new();
        let (real, outcome) = manager(&key);
        let (port, middle) = serve(identity().begin().unwrap(), move |mut client| {
            let mut manager = Peer::client(real);
            for number in 0..passed {
                let (from, to) = match number % 2 {
                    0 => (&mut client, &mut manager),
                    _ => (&mut manager, &mut client),
                };
                let frame = from.frame()?;
                to.send(&frame)?;
            }
            if passed == 1 {
                client.send(&short(72, [7; 32]))?;
                client.frame()?;
            }
            client.send(&short(73, [7; 32]))?;
            io::Result::Ok(client.rest())
        });
        let refused = words_of(key.connect(port));
        let is_told = refused.contains("a third party intercepts the connection");
        assert!(is_told, "{passed}: {refused}");
        if passed == 4 {
            let refused = outcome
                .recv_timeout(PATIENCE)
                .unwrap()
                .map(drop)
                .unwrap_err();
            assert!(
                refused.contains("a third party intercepts the connection"),
                "{refused}"
            );
        }
        // He has seen nothing of a session.
        let seen = middle.join().unwrap().unwrap_or_default();
        assert!(seen.is_empty(), "{seen:?}");
    }
}

#[test]
fn manager_without_the_key_gets_nothing_from_a_client() {
    for number in 0..5 {
        let key = Key::new();
        let (port, impostor) = serve(identity().begin().unwrap(), move |mut client| {
            client.frame()?;
            let welcome = framed(&Response::Opened {
                seq: 1,
                object: 0,
                name: String::new(),
                operations: Vec::new(),
            });
            match number {
                // It begins the session at once, in place of a challenge.
                0 => client.send(&welcome)?,
                number => {
                    client.send(&short(72, [7; 32]))?;
                    let mut auth = client.frame()?;
                    match number {
                        1 => client.send(&short(73, [0; 32]))?,
                        2 => {
                            // The client's own proof.
                            auth[5] = 73;
                            client.send(&auth)?;
                        }
                        3 => client.send(&welcome)?,
                        _ => client.send(&[0, 0, 16, 1])?,
                    }
                }
            }
            io::Result::Ok(client.rest())
        });
        let refused = words_of(key.connect(port));
        let why = match number {
            1 | 2 => "it does not have the key",
            0 | 3 => "broke the protocol of the handshake",
            _ => "above the limit of 4096",
        };
        assert!(refused.contains(why), "{number}: {refused}");
        let seen = impostor.join().unwrap().unwrap();
        assert!(seen.is_empty(), "{number}: {seen:?}");
    }
}

#[test]
fn client_that_proves_nothing_is_told_why() {
    let hello = framed(&Request::Hello {
        version: frame::VERSION,
        pid: 1,
        program: "test",
        label: "",
        capabilities: Capabilities::ALL,
        former: None,
    });
    let begin = |version: u8, shard: u8| {
        let nonce = [7; 32].as_slice();
        let message = [
            &[0x96, 10, version, 0xa1, b'k', 0xc4, 32],
            nonce,
            &[shard, 0xc2],
        ]
        .concat();
        [&[0, 0, 0, 41], message.as_slice()].concat()
    };
    for (first, why) in [
        (hello, "has to prove its key"),
        (begin(0, 0), "version 0 of the handshake meets version 1"),
        (begin(2, 0), "version 2 of the handshake meets version 1"),
        (begin(77, 0), "version 77 of the handshake meets version 1"),
        (begin(1, 0), "no key of the name \"k\""),
        (vec![0, 0, 16, 1], "above the limit of 4096"),
        (vec![0xff; 4], "above the limit of 4096"),
        (vec![0, 0, 0, 1, 0xc0], "bad handshake"),
    ] {
        let key = Key::new();
        let (port, outcome) = manager(&key);
        let mut client = Peer::client(port);
        let begun = Instant::now();
        client.send(&first).unwrap();
        let told = client.bye();
        assert!(told.contains(why), "{told}");
        drop(client);
        let refused = outcome.recv_timeout(PATIENCE).unwrap().map(drop);
        assert_eq!(refused.unwrap_err(), told);
        assert!(begun.elapsed() < PATIENCE);
    }
}

#[test]
fn proof_that_was_seen_before_is_none() {
    let key = Key::new();
    // What a client sends, as the manager itself sees it, with its own certificate.
    let pair = Identity::make().unwrap();
    let seen = Identity::of(&pair).unwrap();
    let (port, recorded) = serve(seen.begin().unwrap(), |mut client| {
        let begin = client.frame().unwrap();
        client.send(&short(72, [7; 32])).unwrap();
        (begin, client.frame().unwrap())
    });
    key.connect(port).map(drop).unwrap_err();
    let (begin, auth) = recorded.join().unwrap();
    let place = NetworkPlace::parse("//127.0.0.1:0").unwrap();
    let endpoint = TlsEndpoint::bind(&place, &identities(Identity::of(&pair).unwrap())).unwrap();
    let port = endpoint.address().network().unwrap().port;
    let replay = thread::spawn(move || {
        let mut client = Peer::client(port);
        client.send(&begin).unwrap();
        client.frame().unwrap();
        client.send(&auth).unwrap();
        client.bye()
    });
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let refused = runtime.block_on(async {
        let caller = endpoint.attach().unwrap().accept().await.unwrap();
        caller.authenticate(&key.ring(), 1).await.map(drop)
    });
    assert!(
        refused
            .unwrap_err()
            .contains("differs from that of the manager")
    );
    assert!(
        replay
            .join()
            .unwrap()
            .contains("differs from that of the manager")
    );
}

#[test]
fn service_that_speaks_another_protocol_over_tls_is_told_so() {
    for protocols in [
        vec![],
        vec![b"h2".to_vec()],
        vec![b"http/1.1".to_vec(), b"h2".to_vec()],
    ] {
        let pair = Identity::make().unwrap();
        let pair = rcgen::KeyPair::try_from(pair.as_slice()).unwrap();
        let certificate = rcgen::CertificateParams::new(["host".to_owned()]).unwrap();
        let certificate = certificate.self_signed(&pair).unwrap().der().clone();
        let der = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(pair.serialize_der()));
        let settings = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&[&TLS13])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate], der);
        let mut settings = settings.unwrap();
        settings.alpn_protocols = protocols;
        let connection = ServerConnection::new(Arc::new(settings)).unwrap();
        let (port, served) = serve(rustls::Connection::Server(connection), |mut client| {
            client.rest()
        });
        let refused = words_of(Key::new().connect(port));
        assert!(refused.contains("not lockkeeper's protocol"), "{refused}");
        assert!(served.join().unwrap().is_empty());
    }
}

/// The connection of a client and a manager that have accepted each other.
fn pair() -> (Arc<dyn Stream>, Arc<dyn Stream>) {
    let key = Key::new();
    let (port, outcome) = manager(&key);
    let place = key.place(port);
    let secret = keys::key_for(&place.endpoint()).unwrap();
    let deadline = Deadline::after(PATIENCE);
    let (client, secret) = connect(
        &place,
        &secret,
        &CertificateFiles::default(),
        false,
        deadline,
    )
    .unwrap();
    let manager = outcome.recv_timeout(PATIENCE).unwrap().unwrap();
    assert_eq!(manager.secret, secret);
    fs::remove_dir_all(key.folder.path()).unwrap();
    (Arc::new(client), manager.stream)
}

#[test]
fn socket_sends_at_once_and_notices_a_cut_in_time() {
    let (client, manager) = pair();
    for (stream, patience) in [(client, 8_000), (manager, 10_000)] {
        let socket = stream.descriptor().unwrap();
        assert!(sockopt::tcp_nodelay(socket).unwrap());
        assert_eq!(sockopt::tcp_user_timeout(socket).unwrap(), patience);
        assert!(sockopt::socket_keepalive(socket).unwrap());
        let silence = sockopt::tcp_keepidle(socket).unwrap();
        let pauses =
            sockopt::tcp_keepintvl(socket).unwrap() * sockopt::tcp_keepcnt(socket).unwrap();
        assert!(silence + pauses <= Duration::from_secs(15));
    }
}

#[test]
fn bytes_arrive_in_order_through_full_sockets() {
    for (from, to) in [pair(), {
        let (client, manager) = pair();
        (manager, client)
    }] {
        let bytes: Vec<u8> = (0..20_000_000_u32).map(|at| (at % 251) as u8).collect();
        let mut arrived = Vec::new();
        let mut rest = bytes.as_slice();
        let mut was_full = 0;
        let mut buffer = vec![0; 3000];
        while arrived.len() < bytes.len() {
            // A write after `WouldBlock` begins with the same bytes, and may have more of them.
            loop {
                let most = rest.len().min(100_000 + arrived.len() % 7_000);
                if most == 0 {
                    break;
                }
                match from.try_write(&rest[..most]) {
                    Ok(written) => rest = &rest[written..],
                    Err(error) => {
                        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
                        was_full += 1;
                        break;
                    }
                }
            }
            for _ in 0..100 {
                match to.try_read(&mut buffer) {
                    Ok(length) => arrived.extend_from_slice(&buffer[..length]),
                    Err(error) => {
                        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
                        break;
                    }
                }
            }
        }
        assert!(arrived == bytes);
        assert!(was_full > 3, "{was_full}");
        assert!(!to.has_buffered());
    }
}

#[test]
fn bytes_that_were_decrypted_are_known_to_wait() {
    let (client, manager) = pair();
    for length in [2, 100, 16_000] {
        let bytes = vec![7; length];
        assert_eq!(manager.try_write(&bytes).unwrap(), length);
        let mut left = length;
        let deadline = Instant::now() + PATIENCE;
        while left > 0 {
            match client.try_read(&mut [0; 1]) {
                Ok(1) => left -= 1,
                Ok(other) => panic!("{other}"),
                Err(error) => {
                    assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
                    assert!(!client.has_buffered());
                    assert!(Instant::now() < deadline);
                    continue;
                }
            }
            // One record has arrived as a whole.
            assert_eq!(client.has_buffered(), left > 0, "{left} of {length}");
        }
    }
    // The end waits too, behind the bytes before it.
    manager.try_write(b"end").unwrap();
    manager.shutdown();
    let mut buffer = [0; 3];
    let deadline = Instant::now() + PATIENCE;
    while client.try_read(&mut buffer).is_err() {
        assert!(Instant::now() < deadline);
    }
    assert_eq!(&buffer, b"end");
    while client
        .try_read(&mut buffer)
        .map_or(true, |length| length > 0)
    {
        assert!(Instant::now() < deadline);
    }
    assert!(client.has_buffered());
}

#[test]
fn caller_that_leaves_during_the_handshake_of_tls_is_noticed() {
    for bytes in [vec![], vec![22, 3, 1], vec![22, 3, 1, 0x40, 0, 1]] {
        let (port, outcome) = manager(&Key::new());
        let mut caller = TcpStream::connect(("127.0.0.1", port)).unwrap();
        caller.write_all(&bytes).unwrap();
        drop(caller);
        let refused = outcome.recv_timeout(PATIENCE).unwrap().map(drop);
        refused.unwrap_err();
    }
}

#[test]
fn end_without_a_close_notify_is_the_end_of_the_stream() {
    let (client, manager) = pair();
    // The process is killed: the system closes its socket.
    let descriptor = client.descriptor().unwrap();
    rustix::net::shutdown(descriptor, rustix::net::Shutdown::Both).unwrap();
    let deadline = Instant::now() + PATIENCE;
    let end = loop {
        match manager.try_read(&mut [0; 8]) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                assert!(Instant::now() < deadline);
            }
            end => break end,
        }
    };
    assert_eq!(end.unwrap(), 0);
}
