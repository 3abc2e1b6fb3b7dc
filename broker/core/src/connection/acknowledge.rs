//! PUBACK, PUBREC and PUBCOMP from the client: its side of what was delivered to it.

use signet_wire::{Ack, Packet, ReasonCode, Version};

use crate::action::Actions;
use crate::close::{CloseReason, Violation};
use crate::connection::Open;
use crate::hub::Hub;
use crate::journal::{Record, Ticket};
use crate::outbound::{OutOfOrder, Received};

impl From<OutOfOrder> for CloseReason {
    fn from(_: OutOfOrder) -> Self {
        Self::Violation(Violation::AckOutOfOrder)
    }
}

impl Open {
    /// Ends a QoS 1 delivery, whatever the reason code is. An identifier that is not in use is ignored: the delivery
    /// may have been given up while the PUBACK was under way.
    pub(super) fn puback(&mut self, _: &Hub, ack: &Ack) -> Result<(), CloseReason> {
        let done = {
            let mut state = self.state()?;
            let done = state.outbound.acknowledged(ack.packet_id)?;
            if let Some(entry) = &done {
                state.done(entry.number);
                self.cell.tell_inflight(&state);
            }
            done
        };
        self.slot_may_be_free();
        drop(done);
        Ok(())
    }

    /// Answered with PUBREL (`[MQTT5-4.3.3-4]`), and the message is not sent again (`[MQTT5-4.3.3-6]`); a failure
    /// ends the delivery. The client forgets the message when it sees PUBREL, so by then nobody may send it again, the next
    /// process neither.
    pub(super) fn pubrec(&mut self, hub: &Hub, ack: &Ack, out: &mut Actions) -> Result<(), CloseReason> {
        let (received, ticket) = {
            let mut state = self.state()?;
            let received = state.outbound.received(ack.packet_id, ack.reason.is_failure())?;
            self.cell.tell_inflight(&state);
            let ticket = match (received, &state.log) {
                (Received::Release(number), Some(log)) => {
                    log.add(|session| Record::Released(session, number))
                }
                (Received::Refused(number), Some(log)) => log.add(|session| Record::Done(session, number)),
                (Received::ReleaseAgain, Some(log)) => log.latest(),
                _ => Ticket::NONE,
            };
            (received, ticket)
        };
        let reason = match (received, self.version) {
            (Received::Refused(_), _) => {
                self.slot_may_be_free();
                return Ok(());
            }
            (Received::Unknown, _) if ack.reason.is_failure() => return Ok(()),
            (Received::Release(_) | Received::ReleaseAgain, _) | (Received::Unknown, Version::V311) => {
                ReasonCode::Success
            }
            (Received::Unknown, Version::V5) => ReasonCode::PacketIdentifierNotFound,
        };
        hub.hold(ticket, out);
        self.send(hub, Packet::PubRel(Ack::new(ack.packet_id, reason)), out)
    }

    /// Ends a QoS 2 delivery.
    pub(super) fn pubcomp(&mut self, _: &Hub, ack: &Ack) -> Result<(), CloseReason> {
        {
            let mut state = self.state()?;
            if let Some(number) = state.outbound.completed(ack.packet_id)? {
                state.done(number);
            }
        }
        self.slot_may_be_free();
        Ok(())
    }

    /// What waited for a slot can go out at the next drain.
    fn slot_may_be_free(&mut self) {
        self.more |= self.held_back;
    }
}
