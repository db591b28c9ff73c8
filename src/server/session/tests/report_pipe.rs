//! What a client lays in its report_pipe is served before what it says next, and before its end.

use std::{
    fs::File,
    io::Write,
    os::fd::{AsRawFd, OwnedFd},
};

use lockkeeper_protocol::{Fault, Proof, Refusal, frame::Request, operations::Release};
use rustix::pipe::{PipeFlags, pipe_with};

use crate::{
    limits::Limits,
    server::session::{
        control::NIL,
        tests::{Client, Heard, House, encoded, operation},
    },
};

impl Client {
    /// Says that a descriptor is that of its report_pipe for releases of a lock.
    async fn set_report_pipe(
        &mut self,
        object: u32,
        descriptor: &impl AsRawFd,
    ) -> Result<(), Fault> {
        let (operation, _) = operation(&Release {
            grant: Proof::Own(0),
        });
        let seq = self.seq();
        let report_pipe = Request::ReportPipe {
            seq,
            object,
            operation,
            descriptor: descriptor.as_raw_fd().try_into().unwrap(),
        };
        self.raw.say(&report_pipe).await;
        match self.hear().await {
            Heard::Reply(answered, body) if answered == seq && body == NIL => Ok(()),
            Heard::Fault(answered, fault) if answered == seq => Err(fault),
            other => panic!("no answer to report_pipe {seq}: {other:?}"),
        }
    }
}

/// A pipe, whose ends are those of this process, as the client's is.
fn pipe() -> (OwnedFd, File) {
    let (theirs, ours) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).unwrap();
    (theirs, ours.into())
}

/// A record of a report_pipe: with the head of a list before it, the arguments of a release.
fn record(seq: u64) -> Vec<u8> {
    let grant = encoded(&Proof::Own(seq));
    let length = u32::try_from(grant.len()).unwrap();
    [&length.to_be_bytes()[..], &grant].concat()
}

#[actix_rt::test]
async fn what_lies_in_the_tray_is_served_before_what_is_said_next() {
    let house = House::new(Limits::default());
    let mut client = house.welcome_as(std::process::id()).await;
    let lock = client.open_lock("jobs").await;
    let (theirs, mut report_pipe) = pipe();
    client.set_report_pipe(lock, &theirs).await.unwrap();
    drop(theirs);
    for _ in 0..3 {
        client.try_acquire(lock).await.unwrap();
        assert!(client.status(lock).await.held);
        report_pipe.write_all(&record(client.last_seq - 1)).unwrap();
        assert!(!client.status(lock).await.held);
    }
}

#[actix_rt::test]
async fn what_lies_in_the_tray_is_served_before_the_session_ends() {
    let house = House::new(Limits::default());
    let mut client = house.welcome_as(std::process::id()).await;
    let mut other = house.welcome().await;
    let theirs = other.open_lock("jobs").await;
    for is_laid in [true, false] {
        let mut client = house.welcome_as(std::process::id()).await;
        let lock = client.open_lock("jobs").await;
        let (theirs_of_pipe, mut report_pipe) = pipe();
        client.set_report_pipe(lock, &theirs_of_pipe).await.unwrap();
        client.try_acquire(lock).await.unwrap();
        if is_laid {
            report_pipe.write_all(&record(client.last_seq)).unwrap();
        }
        client.close().await;
        let granted = other.try_acquire(theirs).await.unwrap();
        assert_eq!(granted.abandoned.is_none(), is_laid);
        let (number, arguments) = operation(&Release {
            grant: Proof::Own(other.last_seq),
        });
        let released: Result<(), Refusal> =
            other.call(theirs, number, None, &arguments).await.unwrap();
        released.unwrap();
    }
    assert!(client.is_served().await);
}

#[actix_rt::test]
async fn what_is_no_record_in_a_tray_harms_nobody() {
    let house = House::new(Limits::default());
    let mut client = house.welcome_as(std::process::id()).await;
    let lock = client.open_lock("jobs").await;
    let (theirs, mut report_pipe) = pipe();
    client.set_report_pipe(lock, &theirs).await.unwrap();
    for garbage in [&[0, 0, 0, 2, 0xc1, 0xc1][..], &[0xff; 100]] {
        report_pipe.write_all(garbage).unwrap();
        assert!(client.is_served().await);
    }
}

#[actix_rt::test]
async fn descriptor_of_what_is_no_pipe_is_refused() {
    let house = House::new(Limits::default());
    let mut client = house.welcome_as(std::process::id()).await;
    let lock = client.open_lock("jobs").await;
    let file = File::open("/dev/null").unwrap();
    let refused = client.set_report_pipe(lock, &file).await;
    assert!(
        matches!(&refused, Err(Fault::BadArguments(why)) if why.contains("not that of a pipe")),
        "{refused:?}"
    );
    let mut stranger = house.welcome_as(u32::MAX).await;
    let lock = stranger.open_lock("jobs").await;
    assert!(stranger.set_report_pipe(lock, &file).await.is_err());
    assert!(stranger.is_served().await);
}
