//! Managers whose processes have no descriptor for another client: the client gets an error that says so,
//! and existing sessions continue.

use std::{
    collections::BTreeSet,
    fs,
    future::pending,
    os::unix::net::UnixStream,
    thread,
    time::{Duration, Instant},
};

use lockkeeper::{Address, Manager};
use lockkeeper_test_support::{Role, Roles, report};
use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};

use crate::run;

pub(crate) fn roles(roles: &mut Roles) {
    roles.add("wants::full_manager", serve);
}

/// Starts a manager on threads or in its own process. Reports its process and its address.
async fn serve((shards, is_spawned): (usize, bool)) {
    let builder = Manager::builder().shards(shards);
    let manager = if is_spawned {
        builder.spawn().await.unwrap()
    } else {
        builder.start().await.unwrap()
    };
    let lock = manager.lock().await.unwrap();
    report(&lock.acquire().await.unwrap().fence().to_string());
    report(&manager.address().to_string());
    pending::<()>().await;
}

/// Returns the process of the manager: the role, or its only child.
fn server_of(role: &Role, is_spawned: bool) -> u32 {
    if !is_spawned {
        return role.pid();
    }
    let threads = fs::read_dir(format!("/proc/{}/task", role.pid())).unwrap();
    let children = threads.map(|thread| {
        // A thread may have ended meanwhile.
        fs::read_to_string(thread.unwrap().path().join("children")).unwrap_or_default()
    });
    let children = children.collect::<String>();
    children.trim().parse().expect("the role has one child")
}

fn descriptors_of(pid: u32) -> BTreeSet<u64> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    let number = |name: String| name.parse().unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.map(number).collect()
}

/// Sets the limit of another process, and returns the old limit.
fn limit(pid: u32, current: u64) -> u64 {
    let pid = Pid::from_raw(pid.try_into().unwrap());
    let new = Rlimit {
        current: Some(current),
        maximum: getrlimit(Resource::Nofile).maximum,
    };
    let before = prlimit(pid, Resource::Nofile, new).unwrap();
    before.current.unwrap()
}

/// Limits a process to its open descriptors. Connections, which the caller keeps, use the free ones
/// below the highest.
fn fill(pid: u32, address: &Address) -> (Vec<UnixStream>, u64) {
    let has = descriptors_of(pid);
    let all = has.last().unwrap() + 1;
    let before = limit(pid, all);
    let free = all - u64::try_from(has.len()).unwrap();
    let path = address.path().unwrap();
    let connect = |_| UnixStream::connect(path).unwrap();
    let taken = (0..free).map(connect).collect();
    let deadline = Instant::now() + Duration::from_secs(10);
    while u64::try_from(descriptors_of(pid).len()).unwrap() < all {
        assert!(Instant::now() < deadline, "the manager accepts no client");
        thread::sleep(Duration::from_millis(1));
    }
    (taken, before)
}

#[test]
fn client_without_a_descriptor_in_the_manager_gets_an_error_and_connects_later() {
    run(async {
        for (shards, is_spawned) in [(1, false), (3, false), (1, true)] {
            let mut role = Role::start("wants::full_manager", &(shards, is_spawned));
            role.next_report();
            let address: Address = role.next_report().parse().unwrap();
            let pid = server_of(&role, is_spawned);
            let (_taken, before) = fill(pid, &address);
            for _ in 0..2 {
                let begun = Instant::now();
                let refused = Manager::connect(address.clone()).await.map(drop);
                let refused = refused.unwrap_err().to_string();
                assert!(refused.contains("ulimit -n"), "{refused}");
                assert!(refused.contains("the manager's process"), "{refused}");
                // Clients time out after ten seconds.
                assert!(begun.elapsed() < Duration::from_secs(8));
            }
            limit(pid, before);
            let manager = Manager::connect(address).await.unwrap();
            drop(manager.lock().await.unwrap().acquire().await.unwrap());
        }
    });
}
