//! Keep alive (MQTT5 §3.1.2.10).

use std::num::NonZeroU16;
use std::time::Duration;

use signet_core::{CloseReason, Refusal};
use signet_wire::{Packet, ReasonCode};

use crate::world::{World, say, v3, v5};

#[test]
fn a_silent_client_is_closed_at_one_and_a_half_times_the_keep_alive() {
    for dial in [v5("dev").keep_alive(10), v3("dev").keep_alive(10)] {
        let mut w = World::new();
        let who = w.connect(dial);
        w.advance(Duration::from_millis(14_999));
        w.assert_open(who);
        w.advance(Duration::from_millis(1));
        assert_eq!(w.closed(who), Some(CloseReason::KeepAliveTimeout));
    }
}

#[test]
fn the_5_0_client_is_told_0x8d() {
    let mut w = World::new();
    let who = w.connect(v5("dev").keep_alive(1));
    w.advance_secs(2);
    w.assert_disconnected(who, ReasonCode::KeepAliveTimeout);
}

#[test]
fn any_packet_from_the_client_restarts_the_clock() {
    let mut w = World::new();
    let who = w.connect(v5("dev").keep_alive(10));
    for _ in 0..5 {
        w.advance_secs(14);
        w.send(who, Packet::PingReq);
    }
    w.assert_open(who);
}

#[test]
fn packets_to_the_client_do_not_count() {
    let mut w = World::new();
    let quiet = w.connect(v5("quiet").keep_alive(10));
    let talker = w.connect(v5("talker"));
    w.subscribe(quiet, "t", 0);
    for _ in 0..3 {
        w.advance_secs(5);
        w.publish(talker, say("t", "x"));
    }
    assert_eq!(w.closed(quiet), Some(CloseReason::KeepAliveTimeout));
}

#[test]
fn zero_is_never() {
    let mut w = World::new();
    let who = w.connect(v5("dev").keep_alive(0));
    w.advance_secs(10_000_000);
    w.assert_open(who);
}

#[test]
fn the_longest_keep_alive_is_set_by_the_server_and_is_what_counts() {
    for asked in [0, 61, u16::MAX] {
        let mut w = World::limited(|limits| limits.keep_alive_secs_max = NonZeroU16::new(60));
        let (who, connack) = w.dial(v5("dev").keep_alive(asked));
        assert_eq!(connack.unwrap().properties.server_keep_alive_secs, Some(60));
        w.advance_secs(89);
        w.assert_open(who);
        w.advance_secs(1);
        assert_eq!(w.closed(who), Some(CloseReason::KeepAliveTimeout));
    }
    let mut w = World::limited(|limits| limits.keep_alive_secs_max = NonZeroU16::new(60));
    assert_eq!(w.dial(v5("dev").keep_alive(60)).1.unwrap().properties.server_keep_alive_secs, None);
}

#[test]
fn a_3_1_1_client_above_the_longest_keep_alive_is_refused() {
    let mut w = World::limited(|limits| limits.keep_alive_secs_max = NonZeroU16::new(60));
    let (who, _) = w.dial(v3("dev").keep_alive(61));
    assert_eq!(w.closed(who), Some(CloseReason::Refused(Refusal::KeepAliveTooLong)));
    let (who, _) = w.dial(v3("dev").keep_alive(60));
    w.assert_open(who);
}
