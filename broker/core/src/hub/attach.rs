//! A session from its first CONNECT to its end: directory, takeover, resumption, release.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use parking_lot::MutexGuard;
use signet_identity::{PrincipalKey, Role};
use smallvec::SmallVec;

use crate::close::{CloseReason, Refusal};
use crate::counters::count;
use crate::hub::{Hub, Scratch, Usage, purge, rejudge};
use crate::journal::Ticket;
use crate::link::Link;
use crate::mailbox::Entry;
use crate::message::Author;
use crate::session::{ArmedWill, Expiry, Session, SessionCell, SessionKey, SessionRef};
use crate::time::{Mono, Now, Wall};

/// What a CONNECT asks of the directory.
pub(crate) struct Attach {
    pub(crate) key: SessionKey,
    pub(crate) author: Arc<Author>,
    pub(crate) clean_start: bool,
    pub(crate) expiry: Expiry,
    pub(crate) will: Option<Box<ArmedWill>>,
}

/// A session with its new owner.
pub(crate) struct Attached {
    pub(crate) cell: SessionRef,
    pub(crate) session_present: bool,
    pub(crate) took_over: bool,
    /// What must be settled before the client may be told.
    pub(crate) ticket: Ticket,
}

/// What one principal has: its sessions, and what they hold together.
#[derive(Default)]
pub(super) struct Own {
    /// How many, those included that are about to be made.
    sessions: usize,
    cells: SmallVec<[SessionRef; 1]>,
    usage: Arc<Usage>,
}

/// What a session takes, its entries in the tables included, in bytes.
const SESSION_BYTES: usize = 2048;

/// What has to happen once no lock is held any more.
#[derive(Default)]
#[must_use]
pub(crate) struct Aftermath {
    will: Option<Box<ArmedWill>>,
    orphans: Vec<Entry>,
    /// The session's number, for No Local.
    from: u64,
}

impl Hub {
    /// Makes `link` the owner of the session of `ask`, a stored one or a new one.
    ///
    /// A connection that owns it is told to close (`[MQTT5-3.1.4-3]`). Its will is sent, unless it has a delay and
    /// the session goes on (`[MQTT5-3.1.3-9]`). Clean Start ends a stored session (`[MQTT5-3.1.2-4]`), and so does a
    /// session expiry of 0 on the old connection: that session ended with its connection.
    ///
    /// The client may be told once it holds for the next process too that a session before this one is over, and what is
    /// new about a stored one: its expiry, its will, and that it no longer waits for its end. A new session without a will
    /// is not waited for: it has nothing to lose.
    pub(crate) fn attach(&self, link: &Arc<Link>, mut ask: Attach, now: Now) -> Result<Attached, Refusal> {
        let _together = self.together(link.number);
        let mut took_over = false;
        loop {
            let Some(cell) = self.find(&ask.key) else {
                match self.create(&ask)? {
                    Some(cell) => {
                        let mut state = cell.state.lock();
                        if state.ended || state.owner.is_some() {
                            // Another connection of the same client was faster between the two locks.
                            continue;
                        }
                        let has_will = ask.will.is_some();
                        let recorded = self.own(&cell, &mut state, link, &mut ask, false);
                        let recorded = if has_will { recorded } else { Ticket::NONE };
                        let ticket = recorded.max(self.ending_of(&ask.key));
                        drop(state);
                        return Ok(Attached { cell, session_present: false, took_over, ticket });
                    }
                    None => continue,
                }
            };
            let mut state = cell.state.lock();
            if state.ended {
                continue;
            }
            // Before anything takes it out: what is stored has it still.
            let had_will = state.will.is_some();
            let ousted = state.owner.take().and_then(|_| cell.mailbox.lock().link().cloned());
            if let Some(old) = &ousted {
                took_over = true;
                self.connected_count.fetch_sub(1, Ordering::Relaxed);
                count(&self.counters.shard(link.number).takeovers);
                old.close(CloseReason::TakenOver);
            }
            if let Some(old) = &ousted {
                rejudge::on_release(&mut state, old);
            }
            let condemned = ousted.as_deref().and_then(Link::condemned);
            if let Some(consequences) = condemned {
                purge::on_release(&mut state, CloseReason::TakenOver, consequences);
            }
            let ends = ask.clean_start || (ousted.is_some() && state.expiry == Expiry::AtClose);
            if ends {
                let aftermath = self.end(&cell, state);
                self.settle(aftermath, now);
                continue;
            }
            let fires = match (&ousted, &state.will) {
                (Some(_), Some(armed)) if armed.will.delay_secs == 0 => state.will.take(),
                _ => None,
            };
            let (orphans, ticket) = self.resume(&cell, &mut state, link, &mut ask, had_will);
            drop(state);
            self.settle(Aftermath { will: fires, orphans, from: cell.number }, now);
            return Ok(Attached { cell, session_present: true, took_over, ticket });
        }
    }

    /// Whether somebody has this session already.
    pub(crate) fn has_session(&self, key: &SessionKey) -> bool {
        self.sessions.contains_key(key)
    }

    pub(super) fn find(&self, key: &SessionKey) -> Option<SessionRef> {
        self.sessions.get(key).map(|cell| Arc::clone(&cell))
    }

    /// Puts a new session into the directory; `None` when there is one already.
    fn create(&self, ask: &Attach) -> Result<Option<SessionRef>, Refusal> {
        let usage = self.reserve(&ask.key.principal)?;
        self.grow(SESSION_BYTES);
        let generation = self.policy_slot().generation;
        let cell = Arc::new(SessionCell::new(
            self.next_number(),
            ask.key.clone(),
            Arc::clone(&ask.author),
            generation,
            usage,
        ));
        let vacant = match self.sessions.entry(ask.key.clone()) {
            dashmap::Entry::Occupied(_) => false,
            dashmap::Entry::Vacant(place) => {
                self.add_to_own(&cell);
                place.insert(Arc::clone(&cell));
                true
            }
        };
        if vacant {
            return Ok(Some(cell));
        }
        self.unreserve(&cell);
        Ok(None)
    }

    /// Adds a session to those of its principal.
    pub(super) fn add_to_own(&self, cell: &SessionRef) {
        if let Some(mut own) = self.principals.get_mut(&cell.key.principal) {
            own.cells.push(Arc::clone(cell));
        }
    }

    /// The sessions of a principal.
    pub(super) fn cells_of(&self, principal: &PrincipalKey) -> SmallVec<[SessionRef; 1]> {
        self.principals.get(principal).map(|own| own.cells.clone()).unwrap_or_default()
    }

    /// Counts one more session of a principal, within `sessions_max` and `sessions_per_principal_max` or `sessions_per_claim_max`.
    fn reserve(&self, principal: &PrincipalKey) -> Result<Arc<Usage>, Refusal> {
        let limits = self.limits.load();
        let sessions = self.session_count.fetch_add(1, Ordering::Relaxed);
        if sessions >= limits.sessions_max {
            self.session_count.fetch_sub(1, Ordering::Relaxed);
            return Err(Refusal::TooManySessions);
        }
        let mut own = self.principals.entry(principal.clone()).or_default();
        let own_max = match principal.role {
            Role::Claim => limits.sessions_per_claim_max,
            Role::Device | Role::Operator => limits.sessions_per_principal_max,
        };
        if own.sessions >= own_max {
            self.session_count.fetch_sub(1, Ordering::Relaxed);
            return Err(Refusal::TooManySessionsOfPrincipal);
        }
        own.sessions += 1;
        self.session_count_max.fetch_max(sessions + 1, Ordering::Relaxed);
        Ok(Arc::clone(&own.usage))
    }

    /// Counts one more session of a principal, without a bound.
    pub(super) fn count_in(&self, principal: &PrincipalKey) -> Arc<Usage> {
        let sessions = self.session_count.fetch_add(1, Ordering::Relaxed);
        self.session_count_max.fetch_max(sessions + 1, Ordering::Relaxed);
        let mut own = self.principals.entry(principal.clone()).or_default();
        own.sessions += 1;
        Arc::clone(&own.usage)
    }

    /// What all sessions of a principal have together; `None`: it has none.
    pub(super) fn usage_of(&self, principal: &PrincipalKey) -> Option<Arc<Usage>> {
        self.principals.get(principal).map(|own| Arc::clone(&own.usage))
    }

    /// Takes a session from its principal, whether it was added or only counted.
    fn unreserve(&self, cell: &SessionRef) {
        self.session_count.fetch_sub(1, Ordering::Relaxed);
        if let dashmap::Entry::Occupied(mut entry) = self.principals.entry(cell.key.principal.clone()) {
            let own = entry.get_mut();
            own.sessions = own.sessions.saturating_sub(1);
            if let Some(place) = own.cells.iter().position(|other| Arc::ptr_eq(other, cell)) {
                own.cells.swap_remove(place);
            }
            if own.sessions == 0 {
                entry.remove();
            }
        }
    }

    /// Gives the ticket of what is new about the session for the next process, if anything is. `had_will`: so it is stored,
    /// whatever became of the will since.
    fn own(
        &self,
        cell: &SessionRef,
        state: &mut Session,
        link: &Arc<Link>,
        ask: &mut Attach,
        had_will: bool,
    ) -> Ticket {
        let is_new = state.log.is_none()
            || state.expiry != ask.expiry
            || state.ends.is_some()
            || had_will
            || ask.will.is_some()
            || cell.author.load().principal != ask.author.principal;
        cell.author.store(Arc::clone(&ask.author));
        state.owner = Some(link.number);
        state.expiry = ask.expiry;
        state.ends = None;
        state.will = ask.will.take();
        state.will_due = None;
        self.set_timer(cell, state, None);
        cell.mailbox.lock().attach(Arc::clone(link));
        self.connected_count.fetch_add(1, Ordering::Relaxed);
        let ended = self.enlist(cell, state);
        if is_new { ended.max(self.record(cell, state)) } else { ended }
    }

    /// A stored session continues: its subscriptions are judged again if the policy changed meanwhile, and unfinished
    /// exchanges are marked to be sent again. A will that was waiting is not sent (`[MQTT5-3.1.3-9]`).
    fn resume(
        &self,
        cell: &SessionRef,
        state: &mut Session,
        link: &Arc<Link>,
        ask: &mut Attach,
        had_will: bool,
    ) -> (Vec<Entry>, Ticket) {
        let ticket = self.own(cell, state, link, ask, had_will);
        state.outbound.resume();
        count(&self.counters.shard(link.number).resumed);
        // The certificate may be a new one with other groups, so even under the same policy the answer can differ.
        (self.reauthorise(cell, state).orphans, ticket)
    }

    /// The connection `link` is over. Nothing happens when it no longer owns the session.
    pub(crate) fn release(&self, link: &Link, cell: &SessionRef, reason: CloseReason, now: Now) {
        let _together = self.together(link.number);
        let mut state = cell.state.lock();
        if state.owner != Some(link.number) {
            return;
        }
        let had_will = state.will.is_some();
        state.owner = None;
        cell.mailbox.lock().detach();
        self.connected_count.fetch_sub(1, Ordering::Relaxed);
        rejudge::on_release(&mut state, link);
        match link.condemned() {
            Some(consequences) => purge::on_release(&mut state, reason, consequences),
            None if !reason.sends_will() => state.will = None,
            None => {}
        }
        if state.expiry == Expiry::AtClose {
            let aftermath = self.end(cell, state);
            self.settle(aftermath, now);
            return;
        }
        state.ends = match state.expiry {
            Expiry::AfterSecs(secs) => Some(end_of(now, secs)),
            Expiry::AtClose | Expiry::Never => None,
        };
        let delay_secs_max = self.limits.load().will_delay_secs_max;
        let fires = match &state.will {
            Some(armed) if armed.will.delay_secs == 0 => state.will.take(),
            Some(armed) => {
                let due = end_of(now, armed.will.delay_secs.min(delay_secs_max));
                state.will_due = Some(state.ends.map_or(due, |ends| due.min(ends)));
                None
            }
            None => None,
        };
        let timer = state.next_deadline();
        self.set_timer(cell, &mut state, timer);
        if had_will || state.ends.is_some() {
            self.record(cell, &state);
        }
        let stale = state.policy_generation != self.policy_slot().generation;
        let orphans = if stale { self.reauthorise(cell, &mut state).orphans } else { Vec::new() };
        drop(state);
        self.settle(Aftermath { will: fires, orphans, from: cell.number }, now);
    }

    /// Ends a session: no subscription, no queue, no identifier of it is left (`[MQTT5-3.1.2-4]`, MQTT5 §4.1).
    pub(crate) fn end(&self, cell: &SessionRef, mut state: MutexGuard<'_, Session>) -> Aftermath {
        state.ended = true;
        state.owner = None;
        for filter in std::mem::take(&mut state.subscriptions).into_keys() {
            self.index.unsubscribe(cell.number, &filter);
            cell.usage.unsubscribe(&filter);
        }
        self.set_timer(cell, &mut state, None);
        self.delist(cell, &mut state);
        let queued = cell.mailbox.lock().end();
        // [MQTT5-4.8.2-4], [MQTT5-4.8.2-5]: a QoS 2 message that was sent ends with its member; QoS 1 goes to
        // another.
        cell.inflight.end(&cell.usage);
        let sent = state.outbound.end().filter(|entry| entry.qos == signet_wire::QoS::AtLeastOnce);
        let orphans = sent.chain(queued).filter(|entry| entry.group.is_some()).collect();
        let will = state.will.take();
        drop(state);
        self.sessions.remove_if(&cell.key, |_, present| Arc::ptr_eq(present, cell));
        self.unreserve(cell);
        Aftermath { will, orphans, from: cell.number }
    }

    /// Does what could not be done under the session's lock.
    pub(crate) fn settle(&self, aftermath: Aftermath, now: Now) {
        if let Some(armed) = aftermath.will {
            self.send_will(*armed, aftermath.from, &mut Scratch::default(), now);
        }
        self.redistribute(aftermath.orphans);
    }
}

pub(super) fn end_of(now: Now, secs: u32) -> (Mono, Wall) {
    (now.mono.after_secs(secs), now.wall.after(std::time::Duration::from_secs(secs.into())))
}
