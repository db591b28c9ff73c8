//! The checks of what clients have recorded. They do not depend on the library.

use std::collections::BTreeMap;

use crate::history::{Call, Hold, Record};

/// What is known after a scene.
#[derive(Debug, Default)]
pub(crate) struct Evidence {
    /// The records of each client.
    pub(crate) histories: Vec<(&'static str, Vec<Record>)>,
    /// The fences of the writes that the resource has accepted, in its order.
    pub(crate) writes: Vec<u64>,
    /// The items that were in the queue: the client, and the number of its call.
    pub(crate) items: Vec<(String, u64)>,
    /// The last state of the value.
    pub(crate) sum: u64,
}

impl Evidence {
    /// Returns what should not have happened.
    pub(crate) fn violations(&self) -> Vec<String> {
        let mut found = self.overlaps();
        found.extend(self.late_writes());
        found.extend(self.refused_writes());
        found.extend(self.wrong_items());
        found.extend(self.wrong_sum());
        found
    }

    /// All holds in the order of their begin, with their clients.
    pub(crate) fn holds(&self) -> Vec<(&'static str, Hold)> {
        let of_client = |(client, records): &(&'static str, Vec<Record>)| {
            let client = *client;
            let hold = move |record: &Record| match record {
                Record::Held { hold, .. } => Some((client, *hold)),
                _ => None,
            };
            records.iter().filter_map(hold).collect::<Vec<_>>()
        };
        let mut holds: Vec<_> = self.histories.iter().flat_map(of_client).collect();
        holds.sort_by_key(|(_, hold)| hold.from);
        holds
    }

    /// Two guards were valid at the same time, or a later one has no higher fence.
    fn overlaps(&self) -> Vec<String> {
        let holds = self.holds();
        let mut found = Vec::new();
        let Some(mut latest) = holds.first() else {
            return vec!["no client has held the lock".to_owned()];
        };
        for next in &holds[1..] {
            let ((former, held), (client, hold)) = (latest, next);
            if hold.from <= held.until {
                let both = held.until.min(hold.until) - hold.from;
                found.push(format!(
                    "overlap: the guards of {former} ({held:?}) and {client} ({hold:?}) were both valid for {both:?}"
                ));
            }
            if hold.fence <= held.fence {
                found.push(format!(
                    "fence: {client} got {} after {former} had got {}",
                    hold.fence, held.fence
                ));
            }
            if hold.until > held.until {
                latest = next;
            }
        }
        found
    }

    /// The resource has accepted a write after one with a higher fence.
    fn late_writes(&self) -> Vec<String> {
        let pairs = self.writes.windows(2);
        let late = pairs.filter(|pair| pair[1] < pair[0]);
        late.map(|pair| {
            format!(
                "resource: a write with {} came after one with {}",
                pair[1], pair[0]
            )
        })
        .collect()
    }

    /// The resource has refused a write of a client whose guard was valid even later.
    fn refused_writes(&self) -> Vec<String> {
        let mut found = Vec::new();
        for (client, records) in &self.histories {
            for record in records {
                if let Record::Refused {
                    fence,
                    is_valid: true,
                } = record
                {
                    found.push(format!(
                        "resource: a write of {client} with {fence} was refused, and its guard is valid"
                    ));
                }
            }
        }
        found
    }

    /// A call was done twice, or was answered and not done, or was done and never sent.
    fn wrong_items(&self) -> Vec<String> {
        let mut times: BTreeMap<(&str, u64), u32> = BTreeMap::new();
        for (client, number) in &self.items {
            *times.entry((client, *number)).or_default() += 1;
        }
        let mut found = Vec::new();
        for (client, records) in &self.histories {
            for record in records {
                let (Record::Sent(Call::Put(number))
                | Record::Done {
                    call: Call::Put(number),
                    ..
                }) = record
                else {
                    continue;
                };
                let done = times.get_mut(&(*client, *number));
                match (record, done.as_deref()) {
                    (Record::Sent(_), Some(2..)) => {
                        found.push(format!("queue: item {number} of {client} was put twice"));
                    }
                    (Record::Done { .. }, None) => {
                        found.push(format!("queue: item {number} of {client} is lost"));
                    }
                    _ => {}
                }
            }
            let was_sent = |number: &u64| records.contains(&Record::Sent(Call::Put(*number)));
            let own = times.keys().filter(|(name, _)| name == client);
            for (_, number) in own.filter(|(_, number)| !was_sent(number)) {
                found.push(format!("queue: item {number} of {client} was never sent"));
            }
        }
        found
    }

    /// More additions were done than were sent, or fewer than were answered.
    fn wrong_sum(&self) -> Option<String> {
        let records = || self.histories.iter().flat_map(|(_, records)| records);
        let sent = records().filter(|record| matches!(record, Record::Sent(Call::Add(_))));
        let done = records().filter(|record| {
            matches!(
                record,
                Record::Done {
                    call: Call::Add(_),
                    ..
                }
            )
        });
        let (sent, done) = (sent.count(), done.count());
        let sum = usize::try_from(self.sum).unwrap_or(usize::MAX);
        let wrong = !(done..=sent).contains(&sum);
        wrong.then(|| {
            format!("value: it is {sum}, after {sent} additions of which {done} were answered")
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn hold(fence: u64, from: u64, until: u64) -> Record {
        let (from, until) = (Duration::from_millis(from), Duration::from_millis(until));
        let hold = Hold { fence, from, until };
        Record::Held { hold, lost: false }
    }

    fn done(call: Call) -> [Record; 2] {
        let at = Duration::ZERO;
        [Record::Sent(call), Record::Done { call, at }]
    }

    /// What two clients have done that took turns.
    fn right() -> Evidence {
        let mut far = vec![hold(1, 10, 20), hold(3, 50, 60)];
        far.extend(done(Call::Put(0)));
        far.extend(done(Call::Add(0)));
        // These may have been done or not.
        far.extend([Record::Sent(Call::Put(1)), Record::Sent(Call::Add(1))]);
        Evidence {
            histories: vec![("far", far), ("near", vec![hold(2, 30, 40)])],
            writes: vec![1, 1, 3],
            items: vec![("far".to_owned(), 0)],
            sum: 1,
        }
    }

    #[track_caller]
    fn finds(change: impl FnOnce(&mut Evidence), what: &str) {
        let mut evidence = right();
        change(&mut evidence);
        let violations = evidence.violations();
        assert!(
            matches!(&violations[..], [one] if one.contains(what)),
            "{what}: {violations:?}"
        );
    }

    #[test]
    fn right_histories_have_no_violation() {
        assert_eq!(right().violations(), [""; 0]);
        let mut unknown = right();
        unknown.items.push(("far".to_owned(), 1));
        unknown.sum = 2;
        assert_eq!(
            unknown.violations(),
            [""; 0],
            "calls without an answer were done"
        );
    }

    #[test]
    fn each_violation_is_found() {
        let near = |record| move |evidence: &mut Evidence| evidence.histories[1].1 = vec![record];
        finds(near(hold(2, 30, 51)), "both valid for 1ms");
        finds(near(hold(2, 11, 12)), "both valid for 1ms");
        finds(near(hold(2, 20, 20)), "both valid for 0ns");
        finds(near(hold(3, 30, 40)), "far got 3 after near had got 3");
        finds(near(hold(1, 30, 40)), "near got 1 after far had got 1");
        finds(
            |evidence| evidence.writes = vec![1, 3, 1],
            "a write with 1 came after",
        );
        finds(
            |evidence| {
                evidence.histories[1].1.push(Record::Refused {
                    fence: 2,
                    is_valid: true,
                })
            },
            "its guard is valid",
        );
        finds(
            |evidence| evidence.items.push(("far".to_owned(), 0)),
            "item 0 of far was put twice",
        );
        finds(|evidence| evidence.items.clear(), "item 0 of far is lost");
        finds(
            |evidence| evidence.items.push(("far".to_owned(), 7)),
            "item 7 of far was never sent",
        );
        finds(
            |evidence| evidence.sum = 3,
            "it is 3, after 2 additions of which 1",
        );
        finds(
            |evidence| evidence.sum = 0,
            "it is 0, after 2 additions of which 1",
        );
        let nothing = |evidence: &mut Evidence| {
            for (_, records) in &mut evidence.histories {
                records.retain(|record| !matches!(record, Record::Held { .. }));
            }
        };
        finds(nothing, "no client has held the lock");
    }

    #[test]
    fn long_hold_is_compared_with_all_later_ones() {
        let mut evidence = right();
        evidence.histories[0].1[0] = hold(1, 10, 100);
        assert_eq!(evidence.violations().len(), 2);
    }
}
