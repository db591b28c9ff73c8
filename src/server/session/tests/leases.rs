//! Sessions with a lease, by a paused clock: silence, detached sessions, former sessions, goodbyes.

use std::time::Duration;

use lockkeeper_protocol::{
    SessionSecret,
    frame::{Capabilities, FormerSession, Request, VERSION},
    operations::Acquire,
};
use tokio::time::{self, Instant};

use crate::{
    limits::Limits,
    server::session::tests::{Client, Heard, House, operation},
    tests::{
        protocol::SECRET,
        raw::{Raw, patiently},
    },
};

const LEASE: Duration = Duration::from_secs(10);

/// The number of the only lock, in each session.
const LOCK: u32 = 0;

impl House {
    /// Adds a client over a network, which holds the lock.
    async fn far_holder(&self) -> Client {
        self.lease.set(Some(LEASE));
        let mut holder = self.welcome_in_memory().await;
        assert_eq!(holder.open_lock("jobs").await, LOCK);
        holder.try_acquire(LOCK).await.expect("it is free");
        holder
    }

    /// Adds a client of this machine, which has no lease.
    async fn near(&self) -> Client {
        self.lease.set(None);
        let mut near = self.welcome_in_memory().await;
        assert_eq!(near.open_lock("jobs").await, LOCK);
        near
    }

    /// Adds a client over a network, which names a former session.
    async fn far_again(&self, former: FormerSession) -> Client {
        self.lease.set(Some(LEASE));
        let (raw, stream) = Raw::client_in_memory();
        let mut client = self.let_in_over(raw, stream);
        client.raw.send(&hello(Some(former))).await;
        client.raw.hear().await.expect("a welcome");
        client
    }
}

fn hello(former: Option<FormerSession>) -> Request<'static> {
    Request::Hello {
        version: VERSION,
        pid: 1,
        program: "test",
        label: "",
        capabilities: Capabilities::ALL,
        former,
    }
}

impl Client {
    async fn beat(&mut self) {
        let seq = self.seq();
        self.raw.send(&Request::Beat { seq, received: 0 }).await;
        assert!(matches!(self.hear().await, Heard::Reply(answered, _) if answered == seq));
    }

    /// Waits for the lock, and returns the time until it was granted.
    async fn acquires(&mut self) -> Duration {
        let begun = Instant::now();
        let (number, arguments) = operation(&Acquire);
        let seq = self.send(LOCK, number, None, &arguments).await;
        let granted = self.hear().await;
        assert!(
            matches!(granted, Heard::Reply(answered, _) if answered == seq),
            "{granted:?}"
        );
        begun.elapsed()
    }

    fn session(&self, secret: SessionSecret) -> FormerSession {
        FormerSession {
            number: self.id.number(),
            secret,
        }
    }
}

/// Returns whether a time is a lease, apart from the resolution of the timer.
fn is_lease(time: Duration) -> bool {
    (LEASE..LEASE + Duration::from_millis(10)).contains(&time)
}

#[actix_rt::test]
async fn session_keeps_its_holds_for_a_lease_after_the_end_of_its_stream() {
    time::pause();
    let house = House::new(Limits::default());
    let mut holder = house.far_holder().await;
    let mut next = house.near().await;
    time::sleep(LEASE / 2).await;
    holder.beat().await;
    // The lease counts from the last frame, and not from the end.
    time::sleep(LEASE / 4).await;
    drop(holder.raw);
    let waited = next.acquires().await + LEASE / 4;
    assert!(is_lease(waited), "{waited:?}");
}

#[actix_rt::test]
async fn offence_ends_the_session_and_its_holds_with_the_lease() {
    time::pause();
    let house = House::new(Limits::default());
    let mut holder = house.far_holder().await;
    let mut next = house.near().await;
    let begun = Instant::now();
    holder.raw.send(&hello(None)).await;
    let Heard::Other(bye) = holder.hear().await else {
        panic!("no bye");
    };
    assert!(bye.contains("ello"), "{bye}");
    assert_eq!(begun.elapsed(), Duration::ZERO);
    let waited = next.acquires().await;
    assert!(is_lease(waited), "{waited:?}");
}

#[actix_rt::test]
async fn lease_begins_with_the_hello_and_the_frames_that_came_with_it() {
    time::pause();
    let house = House::new(Limits::default());
    house.lease.set(Some(LEASE));
    let mut late = house.let_in();
    let mut next = house.near().await;
    time::sleep(LEASE / 10 * 9).await;
    late.raw.send(&hello(None)).await;
    late.raw.hear().await.expect("a welcome");
    assert_eq!(late.open_lock("jobs").await, LOCK);
    late.try_acquire(LOCK).await.expect("it is free");
    let waited = next.acquires().await;
    assert!(is_lease(waited), "{waited:?}");
}

#[actix_rt::test]
async fn silent_session_ends_with_its_lease_and_each_frame_renews_it() {
    time::pause();
    let house = House::new(Limits::default());
    let mut holder = house.far_holder().await;
    for _ in 0..3 {
        time::sleep(LEASE / 5 * 4).await;
        holder.beat().await;
    }
    let begun = Instant::now();
    let bye = holder.hear_bye().await;
    assert!(bye.contains("lease"), "{bye}");
    let waited = begun.elapsed();
    assert!(is_lease(waited), "{waited:?}");
    assert!(house.near().await.try_acquire(LOCK).await.is_ok());
}

#[actix_rt::test]
async fn manager_that_was_stopped_ends_no_session_for_that_time() {
    time::pause();
    let house = House::new(Limits::default());
    let mut holder = house.far_holder().await;
    // The clock jumps, and no timer runs meanwhile.
    time::advance(3 * LEASE).await;
    tokio::task::yield_now().await;
    holder.beat().await;
    let begun = Instant::now();
    holder.hear_bye().await;
    assert!(is_lease(begun.elapsed()));
}

#[actix_rt::test]
async fn former_session_ends_at_once_for_its_secret_and_for_no_other() {
    time::pause();
    for is_detached in [true, false] {
        let house = House::new(Limits::default());
        let mut holder = house.far_holder().await;
        let right = holder.session(SECRET.of_session(holder.id));
        if is_detached {
            drop(std::mem::replace(
                &mut holder.raw,
                Raw::client_in_memory().0,
            ));
        }
        let mut near = house.near().await;
        let other = house
            .far_again(holder.session(SECRET.of_session(near.id)))
            .await;
        assert!(
            near.try_acquire(LOCK).await.is_err(),
            "the secret was another one"
        );
        let begun = Instant::now();
        let mut again = house.far_again(right).await;
        assert_eq!(again.open_lock("jobs").await, LOCK);
        again
            .try_acquire(LOCK)
            .await
            .expect("the former session has ended");
        assert_eq!(begun.elapsed(), Duration::ZERO);
        patiently(holder.session).await.expect("no panic");
        drop(other);
    }
}

#[actix_rt::test]
async fn goodbye_ends_a_session_before_its_lease() {
    time::pause();
    let house = House::new(Limits::default());
    let holder = house.far_holder().await;
    let mut next = house.near().await;
    holder.raw.send(&Request::Goodbye).await;
    assert_eq!(next.acquires().await, Duration::ZERO);
    holder.close().await;
}
