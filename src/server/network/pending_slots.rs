//! `PendingSlots`: limits the callers of one machine that have not proved a key yet.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// The most callers of one machine.
pub(super) const MOST_OF_ONE: usize = 64;

/// The callers of each machine. Clones share the counts.
#[derive(Clone, Debug, Default)]
pub(super) struct PendingSlots(Arc<Mutex<HashMap<IpAddr, CallerCount>>>);

/// The callers of a machine.
#[derive(Debug, Default)]
struct CallerCount {
    now: usize,
    /// The number of callers that got no slot, since the machine had none last.
    refused: u64,
}

/// The slot of one caller, until it is dropped.
#[derive(Debug)]
pub(super) struct PendingSlot {
    slots: PendingSlots,
    machine: IpAddr,
}

impl PendingSlots {
    /// Gives a caller a slot. If its machine has too many callers, returns how many of them got none meanwhile.
    pub(super) fn take(&self, host: IpAddr) -> Result<PendingSlot, u64> {
        let machine = machine(host);
        let mut all = self.lock();
        let taken = all.entry(machine).or_default();
        if taken.now >= MOST_OF_ONE {
            taken.refused += 1;
            return Err(taken.refused);
        }
        taken.now += 1;
        drop(all);
        let slots = self.clone();
        Ok(PendingSlot { slots, machine })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, CallerCount>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for PendingSlot {
    fn drop(&mut self) {
        let mut all = self.slots.lock();
        if let Some(taken) = all.get_mut(&self.machine) {
            taken.now = taken.now.saturating_sub(1);
            if taken.now == 0 {
                all.remove(&self.machine);
            }
        }
    }
}

/// Returns the address that identifies a machine. A machine with IPv6 chooses the last 64 bits of its address
/// itself.
fn machine(host: IpAddr) -> IpAddr {
    match host.to_canonical() {
        IpAddr::V4(host) => host.into(),
        IpAddr::V6(host) => Ipv6Addr::from_bits(host.to_bits() & !u128::from(u64::MAX)).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_machine_has_so_many_places_and_others_have_theirs() {
        let slots = PendingSlots::default();
        for (one, same, other) in [
            ("10.0.0.1", "::ffff:10.0.0.1", "10.0.0.2"),
            ("2001:db8::1", "2001:db8::ffff:1", "2001:db8:0:1::1"),
            ("::1", "::2", "127.0.0.1"),
        ] {
            let [one, same, other] = [one, same, other].map(|host| host.parse().unwrap());
            let mut taken: Vec<_> = (0..MOST_OF_ONE).map(|_| slots.take(one)).collect();
            assert!(taken.iter().all(Result::is_ok));
            assert_eq!(slots.take(one).err(), Some(1));
            assert_eq!(slots.take(same).err(), Some(2));
            assert!(slots.take(other).is_ok());
            taken.pop();
            taken.push(slots.take(same));
            assert!(taken.iter().all(Result::is_ok));
            assert!(slots.take(one).is_err());
        }
        assert!(slots.lock().is_empty());
    }
}
