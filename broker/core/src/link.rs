//! What the rest of the broker can reach of one network connection.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::Waker;

use bytes::Bytes;
use parking_lot::Mutex;
use signet_identity::Principal;
use signet_wire::{ClientId, TopicName, Version};

use crate::close::CloseReason;
use crate::hub::Consequences;
use crate::time::Now;

/// Somebody wants the connection closed.
pub(crate) const SIGNAL_CLOSE: u8 = 1;
/// The policy changed: the subscriptions must be judged again.
pub(crate) const SIGNAL_POLICY: u8 = 2;
/// The mailbox has something.
pub(crate) const SIGNAL_MAIL: u8 = 4;
/// A request for a certificate was answered.
pub(crate) const SIGNAL_ANSWER: u8 = 8;

/// One network connection, as others see it. Its owner looks at the signals before every input.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) number: u64,
    pub(crate) principal: Principal,
    pub(crate) address: SocketAddr,
    pub(crate) since: Now,
    pub(crate) admitted: OnceLock<(ClientId, Version)>,
    waker: Waker,
    signals: AtomicU8,
    /// The thread on which its owner is inside an input; 0: on none.
    busy: AtomicUsize,
    /// Why it is to close, once somebody wants that.
    close: OnceLock<CloseReason>,
    /// Somebody has taken from its owner the right to what was not written yet.
    withheld: AtomicBool,
    /// Its owner is trusted no more: what it has made is taken back when it closes.
    condemned: OnceLock<Arc<Consequences>>,
    /// Its owner has other rights than it came with.
    rights: Mutex<Rights>,
    /// Bounded by `REQUESTS_IN_FLIGHT_MAX`: each is for one request of this connection.
    answers: Mutex<Vec<Answered>>,
}

/// The rights by which the will of a connection is judged.
#[derive(Clone, Debug)]
pub(crate) enum Rights {
    /// Those that it connected with.
    AsConnected,
    /// Those of whom its certificate stands for now.
    Of(Principal),
    /// None: whom its certificate stands for now is not known.
    Nobody,
}

/// An answer that waits for its connection. Its content is never shown.
pub(crate) struct Answered {
    pub(crate) topic: TopicName,
    pub(crate) payload: Bytes,
    pub(crate) secret: bool,
}

impl std::fmt::Debug for Answered {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Answered").field("topic", &self.topic).finish_non_exhaustive()
    }
}

impl Link {
    pub(crate) fn new(
        number: u64,
        principal: Principal,
        address: SocketAddr,
        since: Now,
        waker: Waker,
    ) -> Self {
        Self {
            number,
            principal,
            address,
            since,
            admitted: OnceLock::new(),
            waker,
            signals: AtomicU8::new(0),
            busy: AtomicUsize::new(0),
            close: OnceLock::new(),
            withheld: AtomicBool::new(false),
            answers: Mutex::new(Vec::new()),
            condemned: OnceLock::new(),
            rights: Mutex::new(Rights::AsConnected),
        }
    }

    /// Asks the owner to close; the first reason wins.
    pub(crate) fn close(&self, reason: CloseReason) {
        self.mark(reason);
        self.wake();
    }

    /// The owner is to close: it takes no further input and hands out nothing more, and closes when it is next woken,
    /// by whatever it is.
    pub(crate) fn mark(&self, reason: CloseReason) {
        let _ = self.close.set(reason);
        if reason == CloseReason::CertificateRevoked {
            self.withheld.store(true, Ordering::SeqCst);
        }
        self.signals.fetch_or(SIGNAL_CLOSE, Ordering::SeqCst);
    }

    /// As [`Self::mark`], and the owner is to take back what it has made; the first consequences win.
    pub(crate) fn condemn(&self, consequences: Arc<Consequences>) {
        let _ = self.condemned.set(consequences);
        self.mark(CloseReason::CertificateRevoked);
    }

    /// As [`Self::mark`], because the owner has other rights; the last ones said judge its will.
    pub(crate) fn mark_as(&self, rights: Rights) {
        *self.rights.lock() = rights;
        self.withheld.store(true, Ordering::SeqCst);
        self.mark(CloseReason::Administrative);
    }

    /// Calls the owner.
    pub(crate) fn wake(&self) {
        self.waker.wake_by_ref();
    }

    /// The owner begins with an input. It looks at the signals after this.
    pub(crate) fn begin(&self) {
        self.busy.swap(this_thread(), Ordering::SeqCst);
    }

    /// The owner has done an input.
    pub(crate) fn done(&self) {
        self.busy.store(0, Ordering::Release);
    }

    /// Waits for the end of an input that began before the owner could see that it is to close, unless this is called by that
    /// input.
    ///
    /// The mark and `busy` are each written before the other is read, all in one order: either the owner sees the mark, or
    /// its work is seen here. An input ends by itself; it waits for nobody but for short locks.
    pub(crate) fn wait_until_idle(&self) {
        let here = this_thread();
        while ![0, here].contains(&self.busy.load(Ordering::SeqCst)) {
            std::thread::yield_now();
        }
    }

    /// The rights by which the will is judged.
    pub(crate) fn rights(&self) -> Rights {
        self.rights.lock().clone()
    }

    /// Whether its owner is to have nothing more of what was not written yet. It may become so after the close.
    pub(crate) fn is_withheld(&self) -> bool {
        self.withheld.load(Ordering::SeqCst)
    }

    /// What has to be taken back when the connection closes.
    pub(crate) fn condemned(&self) -> Option<&Arc<Consequences>> {
        self.condemned.get()
    }

    /// Tells the owner that the policy changed.
    pub(crate) fn policy_changed(&self) {
        self.signals.fetch_or(SIGNAL_POLICY, Ordering::Release);
        self.waker.wake_by_ref();
    }

    /// Tells the owner that its mailbox has something.
    pub(crate) fn mail(&self) {
        self.signals.fetch_or(SIGNAL_MAIL, Ordering::Release);
        self.waker.wake_by_ref();
    }

    /// Gives the owner the answer to one of its requests.
    pub(crate) fn answer(&self, answered: Answered) {
        self.answers.lock().push(answered);
        self.signals.fetch_or(SIGNAL_ANSWER, Ordering::Release);
        self.waker.wake_by_ref();
    }

    /// The answers since the last call.
    pub(crate) fn take_answers(&self) -> Vec<Answered> {
        std::mem::take(&mut *self.answers.lock())
    }

    /// The signals that wait, without taking them.
    pub(crate) fn signals(&self) -> u8 {
        self.signals.load(Ordering::SeqCst)
    }

    /// The signals since the last call. Costs one load while there are none.
    pub(crate) fn take_signals(&self) -> u8 {
        if self.signals() == 0 { 0 } else { self.signals.swap(0, Ordering::Acquire) }
    }

    /// Why somebody asked to close. Being trusted no more comes before whatever was said earlier.
    pub(crate) fn close_reason(&self) -> Option<CloseReason> {
        match self.condemned.get() {
            Some(_) => Some(CloseReason::CertificateRevoked),
            None => self.close.get().copied(),
        }
    }
}

/// A number that no other living thread has, and not 0.
fn this_thread() -> usize {
    thread_local!(static PLACE: u8 = const { 0 });
    PLACE.with(|place| std::ptr::from_ref(place).addr())
}
