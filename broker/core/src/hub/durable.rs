//! What the hub writes into the journal, and who waits for it.

use std::collections::HashMap;
use std::sync::Arc;

use foldhash::quality::RandomState;
use parking_lot::Mutex;

use crate::action::{Action, Actions};
use crate::hub::Hub;
use crate::journal::{Journal, Log, Record, StoredSession, Ticket, Together};
use crate::session::{Expiry, Session, SessionCell, SessionKey};

/// Sessions that ended, by their key, with what must be settled before a client may be told so. What is settled is taken
/// out when the table has grown; more keys than there were sessions are not in it.
#[derive(Debug, Default)]
pub(super) struct Endings(Mutex<Endeds>);

#[derive(Debug, Default)]
struct Endeds {
    tickets: HashMap<SessionKey, Ticket, RandomState>,
    /// With so many it is looked through.
    look_at: usize,
}

/// Fewer endings than this are never looked through.
const ENDINGS_KEPT: usize = 256;

impl Hub {
    /// What must outlive the process; `None`: nothing does.
    #[must_use]
    pub fn journal(&self) -> Option<&Arc<Journal>> {
        self.journal.as_ref()
    }

    /// Joins what is recorded until the guard goes. It comes before any lock; see [`Journal::together`].
    pub(crate) fn together(&self, number: u64) -> Option<Together<'_>> {
        self.journal.as_deref().map(|journal| journal.together(number))
    }

    /// What is pushed after this leaves when `ticket` is settled.
    pub(crate) fn hold(&self, ticket: Ticket, out: &mut Actions) {
        if self.strict
            && let Some(journal) = &self.journal
            && !journal.is_settled(ticket)
        {
            out.push(Action::Hold(ticket));
        }
    }

    /// Whether so much is not durable yet that nobody may add a session to it.
    pub(crate) fn is_behind(&self) -> bool {
        self.journal.as_deref().is_some_and(Journal::is_full)
    }

    /// Says to whom the records of a session belong, by how long it lives. Gives what its owner must wait for when the
    /// session has just stopped to be one that is stored.
    pub(super) fn enlist(&self, cell: &SessionCell, state: &mut Session) -> Ticket {
        let durable = state.expiry != Expiry::AtClose;
        match (&self.journal, &state.log) {
            (Some(journal), None) if durable => {
                let log = Log::new(Arc::clone(journal), cell.number);
                cell.mailbox.lock().set_log(Some(log.clone()));
                state.log = Some(log);
                Ticket::NONE
            }
            (_, Some(_)) if !durable => self.delist(cell, state),
            _ => Ticket::NONE,
        }
    }

    /// The client says how long its session is to live when it goes. One that was to end with its connection does,
    /// whatever it says now (`[MQTT5-3.14.2-2]`): nothing of it was stored.
    pub(crate) fn prolong(&self, cell: &SessionCell, state: &mut Session, expiry: Expiry) {
        if state.expiry == Expiry::AtClose || state.expiry == expiry {
            return;
        }
        state.expiry = expiry;
        if expiry != Expiry::AtClose {
            self.record(cell, state);
        }
    }

    /// A stored session is stored no more.
    pub(super) fn delist(&self, cell: &SessionCell, state: &mut Session) -> Ticket {
        let Some(log) = state.log.take() else { return Ticket::NONE };
        // Under the mailbox, so that nothing is queued behind the end.
        let mut mailbox = cell.mailbox.lock();
        mailbox.set_log(None);
        let ticket = log.add(Record::Ended);
        drop(mailbox);
        self.note_ending(&cell.key, ticket);
        ticket
    }

    /// Records what a session is now, if it is stored.
    pub(super) fn record(&self, cell: &SessionCell, state: &Session) -> Ticket {
        let Some(log) = &state.log else { return Ticket::NONE };
        let stored = StoredSession {
            principal: cell.key.principal.clone(),
            client_id: cell.key.client_id.clone(),
            author: cell.author.load_full(),
            expiry_secs: state.expiry.secs(),
            ends: state.ends.map(|(_, wall)| wall),
            will: state.will.as_ref().map(|armed| (armed.will.clone(), Arc::clone(&armed.author))),
            will_due: state.will_due.map(|(_, wall)| wall),
        };
        log.add(|number| Record::Session(number, Box::new(stored)))
    }

    fn note_ending(&self, key: &SessionKey, ticket: Ticket) {
        let Some(journal) = &self.journal else { return };
        let mut endeds = self.endings.0.lock();
        endeds.tickets.insert(key.clone(), ticket);
        if endeds.tickets.len() > endeds.look_at.max(ENDINGS_KEPT) {
            endeds.tickets.retain(|_, ticket| !journal.is_settled(*ticket));
            endeds.look_at = endeds.tickets.len() * 2;
        }
    }

    /// What must be settled before a client may be told that it has no session under `key`.
    pub(super) fn ending_of(&self, key: &SessionKey) -> Ticket {
        if self.journal.is_none() {
            return Ticket::NONE;
        }
        self.endings.0.lock().tickets.get(key).copied().unwrap_or_default()
    }
}
