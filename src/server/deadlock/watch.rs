//! The task that searches for deadlocks, while at least one call waits.

use std::{collections::BTreeMap, rc::Rc, time::Duration};

use lockkeeper_actors::{Input, Inputs, Shell};
use lockkeeper_protocol::{Deadlock, Fault, Shard};
use tokio::{task, time};

use crate::{
    server::{
        deadlock::{
            find::{Found, find},
            policy::DeadlockPolicy,
            report::Key,
        },
        inspection::Inspector,
        supervisor::supervisor::Desk,
    },
    telemetry::manager,
};

/// A search may take this fraction of the time between two searches.
const PART: u32 = 20;

/// Searches for deadlocks until the manager ends. The task sleeps while no call waits.
///
/// A release or a withdrawal may be on its way to the manager, so a deadlock counts only when the same calls
/// wait and hold in two searches.
pub(crate) async fn watch(policy: DeadlockPolicy, shell: Rc<Shell>, supervisor: Desk) {
    // The deadlocks of the last search, and whether each was reported.
    let mut known: BTreeMap<Key, bool> = BTreeMap::new();
    let mut pause = policy.plan.every;
    loop {
        shell.contended().gathered().await;
        time::sleep(pause).await;
        let begun = shell.now();
        let inspector = Inspector {
            supervisor: &supervisor,
            shell: &shell,
            shard: Shard::ALONE,
            most_bytes: usize::MAX,
            by: None,
        };
        let Ok(found) = find(&inspector).await else {
            return;
        };
        let mut seen = BTreeMap::new();
        for found in found {
            let before = known.get(&found.key).copied();
            if before == Some(false) {
                policy.act(&found, shell.now());
            }
            seen.insert(found.key, before.is_some());
        }
        known = seen;
        let took = shell.now().saturating_sub(begun);
        pause = policy.plan.every.max(took * PART);
    }
}

impl DeadlockPolicy {
    /// Reports a deadlock that two searches have found, and fails a call of it, as the policy says.
    fn act(&self, found: &Found, now: Duration) {
        let deadlock = &found.deadlock;
        manager::deadlock_found(deadlock);
        if self.plan.prints {
            eprintln!("lockkeeper: {deadlock}");
        }
        if let Some(report) = self.report.clone() {
            let deadlock = Deadlock::clone(deadlock);
            drop(task::spawn_blocking(move || report(deadlock)));
        }
        if self.plan.fails {
            let (mailbox, call) = &found.victim;
            let fault = Fault::Deadlock(Box::new(deadlock.clone()));
            mailbox.do_send(Inputs::one(now, Input::Fail(*call, Box::new(fault))));
        }
    }
}
