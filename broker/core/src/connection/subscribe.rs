//! SUBSCRIBE and UNSUBSCRIBE.

use std::collections::HashMap;

use foldhash::quality::RandomState;
use signet_acl::{Denied, DenyCause};
use signet_wire::{
    Packet, QoS, ReasonCode, Requested, RetainHandling, SubAck, Subscribe, SubscribeOptions,
    SubscriptionFilter, UnsubAck, Unsubscribe, Version,
};

use crate::action::{Action, Actions};
use crate::close::CloseReason;
use crate::connection::Open;
use crate::counters::count;
use crate::event::{DeniedAccess, Event, Quota};
use crate::hub::{Hub, Pressure, subscription_bytes};
use crate::journal::{Log, Record, Ticket};
use crate::mailbox::{ENTRY_BYTES, Entry};
use crate::message::Message;
use crate::provisioning::is_below_aws;
use crate::router::SubOptions;
use crate::time::Now;

/// So many refusals of one SUBSCRIBE are reported; it can have tens of thousands.
const EVENTS_PER_SUBSCRIBE_MAX: usize = 16;

/// What came of one SUBSCRIBE beside the reason codes.
#[derive(Default)]
struct Made {
    /// Memory has no room for new ones.
    sheds: bool,
    /// Subscriptions whose retained messages are due. A filter that comes twice gets them once.
    granted: HashMap<SubscriptionFilter, SubOptions, RandomState>,
    events: Vec<Event>,
    /// Every filter that was granted, while somebody wants to know.
    reported: Option<Vec<SubscriptionFilter>>,
    /// What is to be recorded.
    recorded: Vec<(SubscriptionFilter, SubOptions)>,
}

impl Made {
    fn note(&mut self, event: Event) {
        if self.events.len() < EVENTS_PER_SUBSCRIBE_MAX {
            self.events.push(event);
        }
    }
}

impl Open {
    /// One SUBACK with one reason code per filter, in order (`[MQTT5-3.8.4-6]`), as if each filter had come alone: a
    /// later filter of the same packet replaces an earlier equal one (`[MQTT5-3.8.4-3]`). Then the retained messages.
    ///
    /// They are recorded before the subscriptions are: if only they outlive the process, the client has no SUBACK, and
    /// subscribes again.
    pub(super) fn subscribe(
        &mut self,
        hub: &Hub,
        subscribe: Subscribe,
        now: Now,
        out: &mut Actions,
    ) -> Result<(), CloseReason> {
        let sheds = hub.pressure() != Pressure::None && self.is_shed(hub);
        if sheds && self.version == Version::V311 && self.has_new(&subscribe)? {
            // Few 3.1.1 clients ask again after a refusal, and would be deaf when memory is there again. Nothing was granted.
            count(&self.counters(hub).shed_subscriptions);
            return Err(CloseReason::Overloaded);
        }
        let reported = hub.reports_subscriptions().then(Vec::new);
        let mut made = Made { sheds, reported, ..Made::default() };
        let mut reasons = Vec::with_capacity(subscribe.filters.len());
        for requested in subscribe.filters {
            reasons.push(self.subscribe_one(hub, requested, subscribe.subscription_id, &mut made)?);
        }
        for (filter, options) in &made.granted {
            self.replay(hub, filter, options, now);
        }
        let ticket = self.record_subscriptions(std::mem::take(&mut made.recorded))?;
        hub.hold(ticket, out);
        let suback = SubAck { packet_id: subscribe.packet_id, reasons, properties: None };
        self.send(hub, Packet::SubAck(Box::new(suback)), out)?;
        let reported = made.reported.filter(|filters| !filters.is_empty()).map(Event::Subscribed);
        for event in made.events.into_iter().chain(reported) {
            out.push(Action::Note(event));
        }
        Ok(())
    }

    /// Whether a filter of it is none that the session has already.
    fn has_new(&self, subscribe: &Subscribe) -> Result<bool, CloseReason> {
        let state = self.state()?;
        let mut filters = subscribe.filters.iter().filter_map(|requested| requested.filter.as_ref().ok());
        Ok(filters.any(|filter| !state.subscriptions.contains_key(filter)))
    }

    /// Those that are still there, since the policy may have taken them away again. Gives what SUBACK waits for.
    fn record_subscriptions(
        &self,
        made: Vec<(SubscriptionFilter, SubOptions)>,
    ) -> Result<Ticket, CloseReason> {
        let mut ticket = Ticket::NONE;
        if made.is_empty() {
            return Ok(ticket);
        }
        let state = self.state()?;
        let Some(log) = &state.log else { return Ok(ticket) };
        for (filter, options) in made {
            if state.subscriptions.get(&filter) == Some(&options) {
                ticket = log.add(|session| Record::Subscribed(session, filter, options));
            }
        }
        Ok(ticket)
    }

    fn subscribe_one(
        &self,
        hub: &Hub,
        requested: Requested,
        subscription_id: Option<u32>,
        made: &mut Made,
    ) -> Result<ReasonCode, CloseReason> {
        let filter = match requested.filter {
            Ok(filter) => filter,
            Err(error) => return Ok(error.reason()),
        };
        if hub.too_deep(filter.filter()) {
            made.note(Event::QuotaReached(Quota::FilterLevels));
            return Ok(ReasonCode::TopicFilterInvalid);
        }
        let mut state = self.state()?;
        let judged = if filter.group().is_some() && is_below_aws(filter.filter()) {
            // An answer is for the one that asked, not for the next in turn.
            Err(Denied { because: DenyCause::ReservedTopic })
        } else {
            hub.policy_slot().policy.may_subscribe(&self.author.subject(), filter.filter())
        };
        if let Err(denied) = judged {
            count(&self.counters(hub).denied_subscribe);
            let access = DeniedAccess::Subscribe(filter.detached());
            made.note(Event::Denied { access, cause: denied.because });
            return Ok(ReasonCode::NotAuthorized);
        }
        if !state.subscriptions.contains_key(&filter)
            && let Err(quota) = self.one_more(hub, &filter, made.sheds, state.subscriptions.len())
        {
            made.note(Event::QuotaReached(quota));
            return Ok(ReasonCode::QuotaExceeded);
        }
        let filter = filter.detached();
        let options = sub_options(requested.options, subscription_id);
        hub.index.subscribe(self.cell.clone(), &filter, options);
        let new = state.subscriptions.insert(filter.clone(), options).is_none();
        if state.log.is_some() {
            made.recorded.push((filter.clone(), options));
        }
        drop(state);
        if let Some(reported) = &mut made.reported {
            reported.push(filter.clone());
        }
        if wants_retained(&filter, requested.options.retain_handling, new) {
            made.granted.insert(filter, options);
        }
        Ok(match options.qos {
            QoS::AtMostOnce => ReasonCode::GRANTED_QOS_0,
            QoS::AtLeastOnce => ReasonCode::GrantedQoS1,
            QoS::ExactlyOnce => ReasonCode::GrantedQoS2,
        })
    }

    /// Whether the session, which has `own` subscriptions, may have another; it is counted for its principal then.
    fn one_more(&self, hub: &Hub, filter: &SubscriptionFilter, sheds: bool, own: usize) -> Result<(), Quota> {
        let (limits, counters) = (hub.limits.load(), self.counters(hub));
        if sheds {
            count(&counters.shed_subscriptions);
            return Err(Quota::Memory);
        }
        if own >= limits.subscriptions_per_session_max {
            count(&counters.quota_subscriptions);
            return Err(Quota::Subscriptions);
        }
        if !self.cell.usage.subscribe(filter, limits.subscriptions_per_principal_max) {
            count(&counters.quota_subscriptions_of_principal);
            return Err(Quota::SubscriptionsOfPrincipal);
        }
        hub.grow(subscription_bytes(filter));
        Ok(())
    }

    /// Puts the retained messages of a new subscription into the session's own mailbox. They are judged when they are
    /// delivered.
    fn replay(&mut self, hub: &Hub, filter: &SubscriptionFilter, options: &SubOptions, now: Now) {
        let limits = hub.limits.load();
        let counters = self.counters(hub);
        if self.cell.mailbox.lock().replay_is_full(&limits) {
            // Looking further would find nothing that can be kept.
            count(&counters.dropped_retained_replay);
            return;
        }
        hub.retained.for_each_matching(filter.filter(), now.mono, |message| {
            if options.no_local && self.is_own(message) {
                return;
            }
            let entry = Entry {
                number: 0,
                message: message.clone(),
                qos: message.qos.min(options.qos),
                retain: true,
                replay: true,
                subscription_ids: options.subscription_id.into_iter().collect(),
                group: None,
            };
            hub.grow(ENTRY_BYTES);
            if self.cell.mailbox.lock().replay(entry, &limits).is_none() {
                count(&counters.dropped_retained_replay);
            }
        });
        self.more = true;
    }

    fn is_own(&self, message: &Message) -> bool {
        message.publisher.author().is_some_and(|author| {
            author.client_id == self.author.client_id && author.principal.key() == self.author.principal.key()
        })
    }

    /// Filters are compared character by character (`[MQTT5-3.10.4-1]`); what is on its way already is still
    /// delivered (`[MQTT5-3.10.4-3]`).
    pub(super) fn unsubscribe(
        &mut self,
        hub: &Hub,
        unsubscribe: Unsubscribe,
        out: &mut Actions,
    ) -> Result<(), CloseReason> {
        let mut reasons = Vec::with_capacity(unsubscribe.filters.len());
        let mut reported = hub.reports_subscriptions().then(Vec::new);
        let mut ticket = Ticket::NONE;
        {
            let mut state = self.state()?;
            let log = state.log.clone();
            for filter in unsubscribe.filters {
                reasons.push(match filter {
                    Err(error) => error.reason(),
                    Ok(filter) if state.subscriptions.remove(&filter).is_some() => {
                        hub.index.unsubscribe(self.cell.number, &filter);
                        self.cell.usage.unsubscribe(&filter);
                        if let Some(log) = &log {
                            let filter = filter.detached();
                            ticket = log.add(|session| Record::Unsubscribed(session, filter));
                        }
                        if let Some(reported) = &mut reported {
                            reported.push(filter.detached());
                        }
                        ReasonCode::Success
                    }
                    Ok(_) => {
                        // What ended it, on an earlier connection perhaps, may not be settled yet.
                        ticket = log.as_ref().map_or(Ticket::NONE, Log::latest);
                        ReasonCode::NoSubscriptionExisted
                    }
                });
            }
        }
        hub.hold(ticket, out);
        let unsuback = UnsubAck { packet_id: unsubscribe.packet_id, reasons, properties: None };
        self.send(hub, Packet::UnsubAck(Box::new(unsuback)), out)?;
        if let Some(filters) = reported.filter(|filters| !filters.is_empty()) {
            out.push(Action::Note(Event::Unsubscribed(filters)));
        }
        Ok(())
    }
}

fn sub_options(options: SubscribeOptions, subscription_id: Option<u32>) -> SubOptions {
    SubOptions {
        qos: options.qos,
        no_local: options.no_local,
        retain_as_published: options.retain_as_published,
        subscription_id,
    }
}

/// `[MQTT5-3.3.1-9]` to `[MQTT5-3.3.1-11]`; never for a shared subscription (MQTT5 §4.8.2).
fn wants_retained(filter: &SubscriptionFilter, handling: RetainHandling, new: bool) -> bool {
    let handled = match handling {
        RetainHandling::SendAlways => true,
        RetainHandling::SendIfNew => new,
        RetainHandling::DoNotSend => false,
    };
    handled && filter.group().is_none()
}
