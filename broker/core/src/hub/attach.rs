//! A session from its first CONNECT to its end: directory, takeover, resumption, release.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use parking_lot::MutexGuard;
use signet_identity::{PrincipalKey, Role};

use crate::close::{CloseReason, Refusal};
use crate::counters::count;
use crate::hub::{Hub, Scratch, purge, rejudge};
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
}

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
    pub(crate) fn attach(&self, link: &Arc<Link>, mut ask: Attach, now: Now) -> Result<Attached, Refusal> {
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
                        self.own(&cell, &mut state, link, &mut ask);
                        drop(state);
                        return Ok(Attached { cell, session_present: false, took_over });
                    }
                    None => continue,
                }
            };
            let mut state = cell.state.lock();
            if state.ended {
                continue;
            }
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
            let orphans = self.resume(&cell, &mut state, link, &mut ask);
            drop(state);
            self.settle(Aftermath { will: fires, orphans, from: cell.number }, now);
            return Ok(Attached { cell, session_present: true, took_over });
        }
    }

    pub(super) fn find(&self, key: &SessionKey) -> Option<SessionRef> {
        self.sessions.get(key).map(|cell| Arc::clone(&cell))
    }

    /// Puts a new session into the directory; `None` when there is one already.
    fn create(&self, ask: &Attach) -> Result<Option<SessionRef>, Refusal> {
        self.reserve(&ask.key.principal)?;
        let generation = self.policy_slot().generation;
        let cell = Arc::new(SessionCell::new(
            self.next_number(),
            ask.key.clone(),
            Arc::clone(&ask.author),
            generation,
        ));
        let vacant = match self.sessions.entry(ask.key.clone()) {
            dashmap::Entry::Occupied(_) => false,
            dashmap::Entry::Vacant(place) => {
                place.insert(Arc::clone(&cell));
                true
            }
        };
        if vacant {
            return Ok(Some(cell));
        }
        self.unreserve(&ask.key.principal);
        Ok(None)
    }

    /// Counts one more session of a principal, within `sessions_max` and `sessions_per_principal_max` or `sessions_per_claim_max`.
    fn reserve(&self, principal: &PrincipalKey) -> Result<(), Refusal> {
        let limits = self.limits.load();
        let sessions = self.session_count.fetch_add(1, Ordering::Relaxed);
        if sessions >= limits.sessions_max {
            self.session_count.fetch_sub(1, Ordering::Relaxed);
            return Err(Refusal::TooManySessions);
        }
        let mut own = self.principals.entry(principal.clone()).or_insert(0);
        let own_max = match principal.role {
            Role::Claim => limits.sessions_per_claim_max,
            Role::Device | Role::Operator => limits.sessions_per_principal_max,
        };
        if *own >= own_max {
            self.session_count.fetch_sub(1, Ordering::Relaxed);
            return Err(Refusal::TooManySessionsOfPrincipal);
        }
        *own += 1;
        self.session_count_max.fetch_max(sessions + 1, Ordering::Relaxed);
        Ok(())
    }

    fn unreserve(&self, principal: &PrincipalKey) {
        self.session_count.fetch_sub(1, Ordering::Relaxed);
        if let dashmap::Entry::Occupied(mut own) = self.principals.entry(principal.clone()) {
            *own.get_mut() = own.get().saturating_sub(1);
            if *own.get() == 0 {
                own.remove();
            }
        }
    }

    fn own(&self, cell: &SessionRef, state: &mut Session, link: &Arc<Link>, ask: &mut Attach) {
        cell.author.store(Arc::clone(&ask.author));
        state.owner = Some(link.number);
        state.expiry = ask.expiry;
        state.ends = None;
        state.will = ask.will.take();
        state.will_due = None;
        self.set_timer(cell, state, None);
        cell.mailbox.lock().attach(Arc::clone(link));
        self.connected_count.fetch_add(1, Ordering::Relaxed);
    }

    /// A stored session continues: its subscriptions are judged again if the policy changed meanwhile, and unfinished
    /// exchanges are marked to be sent again. A will that was waiting is not sent (`[MQTT5-3.1.3-9]`).
    fn resume(
        &self,
        cell: &SessionRef,
        state: &mut Session,
        link: &Arc<Link>,
        ask: &mut Attach,
    ) -> Vec<Entry> {
        self.own(cell, state, link, ask);
        state.outbound.resume();
        count(&self.counters.shard(link.number).resumed);
        // The certificate may be a new one with other groups, so even under the same policy the answer can differ.
        self.reauthorise(cell, state).orphans
    }

    /// The connection `link` is over. Nothing happens when it no longer owns the session.
    pub(crate) fn release(&self, link: &Link, cell: &SessionRef, reason: CloseReason, now: Now) {
        let mut state = cell.state.lock();
        if state.owner != Some(link.number) {
            return;
        }
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
                let due = now.mono.after_secs(armed.will.delay_secs.min(delay_secs_max));
                state.will_due = Some(state.ends.map_or(due, |(ends, _)| due.min(ends)));
                None
            }
            None => None,
        };
        let timer = [state.will_due, state.ends.map(|(ends, _)| ends)].into_iter().flatten().min();
        self.set_timer(cell, &mut state, timer);
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
        }
        self.set_timer(cell, &mut state, None);
        let queued = cell.mailbox.lock().end();
        // [MQTT5-4.8.2-4], [MQTT5-4.8.2-5]: a QoS 2 message that was sent ends with its member; QoS 1 goes to
        // another.
        let sent = state.outbound.end().filter(|entry| entry.qos == signet_wire::QoS::AtLeastOnce);
        let orphans = sent.chain(queued).filter(|entry| entry.group.is_some()).collect();
        let will = state.will.take();
        drop(state);
        self.sessions.remove_if(&cell.key, |_, present| Arc::ptr_eq(present, cell));
        self.unreserve(&cell.key.principal);
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

fn end_of(now: Now, secs: u32) -> (Mono, Wall) {
    (now.mono.after_secs(secs), now.wall.after(std::time::Duration::from_secs(secs.into())))
}
