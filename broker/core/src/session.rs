//! What a client has at the broker beyond one network connection (MQTT5 §4.1).

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use foldhash::quality::RandomState;
use parking_lot::Mutex;
use signet_identity::PrincipalKey;
use signet_wire::{ClientId, PacketId, SubscriptionFilter, Will};

use crate::hub::{Inflight, Usage};
use crate::journal::{Log, Record};
use crate::mailbox::Mailbox;
use crate::message::Author;
use crate::outbound::Outbound;
use crate::router::{SubOptions, Subscriber};
use crate::time::{Mono, Wall};

/// What a session belongs to. Every principal has a name space of client identifiers of its own: another principal
/// with the same client identifier neither resumes, nor sees, nor evicts it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct SessionKey {
    pub(crate) principal: PrincipalKey,
    pub(crate) client_id: ClientId,
}

/// How long a session outlives its connection (`[MQTT5-3.1.2-23]`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expiry {
    AtClose,
    AfterSecs(u32),
    Never,
}

impl Expiry {
    pub(crate) const fn from_secs(secs: u32) -> Self {
        match secs {
            0 => Self::AtClose,
            u32::MAX => Self::Never,
            secs => Self::AfterSecs(secs),
        }
    }

    pub(crate) const fn secs(self) -> u32 {
        match self {
            Self::AtClose => 0,
            Self::AfterSecs(secs) => secs,
            Self::Never => u32::MAX,
        }
    }
}

/// A will that is to be sent unless the client disconnects properly.
#[derive(Debug)]
pub(crate) struct ArmedWill {
    pub(crate) will: Will,
    pub(crate) author: Arc<Author>,
}

/// A session, shared by the index, the queues of shared subscriptions, and its owner.
#[derive(Debug)]
pub(crate) struct SessionCell {
    /// Never used twice; also the session's number in the index.
    pub(crate) number: u64,
    pub(crate) key: SessionKey,
    pub(crate) author: ArcSwap<Author>,
    /// What all sessions of the principal have together.
    pub(crate) usage: Arc<Usage>,
    pub(crate) inflight: Inflight,
    /// Lock order: `state`, then `mailbox`; nothing else is locked under `mailbox`.
    pub(crate) state: Mutex<Session>,
    pub(crate) mailbox: Mutex<Mailbox>,
}

/// A handle of a session.
pub(crate) type SessionRef = Arc<SessionCell>;

impl Subscriber for SessionRef {
    fn id(&self) -> u64 {
        self.number
    }
}

/// The state that only the owner, and whoever ends the session, touches.
#[derive(Debug)]
pub(crate) struct Session {
    /// The number of the link that owns the session; `None`: not connected.
    pub(crate) owner: Option<u64>,
    /// No longer in the directory; nobody may attach.
    pub(crate) ended: bool,
    pub(crate) expiry: Expiry,
    /// When the session ends; only without an owner.
    pub(crate) ends: Option<(Mono, Wall)>,
    pub(crate) will: Option<Box<ArmedWill>>,
    /// When the will is sent; only without an owner.
    pub(crate) will_due: Option<(Mono, Wall)>,
    /// The deadline under which the session stands in the hub's timers.
    pub(crate) timer: Option<Mono>,
    pub(crate) subscriptions: HashMap<SubscriptionFilter, SubOptions, RandomState>,
    pub(crate) outbound: Outbound,
    /// QoS 2 messages of the client that are not released (`[MQTT5-4.3.3-10]`).
    pub(crate) unreleased: HashMap<PacketId, Unreleased, RandomState>,
    /// The policy that last judged the subscriptions.
    pub(crate) policy_generation: u64,
    /// Where it is recorded, while it is a session that outlives its connection and the broker has a journal. The mailbox
    /// has the same.
    pub(crate) log: Option<Log>,
}

/// A QoS 2 message of the client that is not released.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unreleased {
    /// The number of the link that last sent it.
    pub(crate) link: u64,
    /// Everybody has it. Else that link is in the middle of routing it, or of refusing it.
    pub(crate) routed: bool,
}

impl Session {
    /// Records that the message with this number no longer waits.
    pub(crate) fn done(&self, number: u64) {
        if let Some(log) = &self.log {
            log.add(|session| Record::Done(session, number));
        }
    }

    /// The earlier of what it waits for without an owner.
    pub(crate) fn next_deadline(&self) -> Option<Mono> {
        [self.will_due, self.ends].into_iter().flatten().map(|(at, _)| at).min()
    }
}

impl SessionCell {
    /// Says how many bytes are in flight, now that exchanges began or ended. `state` is the session's own.
    pub(crate) fn tell_inflight(&self, state: &Session) {
        self.inflight.tell(state.outbound.bytes(), &self.usage);
    }

    pub(crate) fn new(
        number: u64,
        key: SessionKey,
        author: Arc<Author>,
        policy_generation: u64,
        usage: Arc<Usage>,
    ) -> Self {
        let mailbox = Mutex::new(Mailbox::new(Arc::clone(&usage)));
        Self {
            number,
            key,
            author: ArcSwap::new(author),
            usage,
            inflight: Inflight::default(),
            state: Mutex::new(Session {
                owner: None,
                ended: false,
                expiry: Expiry::AtClose,
                ends: None,
                will: None,
                will_due: None,
                timer: None,
                subscriptions: HashMap::default(),
                outbound: Outbound::default(),
                unreleased: HashMap::default(),
                policy_generation,
                log: None,
            }),
            mailbox,
        }
    }
}
