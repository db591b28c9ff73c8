//! Programs on two machines: processes that count under one lock, and a pool whose tasks share a semaphore.

use lockkeeper::{Address, CallError, Manager, Pool, Semaphore, Task, Value, builders::Program};
use lockkeeper_test_support::{Role, Roles, report};
use serde::{Deserialize, Serialize};

use crate::{
    client::end_with_parent,
    network::{Network, Side},
    run,
    scene::Site,
};

/// The processes that count, and how often each does.
const PROCESSES: u64 = 10;
const TIMES: u64 = 20;

/// The workers and tasks of the pool, and the permits that the tasks share.
const WORKERS: usize = 4;
const TASKS: u64 = 40;
const PERMITS: u32 = 2;

pub(crate) fn register(program: Program) -> Program {
    program.task::<Draw>()
}

/// A number that is drawn while few tasks are inside.
#[derive(Debug, Serialize, Deserialize)]
struct Draw {
    number: u64,
    permits: Semaphore,
    /// How many tasks are inside, and how many were at most.
    inside: Value<(u64, u64)>,
}

impl Task for Draw {
    const NAME: &'static str = "netns::draw";
    type Output = Result<u64, CallError>;

    async fn run(self) -> Self::Output {
        let _permit = self.permits.acquire().await?;
        let enter = |(now, most): (u64, u64)| (now + 1, most.max(now + 1));
        self.inside.update(enter).await?;
        self.inside.update(|(now, most)| (now - 1, most)).await?;
        Ok(self.number * self.number)
    }
}

pub(crate) fn roles(roles: &mut Roles) {
    roles.add("counter", async |endpoint: Address| {
        end_with_parent();
        let manager = Manager::connect(endpoint).await.unwrap();
        let lock = manager.named("lock").lock().await.unwrap();
        let count = manager.named("count").value(0_u64).await.unwrap();
        for _ in 0..TIMES {
            let guard = lock.acquire().await.unwrap();
            let old = count.get().await.unwrap();
            count.set(old + 1).await.unwrap();
            guard.release().await.unwrap();
        }
        report("done");
    });
    roles.add("pool", async |endpoint: Address| {
        end_with_parent();
        let manager = Manager::connect(endpoint).await.unwrap();
        let permits = manager.semaphore(PERMITS).await.unwrap();
        let inside = manager.named("inside").value((0, 0)).await.unwrap();
        let pool = Pool::new(WORKERS).await.unwrap();
        let draws = (0..TASKS).map(|number| Draw {
            number,
            permits: permits.clone(),
            inside: inside.clone(),
        });
        let squares = pool.try_map(draws).await.unwrap();
        let sum: u64 = squares.into_iter().map(Result::unwrap).sum();
        report(&sum.to_string());
    });
}

/// Starts the manager of a program, or returns `None` if this machine cannot make namespaces.
fn start() -> Option<(Network, Site, Role, Address)> {
    let network = Network::new()?;
    let site = Site::new();
    let (manager, endpoint) = site.start_manager(&network);
    let endpoint = endpoint.parse().unwrap();
    Some((network, site, manager, endpoint))
}

#[test]
fn ten_processes_in_two_namespaces_count_under_one_lock() {
    run(async {
        let Some((network, site, _manager, endpoint)) = start() else {
            return;
        };
        let sides = [Side::Near, Side::Far].into_iter().cycle();
        let mut all: Vec<_> = (0..PROCESSES)
            .zip(sides)
            .map(|(_, side)| site.start((&network, side), "counter", &endpoint))
            .collect();
        for process in &mut all {
            assert_eq!(process.next_report(), "done");
        }
        let count = site
            .connect()
            .await
            .named("count")
            .value(0_u64)
            .await
            .unwrap();
        assert_eq!(count.get().await.unwrap(), PROCESSES * TIMES);
    });
}

#[test]
fn workers_of_a_pool_share_a_semaphore_of_the_other_namespace() {
    run(async {
        let Some((network, site, _manager, endpoint)) = start() else {
            return;
        };
        let mut pool = site.start((&network, Side::Far), "pool", &endpoint);
        let sum: u64 = (0..TASKS).map(|number| number * number).sum();
        assert_eq!(pool.next_report(), sum.to_string());
        let inside = site.connect().await.named("inside").value((0, 0)).await;
        let (now, most): (u64, u64) = inside.unwrap().get().await.unwrap();
        assert_eq!(now, 0);
        assert!((1..=u64::from(PERMITS)).contains(&most), "{most}");
    });
}
