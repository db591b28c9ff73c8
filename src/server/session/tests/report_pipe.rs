//! Records that a client writes into its report pipe are served before its next frames, and before its end.

use std::{fs::File, io::Write, process, sync::Arc};

use lockkeeper_actors::{Primitive, sync::Semaphore};
use lockkeeper_protocol::{
    Fault, Operation, Proof, Refusal,
    codec::BlobRef,
    frame::Request,
    operations::{AcquireMany, GetSemaphoreStatus, Release, SemaphoreSpec, SemaphoreStatus},
};
use serde::Serialize;

use crate::{
    limits::Limits,
    server::session::{
        control::NIL,
        tests::{Client, Heard, House, encoded, number_of, operation, release},
    },
    tests::raw::{Raw, patiently},
    transport::{handed::connect_child, unix::UnixStream},
};

impl Client {
    /// Assigns the report pipe to the releases of a lock.
    async fn set_report_pipe(&mut self, object: u32) -> Result<(), Fault> {
        let (operation, _) = operation(&Release {
            grant: Proof::Own(0),
        });
        self.set_report_pipe_for(object, operation).await
    }

    pub(super) async fn set_report_pipe_for(
        &mut self,
        object: u32,
        operation: u32,
    ) -> Result<(), Fault> {
        let seq = self.seq();
        let report_pipe = Request::ReportPipe {
            seq,
            object,
            operation,
        };
        self.raw.send(&report_pipe).await;
        match self.hear().await {
            Heard::Reply(answered, body) if answered == seq && body == NIL => Ok(()),
            Heard::Fault(answered, fault) if answered == seq => Err(fault),
            other => panic!("no answer to report_pipe {seq}: {other:?}"),
        }
    }
}

impl House {
    /// Adds a client over a stream with a report pipe, and returns the pipe too.
    pub(super) async fn welcome_with_pipe(&self) -> (Client, File) {
        let (manager, child) = connect_child().unwrap();
        let raw = Raw::over(Arc::new(UnixStream::try_from(child.socket).unwrap()));
        let stream = manager.into_stream(process::id(), None);
        let client = self.greeted(self.let_in_over(raw, stream), 1).await;
        let pipe = child.reports;
        (client, pipe.get().unwrap().try_clone().unwrap().into())
    }
}

/// A record of a report pipe: the arguments of a release, without the head of the list.
fn record(seq: u64) -> Vec<u8> {
    record_of(&Proof::Own(seq))
}

fn record_of(value: &impl Serialize) -> Vec<u8> {
    let bytes = encoded(value);
    let length = u32::try_from(bytes.len()).unwrap();
    [&length.to_be_bytes()[..], &bytes].concat()
}

#[actix_rt::test]
async fn records_in_the_pipe_are_served_before_the_next_frames() {
    let house = House::new(Limits::default());
    let (mut client, mut report_pipe) = house.welcome_with_pipe().await;
    let lock = client.open_lock("jobs").await;
    client.set_report_pipe(lock).await.unwrap();
    for _ in 0..3 {
        client.try_acquire(lock).await.unwrap();
        assert!(client.status(lock).await.is_held);
        report_pipe.write_all(&record(client.last_seq - 1)).unwrap();
        assert!(!client.status(lock).await.is_held);
    }
}

#[actix_rt::test]
async fn records_in_the_pipe_are_served_before_the_session_ends() {
    let house = House::new(Limits::default());
    let mut other = house.welcome().await;
    let theirs = other.open_lock("jobs").await;
    for is_laid in [true, false] {
        let (mut client, mut report_pipe) = house.welcome_with_pipe().await;
        let lock = client.open_lock("jobs").await;
        client.set_report_pipe(lock).await.unwrap();
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
    assert!(other.is_served().await);
}

/// A process that has lost its connection may live, and report what it does, until it is killed.
#[actix_rt::test]
async fn session_of_a_pool_ends_when_the_pool_says_so() {
    let (house, mut left) = House::new(Limits::default()).of_pool();
    let mut other = house.welcome().await;
    let theirs = other.open_lock("jobs").await;
    for is_laid in [true, false] {
        let (mut client, mut report_pipe) = house.welcome_with_pipe().await;
        let lock = client.open_lock("jobs").await;
        client.set_report_pipe(lock).await.unwrap();
        client.try_acquire(lock).await.unwrap();
        let last = client.last_seq;
        let Client { raw, session, .. } = client;
        drop(raw);
        let told = patiently(left.recv()).await.expect("it has left");
        assert_eq!(told.pid, process::id());
        assert!(other.status(theirs).await.is_held, "it may be in use");
        if is_laid {
            report_pipe.write_all(&record(last)).unwrap();
        }
        drop(told);
        patiently(session).await.unwrap();
        let granted = other.try_acquire(theirs).await.unwrap();
        assert_eq!(granted.abandoned.is_none(), is_laid);
        let grant = other.last_seq;
        other.raw.write(&release(theirs, grant)).await.unwrap();
        assert!(!other.status(theirs).await.is_held);
    }
    // The pool is about to end, and waits for no session.
    drop(left);
    let (client, _report_pipe) = house.welcome_with_pipe().await;
    client.close().await;
}

#[actix_rt::test]
async fn bytes_in_the_pipe_that_are_no_record_harm_no_session() {
    let house = House::new(Limits::default());
    let (mut client, mut report_pipe) = house.welcome_with_pipe().await;
    let lock = client.open_lock("jobs").await;
    client.set_report_pipe(lock).await.unwrap();
    for garbage in [&[0, 0, 0, 2, 0xc1, 0xc1][..], &[0xff; 100]] {
        report_pipe.write_all(garbage).unwrap();
        assert!(client.is_served().await);
    }
}

#[actix_rt::test]
async fn session_without_a_pipe_is_told_so() {
    let house = House::new(Limits::default());
    let mut client = house.welcome().await;
    let lock = client.open_lock("jobs").await;
    let refused = client.set_report_pipe(lock).await;
    assert!(
        matches!(&refused, Err(Fault::BadArguments(why)) if why.contains("no report pipe")),
        "{refused:?}"
    );
    assert!(client.is_served().await);
}

/// Opens a semaphore of ten permits.
async fn seats(client: &mut Client) -> u32 {
    let spec = encoded(&SemaphoreSpec::from(10));
    let opened = client.open(Semaphore::KIND, Some("seats"), Some(&spec));
    opened.await.unwrap()
}

/// The free and the held permits of a semaphore.
async fn permits(client: &mut Client, seats: u32) -> (u64, u64) {
    let number = number_of::<Semaphore>(GetSemaphoreStatus::NAME);
    let told = client
        .call(seats, number, None, &encoded(&GetSemaphoreStatus))
        .await;
    let told: SemaphoreStatus = told.unwrap();
    (told.available, told.held)
}

#[actix_rt::test]
async fn one_way_calls_have_numbers_of_their_own_whichever_way_they_come() {
    let house = House::new(Limits::default());
    let mut witness = house.welcome().await;
    let watched = seats(&mut witness).await;
    // By the pipe, by casts, and alternating.
    for is_by_pipe in [
        |_: u64| true,
        |_| false,
        |turn| turn % 2 == 0,
        |turn| turn >= 5,
    ] {
        for is_set_anew in [true, false] {
            let (mut client, mut pipe) = house.welcome_with_pipe().await;
            let object = seats(&mut client).await;
            let mut is_set = false;
            for turn in 0..10 {
                let acquire = AcquireMany { permits: 1 };
                if is_by_pipe(turn) {
                    if !is_set || is_set_anew {
                        client.set_report_pipe_for(object, 0).await.unwrap();
                        is_set = true;
                    }
                    // The list of all records is the record of the arguments.
                    pipe.write_all(&record_of(&acquire.permits)).unwrap();
                } else {
                    let cast = Request::Cast {
                        object,
                        operation: 0,
                        arguments: BlobRef(&encoded(&acquire)),
                    };
                    client.raw.send(&cast).await;
                }
                let held = turn + 1;
                assert_eq!(permits(&mut client, object).await, (10 - held, held));
            }
            client.close().await;
            assert_eq!(permits(&mut witness, watched).await, (10, 0));
        }
    }
}
