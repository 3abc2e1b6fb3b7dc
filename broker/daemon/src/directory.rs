//! What the edge knows of the live connections and the core does not: the listener and the certificate, so that a change
//! of trust can judge them again. Closing one is the core's to do.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use dashmap::DashMap;
use signet_config::Listener;
use signet_core::{Mono, Now, Wall};
use signet_identity::Principal;

use crate::tls::Judged;

/// One live connection.
#[derive(Debug)]
pub struct Live {
    /// Its number in the core.
    pub number: u64,
    /// Index of the listener that accepted it.
    pub listener: usize,
    /// The peer's address.
    pub address: SocketAddr,
    /// Who it is.
    pub principal: Principal,
    /// Whether its CONNECT is refused whatever it says. Then the name is what its certificate says, and it holds nothing.
    pub refused: bool,
    /// The certificate that it proved that with, as it was judged.
    pub judged: Judged,
    /// The settings of the listener under which it was named.
    pub settings: Arc<Listener>,
    /// When it came.
    pub since: Now,
    /// Bytes that its buffers hold at the edge, as they were when it last had something to do.
    pub buffered: AtomicUsize,
    /// What its socket has taken.
    pub taken: Flow,
    /// The whole packets that its peer has sent.
    pub heard: Flow,
}

/// What the buffers of a connection hold, and what its peer does about it, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Buffers {
    /// Its number in the core.
    pub connection: u64,
    /// What they hold.
    pub bytes: usize,
    /// What its socket has taken lately.
    pub taken: u64,
    /// What its peer has sent in whole packets lately.
    pub heard: u64,
}

/// Bytes that went one way. Their connection counts, and one other marks the looks.
#[derive(Debug, Default)]
pub struct Flow {
    ever: AtomicU64,
    /// Of them, up to the last look,
    looked: AtomicU64,
    /// and between the last two.
    between: AtomicU64,
}

impl Flow {
    /// So many more went.
    pub fn add(&self, bytes: u64) {
        self.ever.fetch_add(bytes, Ordering::Relaxed);
    }

    /// This is a look.
    pub fn look(&self) {
        let ever = self.ever.load(Ordering::Relaxed);
        self.between.store(ever - self.looked.swap(ever, Ordering::Relaxed), Ordering::Relaxed);
    }

    /// Bytes since the look before the last.
    #[must_use]
    pub fn lately(&self) -> u64 {
        // Another look may come in between.
        let since = self.ever.load(Ordering::Relaxed).saturating_sub(self.looked.load(Ordering::Relaxed));
        self.between.load(Ordering::Relaxed) + since
    }
}

impl Live {
    /// The time by which its certificate is judged: the wall clock of when it came, and what has passed since. A wall clock
    /// that was set meanwhile ends no connection.
    #[must_use]
    pub fn wall(&self, now: Mono) -> Wall {
        self.since.wall.after(now.since(self.since.mono))
    }
}

/// All live connections of the process.
#[derive(Debug, Default)]
pub struct Directory {
    connections: DashMap<u64, Arc<Live>>,
}

impl Directory {
    /// Adds a connection. The entry lasts until the returned registration is dropped.
    pub fn register(self: &Arc<Self>, live: Live) -> Registration {
        let live = Arc::new(live);
        self.connections.insert(live.number, Arc::clone(&live));
        Registration { live, directory: Arc::clone(self) }
    }

    /// Connections now.
    pub fn len(&self) -> usize {
        self.connections.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.connections.is_empty()
    }

    /// The buffers of each connection; those that hold nothing and whose peer has taken nothing lately are left out.
    pub fn buffers(&self) -> impl Iterator<Item = Buffers> + '_ {
        let held = self.connections.iter().map(|entry| {
            let live = entry.value();
            Buffers {
                connection: *entry.key(),
                bytes: live.buffered.load(Ordering::Relaxed),
                taken: live.taken.lately(),
                heard: live.heard.lately(),
            }
        });
        held.filter(|own| own.bytes > 0 || own.taken > 0)
    }

    /// What `flow` chooses counts anew from now on, beside what went since the last look at it.
    pub fn look(&self, flow: impl Fn(&Live) -> &Flow) {
        self.connections.iter().for_each(|entry| flow(entry.value()).look());
    }

    /// All connections at this moment, cloned out so that no lock is held while they are looked at.
    pub fn snapshot(&self) -> Vec<Arc<Live>> {
        self.connections.iter().map(|entry| Arc::clone(entry.value())).collect()
    }
}

/// Keeps a connection in the directory.
#[derive(Debug)]
pub struct Registration {
    live: Arc<Live>,
    directory: Arc<Directory>,
}

impl Registration {
    /// The entry.
    pub fn live(&self) -> &Live {
        &self.live
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.directory.connections.remove(&self.live.number);
    }
}
