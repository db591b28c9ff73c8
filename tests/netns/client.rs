//! A client: a process that acquires a lock, writes to a resource, and changes a queue and a value, again and again.
//!
//! The test controls it by files in a folder: a client that keeps its lock while there is `KEEP`, and the end of all
//! clients.

use std::{
    fs::OpenOptions,
    io::Write,
    path::{Path, PathBuf},
    time::Duration,
};

use lockkeeper::{FenceFile, Lock, LockGuard, Manager, Queue, Value, errors::FenceError};
use lockkeeper_test_support::{Roles, report};
use rustix::process::{Signal, set_parent_process_death_signal};
use serde::{Deserialize, Serialize};
use tokio::time::sleep;

use crate::history::{Call, Hold, Record, Recorder, now};

/// While this file exists, the client that keeps its lock does not release it.
pub(crate) const KEEP: &str = "keep";

/// Once this file exists, all clients end.
pub(crate) const END: &str = "end";

/// The file that the holders of the lock write to, one fence a line.
pub(crate) const RESOURCE: &str = "resource";

/// The names of the objects.
pub(crate) const LOCK: &str = "lock";
pub(crate) const ITEMS: &str = "items";
pub(crate) const SUM: &str = "sum";

/// The capacity of the queue: more than all clients put.
pub(crate) const CAPACITY: u32 = 1_000_000;

/// The pause between two checks of a guard, and between two calls.
const PAUSE: Duration = Duration::from_millis(4);

/// How often a holder checks its guard before it releases.
const CHECKS: u32 = 4;

/// An item of the queue: the client, the number of its call, and the payload.
pub(crate) type Item = (String, u64, String);

/// Returns the payload of an item. That of each eighth item fills many packets, so a fault may cut a message.
pub(crate) fn payload(number: u64) -> String {
    let length = if number % 8 == 7 { 1 << 15 } else { 1 };
    number.to_string().repeat(length)
}

/// The argument of the role.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Client {
    pub(crate) name: String,
    pub(crate) address: String,
    pub(crate) folder: PathBuf,
    /// Whether it keeps its lock while there is `KEEP`.
    pub(crate) keeps: bool,
}

pub(crate) fn roles(roles: &mut Roles) {
    roles.add("client", async |client: Client| {
        end_with_parent();
        let manager = loop {
            let builder = Manager::client().reconnect().label(client.name.as_str());
            match builder.connect(client.address.as_str()).await {
                Ok(manager) => break manager,
                // A packet of the handshake may be lost.
                Err(_) => sleep(PAUSE).await,
            }
        };
        let worker = Worker {
            lock: manager.named(LOCK).lock().await.unwrap(),
            items: manager.named(ITEMS).queue(CAPACITY).await.unwrap(),
            sum: manager.named(SUM).value(0).await.unwrap(),
            fences: FenceFile::beside(client.folder.join(RESOURCE)),
            recorder: Recorder::new(&client.folder, &client.name),
            client,
        };
        tokio::join!(worker.hold_again_and_again(), worker.call_again_and_again());
        report("done");
    });
}

/// Ends this process when its parent ends, even if it is stopped then.
pub(crate) fn end_with_parent() {
    set_parent_process_death_signal(Some(Signal::KILL)).expect("Linux has this signal");
}

struct Worker {
    client: Client,
    lock: Lock,
    items: Queue<Item>,
    sum: Value<u64>,
    fences: FenceFile,
    recorder: Recorder,
}

impl Worker {
    async fn hold_again_and_again(&self) {
        while !self.is_told(END) {
            match self.lock.acquire().await {
                Ok(guard) => self.hold(guard).await,
                Err(error) => self.failed("acquire", &error).await,
            }
        }
    }

    /// Uses a guard, and records for how long it was valid.
    async fn hold(&self, guard: LockGuard) {
        let from = now();
        let fence = guard.fence().number();
        self.recorder.add(&Record::Granted { fence, at: from });
        let mut until = None;
        let mut keeps = false;
        let mut checks = 0;
        let lost = loop {
            // Before the check, so the guard was valid at this moment.
            let checked = now();
            if !guard.is_valid() {
                break true;
            }
            until = Some(checked);
            self.write(&guard);
            checks += 1;
            if self.client.keeps && self.is_told(KEEP) {
                if !keeps {
                    self.recorder.add(&Record::Keeps { fence });
                }
                keeps = true;
            } else if checks > CHECKS {
                break false;
            }
            // If this process is stopped here, its next write comes too late, or its next check does.
            sleep(PAUSE).await;
            if checks % 2 == 0 {
                self.write(&guard);
            }
        };
        if let Some(until) = until {
            let hold = Hold { fence, from, until };
            self.recorder.add(&Record::Held { hold, lost });
        }
        if lost {
            guard.lost().await;
        } else if let Err(error) = guard.release().await {
            self.failed("release", &error).await;
        }
    }

    /// Writes the fence to the resource, which refuses it if it is too old.
    fn write(&self, guard: &LockGuard) {
        let fence = guard.fence();
        let written = self.fences.write(fence, || {
            let path = self.client.folder.join(RESOURCE);
            let mut file = OpenOptions::new().append(true).create(true).open(path)?;
            file.write_all(format!("{fence}\n").as_bytes())
        });
        match written {
            Ok(written) => written.expect("the resource can be written"),
            Err(FenceError::Stale { .. }) => self.recorder.add(&Record::Refused {
                fence: fence.number(),
                is_valid: guard.is_valid(),
            }),
            Err(error) => panic!("{error}"),
        }
    }

    async fn call_again_and_again(&self) {
        let mut number = 0;
        while !self.is_told(END) {
            let item = (self.client.name.clone(), number, payload(number));
            self.call(Call::Put(number), self.items.put(item)).await;
            self.call(Call::Add(number), self.sum.fetch_add(1)).await;
            number += 1;
            sleep(PAUSE).await;
        }
    }

    /// Makes a call, and records it before and after.
    async fn call<T, E: std::fmt::Display>(
        &self,
        call: Call,
        answer: impl IntoFuture<Output = Result<T, E>>,
    ) {
        self.recorder.add(&Record::Sent(call));
        match answer.await {
            Ok(_) => self.recorder.add(&Record::Done { call, at: now() }),
            Err(error) => self.failed(&format!("{call:?}"), &error).await,
        }
    }

    /// Records an error, and waits a moment: the next call may fail at once.
    async fn failed(&self, call: &str, error: &impl std::fmt::Display) {
        self.recorder
            .add(&Record::Failed(format!("{call}: {error}")));
        sleep(PAUSE).await;
    }

    fn is_told(&self, file: &str) -> bool {
        Path::new(&self.client.folder).join(file).exists()
    }
}
