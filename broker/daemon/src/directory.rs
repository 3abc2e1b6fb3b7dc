//! The live connections, so that an operator, a reload or a stop can reach them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Waker;

use dashmap::DashMap;
use parking_lot::Mutex;
use signet_core::CloseReason;
use signet_identity::Principal;

use crate::tls::Judged;

/// What a connection's task is told to do.
#[derive(Debug, Clone)]
pub enum Order {
    /// Close, telling the peer why.
    Close(CloseReason),
}

/// The reachable side of one connection. The task owns the rest.
#[derive(Debug)]
pub struct Handle {
    /// Unique in this process.
    pub id: u64,
    /// Index of the listener that accepted it.
    pub listener: usize,
    /// The peer's address.
    pub address: SocketAddr,
    /// Who it is.
    pub principal: Principal,
    /// What it proved that with.
    pub judged: Judged,
    mailbox: Mutex<OrderBox>,
}

#[derive(Debug, Default)]
struct OrderBox {
    order: Option<Order>,
    waker: Option<Waker>,
}

impl Handle {
    /// Gives the task an order. The first order stands: a connection closes once.
    pub fn order(&self, order: Order) {
        let waker = {
            let mut mailbox = self.mailbox.lock();
            mailbox.order.get_or_insert(order);
            mailbox.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Takes the order, if there is one; otherwise `waker` is woken when one comes.
    pub fn poll_order(&self, waker: &Waker) -> Option<Order> {
        let mut mailbox = self.mailbox.lock();
        let order = mailbox.order.take();
        match &mailbox.waker {
            Some(known) if known.will_wake(waker) => {}
            _ => mailbox.waker = Some(waker.clone()),
        }
        order
    }
}

/// All live connections of the process.
#[derive(Debug, Default)]
pub struct Directory {
    handles: DashMap<u64, Arc<Handle>>,
    next_id: AtomicU64,
}

impl Directory {
    /// Adds a connection. The entry lasts until the returned registration is dropped.
    pub fn register(
        self: &Arc<Self>,
        listener: usize,
        address: SocketAddr,
        principal: Principal,
        judged: Judged,
    ) -> Registration {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let handle = Arc::new(Handle { id, listener, address, principal, judged, mailbox: Mutex::default() });
        self.handles.insert(id, Arc::clone(&handle));
        Registration { handle, directory: Arc::clone(self) }
    }

    /// Connections now.
    pub fn len(&self) -> usize {
        self.handles.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.handles.is_empty()
    }

    /// The handles of all connections at this moment, cloned out so that no lock is held while they are used.
    pub fn snapshot(&self) -> Vec<Arc<Handle>> {
        self.handles.iter().map(|entry| Arc::clone(entry.value())).collect()
    }

    /// Orders every connection that `select` gives a reason for to close, and says how many.
    pub fn close_where(&self, mut select: impl FnMut(&Handle) -> Option<CloseReason>) -> usize {
        let mut closed = 0;
        for handle in self.snapshot() {
            if let Some(reason) = select(&handle) {
                handle.order(Order::Close(reason));
                closed += 1;
            }
        }
        closed
    }
}

/// Keeps a connection in the directory.
#[derive(Debug)]
pub struct Registration {
    handle: Arc<Handle>,
    directory: Arc<Directory>,
}

impl Registration {
    /// The reachable side.
    pub fn handle(&self) -> &Arc<Handle> {
        &self.handle
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.directory.handles.remove(&self.handle.id);
    }
}
