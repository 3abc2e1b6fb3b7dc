//! The rows of the store: how a session, a subscription, a waiting or retained message is written, and read back.
//!
//! Every value begins with the version of its format. What is read may be anything: reading never panics, keeps no more
//! than it was given, and refuses what it does not understand. Times are absolute, in milliseconds since 1970.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use foldhash::quality::RandomState;
use serde::Deserialize;
use serde::de::IntoDeserializer;
use serde::de::value::{Error as ValueError, StrDeserializer};
use signet_core::journal::{QueuedEntry, SessionNumber, StoredSession};
use signet_core::router::SubOptions;
use signet_core::{Author, Message, Now, Publisher, SubscriptionIds, Wall};
use signet_identity::{
    CertificateId, GROUPS_MAX, GroupName, Lineage, Principal, PrincipalKey, Role, TemplateName, ThingName,
};
use signet_wire::{
    ClientId, Frame, Packet, PacketId, Publish, QoS, QosId, SubscriptionFilter, Text, TopicName, Version,
    Will,
};

use super::bytes::{Reader, Writer};
use super::key::{BodyNumber, Key, filter_text, text_in_key};

/// The version of the format of values.
const FORMAT: u8 = 1;
/// So many authors are remembered while a store is read.
const AUTHORS_KEPT_MAX: usize = 100_000;
/// More subscription identifiers than this belong to no message: a session has fewer subscriptions that match.
const SUBSCRIPTION_IDS_MAX: usize = 65_535;

/// Why bytes are no row.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RowError {
    /// The bytes end in the middle.
    #[error("it ends in the middle of a field")]
    Short,
    /// There are bytes behind the last field.
    #[error("there is something behind its last field")]
    Long,
    /// Another format, of a newer version of this program.
    #[error("its format {0} is not known")]
    Format(u8),
    /// A field holds what it cannot hold.
    #[error("{0} is not what it can be")]
    Value(&'static str),
}

/// How far the exchange of a QoS 2 message with the client is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exchange {
    /// The identifier that it was sent with.
    pub packet_id: PacketId,
    /// PUBREC came.
    pub released: bool,
}

/// A message that waits for a session, without the message.
#[derive(Debug, Clone)]
pub struct Waiting {
    /// The number of the message's body.
    pub body: u64,
    /// QoS 1 or 2.
    pub qos: QoS,
    /// RETAIN as the client is to see it.
    pub retain: bool,
    /// From the retained store.
    pub replay: bool,
    /// Of all subscriptions of the client that matched.
    pub subscription_ids: SubscriptionIds,
    /// The filter of the shared subscription whose turn it was, with its group.
    pub shared: Option<SubscriptionFilter>,
}

/// One row, read.
#[derive(Debug, Clone)]
pub enum Row {
    /// The version of the store's layout.
    Schema(u32),
    /// The number of the last commit.
    Commit(u64),
    /// The body of a message that waits.
    Body(u64, Arc<Message>),
    /// A session.
    Session(SessionNumber, Box<StoredSession>),
    /// A subscription of a session.
    Subscription(SessionNumber, SubscriptionFilter, SubOptions),
    /// A message that waits for a session.
    Waiting(SessionNumber, u64, Waiting),
    /// How far the exchange of a waiting message is.
    Exchange(SessionNumber, u64, Exchange),
    /// A message of the client that is not released.
    Received(SessionNumber, PacketId),
    /// A retained message.
    Retained(Arc<Message>),
}

/// Reads one row out of `data`: the length of the key in two bytes, the key, and the value in the rest.
///
/// # Errors
/// [`RowError`] for everything that [`Row`] cannot hold. It never panics.
pub fn decode(data: &[u8], now: Now) -> Result<Row, RowError> {
    let (len, rest) = data.split_first_chunk().ok_or(RowError::Short)?;
    let (key, value) = rest.split_at_checked(u16::from_be_bytes(*len).into()).ok_or(RowError::Short)?;
    Decoder::new(now).row(key, value)
}

/// Reads rows, and makes what many of them have alike only once.
#[derive(Debug)]
pub(super) struct Decoder {
    now: Now,
    authors: HashMap<Box<[u8]>, Arc<Author>, RandomState>,
}

impl Decoder {
    /// `now`: what times become times of this process by.
    pub(super) fn new(now: Now) -> Self {
        Self { now, authors: HashMap::default() }
    }

    pub(super) fn row(&mut self, key: &[u8], value: &[u8]) -> Result<Row, RowError> {
        let reader = &mut Reader::new(value);
        let format = reader.u8()?;
        if format != FORMAT {
            return Err(RowError::Format(format));
        }
        let row = match Key::decode(key)? {
            Key::Schema => Row::Schema(reader.u32()?),
            Key::Commit => Row::Commit(reader.u64()?),
            Key::Body(number) => Row::Body(number, Arc::new(self.message(reader)?)),
            Key::Session(number) => Row::Session(number, Box::new(self.session(reader)?)),
            Key::Subscription(number, in_key) => {
                let text = reader.field()?;
                if *text_in_key(text) != *in_key {
                    return Err(RowError::Value("the filter of a subscription"));
                }
                Row::Subscription(number, subscription_filter(text)?, options(reader)?)
            }
            Key::Entry(session, entry) => Row::Waiting(session, entry, waiting(reader)?),
            Key::Exchange(session, entry) => {
                let packet_id = PacketId::new(reader.u16()?).ok_or(RowError::Value("an identifier"))?;
                Row::Exchange(session, entry, Exchange { packet_id, released: reader.flag()? })
            }
            Key::Received(session, id) => Row::Received(session, id),
            Key::Retained(in_key) => {
                let message = self.message(reader)?;
                if *text_in_key(message.topic.as_bytes()) != *in_key {
                    return Err(RowError::Value("the topic of a retained message"));
                }
                Row::Retained(Arc::new(message))
            }
        };
        reader.finish()?;
        Ok(row)
    }

    fn session(&mut self, reader: &mut Reader<'_>) -> Result<StoredSession, RowError> {
        let principal = principal_key(reader)?;
        let client_id = client_id(reader)?;
        let author = self.author(reader)?;
        let expiry_secs = reader.u32()?;
        if expiry_secs == 0 {
            return Err(RowError::Value("the expiry of a session"));
        }
        let ends = reader.option()?.map(Wall);
        let will_due = reader.option()?.map(Wall);
        let will = if reader.flag()? {
            let by = self.author(reader)?;
            let delay_secs = reader.u32()?;
            let qos = qos(reader)?;
            let (topic, publish) = publish(reader)?;
            let Publish { retain, properties, payload, .. } = publish;
            Some((Will { topic, payload, qos, retain, delay_secs, properties }, by))
        } else {
            None
        };
        Ok(StoredSession { principal, client_id, author, expiry_secs, ends, will, will_due })
    }

    fn message(&mut self, reader: &mut Reader<'_>) -> Result<Message, RowError> {
        let qos = qos(reader)?;
        let expires = reader.option()?.map(|at| self.now.mono_at(Wall(at)));
        let publisher =
            if reader.flag()? { Publisher::Client(self.author(reader)?) } else { Publisher::Broker };
        let (topic, publish) = publish(reader)?;
        let Publish { retain, properties, payload, .. } = publish;
        let message = Message::new(topic, payload, qos, retain, properties, publisher, self.now.mono);
        // Counted from when it arrived, not from now.
        Ok(message.kept(expires))
    }

    fn author(&mut self, reader: &mut Reader<'_>) -> Result<Arc<Author>, RowError> {
        let bytes = reader.long()?;
        if let Some(known) = self.authors.get(bytes) {
            return Ok(Arc::clone(known));
        }
        let reader = &mut Reader::new(bytes);
        let author = Arc::new(author(reader)?);
        reader.finish()?;
        if self.authors.len() >= AUTHORS_KEPT_MAX {
            self.authors.clear();
        }
        self.authors.insert(bytes.into(), Arc::clone(&author));
        Ok(author)
    }
}

fn begin() -> Writer {
    let mut out = Writer::new();
    out.u8(FORMAT);
    out
}

pub(super) fn put_schema(version: u32) -> Vec<u8> {
    let mut out = begin();
    out.u32(version);
    out.finish()
}

pub(super) fn put_commit(number: u64) -> Vec<u8> {
    let mut out = begin();
    out.u64(number);
    out.finish()
}

pub(super) fn put_received() -> Vec<u8> {
    begin().finish()
}

pub(super) fn put_exchange(exchange: Exchange) -> Vec<u8> {
    let mut out = begin();
    out.u16(exchange.packet_id.get());
    out.u8(exchange.released.into());
    out.finish()
}

/// `None`: the message cannot be written as a PUBLISH.
pub(super) fn put_body(message: &Message, now: Now) -> Option<Vec<u8>> {
    let mut out = begin();
    put_message(&mut out, message, now)?;
    Some(out.finish())
}

pub(super) fn put_waiting(body: BodyNumber, entry: &QueuedEntry) -> Vec<u8> {
    let mut out = begin();
    out.u64(body);
    out.u8(entry.qos as u8);
    out.u8(entry.retain.into());
    out.u8(entry.replay.into());
    let ids = out.count(entry.subscription_ids.len().min(SUBSCRIPTION_IDS_MAX));
    entry.subscription_ids.iter().take(ids).for_each(|id| out.u32(*id));
    match &entry.shared {
        None => out.u8(0),
        Some(filter) => {
            out.u8(1);
            out.field(&filter_text(filter));
        }
    }
    out.finish()
}

fn waiting(reader: &mut Reader<'_>) -> Result<Waiting, RowError> {
    let body = reader.u64()?;
    let qos = qos(reader)?;
    if qos == QoS::AtMostOnce {
        return Err(RowError::Value("the QoS of a waiting message"));
    }
    let (retain, replay) = (reader.flag()?, reader.flag()?);
    let mut subscription_ids = SubscriptionIds::new();
    for _ in 0..reader.u16()? {
        subscription_ids.push(reader.u32()?);
    }
    let shared = if reader.flag()? { Some(subscription_filter(reader.field()?)?) } else { None };
    Ok(Waiting { body, qos, retain, replay, subscription_ids, shared })
}

pub(super) fn put_subscription(filter: &[u8], options: &SubOptions) -> Vec<u8> {
    let mut out = begin();
    out.field(filter);
    out.u8(options.qos as u8);
    out.u8(options.no_local.into());
    out.u8(options.retain_as_published.into());
    out.option(options.subscription_id.map(u64::from));
    out.finish()
}

fn options(reader: &mut Reader<'_>) -> Result<SubOptions, RowError> {
    let (qos, no_local, retain_as_published) = (qos(reader)?, reader.flag()?, reader.flag()?);
    let id = reader.option()?.map(u32::try_from).transpose();
    let subscription_id = id.map_err(|_| RowError::Value("a subscription identifier"))?;
    Ok(SubOptions { qos, no_local, retain_as_published, subscription_id })
}

/// `None`: its will cannot be written as a PUBLISH.
pub(super) fn put_session(session: &StoredSession) -> Option<Vec<u8>> {
    let mut out = begin();
    put_principal_key(&mut out, &session.principal);
    out.field(session.client_id.as_bytes());
    put_author(&mut out, &session.author);
    out.u32(session.expiry_secs);
    out.option(session.ends.map(|ends| ends.0));
    out.option(session.will_due.map(|due| due.0));
    match &session.will {
        None => out.u8(0),
        Some((will, author)) => {
            out.u8(1);
            put_author(&mut out, author);
            out.u32(will.delay_secs);
            out.u8(will.qos as u8);
            let publish = Publish {
                dup: false,
                retain: will.retain,
                qos: QosId::AtMostOnce,
                topic: Some(will.topic.clone()),
                properties: will.properties.clone(),
                payload: will.payload.clone(),
            };
            put_publish(&mut out, publish)?;
        }
    }
    Some(out.finish())
}

fn put_message(out: &mut Writer, message: &Message, now: Now) -> Option<()> {
    out.u8(message.qos as u8);
    out.option(message.expires.map(|at| now.wall_at(at).0));
    match &message.publisher {
        Publisher::Broker => out.u8(0),
        Publisher::Client(author) => {
            out.u8(1);
            put_author(out, author);
        }
    }
    let publish = Publish {
        dup: false,
        retain: message.retain,
        qos: QosId::AtMostOnce,
        topic: Some(message.topic.clone()),
        properties: message.properties.clone(),
        payload: message.payload.clone(),
    };
    put_publish(out, publish)
}

/// Topic, properties, payload and RETAIN, as the bytes of a PUBLISH of MQTT 5.0.
fn put_publish(out: &mut Writer, publish: Publish) -> Option<()> {
    let mut bytes = BytesMut::new();
    signet_wire::encode(&Packet::Publish(publish), Version::V5, &mut bytes).ok()?;
    out.long(&bytes).then_some(())
}

fn publish(reader: &mut Reader<'_>) -> Result<(TopicName, Publish), RowError> {
    let bad = RowError::Value("a message");
    let bytes = reader.long()?;
    let (first, rest) = bytes.split_first().ok_or(RowError::Short)?;
    // The remaining length: it says what is there, or this is no message.
    let continued = rest.iter().take(3).take_while(|byte| **byte & 0x80 != 0).count();
    let mut value = 0_usize;
    for (place, byte) in rest.iter().take(continued + 1).enumerate() {
        value |= usize::from(*byte & 0x7F) << (7 * place);
    }
    let header = 2 + continued;
    if bytes.len().checked_sub(header) != Some(value) {
        return Err(bad);
    }
    // A copy of its own: what is kept of it keeps nothing else in memory.
    let frame = Frame::new(*first, Bytes::copy_from_slice(bytes.get(header..).unwrap_or_default()));
    match signet_wire::decode_from_client(frame, Version::V5) {
        Ok(Packet::Publish(mut publish)) => {
            let topic = publish.topic.take().ok_or(bad)?;
            Ok((topic, publish))
        }
        _ => Err(bad),
    }
}

fn put_principal_key(out: &mut Writer, key: &PrincipalKey) {
    out.u8(role_number(key.role));
    out.field(key.name.as_str().as_bytes());
}

fn principal_key(reader: &mut Reader<'_>) -> Result<PrincipalKey, RowError> {
    Ok(PrincipalKey { role: role(reader)?, name: name(reader)? })
}

const fn role_number(role: Role) -> u8 {
    match role {
        Role::Device => 1,
        Role::Claim => 2,
        Role::Operator => 3,
    }
}

fn role(reader: &mut Reader<'_>) -> Result<Role, RowError> {
    match reader.u8()? {
        1 => Ok(Role::Device),
        2 => Ok(Role::Claim),
        3 => Ok(Role::Operator),
        _ => Err(RowError::Value("a role")),
    }
}

/// A name as some rule admitted it, whichever rule is configured now.
fn name(reader: &mut Reader<'_>) -> Result<ThingName, RowError> {
    let text: StrDeserializer<'_, ValueError> = reader.text()?.into_deserializer();
    ThingName::deserialize(text).map_err(|_| RowError::Value("a name"))
}

fn put_author(to: &mut Writer, author: &Author) {
    let principal = &author.principal;
    let out = &mut Writer::new();
    put_principal_key(out, principal.key());
    out.u8(principal.is_quarantined().into());
    out.raw(principal.certificate().as_bytes());
    out.field(principal.lineage().as_bytes());
    out.count(principal.groups().len());
    principal.groups().iter().for_each(|group| out.field(group.as_str().as_bytes()));
    out.count(principal.templates().len());
    principal.templates().iter().for_each(|template| out.field(template.as_str().as_bytes()));
    out.field(author.client_id.as_bytes());
    // Bounded by its fields: far below 4 GiB.
    to.long(out.bytes());
}

fn author(reader: &mut Reader<'_>) -> Result<Author, RowError> {
    let PrincipalKey { role, name } = principal_key(reader)?;
    let quarantined = reader.flag()?;
    let certificate = CertificateId::from_bytes(reader.octets32()?);
    let lineage = Lineage::from_bytes(reader.field()?).ok_or(RowError::Value("a lineage"))?;
    let groups = reader.u16()?;
    if usize::from(groups) > GROUPS_MAX {
        return Err(RowError::Value("a number of groups"));
    }
    let group = |text| GroupName::try_from(text).map_err(|_| RowError::Value("a group"));
    let groups = (0..groups).map(|_| group(reader.text()?)).collect::<Result<Vec<_>, _>>()?;
    let template = |text| TemplateName::try_from(text).map_err(|_| RowError::Value("a template"));
    let templates = reader.u16()?;
    let templates = (0..templates).map(|_| template(reader.text()?)).collect::<Result<Vec<_>, _>>()?;
    let mut principal = match role {
        Role::Device => Principal::device(name, certificate, groups),
        Role::Operator => Principal::operator(name, certificate, groups),
        Role::Claim => Principal::claim(name, certificate, templates),
    };
    if !lineage.is_empty() {
        principal = principal.with_lineage(lineage);
    }
    if quarantined {
        principal = principal.in_quarantine();
    }
    Ok(Author { principal, client_id: client_id(reader)? })
}

fn client_id(reader: &mut Reader<'_>) -> Result<ClientId, RowError> {
    ClientId::try_from(reader.text()?).map_err(|_| RowError::Value("a client id"))
}

fn subscription_filter(text: &[u8]) -> Result<SubscriptionFilter, RowError> {
    let bad = RowError::Value("a filter");
    let text = Text::try_from(Bytes::copy_from_slice(text)).map_err(|_| bad.clone())?;
    SubscriptionFilter::parse(text).map_err(|_| bad)
}

fn qos(reader: &mut Reader<'_>) -> Result<QoS, RowError> {
    QoS::try_from(reader.u8()?).map_err(|_| RowError::Value("a QoS"))
}
