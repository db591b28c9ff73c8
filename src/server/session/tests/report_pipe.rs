//! What a client lays in its report_pipe is served before what it says next, and before its end.

use std::{
    fs::{self, File},
    io::{Read, Write},
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::fs::FileTypeExt,
    },
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use lockkeeper_actors::{Primitive, sync::Semaphore};
use lockkeeper_protocol::{
    Fault, Operation, Proof, Refusal,
    codec::BlobRef,
    frame::Request,
    operations::{AcquireMany, Count, Release, SemaphoreSpec, SemaphoreStatus},
};
use rustix::{
    io::{dup, dup2},
    pipe::{PipeFlags, pipe_with},
};
use serde::Serialize;

use crate::{
    limits::Limits,
    server::session::{
        control::NIL,
        report_pipe::{Offer, ReportPipe},
        tests::{Client, Heard, House, encoded, number_of, operation},
    },
    tests::protocol::SECRET,
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
        self.set_report_pipe_for(object, operation, descriptor)
            .await
    }

    async fn set_report_pipe_for(
        &mut self,
        object: u32,
        operation: u32,
        descriptor: &impl AsRawFd,
    ) -> Result<(), Fault> {
        self.lay_secret(descriptor);
        self.offer_pipe(object, operation, descriptor).await
    }

    /// Writes the session's secret into the pipe of a descriptor, if it is a pipe's.
    fn lay_secret(&self, descriptor: &impl AsRawFd) {
        let path = format!("/proc/self/fd/{}", descriptor.as_raw_fd());
        if fs::metadata(&path).is_ok_and(|there| there.file_type().is_fifo()) {
            let mut pipe = File::options().write(true).open(path).unwrap();
            pipe.write_all(SECRET.of_session(self.id).bytes()).unwrap();
        }
    }

    async fn offer_pipe(
        &mut self,
        object: u32,
        operation: u32,
        descriptor: &impl AsRawFd,
    ) -> Result<(), Fault> {
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
    record_of(&Proof::Own(seq))
}

fn record_of(value: &impl Serialize) -> Vec<u8> {
    let bytes = encoded(value);
    let length = u32::try_from(bytes.len()).unwrap();
    [&length.to_be_bytes()[..], &bytes].concat()
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

#[actix_rt::test]
async fn pipe_that_is_not_the_sessions_is_refused_and_left_as_it_is() {
    let house = House::new(Limits::default());
    let mut client = house.welcome_as(std::process::id()).await;
    let other = house.welcome().await;
    let lock = client.open_lock("jobs").await;
    client.try_acquire(lock).await.unwrap();
    let (release, _) = operation(&Release {
        grant: Proof::Own(0),
    });
    let held = client.last_seq;
    let others = SECRET.of_session(other.id);
    let own = SECRET.of_session(client.id);
    let contents: [&[u8]; 4] = [
        &[],
        &record(held),
        &[others.bytes(), record(held).as_slice()].concat(),
        &own.bytes()[..31],
    ];
    for written in contents {
        let (theirs, mut ours) = pipe();
        ours.write_all(written).unwrap();
        let refused = client.offer_pipe(lock, release, &theirs).await;
        assert!(
            matches!(&refused, Err(Fault::BadArguments(why)) if why.contains("secret")),
            "{refused:?}"
        );
        assert!(client.status(lock).await.held);
        drop(ours);
        let mut left = Vec::new();
        File::from(theirs).read_to_end(&mut left).unwrap();
        assert_eq!(left, written);
    }
    // What follows the secret is served.
    let (theirs, mut ours) = pipe();
    let laid = [own.bytes(), record(held).as_slice()].concat();
    ours.write_all(&laid).unwrap();
    client.offer_pipe(lock, release, &theirs).await.unwrap();
    assert!(!client.status(lock).await.held);
}

#[cfg(target_os = "linux")]
#[test]
fn process_of_another_user_is_not_looked_into() {
    let (theirs, _ours) = pipe();
    let own = rustix::process::getuid().as_raw();
    for (uid, is_opened) in [(Some(own), true), (None, true), (Some(own + 1), false)] {
        let offer = Offer {
            pid: std::process::id(),
            uid,
            descriptor: theirs.as_raw_fd().try_into().unwrap(),
            secret: &[],
        };
        let opened = ReportPipe::open(&offer, 0, 0, 1 << 10);
        assert_eq!(opened.is_ok(), is_opened, "{uid:?}");
    }
}

#[test]
fn what_is_put_in_the_place_of_a_pipe_meanwhile_is_not_read() {
    let (theirs, _ours) = pipe();
    let zeros = File::open("/dev/zero").unwrap();
    let mut place = dup(&theirs).unwrap();
    let descriptor = place.as_raw_fd().try_into().unwrap();
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                dup2(&zeros, &mut place).unwrap();
                dup2(&theirs, &mut place).unwrap();
            }
        });
        let read = (0..10_000).find_map(|_| {
            let offer = Offer {
                pid: std::process::id(),
                uid: None,
                descriptor,
                secret: &[],
            };
            let pipe = ReportPipe::open(&offer, 0, 0, 1 << 10);
            pipe.ok()?.take(&mut [0; 64]).transpose()
        });
        is_over.store(true, Ordering::Relaxed);
        assert!(read.is_none(), "{read:?}");
    });
}

/// Opens a semaphore of ten permits.
async fn seats(client: &mut Client) -> u32 {
    let spec = encoded(&SemaphoreSpec::from(10));
    let opened = client.open(Semaphore::KIND, Some("seats"), Some(&spec));
    opened.await.unwrap()
}

/// The free and the held permits of a semaphore.
async fn permits(client: &mut Client, seats: u32) -> (u64, u64) {
    let number = number_of::<Semaphore>(Count::NAME);
    let told = client.call(seats, number, None, &encoded(&Count)).await;
    let told: SemaphoreStatus = told.unwrap();
    (told.available, told.held)
}

#[actix_rt::test]
async fn one_way_calls_have_numbers_of_their_own_whichever_way_they_come() {
    let house = House::new(Limits::default());
    let mut witness = house.welcome().await;
    let watched = seats(&mut witness).await;
    // By a pipe for each, by one pipe, by casts, and by pipes and casts in turn.
    for is_by_pipe in [
        |_: u64| true,
        |_| false,
        |turn| turn % 2 == 0,
        |turn| turn >= 5,
    ] {
        for is_one_pipe in [true, false] {
            let mut client = house.welcome().await;
            let object = seats(&mut client).await;
            let mut one = None;
            for turn in 0..10 {
                let acquire = AcquireMany { permits: 1 };
                if is_by_pipe(turn) {
                    if one.is_none() || !is_one_pipe {
                        let (theirs, ours) = pipe();
                        let set = client.set_report_pipe_for(object, 0, &theirs);
                        set.await.unwrap();
                        one = Some(ours);
                    }
                    let ours = one.as_mut().expect("it was made");
                    // The list of all records is the record of the arguments.
                    ours.write_all(&record_of(&acquire.permits)).unwrap();
                } else {
                    let cast = Request::Cast {
                        object,
                        operation: 0,
                        arguments: BlobRef(&encoded(&acquire)),
                    };
                    client.raw.say(&cast).await;
                }
                let held = turn + 1;
                assert_eq!(permits(&mut client, object).await, (10 - held, held));
            }
            client.close().await;
            assert_eq!(permits(&mut witness, watched).await, (10, 0));
        }
    }
}
