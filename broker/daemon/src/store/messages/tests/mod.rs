mod committer;
mod disk;
mod ledger;
mod rows;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use signet_core::journal::{QueuedEntry, Record, RestoredEntry, RestoredSession, StoredSession};
use signet_core::router::SubOptions;
use signet_core::{Author, Message, Mono, Now, Publisher, Wall};
use signet_identity::{CertificateId, Principal, PrincipalKey, Role, ThingName};
use signet_wire::{ClientId, PacketId, QoS, SubscriptionFilter, Text, TopicName, Will};

use super::{Ledger, Left, Loaded, MessageStore, load};

fn now() -> Now {
    Now { mono: Mono::new(Duration::from_secs(1000)), wall: Wall(1_700_000_000_000) }
}

fn author(name: &str) -> Arc<Author> {
    let name = ThingName::try_from(name).unwrap();
    let certificate = CertificateId::of(name.as_str().as_bytes());
    Arc::new(Author {
        principal: Principal::device(name, certificate, Vec::new()),
        client_id: ClientId::try_from("client").unwrap(),
    })
}

fn message(topic: &str, payload: &str) -> Arc<Message> {
    let payload = Bytes::copy_from_slice(payload.as_bytes());
    let topic = TopicName::try_from(topic).unwrap();
    let publisher = Publisher::Client(author("publisher"));
    Arc::new(Message::new(topic, payload, QoS::ExactlyOnce, false, None, publisher, now().mono))
}

fn stored(name: &str) -> Box<StoredSession> {
    Box::new(StoredSession {
        principal: PrincipalKey { role: Role::Device, name: ThingName::try_from(name).unwrap() },
        client_id: ClientId::try_from("client").unwrap(),
        author: author(name),
        expiry_secs: 3600,
        ends: None,
        will: None,
        will_due: None,
    })
}

fn will() -> Will {
    Will {
        topic: TopicName::try_from("a/will").unwrap(),
        payload: Bytes::from_static(b"gone"),
        qos: QoS::AtLeastOnce,
        retain: true,
        delay_secs: 5,
        properties: None,
    }
}

fn queued(session: u64, number: u64, message: &Arc<Message>) -> Record {
    Record::Queued(
        session,
        Box::new(QueuedEntry {
            number,
            message: Arc::clone(message),
            qos: QoS::ExactlyOnce,
            retain: false,
            replay: false,
            subscription_ids: [3, 4].into_iter().collect(),
            shared: None,
        }),
    )
}

fn subscribed(session: u64, filter: &str) -> Record {
    let options = SubOptions {
        qos: QoS::AtLeastOnce,
        no_local: true,
        retain_as_published: false,
        subscription_id: Some(7),
    };
    Record::Subscribed(session, self::filter(filter), options)
}

fn filter(text: &str) -> SubscriptionFilter {
    SubscriptionFilter::parse(Text::try_from(text).unwrap()).unwrap()
}

fn id(value: u16) -> PacketId {
    PacketId::new(value).unwrap()
}

/// What a start after this finds.
#[derive(Debug, Default)]
struct Found {
    sessions: Vec<RestoredSession>,
    retained: Vec<Arc<Message>>,
    loaded: Loaded,
}

fn found(store: &dyn MessageStore) -> (Ledger, Found) {
    let mut found = Found::default();
    let (ledger, loaded) = load(store, "test".as_ref(), now(), &mut |left| match left {
        Left::Session(session) => found.sessions.push(*session),
        Left::Retained(message) => found.retained.push(message),
    })
    .unwrap();
    found.loaded = loaded;
    (ledger, found)
}

/// The entries of a session in a few words.
fn entries(session: &RestoredSession) -> Vec<String> {
    let said = |entry: &RestoredEntry| match entry {
        RestoredEntry::Waiting(it) => format!("{} waits {}", it.number, show(&it.message)),
        RestoredEntry::Sent(it, id) => format!("{} sent as {id} {}", it.number, show(&it.message)),
        RestoredEntry::Released(number, id) => format!("{number} released as {id}"),
    };
    session.entries.iter().map(said).collect()
}

fn show(message: &Message) -> String {
    format!("{}={}", &*message.topic, String::from_utf8_lossy(&message.payload))
}
