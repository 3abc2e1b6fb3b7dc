//! What the registry costs, in bytes and allocations: counts, not times.

use super::*;

/// The bytes that a thing with one certificate may cost in memory: 1 000 000 of them fit into 1 GiB.
const BYTES_PER_CERTIFICATE_MAX: usize = 1024;
/// Many enough that the maps are as deep as they are for a million, and few enough for a test.
const CERTIFICATES: usize = 50_000;

fn filled(count: usize) -> Registry {
    let mut registry = World::new().registry;
    let actor = Actor::Broker;
    for i in 0..count {
        let holder = device(&format!("sensor-{i:06}"));
        let certificate = certificate("own", &format!("certificate {i}"));
        let events = registry.decide(Command::Issue { certificate, holder }, &actor, START).unwrap();
        for event in events {
            // As it comes from the store, so that nothing is shared with the test.
            registry.apply(&Event::decode(&event.encode()).unwrap());
        }
    }
    registry
}

#[test]
fn a_thing_with_its_certificate_fits_into_a_kibibyte() {
    let mut kept = None;
    let used = allocation_counter::measure(|| kept = Some(filled(CERTIFICATES)));
    let each = usize::try_from(used.bytes_current).unwrap() / CERTIFICATES;
    println!("{each} bytes for each thing with its certificate");
    assert!(each <= BYTES_PER_CERTIFICATE_MAX, "{each} bytes");
    assert!(each > 100, "the measurement measures something");
    assert_eq!(kept.unwrap().counts().active, CERTIFICATES);
}

#[test]
fn asking_for_a_standing_allocates_nothing() {
    let mut registry = filled(1000);
    let groups = Groups::new(vec![signet_identity::GroupName::try_from("g").unwrap()]).unwrap();
    let spec = ThingSpec { groups, ..thing("sensor-000500") };
    let events = registry.decide(Command::UpdateThing { thing: spec, version: None }, &Actor::Broker, START);
    events.unwrap().iter().for_each(|event| registry.apply(event));
    for label in ["certificate 500", "unknown"] {
        let new = certificate("own", label);
        let facts = new.facts();
        let mut standing = None;
        let used = allocation_counter::measure(|| {
            standing = Some(registry.standing(&facts.id, &facts.issuer, &facts.serial, START));
        });
        assert_eq!(used.count_total, 0, "{standing:?}");
        assert_eq!(matches!(standing, Some(Standing::Active(_))), label == "certificate 500");
    }
}

#[test]
fn a_snapshot_copies_nothing_and_a_change_beside_it_copies_only_its_path() {
    let mut costs = Vec::new();
    for count in [1000, 32_000] {
        let mut registry = filled(count);
        let id = certificate("own", "certificate 7").facts().id;
        let mut snapshot = None;
        let used = allocation_counter::measure(|| snapshot = Some(registry.clone()));
        assert!(used.bytes_total < 4096, "a snapshot of {count} costs {} bytes", used.bytes_total);
        let command = Command::Suspend(Selector::Certificate(id));
        let events = registry.decide(command, &Actor::Broker, START).unwrap();
        let used = allocation_counter::measure(|| events.iter().for_each(|event| registry.apply(event)));
        costs.push(used.bytes_total);
        assert_ne!(snapshot.as_ref(), Some(&registry));
        assert!(snapshot.unwrap().certificate(&id).unwrap().status == Status::Active);
    }
    let [small, large] = costs[..] else { panic!("two sizes") };
    assert!(large < small + 8192 && large < 32_768, "{small} bytes became {large} with 32 times as many");
}
