//! What a host knows of its object beside its state: what is measured, who calls, and who is told.

use std::{collections::HashMap, fmt, time::Duration};

use super::{Host, WeakMailbox};
use crate::{CallId, Primitive, Stats, Survey, stats::Ledger};

/// A question to one object, and where its answer goes. One that is dropped goes unanswered: the
/// object is no more.
pub struct Inquiry(Box<dyn FnOnce(Report) + Send>);

impl Inquiry {
    /// Asks, and has `hear` told.
    #[must_use]
    pub fn new(hear: impl FnOnce(Report) + Send + 'static) -> Self {
        Self(Box::new(hear))
    }

    pub(super) fn answer(self, report: Report) {
        (self.0)(report);
    }
}

impl fmt::Debug for Inquiry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Inquiry")
    }
}

/// What an object tells of itself at one moment.
#[derive(Debug)]
pub struct Report {
    /// The moment, counted from the manager's start.
    pub at: Duration,
    /// What its kind tells; nothing once it has failed.
    pub survey: Option<Survey>,
    /// Who made the calls that hold and wait, as far as their sessions say so.
    pub callers: HashMap<CallId, u64>,
    /// What was measured, if somebody had to wait for it.
    pub stats: Option<Stats>,
}

impl<P: Primitive> Host<P> {
    /// Runs what needs the ledger, which is lent to the outbox for the turn, if there is one.
    pub(super) fn with_ledger<T>(&mut self, code: impl FnOnce(&mut Option<Box<Ledger>>) -> T) -> T {
        let outbox = self.shell.outbox();
        let mut lent = outbox.swap_ledger(None);
        if lent.is_none() {
            return code(&mut self.ledger);
        }
        let outcome = code(&mut lent);
        outbox.swap_ledger(lent);
        outcome
    }

    /// Takes note that the call of this turn has to wait.
    pub(super) fn note_wait(&mut self) {
        self.with_ledger(|ledger| ledger.get_or_insert_default().wait());
    }

    /// Takes note of who calls. Those whose calls are over are forgotten from time to time.
    pub(super) fn note_caller(&mut self, id: CallId, caller: u64) {
        let is_full = self.with_ledger(|ledger| {
            let ledger = ledger.get_or_insert_default();
            ledger.is_full_of_callers()
        });
        let survey = if is_full { self.survey() } else { None };
        self.with_ledger(|ledger| {
            let ledger = ledger.get_or_insert_default();
            if let Some(survey) = survey {
                ledger.callers(&survey);
            }
            ledger.made_by(id, caller);
        });
    }

    /// What the kind tells, if the object lives.
    pub(super) fn survey(&mut self) -> Option<Survey> {
        let mut told = None;
        self.run(|primitive| told = Some(primitive.survey()));
        told
    }

    pub(super) fn report(&mut self, now: Duration) -> Report {
        let survey = self.survey();
        self.with_ledger(|ledger| {
            let mut report = Report {
                at: now,
                survey,
                callers: HashMap::new(),
                stats: None,
            };
            if let (Some(ledger), Some(survey)) = (ledger, &report.survey) {
                report.callers = ledger.callers(survey).clone();
                report.stats = ledger.stats();
                ledger.is_crowded = survey.is_crowded();
            }
            report
        })
    }

    /// Has the object listed while somebody waits for it.
    pub(super) fn keep_list(&mut self, mailbox: impl FnOnce() -> WeakMailbox) {
        let Some(ledger) = &mut self.ledger else {
            return;
        };
        if ledger.is_crowded != ledger.is_listed {
            ledger.is_listed = ledger.is_crowded;
            if ledger.is_listed {
                self.shell.crowds().list(self.watch.number(), mailbox());
            } else {
                self.shell.crowds().strike(self.watch.number());
            }
        }
    }
}
