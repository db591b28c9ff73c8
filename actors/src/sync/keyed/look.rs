//! The reports of a keyed object about its keys: surveys, statuses, and pages of keys.

use std::collections::BTreeSet;

use lockkeeper_protocol::{
    Refusal,
    operations::{GetKeyStatus, GetKeyedStatus, Key, KeyPage, KeyStatus, KeyedStatus, ListKeys},
};

use crate::{
    kind::{
        call::Call,
        primitive::Serve,
        survey::{Holding, Part, Survey, Waiting},
    },
    sync::{
        exclusion::count,
        keyed::{
            entries::Entry,
            keyed::{Keyed, KeyedVariant},
        },
    },
};

impl<F> Keyed<F> {
    /// The keys with waiting calls, and other keys up to the limit.
    pub(super) fn tell(&self) -> Survey {
        let waits = self.waits.all().take(Survey::MOST);
        let contended: BTreeSet<u32> = waits.map(|wait| wait.entry).collect();
        let others = self.entries.iter().map(|(place, _)| place);
        let others = others.filter(|place| !contended.contains(place));
        let places = contended.iter().copied().chain(others);
        let entries = places.filter_map(|place| self.entries.at(place));
        let mut room = (Survey::MOST, Survey::MOST);
        let mut parts: Vec<Part> = entries
            .take(Survey::MOST)
            .map(|entry| self.part(entry, &mut room))
            .collect();
        parts.sort_by(|one, other| one.key.cmp(&other.key));
        let told = |count: fn(&Part) -> u64| parts.iter().map(count).sum::<u64>();
        let rest = Part {
            more_holders: count(self.holds.len())
                .saturating_sub(told(|part| count(part.holders.len()) + part.more_holders)),
            more_waiters: count(self.waits.len())
                .saturating_sub(told(|part| count(part.waiters.len()) + part.more_waiters)),
            ..Part::default()
        };
        if rest != Part::default() {
            parts.push(rest);
        }
        Survey {
            state: format!(
                "{} keys held, {} free but abandoned",
                self.entries.used(),
                self.entries.idle()
            ),
            parts,
        }
    }

    /// The holders and waiters of a key, each up to a limit.
    fn part(&self, entry: &Entry, (holding, waiting): &mut (usize, usize)) -> Part {
        let holders = self.holds.iter(&entry.holders).map(|(call, hold)| Holding {
            call,
            units: hold.permits.get().into(),
            mode: "",
            since: hold.since(),
            fence: Some(hold.fence),
        });
        let waiters = self.waits.iter(&entry.line).map(|(call, wait)| Waiting {
            call,
            units: wait.permits.get().into(),
            mode: "",
            since: wait.call.arrived(),
        });
        let holders: Vec<Holding> = holders.take(*holding).collect();
        let waiters: Vec<Waiting> = waiters.take(*waiting).collect();
        *holding -= holders.len();
        *waiting -= waiters.len();
        Part {
            key: Some(entry.key.as_str().to_owned()),
            units: Some(self.most.into()),
            holders,
            waiters,
            ..Part::default()
        }
    }

    fn status(&self, key: &Key) -> KeyStatus {
        let place = self.entries.find(key);
        let entry = place.and_then(|place| self.entries.at(place));
        let taken = entry.map_or(0, |entry| entry.taken);
        let mut status = KeyStatus::default();
        status.available = (self.most - taken).into();
        status.held = taken.into();
        status.waiting = entry.map_or(0, |entry| entry.waiting).into();
        status.is_abandoned = entry.is_some_and(Entry::is_marked);
        status
    }
}

impl<F: KeyedVariant> Serve<GetKeyStatus> for Keyed<F> {
    fn serve(
        &mut self,
        GetKeyStatus { key }: GetKeyStatus,
        call: Call<Result<KeyStatus, Refusal>>,
    ) {
        call.reply(key.check().map(|()| self.status(&key)));
    }
}

impl<F: KeyedVariant> Serve<GetKeyedStatus> for Keyed<F> {
    fn serve(&mut self, _: GetKeyedStatus, call: Call<KeyedStatus>) {
        let mut status = KeyedStatus::default();
        status.keys = count(self.entries.used());
        status.grants = count(self.holds.len());
        status.waiting = count(self.waits.len());
        status.abandoned = count(self.entries.idle());
        call.reply(status);
    }
}

impl<F: KeyedVariant> Serve<ListKeys> for Keyed<F> {
    fn serve(&mut self, ListKeys { from }: ListKeys, call: Call<KeyPage>) {
        call.reply(self.entries.page(from));
    }
}
