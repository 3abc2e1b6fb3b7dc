use std::time::Duration;

use bytes::Bytes;
use signet_identity::{CertificateId, Principal, ThingName};
use signet_wire::{ClientId, PublishProperties, QoS};

use super::*;
use crate::message::{Author, Publisher};

const ROOMY: RetainedBounds = RetainedBounds {
    count_max: 1_000,
    bytes_max: 1_000_000,
    publisher_count_max: 1_000,
    publisher_bytes_max: 1_000_000,
};

fn at(secs: u64) -> Mono {
    Mono::new(Duration::from_secs(secs))
}

fn principal(name: &str) -> Principal {
    Principal::device(ThingName::try_from(name).unwrap(), CertificateId::of(name.as_bytes()), Vec::new())
}

fn by(name: &str) -> Publisher {
    let author = Author { principal: principal(name), client_id: ClientId::try_from(name).unwrap() };
    Publisher::Client(Arc::new(author))
}

fn topic(name: &str) -> TopicName {
    TopicName::try_from(name).unwrap()
}

fn filter(text: &str) -> TopicFilter {
    TopicFilter::try_from(text).unwrap()
}

fn message(
    publisher: Publisher,
    name: &str,
    payload: &str,
    expiry_secs: Option<u32>,
    now: Mono,
) -> Arc<Message> {
    let properties = expiry_secs.map(|secs| {
        Box::new(PublishProperties { message_expiry_secs: Some(secs), ..PublishProperties::default() })
    });
    let payload = Bytes::copy_from_slice(payload.as_bytes());
    Arc::new(Message::new(topic(name), payload, QoS::AtLeastOnce, true, properties, publisher, now))
}

fn plain(publisher: &str, name: &str, payload: &str) -> Arc<Message> {
    message(by(publisher), name, payload, None, at(0))
}

fn found(store: &RetainedStore, text: &str, now: Mono) -> Vec<String> {
    let mut topics = Vec::new();
    store.for_each_matching(&filter(text), now, |message| topics.push(message.topic.to_string()));
    topics
}

fn payload(store: &RetainedStore, name: &str) -> Option<Bytes> {
    store.get(&topic(name), at(0)).map(|message| message.payload.clone())
}

#[test]
fn a_topic_keeps_its_last_message() {
    let store = RetainedStore::new(ROOMY);
    store.set(plain("d1", "a/b", "old")).unwrap();
    store.set(plain("d1", "a/b", "newer")).unwrap();
    assert_eq!(payload(&store, "a/b").unwrap(), "newer");
    assert_eq!(payload(&store, "a"), None);
    assert_eq!(store.count(), 1);
    assert_eq!(store.bytes(), cost(&plain("d1", "a/b", "newer")));
}

#[test]
fn clearing_forgets_the_message_and_gives_its_room_back() {
    let store = RetainedStore::new(ROOMY);
    store.set(message(by("d1"), "a/b", "x", Some(10), at(0))).unwrap();
    assert!(!store.clear(&topic("a/c")));
    assert!(store.clear(&topic("a/b")));
    assert!(!store.clear(&topic("a/b")));
    assert_eq!(found(&store, "#", at(0)), [] as [&str; 0]);
    assert_eq!((store.count(), store.bytes(), store.next_expiry()), (0, 0, None));
    assert!(store.accounts.is_empty());
}

#[test]
fn an_empty_payload_clears_and_is_not_kept() {
    let store = RetainedStore::new(ROOMY);
    store.set(plain("d1", "a/b", "x")).unwrap();
    store.set(plain("d2", "a/b", "")).unwrap();
    store.set(plain("d2", "a/c", "")).unwrap();
    assert_eq!(found(&store, "#", at(0)), [] as [&str; 0]);
    assert_eq!(store.count(), 0);
}

#[test]
fn a_search_finds_the_matching_topics_in_order() {
    let store = RetainedStore::new(ROOMY);
    let all = ["$SYS/x", "a", "a-b", "a/", "a/b", "a/b-c", "a/b/c", "a/c/c", "a0", "b/b/c"];
    for name in all {
        store.set(plain("d1", name, "x")).unwrap();
    }
    assert_eq!(found(&store, "a/#", at(0)), ["a", "a/", "a/b", "a/b-c", "a/b/c", "a/c/c"]);
    assert_eq!(found(&store, "a/b", at(0)), ["a/b"]);
    assert_eq!(found(&store, "+/+/c", at(0)), ["a/b/c", "a/c/c", "b/b/c"]);
    assert_eq!(found(&store, "+", at(0)), ["a", "a-b", "a0"]);
    assert_eq!(found(&store, "$SYS/#", at(0)), ["$SYS/x"]);
    assert_eq!(found(&store, "#", at(0)), all[1..]);
    assert_eq!(found(&store, "c/#", at(0)), [] as [&str; 0]);
}

#[test]
fn a_search_seeks_past_long_stretches_that_cannot_match() {
    let store =
        RetainedStore::new(RetainedBounds { count_max: 10_000, publisher_count_max: 10_000, ..ROOMY });
    store.set_bounds(RetainedBounds {
        bytes_max: usize::MAX,
        publisher_bytes_max: usize::MAX,
        ..*store.bounds.load_full()
    });
    for device in 0..20 {
        for n in 0..100 {
            store.set(plain("d1", &format!("devices/d{device:02}/log/{n}"), "x")).unwrap();
        }
        store.set(plain("d1", &format!("devices/d{device:02}/status"), "x")).unwrap();
    }
    let expected: Vec<String> = (0..20).map(|device| format!("devices/d{device:02}/status")).collect();
    assert_eq!(found(&store, "devices/+/status", at(0)), expected);
}

#[test]
fn an_expired_message_is_not_found_even_before_it_is_removed() {
    let store = RetainedStore::new(ROOMY);
    store.set(message(by("d1"), "a", "x", Some(10), at(5))).unwrap();
    store.set(message(by("d1"), "b", "x", None, at(5))).unwrap();
    assert_eq!(found(&store, "#", at(14)), ["a", "b"]);
    assert_eq!(found(&store, "#", at(15)), ["b"]);
    assert_eq!(found(&store, "a", at(15)), [] as [&str; 0]);
    assert!(store.get(&topic("a"), at(15)).is_none());
    assert_eq!(store.count(), 2);
    assert_eq!(store.next_expiry(), Some(at(15)));
    assert_eq!(store.expire(at(14)), 0);
    assert_eq!(store.expire(at(15)), 1);
    assert_eq!((store.count(), store.next_expiry()), (1, None));
}

#[test]
fn an_update_moves_the_expiry_both_ways() {
    let store = RetainedStore::new(ROOMY);
    store.set(message(by("d1"), "a", "x", Some(10), at(0))).unwrap();
    store.set(message(by("d1"), "a", "y", Some(10), at(5))).unwrap();
    assert_eq!(store.expire(at(10)), 0);
    assert_eq!(store.next_expiry(), Some(at(15)));
    store.set(message(by("d1"), "a", "z", Some(1), at(11))).unwrap();
    assert_eq!(store.next_expiry(), Some(at(12)));
    store.set(message(by("d1"), "a", "kept", None, at(11))).unwrap();
    assert_eq!(store.expire(at(100)), 0);
    assert_eq!((store.count(), store.next_expiry()), (1, None));
    assert_eq!(payload(&store, "a").unwrap(), "kept");
}

#[test]
fn the_schedule_has_one_entry_per_topic_however_its_expiry_changes() {
    let store = RetainedStore::new(ROOMY);
    for secs in (1..500).rev().chain(1..500) {
        store.set(message(by("d1"), "a", "x", Some(secs), at(0))).unwrap();
        assert_eq!(store.schedule.lock().len(), 1);
    }
}

#[test]
fn expiring_goes_in_batches_and_says_when_there_is_more() {
    let store = RetainedStore::new(RetainedBounds { count_max: 3_000, publisher_count_max: 3_000, ..ROOMY });
    for n in 0..1_500 {
        store.set(message(Publisher::Broker, &format!("t/{n}"), "x", Some(1), at(0))).unwrap();
    }
    assert_eq!(store.expire(at(1)), EXPIRE_BATCH_MAX);
    assert_eq!(store.next_expiry(), Some(at(1)));
    assert_eq!(store.expire(at(1)), 1_500 - EXPIRE_BATCH_MAX);
    assert_eq!((store.count(), store.bytes(), store.next_expiry()), (0, 0, None));
}

#[test]
fn each_bound_refuses_what_exceeds_it_and_keeps_what_was_there() {
    let one = cost(&plain("d1", "t/0", "x"));
    let bounds = [
        (RetainedFull::Count, RetainedBounds { count_max: 2, ..ROOMY }),
        (RetainedFull::Bytes, RetainedBounds { bytes_max: 2 * one, ..ROOMY }),
        (RetainedFull::PublisherCount, RetainedBounds { publisher_count_max: 2, ..ROOMY }),
        (RetainedFull::PublisherBytes, RetainedBounds { publisher_bytes_max: 2 * one, ..ROOMY }),
    ];
    for (full, bounds) in bounds {
        let store = RetainedStore::new(bounds);
        store.set(plain("d1", "t/0", "x")).unwrap();
        store.set(plain("d1", "t/1", "x")).unwrap();
        assert_eq!(store.set(plain("d1", "t/2", "x")), Err(full));
        assert_eq!((store.count(), store.bytes()), (2, 2 * one), "{full}");
        assert_eq!(found(&store, "#", at(0)), ["t/0", "t/1"], "{full}");
        // An update of the same size fits, and so does a new topic once another is cleared.
        store.set(plain("d1", "t/1", "y")).unwrap();
        assert!(store.clear(&topic("t/0")));
        store.set(plain("d1", "t/2", "x")).unwrap();
    }
}

#[test]
fn an_update_that_is_too_long_is_refused_and_the_old_message_stays() {
    let one = cost(&plain("d1", "t/0", "x"));
    for bounds in
        [RetainedBounds { bytes_max: one, ..ROOMY }, RetainedBounds { publisher_bytes_max: one, ..ROOMY }]
    {
        let store = RetainedStore::new(bounds);
        store.set(plain("d1", "t/0", "x")).unwrap();
        assert!(store.set(plain("d1", "t/0", "xx")).is_err());
        assert_eq!(payload(&store, "t/0").unwrap(), "x");
        assert_eq!(store.bytes(), one);
    }
}

#[test]
fn what_gets_smaller_is_welcome_in_a_store_that_is_over_its_bound() {
    let store = RetainedStore::new(ROOMY);
    store.set(plain("d1", "t/0", "a long message")).unwrap();
    store.set_bounds(RetainedBounds { bytes_max: 1, publisher_bytes_max: 1, ..ROOMY });
    store.set(plain("d1", "t/0", "short")).unwrap();
    assert_eq!(store.set(plain("d1", "t/0", "longer")), Err(RetainedFull::Bytes));
    assert_eq!(payload(&store, "t/0").unwrap(), "short");
}

#[test]
fn one_principal_cannot_use_up_the_room_of_another() {
    let store = RetainedStore::new(RetainedBounds { publisher_count_max: 1, ..ROOMY });
    store.set(plain("d1", "t/1", "x")).unwrap();
    assert_eq!(store.set(plain("d1", "t/2", "x")), Err(RetainedFull::PublisherCount));
    store.set(plain("d2", "t/2", "x")).unwrap();
    assert_eq!(store.set(plain("d2", "t/1", "x")), Err(RetainedFull::PublisherCount));
    assert_eq!(payload(&store, "t/1").unwrap(), "x");
}

#[test]
fn a_topic_that_another_principal_takes_over_counts_for_the_new_one_only() {
    let store = RetainedStore::new(RetainedBounds { publisher_count_max: 1, ..ROOMY });
    store.set(plain("d1", "t/1", "x")).unwrap();
    store.set(plain("d2", "t/1", "yy")).unwrap();
    assert_eq!(store.bytes(), cost(&plain("d2", "t/1", "yy")));
    assert_eq!(store.set(plain("d2", "t/2", "x")), Err(RetainedFull::PublisherCount));
    store.set(plain("d1", "t/2", "x")).unwrap();
    assert_eq!(store.remove_by_publisher(principal("d1").key(), |_| true), 1);
    assert_eq!(found(&store, "#", at(0)), ["t/1"]);
}

#[test]
fn the_brokers_own_messages_count_but_are_never_refused() {
    let store = RetainedStore::new(RetainedBounds { count_max: 1, ..ROOMY });
    for n in 0..3 {
        store.set(message(Publisher::Broker, &format!("$SYS/{n}"), "x", None, at(0))).unwrap();
    }
    assert_eq!(store.count(), 3);
    assert_eq!(store.set(plain("d1", "a", "x")), Err(RetainedFull::Count));
}

#[test]
fn removing_a_principal_takes_all_its_messages_and_no_others() {
    let store = RetainedStore::new(ROOMY);
    for n in 0..5 {
        store.set(plain("d1", &format!("one/{n}"), "x")).unwrap();
        store.set(plain("d2", &format!("two/{n}"), "x")).unwrap();
    }
    assert_eq!(store.remove_by_publisher(principal("d1").key(), |_| true), 5);
    assert_eq!(store.remove_by_publisher(principal("d1").key(), |_| true), 0);
    assert_eq!(found(&store, "#", at(0)), (0..5).map(|n| format!("two/{n}")).collect::<Vec<_>>());
    assert_eq!(store.bytes(), 5 * cost(&plain("d2", "two/0", "x")));
}

#[test]
fn the_books_balance_after_threads_have_set_cleared_and_searched_the_same_topics() {
    let store = RetainedStore::new(ROOMY);
    store.set(plain("steady", "t/stable", "x")).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..3_usize {
            let store = &store;
            scope.spawn(move || {
                let name = format!("d{thread}");
                for round in 0..400_usize {
                    let on = format!("t/{}", (round * (thread + 1)) % 7);
                    store.set(message(by(&name), &on, "payload", Some(10), at(round as u64))).unwrap();
                    assert!(found(store, "t/#", at(0)).contains(&"t/stable".to_owned()));
                    match round % 5 {
                        0 => drop(store.clear(&topic(&on))),
                        1 => drop(store.expire(at(round as u64))),
                        2 => drop(store.remove_by_publisher(principal(&name).key(), |_| true)),
                        _ => {}
                    }
                }
            });
        }
    });
    for n in 0..7 {
        store.clear(&topic(&format!("t/{n}")));
    }
    assert_eq!(found(&store, "#", at(0)), ["t/stable"]);
    assert_eq!((store.count(), store.accounts.len()), (1, 1));
    assert_eq!(store.bytes(), cost(&plain("steady", "t/stable", "x")));
    assert_eq!(store.order.load().len(), 1);
    store.expire(at(10_000));
    assert_eq!(store.next_expiry(), None);
}
