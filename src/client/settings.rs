//! The settings of this process as a client, kept for each manager that it has chosen some for.
//!
//! They are beside the connections and not in them, so that a connection which is made anew has them too.
//! Invariant: the settings of one manager have no effect on connections to another.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use lockkeeper_protocol::{Shard, ShardOf, cut};
use lockkeeper_sys::Inherited;

use crate::address::Address;

/// How this process is a client of a manager.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Settings {
    label: String,
    pub(super) spin: Duration,
    pub(super) on_loss: OnLoss,
}

/// What the next call of a proxy does whose connection is lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum OnLoss {
    /// It fails.
    #[default]
    Fail,
    /// It connects anew.
    Reconnect,
}

/// The longest time to look for an answer.
const MOST_SPIN: Duration = Duration::from_millis(1);

/// The settings that were chosen, by the place of the manager's shard. A forked child has those of its parent.
static CHOSEN: Inherited<BTreeMap<String, Arc<Settings>>> = Inherited::new(BTreeMap::new());

impl Settings {
    /// Chooses the text that names this process.
    pub(crate) fn label(&mut self, label: &str) {
        cut(label).clone_into(&mut self.label);
    }

    /// Chooses how long calls look for their answers before they sleep.
    pub(crate) fn spin(&mut self, time: Duration) {
        self.spin = time.min(MOST_SPIN);
    }

    /// Chooses to connect anew after a loss.
    pub(crate) const fn reconnect(&mut self) {
        self.on_loss = OnLoss::Reconnect;
    }

    /// Makes them those of this process for the manager at an address. Connections that are made from now on
    /// have them.
    pub(crate) fn choose(self, address: &Address) {
        let settings = Arc::new(self);
        CHOSEN.with(|chosen| chosen.insert(key(address), settings));
    }

    /// Returns the text that names this process.
    pub(super) fn name(&self) -> &str {
        &self.label
    }

    /// Makes them those for all shards of a manager, whose address is that of one of them.
    pub(super) fn choose_for_all(self: &Arc<Self>, address: &Address, shard_of: ShardOf) {
        let Some(manager) = address.of_manager(shard_of.shard) else {
            return;
        };
        CHOSEN.with(|chosen| {
            // Others may have been chosen since the connection was begun.
            if chosen.get(&key(address)) == Some(self) {
                let shards = Shard::all(shard_of.shard.of());
                let places = shards.map(|shard| key(&manager.of(shard)));
                chosen.extend(places.map(|place| (place, Arc::clone(self))));
            }
        });
    }
}

/// Returns the settings that were chosen for the manager at an address.
pub(super) fn chosen(address: &Address) -> Option<Arc<Settings>> {
    CHOSEN.with(|chosen| chosen.get(&key(address)).cloned())
}

/// The place that an address leads to, whichever user's manager is accepted there.
fn key(address: &Address) -> String {
    let (scheme, place) = address.parts();
    format!("{scheme}:{place}")
}
