//! Sessions over a network: leases, detached sessions, and managers after an unclean end.
//!
//! The network is TCP over the loopback device, with a relay that loses what a network may lose. Each test
//! compares moments of one clock, so a slow machine changes no outcome.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use lockkeeper::{
    Address, CallError, Lock, Manager, StartError,
    builders::{ManagerBuilder, Program},
};
use lockkeeper_test_support::{Link, Relay, Role, Roles, kill, report, signal};
use rustix::process::Signal;
use tempfile::TempDir;

use crate::{
    own_transport::{Tcp, free_ports},
    run,
};

/// The shortest lease.
const SHORT: Duration = Duration::from_secs(2);

/// A lease that no test waits for.
const LONG: Duration = Duration::from_secs(300);

pub(crate) fn register(program: Program) -> Program {
    program.transport("lan", Tcp { is_network: true })
}

pub(crate) fn roles(roles: &mut Roles) {
    roles.add("leases::holder", async |lock: Lock| {
        let guard = lock.acquire().await.unwrap();
        report("held");
        guard.lost().await;
        report(if guard.is_valid() { "valid" } else { "lost" });
    });
    roles.add("leases::manager", async |(port, folder): (u16, String)| {
        let manager = at(port, SHORT, folder.as_ref()).start().await.unwrap();
        report("serves");
        std::future::pending::<()>().await;
        drop(manager);
    });
}

fn address(port: u16) -> Address {
    Address::try_from(format!("lan:127.0.0.1:{port}")).unwrap()
}

fn at(port: u16, lease: Duration, folder: &Path) -> ManagerBuilder {
    let builder = Manager::builder().address(address(port)).lease(lease);
    builder.state_folder(folder.join("state"))
}

/// A manager, a lock that is reached through a relay, and the same lock without the relay.
struct Scene {
    manager: Manager,
    relay: Relay,
    far: Manager,
    far_lock: Lock,
    near_lock: Lock,
    folder: TempDir,
}

impl Scene {
    async fn with(lease: Duration) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let port = free_ports(2);
        let manager = at(port, lease, folder.path()).start().await.unwrap();
        let relay = Relay::start(port + 1, port);
        let far = Manager::client().reconnect();
        let far = far.connect(address(port + 1)).await.unwrap();
        Self {
            far_lock: far.named("lock").lock().await.unwrap(),
            near_lock: manager.named("lock").lock().await.unwrap(),
            manager,
            relay,
            far,
            folder,
        }
    }
}

#[test]
fn idle_client_keeps_what_it_holds() {
    run(async {
        let scene = Scene::with(SHORT).await;
        let guard = scene.far_lock.acquire().await.unwrap();
        let waiting = scene.near_lock.acquire().timeout(2 * SHORT).await;
        assert!(
            matches!(waiting, Err(CallError::TimedOut(_))),
            "{waiting:?}"
        );
        assert!(guard.is_valid());
        guard.release().await.unwrap();
    });
}

#[test]
fn client_that_is_cut_off_gives_up_before_another_is_granted() {
    run(async {
        for link in [Link::Down, Link::CutAtManager] {
            let scene = Scene::with(SHORT).await;
            let guard = scene.far_lock.acquire().await.unwrap();
            let lost = guard.lost();
            let lost = tokio::spawn(async move {
                lost.await;
                Instant::now()
            });
            let next = scene.near_lock.clone();
            let next = tokio::spawn(async move {
                let next = next.acquire().await.unwrap();
                (next, Instant::now())
            });
            scene.relay.set(link);
            let (next, granted) = next.await.unwrap();
            assert!(lost.await.unwrap() < granted, "{link:?}");
            assert!(!guard.is_valid());
            assert!(next.abandoned().is_some());
            let late = guard.release().await.unwrap_err().to_string();
            assert!(late.contains("lease"), "{late}");
        }
    });
}

#[test]
fn next_session_of_a_client_ends_the_former_one_at_once() {
    run(async {
        let scene = Scene::with(LONG).await;
        let guard = scene.far_lock.acquire().await.unwrap();
        scene.relay.set(Link::CutAtClient);
        guard.lost().await;
        let held = scene.near_lock.try_acquire().await.unwrap();
        assert!(held.is_none(), "the manager does not know of the end");
        scene.relay.set(Link::Up);
        let again = scene.far_lock.acquire().await.unwrap();
        assert!(again.abandoned().is_some());
        again.release().await.unwrap();
    });
}

#[test]
fn client_that_sends_goodbye_frees_at_once_what_it_holds() {
    run(async {
        let scene = Scene::with(LONG).await;
        // A ticket keeps no connection.
        let ticket = scene.far_lock.acquire().await.unwrap().into_ticket();
        assert!(scene.near_lock.try_acquire().await.unwrap().is_none());
        let Scene { far, far_lock, .. } = scene;
        drop((far, far_lock));
        let next = scene.near_lock.acquire().await.unwrap();
        assert_eq!(
            next.abandoned().map(|mark| mark.fence),
            Some(ticket.fence())
        );
        drop(scene.manager);
    });
}

#[test]
fn killed_client_keeps_its_lock_for_at_most_its_lease() {
    run(async {
        let scene = Scene::with(SHORT).await;
        let mut holder = Role::start("leases::holder", &scene.near_lock);
        assert_eq!(holder.next_report(), "held");
        holder.kill();
        // The end of its stream is no proof of its end.
        assert!(scene.near_lock.try_acquire().await.unwrap().is_none());
        let next = scene.near_lock.acquire().await.unwrap();
        assert_eq!(next.abandoned().unwrap().holder.pid, holder.pid());
    });
}

#[test]
fn client_that_was_stopped_for_longer_than_its_lease_has_lost_its_lock() {
    run(async {
        let scene = Scene::with(SHORT).await;
        let mut holder = Role::start("leases::holder", &scene.near_lock);
        assert_eq!(holder.next_report(), "held");
        signal(holder.pid(), Signal::STOP);
        let next = scene.near_lock.acquire().await.unwrap();
        signal(holder.pid(), Signal::CONT);
        assert_eq!(holder.next_report(), "lost");
        assert!(next.is_valid());
    });
}

#[test]
fn manager_after_one_that_was_killed_grants_nothing_for_the_longest_lease() {
    run(async {
        let folder = tempfile::tempdir().unwrap();
        let port = free_ports(1);
        let place = folder.path().to_str().unwrap().to_owned();
        let mut first = Role::start("leases::manager", &(port, place));
        assert_eq!(first.next_report(), "serves");
        let far = Manager::connect(address(port)).await.unwrap();
        let guard = far.lock().await.unwrap().acquire().await.unwrap();
        kill(first.pid());
        let killed = Instant::now();
        guard.lost().await;
        // The start of a process reports its wait to the parent.
        let second = at(port, LONG, folder.path()).spawn().await.unwrap();
        assert!(killed.elapsed() >= SHORT);
        second.shutdown().await;
        // After a clean end there is no silence, although the longest lease is that of the second now.
        let third = at(port, SHORT, folder.path()).start().await.unwrap();
        third.shutdown().await;
    });
}

#[test]
fn end_of_a_manager_whose_client_may_be_unaware_of_it_is_not_clean() {
    run(async {
        let scene = Scene::with(SHORT).await;
        let guard = scene.far_lock.acquire().await.unwrap();
        scene.relay.set(Link::Down);
        let address = scene.manager.address().clone();
        scene.manager.shutdown().await;
        let next = Manager::builder().address(address).lease(SHORT);
        let next = next.state_folder(scene.folder.path().join("state"));
        let next = next.start().await.unwrap();
        assert!(
            !guard.is_valid(),
            "it has given up before the next manager serves"
        );
        drop(next);
    });
}

#[test]
fn network_without_a_state_folder_and_leases_out_of_range_are_refused() {
    run(async {
        let port = free_ports(1);
        let refused = Manager::builder().address(address(port)).start().await;
        let refused = refused.map(drop).unwrap_err();
        assert!(
            matches!(&refused, StartError::InvalidSettings(why) if why.contains("state_folder"))
        );
        let folder = tempfile::tempdir().unwrap();
        for lease in [Duration::ZERO, SHORT / 2, 2 * LONG, Duration::MAX] {
            let refused = at(port, lease, folder.path()).start().await;
            let refused = refused.map(drop).unwrap_err();
            assert!(
                matches!(&refused, StartError::InvalidSettings(why) if why.contains("2s to 300s"))
            );
        }
    });
}
