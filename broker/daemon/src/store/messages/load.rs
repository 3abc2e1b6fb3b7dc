//! From the rows of a store to what the core takes back and the ledger must know.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use signet_core::journal::{QueuedEntry, RestoredEntry, RestoredSession, SessionNumber};
use signet_core::{Message, Now};

use super::MessagesError;
use super::ledger::Ledger;
use super::row::{Decoder, Row, Waiting};
use super::store::MessageStore;

/// Between two records in the log about how far loading is.
const TELL_EVERY: Duration = Duration::from_secs(1);
/// Rows between two looks at the clock.
const LOOK_EVERY: u64 = 4096;

/// One thing that an earlier process left.
#[derive(Debug)]
pub enum Left {
    /// A session.
    Session(Box<RestoredSession>),
    /// A retained message.
    Retained(Arc<Message>),
}

/// How much was loaded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Loaded {
    /// Sessions.
    pub sessions: u64,
    /// Subscriptions of these.
    pub subscriptions: u64,
    /// Messages that wait for these.
    pub waiting: u64,
    /// Retained messages.
    pub retained: u64,
    /// Rows that belonged to nothing, and will be deleted.
    pub strays: u64,
    /// The highest number of a session.
    pub highest: SessionNumber,
}

/// Reads the whole store, hands what it has to `take`, and gives the ledger that goes with it.
///
/// # Errors
/// What the store says; a row that cannot be read is damage of the store in `path`.
pub fn load(
    store: &dyn MessageStore,
    path: &Path,
    now: Now,
    take: &mut dyn FnMut(Left),
) -> Result<(Ledger, Loaded), MessagesError> {
    let mut loader = Loader {
        ledger: Ledger::new(),
        loaded: Loaded::default(),
        session: None,
        decoder: Decoder::new(now),
        take,
        rows: 0,
        told: Instant::now(),
    };
    store.for_each(&mut |key, value| {
        loader.row(key, value).map_err(|error| MessagesError::row(path, key, &error))
    })?;
    loader.end_session();
    let mut ledger = loader.ledger;
    let mut loaded = loader.loaded;
    loaded.strays = ledger.end_of_rows() as u64;
    if loaded.strays > 0 {
        tracing::warn!(rows = loaded.strays, "rows of the message store belonged to nothing and are deleted");
    }
    Ok((ledger, loaded))
}

struct Loader<'a> {
    ledger: Ledger,
    loaded: Loaded,
    /// The session whose rows come now.
    session: Option<Box<RestoredSession>>,
    decoder: Decoder,
    take: &'a mut dyn FnMut(Left),
    rows: u64,
    told: Instant,
}

impl Loader<'_> {
    fn row(&mut self, key: &[u8], value: &[u8]) -> Result<(), super::row::RowError> {
        self.rows += 1;
        if self.rows.is_multiple_of(LOOK_EVERY) && self.told.elapsed() >= TELL_EVERY {
            self.told = Instant::now();
            tracing::info!(
                rows = self.rows,
                sessions = self.loaded.sessions,
                retained = self.loaded.retained,
                "loading sessions and retained messages"
            );
        }
        match self.decoder.row(key, value)? {
            Row::Schema(_) | Row::Commit(_) => {}
            Row::Body(number, message) => self.ledger.has_body(number, &message),
            Row::Session(number, stored) => {
                self.end_session();
                self.ledger.has_session(number);
                self.loaded.highest = self.loaded.highest.max(number);
                self.session = Some(Box::new(RestoredSession {
                    number,
                    stored: *stored,
                    subscriptions: Vec::new(),
                    entries: Vec::new(),
                    unreleased: Vec::new(),
                }));
            }
            Row::Subscription(number, filter, options) => match self.current(number) {
                Some(session) => session.subscriptions.push((filter, options)),
                None => self.ledger.has_stray(key),
            },
            Row::Waiting(number, entry, waiting) => self.waiting(number, entry, waiting, key),
            Row::Exchange(number, entry, exchange) => {
                let Some(session) = self.current(number) else {
                    self.ledger.has_stray(key);
                    return Ok(());
                };
                let place = session.entries.binary_search_by_key(&entry, RestoredEntry::number);
                match place {
                    Ok(place) if !exchange.released => {
                        let waiting = session.entries.remove(place);
                        let sent = match waiting {
                            RestoredEntry::Waiting(queued) => RestoredEntry::Sent(queued, exchange.packet_id),
                            other => other,
                        };
                        session.entries.insert(place, sent);
                    }
                    Err(place) if exchange.released => {
                        session.entries.insert(place, RestoredEntry::Released(entry, exchange.packet_id));
                    }
                    // Released and still there, or sent and not there: no batch leaves that.
                    _ => {
                        self.ledger.has_stray(key);
                        return Ok(());
                    }
                }
                self.ledger.has_exchange(number, entry, exchange);
            }
            Row::Received(number, id) => {
                if let Some(session) = self.current(number) {
                    session.unreleased.push(id);
                    self.ledger.has_received(number, id);
                } else {
                    self.ledger.has_stray(key);
                }
            }
            Row::Retained(message) => {
                self.end_session();
                self.loaded.retained += 1;
                (self.take)(Left::Retained(message));
            }
        }
        Ok(())
    }

    fn waiting(&mut self, number: SessionNumber, entry: u64, waiting: Waiting, key: &[u8]) {
        let message = self.ledger.message(waiting.body).map(Arc::clone);
        let (Some(session), Some(message)) = (self.current(number), message) else {
            self.ledger.has_stray(key);
            return;
        };
        let Waiting { body, qos, retain, replay, subscription_ids, shared } = waiting;
        let queued = QueuedEntry { number: entry, message, qos, retain, replay, subscription_ids, shared };
        session.entries.push(RestoredEntry::Waiting(queued));
        self.ledger.has_entry(number, entry, body);
    }

    /// The session whose rows come now, if it is this one.
    fn current(&mut self, number: SessionNumber) -> Option<&mut RestoredSession> {
        self.session.as_deref_mut().filter(|session| session.number == number)
    }

    fn end_session(&mut self) {
        if let Some(session) = self.session.take() {
            self.loaded.sessions += 1;
            self.loaded.subscriptions += session.subscriptions.len() as u64;
            self.loaded.waiting += session.entries.len() as u64;
            (self.take)(Left::Session(session));
        }
    }
}
