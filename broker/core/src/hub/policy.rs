//! A new policy reaches what exists: live connections, stored sessions, waiting messages.

use std::sync::Arc;

use signet_acl::Policy;
use signet_identity::TemplateName;

use crate::counters::count_by;
use crate::hub::{Hub, NOBODY};
use crate::journal::Record;
use crate::mailbox::Entry;
use crate::session::{Session, SessionRef};

/// A policy and a number that no other policy had.
#[derive(Debug)]
pub(crate) struct PolicySlot {
    pub(crate) policy: Arc<Policy>,
    pub(crate) generation: u64,
}

/// What a second judgement took from a session.
#[derive(Default)]
pub(crate) struct Reauthorised {
    /// How many subscriptions.
    pub(crate) revoked: usize,
    /// Messages of shared subscriptions that other members may get.
    pub(crate) orphans: Vec<Entry>,
}

impl Hub {
    /// Puts another policy in place. From the return on, nothing is routed or delivered that it refuses.
    ///
    /// Subscriptions that it refuses are removed: from stored sessions before this returns, from connected ones when
    /// their connection is woken, which then closes with 0x87. Wills and retained messages are judged when they are
    /// sent.
    pub fn set_policy(&self, policy: Arc<Policy>) {
        policy.set_rotation_templates(self.policy().rotation_templates());
        self.policy.store(Arc::new(PolicySlot { policy, generation: self.next_number() }));
        let cells: Vec<SessionRef> = self.sessions.iter().map(|cell| Arc::clone(&cell)).collect();
        for cell in cells {
            let _together = self.together(cell.number);
            let mut state = cell.state.lock();
            if state.ended {
                continue;
            }
            if state.owner.is_some() {
                if let Some(link) = cell.mailbox.lock().link() {
                    link.policy_changed();
                }
                continue;
            }
            let judged = self.reauthorise(&cell, &mut state);
            drop(state);
            self.redistribute(judged.orphans);
        }
    }

    /// Sets the templates by which devices may ask for their own next certificate, for the policy in force and those after it.
    pub fn set_rotation_templates(&self, templates: Arc<[TemplateName]>) {
        self.policy().set_rotation_templates(templates);
    }

    /// Judges all subscriptions and waiting messages of a session by the policy of this moment, and removes what it
    /// refuses.
    pub(crate) fn reauthorise(&self, cell: &SessionRef, state: &mut Session) -> Reauthorised {
        let slot = self.policy_slot();
        state.policy_generation = slot.generation;
        let author = cell.author.load();
        let subject = author.subject();
        let before = state.subscriptions.len();
        let log = state.log.clone();
        state.subscriptions.retain(|filter, _| {
            let allowed = slot.policy.may_subscribe(&subject, filter.filter()).is_ok();
            if !allowed {
                self.index.unsubscribe(cell.number, filter);
                cell.usage.unsubscribe(filter);
                if let Some(log) = &log {
                    log.add(|session| Record::Unsubscribed(session, filter.clone()));
                }
            }
            allowed
        });
        let revoked = before - state.subscriptions.len();
        let removed = cell
            .mailbox
            .lock()
            .remove(|entry| slot.policy.may_receive(&subject, &entry.message.topic).is_ok());
        let counters = self.counters.shard(NOBODY);
        count_by(&counters.subscriptions_revoked, revoked);
        count_by(&counters.denied_receive, removed.len());
        Reauthorised { revoked, orphans: removed.into_iter().filter(|entry| entry.group.is_some()).collect() }
    }
}
