//! A relay that delays what goes through it, because the kernel may have no means to delay packets.
//!
//! It is a process beside the clients. It delays the bytes of connections and not packets, so the handshake of TCP is
//! as fast as ever; that of TLS, and all frames, are not.

use std::{
    fs,
    io::{Read, Write},
    net::{Ipv4Addr, Shutdown, TcpListener, TcpStream},
    path::{Path, PathBuf},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use lockkeeper_test_support::{Role, Roles, report};

use crate::{
    client::end_with_parent,
    network::{NEAR, Network, PORT, Side},
};

/// The receiver of delayed bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Receiver {
    Manager,
    Clients,
}

impl Receiver {
    /// The file with the delay in milliseconds. Without it there is no delay.
    const fn file(self) -> &'static str {
        match self {
            Self::Manager => "delay-to-manager",
            Self::Clients => "delay-to-clients",
        }
    }
}

/// A relay in the far namespace, to the manager.
#[derive(Debug)]
pub(crate) struct DelayLine {
    folder: PathBuf,
    port: u16,
    _role: Role,
}

impl DelayLine {
    pub(crate) fn start(network: &Network, folder: &Path) -> Self {
        let mut program = network.this_program(Side::Far);
        let mut role = Role::start_by(&mut program, "delay-line", &folder);
        Self {
            folder: folder.to_owned(),
            port: role.next_report().parse().unwrap(),
            _role: role,
        }
    }

    /// The port on the loopback device of the far namespace.
    pub(crate) const fn port(&self) -> u16 {
        self.port
    }

    /// Sets the delay of all bytes that come for a receiver from now on.
    pub(crate) fn set(&self, receiver: Receiver, delay: Duration) {
        let draft = self.folder.join("next-delay");
        fs::write(&draft, delay.as_millis().to_string()).unwrap();
        fs::rename(draft, self.folder.join(receiver.file())).unwrap();
    }
}

pub(crate) fn roles(roles: &mut Roles) {
    roles.add("delay-line", async |folder: PathBuf| {
        end_with_parent();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        report(&listener.local_addr().unwrap().port().to_string());
        for client in listener.incoming() {
            let client = client.unwrap();
            // The client learns that the manager is not there.
            if let Ok(manager) = TcpStream::connect((NEAR, PORT)) {
                for (from, to, receiver) in [
                    (&client, &manager, Receiver::Manager),
                    (&manager, &client, Receiver::Clients),
                ] {
                    delay(from, to, folder.join(receiver.file()));
                }
            }
        }
    });
}

/// Bytes, or the end of a stream, and when to pass it on.
type Delayed = (Instant, Option<Vec<u8>>);

/// Passes on one direction of a connection, with the delay in a file.
fn delay(from: &TcpStream, to: &TcpStream, file: PathBuf) {
    let (mut from, to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || pass_on(&receiver, to));
    thread::spawn(move || {
        let mut bytes = [0; 1 << 14];
        loop {
            let length = from.read(&mut bytes).unwrap_or(0);
            let delay = fs::read_to_string(&file).unwrap_or_default();
            let due = Instant::now() + Duration::from_millis(delay.parse().unwrap_or(0));
            let read = (length > 0).then(|| bytes[..length].to_vec());
            // The receiver has ended if the other side has.
            if sender.send((due, read)).is_err() || length == 0 {
                return;
            }
        }
    });
}

fn pass_on(delayed: &mpsc::Receiver<Delayed>, mut to: TcpStream) {
    to.set_nodelay(true).unwrap();
    for (due, read) in delayed {
        thread::sleep(due.saturating_duration_since(Instant::now()));
        let is_passed_on = read.is_some_and(|bytes| to.write_all(&bytes).is_ok());
        if !is_passed_on {
            let _ = to.shutdown(Shutdown::Both);
            return;
        }
    }
}
