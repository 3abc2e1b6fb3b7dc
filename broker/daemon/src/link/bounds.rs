//! What one connection may take: its place until CONNECT, the rates of its name, and memory.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Context;
use std::time::Duration;

use signet_core::{Mono, Pressure};

use crate::admission::Ticket;
use crate::directory::Live;
use crate::principals::Share;
use crate::server::Broker;

/// While memory runs short, nothing is read from a peer of which so much of a packet is here already.
const UNFINISHED_BYTES_MAX: usize = 16 * 1024;
/// Who had to wait for memory for so long is closed: it may come back when there is some.
const MEMORY_WITHIN: Duration = Duration::from_secs(10);
/// When it is looked at again whether memory still runs short.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Whether to read from the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hearing {
    /// Read.
    Now,
    /// Not before [`Bounds::held_until`].
    Later,
    /// There was no memory for its packet for too long.
    Never,
}

/// The bounds of one connection at the edge.
pub(super) struct Bounds {
    /// Until CONNECT: resolves when this peer must make room for others.
    half_open: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    /// What all connections of the name have sent.
    share: Option<Arc<Share>>,
    /// The name is further ahead of its rates than it may until then.
    ahead_until: Mono,
    /// Nothing is read before.
    held_until: Option<Mono>,
    /// Since when it waits for memory.
    short_since: Option<Mono>,
    /// Since when a packet waits that has come, and that memory has no room for.
    shed_since: Option<Mono>,
    /// What the buffers held when that was last told.
    buffered: usize,
}

impl Bounds {
    pub(super) fn new(half_open: Option<Ticket>, share: Option<Arc<Share>>) -> Self {
        let waits = |ticket: Ticket| -> Pin<Box<dyn Future<Output = ()> + Send>> {
            // It is held until it is dropped, or must be given back.
            Box::pin(async move { ticket.evicted().await })
        };
        Self {
            half_open: half_open.map(waits),
            share,
            ahead_until: Mono::START,
            held_until: None,
            short_since: None,
            shed_since: None,
            buffered: 0,
        }
    }

    /// Its CONNECT was accepted: its place among those that have not said it is free from now on, for whoever comes next.
    pub(super) fn is_known(&mut self) {
        self.half_open = None;
    }

    /// Whether this peer, which has not said CONNECT, must make room for others now.
    pub(super) fn must_make_room(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(waiting) = &mut self.half_open else { return false };
        let must = waiting.as_mut().poll(cx).is_ready();
        if must {
            self.half_open = None;
        }
        must
    }

    /// Whether to read from the peer now, or later: its name sends faster than it may, or memory runs short and much of
    /// a packet is here already.
    pub(super) fn hearing(&mut self, broker: &Broker, unfinished: usize, now: Mono) -> Hearing {
        let short = unfinished > UNFINISHED_BYTES_MAX && broker.hub().pressure() >= Pressure::Shed;
        let since = *self.short_since.get_or_insert(now);
        if !short {
            self.short_since = None;
        } else if now.since(since) >= MEMORY_WITHIN {
            return Hearing::Never;
        }
        let (until, reason) = if self.ahead_until > now {
            (Some(self.ahead_until), "rate")
        } else if short {
            (Some(now.after(LOOK_AGAIN)), "memory")
        } else {
            (None, "")
        };
        if until.is_some() && self.held_until.is_none() {
            broker.metrics.held_back.with_label_values(&[reason]).inc();
        }
        self.held_until = until;
        if until.is_some() { Hearing::Later } else { Hearing::Now }
    }

    /// Whether a packet that has come is to wait for memory: until [`Self::held_until`], and then it is asked again. Not for ever:
    /// then it is refused.
    pub(super) fn waits_for_memory(&mut self, broker: &Broker, now: Mono) -> bool {
        if self.shed_since.is_none() {
            broker.metrics.held_back.with_label_values(&["memory"]).inc();
        }
        let since = *self.shed_since.get_or_insert(now);
        let waits = now.since(since) < MEMORY_WITHIN;
        if waits {
            self.held_until = Some(now.after(LOOK_AGAIN));
        }
        waits
    }

    /// No packet waits for memory any more.
    pub(super) fn has_memory(&mut self) {
        self.shed_since = None;
    }

    /// Until when nothing is read.
    pub(super) fn held_until(&self) -> Option<Mono> {
        self.held_until
    }

    /// Whether it is time to read again.
    pub(super) fn may_read_again(&mut self, now: Mono) -> bool {
        let due = self.held_until.is_some_and(|until| until <= now);
        if due {
            self.held_until = None;
        }
        due
    }

    /// Counts what came against the rates of the name.
    pub(super) fn came(&mut self, broker: &Broker, publishes: u32, bytes: usize, now: Mono) {
        broker.memory.taken(broker.hub(), bytes);
        let rates = **broker.rates.load();
        if let Some(share) = self.share.as_ref().filter(|_| rates.slow_reading()) {
            self.ahead_until = share.came(publishes, bytes, rates, now);
        }
    }

    /// Says how much the buffers hold, for those who look for memory.
    pub(super) fn tell_buffered(&mut self, broker: &Broker, live: &Live, bytes: usize) {
        if bytes == self.buffered {
            return;
        }
        live.buffered.store(bytes, Ordering::Relaxed);
        if bytes > self.buffered {
            broker.memory.taken(broker.hub(), bytes - self.buffered);
        }
        self.buffered = bytes;
    }
}
