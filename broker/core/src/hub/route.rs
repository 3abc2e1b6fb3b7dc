//! From one publisher to every mailbox it concerns.

use std::cell::Cell;
use std::sync::Arc;

use bytes::Bytes;
use signet_acl::{Authorized, Denied, DenyCause, Policy, Topical, authorize_broker};
use signet_identity::Role;
use signet_wire::{PublishProperties, QoS, TopicName};
use smallvec::SmallVec;

use crate::close::CloseReason;
use crate::counters::{Shard, count};
use crate::hub::pressure::taken_by;
use crate::hub::{Hub, NOBODY};
use crate::journal::Ticket;
use crate::limits::Limits;
use crate::mailbox::{Entry, Group, Pushed, Room};
use crate::message::{Author, Message, Publisher};
use crate::router::Matches;
use crate::session::{SessionCell, SessionRef};
use crate::time::Now;

/// A message that nobody has allowed yet.
pub(crate) struct Draft {
    pub(crate) topic: TopicName,
    pub(crate) payload: Bytes,
    pub(crate) qos: QoS,
    pub(crate) retain: bool,
    pub(crate) properties: Option<Box<PublishProperties>>,
    /// Its publisher can be told that it was refused, and sends it again or gives up. Where nobody can be told, a message
    /// that a bound keeps from being retained is routed all the same.
    pub(crate) can_be_refused: bool,
    /// Whom it is for, where that was looked up already.
    pub(crate) receivers: Option<Matches<SessionRef>>,
}

impl Topical for &mut Draft {
    fn topic(&self) -> &TopicName {
        &self.topic
    }
}

/// What one publisher keeps between its messages.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    pub(super) matches: Matches<SessionRef>,
    /// The last topic, in memory of its own: publishers repeat themselves.
    topic: Option<TopicName>,
}

/// Who got a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Routed {
    /// Somebody did.
    pub(crate) somebody: bool,
    /// A bound kept it from being retained, and its publisher cannot be told.
    pub(crate) unretained: bool,
    /// What must be settled before its publisher may believe so.
    pub(crate) ticket: Ticket,
}

impl Routed {
    /// Another one got it.
    fn also(&mut self, ticket: Ticket) {
        self.somebody = true;
        self.ticket = self.ticket.max(ticket);
    }
}

/// Why a message was not routed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SendError {
    Denied(DenyCause),
    /// The publisher may not read its own response topic.
    ResponseTopic(DenyCause),
    /// The retained store is full for this publisher, who can be told.
    RetainedQuota,
    /// Memory runs short.
    Overloaded,
}

impl Hub {
    /// Judges and routes a message of a client. After `Ok` every receiver's mailbox has it, and the retained store
    /// too, unless [`Routed::unretained`].
    ///
    /// `from` is the number of the publishing session, for No Local.
    pub(crate) fn send(
        &self,
        draft: &mut Draft,
        author: &Arc<Author>,
        from: u64,
        scratch: &mut Scratch,
        now: Now,
    ) -> Result<Routed, SendError> {
        let slot = self.policy_slot();
        check_response_topic(&slot.policy, author, draft)?;
        let allowed = slot
            .policy
            .authorize(&author.subject(), draft)
            .map_err(|denied| SendError::Denied(denied.because))?;
        self.publish(allowed, author, from, scratch, now)
    }

    fn publish(
        &self,
        allowed: Authorized<&mut Draft>,
        author: &Arc<Author>,
        from: u64,
        scratch: &mut Scratch,
        now: Now,
    ) -> Result<Routed, SendError> {
        let draft = allowed.into_inner();
        match draft.receivers.take() {
            // What comes is retained first, see below.
            _ if draft.retain => {}
            Some(receivers) => scratch.matches = receivers,
            None => self.index.matches(&draft.topic, from, &mut scratch.matches),
        }
        if scratch.matches.is_empty() && !draft.retain {
            return Ok(Routed::default());
        }
        let limits = self.limits.load();
        let message = Arc::new(Message::new(
            scratch.own_topic(&draft.topic),
            own_payload(draft, &scratch.matches, &limits),
            draft.qos,
            draft.retain,
            draft.properties.as_deref().map(|properties| Box::new(properties.detached())),
            Publisher::Client(Arc::clone(author)),
            now.mono,
        ));
        // Before it is looked up who gets it: a client that subscribes at this moment then gets the message from one side or
        // from both, never from none.
        let retained = self.retain(&message);
        if let Err(error) = retained
            && draft.can_be_refused
        {
            return Err(error);
        }
        if draft.retain {
            self.index.matches(&message.topic, from, &mut scratch.matches);
        }
        let mut routed = self.spread(&message, &mut scratch.matches, &limits, self.counters.shard(from));
        routed.unretained = retained.is_err();
        routed.ticket = routed.ticket.max(retained.unwrap_or_default());
        Ok(routed)
    }

    /// Publishes in the broker's own name: `$SYS`, and replies of its services. Readers need their right as for any
    /// topic.
    ///
    /// # Errors
    /// [`Denied`] when the topic does not begin with `$`: the others belong to the clients.
    pub fn publish_internal(
        &self,
        topic: TopicName,
        payload: Bytes,
        retain: bool,
        now: Now,
    ) -> Result<(), Denied> {
        let message = Arc::new(Message::new(
            topic,
            payload,
            QoS::AtMostOnce,
            retain,
            None,
            Publisher::Broker,
            now.mono,
        ));
        let message = authorize_broker(message)?.into_inner();
        // No bound of the retained store refuses the broker's own topics.
        let _ = self.retain(&message);
        let mut matches = Matches::new();
        self.index.matches(&message.topic, NOBODY, &mut matches);
        self.spread(&message, &mut matches, &self.limits.load(), self.counters.shard(NOBODY));
        Ok(())
    }

    pub(super) fn spread_event(&self, message: &Arc<Message>) {
        let mut matches = Matches::new();
        self.index.matches(&message.topic, NOBODY, &mut matches);
        self.spread(message, &mut matches, &self.limits.load(), self.counters.shard(NOBODY));
    }

    /// Keeps or clears the retained message of a topic (`[MQTT5-3.3.1-5]`, `[MQTT5-3.3.1-6]`, `[MQTT5-3.3.1-7]`).
    /// Gives what must be settled before the publisher may believe so.
    fn retain(&self, message: &Arc<Message>) -> Result<Ticket, SendError> {
        if !message.retain {
            return Ok(Ticket::NONE);
        }
        self.retained.set(Arc::clone(message)).map_err(|_| SendError::RetainedQuota)
    }

    fn spread(
        &self,
        message: &Arc<Message>,
        matches: &mut Matches<SessionRef>,
        limits: &Limits,
        counters: &Shard,
    ) -> Routed {
        let (mut routed, mut queues) = (Routed::default(), 0);
        for group in matches.shared() {
            if let Some(ticket) = self.share(message, group, limits, counters) {
                routed.also(ticket);
                queues += 1;
            }
        }
        for hit in matches.drain_plain() {
            queues += 1;
            let entry = Entry {
                number: 0,
                message: Arc::clone(message),
                qos: message.qos.min(hit.qos),
                retain: message.retain && hit.retain_as_published,
                replay: false,
                subscription_ids: hit.subscription_ids,
                group: None,
            };
            routed.also(push(&hit.subscriber, entry, limits, counters).unwrap_or_default());
        }
        matches.clear();
        self.grow(taken_by(message.bytes, queues));
        routed
    }

    /// Gives a message to one member of a shared subscription (MQTT5 §4.8.2): the next in turn that is connected and
    /// has room, else the next that can keep it for later. `None`: no member may or can have it.
    fn share(
        &self,
        message: &Arc<Message>,
        group: &Group,
        limits: &Limits,
        counters: &Shard,
    ) -> Option<Ticket> {
        let slot = self.policy_slot();
        let mut unwilling: SmallVec<[u64; 4]> = SmallVec::new();
        loop {
            let fallback: Cell<Option<u64>> = Cell::new(None);
            let picked = group.pick(|member| {
                if unwilling.contains(&member.number) {
                    return false;
                }
                let room = member.mailbox.lock().room(message.qos, message.bytes, &member.inflight, limits);
                let wanted = match room {
                    Room::None => false,
                    Room::Later => fallback.get().is_none(),
                    Room::Now => true,
                };
                if !wanted
                    || slot.policy.may_receive(&member.author.load().subject(), &message.topic).is_err()
                {
                    return false;
                }
                if room == Room::Later {
                    fallback.set(Some(member.number));
                }
                room == Room::Now
            });
            let picked = picked.or_else(|| {
                let number = fallback.get()?;
                group.pick(|member| member.number == number)
            });
            let Some((member, options)) = picked else {
                count(&counters.dropped_no_member);
                return None;
            };
            let entry = Entry {
                number: 0,
                message: Arc::clone(message),
                qos: message.qos.min(options.qos),
                retain: message.retain && options.retain_as_published,
                replay: false,
                subscription_ids: options.subscription_id.into_iter().collect(),
                group: Some(Arc::clone(group)),
            };
            if let Some(ticket) = push(&member, entry, limits, counters) {
                return Some(ticket);
            }
            // Its session ended meanwhile, or the lower QoS of its subscription cannot wait.
            unwilling.push(member.number);
        }
    }

    /// Finds other members for messages of shared subscriptions whose member's session has ended, or may no longer
    /// read them (MQTT5 §4.8.2). Messages of plain subscriptions end with their session.
    pub(crate) fn redistribute(&self, orphans: impl IntoIterator<Item = Entry>) {
        let counters = self.counters.shard(NOBODY);
        for orphan in orphans {
            if let Some(group) = &orphan.group
                && self.share(&orphan.message, group, &self.limits.load(), counters).is_some()
            {
                count(&counters.shared_redelivered);
            }
        }
    }
}

/// A publisher that names a response topic makes another client publish there. One that may not read the topic would
/// aim that client at somebody else, so it is refused. Operators, who command, are exempt.
fn check_response_topic(policy: &Policy, author: &Author, draft: &Draft) -> Result<(), SendError> {
    let Some(topic) = draft.properties.as_deref().and_then(|properties| properties.response_topic.as_ref())
    else {
        return Ok(());
    };
    if author.principal.role() == Role::Operator {
        return Ok(());
    }
    match policy.may_receive(&author.subject(), topic) {
        Ok(_) => Ok(()),
        Err(denied) => Err(SendError::ResponseTopic(denied.because)),
    }
}

/// Puts an entry into a session's mailbox; gives what must be settled before it is kept there for good. `None`: the
/// session will never take it.
fn push(session: &SessionCell, entry: Entry, limits: &Limits, counters: &Shard) -> Option<Ticket> {
    // The guard is gone before anybody is woken.
    let pushed = {
        let mut mailbox = session.mailbox.lock();
        for _ in 0..mailbox.make_room(&entry, &session.inflight, limits) {
            count(&counters.dropped_expired);
        }
        mailbox.push(entry, &session.inflight, limits)
    };
    match pushed {
        Pushed::Queued(link, ticket) => {
            if let Some(link) = link {
                link.mail();
            }
            Some(ticket)
        }
        Pushed::Dropped => {
            count(&counters.dropped_queue_full);
            Some(Ticket::NONE)
        }
        Pushed::TooSlow { link, kept } => {
            if kept.is_none() {
                count(&counters.dropped_queue_full);
            }
            link.close(CloseReason::SlowConsumer);
            Some(kept.unwrap_or_default())
        }
        Pushed::Unwanted => None,
    }
}

impl Scratch {
    /// The topic in memory of its own, so that a message does not keep the read buffer alive.
    fn own_topic(&mut self, topic: &TopicName) -> TopicName {
        match &self.topic {
            Some(last) if last == topic => last.clone(),
            _ => {
                let own = topic.detached();
                self.topic = Some(own.clone());
                own
            }
        }
    }
}

/// The payload in memory of its own, where the rest of the read buffer would be much beside it, or for long: it is retained, or may
/// wait for somebody who is not connected.
fn own_payload(draft: &Draft, matches: &Matches<SessionRef>, limits: &Limits) -> Bytes {
    let is_away = |session: &SessionCell| session.mailbox.lock().link().is_none();
    let may_wait = || {
        draft.qos != QoS::AtMostOnce
            // Who of a group gets it is not known yet.
            && (!matches.shared().is_empty() || matches.plain().iter().any(|hit| is_away(&hit.subscriber)))
    };
    if draft.payload.len() <= limits.payload_copy_bytes_max || draft.retain || may_wait() {
        Bytes::copy_from_slice(&draft.payload)
    } else {
        draft.payload.clone()
    }
}
