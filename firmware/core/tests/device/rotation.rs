//! Rotation: by the calendar, by command, given up, on trial, and the recovery of what has lapsed.

use signet_device_core::io::ProvisioningError;
use signet_device_core::slots::Slot;
use signet_device_core::{Event, Failure, Rung};

use super::world::{DAY, HOUR, World};

fn enrolled() -> World {
    let mut world = World::new();
    world.boot();
    world.online();
    world
}

fn rotates(world: &mut World, within: u64) -> bool {
    let had = world.certificate();
    world.run_until(within, |w| w.is_online() && w.certificate() != had)
}

#[test]
fn a_certificate_is_renewed_thirty_days_before_its_end() {
    let mut world = enrolled();
    assert!(!rotates(&mut world, 58 * DAY), "too early");
    assert!(rotates(&mut world, 3 * DAY), "{:?}", world.events);
    assert!(world.events.contains(&Event::Rotated(Slot::B)));
    let marker = world.device.as_ref().expect("booted").marker();
    assert_eq!((marker.active, marker.trial), (Some(Slot::B), false));
    // The old one is kept for its grace, then erased.
    world.run(6 * DAY);
    assert!(!world.events.contains(&Event::OldErased(Slot::A)));
    world.run(2 * DAY);
    assert!(world.events.contains(&Event::OldErased(Slot::A)));
}

#[test]
fn a_certificate_of_a_day_is_renewed_at_about_its_eighteenth_hour() {
    let mut world = World::new();
    world.broker.validity_secs = 86_400;
    world.boot();
    world.online();
    assert!(!rotates(&mut world, 14 * HOUR), "too early");
    assert!(rotates(&mut world, 5 * HOUR), "{:?}", world.events);
}

#[test]
fn a_device_lives_for_years_on_its_own_certificates_alone() {
    let mut world = enrolled();
    world.factory.as_mut().expect("factory").claim = None;
    world.boot();
    for _ in 0..3 * 12 {
        world.run(30 * DAY);
        assert!(world.run_until(DAY, World::is_online), "{:?}", world.events);
    }
    let rotations = world.events.iter().filter(|event| matches!(event, Event::Rotated(_))).count();
    assert!((17..=19).contains(&rotations), "{rotations} rotations in three years");
    assert!(world.flash.erases() < 100, "{} erases of one sector", world.flash.erases());
}

#[test]
fn the_broker_and_a_command_can_ask_for_a_rotation() {
    let mut world = enrolled();
    let first = world.certificate();
    world.send("devices/thing-sn-0001/certs/rotate", b"{}");
    assert!(world.run_until(HOUR, |w| w.is_online() && w.certificate() != first));
    world.now += 3 * HOUR;
    let second = world.certificate();
    world.send("devices/thing-sn-0001/commands/rotate", br#"{"id":"r1"}"#);
    assert!(world.run_until(HOUR, |w| w.is_online() && w.certificate() != second));
    let results = world.said("devices/thing-sn-0001/telemetry/results");
    assert_eq!(results, [r#"{"device":"thing-sn-0001","command":"rotate","id":"r1","ok":true}"#]);
}

#[test]
fn a_rotation_that_another_device_was_told_to_do_is_not_done() {
    let mut world = enrolled();
    world.send("devices/thing-sn-0002/certs/rotate", b"{}");
    assert!(!rotates(&mut world, 2 * DAY));
}

#[test]
fn a_candidate_that_the_broker_does_not_accept_is_given_up_after_three_tries() {
    let mut world = enrolled();
    let had = world.certificate();
    world.broker.moods.refuses_new = true;
    world.now += 60 * DAY;
    let fell_back = |w: &World| w.events.contains(&Event::FellBack(Slot::B)) && w.is_online();
    assert!(world.run_until(DAY, fell_back), "{:?}", world.events);
    assert_eq!(world.certificate(), had);
    let tries = world.connects.iter().filter(|connect| connect.rung == Rung::Own(Slot::B)).count();
    assert!((3..=4).contains(&tries), "{tries} tries");
    // The broker is mended: the next attempt goes through.
    world.broker.moods.refuses_new = false;
    assert!(rotates(&mut world, DAY), "{:?}", world.events);
}

#[test]
fn a_candidate_that_was_given_up_is_tried_anew_when_the_certificate_in_use_gets_no_other() {
    let mut world = enrolled();
    let had = world.certificate();
    world.broker.moods.refuses_new = true;
    world.now += 60 * DAY;
    let fell_back = |w: &World| w.events.contains(&Event::FellBack(Slot::B)) && w.is_online();
    assert!(world.run_until(DAY, fell_back), "{:?}", world.events);
    // For the broker the candidate has come through once, so it answers nobody else.
    world.broker.moods.refuses_new = false;
    world.broker.moods.rejects = Some(403);
    assert!(world.run_until(DAY, |w| w.is_online() && w.certificate() != had), "{:?}", world.events);
    assert!(world.events.contains(&Event::Rotated(Slot::B)));
}

/// A device with a candidate that it cannot try: the broker takes no new connections since the rotation began.
fn with_candidate() -> World {
    let mut world = enrolled();
    world.now += 60 * DAY;
    world.broker.moods.down = true;
    assert!(
        world.run_until(DAY, |w| w.events.contains(&Event::CandidateStored(Slot::B))),
        "{:?}",
        world.events
    );
    assert!(!world.is_online());
    world
}

#[test]
fn a_candidate_that_cannot_be_tried_is_given_up_after_a_day() {
    let mut world = with_candidate();
    world.boot();
    world.run(23 * HOUR);
    assert!(!world.events.contains(&Event::FellBack(Slot::B)), "a broker that is away says nothing about it");
    world.run(2 * HOUR);
    assert!(world.events.contains(&Event::FellBack(Slot::B)), "{:?}", world.events);
    world.broker.moods.down = false;
    world.online();
    assert!(world.events.contains(&Event::Online(Rung::Own(Slot::A))));
}

#[test]
fn a_candidate_outlives_a_broker_that_is_away_for_hours() {
    let mut world = with_candidate();
    world.boot();
    world.run(20 * HOUR);
    world.broker.moods.down = false;
    world.online();
    assert!(world.events.contains(&Event::Rotated(Slot::B)), "{:?}", world.events);
}

#[test]
fn a_rotation_without_answers_is_tried_again_and_harms_nothing() {
    let mut world = enrolled();
    world.broker.moods.answers_lost = true;
    world.now += 60 * DAY;
    let had = world.certificate();
    world.run(2 * DAY);
    let aborted = world.events.iter().filter(|event| **event == Event::RotationAborted).count();
    assert!((5..100).contains(&aborted), "{aborted}");
    assert!(world.is_online() && world.certificate() == had);
    world.broker.moods.answers_lost = false;
    assert!(rotates(&mut world, DAY));
}

#[test]
fn a_lapsed_certificate_is_renewed_where_the_broker_lets_it_connect() {
    let mut world = enrolled();
    world.factory.as_mut().expect("factory").claim = None;
    world.broker.moods.expired_grace_secs = 400 * 86_400;
    world.now += 200 * DAY;
    world.boot();
    assert!(rotates(&mut world, DAY), "{:?}", world.events);
}

#[test]
fn a_lapsed_certificate_is_replaced_by_claim_with_the_same_key_where_the_broker_does_not() {
    let mut world = enrolled();
    let had = world.device.as_ref().and_then(|d| d.credential()).expect("enrolled").leaf.clone();
    world.now += 200 * DAY;
    world.boot();
    assert!(rotates(&mut world, 2 * DAY), "{:?}", world.events);
    let now = world.device.as_ref().and_then(|d| d.credential()).expect("enrolled").leaf.clone();
    assert_eq!(now.public_key, had.public_key, "so the broker saw that it is the same device");
    assert!(world.connects.iter().any(|connect| connect.rung == Rung::Claim));
}

#[test]
fn a_revoked_device_does_not_get_in_again_and_says_so_slowly() {
    let mut world = enrolled();
    world.factory.as_mut().expect("factory").claim = None;
    world.broker.revoke("thing-sn-0001");
    world.drop_connection();
    world.boot();
    world.run(DAY);
    assert!(!world.is_online());
    assert!(world.events.contains(&Event::ProvisioningError(ProvisioningError::NoClaim)));
    let tries = world.connects.len();
    assert!((30..500).contains(&tries), "{tries} connections in a day");
    assert!(world.reboots.is_empty());
}

#[test]
fn a_server_that_cannot_be_trusted_costs_no_credential() {
    let mut world = enrolled();
    let had = world.certificate();
    for _ in 0..50 {
        world.drop_connection();
        world.raw(signet_device_core::Input::Ended(Failure::ServerUntrusted));
    }
    world.online();
    assert_eq!(world.certificate(), had);
}

#[test]
fn a_broken_broker_of_a_day_ends_with_the_same_certificate() {
    let mut world = enrolled();
    let had = world.certificate();
    world.broker.moods.down = true;
    world.drop_connection();
    world.run(3 * DAY);
    let tries = world.connects.len();
    assert!((500..4_000).contains(&tries), "{tries} tries in three days");
    assert!(world.device.as_ref().expect("booted").queued() >= 48, "readings wait");
    world.broker.moods.down = false;
    world.online();
    world.run(HOUR);
    assert_eq!((world.certificate(), world.device.as_ref().expect("booted").queued()), (had, 0));
}
