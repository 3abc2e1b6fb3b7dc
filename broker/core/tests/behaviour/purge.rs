//! What is left of somebody who is trusted no more.

use std::collections::HashSet;
use std::sync::Arc;

use signet_acl::{ParseOptions, Policy};
use signet_core::{CloseReason, Condemned, Consequences, Hub, Now, Purged, RetainedTaken};
use signet_identity::{CertificateId, Principal};
use signet_wire::ReasonCode;

use crate::world::*;

/// Condemns everything of `who`.
fn condemned(who: &Principal) -> Condemned {
    Condemned {
        certificates: HashSet::from_iter([*who.certificate()]),
        principals: HashSet::from_iter([who.key().clone()]),
    }
}

fn everything() -> Consequences {
    Consequences { retained: RetainedTaken::All, ..Consequences::default() }
}

fn purge(w: &mut World, who: &Principal, consequences: Consequences) -> Purged {
    let purged = w.hub.purge(&condemned(who), &Arc::new(consequences), w.now);
    w.drive();
    purged
}

/// The topics of what `who` has heard, in order of name.
fn topics(w: &mut World, who: Who) -> Vec<String> {
    let heard = w.messages(who).into_iter();
    let mut topics: Vec<_> = heard.map(|publish| publish.topic.expect("no alias").to_string()).collect();
    topics.sort();
    topics
}

/// The topics that are still retained, as somebody who subscribes now hears them.
fn retained(w: &mut World) -> Vec<String> {
    let late = w.connect(v5("late"));
    w.subscribe(late, "#", 0);
    let topics = topics(w, late);
    w.disconnect(late);
    topics
}

#[test]
fn nothing_of_a_condemned_principal_is_left() {
    let mut w = World::new();
    let listener = w.connect(v5("listener"));
    w.subscribe(listener, "wills/#", 0);
    let dev = w.connect(v5("dev").lasting().will(will("wills/dev", "gone")));
    w.subscribe(dev, "t", 1);
    w.publish(dev, say("status", "online").retain());
    let second = w.connect(v5("dev").client_id("second").lasting().will(will("wills/dev", "gone")));
    w.subscribe(second, "t", 1);
    w.disconnect(second);
    let bystander = w.connect(v5("bystander").lasting());
    w.publish(bystander, say("others", "stay").retain());
    let purged = purge(&mut w, &device("dev"), everything());
    assert_eq!((purged.connections, purged.sessions, purged.retained), (1, 2, 1));
    w.assert_disconnected(dev, ReasonCode::AdministrativeAction);
    w.assert_open(bystander);
    assert_eq!(w.hub.session_count(), 2);
    assert_eq!(w.hub.subscription_count(), 1);
    assert_eq!(retained(&mut w), ["others"]);
    assert_eq!(w.messages(listener), []);
}

#[test]
fn who_is_condemned_while_it_is_told_of_a_stop_hears_the_revocation_and_nothing_that_waited() {
    let mut w = World::new();
    let dev = w.connect(v5("dev").lasting());
    w.subscribe(dev, "t", 1);
    let other = w.connect(v5("other"));
    w.hub.kick_all(CloseReason::ServerShuttingDown);
    let purged = purge(&mut w, &device("dev"), everything());
    assert_eq!(purged.connections, 1);
    w.assert_disconnected(dev, ReasonCode::AdministrativeAction);
    w.assert_disconnected(other, ReasonCode::ServerShuttingDown);
}

#[test]
fn only_what_the_pattern_names_is_removed_from_the_retained() {
    let mut w = World::new();
    let rule = "pattern write devices/%u/status\n";
    let policy = Policy::parse(rule, "test", &ParseOptions::default()).unwrap().0;
    // A client identifier with a wildcard must not protect what it has left.
    let dev = w.connect(v5("dev").client_id("#"));
    for topic in ["devices/dev/status", "devices/dev/telemetry", "devices/other/status"] {
        w.publish(dev, say(topic, "x").retain());
    }
    let other = w.connect(v5("other"));
    w.publish(other, say("devices/third/status", "x").retain());
    let taken = RetainedTaken::Of(Arc::new(policy));
    let purged = purge(&mut w, &device("dev"), Consequences { retained: taken, ..Consequences::default() });
    assert_eq!(purged.retained, 1);
    assert_eq!(retained(&mut w), ["devices/dev/telemetry", "devices/other/status", "devices/third/status"]);
}

#[test]
fn wills_are_sent_when_the_consequences_say_so() {
    for send_will in [false, true] {
        let mut w = World::new();
        let listener = w.connect(v5("listener"));
        w.subscribe(listener, "wills/#", 0);
        w.connect(v5("dev").will(will("wills/live", "gone")));
        let mut late = will("wills/late", "gone");
        late.delay_secs = 60;
        let away = w.connect(v5("dev").client_id("away").lasting().will(late));
        w.drop_connection(away);
        purge(&mut w, &device("dev"), Consequences { send_will, ..Consequences::default() });
        w.advance_secs(120);
        let expected: &[&str] = if send_will { &["wills/late", "wills/live"] } else { &[] };
        assert_eq!(topics(&mut w, listener), expected);
    }
}

#[test]
fn kept_sessions_wait_for_the_next_certificate_of_that_name() {
    let mut w = World::new();
    let dev = w.connect(v5("dev").lasting().will(will("wills/dev", "gone")));
    w.subscribe(dev, "t", 1);
    let away = w.connect(v5("dev").client_id("away").lasting());
    w.subscribe(away, "t", 1);
    w.disconnect(away);
    let purged =
        purge(&mut w, &device("dev"), Consequences { keep_sessions: true, ..Consequences::default() });
    assert_eq!((purged.connections, purged.sessions), (1, 0));
    w.assert_disconnected(dev, ReasonCode::AdministrativeAction);
    let sender = w.connect(v5("sender"));
    w.publish(sender, say("t", "waits").qos(1));
    for client_id in ["dev", "away"] {
        let mut dial = v5("dev").client_id(client_id).lasting();
        dial.principal = renewed();
        let (back, present) = w.reconnect(dial);
        assert!(present, "{client_id}");
        assert_eq!(w.payloads(back), ["waits"]);
    }
}

/// The thing `dev` with another certificate.
fn renewed() -> Principal {
    Principal::device(device("dev").name().clone(), CertificateId::of(b"renewed"), Vec::new())
}

#[test]
fn another_certificate_of_the_same_name_keeps_its_connection_and_its_session() {
    let mut w = World::new();
    let mut dial = v5("dev").client_id("new").lasting();
    dial.principal = renewed();
    let new = w.connect(dial);
    w.subscribe(new, "t", 1);
    let old = w.connect(v5("dev").client_id("old").lasting());
    let purged = purge(&mut w, &device("dev"), everything());
    assert_eq!((purged.connections, purged.sessions), (1, 1));
    w.assert_disconnected(old, ReasonCode::AdministrativeAction);
    w.assert_open(new);
    assert_eq!(w.hub.subscription_count(), 1);
}

#[test]
fn a_successor_gets_neither_the_will_nor_the_queue_of_a_condemned_connection() {
    let mut w = World::new();
    let listener = w.connect(v5("listener"));
    w.subscribe(listener, "wills/#", 0);
    let old = w.connect(v5("dev").lasting().will(will("wills/dev", "gone")));
    w.subscribe(old, "t", 1);
    // The condemned connection has not yet been woken when the next one takes its session over.
    w.stall(old, true);
    w.hub.purge(&condemned(&device("dev")), &Arc::new(everything()), w.now);
    let mut dial = v5("dev").lasting();
    dial.principal = renewed();
    let (new, present) = w.reconnect(dial);
    assert!(!present);
    w.assert_open(new);
    assert_eq!(w.messages(listener), []);
    assert_eq!(w.hub.subscription_count(), 1);
}

#[test]
fn a_connect_under_way_leaves_no_session() {
    let mut w = World::new();
    let listener = w.connect(v5("listener"));
    w.subscribe(listener, "wills/#", 0);
    let first = w.connect(v5("dev").lasting().will(will("wills/first", "ousted")));
    // The second CONNECT ends the first session, whose will wakes the listener: between the two sessions, dev is purged.
    let (hub, now): (Arc<Hub>, Now) = (Arc::clone(&w.hub), w.now);
    w.when_woken(listener, move || {
        let purged = hub.purge(&condemned(&device("dev")), &Arc::new(everything()), now);
        assert_eq!((purged.connections, purged.sessions), (2, 0));
    });
    let (second, connack) = w.dial(v5("dev").expiry(u32::MAX).will(will("wills/second", "revoked")));
    assert_eq!(connack.expect("a CONNACK").reason, ReasonCode::Success, "CONNECT was under way");
    assert!(w.closed(first).is_some());
    w.assert_disconnected(second, ReasonCode::AdministrativeAction);
    assert_eq!(w.hub.session_count(), 1, "the listener's");
    assert_eq!(w.payloads(listener), ["ousted"]);
}
