//! What an earlier process left comes back.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use foldhash::quality::RandomState;
use signet_identity::{Principal, PrincipalKey};
use signet_wire::{PacketId, QoS, SubscriptionFilter};

use crate::hub::attach::end_of;
use crate::hub::{Hub, NOBODY};
use crate::journal::{QueuedEntry, Record, RestoredEntry, RestoredSession, StoredSession};
use crate::mailbox::Entry;
use crate::message::{Author, Message};
use crate::session::{ArmedWill, Expiry, Session, SessionCell, SessionKey, SessionRef, Unreleased};
use crate::time::{Mono, Now, Wall};

/// Takes back what an earlier process left, piece by piece. Nobody may connect before [`Self::finish`].
pub struct Restoring<'a> {
    hub: &'a Hub,
    now: Now,
    /// Where packet identifiers begin comes from it.
    seed: u64,
    now_is: &'a dyn Fn(&Principal) -> Option<Principal>,
    cells: Vec<SessionRef>,
    /// Of principals that nobody stands for any more.
    ownerless: Vec<SessionRef>,
    /// Entries of shared subscriptions find their group once all its members are here.
    deferred: Vec<(SessionRef, Vec<RestoredEntry>)>,
    topics: Vec<Arc<str>>,
    restored: Restored,
}

/// What came back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Restored {
    /// Sessions, before those were ended that had expired or belong to nobody.
    pub sessions: usize,
    /// Their subscriptions, before the policy judged them.
    pub subscriptions: usize,
    /// QoS 1 and 2 messages that wait for them.
    pub messages: usize,
    /// Retained messages.
    pub retained: usize,
    /// Whose sessions ended because nobody stands for them any more. What they have retained is here: see
    /// [`Hub::purge`].
    pub gone: HashSet<PrincipalKey, RandomState>,
}

impl Hub {
    /// Begins to take back what an earlier process left. The policy of now judges it, and `now_is` says who somebody is
    /// now, or that nobody stands for it any more.
    ///
    /// What comes back is not recorded again; what of it is dropped or has changed is. Bounds cut nothing back, as after
    /// [`Self::set_limits`].
    ///
    /// A client that was connected when the process ended counts as gone from now on: its will is due after the will's
    /// delay, and its session expires after the session's interval. All other deadlines are those of the wall clock, but
    /// none is later than its whole interval from now.
    ///
    /// `seed` is to be another number for each process, such as a random one. Packet identifiers of a session that comes back
    /// begin where it says: a client may still hold identifiers of QoS 2 messages that no record tells of (those of the
    /// last interval of [`crate::journal::Durability::Batched`], and of exchanges that were abandoned), and would take a new
    /// message with one of them for the old one.
    pub fn restore<'a>(
        &'a self,
        now: Now,
        seed: u64,
        now_is: &'a dyn Fn(&Principal) -> Option<Principal>,
    ) -> Restoring<'a> {
        Restoring {
            hub: self,
            now,
            seed,
            now_is,
            cells: Vec::new(),
            ownerless: Vec::new(),
            deferred: Vec::new(),
            topics: Vec::new(),
            restored: Restored::default(),
        }
    }
}

impl std::fmt::Debug for Restoring<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Restoring").field("restored", &self.restored).finish_non_exhaustive()
    }
}

impl Restoring<'_> {
    /// Takes back one session. One whose principal and client identifier another one has, which no journal leaves behind,
    /// is ended.
    pub fn session(&mut self, session: RestoredSession) {
        let RestoredSession { number, stored, subscriptions, entries, unreleased } = session;
        let hub = self.hub;
        hub.numbers.fetch_max(number.saturating_add(1), Ordering::Relaxed);
        let owner = self.owner(&stored);
        let author = owner.clone().unwrap_or_else(|| Arc::clone(&stored.author));
        let Some(cell) = hub.readmit(number, &stored, author) else {
            if let Some(journal) = &hub.journal {
                journal.append(Record::Ended(number));
            }
            return;
        };
        self.restored.sessions += 1;
        self.restored.subscriptions += subscriptions.len();
        self.restored.messages += entries.len();
        {
            let mut state = cell.state.lock();
            let changed = self.deadlines(&mut state, &stored);
            hub.enlist(&cell, &mut state);
            let timer = state.next_deadline();
            hub.set_timer(&cell, &mut state, timer);
            let known = Unreleased { link: NOBODY, routed: true };
            state.unreleased = unreleased.into_iter().map(|id| (id, known)).collect();
            for (filter, options) in subscriptions {
                hub.index.subscribe(Arc::clone(&cell), &filter, options);
                cell.usage.subscribe(&filter, usize::MAX);
                state.subscriptions.insert(filter, options);
            }
            if changed && owner.is_some() {
                hub.record(&cell, &state);
            }
        }
        if owner.is_none() {
            self.restored.gone.insert(cell.key.principal.clone());
            self.ownerless.push(Arc::clone(&cell));
        } else {
            self.cells.push(Arc::clone(&cell));
        }
        if entries.iter().any(|entry| shared(entry).is_some()) {
            self.deferred.push((cell, entries));
        } else {
            load(hub, &cell, self.seed, entries);
        }
    }

    /// Takes back a retained message, unless it has expired.
    pub fn retained(&mut self, message: Arc<Message>) {
        if let Some(topic) = self.hub.retained.restore(message, self.now.mono) {
            self.topics.push(topic);
            self.restored.retained += 1;
        }
    }

    /// Everything is here. What the policy of now refuses, what has expired and what nobody stands for any more goes.
    pub fn finish(self) -> Restored {
        let Self { hub, now, seed, cells, ownerless, deferred, topics, restored, .. } = self;
        hub.retained.restore_order(topics);
        for (cell, entries) in deferred {
            load(hub, &cell, seed, entries);
        }
        for cell in ownerless {
            let _together = hub.together(cell.number);
            let mut state = cell.state.lock();
            state.will = None;
            let aftermath = hub.end(&cell, state);
            hub.settle(aftermath, now);
        }
        for cell in cells {
            let _together = hub.together(cell.number);
            let mut state = cell.state.lock();
            let judged = hub.reauthorise(&cell, &mut state);
            drop(state);
            hub.redistribute(judged.orphans);
        }
        while hub.tick(now).is_some_and(|at| at <= now.mono) {}
        restored
    }

    /// Who the owner of a session is now. Somebody of another name or role is another one.
    fn owner(&self, stored: &StoredSession) -> Option<Arc<Author>> {
        self.is_now(&stored.author).filter(|author| *author.principal.key() == stored.principal)
    }

    fn is_now(&self, author: &Arc<Author>) -> Option<Arc<Author>> {
        let principal = (self.now_is)(&author.principal)?;
        Some(if principal == author.principal {
            Arc::clone(author)
        } else {
            Arc::new(Author { principal, client_id: author.client_id.clone() })
        })
    }

    /// Puts expiry and will in place. True: something is no longer as it was stored.
    fn deadlines(&self, state: &mut Session, stored: &StoredSession) -> bool {
        let now = self.now;
        state.expiry = Expiry::from_secs(stored.expiry_secs);
        state.ends = match state.expiry {
            Expiry::AfterSecs(secs) => Some(at_latest(now, stored.ends, secs)),
            Expiry::AtClose | Expiry::Never => None,
        };
        let mut changed = state.ends.map(|(_, wall)| wall) != stored.ends;
        let Some((will, author)) = &stored.will else { return changed };
        let Some(author) = self.is_now(author) else { return true };
        let delay_secs = will.delay_secs.min(self.hub.limits.load().will_delay_secs_max);
        let due = at_latest(now, stored.will_due, delay_secs);
        let due = state.ends.map_or(due, |ends| due.min(ends));
        changed |= stored.will_due != Some(due.1) || !Arc::ptr_eq(&author, &stored.author);
        state.will = Some(Box::new(ArmedWill { will: will.clone(), author }));
        state.will_due = Some(due);
        changed
    }
}

impl Hub {
    /// Puts a session of an earlier process into the directory, beyond all bounds. `None`: there is one already.
    fn readmit(&self, number: u64, stored: &StoredSession, author: Arc<Author>) -> Option<SessionRef> {
        let key = SessionKey { principal: stored.principal.clone(), client_id: stored.client_id.clone() };
        let dashmap::Entry::Vacant(place) = self.sessions.entry(key.clone()) else { return None };
        let usage = self.count_in(&key.principal);
        let generation = self.policy_slot().generation;
        let cell = Arc::new(SessionCell::new(number, key, author, generation, usage));
        self.add_to_own(&cell);
        place.insert(Arc::clone(&cell));
        Some(cell)
    }
}

/// A stored deadline, or `secs` from now when that is sooner, or none is stored.
fn at_latest(now: Now, stored: Option<Wall>, secs: u32) -> (Mono, Wall) {
    let latest = end_of(now, secs);
    match stored {
        Some(wall) if wall < latest.1 => (now.mono_at(wall), wall),
        _ => latest,
    }
}

fn shared(entry: &RestoredEntry) -> Option<&SubscriptionFilter> {
    match entry {
        RestoredEntry::Waiting(entry) | RestoredEntry::Sent(entry, _) => entry.shared.as_ref(),
        RestoredEntry::Released(..) => None,
    }
}

/// Puts the messages of a session where they were. Up to the last one that is known to have been sent, all have been:
/// messages leave in their order. Those of QoS 1, whose identifiers were not kept, get new ones.
fn load(hub: &Hub, cell: &SessionCell, seed: u64, entries: Vec<RestoredEntry>) {
    let identifier = |entry: &RestoredEntry| match entry {
        RestoredEntry::Sent(_, id) | RestoredEntry::Released(_, id) => Some(*id),
        RestoredEntry::Waiting(_) => None,
    };
    let sent = entries.iter().rposition(|entry| identifier(entry).is_some()).map_or(0, |last| last + 1);
    let mut used: HashSet<PacketId, RandomState> = entries.iter().filter_map(identifier).collect();
    let mut state = cell.state.lock();
    let mut mailbox = cell.mailbox.lock();
    let mut next = first_id(seed, cell.number);
    for (place, entry) in entries.into_iter().enumerate() {
        mailbox.number_after(entry.number());
        match entry {
            RestoredEntry::Released(number, id) => state.outbound.restore_released(id, number),
            RestoredEntry::Sent(entry, id) => state.outbound.restore(id, own(hub, entry)),
            RestoredEntry::Waiting(entry) if place < sent => {
                while !used.insert(next) {
                    next = next.next();
                }
                state.outbound.restore(next, own(hub, entry));
            }
            RestoredEntry::Waiting(entry) if entry.qos != QoS::AtMostOnce => mailbox.restore(own(hub, entry)),
            // Never recorded.
            RestoredEntry::Waiting(_) => {}
        }
    }
    state.outbound.continue_at(next);
    cell.tell_inflight(&state);
}

/// Where the packet identifiers of a session begin in this process: anywhere, and elsewhere for each session. Those that
/// its client may still hold are few and close together, so it is long until one of them comes.
fn first_id(seed: u64, session: u64) -> PacketId {
    // SplitMix64: neighbours get numbers that have nothing in common.
    let mut mixed = seed ^ session.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^= mixed >> 31;
    let [low, high, ..] = mixed.to_le_bytes();
    PacketId::new(u16::from_le_bytes([low, high])).unwrap_or(PacketId::MIN)
}

fn own(hub: &Hub, entry: QueuedEntry) -> Entry {
    let group = entry.shared.as_ref().and_then(|filter| {
        let group = filter.group()?;
        hub.index.shared_group(group, filter.filter())
    });
    Entry {
        number: entry.number,
        message: entry.message,
        qos: entry.qos,
        retain: entry.retain,
        replay: entry.replay,
        subscription_ids: entry.subscription_ids,
        group,
    }
}
