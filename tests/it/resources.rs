//! The resources of a manager that a client can use, and their effect on other clients: unread answers,
//! stored bytes, descriptors.
//!
//! The manager is a separate process, so its memory and its descriptors are separate from those of the
//! test. [`Raw`] is a client that sends any bytes and reads at any time.

mod arriving;
pub(crate) mod descriptors;
mod stored;
mod unread;

use std::{
    fs,
    future::pending,
    io::{Read as _, Write as _},
    os::unix::net::UnixStream,
    time::Duration,
};

use lockkeeper::{Address, Limits, Manager};
use lockkeeper_protocol::{
    codec::BlobRef,
    frame::{self, Capabilities, Inbox, Request, Response},
};
use lockkeeper_test_support::{Role, Roles, report};

use crate::guards::Payloads;

pub(crate) fn roles(roles: &mut Roles) {
    roles.add("resources::reader", unread::read_much);
    roles.add("resources::putter", arriving::put_much);
    roles.add("resources::manager", async |limits: Limits| {
        let builder = Manager::builder().limits(limits).register::<Payloads>();
        let manager = builder.start().await.unwrap();
        let full = manager.named("no descriptor is left").event();
        let full = full.await.unwrap();
        report(&manager.address().to_string());
        full.wait().await.unwrap();
        descriptors::leave_none();
        report("no descriptor is left");
        pending::<()>().await;
    });
}

/// A manager in its own process.
struct Host {
    role: Role,
    address: Address,
}

impl Host {
    fn start(limits: Limits) -> Self {
        let mut role = Role::start("resources::manager", &limits);
        let address = role.next_report().parse().unwrap();
        Self { role, address }
    }

    async fn connect(&self) -> Manager {
        Manager::connect(self.address.clone()).await.unwrap()
    }

    /// Returns the peak memory of the process in bytes.
    fn peak(&self) -> usize {
        let path = format!("/proc/{}/status", self.role.pid());
        let status = fs::read_to_string(path).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kilobytes = line.and_then(|line| line.split_whitespace().next());
        kilobytes.unwrap().parse::<usize>().unwrap() << 10
    }
}

/// A client that reads only when a test reads.
struct Raw {
    stream: UnixStream,
    inbox: Inbox,
    last_seq: u64,
}

/// The time limit for an expected answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// An answer without borrowed data.
#[derive(Debug)]
enum Received {
    Opened(u32, Vec<String>),
    /// The number of the call, and the number of bytes of the reply.
    Reply(u64, usize),
    Other(#[expect(dead_code, reason = "it is printed")] String),
}

impl Raw {
    fn connect(address: &Address) -> Self {
        let stream = UnixStream::connect(address.to_string()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        let mut raw = Self {
            stream,
            inbox: Inbox::new(usize::MAX),
            last_seq: 0,
        };
        let hello = Request::Hello {
            version: frame::VERSION,
            pid: std::process::id(),
            program: "raw",
            label: "",
            capabilities: Capabilities::NONE,
            former: None,
        };
        let mut bytes = Vec::new();
        frame::append(&mut bytes, &hello, usize::MAX).unwrap();
        raw.write(&bytes);
        assert!(matches!(raw.receive(), Received::Other(_)));
        raw
    }

    fn write(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("the manager reads");
    }

    fn seq(&mut self) -> u64 {
        self.last_seq += 1;
        self.last_seq
    }

    /// Opens an existing object, and returns its number and that of an operation.
    fn open(&mut self, kind: &str, name: &str, operation: &str) -> (u32, u32) {
        let open = Request::Open {
            seq: self.seq(),
            kind,
            name: Some(name),
            spec: None,
        };
        let mut bytes = Vec::new();
        frame::append(&mut bytes, &open, usize::MAX).unwrap();
        self.write(&bytes);
        let Received::Opened(object, operations) = self.receive() else {
            panic!("{name} is not opened");
        };
        let place = operations.iter().position(|name| name == operation);
        (object, u32::try_from(place.unwrap()).unwrap())
    }

    /// Sends `count` calls in one write.
    fn call(&mut self, (object, operation): (u32, u32), arguments: &[u8], count: usize) {
        let mut bytes = Vec::new();
        for _ in 0..count {
            let call = Request::Call {
                seq: self.seq(),
                object,
                operation,
                micros: None,
                arguments: BlobRef(arguments),
            };
            frame::append(&mut bytes, &call, usize::MAX).unwrap();
        }
        self.write(&bytes);
    }

    /// Receives the replies to the last calls, in order, and returns the number of bytes of all.
    fn receive_replies(&mut self, count: usize) -> usize {
        let mut all = 0;
        for seq in self.last_seq + 1 - count as u64..=self.last_seq {
            match self.receive() {
                Received::Reply(answered, bytes) if answered == seq => all += bytes,
                other => panic!("no reply to {seq}: {other:?}"),
            }
        }
        all
    }

    fn receive(&mut self) -> Received {
        let mut chunk = vec![0; 1 << 20];
        loop {
            if let Some(message) = self.inbox.next_message().unwrap() {
                return match Response::decode(&message).unwrap() {
                    Response::Opened {
                        object, operations, ..
                    } => Received::Opened(object, operations),
                    Response::Reply { seq, body } => Received::Reply(seq, body.0.len()),
                    other => Received::Other(format!("{other:?}")),
                };
            }
            match self.stream.read(&mut chunk).expect("the manager answers") {
                0 => return Received::Other("the end".to_owned()),
                length => self.inbox.feed(&chunk[..length]),
            }
        }
    }
}
