//! A scene: a manager and clients in two namespaces, a fault, and the checks after it.

use std::{
    fs,
    path::PathBuf,
    time::{Duration, Instant},
};

use lockkeeper::{Lock, Manager, Queue, Value, net::make_key_file};
use lockkeeper_test_support::{Role, Roles, report, until};
use tempfile::TempDir;
use tokio::time::sleep;

use crate::{
    LEASE,
    check::Evidence,
    client::{
        CAPACITY, Client, END, ITEMS, Item, KEEP, LOCK, RESOURCE, SUM, end_with_parent, payload,
    },
    delay::DelayLine,
    history::{Call, History, Record, now},
    network::{NEAR, Network, PORT, Side},
    run,
};

/// The client that keeps its lock when a fault begins. It is on the other side of the network.
pub(crate) const HOLDER: &str = "holder";

/// All clients, and whether each is on the other side of the network.
const CLIENTS: [(&str, Side); 4] = [
    (HOLDER, Side::Far),
    ("far", Side::Far),
    ("near", Side::Near),
    (LOCAL, Side::Near),
];

/// The client that uses the socket of the manager in place of the network.
const LOCAL: &str = "local";

/// The time limit for a state, and the time between two looks at the histories.
const TIMEOUT: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(20);

/// The number of violations that are shown.
const SHOWN: usize = 6;

/// The folder of the manager and all clients of a scene.
#[derive(Debug)]
pub(crate) struct Site {
    folder: TempDir,
}

impl Site {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let site = Self { folder };
        make_key_file(site.path("key")).unwrap();
        site
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Starts the manager in its namespace, and returns its process and its endpoint.
    pub(crate) fn start_manager(&self, network: &Network) -> (Role, String) {
        let mut program = network.this_program(Side::Near);
        let folder = self.folder.path();
        let mut manager = Role::start_by(&mut program, "manager", &folder);
        let endpoint = manager.next_report();
        (manager, endpoint)
    }

    /// Starts a process that has the key, in a namespace.
    pub(crate) fn start(
        &self,
        (network, side): (&Network, Side),
        role: &str,
        argument: &impl serde::Serialize,
    ) -> Role {
        let mut program = network.this_program(side);
        program.env("LOCKKEEPER_KEY_FILE", self.path("key"));
        Role::start_by(&mut program, role, argument)
    }

    /// Connects to the manager without the network.
    pub(crate) async fn connect(&self) -> Manager {
        Manager::connect(self.path("socket").as_path())
            .await
            .unwrap()
    }
}

pub(crate) fn roles(roles: &mut Roles) {
    roles.add("manager", async |folder: PathBuf| {
        end_with_parent();
        let builder = Manager::builder().lease(LEASE);
        let builder = builder.state_folder(folder.join("state"));
        let builder = builder.key_file(folder.join("key"));
        let builder = builder.address(folder.join("socket").as_path());
        let builder = builder.listen(format!("tls://{NEAR}:{PORT}"));
        let manager = builder.start().await.unwrap();
        report(&manager.endpoints()[0].to_string());
        std::future::pending::<()>().await;
    });
}

/// A manager and clients that record what they do.
#[derive(Debug)]
pub(crate) struct Scene {
    pub(crate) network: Network,
    /// What the far clients go through, in a scene with a delay.
    pub(crate) delay: Option<DelayLine>,
    manager: Role,
    clients: Vec<(Role, History)>,
    /// The fence of the lock that the holder keeps, or that it has lost since.
    kept: u64,
    site: Site,
}

/// How the far clients reach the manager.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Route {
    Direct,
    Delayed,
}

/// Runs a scene: all clients go on, the holder keeps its lock, the fault comes and ends, and all clients go on again.
pub(crate) fn play(route: Route, fault: impl AsyncFnOnce(&mut Scene)) {
    run(async {
        let Some(network) = Network::new() else {
            return;
        };
        let mut scene = Scene::start(network, route);
        scene.all_go_on().await;
        scene.holder_keeps_its_lock().await;
        fault(&mut scene).await;
        scene.heal();
        scene.all_go_on().await;
        scene.end().await;
    });
}

impl Scene {
    fn start(network: Network, route: Route) -> Self {
        let site = Site::new();
        let (manager, endpoint) = site.start_manager(&network);
        let delay = match route {
            Route::Direct => None,
            Route::Delayed => Some(DelayLine::start(&network, site.folder.path())),
        };
        let clients = CLIENTS.map(|(name, side)| {
            let direct = format!("{NEAR}:{PORT}");
            let address = match (name, side, &delay) {
                (LOCAL, _, _) => site.path("socket").to_str().unwrap().to_owned(),
                (_, Side::Far, Some(delay)) => {
                    endpoint.replace(&direct, &format!("127.0.0.1:{}", delay.port()))
                }
                (_, Side::Near, _) | (_, Side::Far, None) => endpoint.clone(),
            };
            let client = Client {
                name: name.to_owned(),
                address,
                folder: site.folder.path().to_owned(),
                keeps: name == HOLDER,
            };
            let role = site.start((&network, side), "client", &client);
            (role, History::new(site.folder.path(), name))
        });
        Self {
            network,
            delay,
            manager,
            clients: clients.into(),
            kept: 0,
            site,
        }
    }

    /// The process of the manager.
    pub(crate) fn manager(&self) -> u32 {
        self.manager.pid()
    }

    /// The process of the holder.
    pub(crate) fn holder(&self) -> u32 {
        self.clients[0].0.pid()
    }

    /// Waits until another client than the holder has been granted the lock since now.
    pub(crate) async fn another_is_granted(&mut self) {
        let begun = now();
        self.until("another client is granted the lock", |histories| {
            let others = histories.iter().filter(|history| history.client != HOLDER);
            let mut records = others.flat_map(|history| &history.records);
            records.any(|record| matches!(record, Record::Granted { at, .. } if *at > begun))
        })
        .await;
    }

    /// Waits until the holder has lost the lock that it kept.
    pub(crate) async fn holder_has_lost_its_lock(&mut self) {
        let kept = self.kept;
        self.until("the holder has lost its lock", |histories| {
            let mut records = histories[0].records.iter();
            records.any(
                |record| matches!(record, Record::Held { hold, lost: true } if hold.fence == kept),
            )
        })
        .await;
    }

    /// Waits until each client has acquired the lock and made calls since now.
    pub(crate) async fn all_go_on(&mut self) {
        let begun = now();
        self.until("all clients go on", |histories| {
            histories.iter().all(|history| {
                let after = |at: &Duration| *at > begun;
                let is_put = |call: &Call| matches!(call, Call::Put(_));
                let mut seen = [0; 3];
                for record in &history.records {
                    match record {
                        Record::Granted { at, .. } if after(at) => seen[0] += 1,
                        Record::Done { call, at } if after(at) => {
                            seen[if is_put(call) { 1 } else { 2 }] += 1;
                        }
                        _ => {}
                    }
                }
                seen.iter().all(|times| *times >= 2)
            })
        })
        .await;
    }

    /// Waits until the holder keeps its lock, which it does not release until the scene is healed.
    pub(crate) async fn holder_keeps_its_lock(&mut self) {
        fs::write(self.site.path(KEEP), []).unwrap();
        self.until("the holder keeps its lock", |histories| {
            histories[0].kept().is_some()
        })
        .await;
        self.kept = self.clients[0].1.kept().expect("it was there");
    }

    fn heal(&self) {
        self.network.heal();
        fs::remove_file(self.site.path(KEEP)).unwrap();
    }

    /// Ends the clients, and checks what they have recorded.
    async fn end(mut self) {
        fs::write(self.site.path(END), []).unwrap();
        for (role, history) in &mut self.clients {
            assert_eq!(role.next_report(), "done");
            history.refresh();
        }
        let manager = self.site.connect().await;
        let lock: Lock = manager.named(LOCK).lock().await.unwrap();
        until("no session holds the lock or waits for it", async || {
            let status = lock.status().await.unwrap();
            !status.is_held && status.waiting == 0
        })
        .await;
        let queue: Queue<Item> = manager.named(ITEMS).queue(CAPACITY).await.unwrap();
        let sum: Value<u64> = manager.named(SUM).value(0).await.unwrap();
        let writes = fs::read_to_string(self.site.path(RESOURCE)).unwrap();
        let mut evidence = Evidence {
            writes: writes.lines().map(|line| line.parse().unwrap()).collect(),
            sum: sum.get().await.unwrap(),
            ..Evidence::default()
        };
        while let Some(item) = queue.try_get().await.unwrap() {
            let (client, number, content) = &*item;
            assert!(
                *content == payload(*number),
                "item {number} of {client} was changed"
            );
            evidence.items.push((client.clone(), *number));
            item.done().await.unwrap();
        }
        for (_, history) in self.clients {
            evidence.histories.push((history.client, history.records));
        }
        let violations = evidence.violations();
        let few = &violations[..violations.len().min(SHOWN)];
        assert!(
            violations.is_empty(),
            "{} violations, at first:\n{}\n",
            violations.len(),
            few.join("\n")
        );
    }

    /// Waits for a state of the histories.
    async fn until(&mut self, what: &str, state: impl Fn(&[&History]) -> bool) {
        let deadline = Instant::now() + TIMEOUT;
        loop {
            self.clients
                .iter_mut()
                .for_each(|(_, history)| history.refresh());
            let histories: Vec<_> = self.clients.iter().map(|(_, history)| history).collect();
            if state(&histories) {
                return;
            }
            let last = || histories.iter().map(|history| history.last());
            let last = || last().collect::<Vec<_>>().join("\n");
            assert!(
                Instant::now() < deadline,
                "not within {TIMEOUT:?}: {what}\n{}",
                last()
            );
            sleep(POLL).await;
        }
    }
}
