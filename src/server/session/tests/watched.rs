//! Clients whose processes are watched, where the watch fails: the end of the stream ends their sessions.

use std::{
    process::{Child, Command, Stdio},
    sync::Arc,
};

use lockkeeper_sys::Private;
use rustix::fd::OwnedFd;

use crate::{
    limits::Limits,
    server::session::tests::{Client, House},
    tests::raw::Raw,
    transport::{handed::connect_child, peer_process, unix::UnixStream},
};

/// A process that lives until it is dropped.
struct Process(Child);

impl Process {
    fn start() -> Self {
        let mut sleep = Command::new("sleep");
        let sleep = sleep.arg("600").stdin(Stdio::null()).stdout(Stdio::null());
        Self(sleep.spawn().expect("a process"))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl House {
    /// Adds a client whose stream is that of a process, and returns the end of the stream that this process has.
    async fn welcome_from(&self, process: &Process) -> (Client, Private<OwnedFd>) {
        let (manager, child) = connect_child().unwrap();
        let kept = child.socket.get().unwrap().try_clone().unwrap();
        let kept = Private::open(|| Ok(kept)).unwrap();
        let raw = Raw::over(Arc::new(UnixStream::try_from(child.socket).unwrap()));
        let pid = process.0.id();
        let stream = manager.into_stream(pid, peer_process::of_process(pid));
        let client = self.greeted(self.let_in_over(raw, stream), pid).await;
        (client, kept)
    }
}

#[actix_rt::test]
async fn sessions_end_with_their_streams_where_the_watch_over_processes_has_failed() {
    let house = House::new(Limits::default());
    let mut other = house.welcome().await;
    let theirs = other.open_lock("jobs").await;
    let process = Process::start();
    let (mut early, kept) = house.welcome_from(&process).await;
    house.context.watches.fail().await;
    let (mut late, kept_too) = house.welcome_from(&process).await;
    for client in [&mut early, &mut late] {
        assert!(client.is_served().await);
    }
    drop((kept, kept_too));
    for mut client in [early, late] {
        let lock = client.open_lock("jobs").await;
        client.try_acquire(lock).await.unwrap();
        client.close().await;
        assert!(!other.status(theirs).await.is_held);
    }
}

#[actix_rt::test]
async fn session_ends_with_its_process_although_another_keeps_its_stream() {
    let house = House::new(Limits::default());
    let process = Process::start();
    let (mut client, kept) = house.welcome_from(&process).await;
    assert!(client.is_served().await);
    drop(process);
    client.end().await;
    drop(kept);
}
