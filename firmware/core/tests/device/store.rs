//! Flash that is blank, full, worn, foreign or another chip's leads to a named state, not to a panic.

use signet_device_core::Event;
use signet_device_core::io::ProvisioningError;
use signet_device_core::slots::Slot;
use signet_device_core::store::{Store, StoreFault, StoreState};

use esp_nvs::Nvs;

use super::factory::WithCrc;
use super::flash::{Flash, SECTOR};
use super::world::{DAY, SECTORS, TestRng, World};

fn enrolled() -> World {
    let mut world = World::new();
    world.boot();
    world.online();
    world
}

#[test]
fn the_states_have_names() {
    assert_eq!(Store::open(Flash::blank(SECTORS)).1, StoreState::Blank);
    assert_eq!(Store::open(Flash::with(vec![0; SECTORS * SECTOR])).1, StoreState::Foreign);
    assert_eq!(Store::open(enrolled().flash).1, StoreState::Ready);
    let mut cut = vec![0xff; SECTORS * SECTOR];
    cut[0] = 0x55;
    let worn = Flash::with(cut);
    worn.wear_out_after(0);
    assert_eq!(Store::open(worn).1, StoreState::Worn);
    let dead = Flash::blank(SECTORS);
    dead.cut_power_in(1, 1);
    let mut probe = dead.clone();
    let _ = embedded_storage::nor_flash::NorFlash::write(&mut probe, 0, &[0; 4]);
    assert_eq!(Store::open(dead).1, StoreState::Worn);
}

#[test]
fn a_store_that_is_full_says_so_and_keeps_what_it_has() {
    let (mut store, _) = Store::open(Flash::blank(4));
    store.set_number("marker", 7).expect("stored");
    let full = (0..100).find_map(|n| store.set_bytes(&format!("filler{n}"), &[n as u8; 1_000]).err());
    assert_eq!(full, Some(StoreFault::Full));
    assert_eq!(store.read([], ["marker"]), Ok(([], [Some(7)])));
    let (_, state) = Store::open(store.into_flash());
    assert_eq!(state, StoreState::Ready);
}

/// Somebody erases the region.
fn erase(world: &mut World) {
    world.flash = Flash::blank(SECTORS);
    world.boot();
}

#[test]
fn foreign_data_of_every_kind_is_kept_and_said_loudly_until_somebody_erases_it() {
    use signet_device_core::platform::Rng as _;
    for seed in 1..60_u64 {
        let mut bytes = vec![0; SECTORS * SECTOR];
        TestRng(seed * 7_919).fill(&mut bytes);
        match seed % 4 {
            0 => bytes.fill(seed as u8),
            1 => bytes[SECTOR..].fill(0xff),
            2 => bytes[..SECTOR].fill(0xff),
            _ => {}
        }
        let mut world = World::with(Flash::with(bytes.clone()));
        world.boot();
        assert_eq!(world.events[0], Event::Store(StoreState::Foreign), "seed {seed}");
        world.run(DAY);
        assert!(world.events.contains(&Event::ProvisioningError(ProvisioningError::StoreForeign)));
        assert!(world.connects.is_empty(), "nothing is asked for that could not be kept");
        assert_eq!(world.flash.bytes(), bytes, "seed {seed}: it is somebody's");
        erase(&mut world);
        world.online();
    }
}

#[test]
fn a_first_start_that_was_cut_in_its_first_page_is_no_foreign_data() {
    for len in [1, 4, 20, 31, 32] {
        let mut bytes = vec![0xff; SECTORS * SECTOR];
        bytes[..len].fill(0xa5);
        let mut world = World::with(Flash::with(bytes));
        world.boot();
        assert_eq!(world.events[0], Event::Store(StoreState::Blank), "{len}");
        world.online();
    }
    // A word more, or a second page: that was not us.
    for at in [33, SECTOR] {
        let mut bytes = vec![0xff; SECTORS * SECTOR];
        (bytes[0], bytes[at]) = (0xa5, 0xa5);
        assert_eq!(Store::open(Flash::with(bytes)).1, StoreState::Foreign, "{at}");
    }
}

#[test]
fn what_another_program_keeps_in_the_same_region_stays() {
    let flash = Flash::blank(SECTORS);
    let namespace = esp_nvs::Key::from_str("others");
    let key = esp_nvs::Key::from_str("calibration");
    let mount = || Nvs::new(0, SECTORS * SECTOR, WithCrc(flash.clone())).expect("mounted");
    mount().set(&namespace, &key, 0x1234_u64).expect("stored");
    let mut world = World::with(flash.clone());
    world.boot();
    assert_eq!(world.events[0], Event::Store(StoreState::Ready));
    world.online();
    assert_eq!(mount().get::<u64>(&namespace, &key), Ok(0x1234));
}

#[test]
fn random_damage_never_panics_and_a_key_that_is_gone_is_said_loudly() {
    use signet_device_core::platform::Rng as _;
    let base = enrolled().snapshot();
    let (mut whole, mut gone) = (0, 0);
    for seed in 1..600_u64 {
        let mut world = World::restore(&base, seed);
        let mut bytes = world.flash.bytes();
        let mut rng = TestRng(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        for _ in 0..rng.below(40) + 1 {
            let at = rng.below(2 * SECTOR as u64) as usize;
            bytes[at] ^= 1 << rng.below(8);
        }
        world.flash = Flash::with(bytes);
        world.boot();
        if world.run_until(DAY / 24, World::is_online) {
            whole += 1;
            continue;
        }
        // Without its key it is nobody; the broker lets no second device of the name in before an operator has agreed.
        gone += 1;
        assert!(world.events.iter().any(Event::is_alarm), "seed {seed}: {:?}", world.events);
        world.broker.things.clear();
        if world.events.contains(&Event::Store(StoreState::Foreign)) {
            erase(&mut world);
        }
        world.online();
    }
    assert!(whole > 50 && gone > 50, "{whole} kept their key, {gone} lost it");
}

#[test]
fn another_chips_flash_is_named_and_the_device_enrols_itself() {
    let mut world = enrolled();
    world.chip_key = [9; 32];
    world.broker.things.clear();
    world.boot();
    assert!(world.events.contains(&Event::SlotUnusable(Slot::A)));
    world.online();
}

#[test]
fn a_flash_that_wears_out_in_service_keeps_the_device_online_and_is_loud() {
    let mut world = enrolled();
    world.flash.wear_out_after(0);
    for _ in 0..30 {
        world.run(30 * DAY);
        if world.events.iter().any(|event| matches!(event, Event::StoreFault(StoreFault::Worn))) {
            break;
        }
    }
    assert!(world.events.iter().any(|event| matches!(event, Event::StoreFault(StoreFault::Worn))));
    world.drop_connection();
    assert!(world.run_until(DAY, World::is_online), "it lives on in memory");
}

#[test]
fn a_new_device_with_a_dead_flash_does_not_enrol_what_it_could_not_keep() {
    let mut cut = vec![0xff; SECTORS * SECTOR];
    cut[0] = 0;
    let mut world = World::with(Flash::with(cut));
    world.flash.wear_out_after(0);
    world.boot();
    world.run(DAY);
    assert_eq!(world.events[0], Event::Store(StoreState::Worn));
    assert!(world.events.contains(&Event::ProvisioningError(ProvisioningError::StoreUnusable)));
    assert!(world.connects.is_empty() && world.broker.things.is_empty());
}

#[test]
fn the_private_key_is_not_readable_in_the_flash() {
    let world = enrolled();
    let secret = world.device.as_ref().and_then(|d| d.credential()).expect("one").secret.clone();
    assert!(!world.flash.bytes().windows(32).any(|part| part == &secret[..]));
}
