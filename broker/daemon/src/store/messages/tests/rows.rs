use proptest::prelude::*;
use signet_identity::{GroupName, Issued, Lineage, TemplateName};
use signet_wire::{PayloadFormat, PublishProperties};

use super::super::bytes::Writer;
use super::super::key::Key;
use super::super::row::{self, Decoder};
use super::super::{Row, RowError, decode};
use super::*;

fn read(key: Key<'_>, value: &[u8]) -> Result<Row, RowError> {
    Decoder::new(now()).row(&key.encode(), value)
}

fn rich_author() -> Arc<Author> {
    let name = ThingName::new("odd~name", &signet_identity::NameRule::new(128, "~").unwrap()).unwrap();
    let groups = vec![GroupName::try_from("pumps").unwrap(), GroupName::try_from("north").unwrap()];
    let lineage = Lineage::of([Issued { issuer: &[9; 32], serial: &[1, 2, 3] }]);
    let principal =
        Principal::device(name, CertificateId::of(b"c"), groups).with_lineage(lineage).in_quarantine();
    Arc::new(Author { principal, client_id: ClientId::try_from("the client").unwrap() })
}

fn properties() -> PublishProperties {
    PublishProperties {
        payload_format: Some(PayloadFormat::Utf8),
        message_expiry_secs: Some(60),
        topic_alias: None,
        response_topic: Some(TopicName::try_from("answers/here").unwrap()),
        correlation_data: Some(signet_wire::Binary::from_static(b"\x00\x01")),
        user_properties: vec![(Text::try_from("k").unwrap(), Text::try_from("v").unwrap())],
        subscription_ids: Default::default(),
        content_type: Some(Text::try_from("text/plain").unwrap()),
    }
}

#[test]
fn a_session_with_all_that_it_can_have_is_read_as_it_was_written() {
    let will = Will { properties: Some(Box::new(properties())), ..will() };
    let session = StoredSession {
        ends: Some(Wall(5)),
        will_due: Some(Wall(4)),
        will: Some((will.clone(), rich_author())),
        author: rich_author(),
        expiry_secs: u32::MAX,
        ..*stored("sensor-1")
    };
    let Row::Session(7, back) = read(Key::Session(7), &row::put_session(&session).unwrap()).unwrap() else {
        panic!("a session")
    };
    assert_eq!(back.principal, session.principal);
    assert_eq!(back.client_id, session.client_id);
    assert_eq!(back.author.principal, session.author.principal);
    assert_eq!(back.author.client_id, session.author.client_id);
    assert_eq!((back.expiry_secs, back.ends, back.will_due), (u32::MAX, Some(Wall(5)), Some(Wall(4))));
    let (back, by) = back.will.unwrap();
    assert_eq!(back, will);
    assert_eq!(by.principal, rich_author().principal);
}

#[test]
fn a_claim_keeps_its_templates() {
    let name = ThingName::try_from("batch-7").unwrap();
    let templates = vec![TemplateName::try_from("sensors").unwrap()];
    let principal = Principal::claim(name, CertificateId::of(b"c"), templates);
    let author = Arc::new(Author { principal, client_id: ClientId::try_from("x").unwrap() });
    let session = StoredSession { author: Arc::clone(&author), ..*stored("batch-7") };
    let Row::Session(1, back) = read(Key::Session(1), &row::put_session(&session).unwrap()).unwrap() else {
        panic!("a session")
    };
    assert_eq!(back.author.principal, author.principal);
}

#[test]
fn a_message_is_read_as_it_was_written_and_its_expiry_goes_on() {
    let topic = TopicName::try_from("a/b").unwrap();
    let payload = Bytes::from_static(b"\x00payload\xff");
    let mut made = Message::new(
        topic.clone(),
        payload.clone(),
        QoS::ExactlyOnce,
        true,
        Some(Box::new(properties())),
        Publisher::Client(rich_author()),
        now().mono,
    );
    made.expires = Some(now().mono.after_secs(60));
    let value = row::put_body(&made, now()).unwrap();
    // Another process, 20 seconds later by the wall clock.
    let later =
        Now { mono: Mono::new(Duration::from_secs(3)), wall: now().wall.after(Duration::from_secs(20)) };
    let key = Key::Retained(topic.as_bytes()).encode();
    let Row::Retained(back) = Decoder::new(later).row(&key, &value).unwrap() else { panic!("a message") };
    assert_eq!(
        (&back.topic, &back.payload, back.qos, back.retain),
        (&topic, &payload, QoS::ExactlyOnce, true)
    );
    assert_eq!(back.properties.as_deref(), Some(&properties()));
    assert_eq!(back.publisher.author().unwrap().principal, rich_author().principal);
    assert_eq!(back.remaining_expiry_secs(later.mono), Some(40));
    assert_eq!(back.bytes, made.bytes);
    assert!(!back.is_expired(later.mono));
    let past = Now { wall: now().wall.after(Duration::from_secs(61)), ..later };
    let Row::Retained(back) = Decoder::new(past).row(&key, &value).unwrap() else { panic!("a message") };
    assert!(back.is_expired(past.mono));
}

#[test]
fn a_message_of_the_broker_and_one_of_sixty_thousand_bytes_of_topic_are_kept_too() {
    let long = "x".repeat(60_000);
    for topic in ["$SYS/broker/x", long.as_str()] {
        let topic = TopicName::try_from(topic).unwrap();
        let made = Message::new(
            topic.clone(),
            Bytes::new(),
            QoS::AtMostOnce,
            true,
            None,
            Publisher::Broker,
            now().mono,
        );
        let value = row::put_body(&made, now()).unwrap();
        let key = Key::Retained(&super::super::key::text_in_key(topic.as_bytes())).encode();
        let Row::Retained(back) = Decoder::new(now()).row(&key, &value).unwrap() else { panic!("a message") };
        assert_eq!(back.topic, topic);
        assert!(back.publisher.author().is_none() && back.expires.is_none());
    }
}

#[test]
fn a_retained_message_under_the_key_of_another_topic_is_refused() {
    let value = row::put_body(&message("a/b", "x"), now()).unwrap();
    assert!(read(Key::Retained(b"a/b"), &value).is_ok());
    assert_eq!(
        read(Key::Retained(b"a/c"), &value).unwrap_err(),
        RowError::Value("the topic of a retained message")
    );
}

#[test]
fn a_row_of_an_unknown_format_or_with_something_behind_it_is_refused() {
    let good = row::put_exchange(Exchange { packet_id: id(9), released: true });
    assert!(read(Key::Exchange(1, 2), &good).is_ok());
    let mut newer = good.clone();
    newer[0] = 2;
    assert_eq!(read(Key::Exchange(1, 2), &newer).unwrap_err(), RowError::Format(2));
    assert_eq!(read(Key::Exchange(1, 2), &[&good[..], b"x"].concat()).unwrap_err(), RowError::Long);
}

use super::super::Exchange;

/// A good row of every kind, key and value.
fn samples() -> Vec<(Vec<u8>, Vec<u8>)> {
    let Record::Queued(_, entry) = queued(1, 2, &message("a/b", "x")) else { unreachable!() };
    let shared = QueuedEntry { shared: Some(filter("$share/g/a/#")), ..(*entry).clone() };
    let Record::Subscribed(_, _, options) = subscribed(1, "a") else { unreachable!() };
    let session = StoredSession { will: Some((will(), rich_author())), ..*stored("sensor-1") };
    let pair = |key: Key<'_>, value| (key.encode(), value);
    vec![
        pair(Key::Schema, row::put_schema(1)),
        pair(Key::Commit, row::put_commit(77)),
        pair(Key::Body(4), row::put_body(&message("a/b", "x"), now()).unwrap()),
        pair(Key::Session(4), row::put_session(&session).unwrap()),
        pair(Key::Subscription(4, b"$share/g/a/+"), row::put_subscription(b"$share/g/a/+", &options)),
        pair(Key::Entry(4, 5), row::put_waiting(4, &shared)),
        pair(Key::Exchange(4, 5), row::put_exchange(Exchange { packet_id: id(9), released: false })),
        pair(Key::Received(4, id(8)), row::put_received()),
        pair(Key::Retained(b"a/b"), row::put_body(&message("a/b", "x"), now()).unwrap()),
    ]
}

fn framed(key: &[u8], value: &[u8]) -> Vec<u8> {
    let mut out = Writer::new();
    out.field(key);
    out.raw(value);
    out.finish()
}

#[test]
fn every_row_is_read_and_no_beginning_of_one_is() {
    for (key, value) in samples() {
        assert!(decode(&framed(&key, &value), now()).is_ok(), "{key:02x?}");
        for end in 0..value.len() {
            assert!(decode(&framed(&key, &value[..end]), now()).is_err(), "{key:02x?} to {end}");
        }
    }
    assert!(decode(&[], now()).is_err() && decode(&[0, 9, 1], now()).is_err());
}

proptest! {
    #[test]
    fn damage_is_an_error_or_another_row_and_never_a_panic(
        sample in 0..9_usize, place in any::<prop::sample::Index>(), byte: u8, tail in prop::collection::vec(any::<u8>(), 0..40)
    ) {
        let (key, mut value) = samples().swap_remove(sample);
        let at = place.index(value.len());
        value[at] = byte;
        drop(decode(&framed(&key, &value), now()));
        value.truncate(at);
        value.extend(tail);
        drop(decode(&framed(&key, &value), now()));
    }
}
