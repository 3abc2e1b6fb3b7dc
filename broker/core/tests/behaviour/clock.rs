//! The wall clock is set while the broker runs: by a day in both directions, to 1970, ten years on. What ends, ends by the
//! monotonic clock.

use signet_core::Wall;

use crate::world::{World, delayed, say, v5, will};

const DAY_MS: u64 = 86_400_000;

/// What the clock is set to, one after the other.
fn steps(now: Wall) -> [Wall; 5] {
    [Wall(now.0 + DAY_MS), Wall(now.0 - DAY_MS), Wall(0), Wall(now.0 + 3650 * DAY_MS), now]
}

#[test]
fn nobody_is_disconnected_and_no_session_will_or_message_ends_early() {
    let mut w = World::new();
    let watcher = w.connect(v5("watcher").keep_alive(60));
    w.subscribe(watcher, "#", 1);
    let away = w.connect(v5("away").expiry(3600).will(delayed(will("gone", "away"), 1800)));
    w.subscribe(away, "t", 1);
    w.drop_connection(away);
    let writer = w.connect(v5("writer"));
    w.publish(writer, say("t", "waits").qos(1).expiry(3000));
    assert_eq!(w.payloads(watcher), ["waits"]);
    for step in steps(w.now.wall) {
        w.now.wall = step;
        w.advance_secs(20);
        w.send(watcher, signet_wire::Packet::PingReq);
        assert_eq!(w.heard(watcher), [signet_wire::Packet::PingResp], "{step:?}: nothing but the answer");
        w.assert_open(watcher);
        w.assert_open(writer);
        assert_eq!(w.hub.session_count(), 3, "{step:?}");
    }
    let away = w.connect(v5("away").expiry(3600).resume());
    assert_eq!(w.payloads(away), ["waits"], "neither the session nor the message has expired");
}

#[test]
fn a_session_ends_when_it_would_have_ended_whatever_the_wall_clock_says() {
    for step in steps(World::new().now.wall) {
        let mut w = World::new();
        let away = w.connect(v5("away").expiry(600));
        w.drop_connection(away);
        w.now.wall = step;
        w.advance_secs(599);
        assert_eq!(w.hub.session_count(), 1, "{step:?}");
        w.advance_secs(1);
        assert_eq!(w.hub.session_count(), 0, "{step:?}");
    }
}

#[test]
fn a_silent_client_is_closed_when_its_keep_alive_is_over_and_not_before() {
    for step in steps(World::new().now.wall) {
        let mut w = World::new();
        let silent = w.connect(v5("silent").keep_alive(60));
        w.now.wall = step;
        w.advance_secs(89);
        w.assert_open(silent);
        w.advance_secs(1);
        assert!(w.closed(silent).is_some(), "{step:?}");
    }
}
