//! What all connections share: sessions, subscriptions, retained messages, policy, limits, timers and counters.
//!
//! There is no lock that every message crosses. Publishing reads the policy and the limits without waiting, looks the
//! topic up in the index, and takes the short lock of each receiver's mailbox. The directory of sessions is asked at
//! CONNECT and at a session's end only.
//!
//! Lock order: [`Hub::together`], then a session's `state`, then any mailbox, then the timers; the journal's own lock comes
//! last. No two sessions' `state` are locked at once. Who holds [`Hub::together`] waits for no other connection.

mod attach;
mod closing;
mod command;
mod durable;
mod policy;
mod pressure;
mod purge;
mod rejudge;
mod restore;
mod route;
mod sys;
mod timers;
mod usage;
mod view;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use arc_swap::{ArcSwap, Guard};
use dashmap::DashMap;
use foldhash::quality::RandomState;
use parking_lot::Mutex;
use signet_acl::Policy;
use signet_identity::{CertificateId, PrincipalKey};
use signet_wire::{ReasonCode, TopicName};

pub(crate) use attach::{Attach, Attached};
pub use command::Hears;
pub(crate) use policy::PolicySlot;
pub use pressure::{Backlog, Pressure};
pub(crate) use pressure::{NoRoom, Outline, may_be_lost};
pub use purge::{Condemned, Consequences, Purged, RetainedTaken};
pub use restore::{Restored, Restoring};
pub(crate) use route::{Draft, Routed, Scratch, SendError};
pub use view::{ConnectionInfo, SessionInfo};

use crate::counters::Counters;
use crate::journal::{Durability, Journal};
use crate::limits::Limits;
use crate::link::{Answered, Link};
use crate::provisioning::{Answer, ReplyTo};
use crate::retained::{RetainedBounds, RetainedStore};
use crate::router::Index;
use crate::session::{SessionKey, SessionRef};
use closing::Closings;
use durable::Endings;
pub(crate) use usage::{Inflight, Usage, subscription_bytes};

use attach::Own;
use pressure::Load;
use sys::SysState;
use timers::Timers;

/// The shared half of the broker. Held in an [`Arc`] by every connection.
pub struct Hub {
    pub(crate) limits: ArcSwap<Limits>,
    pub(crate) policy: ArcSwap<PolicySlot>,
    pub(crate) index: Index<SessionRef>,
    pub(crate) retained: RetainedStore,
    pub(crate) counters: Counters,
    sessions: DashMap<SessionKey, SessionRef, RandomState>,
    session_count: AtomicUsize,
    session_count_max: AtomicUsize,
    connected_count: AtomicUsize,
    /// What each principal has here.
    principals: DashMap<PrincipalKey, Own, RandomState>,
    load: Load,
    links: DashMap<u64, Registered, RandomState>,
    /// Connections that have closed and whose owner may still be writing what they said.
    partings: DashMap<u64, Registered, RandomState>,
    numbers: AtomicU64,
    timers: Timers,
    closings: Closings,
    sys: Mutex<SysState>,
    reports_subscriptions: AtomicBool,
    /// What must outlive the process; `None`: nothing does.
    journal: Option<Arc<Journal>>,
    /// Acknowledgements wait for the journal.
    strict: bool,
    endings: Endings,
}

/// A connection, and beside it a part of its certificate's number: who looks for a few among very many reads no other memory
/// for the others.
struct Registered {
    tag: u64,
    link: Arc<Link>,
}

/// The first bytes of the certificate's number.
fn tag_of(certificate: &CertificateId) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = *certificate.as_bytes();
    u64::from_le_bytes([a, b, c, d, e, f, g, h])
}

impl std::fmt::Debug for Hub {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hub")
            .field("sessions", &self.sessions.len())
            .field("index", &self.index)
            .finish_non_exhaustive()
    }
}

impl Hub {
    /// A broker without sessions.
    #[must_use]
    pub fn new(limits: Limits, policy: Arc<Policy>) -> Arc<Self> {
        Self::build(limits, policy, None, Durability::default())
    }

    /// A broker whose stored sessions and retained messages outlive the process, as far as somebody writes down what
    /// comes out of `journal`. [`Self::restore`] puts what an earlier process left into it.
    #[must_use]
    pub fn with_journal(
        limits: Limits,
        policy: Arc<Policy>,
        journal: Arc<Journal>,
        durability: Durability,
    ) -> Arc<Self> {
        Self::build(limits, policy, Some(journal), durability)
    }

    fn build(
        limits: Limits,
        policy: Arc<Policy>,
        journal: Option<Arc<Journal>>,
        durability: Durability,
    ) -> Arc<Self> {
        Arc::new(Self {
            retained: RetainedStore::with_journal(retained_bounds(&limits), journal.clone()),
            strict: durability == Durability::Strict,
            journal,
            endings: Endings::default(),
            limits: ArcSwap::from_pointee(limits),
            policy: ArcSwap::from_pointee(PolicySlot { policy, generation: 0 }),
            index: Index::new(),
            counters: Counters::default(),
            sessions: DashMap::default(),
            session_count: AtomicUsize::new(0),
            session_count_max: AtomicUsize::new(0),
            connected_count: AtomicUsize::new(0),
            principals: DashMap::default(),
            load: Load::default(),
            links: DashMap::default(),
            partings: DashMap::default(),
            numbers: AtomicU64::new(1),
            timers: Timers::default(),
            closings: Closings::default(),
            sys: Mutex::new(SysState::default()),
            reports_subscriptions: AtomicBool::new(false),
        })
    }

    /// The limits as they are now.
    #[must_use]
    pub fn limits(&self) -> Arc<Limits> {
        self.limits.load_full()
    }

    /// Puts other limits in place, for what happens from now on. Nothing that is stored is cut back.
    pub fn set_limits(&self, limits: Limits) {
        self.retained.set_bounds(retained_bounds(&limits));
        self.limits.store(Arc::new(limits));
    }

    /// The policy that judges now.
    #[must_use]
    pub fn policy(&self) -> Arc<Policy> {
        Arc::clone(&self.policy.load().policy)
    }

    pub(crate) fn policy_slot(&self) -> Guard<Arc<PolicySlot>> {
        self.policy.load()
    }

    /// What was counted since the start.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// A number that no session or connection had before. Zero is nobody's.
    pub(crate) fn next_number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn register(&self, link: &Arc<Link>) {
        let tag = tag_of(link.principal.certificate());
        self.links.insert(link.number, Registered { tag, link: Arc::clone(link) });
    }

    /// Answers a request for a certificate. The answer is for the connection that asked; it is gone when that is.
    ///
    /// It may be called from any thread. False: the connection is gone.
    pub fn answer(&self, reply_to: ReplyTo, answer: &Answer) -> bool {
        // It is used up: a request has one answer.
        let ReplyTo { connection, topic } = reply_to;
        match (self.link(connection), Answered::new(&topic, answer)) {
            (Some(link), Some(answered)) => {
                link.answer(answered);
                true
            }
            _ => false,
        }
    }

    /// The connection has closed. Until [`Self::forget_parting`] who takes rights from it finds it still.
    pub(crate) fn unregister(&self, link: &Arc<Link>) {
        // In this order it is in one of the two at any time.
        let tag = tag_of(link.principal.certificate());
        self.partings.insert(link.number, Registered { tag, link: Arc::clone(link) });
        self.links.remove(&link.number);
    }

    /// Nothing more is written to a connection that has closed.
    pub(crate) fn forget_parting(&self, link: &Link) {
        self.partings.remove(&link.number);
    }

    fn link(&self, number: u64) -> Option<Arc<Link>> {
        self.links.get(&number).map(|registered| Arc::clone(&registered.link))
    }

    /// Whether a topic or filter has more levels than is allowed.
    pub(crate) fn too_deep(&self, text: &str) -> bool {
        let max = self.limits.load().topic_levels_max;
        text.len() > max && levels(text) > max
    }
}

fn retained_bounds(limits: &Limits) -> RetainedBounds {
    RetainedBounds {
        count_max: limits.retained_messages_max,
        bytes_max: limits.retained_bytes_max,
        publisher_count_max: limits.retained_messages_per_principal_max,
        publisher_bytes_max: limits.retained_bytes_per_principal_max,
    }
}

/// Levels of a topic or filter.
fn levels(text: &str) -> usize {
    text.bytes().filter(|byte| *byte == b'/').count() + 1
}

/// The number under which the broker itself publishes: no session has it.
pub(crate) const NOBODY: u64 = 0;

/// What a successful PUBLISH is answered with.
pub(crate) fn routed_reason(routed: Routed) -> ReasonCode {
    if routed.somebody { ReasonCode::Success } else { ReasonCode::NoMatchingSubscribers }
}

/// A topic of the broker's own making.
pub(crate) fn own_topic(text: String) -> Option<TopicName> {
    TopicName::try_from(text).ok()
}
