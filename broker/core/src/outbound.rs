//! QoS 1 and 2 messages that were sent and are not acknowledged to the end.

use std::collections::VecDeque;

use signet_wire::{PacketId, QoS};

use crate::mailbox::{Entry, Held};

/// One exchange with the client, from PUBLISH to PUBACK or PUBCOMP.
#[derive(Debug)]
struct Exchange {
    id: PacketId,
    /// Sent, in its present stage, on the connection that exists now.
    sent: bool,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    /// PUBLISH is out; PUBACK or PUBREC is due.
    Published(Entry),
    /// PUBREC came and PUBREL is out; PUBCOMP is due. From here on only the identifier counts (`[MQTT5-4.3.3-6]`); the
    /// entry's number is for the journal.
    Released(u64),
    /// The answer to a request is out; PUBACK is due. It is kept by nobody and never sent again.
    Answered,
}

/// The client acknowledged with a packet that does not belong to the stage of its identifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OutOfOrder;

/// What a PUBREC did.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Received {
    /// Answer with PUBREL. The number of the entry.
    Release(u64),
    /// Answer with PUBREL, once more.
    ReleaseAgain,
    /// The client refused: the exchange is over, nothing is answered (`[MQTT5-4.3.3-4]`). The number of the entry.
    Refused(u64),
    /// No exchange has this identifier.
    Unknown,
}

/// The exchanges of a session, in the order in which their PUBLISH packets first went out.
#[derive(Debug)]
pub(crate) struct Outbound {
    exchanges: VecDeque<Exchange>,
    next: PacketId,
    /// Bytes of the messages that may have to be sent again.
    bytes: usize,
    /// PUBLISH packets that have not been sent again since the session was resumed.
    unsent: usize,
}

impl Default for Outbound {
    fn default() -> Self {
        Self { exchanges: VecDeque::new(), next: PacketId::MIN, bytes: 0, unsent: 0 }
    }
}

impl Outbound {
    /// Exchanges that are not finished.
    pub(crate) fn len(&self) -> usize {
        self.exchanges.len()
    }

    /// Bytes of the messages that may have to be sent again.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// What the end of the session gives back.
    pub(crate) fn held(&self) -> Held {
        Held::of(self.exchanges.len(), self.bytes, |place| match &self.exchanges.get(place)?.stage {
            Stage::Published(entry) => Some(entry),
            Stage::Released(_) | Stage::Answered => None,
        })
    }

    /// Slots of the client's Receive Maximum in use. PUBREC frees none, PUBCOMP does (`[MQTT5-4.9.0-2]`).
    pub(crate) fn used(&self) -> usize {
        self.exchanges.len() - self.unsent
    }

    /// Whether there are PUBLISH packets to send again before anything new.
    pub(crate) fn has_unsent(&self) -> bool {
        self.unsent > 0
    }

    /// The identifier that the next exchange will have: not in use, never zero (`[MQTT5-2.2.1-4]`). The caller keeps
    /// fewer than 65535 exchanges.
    pub(crate) fn next_id(&mut self) -> PacketId {
        while self.exchanges.iter().any(|exchange| exchange.id == self.next) {
            self.next = self.next.next();
        }
        self.next
    }

    /// Records that the PUBLISH of `entry` goes out now, with an identifier from [`Self::next_id`].
    pub(crate) fn begin(&mut self, id: PacketId, entry: Entry) {
        self.next = id.next();
        self.bytes += entry.message.bytes;
        self.exchanges.push_back(Exchange { id, sent: true, stage: Stage::Published(entry) });
    }

    /// Takes back an exchange that an earlier process began, behind those that are here. It waits for the client.
    pub(crate) fn restore(&mut self, id: PacketId, entry: Entry) {
        self.unsent += 1;
        self.bytes += entry.message.bytes;
        self.exchanges.push_back(Exchange { id, sent: false, stage: Stage::Published(entry) });
    }

    /// As [`Self::restore`], of an exchange whose PUBREC has come.
    pub(crate) fn restore_released(&mut self, id: PacketId, number: u64) {
        self.exchanges.push_back(Exchange { id, sent: false, stage: Stage::Released(number) });
    }

    /// The next exchange gets this identifier, or the next one behind it that is free.
    pub(crate) fn continue_at(&mut self, id: PacketId) {
        self.next = id;
    }

    /// Records that an answer goes out now, with an identifier from [`Self::next_id`].
    pub(crate) fn begin_answer(&mut self, id: PacketId) {
        self.next = id.next();
        self.exchanges.push_back(Exchange { id, sent: true, stage: Stage::Answered });
    }

    /// PUBACK.
    pub(crate) fn acknowledged(&mut self, id: PacketId) -> Result<Option<Entry>, OutOfOrder> {
        let Some(place) = self.find(id) else { return Ok(None) };
        match self.exchanges.get(place).map(|exchange| &exchange.stage) {
            Some(Stage::Published(entry)) if entry.qos == QoS::AtLeastOnce => Ok(self.remove(place)),
            Some(Stage::Answered) => Ok(self.remove(place)),
            _ => Err(OutOfOrder),
        }
    }

    /// PUBREC; `refused` when its reason code is a failure.
    pub(crate) fn received(&mut self, id: PacketId, refused: bool) -> Result<Received, OutOfOrder> {
        let Some(place) = self.find(id) else { return Ok(Received::Unknown) };
        let Some(exchange) = self.exchanges.get_mut(place) else { return Ok(Received::Unknown) };
        let (number, bytes) = match &exchange.stage {
            Stage::Published(entry) if entry.qos == QoS::ExactlyOnce => (entry.number, entry.message.bytes),
            Stage::Released(_) => return Ok(Received::ReleaseAgain),
            Stage::Published(_) | Stage::Answered => return Err(OutOfOrder),
        };
        if refused {
            self.remove(place);
            return Ok(Received::Refused(number));
        }
        if !exchange.sent {
            exchange.sent = true;
            self.unsent -= 1;
        }
        exchange.stage = Stage::Released(number);
        self.bytes -= bytes;
        Ok(Received::Release(number))
    }

    /// PUBCOMP. The number of the entry; `None`: no exchange has this identifier.
    pub(crate) fn completed(&mut self, id: PacketId) -> Result<Option<u64>, OutOfOrder> {
        let Some(place) = self.find(id) else { return Ok(None) };
        match self.exchanges.get(place).map(|exchange| &exchange.stage) {
            Some(Stage::Released(number)) => {
                let number = *number;
                self.remove(place);
                Ok(Some(number))
            }
            _ => Err(OutOfOrder),
        }
    }

    /// The session continues on another connection: everything is to be sent again (`[MQTT5-4.4.0-1]`,
    /// `[MQTT3-4.4.0-1]`), but for answers, which were for the connection that asked.
    pub(crate) fn resume(&mut self) {
        self.exchanges.retain(|exchange| !matches!(exchange.stage, Stage::Answered));
        self.unsent = 0;
        for exchange in &mut self.exchanges {
            exchange.sent = false;
            self.unsent += usize::from(matches!(exchange.stage, Stage::Published(_)));
        }
    }

    /// The identifiers of the PUBREL packets to send again, in the order of their PUBLISH packets. Once per
    /// resumption.
    pub(crate) fn releases(&mut self) -> impl Iterator<Item = PacketId> + '_ {
        self.exchanges
            .iter_mut()
            .filter(|exchange| !exchange.sent && matches!(exchange.stage, Stage::Released(_)))
            .map(|exchange| {
                exchange.sent = true;
                exchange.id
            })
    }

    /// The next PUBLISH to send again.
    pub(crate) fn first_unsent(&self) -> Option<(PacketId, &Entry)> {
        if self.unsent == 0 {
            return None;
        }
        self.exchanges.iter().find_map(|exchange| match &exchange.stage {
            Stage::Published(entry) if !exchange.sent => Some((exchange.id, entry)),
            _ => None,
        })
    }

    /// The PUBLISH of [`Self::first_unsent`] goes out now.
    pub(crate) fn mark_sent(&mut self, id: PacketId) {
        if let Some(exchange) = self.exchanges.iter_mut().find(|exchange| exchange.id == id && !exchange.sent)
        {
            exchange.sent = true;
            self.unsent -= 1;
        }
    }

    /// Ends an exchange that cannot go on: the client may no longer have the message, or has no room for it.
    pub(crate) fn abandon(&mut self, id: PacketId) -> Option<Entry> {
        self.find(id).and_then(|place| self.remove(place))
    }

    /// Ends all exchanges and hands out the messages that were not released, in order.
    pub(crate) fn end(&mut self) -> impl Iterator<Item = Entry> + use<> {
        self.unsent = 0;
        self.bytes = 0;
        std::mem::take(&mut self.exchanges).into_iter().filter_map(|exchange| match exchange.stage {
            Stage::Published(entry) => Some(entry),
            Stage::Released(_) | Stage::Answered => None,
        })
    }

    fn find(&self, id: PacketId) -> Option<usize> {
        self.exchanges.iter().position(|exchange| exchange.id == id)
    }

    fn remove(&mut self, place: usize) -> Option<Entry> {
        let exchange = self.exchanges.remove(place)?;
        if self.exchanges.is_empty() {
            self.exchanges.shrink_to(8);
        }
        match exchange.stage {
            Stage::Published(entry) => {
                self.unsent -= usize::from(!exchange.sent);
                self.bytes -= entry.message.bytes;
                Some(entry)
            }
            Stage::Released(_) | Stage::Answered => None,
        }
    }
}
