//! The task that searches for deadlocks, while at least one call waits.

use std::{collections::BTreeMap, rc::Rc, time::Duration};

use lockkeeper_actors::{Input, Inputs, Shell};
use lockkeeper_protocol::{Deadlock, Fault, Shard};
use tokio::{task, time};

use crate::{
    server::{
        deadlock::{
            find::{Found, Key, find},
            policy::Deadlocks,
        },
        inspection::Inspector,
        supervisor::supervisor::Desk,
    },
    telemetry::manager,
};

/// A look may take this part of the time between two of them.
const PART: u32 = 20;

/// Looks for deadlocks until the manager ends. It sleeps while no call waits.
///
/// A release or a withdrawal may be on its way to the manager; so a deadlock is one when the same
/// calls wait and hold at two looks.
pub(crate) async fn watch(policy: Deadlocks, shell: Rc<Shell>, supervisor: Desk) {
    // Those of the last look, and whether they were told.
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

impl Deadlocks {
    /// Does what is to be done about a deadlock that stands.
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
