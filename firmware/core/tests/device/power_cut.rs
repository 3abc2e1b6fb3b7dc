//! The power fails at every word that is programmed and every erase, in many histories. No cut may lose the identity.

use signet_device_core::Event;
use signet_device_core::slots::Slot;

use super::broker::Broker;
use super::world::{DAY, HOUR, Snapshot, World};

/// The nearest that a test comes to a bricked device: after the cut the power is back, and the device has two days to be online
/// under its name.
fn explore(name: &str, base: &Snapshot, noises: u64, goal: impl Fn(&World) -> bool + Copy) -> u64 {
    let mut whole = World::restore(base, 1);
    let before = whole.flash.operations();
    whole.boot();
    assert!(whole.run_until(3 * DAY, goal), "{name}: {:?}", whole.events);
    let operations = whole.flash.operations() - before;
    assert!(operations > 10, "{name}: nothing is written");
    let mut cuts = 0;
    for nth in 1..=operations {
        for noise in 0..noises {
            cuts += 1;
            let mut world = World::restore(base, 1);
            world.flash.cut_power_in(nth, nth.wrapping_mul(0x2545_f491_4f6c_dd1d) ^ (noise * 7_919 + 1));
            world.boot_as_it_is();
            world.run_until(3 * DAY, goal);
            assert!(world.flash.is_cut(), "{name}, cut {nth}: it did not come so far");
            world.boot();
            let there = world.run_until(3 * DAY, |world| world.is_online() && goal(world));
            assert!(there, "{name}, cut {nth}, noise {noise}: {:?}", world.events);
            assert_eq!(world.device.as_ref().and_then(|device| device.thing()), Some("thing-sn-0001"));
            assert_eq!(world.broker.things.len(), 1, "{name}, cut {nth}: a second thing");
            let error = world.events.iter().any(|event| matches!(event, Event::ProvisioningError(_)));
            assert!(!error, "{name}, cut {nth}, noise {noise}: {:?}", world.events);
            // Now and then: what is left takes a whole rotation more, without any claim.
            if cuts % 53 == 0 {
                let had = world.certificate();
                world.factory.as_mut().expect("factory data").claim = None;
                world.now += 70 * DAY;
                world.boot();
                let rotated = world.run_until(3 * DAY, |w| w.is_online() && w.certificate() != had);
                assert!(
                    rotated,
                    "{name}, cut {nth}, noise {noise}: no rotation after it: {:?}",
                    world.events
                );
            }
        }
    }
    cuts
}

/// A device that has rotated so often, days before its next rotation; without a claim, so that nothing but its own credential
/// brings it online.
fn rotated(times: u32) -> World {
    let mut world = World::new();
    world.boot();
    world.online();
    for _ in 0..times {
        let had = world.certificate();
        world.now += 60 * DAY;
        assert!(world.run_until(3 * DAY, |w| w.is_online() && w.certificate() != had), "{:?}", world.events);
        // Past the grace of the old one.
        world.now += 8 * DAY;
        world.run(2 * HOUR);
    }
    world.factory.as_mut().expect("factory data").claim = None;
    world
}

fn enrolled(world: &World) -> bool {
    world.is_online()
}

#[test]
fn no_cut_during_the_first_enrolment_loses_the_identity() {
    let world = World::new();
    let cuts = explore("blank", &world.snapshot(), 12, enrolled);
    println!("{cuts} cuts during the first enrolment");
    assert!(cuts > 3_000, "{cuts}");
}

#[test]
fn no_cut_during_a_rotation_loses_the_identity() {
    let mut cuts = 0;
    for times in [0, 1, 2, 3, 4, 5, 7, 9, 12, 16, 21] {
        let mut world = rotated(times);
        let had = world.certificate();
        world.now += 60 * DAY;
        let snapshot = world.snapshot();
        let rotated = move |w: &World| w.is_online() && w.certificate() != had;
        cuts += explore(&format!("rotation {}", times + 1), &snapshot, 12, rotated);
    }
    println!("{cuts} cuts during rotations");
    assert!(cuts > 20_000, "{cuts}");
}

#[test]
fn no_cut_at_the_end_of_the_grace_loses_the_identity() {
    let mut cuts = 0;
    for times in [1, 2, 5, 10] {
        let mut world = rotated(times);
        let had = world.certificate();
        world.now += 60 * DAY;
        assert!(world.run_until(3 * DAY, |w| w.is_online() && w.certificate() != had));
        world.now += 8 * DAY;
        let erased = |w: &World| w.is_online() && w.device.as_ref().is_some_and(|d| d.marker().since == 0);
        cuts += explore(&format!("grace {times}"), &world.snapshot(), 6, erased);
    }
    println!("{cuts} cuts at the end of the grace");
}

#[test]
fn no_cut_during_a_rotation_that_the_broker_does_not_finish_loses_the_identity() {
    let mut world = rotated(2);
    let had = world.certificate();
    world.now += 60 * DAY;
    world.broker.moods.refuses_new = true;
    let fell_back = move |w: &World| {
        let back = w.events.iter().any(|event| matches!(event, Event::FellBack(Slot::A | Slot::B)));
        back && w.is_online() && w.certificate() == had
    };
    let snapshot = world.snapshot();
    let mut whole = World::restore(&snapshot, 1);
    let before = whole.flash.operations();
    whole.boot();
    assert!(whole.run_until(DAY, fell_back), "{:?}", whole.events);
    let operations = whole.flash.operations() - before;
    for nth in 1..=operations {
        let mut world = World::restore(&snapshot, 1);
        world.flash.cut_power_in(nth, nth * 31);
        world.boot_as_it_is();
        world.run_until(DAY, fell_back);
        world.boot();
        assert!(world.run_until(3 * DAY, World::is_online), "cut {nth}: {:?}", world.events);
        assert_eq!(world.certificate(), had, "cut {nth}");
    }
    println!("{operations} cuts around a fall-back");
}

#[test]
fn no_cut_during_the_recovery_of_a_lapsed_certificate_loses_the_identity() {
    let mut world = rotated(1);
    world.factory.as_mut().expect("factory data").claim = Some(claim(&world.broker));
    let had = world.certificate();
    // Off for a year: the certificate has lapsed and the broker has no grace for it.
    world.now += 365 * DAY;
    let recovered = move |w: &World| w.is_online() && w.certificate() != had;
    let cuts = explore("recovery", &world.snapshot(), 12, recovered);
    println!("{cuts} cuts during a recovery");
}

pub fn claim(broker: &Broker) -> signet_device_core::factory::Claim {
    signet_device_core::factory::Claim { certificate: broker.claim.clone(), key: vec![1].into() }
}

#[test]
fn two_cuts_in_one_rotation_do_no_more_harm_than_one() {
    let mut world = rotated(3);
    let had = world.certificate();
    world.now += 60 * DAY;
    let snapshot = world.snapshot();
    let mut cuts = 0;
    for first in (1..400).step_by(7) {
        for second in (1..120).step_by(11) {
            let mut world = World::restore(&snapshot, 1);
            world.flash.cut_power_in(first, first * 97);
            world.boot_as_it_is();
            world.run_until(3 * DAY, |w| w.is_online() && w.certificate() != had);
            if !world.flash.is_cut() {
                continue;
            }
            world.flash.power_on();
            world.flash.cut_power_in(second, second * 89);
            world.boot_as_it_is();
            world.run_until(3 * DAY, |w| w.is_online() && w.certificate() != had);
            cuts += 2;
            world.boot();
            assert!(
                world.run_until(3 * DAY, |w| w.is_online() && w.certificate() != had),
                "cuts {first} and {second}: {:?}",
                world.events
            );
        }
    }
    println!("{cuts} cuts in pairs");
    assert!(cuts > 500, "{cuts}");
}
