//! A connected session needs no further descriptor, neither for a full socket, nor for another runtime, nor
//! for the first wait of a thread.

use std::{fs::File, os::fd::AsRawFd, thread};

use lockkeeper::{CallError, Limits, Value, block_on};
use lockkeeper_protocol::{Operation, codec, operations::Read};
use lockkeeper_test_support::{Role, Roles, report};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde::{Deserialize, Serialize};
use tokio::runtime::Builder;

use super::{Host, Raw};
use crate::run;

const MEGABYTE: usize = 1 << 20;

/// Limits this process so that it can open no further descriptor.
pub(super) fn leave_none() {
    // All descriptors below the lowest free one are in use.
    let free = File::open("/dev/null").unwrap().as_raw_fd();
    let limit = Rlimit {
        current: Some(free.try_into().unwrap()),
        maximum: getrlimit(Resource::Nofile).maximum,
    };
    setrlimit(Resource::Nofile, limit).unwrap();
    assert!(File::open("/dev/null").is_err());
}

/// The caller in a client without descriptors.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
enum Caller {
    /// A runtime that has made a call before.
    Runtime,
    /// Another runtime, which has not.
    OtherRuntime,
    /// A thread that has not waited before, in a process with a runtime.
    Thread,
    /// Such a thread in a program without a runtime.
    ThreadAlone,
}

/// Sends and reads more than fits into a socket.
async fn exchange(value: Value<String>) -> Result<(), CallError> {
    for round in 1..=3 {
        value.set("x".repeat(round * 8 * MEGABYTE)).await?;
        assert_eq!(value.get().await?.len(), round * 8 * MEGABYTE);
    }
    Ok(())
}

pub(crate) fn roles(roles: &mut Roles) {
    let client = async |(value, caller): (Value<String>, Caller)| {
        let other = Builder::new_current_thread().enable_all().build().unwrap();
        match caller {
            Caller::Runtime | Caller::OtherRuntime | Caller::Thread => {
                value.get().await.unwrap();
            }
            Caller::ThreadAlone => {
                let value = value.clone();
                let first = thread::spawn(move || block_on(value.get()).unwrap());
                first.join().unwrap();
            }
        }
        leave_none();
        let exchanged = match caller {
            Caller::Runtime => exchange(value).await,
            Caller::OtherRuntime => {
                let called = thread::spawn(move || other.block_on(exchange(value)));
                called.join().unwrap()
            }
            Caller::Thread | Caller::ThreadAlone => {
                let called = thread::spawn(move || block_on(exchange(value)));
                called.join().unwrap()
            }
        };
        report(&match exchanged {
            Ok(()) => "done".to_owned(),
            Err(error) => error.to_string(),
        });
    };
    roles.add("resources::descriptors::client", client);
}

/// Returns the outcome of an exchange in a client without descriptors.
async fn exchanged_by(caller: Caller) -> String {
    let host = Host::start(Limits::default());
    let manager = host.connect().await;
    let value = manager.value(String::new()).await.unwrap();
    let mut client = Role::start("resources::descriptors::client", &(&value, caller));
    client.next_report()
}

#[test]
fn client_without_descriptors_writes_and_reads_more_than_its_socket_takes() {
    run(async {
        assert_eq!(exchanged_by(Caller::Runtime).await, "done");
        assert_eq!(exchanged_by(Caller::OtherRuntime).await, "done");
    });
}

#[test]
fn threads_of_a_client_without_descriptors_can_wait_for_the_first_time() {
    run(async {
        assert_eq!(exchanged_by(Caller::Thread).await, "done");
        assert_eq!(exchanged_by(Caller::ThreadAlone).await, "done");
    });
}

#[test]
fn manager_without_descriptors_keeps_sessions_whose_sockets_are_full_in_both_directions() {
    run(async {
        let mut host = Host::start(Limits::default());
        let manager = host.connect().await;
        let large = "x".repeat(8 * MEGABYTE);
        let value = manager.named("large").value(large.clone()).await.unwrap();
        let guard = manager.lock().await.unwrap().acquire().await.unwrap();
        let mut raw = Raw::connect(&host.address);
        let read = raw.open("value", "large", Read::NAME);
        let full = manager.named("no descriptor is left").event();
        full.await.unwrap().set().await.unwrap();
        assert_eq!(host.role.next_report(), "no descriptor is left");
        raw.call(read, &codec::encode(&Read).unwrap(), 10);
        for _ in 0..3 {
            value.set(large.clone()).await.unwrap();
            assert_eq!(value.get().await.unwrap(), large);
        }
        assert!(raw.receive_replies(10) > 80 * MEGABYTE);
        // The other session still exists.
        assert!(guard.is_valid());
        guard.release().await.unwrap();
    });
}
