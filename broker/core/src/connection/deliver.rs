//! From the mailbox to the client.

use std::sync::Arc;

use signet_acl::DenyCause;
use signet_wire::{Ack, Packet, PacketId, QoS, QosId, TopicName};

use crate::action::{Action, Actions, Delivery};
use crate::close::CloseReason;
use crate::connection::Open;
use crate::counters::{count, count_by};
use crate::event::{DeniedAccess, Event};
use crate::hub::{Hub, PolicySlot};
use crate::journal::Record;
use crate::mailbox::{Batch, Entry, Left};
use crate::message::Message;
use crate::session::Session;
use crate::time::Now;

/// The last answer of a policy about a delivery. Publishers repeat their topics; another policy, which has another
/// generation, is always asked again.
#[derive(Debug)]
pub(super) struct Verdict {
    generation: u64,
    topic: TopicName,
    answer: Result<(), DenyCause>,
}

/// What one drain works with.
struct Run<'a> {
    hub: &'a Hub,
    slot: &'a PolicySlot,
    now: Now,
    out: &'a mut Actions,
    /// Bytes that may still be handed out.
    budget: usize,
    /// Messages and payload bytes that were handed out, to be counted at once.
    sent: usize,
    sent_payload_bytes: usize,
    orphans: Vec<Entry>,
}

impl Open {
    /// Hands out what may go now: PUBREL and PUBLISH packets of a resumed session first, in their order, then what
    /// waits.
    pub(super) fn drain(&mut self, hub: &Hub, now: Now, out: &mut Actions) -> Result<(), CloseReason> {
        // What one member of a shared subscription may not have and another gets is never with neither.
        let _together = hub.together(self.cell.number);
        let slot = hub.policy_slot();
        let cell = Arc::clone(&self.cell);
        let mut state = cell.state.lock();
        if state.owner != Some(self.link.number) {
            return Err(CloseReason::TakenOver);
        }
        let budget = hub.limits.load().drain_bytes_max;
        let mut run =
            Run { hub, slot: &slot, now, out, budget, sent: 0, sent_payload_bytes: 0, orphans: Vec::new() };
        if std::mem::take(&mut self.releases_due) {
            // What the connection before left may not be settled yet.
            if state.outbound.len() > 0
                && let Some(log) = &state.log
            {
                hub.hold(log.latest(), run.out);
            }
            for id in state.outbound.releases() {
                self.send(hub, Packet::PubRel(Ack::success(id)), run.out)?;
            }
        }
        self.send_again(&mut run, &mut state);
        self.send_new(&mut run, &mut state);
        self.cell.tell_inflight(&state);
        let Run { sent, sent_payload_bytes, orphans, .. } = run;
        drop(state);
        let counters = self.counters(hub);
        count_by(&counters.packets_sent, sent);
        count_by(&counters.publish_sent, sent);
        count_by(&counters.publish_bytes_sent, sent_payload_bytes);
        hub.redistribute(orphans);
        Ok(())
    }

    /// `[MQTT5-4.4.0-1]`, `[MQTT3-4.4.0-1]`: unacknowledged PUBLISH packets with their identifiers and DUP, in their
    /// order, within the client's present Receive Maximum.
    fn send_again(&mut self, run: &mut Run<'_>, state: &mut Session) {
        while run.budget > 0 && state.outbound.used() < self.window {
            let Some((id, entry)) = state.outbound.first_unsent() else { return };
            let number = entry.number;
            let allowed = self.judge(run, entry);
            let delivery = self.delivery(entry, qos_id(entry.qos, id), true, run.now);
            if allowed && let Some(delivery) = self.fitted(run, delivery) {
                state.outbound.mark_sent(id);
                self.hand_out(run, delivery);
                continue;
            }
            state.done(number);
            let given_up =
                state.outbound.abandon(id).filter(|entry| entry.qos == QoS::AtLeastOnce && !allowed);
            run.orphans.extend(given_up.filter(|entry| entry.group.is_some()));
        }
    }

    fn send_new(&mut self, run: &mut Run<'_>, state: &mut Session) {
        let mut batch = Batch::new();
        loop {
            if run.budget == 0 {
                self.more = true;
                return;
            }
            let left = self.cell.mailbox.lock().take(&mut batch, self.slots(state), run.budget);
            for entry in batch.drain(..) {
                self.begin(run, state, entry);
            }
            if let Left::Nothing { held_back } = left
                // Entries that were dropped left their slots free, and no acknowledgement will come for them.
                && !(held_back && self.slots(state) > 0)
            {
                self.more = false;
                self.held_back = held_back || state.outbound.has_unsent();
                return;
            }
        }
    }

    /// How many QoS 1 and 2 messages may go out now; none before everything is sent again.
    fn slots(&self, state: &Session) -> usize {
        if state.outbound.has_unsent() { 0 } else { self.window.saturating_sub(state.outbound.used()) }
    }

    /// Hands out a message for the first time, unless it has expired, may not be read, or is too large.
    fn begin(&mut self, run: &mut Run<'_>, state: &mut Session, entry: Entry) {
        let counters = self.counters(run.hub);
        if entry.message.is_expired(run.now.mono) {
            count(&counters.dropped_expired);
            done(state, &entry);
            return;
        }
        if !self.judge(run, &entry) {
            done(state, &entry);
            if entry.group.is_some() {
                run.orphans.push(entry);
            }
            return;
        }
        let qos = match entry.qos {
            QoS::AtMostOnce => QosId::AtMostOnce,
            qos => qos_id(qos, state.outbound.next_id()),
        };
        let delivery = self.delivery(&entry, qos, false, run.now);
        // [MQTT5-3.1.2-25]: as if it had been sent. It has no identifier yet, so it takes no slot.
        let Some(delivery) = self.fitted(run, delivery) else {
            done(state, &entry);
            return;
        };
        if let (QosId::ExactlyOnce(id), Some(log)) = (qos, &state.log) {
            // Sent again after a crash, it must have the identifier by which the client knows it (`[MQTT5-4.4.0-1]`).
            let ticket = log.add(|session| Record::Sent(session, entry.number, id));
            run.hub.hold(ticket, run.out);
        }
        if let Some(id) = qos.packet_id() {
            state.outbound.begin(id, entry);
        }
        self.hand_out(run, delivery);
    }

    /// Whether the policy of this moment lets the client have the message, and, when it was retained, still lets its
    /// publisher have written it.
    fn judge(&mut self, run: &mut Run<'_>, entry: &Entry) -> bool {
        let message = &entry.message;
        if let Err(cause) = self.may_receive(run.slot, message) {
            count(&self.counters(run.hub).denied_receive);
            let access = DeniedAccess::Receive(message.topic.clone());
            run.out.push(Action::Note(Event::Denied { access, cause }));
            return false;
        }
        let source = message.publisher.author().filter(|_| entry.replay);
        let may_write = source
            .is_none_or(|author| run.slot.policy.may_publish(&author.subject(), &message.topic).is_ok());
        if !may_write {
            count(&self.counters(run.hub).denied_retained_source);
        }
        may_write
    }

    fn may_receive(&mut self, slot: &PolicySlot, message: &Message) -> Result<(), DenyCause> {
        if let Some(verdict) = &self.verdict
            && verdict.generation == slot.generation
            && verdict.topic == message.topic
        {
            return verdict.answer;
        }
        let answer = match slot.policy.may_receive(&self.author.subject(), &message.topic) {
            Ok(_) => Ok(()),
            Err(denied) => Err(denied.because),
        };
        let verdict = Verdict { generation: slot.generation, topic: message.topic.clone(), answer };
        match &mut self.verdict {
            Some(place) => **place = verdict,
            None => self.verdict = Some(Box::new(verdict)),
        }
        answer
    }

    fn delivery(&self, entry: &Entry, qos: QosId, dup: bool, now: Now) -> Delivery {
        let aliases = self.outbound_aliases.as_deref();
        Delivery {
            message: Arc::clone(&entry.message),
            qos,
            dup,
            retain: entry.retain,
            expiry_secs: entry.message.remaining_expiry_secs(now.mono),
            alias: aliases.and_then(|aliases| aliases.of(&entry.message.topic)),
            subscription_ids: entry.subscription_ids.clone(),
        }
    }

    /// The delivery, within the client's Maximum Packet Size; `None` when it does not fit.
    fn fitted(&self, run: &Run<'_>, mut delivery: Delivery) -> Option<Delivery> {
        let Some(max) = self.peer_packet_bytes_max else { return Some(delivery) };
        let fits = |delivery: &Delivery| {
            u32::try_from(delivery.encoded_len(self.version)).is_ok_and(|len| len <= max.get())
        };
        if fits(&delivery) {
            return Some(delivery);
        }
        if delivery.alias.is_some_and(|(_, topic_known)| !topic_known) {
            // Without introducing an alias it is a little shorter.
            delivery.alias = None;
            if fits(&delivery) {
                return Some(delivery);
            }
        }
        count(&self.counters(run.hub).dropped_too_large);
        None
    }

    fn hand_out(&mut self, run: &mut Run<'_>, delivery: Delivery) {
        if let (Some((_, false)), Some(aliases)) = (delivery.alias, &mut self.outbound_aliases) {
            aliases.assign(&delivery.message.topic);
        }
        run.budget = run.budget.saturating_sub(delivery.message.bytes);
        run.sent += 1;
        run.sent_payload_bytes += delivery.message.payload.len();
        run.out.push(Action::Deliver(delivery));
    }
}

/// A message that waited is not handed out. At QoS 0 it was never recorded.
fn done(state: &Session, entry: &Entry) {
    if entry.qos != QoS::AtMostOnce {
        state.done(entry.number);
    }
}

/// QoS 1 or 2 with its identifier.
fn qos_id(qos: QoS, id: PacketId) -> QosId {
    match qos {
        QoS::AtMostOnce => QosId::AtMostOnce,
        QoS::AtLeastOnce => QosId::AtLeastOnce(id),
        QoS::ExactlyOnce => QosId::ExactlyOnce(id),
    }
}
