//! `Inspector`: asks the hosted objects for their holders and waiters.
//!
//! All inquiries are sent in one turn, and mailboxes are ordered, so each object answers for what was sent
//! before that turn and for nothing sent after it. Objects do not send messages to one another. All answers
//! therefore describe the same moment, although each is given in a later turn.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use lockkeeper_actors::{
    Holding, Input, Inputs, Inquiry, Mailbox, ObjectReport, Part, Shell, Waiting,
};
use lockkeeper_protocol::{
    CallId, CallInfo, Fault, ObjectInfo, Page, PartInfo, Peer, Shard, codec, cut,
};
use tokio::{sync::mpsc, task};

use crate::{
    access::check_covered,
    peer_rights::PeerRights,
    server::supervisor::supervisor::{Desk, Find, Found, check_shard},
};

/// The most objects that one inquiry asks, which takes the session one turn.
pub(crate) const MOST_OBJECTS: usize = 1_000;

/// The most reports that one turn encodes, unless they exceed [`SLICE_BYTES`] before.
const SLICE: usize = 64;

const SLICE_BYTES: usize = 1 << 16;

/// The size of a page after which no object is added, even if a message may be larger.
const PAGE_BYTES: usize = 1 << 20;

/// The most bytes of objects' reports that one answer keeps. The rest goes into the next answer.
const TOLD_BYTES: usize = 1 << 20;

/// The most calls of each sort in the report of an object, however large a message may be.
const MOST_CALLS: usize = 1_000;

/// Asks objects for reports, and waits for the answers of those that live.
pub(crate) async fn ask(objects: Vec<(u64, Mailbox)>, now: Duration) -> Vec<(u64, ObjectReport)> {
    let (sender, mut receiver) = mpsc::unbounded_channel();
    for (object, mailbox) in objects {
        let sender = sender.clone();
        let inquiry = Inquiry::new(move |report| {
            // The receiver may be gone.
            let _ = sender.send((object, report));
        });
        mailbox.do_send(Inputs::one(now, Input::Survey(inquiry)));
    }
    drop(sender);
    let mut reports = Vec::new();
    while let Some(report) = receiver.recv().await {
        reports.push(report);
    }
    reports
}

/// Asks objects in the order of their numbers, until the reports have reached the byte limit. Returns the
/// number to continue from if some were left out. The first object's report is always complete.
async fn ask_some(
    objects: Vec<(u64, Mailbox)>,
    now: Duration,
    most_bytes: usize,
) -> (Vec<(u64, ObjectReport)>, Option<u64>) {
    let numbers: Vec<u64> = objects.iter().map(|(object, _)| *object).collect();
    let first = numbers.first().copied();
    let told = Arc::new(AtomicUsize::new(0));
    let (sender, mut receiver) = mpsc::unbounded_channel();
    for (object, mailbox) in objects {
        let (sender, told) = (sender.clone(), Arc::clone(&told));
        let inquiry = Inquiry::new(move |report| {
            let bytes = bytes_of(&report);
            let before = told.fetch_add(bytes, Ordering::Relaxed);
            // A report beyond the limit is dropped in the turn of its object.
            let is_told = Some(object) == first || before.saturating_add(bytes) <= most_bytes;
            let _ = sender.send((object, is_told.then_some(report)));
        });
        mailbox.do_send(Inputs::one(now, Input::Survey(inquiry)));
    }
    drop(sender);
    let (mut reports, mut left_out) = (Vec::new(), None);
    while let Some((object, report)) = receiver.recv().await {
        match report {
            Some(report) => reports.push((object, report)),
            None => left_out = Some(left_out.map_or(object, |other: u64| other.min(object))),
        }
    }
    let Some(left_out) = left_out else {
        return (reports, None);
    };
    reports.retain(|(object, _)| *object < left_out);
    let before = numbers.iter().rev().find(|number| **number < left_out);
    (reports, before.copied())
}

/// The approximate number of bytes of the lists in a report.
fn bytes_of(report: &ObjectReport) -> usize {
    let parts = report.survey.iter().flat_map(|survey| &survey.parts);
    let bytes = parts.map(|part| {
        let key = part.key.as_ref().map_or(0, String::len);
        let holders = part.holders.len() * size_of::<Holding>();
        size_of::<Part>() + key + holders + part.waiters.len() * size_of::<Waiting>()
    });
    bytes.sum::<usize>()
        + report.callers.len() * size_of::<(CallId, u64)>()
        + size_of::<ObjectReport>()
}

/// The parts of a shard that an inspection needs.
pub(crate) struct Inspector<'a> {
    pub(crate) supervisor: &'a Desk,
    pub(crate) shell: &'a Shell,
    pub(crate) shard: Shard,
    /// The most bytes of an answer.
    pub(crate) most_bytes: usize,
    /// The rights of the client that asks, if it has its own. It sees only the objects that they cover.
    pub(crate) by: Option<&'a PeerRights>,
}

impl Inspector<'_> {
    /// The objects above a number, as many as fit into a message.
    pub(crate) async fn all(&self, above: u64) -> Result<Page, Fault> {
        let find = Find::Above(above, MOST_OBJECTS);
        let mut found = self.find(find).await?;
        let last = found.last().map(|found| found.name.number());
        let is_full = found.len() >= MOST_OBJECTS;
        // The page may be empty then, and others may follow.
        found.retain(|found| self.sees(found));
        let (page, next) = self.survey(found).await;
        Ok(self
            .fill(page, next.or_else(|| last.filter(|_| is_full)))
            .await)
    }

    /// The contended objects above a number, as many as fit into a message.
    pub(crate) async fn contended(&self, above: u64) -> Result<Page, Fault> {
        let listed = self.shell.contended().above(above, MOST_OBJECTS);
        let last = listed.last().map(|(object, _)| *object);
        let is_full = listed.len() >= MOST_OBJECTS;
        let (mut reports, next) = ask_some(listed, self.shell.now(), TOLD_BYTES).await;
        reports.retain(|(_, report)| {
            let parts = report.survey.iter().flat_map(|survey| &survey.parts);
            parts.clone().any(|part| !part.waiters.is_empty())
        });
        let numbers = reports.iter().map(|(object, _)| *object).collect();
        let mut found = self.find(Find::Numbered(numbers)).await?;
        found.retain(|found| self.sees(found));
        let page = join(found, reports);
        Ok(self
            .fill(page, next.or_else(|| last.filter(|_| is_full)))
            .await)
    }

    /// The object with a name.
    pub(crate) async fn named(&self, name: String) -> Result<Page, Fault> {
        let found = self.find(Find::Named(name.clone())).await?;
        let home = found.first().map(|found| found.home.as_deref());
        check_covered(self.by, "inspect", &name, home)?;
        if found.is_empty() {
            check_shard(self.shard, &name)?;
            return Err(Fault::UnknownObject(name));
        }
        let (page, _) = self.survey(found).await;
        Ok(self.fill(page, None).await)
    }

    /// Returns whether the client that asks may see an object.
    fn sees(&self, found: &Found) -> bool {
        let home = found.home.as_deref();
        self.by.is_none_or(|rights| rights.cover(home))
    }

    /// The names of objects, in the order of their numbers.
    pub(crate) async fn find(&self, find: Find) -> Result<Vec<Found>, Fault> {
        let found = self.supervisor.send(find).await;
        found.map_err(|_| Fault::ShuttingDown)
    }

    async fn survey(&self, found: Vec<Found>) -> (Vec<(Found, ObjectReport)>, Option<u64>) {
        let mailbox = |found: &Found| (found.name.number(), found.mailbox.clone());
        let objects = found.iter().map(mailbox).collect();
        let (reports, next) = ask_some(objects, self.shell.now(), TOLD_BYTES).await;
        (join(found, reports), next)
    }

    /// Adds objects to the page until the message is full.
    async fn fill(&self, objects: Vec<(Found, ObjectReport)>, next: Option<u64>) -> Page {
        let mut page = Page {
            next,
            ..Page::default()
        };
        let most_bytes = PAGE_BYTES.min(self.most_bytes / 2);
        let (mut bytes, mut last) = (0, None);
        let mut slice = (0, 0);
        for (place, (found, report)) in objects.into_iter().enumerate() {
            if place - slice.0 >= SLICE || bytes - slice.1 >= SLICE_BYTES {
                slice = (place, bytes);
                task::yield_now().await;
            }
            let number = found.name.number();
            let info = self.info(&found, report);
            // The info is encoded a second time with the page, which is acceptable because inspections are
            // rare.
            bytes += codec::encode(&info).map_or(0, |encoded| encoded.len());
            if bytes > most_bytes && last.is_some() {
                page.next = last;
                break;
            }
            page.objects.push(info);
            if self.shard != Shard::ALONE {
                page.numbers.push(number);
            }
            last = Some(number);
        }
        page
    }

    fn info(&self, found: &Found, report: ObjectReport) -> ObjectInfo {
        let ObjectReport {
            at,
            survey,
            callers,
            stats,
        } = report;
        // Two texts of a peer and some numbers take at most 600 bytes.
        let mut most = (self.most_bytes / 4096).clamp(8, MOST_CALLS);
        let mut parts = Vec::new();
        let mut rest = PartInfo::default();
        let mut state = "gone: its code panicked".to_owned();
        if let Some(mut survey) = survey {
            state = cut(&survey.state).to_owned();
            if survey.parts.len() > most {
                // If there are too many keys, the report lists the contended ones.
                survey.parts.sort_by_key(|part| part.waiters.is_empty());
            }
            for mut part in survey.parts {
                // The longest hold first: it is the one that others wait for.
                part.holders.sort_by_key(|holder| holder.since);
                if most == 0 {
                    rest.held += count(part.holders.len()) + part.more_holders;
                    rest.waiting += count(part.waiters.len()) + part.more_waiters;
                    continue;
                }
                let call = |id: CallId, units, mode: &str, since| {
                    let mut call = CallInfo::default();
                    call.process = self.peer(id);
                    call.caller = callers.get(&id).copied();
                    call.units = units;
                    call.mode = mode.to_owned();
                    call.elapsed = at.saturating_sub(since);
                    call
                };
                let holders = part.holders.iter().take(most);
                let holders: Vec<CallInfo> = holders
                    .map(|holder| {
                        let mut call = call(holder.call, holder.units, holder.mode, holder.since);
                        call.fence = holder.fence;
                        call
                    })
                    .collect();
                let waiters = part.waiters.iter().take(most);
                let waiters: Vec<CallInfo> = waiters
                    .map(|waiter| call(waiter.call, waiter.units, waiter.mode, waiter.since))
                    .collect();
                most = most.saturating_sub(holders.len().max(waiters.len()).max(1));
                let mut told = PartInfo::default();
                told.key = part.key.as_deref().map(|key| cut(key).to_owned());
                told.units = part.units;
                told.held = count(part.holders.len()) + part.more_holders;
                told.waiting = count(part.waiters.len()) + part.more_waiters;
                told.holders = holders;
                told.waiters = waiters;
                parts.push(told);
            }
        }
        if rest.held > 0 || rest.waiting > 0 {
            parts.push(rest);
        }
        let mut object = ObjectInfo::default();
        object.name = found.name.text().into_owned();
        object.kind = found.kind.to_owned();
        object.state = state;
        object.parts = parts;
        object.stats = stats;
        object
    }

    /// The peer that made a call. Its session may have ended since.
    pub(crate) fn peer(&self, call: CallId) -> Peer {
        let peer = self.shell.peer(call.session());
        peer.map(|peer| (*peer).clone()).unwrap_or_default()
    }
}

fn count(number: usize) -> u64 {
    number.try_into().unwrap_or(u64::MAX)
}

/// Joins reports with names. An object that was removed meanwhile has no name.
fn join(found: Vec<Found>, mut reports: Vec<(u64, ObjectReport)>) -> Vec<(Found, ObjectReport)> {
    reports.sort_unstable_by_key(|(object, _)| *object);
    let mut reports = reports.into_iter().peekable();
    let mut joined = Vec::new();
    for found in found {
        let number = found.name.number();
        while reports.next_if(|(object, _)| *object < number).is_some() {}
        if let Some((_, report)) = reports.next_if(|(object, _)| *object == number) {
            joined.push((found, report));
        }
    }
    joined
}
