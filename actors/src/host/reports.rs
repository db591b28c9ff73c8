//! The reports of a host about its object: the survey, the statistics, and the callers.
//!
//! Invariant: the object is in the list of contended objects while calls may wait for it.

use std::{collections::HashMap, time::Duration};

use lockkeeper_protocol::CallId;

use crate::{
    host::{
        host::Host,
        input::{ObjectReport, WeakMailbox},
    },
    kind::{object_stats::ObjectStats, primitive::Primitive, survey::Survey},
};

impl<P: Primitive> Host<P> {
    /// Runs code with the statistics, which may be lent to the outbox for the turn.
    pub(super) fn with_object_stats<T>(
        &mut self,
        code: impl FnOnce(&mut Option<Box<ObjectStats>>) -> T,
    ) -> T {
        let outbox = self.shell.outbox();
        let mut lent = outbox.swap_stats(None);
        if lent.is_none() {
            return code(&mut self.object_stats);
        }
        let outcome = code(&mut lent);
        outbox.swap_stats(lent);
        outcome
    }

    /// Runs a turn, and lends the statistics to the outbox if there are any.
    pub(super) fn measured<T>(
        &mut self,
        serving: Option<CallId>,
        turn: impl FnOnce(&mut Self) -> T,
    ) -> T {
        let lent = self.object_stats.take();
        let has_stats = lent.is_some();
        if let Some(mut object_stats) = lent {
            object_stats.begin(serving);
            self.shell.outbox().swap_stats(Some(object_stats));
        }
        let outcome = turn(self);
        if has_stats {
            self.object_stats = self.shell.outbox().swap_stats(None);
        }
        outcome
    }

    /// Records that the call of this turn has to wait.
    pub(super) fn note_wait(&mut self) {
        self.with_object_stats(|object_stats| object_stats.get_or_insert_default().wait());
    }

    /// Records the caller of a call. Callers whose calls are over are removed from time to time.
    pub(super) fn note_caller(&mut self, id: CallId, caller: u64) {
        let is_full = self.with_object_stats(|object_stats| {
            let object_stats = object_stats.get_or_insert_default();
            object_stats.is_full_of_callers()
        });
        let survey = if is_full { self.survey() } else { None };
        self.with_object_stats(|object_stats| {
            let object_stats = object_stats.get_or_insert_default();
            if let Some(survey) = survey {
                object_stats.callers(survey.calls());
            }
            object_stats.made_by(id, caller);
        });
    }

    /// Returns the survey of the kind, if the object lives.
    pub(super) fn survey(&mut self) -> Option<Survey> {
        let mut told = None;
        self.run(|primitive| told = Some(primitive.survey()));
        told
    }

    pub(super) fn report(&mut self, now: Duration) -> ObjectReport {
        let survey = self.survey();
        self.with_object_stats(|object_stats| {
            let mut report = ObjectReport {
                at: now,
                survey,
                callers: HashMap::new(),
                stats: None,
            };
            if let (Some(object_stats), Some(survey)) = (object_stats, &report.survey) {
                report.callers = object_stats.callers(survey.calls()).clone();
                report.stats = object_stats.stats();
                object_stats.is_crowded = survey.is_crowded();
            }
            report
        })
    }

    /// Adds the object to the list of contended objects, or removes it.
    pub(super) fn keep_list(&mut self, mailbox: impl FnOnce() -> WeakMailbox) {
        let Some(object_stats) = &mut self.object_stats else {
            return;
        };
        if object_stats.is_crowded != object_stats.is_listed {
            object_stats.is_listed = object_stats.is_crowded;
            if object_stats.is_listed {
                self.shell.contended().list(self.watch.number(), mailbox());
            } else {
                self.shell.contended().strike(self.watch.number());
            }
        }
    }
}
